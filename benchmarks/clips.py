"""The clips of `pipeline.py`: real ones, enlarged ones, and generated ones with many faces."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from fer_stream.sinks import VideoSink
from fer_stream.sources import SourceInfo, open_source
from fer_stream.types import AnalyzedFrame, Frame

SHARED_VIDEOS = Path(__file__).parents[2] / "shared" / "data" / "videos"
ENLARGED = {"portrait-720p": (1280, 720), "portrait-2160p": (3840, 2160)}
NAMES = (*ENLARGED, "street-1080p", "made-1", "made-5", "made-20")


def make_clip(path: Path, faces: int, frames: int) -> None:
    """Make a 720p clip of a portrait pasted several times, each copy on a small circle of its own."""
    from matplotlib import cbook

    with cbook.get_sample_data("grace_hopper.jpg") as file:
        portrait = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_COLOR)
    head = portrait[20:300, 120:400]
    side = {1: 380, 5: 230, 20: 150}[faces]
    head = cv2.resize(head, (side, side), interpolation=cv2.INTER_AREA)
    columns = {1: 1, 5: 3, 20: 6}[faces]
    rows = -(-faces // columns)
    info = SourceInfo("made", "camera", None, (1280, 720), Fraction(30), Fraction(1, 30), None, None)
    with VideoSink(path, info, overwrite=True) as sink:
        for index in range(frames):
            bgr = np.full((720, 1280, 3), (90, 80, 70), np.uint8)
            for face in range(faces):
                angle = index / 20 + face
                x = (face % columns + 0.5) * 1280 / columns - side / 2 + 20 * np.cos(angle)
                y = (face // columns + 0.5) * 720 / rows - side / 2 + 12 * np.sin(angle)
                x, y = int(np.clip(x, 0, 1280 - side)), int(np.clip(y, 0, 720 - side))
                bgr[y : y + side, x : x + side] = head
            sink.write(AnalyzedFrame(Frame(bgr, index, index / 30), ()), bgr)


def enlarge(source_path: Path, path: Path, size_wh: tuple[int, int], frames: int) -> None:
    """Enlarge a clip."""
    with open_source(source_path) as source:
        info = replace(source.info, path=None)
        with VideoSink(path, info, overwrite=True) as sink:
            for frame in source:
                bgr = cv2.resize(frame.bgr, size_wh, interpolation=cv2.INTER_CUBIC)
                sink.write(AnalyzedFrame(replace(frame, bgr=bgr), ()), bgr)
                if frame.index + 1 == frames:
                    break


def prepare(folder: Path, frames: int, names: list[str]) -> dict[str, Path]:
    """Make the requested clips, as far as possible. Return their paths by name."""
    clips = {}
    for name in names:
        path = folder / f"{name}.mp4"
        if name.startswith("made-"):
            make_clip(path, int(name.removeprefix("made-")), frames)
        elif not SHARED_VIDEOS.is_dir():
            print(f"left out: {name}, which needs {SHARED_VIDEOS}")
            continue
        elif name in ENLARGED:
            enlarge(SHARED_VIDEOS / "portrait-360p.mp4", path, ENLARGED[name], frames)
        else:
            path = SHARED_VIDEOS / f"{name}.mp4"
        clips[name] = path
    return clips
