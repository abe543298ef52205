"""One contract for every source that can be read to its end, and tests for each kind.

Every synthetic picture shows its index as a row of eight black or white blocks at its top, which survives
any codec. Its lower left is bright, which reveals a rotated or mirrored picture.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.reading import read, write_images
from helpers.videos import index_in, write_video

from fer_stream.errors import SourceError, UsageError
from fer_stream.sources import open_source

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


# The contract: (make the source, expected number of frames)
SOURCES: dict[str, tuple[Callable[[Path], Path | str], int]] = {
    "video": (lambda tmp: write_video(tmp / "clip.mp4", range(30)), 30),
    "video without B-frames": (lambda tmp: write_video(tmp / "c.mkv", range(9), options={"bf": "0"}), 9),
    "video with MPEG-4": (lambda tmp: write_video(tmp / "clip.avi", range(20), codec="mpeg4"), 20),
    "video in AVI with B-frames": (lambda tmp: write_video(tmp / "clip.avi", range(20)), 20),
    "folder": (lambda tmp: write_images(tmp / "photos", 12), 12),
    "glob": (lambda tmp: str(write_images(tmp / "photos", 12) / "photo*.png"), 12),
    "image": (lambda tmp: write_images(tmp / "photos", 1) / "photo0.png", 1),
}


@pytest.mark.parametrize("kind", SOURCES)
class TestContract:
    def test_every_frame_comes_once_and_in_order(self, kind: str, tmp_path: Path) -> None:
        spec = SOURCES[kind][0](tmp_path)
        count = SOURCES[kind][1]
        frames = read(spec)
        assert [frame[0] for frame in frames] == list(range(count))
        assert [frame[2] for frame in frames] == list(range(count))

    def test_the_source_is_described_before_reading(self, kind: str, tmp_path: Path) -> None:
        spec = SOURCES[kind][0](tmp_path)
        with open_source(spec) as source:
            assert source.info.name == str(spec)
            assert source.info.size_wh == (160, 96)
            assert source.info.frame_count == SOURCES[kind][1]
            assert not source.info.is_live

    def test_a_frame_has_the_time_of_its_capture(self, kind: str, tmp_path: Path) -> None:
        spec = SOURCES[kind][0](tmp_path)
        with open_source(spec) as source:
            before = time.monotonic()
            frame = next(iter(source))
        assert before <= frame.captured_s <= time.monotonic()

    def test_mirror_flips_every_frame(self, kind: str, tmp_path: Path) -> None:
        spec = SOURCES[kind][0](tmp_path)
        with open_source(spec, mirror=True) as source:
            seen = [index_in(frame.bgr[:, ::-1]) for frame in source]
        assert seen == list(range(SOURCES[kind][1]))

    def test_closing_ends_reading_and_may_be_repeated(self, kind: str, tmp_path: Path) -> None:
        spec = SOURCES[kind][0](tmp_path)
        source = open_source(spec)
        frames = iter(source)
        next(frames)
        source.close()
        source.close()
        assert next(frames, None) is None

    def test_closing_from_another_thread_is_safe(self, kind: str, tmp_path: Path) -> None:
        spec = SOURCES[kind][0](tmp_path)
        source = open_source(spec)
        frames = iter(source)
        next(frames)
        closer = threading.Thread(target=source.close)
        closer.start()
        later = [index_in(frame.bgr) for frame in frames]
        closer.join()
        assert later == list(range(1, len(later) + 1))
        assert next(frames, None) is None


def _text_named_mp4(tmp: Path) -> Path:
    (tmp / "text.mp4").write_text("this is no video\n" * 100)
    return tmp / "text.mp4"


def _zero_bytes(tmp: Path) -> Path:
    (tmp / "empty.mp4").touch()
    return tmp / "empty.mp4"


def _sound_only(tmp: Path) -> Path:
    with av.open(str(tmp / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return tmp / "sound.mp4"


def _without_index(tmp: Path) -> Path:
    path = write_video(tmp / "cut.mov", range(10))  # its index is written last
    path.write_bytes(path.read_bytes()[:-100])
    return path


def _text_named_png(tmp: Path) -> Path:
    (tmp / "text.png").write_text("this is no image")
    return tmp / "text.png"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda tmp: tmp / "missing.mp4", "no such file"),
        (_text_named_mp4, "can't be read as a video"),
        (_zero_bytes, "zero bytes"),
        (_sound_only, "holds no video, only audio"),
        (_without_index, "can't be read as a video"),
        (_text_named_png, "can't be read as an image"),
        (lambda tmp: tmp, "holds no image"),
        (lambda tmp: str(tmp / "*.jpg"), "matches no image"),
    ],
)
def test_a_bad_source_fails_at_once(
    make: Callable[[Path], Path | str],
    message: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    spec = make(tmp_path)
    capfd.readouterr()
    with pytest.raises(SourceError, match=message) as caught:
        open_source(spec)
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)
    assert str(spec) in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("start_s", "end_s"), [(2.0, 1.0), (1.0, 1.0), (-1.0, None), (float("nan"), None), (0.0, float("inf"))]
)
def test_a_contradictory_part_is_wrong_usage(tmp_path: Path, start_s: float, end_s: float | None) -> None:
    with pytest.raises(UsageError):
        open_source(tmp_path / "any.mp4", start_s=start_s, end_s=end_s)


@pytest.mark.parametrize("spec", [0, "rtsp://localhost/stream", "folder"])
def test_only_recordings_have_parts(tmp_path: Path, spec: int | str) -> None:
    folder = write_images(tmp_path / "photos", 1)
    with pytest.raises(UsageError, match="leave them out"):
        open_source(folder if spec == "folder" else spec, start_s=1)


@pytest.mark.parametrize("index", [True, -1])
def test_an_index_that_no_camera_can_have_is_wrong_usage(index: int) -> None:
    with pytest.raises(UsageError, match=rf"index is {index}, which is not a whole number from 0"):
        open_source(index)


def test_a_missing_camera_says_what_to_do(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SourceError, match=r"camera 97 .*: .*(connect|the cameras here are)"):
        open_source(97)
    if sys.platform != "darwin":  # OpenCV's own line can't be silenced there
        assert capfd.readouterr() == ("", "")


def test_a_folder_of_videos_points_to_fer_batch(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", range(2))
    with pytest.raises(SourceError, match="fer-batch"):
        open_source(tmp_path)
