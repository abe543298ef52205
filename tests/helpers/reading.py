"""Read any source of synthetic pictures, and write folders of them."""

from __future__ import annotations

from pathlib import Path

import av
import cv2

from fer_stream.sources import open_source
from helpers.videos import index_in, picture


def write_images(folder: Path, count: int) -> Path:
    folder.mkdir()
    for index in range(count):
        assert cv2.imwrite(str(folder / f"photo{index}.png"), picture(index))
    return folder


def read(spec: str | Path, start_s: float = 0.0, end_s: float | None = None) -> list[tuple[int, float, int]]:
    """Return each frame's index and time, and the index in its picture."""
    with open_source(spec, start_s=start_s, end_s=end_s) as source:
        return [(frame.index, frame.time_s, index_in(frame.bgr)) for frame in source]


def plain_decode(path: Path) -> list[tuple[int, float]]:
    """Return the index and the time of each frame from a simple PyAV loop."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        frames = container.decode(container.streams.video[0])
        return [(index, float(frame.pts * frame.time_base)) for index, frame in enumerate(frames)]
