"""The annotated video: decoding returns the written pictures at their times."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.contexts import make_info
from helpers.paths import ROOT
from helpers.recordings import (
    EXTENSIONS,
    NTSC,
    TOLERANCE_S,
    analyzed,
    audio_packets,
    decoded,
    write_numbered,
)
from helpers.videos import make_clip, number_of, numbered

from fer_stream.errors import OutputError, UsageError
from fer_stream.sinks import VideoSink, check_output
from fer_stream.types import AnalyzedFrame, Frame


@pytest.mark.parametrize(
    ("extension", "timing"),
    [
        (".mp4", "23.976"),
        (".mp4", "variable"),
        (".mp4", "from 5 s on"),
        (".mkv", "variable"),
        (".mkv", "from 5 s on"),
        (".webm", "variable"),
    ],
)
def test_every_frame_comes_out_once_in_order_and_at_its_time(tmp_path, extension, timing):
    time_base = Fraction(1, 24000)
    ticks = [index * 1001 for index in range(70)]
    if timing == "variable":
        ticks = list(np.cumsum([0, *np.random.default_rng(5).integers(200, 5000, 69)]))
    if timing == "from 5 s on":
        ticks = [tick + 120007 for tick in ticks]
    times_s = [int(tick) * time_base for tick in ticks]
    path = tmp_path / f"out{extension}"
    with VideoSink(path, make_info(frame_rate=NTSC, time_base=time_base)) as sink:
        write_numbered(sink, times_s)

    images, found_s = decoded(path)
    assert [number_of(image) for image in images] == list(range(70))
    assert max(abs(a - b) for a, b in zip(found_s, times_s, strict=True)) <= TOLERANCE_S[extension]
    assert sink.outputs() == [path]
    with av.open(str(path)) as container:
        end_s = times_s[-1] + (times_s[-1] - times_s[-2])
        begin_s = times_s[0] if extension == ".mp4" else 0  # Matroska's length counts from 0
        assert abs(container.duration / av.time_base - (end_s - begin_s)) < 0.01


def test_a_part_starts_at_zero(tmp_path):
    times_s = [Fraction(1001 * index, 24000) + 7 for index in range(30)]
    path = tmp_path / "part.mp4"
    with VideoSink(path, make_info(frame_rate=NTSC, time_base=Fraction(1, 24000), start_s=6.99)) as sink:
        write_numbered(sink, times_s)
    assert decoded(path)[1] == [time_s - 7 for time_s in times_s]


def test_a_live_source_with_an_unsteady_clock_is_saved(tmp_path):
    path = tmp_path / "live.mp4"
    times_s = [Fraction(0), Fraction(1, 10), Fraction(1, 10), Fraction(1, 20), Fraction(3, 10)]
    with VideoSink(path, make_info(kind="camera")) as sink:
        write_numbered(sink, times_s)
    images, found_s = decoded(path)
    assert [number_of(image) for image in images] == [0, 1, 2, 3, 4]
    assert found_s[-1] == Fraction(3, 10) and found_s == sorted(set(found_s))


def analyzed_live(index: int, time_s: float, captured_s: float) -> AnalyzedFrame:
    return AnalyzedFrame(Frame(numbered(index), index, time_s, "camera 0", captured_s), ())


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_a_live_minute_lasts_a_minute(tmp_path, extension):
    # The recording begins 37 s into a run. Its rate is uneven, and half a minute has no frame.
    steps_s = np.random.default_rng(3).choice([0.033, 0.04, 0.21], 200)
    steps_s[[0, 100]] = 37.0, 60.0 - steps_s[1:100].sum() - steps_s[101:].sum()
    times_s = np.cumsum(steps_s)
    path = tmp_path / f"live{extension}"
    info = make_info(kind="camera", path=None, time_base=None, frame_rate=Fraction(30))
    with VideoSink(path, info) as sink:
        assert sink.recordings() == []
        for index, time_s in enumerate(times_s.tolist()):
            sink.write(analyzed_live(index, time_s, 0.0), numbered(index))
        (recording,) = sink.recordings()
        assert recording.path == path and recording.duration_s == pytest.approx(60, abs=0.25)
    images, found_s = decoded(path)
    assert [number_of(image) for image in images] == list(range(200))
    expected_s = times_s - times_s[0]
    assert max(abs(float(a) - b) for a, b in zip(found_s, expected_s, strict=True)) < 0.001
    assert float(found_s[-1]) == pytest.approx(60, abs=0.001)


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_a_recording_that_ends_in_silence_lasts_until_its_end(tmp_path, extension):
    path = tmp_path / f"live{extension}"
    info = make_info(kind="camera", path=None, time_base=None, frame_rate=Fraction(30))
    silent_since_s = time.monotonic() - 20
    with VideoSink(path, info) as sink:
        for index in range(31):
            sink.write(analyzed_live(index, index / 30, silent_since_s - 1 + index / 30), numbered(index))
        assert sink.recordings()[0].duration_s == pytest.approx(21, abs=0.5)
    with av.open(str(path)) as container:
        assert container.duration / av.time_base == pytest.approx(21, abs=0.5)
    images, _ = decoded(path)
    assert [number_of(image) for image in images] == [*range(31), 30]


@pytest.mark.parametrize(
    ("extension", "size_wh"),
    [(extension, size_wh) for extension in EXTENSIONS for size_wh in [(161, 97), (2, 2), (1, 1)]]
    + [(".mp4", (1280, 720))],
)
def test_any_size_is_saved_in_its_colours(tmp_path, extension, size_wh):
    width, height = size_wh
    path = tmp_path / f"out{extension}"
    colors_bgr = [(200, 40, 30), (40, 180, 60), (30, 50, 220), (128, 128, 128)]
    with VideoSink(path, make_info(frame_rate=Fraction(10), time_base=Fraction(1, 10))) as sink:
        for index, color in enumerate(colors_bgr):
            image = np.full((height, width, 3), color, np.uint8)
            sink.write(analyzed(image, index, index / 10), image)
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    for frame, color in zip(frames, colors_bgr, strict=True):
        assert (frame.width, frame.height) == (width + width % 2, height + height % 2)
        y, cb, cr = (float(np.frombuffer(bytes(plane), np.uint8)[0]) for plane in frame.planes)
        luma, blue, red = (y - 16) / 219, (cb - 128) / 224, (cr - 128) / 224
        # BT.709 with limited range, as a player computes it from the tags below.
        found = 255 * np.array(
            [luma + 1.8556 * blue, luma - 0.1873 * blue - 0.4681 * red, luma + 1.5748 * red]
        )
        tolerance = 6 if width > 2 else 14  # one step of the quantizer shows in so few pixels
        assert np.abs(found - color).max() < tolerance, (color, found)
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        frame = next(container.decode(video=0))
        tags = (context.color_primaries, context.color_trc, context.colorspace, context.color_range)
        assert [int(tag) for tag in tags] == [1, 1, 1, 1]
        assert frame.format.name == "yuv420p" and getattr(frame, "rotation", 0) == 0
        assert container.streams.video[0].sample_aspect_ratio in (None, 0, 1)


def test_a_prepared_picture_is_safe_until_it_was_written(tmp_path: Path) -> None:
    info = make_info(frame_rate=Fraction(25), time_base=Fraction(1, 25))
    with VideoSink(tmp_path / "out.mp4", info) as sink, VideoSink(tmp_path / "other.mp4", info) as other:
        ahead = [sink.prepare(numbered(index)) for index in range(4)]
        written_twice = ahead[:2]
        for index, picture in enumerate([ahead[0], *written_twice, *ahead[1:]]):
            sink.write(analyzed(numbered(0), index, index / 25), picture)
        for wrong_sink, picture in ((sink, ahead[0]), (other, ahead[3])):
            with pytest.raises(OutputError, match="prepared by another sink, or written before"):
                wrong_sink.write(analyzed(numbered(0), 6, 6 / 25), picture)
    assert [number_of(image) for image in decoded(tmp_path / "out.mp4")[0]] == [0, 0, 1, 1, 2, 3]


def test_a_picture_of_another_type_is_one_line(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "out.mp4", make_info()) as sink, pytest.raises(OutputError, match="uint8"):
        sink.write(analyzed(numbered(0), 0, 0.0), numbered(0).astype(np.float32))


def test_an_odd_size_repeats_its_border(tmp_path):
    image = np.zeros((63, 63, 3), np.uint8)
    image[:, 40:] = 255
    with VideoSink(tmp_path / "odd.mkv", make_info()) as sink:
        sink.write(analyzed(image, 0, 0.0), image)
    (found,), _ = decoded(tmp_path / "odd.mkv")
    assert found.shape == (64, 64, 3) and found[:, 63].min() > 240 and found[63, :20].max() < 16


def test_a_picture_too_wide_for_h264_is_refused_with_a_remedy(tmp_path):
    wide = np.full((16, 20000, 3), 99, np.uint8)
    message = r"at most 16384 px a side, but the picture is 20000x16 px; .* or choose \.webm"
    with pytest.raises(OutputError, match=message):
        VideoSink(tmp_path / "wide.mp4", make_info(size_wh=(20000, 16)))
    unknown = make_info(size_wh=None)
    with VideoSink(tmp_path / "wide.mkv", unknown) as sink, pytest.raises(OutputError, match=message):
        sink.write(analyzed(wide, 0, 0.0), wide)
    assert not list(tmp_path.iterdir())
    with VideoSink(tmp_path / "wide.webm", make_info(size_wh=(20000, 16))) as sink:
        sink.write(analyzed(wide, 0, 0.0), wide)
    assert decoded(tmp_path / "wide.webm")[0][0].shape == wide.shape


def test_a_picture_of_another_size_is_fitted_to_the_first(tmp_path):
    with VideoSink(tmp_path / "out.mp4", make_info(time_base=Fraction(1, 25))) as sink:
        sink.write(analyzed(numbered(1), 0, 0.0), numbered(1))
        sink.write(analyzed(numbered(2, (320, 192)), 1, 0.04), numbered(2, (320, 192)))
    assert [number_of(image) for image in decoded(tmp_path / "out.mp4")[0]] == [1, 2]


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_the_file_plays_while_it_is_written_and_seeks_when_closed(tmp_path, extension):
    path, copy = tmp_path / f"out{extension}", tmp_path / f"copy{extension}"
    source = make_clip(tmp_path / "clip.mp4", audio_s=7)
    info = make_info(path=source, frame_rate=Fraction(25), time_base=Fraction(1, 25))
    times_s = [Fraction(index, 25) for index in range(170)]
    with VideoSink(path, info) as sink:
        write_numbered(sink, times_s)
        shutil.copy(path, copy)
    images, found_s = decoded(copy)
    assert [number_of(image) for image in images] == list(range(len(images)))
    assert found_s == times_s[: len(images)] and found_s[-1] > 3.9
    assert audio_packets(copy)[-1][0] > 3.9

    assert decoded(path)[1] == times_s
    with av.open(str(path)) as container:
        container.seek(round(5.5 * av.time_base))
        assert 3.5 <= next(container.decode(video=0)).time <= 5.5
    if extension == ".mp4" and av.library_versions["libavformat"] >= (62, 12, 0):
        data = path.read_bytes()
        assert top_level_boxes(data)[-1] == b"moov" and b"moof" not in top_level_boxes(data)


def top_level_boxes(data: bytes) -> list[bytes]:
    kinds, place = [], 0
    while place < len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        kinds.append(data[place + 4 : place + 8])
        place += int.from_bytes(data[place + 8 : place + 16], "big") if size == 1 else size
    return kinds


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no SIGKILL")
def test_a_killed_run_leaves_a_video_that_plays(tmp_path):
    program = """
        import sys
        from fractions import Fraction
        from helpers.contexts import make_info
        from helpers.recordings import write_numbered
        from fer_stream.sinks import VideoSink
        sink = VideoSink(sys.argv[1], make_info(frame_rate=Fraction(25), time_base=Fraction(1, 25)))
        write_numbered(sink, [Fraction(index, 25) for index in range(250)])
        print("written", flush=True)
        sys.stdin.read()
    """
    path = tmp_path / "killed.mp4"
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)
    assert len(decoded(path)[0]) > 125


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no limit of a file's size")
@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("when", ["midway", "at the end"])
def test_a_full_disk_is_one_line_and_leaves_what_plays(tmp_path, extension, when):
    import resource

    path = tmp_path / f"full{extension}"
    noise = np.random.default_rng(2).integers(0, 256, (90, 96, 160, 3), np.uint8)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    sink = VideoSink(path, make_info(frame_rate=Fraction(25), time_base=Fraction(1, 25)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000 if when == "midway" else limits[0], limits[1]))
    try:
        with pytest.raises(OutputError, match=rf"can't write .*full\{extension}: File too large"):
            for index, image in enumerate(noise):
                sink.write(analyzed(image, index, index / 25), image)
            resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, limits[1]))
            sink.close()
        sink.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with av.open(str(path)) as container:
        played = 0
        with contextlib.suppress(av.error.InvalidDataError):  # the last picture is cut off
            for _ in container.decode(video=0):
                played += 1
    assert played >= (5 if when == "midway" else 50)


def test_wrong_outputs_are_found_at_once(tmp_path):
    source = make_clip(tmp_path / "clip.mp4", video_s=0.2, audio_s=0.2)
    info = make_info(path=source)
    (tmp_path / "link.mp4").symlink_to(source)
    (tmp_path / "there.mkv").write_text("precious")
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(UsageError, match=r"out\.avi.*\.mp4, \.mkv or \.webm"):
        VideoSink(tmp_path / "out.avi", info)
    for name, overwrite, reason in [
        ("there.mkv", False, "exists.*--overwrite"),
        ("clip.mp4", True, "the input itself"),
        ("sub/../link.mp4", True, "the input itself"),
        ("folder.mp4", True, "a folder"),
        ("there.mkv/out.mp4", True, "it is a file"),
        ("x" * 300 + ".mp4", False, "too long"),
    ]:
        (tmp_path / "sub").mkdir(exist_ok=True)
        with pytest.raises(OutputError, match=reason) as caught:
            VideoSink(tmp_path / name, info, overwrite=overwrite)
        assert "\n" not in str(caught.value)
    assert (tmp_path / "there.mkv").read_text() == "precious"
    assert decoded(source)[1]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_an_unwritable_folder_is_found_at_once():
    with pytest.raises(OutputError, match="can't write /proc/out"):
        check_output("/proc/out.png", overwrite=False, source_path=None)


def test_opening_makes_missing_folders_and_no_file(tmp_path):
    sink = VideoSink(tmp_path / "a" / "b" / "Grüße 你好.mp4", make_info())
    assert (tmp_path / "a" / "b").is_dir() and not list((tmp_path / "a" / "b").iterdir())
    sink.close()
    sink.close()
    assert sink.outputs() == []


def test_overwrite_replaces_the_file(tmp_path):
    path = tmp_path / "out.mp4"
    path.write_bytes(b"x" * 100_000)
    with VideoSink(path, make_info(), overwrite=True) as sink:
        assert path.stat().st_size == 100_000  # kept until there is something to replace it
        write_numbered(sink, [Fraction(0)])
    assert len(decoded(path)[0]) == 1


def test_the_file_is_finished_after_an_error_elsewhere(tmp_path):
    with (
        pytest.raises(ZeroDivisionError),
        VideoSink(tmp_path / "out.mp4", make_info(time_base=Fraction(1, 25))) as sink,
    ):
        write_numbered(sink, [Fraction(index, 25) for index in range(10)])
        raise ZeroDivisionError
    assert len(decoded(tmp_path / "out.mp4")[0]) == 10
