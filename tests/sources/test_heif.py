"""AVIF and HEIC pictures, whole and in tiles."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from helpers.heif import write_heif
from helpers.live_servers import file_server
from helpers.reading import read
from helpers.videos import picture
from PIL import Image

from fer_stream.errors import SourceError
from fer_stream.sources import heif, open_source

pytestmark = pytest.mark.usefixtures("no_thread_is_left")

SIZE_WH = (320, 256)


def write_tiled(path: Path, index: int = 77) -> Path:
    whole = picture(index, SIZE_WH)
    tiles = [tile for row in np.vsplit(whole, 2) for tile in np.hsplit(row, 2)]
    return write_heif(path, tiles, columns=2)


@pytest.mark.parametrize("suffix", [".avif", ".heic"])
def test_a_whole_picture_is_a_picture(tmp_path: Path, suffix: str) -> None:
    path = write_heif(tmp_path / f"photo{suffix}", [picture(77, SIZE_WH)])
    with open_source(path) as source:
        assert (source.info.kind, source.info.size_wh) == ("images", SIZE_WH)
    assert read(path) == [(0, 0.0, 77)]


def test_all_tiles_of_an_avif_are_read(tmp_path: Path) -> None:
    path = write_tiled(tmp_path / "photo.avif")
    with open_source(path) as source:
        assert source.info.size_wh == SIZE_WH
    assert read(path) == [(0, 0.0, 77)]


def test_a_heic_in_tiles_is_refused_under_any_name(tmp_path: Path) -> None:
    path = write_tiled(tmp_path / "photo.heic")
    with pytest.raises(
        SourceError, match=r"photo\.heic is a picture in tiles.*; convert it to JPEG"
    ) as caught:
        open_source(path)
    # fer-batch sends it from one process to another.
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    for name in ("photo.mov", "photo.jpg"):
        with pytest.raises(SourceError, match="picture in tiles"):
            open_source(path.rename(tmp_path / name))
        (tmp_path / name).rename(path)


def test_without_pillows_avif_only_pictures_in_tiles_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heif, "_read_with_pillow", lambda *_: None)
    assert read(write_heif(tmp_path / "whole.avif", [picture(9, SIZE_WH)])) == [(0, 0.0, 9)]
    with pytest.raises(SourceError, match="picture in tiles"):
        open_source(write_tiled(tmp_path / "tiles.avif"))


def test_one_note_counts_the_pictures_in_tiles(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write_tiled(tmp_path / f"{number}.heic")
    with pytest.raises(SourceError, match=r"none of its 3 images can be read; .*1\.heic and 2 more pictures"):
        open_source(tmp_path)
    write_heif(tmp_path / "4.heic", [picture(4, SIZE_WH)])
    with open_source(tmp_path) as source:
        assert [Path(frame.source).name for frame in source] == ["4.heic"]
    (note,) = source.problems
    assert "1.heic and 2 more pictures were left out" in note and "convert them to JPEG" in note


def test_a_photo_held_sideways_comes_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned 90 degrees clockwise; Pillow writes it as a property of the picture
    held = np.ascontiguousarray(np.rot90(picture(37))[:, :, ::-1])
    Image.fromarray(held).save(tmp_path / "photo.avif", exif=exif)
    assert read(tmp_path / "photo.avif") == [(0, 0.0, 37)]


def test_an_animation_is_a_video(tmp_path: Path) -> None:
    frames = [Image.fromarray(picture(index)[:, :, ::-1]) for index in range(3)]
    frames[0].save(tmp_path / "moving.avif", save_all=True, append_images=frames[1:], duration=100)
    assert [index for _, _, index in read(tmp_path / "moving.avif")] == [0, 1, 2]


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6])
def test_a_damaged_picture_is_named(tmp_path: Path, share: float) -> None:
    for suffix in (".avif", ".heic"):
        path = write_heif(tmp_path / f"photo{suffix}", [picture(1, SIZE_WH)])
        data = path.read_bytes()
        path.write_bytes(data[: round(share * len(data))])
        with pytest.raises(SourceError, match=r"photo\..* can't be read as an image: it is damaged"):
            open_source(path)


def test_the_address_of_an_avif_is_a_picture(tmp_path: Path) -> None:
    write_tiled(tmp_path / "photo.avif")
    with file_server(tmp_path) as server, open_source(f"{server}/photo.avif") as source:
        assert (source.info.kind, source.info.size_wh) == ("images", SIZE_WH)
