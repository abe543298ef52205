"""A generated FER2013-style folder, small enough to train on in a test."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from fer_stream.expressions import EXPRESSIONS

# fer-train's options for a run of seconds.
TINY = ["--input-size", "32", "--batch-size", "14", "--pretrained", "none", "--device", "cpu"]
TRAIN_PER_CLASS, VALIDATION_PER_CLASS = 4, 2
TRAIN_COUNT = TRAIN_PER_CLASS * len(EXPRESSIONS)
VALIDATION_COUNT = VALIDATION_PER_CLASS * len(EXPRESSIONS)


def make_dataset(root: Path) -> Path:
    """Write `train/<class>/` and `validation/<class>/` with grey pictures; a bright bar shows the class."""
    random = np.random.default_rng(0)
    for split, count in (("train", TRAIN_PER_CLASS), ("validation", VALIDATION_PER_CLASS)):
        for index, name in enumerate(EXPRESSIONS):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                grey = random.integers(0, 80, (48, 48)).astype(np.uint8)
                grey[6 * index : 6 * index + 8] += 150
                Image.fromarray(grey).save(folder / f"{number}.png")
    return root


def epochs_of(output: Path) -> int:
    """Return the number of epochs in a run's history."""
    with (output / "history.csv").open(newline="") as file:
        return len(list(csv.DictReader(file)))
