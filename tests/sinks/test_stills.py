"""Pictures, stills and crops: the right ones, under descriptive names."""

from __future__ import annotations

import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.contexts import make_context
from helpers.faces import make_face, make_frame

from fer_stream.errors import OutputError, UsageError
from fer_stream.sinks import CropsSink, FaceChartSink, ImageSink, StillsSink
from fer_stream.sources import open_source
from fer_stream.types import AnalyzedFrame, Frame

SIZE_WH = (64, 48)
COLORS_BGR = ((200, 40, 30), (40, 180, 60), (30, 50, 220))


def flat(color_bgr: tuple[int, int, int]) -> np.ndarray:
    return np.full((*SIZE_WH[::-1], 3), color_bgr, np.uint8)


def save(path: Path, color_bgr: tuple[int, int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, flat(color_bgr))[1].tobytes())


def load(path: Path) -> np.ndarray:
    return cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)


def copy(spec: str | Path, output: Path, **options: bool) -> ImageSink:
    """Save every picture of an image source, brightened by 20."""
    with open_source(spec) as source, ImageSink(output, source.info, **options) as sink:
        for frame in source:
            sink.write(AnalyzedFrame(frame, ()), frame.bgr + 20)
    return sink


@pytest.mark.parametrize(
    "name", ["out.jpg", "OUT.JPEG", "a/b/größe 你好.png", "out.webp", "out.bmp", "out.tif"]
)
def test_one_picture_goes_to_the_file_that_was_named(tmp_path, name):
    save(tmp_path / "in.png", COLORS_BGR[0])
    sink = copy(tmp_path / "in.png", tmp_path / "out" / name)
    assert sink.outputs() == [tmp_path / "out" / name]
    assert np.abs(load(sink.outputs()[0]).astype(int) - flat(COLORS_BGR[0]) - 20).max() <= 4
    assert [path.name for path in (tmp_path / "out" / name).parent.iterdir()] == [Path(name).name]


def test_several_pictures_go_into_a_folder_under_their_names(tmp_path):
    for name, color in zip(("a.png", "a.jpg", "b.bmp"), COLORS_BGR, strict=True):
        save(tmp_path / "in" / name, color)
    sink = copy(tmp_path / "in", tmp_path / "out")
    assert sink.outputs() == [tmp_path / "out"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.jpg", "a.png", "b.bmp"]
    for name, color in zip(("a.png", "a.jpg", "b.bmp"), COLORS_BGR, strict=True):
        assert np.abs(load(tmp_path / "out" / name).astype(int) - flat(color) - 20).max() <= 4

    with pytest.raises(OutputError, match=r"exists.*--overwrite"):
        copy(tmp_path / "in", tmp_path / "out")
    copy(tmp_path / "in", tmp_path / "out", overwrite=True)


def test_pictures_with_the_same_name_do_not_replace_each_other(tmp_path):
    for folder, color in zip("xyz", COLORS_BGR, strict=True):
        save(tmp_path / folder / ("A.png" if folder == "y" else "a.png"), color)
    copy(str(tmp_path / "?" / "*.png"), tmp_path / "out")
    found = [load(tmp_path / "out" / name)[0, 0] - 20 for name in ("a.png", "A-2.png", "a-3.png")]
    assert np.array_equal(found, COLORS_BGR)


def test_wrong_picture_outputs_are_found_at_once(tmp_path):
    for name in ("a.png", "b.png"):
        save(tmp_path / "in" / name, COLORS_BGR[0])
    one = tmp_path / "in" / "a.png"
    with pytest.raises(UsageError, match=r"out\.png.*2.*folder"):
        copy(tmp_path / "in", tmp_path / "out.png")
    with pytest.raises(UsageError, match=r"\.jpg, .*\.png"):
        copy(one, tmp_path / "out.txt")
    with pytest.raises(OutputError, match="the input itself"):
        copy(one, one, overwrite=True)
    with pytest.raises(OutputError, match="the input itself"):
        copy(tmp_path / "in", tmp_path / "in", overwrite=True)
    with pytest.raises(OutputError, match="the input itself"):
        copy(str(tmp_path / "in" / "*.png"), tmp_path / "in", overwrite=True)
    with pytest.raises(OutputError, match="it is a file"):
        (tmp_path / "file").write_text("precious")
        copy(tmp_path / "in", tmp_path / "file", overwrite=True)
    assert (tmp_path / "file").read_text() == "precious"
    assert np.array_equal(load(one), flat(COLORS_BGR[0]))


def chart(spec: str | Path, output: Path, **options: bool) -> FaceChartSink:
    """Make a chart of every picture of an image source."""
    with open_source(spec) as source, FaceChartSink(output, source.info, **options) as sink:
        for frame in source:
            sink.write(AnalyzedFrame(frame, ()))
    return sink


@pytest.mark.parametrize("write", [copy, chart])
def test_a_folder_or_glob_of_one_picture_goes_into_a_folder_or_a_file(tmp_path, write):
    save(tmp_path / "in" / "a.png", COLORS_BGR[0])
    name = {copy: "a.png", chart: "a.png.png"}[write]
    for spec, output in ((tmp_path / "in", tmp_path / "one"), (str(tmp_path / "in" / "*"), tmp_path / "two")):
        assert write(spec, output).outputs() == [output]
        assert [path.name for path in output.iterdir()] == [name]
        file = output.with_suffix(".png")
        assert write(spec, file).outputs() == [file] and file.is_file()
    with pytest.raises(OutputError, match="the input itself"):
        write(str(tmp_path / "in" / "*"), tmp_path / "in" / "a.png", overwrite=True)


def test_charts_of_pictures_with_the_same_name_do_not_replace_each_other(tmp_path):
    for folder, color in zip("xyz", COLORS_BGR, strict=True):
        save(tmp_path / folder / ("A.png" if folder == "y" else "a.png"), color)
    out = tmp_path / "out"
    assert chart(str(tmp_path / "?" / "*.png"), out).outputs() == [out]
    names = ("a.png.png", "A.png-2.png", "a.png-3.png")
    assert {path.name for path in out.iterdir()} == set(names)
    for name, color in zip(names, COLORS_BGR, strict=True):
        assert (np.abs(load(out / name).astype(int) - color) <= 3).all(axis=2).any(), "its own picture"


@pytest.mark.parametrize("exists", [False, True])
def test_one_picture_may_go_into_a_folder(tmp_path: Path, exists: bool) -> None:
    save(tmp_path / "a.png", COLORS_BGR[0])
    out = tmp_path / ("out.d" if exists else "out")  # a name with an extension must be a folder already
    if exists:
        out.mkdir()
    assert copy(str(tmp_path / "a.png"), out).outputs() == [out]
    assert [path.name for path in out.iterdir()] == ["a.png"]
    with pytest.raises(OutputError, match="exists"):
        copy(str(tmp_path / "a.png"), out)


def test_charts_that_exist_are_refused_before_work_starts(tmp_path):
    for name in ("a.png", "b.png"):
        save(tmp_path / "in" / name, COLORS_BGR[0])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.png.png").write_text("precious")
    (tmp_path / "out" / "other.png").write_text("precious")
    with pytest.raises(OutputError, match=r"b\.png\.png exists.*--overwrite"):
        chart(tmp_path / "in", tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {
        "b.png.png": b"precious",
        "other.png": b"precious",
    }
    chart(tmp_path / "in", tmp_path / "out", overwrite=True)
    assert load(tmp_path / "out" / "b.png.png") is not None
    assert (tmp_path / "out" / "other.png").read_text() == "precious"
    with pytest.raises(UsageError, match=r"out\.svg is one chart but the source has 2"):
        chart(tmp_path / "in", tmp_path / "out.svg")


def stills(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def give(sink: StillsSink, analyzed: AnalyzedFrame, image_bgr: np.ndarray) -> None:
    """Give a frame to the sink, with its picture if the sink asks for it."""
    sink.write(analyzed, image_bgr if sink.needs_image(analyzed) else None)


def test_stills_are_saved_at_an_interval(tmp_path):
    with StillsSink(tmp_path, every_s=0.5, on_change=False) as sink:
        for index in range(40):
            give(sink, make_frame(index, 59 + index * 1001 / 24000), flat(COLORS_BGR[index % 3]))
    assert stills(tmp_path) == [
        "frame-000000_00-00-59.000.jpg",
        "frame-000012_00-00-59.500.jpg",
        "frame-000024_00-01-00.001.jpg",
        "frame-000036_00-01-00.502.jpg",
    ]
    assert np.abs(load(tmp_path / stills(tmp_path)[1]).astype(int) - flat(COLORS_BGR[0])).max() <= 4
    assert sink.outputs() == [tmp_path]


def test_only_the_frames_of_stills_are_drawn(tmp_path):
    with StillsSink(tmp_path, every_s=0.5, on_change=False) as sink:
        needed = [sink.needs_image(make_frame(index, index / 10)) for index in range(12)]
    assert [index for index, is_needed in enumerate(needed) if is_needed] == [0, 5, 10]


def test_a_gap_in_time_gives_one_still_and_keeps_the_grid(tmp_path):
    with StillsSink(tmp_path, every_s=1, on_change=False) as sink:
        for index, time_s in enumerate((0, 0.4, 3.7, 3.9, 4.0, 4.9)):
            give(sink, make_frame(index, time_s), flat(COLORS_BGR[0]))
    assert [name[:12] for name in stills(tmp_path)] == ["frame-000000", "frame-000002", "frame-000004"]


def run_expressions(folder: Path, text: str, **options: float) -> list[int]:
    """Show one face at 25 frames per second, with a letter for each frame's expression.

    A capital letter means that the face is unsure. Return the frames of the stills.
    """
    names = {"h": "happy", "s": "sad", ".": ""}
    with StillsSink(folder, **options) as sink:
        for index, letter in enumerate(text):
            name = names[letter.lower()]
            faces = [replace(make_face(1, name), unsure=letter.isupper())] if name else []
            give(sink, make_frame(index, float(Fraction(index, 25)), *faces), flat(COLORS_BGR[0]))
    return [int(name[6:12]) for name in stills(folder)]


def test_stills_are_saved_when_an_expression_changes(tmp_path):
    # 8 frames, 0.32 s, are the first that span 0.3 s.
    assert run_expressions(tmp_path, "h" * 20 + "s" * 20 + "h" * 20) == [8, 28, 48]


def test_flicker_gives_no_stills(tmp_path):
    assert run_expressions(tmp_path / "a", "h" * 20 + "shhssshssh" * 8) == [8]
    assert run_expressions(tmp_path / "b", "hs" * 50) == []
    assert run_expressions(tmp_path / "c", "hhhh" + "." * 20 + "hhhh") == []
    assert run_expressions(tmp_path / "d", "h" * 12 + "." * 30 + "h" * 12) == [8]


def test_unsure_is_one_label_whatever_the_top_expression(tmp_path):
    assert run_expressions(tmp_path / "a", "h" * 20 + "HS" * 20 + "h" * 20) == [8, 28, 68]
    assert run_expressions(tmp_path / "b", "h" * 20 + "SHSH" + "h" * 20) == [8]
    assert run_expressions(tmp_path / "c", "HHSS" * 10) == [8]


def test_without_a_hold_a_change_counts_at_once(tmp_path):
    with StillsSink(tmp_path, hold_s=0) as sink:
        for index, face_id in enumerate((1, 2, 2)):
            give(sink, make_frame(index, 0.0, make_face(face_id, "happy")), flat(COLORS_BGR[0]))
    assert [name[:12] for name in stills(tmp_path)] == ["frame-000000", "frame-000001"]


def test_wrong_stills_outputs_are_found_at_once(tmp_path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(UsageError, match=r"0\.001 or more"):
        StillsSink(tmp_path / "x", every_s=0)
    with pytest.raises(OutputError, match="it is a file"):
        StillsSink(tmp_path / "file")
    with pytest.raises(OutputError, match="can't write"):
        CropsSink(tmp_path / "file" / "crops")
    (tmp_path / "frame-000001_00-00-00.000.jpg").write_text("precious")
    with pytest.raises(OutputError, match="--overwrite"):
        StillsSink(tmp_path)
    StillsSink(tmp_path, overwrite=True).close()


def test_crops_are_squares_around_the_faces(tmp_path):
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, :32] = (200, 0, 0)
    image[:, 32:] = (0, 0, 200)
    faces = (make_face(1, "happy", box=(22, 14, 42, 34)), make_face(12, "sad", box=(0, 0, 16, 20)))
    with CropsSink(tmp_path / "crops") as sink:
        sink.begin(make_context(crop_scale=1.2))
        sink.write(AnalyzedFrame(Frame(image, 123, 4.92), faces))
    assert sink.outputs() == [tmp_path / "crops"]
    found = sorted(path.relative_to(tmp_path / "crops").as_posix() for path in tmp_path.rglob("*.jpg"))
    assert found == ["1/000123.jpg", "12/000123.jpg"]
    inside = load(tmp_path / "crops" / found[0])
    assert inside.shape == (24, 24, 3)
    assert inside[:, :10, 0].min() > 180 and inside[:, 14:, 2].min() > 180
    border = load(tmp_path / "crops" / found[1])  # reaches outside on the left and at the top
    assert border.shape == (24, 24, 3) and border[..., 0].min() > 180

    with pytest.raises(OutputError, match="--overwrite"):
        CropsSink(tmp_path / "crops")
    with CropsSink(tmp_path / "crops", overwrite=True) as sink:
        sink.write(AnalyzedFrame(Frame(image, 123, 4.92), faces))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("fer_stream.system.files.secrets.token_hex", lambda _: "x")
    (tmp_path / f".fer-stream-{os.getpid()}-x.part").symlink_to("/dev/full")
    with StillsSink(tmp_path, every_s=1) as sink, pytest.raises(OutputError, match="No space left"):
        give(sink, make_frame(0, 0.0), flat(COLORS_BGR[0]))
    assert list(tmp_path.iterdir()) == []
