"""Anamorphic video, such as DVD, DV and HDV, is read with square pixels."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from helpers.live_servers import file_server
from helpers.videos import pictures_of, psnr_db, set_display_matrix, write_video

from fer_stream.errors import SourceError
from fer_stream.sinks import VideoSink
from fer_stream.sources import open_source
from fer_stream.types import AnalyzedFrame

pytestmark = pytest.mark.usefixtures("no_thread_is_left")

SHAPES = [  # coded size, pixel aspect, size with square pixels
    ((360, 288), Fraction(64, 45), (512, 288)),  # PAL, half size
    ((480, 360), Fraction(4, 3), (640, 360)),  # HDV
    ((360, 240), Fraction(8, 9), (360, 270)),  # NTSC: pixels are higher than wide
    ((320, 360), Fraction(2), (640, 360)),
]


def disc(size_wh: tuple[int, int]) -> np.ndarray:
    width, height = size_wh
    bgr = np.full((height, width, 3), (90, 60, 30), np.uint8)
    center = width // 3, height // 2
    return cv2.circle(bgr, center, height // 3, (210, 220, 230), cv2.FILLED, cv2.LINE_AA)


def disc_wh(bgr: np.ndarray) -> tuple[int, int]:
    bright = bgr[:, :, 1] > 140
    return int(bright.any(0).sum()), int(bright.any(1).sum())


def write_anamorphic(
    path: Path, coded_wh: tuple[int, int], pixel_aspect: Fraction, shown_wh: tuple[int, int]
) -> Path:
    """Write a video of a disc that is round with square pixels."""
    coded = cv2.resize(disc(shown_wh), coded_wh, interpolation=cv2.INTER_AREA)
    return write_video(path, range(3), shown=lambda _: coded, pixel_aspect=pixel_aspect)


def scaled_by_ffmpeg(path: Path, size_wh: tuple[int, int]) -> np.ndarray:
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        return frame.reformat(*size_wh, format="bgr24", interpolation="BICUBIC").to_ndarray()


@pytest.mark.parametrize(("coded_wh", "pixel_aspect", "shown_wh"), SHAPES)
def test_circles_stay_circles(
    tmp_path: Path, coded_wh: tuple[int, int], pixel_aspect: Fraction, shown_wh: tuple[int, int]
) -> None:
    path = write_anamorphic(tmp_path / "film.mp4", coded_wh, pixel_aspect, shown_wh)
    with open_source(path) as source:
        assert source.info.size_wh == shown_wh
        frames = list(source)
    assert {frame.size_wh for frame in frames} == {shown_wh}
    width, height = disc_wh(frames[0].bgr)
    assert width == pytest.approx(height, abs=3)
    assert psnr_db(frames[0].bgr, scaled_by_ffmpeg(path, shown_wh)) > 33


def test_saved_video_has_square_pixels(tmp_path: Path) -> None:
    path, saved = tmp_path / "film.mp4", tmp_path / "saved.mp4"
    write_anamorphic(path, (360, 288), Fraction(64, 45), (512, 288))
    with open_source(path) as source, VideoSink(saved, source.info) as sink:
        for frame in source:
            sink.write(AnalyzedFrame(frame, ()), frame.bgr)
    width, height = disc_wh(pictures_of(saved)[0])
    assert width == pytest.approx(height, abs=3)
    with av.open(str(saved)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.sample_aspect_ratio) == (512, 288, 1)


def test_a_stream_is_scaled_too(tmp_path: Path) -> None:
    write_anamorphic(tmp_path / "film.mp4", (360, 288), Fraction(64, 45), (512, 288))
    with file_server(tmp_path) as address, open_source(f"{address}/film.mp4") as source:
        assert source.info.size_wh == (512, 288)
        width, height = disc_wh(next(iter(source)).bgr)
    assert width == pytest.approx(height, abs=3)


def test_a_turned_video_is_scaled_before_it_is_turned(tmp_path: Path) -> None:
    coded = cv2.resize(np.rot90(disc((512, 288))), (144, 512), interpolation=cv2.INTER_AREA)
    path = write_video(tmp_path / "phone.mp4", range(2), shown=lambda _: coded, pixel_aspect=Fraction(2))
    set_display_matrix(path, (0, 1, -1, 0))
    with open_source(path) as source:
        assert source.info.size_wh == (512, 288)
        bgr = next(iter(source)).bgr
    assert psnr_db(bgr, disc((512, 288))) > 27


@pytest.mark.parametrize("pixel_aspect", [Fraction(1), Fraction(1280, 1281), Fraction(9), Fraction(1, 9)])
def test_square_and_absurd_pixels_change_nothing(tmp_path: Path, pixel_aspect: Fraction) -> None:
    path = write_anamorphic(tmp_path / "film.mkv", (160, 96), pixel_aspect, (160, 96))
    with open_source(path) as source:
        assert source.info.size_wh == (160, 96)
        np.testing.assert_array_equal(next(iter(source)).bgr, pictures_of(path)[0])


def test_the_limit_on_pixels_holds_for_the_scaled_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_anamorphic(tmp_path / "film.mp4", (720, 720), Fraction(2), (1440, 720))
    monkeypatch.setenv("FER_STREAM_MAX_MEGAPIXELS", "1")
    with pytest.raises(SourceError, match="1440x720"):
        open_source(path)
