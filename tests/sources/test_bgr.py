"""Converted pictures are those of PyAV's reformatter, and their memory is used again."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from fer_stream.sources.bgr import BgrConverter


def noise(seed: int, size_wh: tuple[int, int] = (160, 96), pixel_format: str = "yuv420p") -> VideoFrame:
    width, height = size_wh
    bgr = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return VideoFrame.from_ndarray(bgr, "bgr24").reformat(format=pixel_format)


def encoded(path: Path, codec: str, options: dict[str, str]) -> VideoFrame:
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for packet in [*stream.encode(noise(0)), *stream.encode(None)]:
            container.mux(packet)
    with av.open(path) as container:
        return next(container.decode(video=0))


def assert_like_the_reformatter(frames: list[VideoFrame]) -> None:
    size_wh = frames[0].width, frames[0].height
    converter, reformatter = BgrConverter(size_wh), VideoReformatter()
    for frame in frames:
        expected = reformatter.reformat(frame, width=size_wh[0], height=size_wh[1], format="bgr24")
        np.testing.assert_array_equal(converter.convert(frame), expected.to_ndarray())


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuvj420p", "yuv422p10le", "gray", "bgra", "gbrp"])
@pytest.mark.parametrize("size_wh", [(160, 96), (641, 359)])
def test_pictures_are_those_of_the_reformatter(pixel_format: str, size_wh: tuple[int, int]) -> None:
    assert_like_the_reformatter([noise(seed, size_wh, pixel_format) for seed in range(2)])


def test_a_change_midway_is_followed() -> None:
    changes = [noise(0), noise(1, (320, 200)), noise(2, (320, 200), "yuv444p"), noise(3)]
    assert_like_the_reformatter(changes)


def test_the_colours_of_interlaced_fields_stay_apart(tmp_path: Path) -> None:
    frame = encoded(tmp_path / "fields.mpg", "mpeg2video", {"flags": "+ildct+ilme"})
    assert frame.interlaced_frame
    assert_like_the_reformatter([frame])


def test_a_transfer_characteristic_that_the_filter_refuses_is_ignored(tmp_path: Path) -> None:
    frame = encoded(tmp_path / "log.mp4", "libx264", {"x264-params": "transfer=log100"})
    assert_like_the_reformatter([frame, frame])


def test_memory_is_used_again_only_when_nobody_holds_the_picture() -> None:
    converter = BgrConverter((160, 96))
    held = converter.convert(noise(0))[10:20]
    before = held.copy()
    places = set()
    for seed in range(1, 6):
        picture = converter.convert(noise(seed))
        places.add(picture.ctypes.data)
        del picture
    np.testing.assert_array_equal(held, before)
    assert len(places) == 1
