"""Another reader of faces takes one new class and one registration."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from helpers.paths import SAMPLE

from fer_stream.analyzer import Analyzer

PROGRAM = """
import sys

import numpy as np

from fer_stream.recognition import readers

class Brightness:
    columns = ("brightness",)

    def __init__(self, device="cpu", *, threads=0):
        pass

    def crop(self, image_bgr, box_xyxy, landmarks_xy):
        left, top, right, bottom = box_xyxy.astype(int)
        return image_bgr[top:bottom, left:right].mean(keepdims=True)

    def read(self, crops):
        return crops.reshape(-1, 1).astype(np.float32)

readers.OTHER_READERS = (Brightness,)

from fer_stream.__main__ import main

sys.exit(main())
"""


def test_a_registered_reader_has_its_column_in_the_table(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    table = tmp_path / "table.csv"
    subprocess.run(
        [sys.executable, tmp_path / "program.py", SAMPLE, "--end", "0.5", "--data", table, "--quiet"],
        check=True,
        env=os.environ,
    )
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[-1] == "brightness"
    assert all(20 < float(row["brightness"]) < 235 for row in rows)


class Width:
    """Reads the width of a face's box in px."""

    columns = ("width",)

    def __init__(self, device: str = "cpu", *, threads: int = 0) -> None:
        pass

    def crop(self, image_bgr: np.ndarray, box_xyxy: np.ndarray, landmarks_xy: np.ndarray) -> np.ndarray:
        return box_xyxy[2:3] - box_xyxy[:1]

    def read(self, crops: np.ndarray) -> np.ndarray:
        return crops


def test_an_analyzer_takes_readers_as_arguments(hopper_bgr: np.ndarray) -> None:
    (face,) = Analyzer("cpu", other_readers=[Width()]).analyze(hopper_bgr)
    assert face.readings["width"] == face.box_xyxy[2] - face.box_xyxy[0]
    assert face.probabilities.shape == (7,)
