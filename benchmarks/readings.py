"""Compare the readings of a recording with those of reading every face in every frame.

    python benchmarks/readings.py VIDEO [VIDEO ...]

For each video it prints the number of faces in all frames, the share of them that the network reads, the
share that gets the same label ("unsure" counts as one), the share with the same most probable expression (the
table's `expression`), the median difference of a probability, and the 95th percentile of a face's largest
difference. Both runs smooth the readings as usual.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from fer_stream.analysis import reading
from fer_stream.analyzer import Analyzer
from fer_stream.sources import open_source
from fer_stream.types import Face


@contextmanager
def every_frame_is_read() -> Iterator[None]:
    """Read every face in every frame, without turning the smoothing off."""
    usual, reading.READ_EVERY_S = reading.READ_EVERY_S, 0.0
    try:
        yield
    finally:
        reading.READ_EVERY_S = usual


class CountingReader:
    """A reader of no values, which counts how many faces are read."""

    columns = ()

    def __init__(self) -> None:
        self.count = 0

    def crop(self, image_bgr: np.ndarray, box_xyxy: np.ndarray, landmarks_xy: np.ndarray) -> np.ndarray:
        """Return nothing of the picture."""
        return np.zeros(0, np.float32)

    def read(self, crops: np.ndarray) -> np.ndarray:
        """Count the faces of a batch."""
        self.count += len(crops)
        return np.zeros((len(crops), 0), np.float32)


def read_video(video: Path) -> tuple[dict[tuple[int, int], Face], int]:
    """Return the faces of a video by frame and id, and how many of them were read."""
    reader = CountingReader()
    analyzer = Analyzer("cpu", other_readers=[reader])
    with open_source(video) as source:
        faces = {
            (analyzed.frame.index, face.id): face
            for analyzed in analyzer.analyze_frames(source, "video")
            for face in analyzed.faces
        }
    return faces, reader.count


def main() -> None:
    """Compare each video and print a row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("videos", nargs="+", type=Path)
    print(f"{'':<20}{'faces':>7}{'read':>9}{'same label':>12}{'expression':>12}{'median':>10}{'p95':>9}")
    for video in parser.parse_args().videos:
        with every_frame_is_read():
            every, most = read_video(video)
        faces, count = read_video(video)
        same = np.mean([face.label == every[key].label for key, face in faces.items()])
        alike = np.mean([face.expression == every[key].expression for key, face in faces.items()])
        differences = np.abs([face.probabilities - every[key].probabilities for key, face in faces.items()])
        print(
            f"{video.stem:<20}{len(faces):>7}{count / most:>9.1%}{same:>12.2%}{alike:>12.2%}"
            f"{np.median(differences):>10.5f}{np.percentile(differences.max(axis=1), 95):>9.4f}"
        )


if __name__ == "__main__":
    main()
