"""Write clips for archives."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np


def write_clip(
    path: Path, picture_bgr: np.ndarray, frames: int, size_wh: tuple[int, int] = (160, 192), rate: int = 10
) -> Path:
    """Write a clip of a picture that moves a little, with a keyframe every ten frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = cv2.resize(picture_bgr, size_wh, interpolation=cv2.INTER_AREA)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=rate, options={"g": "10", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *size_wh, "yuv420p"
        for index in range(frames):
            moved = np.ascontiguousarray(np.roll(small, index % 7, axis=1))
            frame = av.VideoFrame.from_ndarray(moved, format="bgr24")
            frame.pts, frame.time_base = index, Fraction(1, rate)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def shrunk(video: Path, path: Path, size_wh: tuple[int, int]) -> Path:
    """Write a video in another size."""
    with av.open(str(video)) as container, av.open(str(path), "w") as out:
        rate = container.streams.video[0].average_rate
        stream = out.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "crf": "16"})
        stream.width, stream.height, stream.pix_fmt = *size_wh, "yuv420p"
        for frame in container.decode(video=0):
            out.mux(stream.encode(frame.reformat(*size_wh, format="yuv420p")))
        out.mux(stream.encode(None))
    return path
