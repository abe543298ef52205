"""Unusual pictures of every kind, and pictures that were made to do harm."""

from __future__ import annotations

import csv
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.command import start
from PIL import Image

UPRIGHT = np.zeros((48, 64, 3), np.uint8)
UPRIGHT[24:] = (30, 90, 200)  # RGB; the lower half is red
EXIF_ORIENTATION = 0x0112


def make_pictures(folder: Path) -> None:
    """Write one picture of each unusual kind. Upright, all of them show the same."""
    folder.mkdir()
    picture = Image.fromarray(UPRIGHT)
    alpha = picture.convert("RGBA")
    alpha.putalpha(Image.fromarray(np.tile(np.arange(64, dtype=np.uint8) * 4, (48, 1))))
    alpha.save(folder / "alpha.png")
    cv2.imwrite(str(folder / "16-bit.png"), UPRIGHT[:, :, ::-1].astype(np.uint16) * 257)
    cv2.imwrite(str(folder / "16-bit.tiff"), UPRIGHT[:, :, ::-1].astype(np.uint16) * 257)
    picture.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    picture.convert("P", palette=Image.Palette.ADAPTIVE).save(folder / "palette.png")
    picture.save(
        folder / "animated.webp", save_all=True, append_images=[picture.rotate(180)] * 3, lossless=True
    )
    picture.save(folder / "animated.png", save_all=True, append_images=[picture.rotate(180)] * 3)
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6  # to be turned by 90 degrees clockwise
    picture.rotate(90, expand=True).save(folder / "held sideways.jpg", exif=exif, quality=95)
    for name in ("a \"b\" 'c'.png", "ñ日本.png", "-lead.png", "$(touch x).png", "%03d.png", "[x]*?.png"):
        picture.save(folder / name)


def test_every_kind_of_picture_works(fer, loaded, faults):
    make_pictures(Path("in"))
    names = {path.name for path in Path("in").iterdir()}
    faults.tried = len(names)
    said = fer("in", "--save", "out", "--data", "o.csv")
    assert said.code == 0 and f"{len(names)} pictures" in said.err and "note" not in said.err
    assert {path.name for path in Path("out").iterdir()} == names
    with Path("o.csv").open(encoding="utf-8", newline="") as file:
        assert {row["source"] for row in csv.DictReader(file)} == {str(Path("in", name)) for name in names}
    for name in names:
        bgr = cv2.imread(str(Path("out", name)))
        assert bgr.shape == UPRIGHT.shape, name
        assert bgr[8, 32].astype(int) == pytest.approx([0, 0, 0], abs=12), name
        assert bgr[40, 32].astype(int) == pytest.approx([200, 90, 30], abs=60), name
    assert not Path("x").exists()


def png_claiming(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes whose header claims a size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size_wh", [(30_000, 30_000), (1_000_000, 1_000_000), (2**31 - 1, 1)])
def test_a_picture_of_a_billion_pixels_is_its_line_and_no_memory(fer, loaded, size_wh):
    Path("bomb.png").write_bytes(png_claiming(*size_wh))
    said = fer("bomb.png", "--data", "o.csv")
    assert said.code == 3 and "bomb.png" in said.line
    assert not Path("o.csv").exists()


@pytest.mark.robustness(faults=3)
def test_the_one_picture_that_can_not_be_read_is_named(fer, loaded):
    Path("in").mkdir()
    Image.fromarray(UPRIGHT).save("in/a.png")
    whole = Path("in/a.png").read_bytes()
    for name, data in {"b.png": b"", "c.png": whole[:40], "d.png": png_claiming(40_000, 40_000)}.items():
        Path("in", name).write_bytes(data)
    said = fer("in", "--data", "o.csv")
    assert said.code == 0 and "1 picture " in said.err
    notes = [line for line in said.err.splitlines() if line.startswith("note ")]
    assert len(notes) == 3 and all(
        Path("in", name).name in " ".join(notes) for name in ("b.png", "c.png", "d.png")
    )
    assert len(list(csv.DictReader(Path("o.csv").read_text().splitlines()))) == 1


def test_what_pillow_logs_about_a_damaged_header_is_not_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(UPRIGHT).save("a.tiff")
    data = Path("a.tiff").read_bytes()
    samples_per_pixel = struct.pack("<HHIH", 277, 3, 1, 3)
    Path("a.tiff").write_bytes(data.replace(samples_per_pixel, struct.pack("<HHIH", 277, 3, 1, 2048)))
    process = start(
        ("a.tiff", "--save", "o.png")
    )  # in a process without logging, unlike the one of the tests
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.count("\n")) == (3, 1), err


@pytest.mark.robustness(faults=3)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_at_once_as_a_picture_and_as_a_video(fer, loaded):
    for name in ("f.jpg", "f.mp4"):
        os.mkfifo(name)
        said = fer(name, "--data", "o.csv")
        assert said.code == 3 and f"{name} is a pipe" in said.line
    Path("in").mkdir()
    os.mkfifo("in/a.jpg")
    Image.fromarray(UPRIGHT).save("in/b.jpg")
    said = fer("in", "--data", "o.csv")
    assert said.code == 0 and "1 picture " in said.err and "a.jpg is a pipe" in said.err


@pytest.mark.robustness(faults=3)
def test_an_image_over_the_limit_is_refused_by_its_header(fer, loaded, monkeypatch):
    Path("large.png").write_bytes(png_claiming(16_000, 16_000))
    said = fer("large.png", "--data", "o.csv")
    assert said.code == 3 and "16000x16000" in said.line and "FER_STREAM_MAX_MEGAPIXELS" in said.line
    Image.fromarray(np.zeros((1100, 1000, 3), np.uint8)).save("small.png")
    monkeypatch.setenv("FER_STREAM_MAX_MEGAPIXELS", "1")
    said = fer("small.png", "--data", "o.csv")
    assert said.code == 3 and "1000x1100" in said.line
    monkeypatch.setenv("FER_STREAM_MAX_MEGAPIXELS", "2")
    assert fer("small.png", "--data", "o.csv").code == 0
    monkeypatch.setenv("FER_STREAM_MAX_MEGAPIXELS", "many")
    assert fer("small.png", "--data", "o.csv", "--overwrite").code == 2


def test_an_image_file_is_not_read_beyond_what_its_pixels_can_need(fer, loaded):
    with Path("s.jpg").open("wb") as file:
        Image.fromarray(UPRIGHT).save(file, "jpeg")
        file.truncate(20 * 2**30)  # a sparse file: it takes no room on the disk
    said = fer("s.jpg", "--data", "o.csv")
    assert said.code == 3 and "s.jpg is larger" in said.line
