"""Pictures: order, orientation, modes, and files that can't be read."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.reading import read, write_images
from helpers.videos import index_in, picture, write_video
from PIL import Image

from fer_stream.sources import open_source

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


class TestImages:
    def test_pictures_come_in_natural_order_without_subfolders(self, tmp_path: Path) -> None:
        for name in ["b10.PNG", "b9.jpg", "B1.Jpeg", "a2.bmp", "c.webp", "d.TIFF"]:
            assert cv2.imwrite(str(tmp_path / name), picture(1))
        (tmp_path / "inner").mkdir()
        cv2.imwrite(str(tmp_path / "inner" / "x.png"), picture(1))
        (tmp_path / "notes.txt").write_text("no image")
        with open_source(tmp_path) as source:
            frames = [(frame.index, frame.time_s, frame.source) for frame in source]
        names = ["a2.bmp", "B1.Jpeg", "b9.jpg", "b10.PNG", "c.webp", "d.TIFF"]
        assert frames == [(index, 0.0, str(tmp_path / name)) for index, name in enumerate(names)]

    @pytest.mark.parametrize("suffix", [".jpg", ".png"])
    def test_a_photo_held_sideways_comes_upright(self, tmp_path: Path, suffix: str) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned 90 degrees clockwise
        held = np.rot90(picture(37))[:, :, ::-1]
        Image.fromarray(np.ascontiguousarray(held)).save(tmp_path / f"photo{suffix}", exif=exif)
        assert read(tmp_path / f"photo{suffix}") == [(0, 0.0, 37)]

    @pytest.mark.parametrize(
        ("mode", "suffix"),
        [
            *(("L", ".png"), ("LA", ".png"), ("RGBA", ".png"), ("P", ".png"), ("1", ".tif")),
            *(("CMYK", ".jpg"), ("CMYK", ".tif"), ("RGBA", ".webp"), ("L", ".bmp")),
        ],
    )
    def test_every_mode_becomes_bgr(self, tmp_path: Path, mode: str, suffix: str) -> None:
        image = Image.fromarray(np.ascontiguousarray(picture(85)[:, :, ::-1]))
        image.convert(mode).save(tmp_path / f"image{suffix}")
        with open_source(tmp_path / f"image{suffix}") as source:
            (frame,) = source
        bits = [frame.bgr[24, 10 + 20 * bit].mean() > 127 for bit in range(8)]
        assert bits == [True, False] * 4

    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    def test_sixteen_bits_become_eight(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"deep{suffix}"
        assert cv2.imwrite(str(path), picture(5).astype(np.uint16) * 257)
        assert read(path) == [(0, 0.0, 5)]

    def test_an_animation_gives_its_first_picture(self, tmp_path: Path) -> None:
        first, second = (Image.fromarray(picture(index)) for index in (3, 4))
        first.save(tmp_path / "moving.webp", save_all=True, append_images=[second], lossless=True)
        assert read(tmp_path / "moving.webp") == [(0, 0.0, 3)]

    def test_names_in_any_script_work(self, tmp_path: Path) -> None:
        folder = tmp_path / "Gesichter – 顔 😀"
        write_images(folder, 2)
        assert [frame[2] for frame in read(folder)] == [0, 1]
        video = write_video(folder / "vidéo.mkv", range(3))
        assert [frame[2] for frame in read(video)] == [0, 1, 2]

    def test_an_unreadable_image_is_left_out_and_named(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        folder = write_images(tmp_path / "photos", 4)
        (folder / "photo1.png").write_bytes(b"")
        damaged = (folder / "photo2.png").read_bytes()
        (folder / "photo2.png").write_bytes(damaged[: len(damaged) // 2])
        with open_source(folder) as source:
            assert [(frame.index, index_in(frame.bgr)) for frame in source] == [(0, 0), (3, 3)]
            assert len(source.problems) == 2
            assert str(folder / "photo1.png") in source.problems[0]
            assert str(folder / "photo2.png") in source.problems[1]
        assert capfd.readouterr() == ("", "")

    def test_a_glob_takes_only_what_it_names(self, tmp_path: Path) -> None:
        folder = write_images(tmp_path / "photos", 12)
        assert [frame[2] for frame in read(str(folder / "photo1*.png"))] == [1, 10, 11]

    def test_brackets_in_a_name_are_not_a_pattern(self, tmp_path: Path) -> None:
        cv2.imwrite(str(tmp_path / "photo[1].png"), picture(9))
        assert read(tmp_path / "photo[1].png") == [(0, 0.0, 9)]
