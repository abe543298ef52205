"""Open the training and the validation split of a data folder, with their FER+ votes."""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fer_stream.errors import SourceError
from fer_stream.expressions import EXPRESSIONS
from train.data import Pictures, PixelPictures, open_folder, pixel_name
from train.files import cannot_read
from train.folders import find_layout
from train.votes import read_votes

# The numbers of the expressions in FER2013's table of pixels.
EXPRESSION_OF_NUMBER = dict(enumerate(("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")))
USAGES = ("Training", "PublicTest")  # the challenge's PrivateTest stays unseen
SIDE = 48


@dataclass(frozen=True, eq=False)
class Splits:
    """The pictures of a run.

    Attributes:
        name: A description of the layout.
        training: The pictures to train on.
        validation: The pictures to measure on.
        votes: float32 (N, 10), the votes for the training pictures; None if no picture has votes.
        validation_votes: The same for the validation pictures.
        votes_name: Name of the table of votes, or None.
    """

    name: str
    training: Pictures
    validation: Pictures
    votes: torch.Tensor | None
    validation_votes: torch.Tensor | None
    votes_name: str | None


def open_splits(data: Path, *, with_votes: bool) -> Splits:
    """Open a data folder of any layout that `folders.find_layout` recognizes.

    Args:
        data: The folder, or the table of pixels in it.
        with_votes: Read the FER+ votes where there are any.

    Raises:
        SourceError: The data can't be used.
    """
    layout = find_layout(data)
    if layout.is_table:
        training, validation = _read_pixels(layout.training)
    else:
        training, validation = open_folder(layout.training), open_folder(layout.validation)
    votes = validation_votes = None
    if with_votes and layout.votes is not None:
        votes, validation_votes = read_votes(layout.votes, training), read_votes(layout.votes, validation)
    return Splits(
        name=layout.name,
        training=training,
        validation=validation,
        votes=votes if votes is not None and bool(votes.any()) else None,
        validation_votes=validation_votes,
        votes_name=layout.votes.name if votes is not None and layout.votes is not None else None,
    )


def _read_pixels(path: Path) -> tuple[Pictures, Pictures]:
    """Read fer2013.csv: the columns `emotion`, `pixels` and `Usage`."""
    csv.field_size_limit(sys.maxsize)
    pixels: dict[str, list[np.ndarray]] = {usage: [] for usage in USAGES}
    names: dict[str, list[str]] = {usage: [] for usage in USAGES}
    labels: dict[str, list[int]] = {usage: [] for usage in USAGES}
    index = -1
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for index, row in enumerate(csv.DictReader(file)):
                cells = {name.strip().lower(): value for name, value in row.items()}
                usage = cells["usage"].strip()
                label = EXPRESSIONS.index(EXPRESSION_OF_NUMBER[int(cells["emotion"])])
                if usage not in USAGES:
                    continue
                picture = np.array(cells["pixels"].split(), np.uint8).reshape(SIDE, SIDE)
                pixels[usage].append(picture)
                names[usage].append(pixel_name(index))
                labels[usage].append(label)
        training, validation = (
            PixelPictures(np.stack(pixels[usage]), names[usage], labels[usage], path) for usage in USAGES
        )
    except OSError as error:
        raise cannot_read(path, error) from error
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
        csv.Error,
    ) as error:
        raise SourceError(
            f"{path} is not FER2013's table of pixels (emotion, pixels, Usage), see its line {index + 2}; "
            "get it again"
        ) from error
    return training, validation
