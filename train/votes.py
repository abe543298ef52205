"""Read the FER+ votes of ten people for each picture of FER2013, and predict labels from them.

Source: Barsoum et al., Training Deep Networks for Facial Expression Recognition with Crowd-Sourced Label
Distribution, 2016.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fer_stream.errors import SourceError
from fer_stream.expressions import EXPRESSIONS
from train.data import Pictures, one_hot, pixel_name
from train.files import cannot_read

VOTED = (
    "neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF"
)  # fmt: skip
# FER+'s names for the seven expressions, in the order of `EXPRESSIONS`. Contempt, unknown and NF (no face)
# have no counterpart.
VOTED_EXPRESSIONS = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
VOTE_INDICES = tuple(VOTED.index(name) for name in VOTED_EXPRESSIONS)
MOST_VOTES = 1_000_000  # of one kind for a picture; float32 holds such numbers exactly
WEIGHT_PENALTY = 1e-4  # of the fit; small beside 28,000 pictures


def read_votes(path: Path, pictures: Pictures) -> torch.Tensor:
    """Read the FER+ votes for pictures, matched by their file names.

    Args:
        path: CSV with the columns `file` and `VOTED`, or in FER+'s own form (`fer2013new.csv`).
        pictures: The pictures.

    Returns:
        float32 (N, 10), shares that sum to 1, or zeros for a picture without votes.

    Raises:
        SourceError: The file can't be read, or is not such a table.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        by_name = {_name(row, index): [int(row[name]) for name in VOTED] for index, row in enumerate(rows)}
        if not by_name:
            raise ValueError("no votes at all")
        if any(min(counts) < 0 or max(counts) > MOST_VOTES for counts in by_name.values()):
            raise ValueError("an impossible number of votes")
        none = [0] * len(VOTED)
        counts = [by_name.get(Path(name).name, none) for name, _ in pictures.samples]
        votes = torch.tensor(counts, dtype=torch.float32)
    except OSError as error:
        raise cannot_read(path, error) from error
    except (KeyError, TypeError, ValueError, OverflowError, csv.Error) as error:
        raise SourceError(
            f"{path} is not a table of FER+ votes (file, and whole numbers for {', '.join(VOTED)}); "
            "repair or remove it"
        ) from error
    return votes / votes.sum(dim=1, keepdim=True).clamp_min(1)


def _name(row: dict[str, str], index: int) -> str:
    """Return the file name of the picture that a row of votes is for.

    FER+ lists its votes in the order of fer2013.csv, and leaves out the names of pictures that it advises
    not to use.
    """
    return row["file"] if "file" in row else pixel_name(index)


def majority(votes: np.ndarray) -> np.ndarray:
    """Return the expression that most people saw in each picture.

    Args:
        votes: (N, 10) from `read_votes`.

    Returns:
        int (N,), the index of the expression; -1 if the most-voted class is tied or not one of the seven, or
        if there are no votes.
    """
    most = votes.max(axis=1, keepdims=True)
    is_clear = (most[:, 0] > 0) & ((votes == most).sum(axis=1) == 1)
    expression_of = np.full(len(VOTED), -1)
    expression_of[list(VOTE_INDICES)] = range(len(EXPRESSIONS))
    return np.where(is_clear, expression_of[votes.argmax(axis=1)], -1)


def expected_labels(votes: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Predict the distribution of FER2013 labels for each picture from its FER+ votes.

    A single label hides how much people disagree. Ten votes tell which labels a picture could have got, once
    the relation between labels and votes is known: in FER2013's training split the votes call 30 % neutral
    and 3 % fear, and the labels 17 % and 14 %. A multinomial logistic regression learns that relation.

    Args:
        votes: float32 (N, 10) from `read_votes`.
        labels: int64 (N,).

    Returns:
        float32 (N, 7). A picture without votes gets its label with probability 1.
    """
    voted = votes.sum(dim=1) > 0
    pairs = (votes[:, :, None] * votes[:, None, :]).flatten(1)
    features = torch.cat([votes, votes.sqrt(), pairs], dim=1)
    weight = torch.zeros(features.shape[1], len(EXPRESSIONS), requires_grad=True)
    bias = torch.zeros(len(EXPRESSIONS), requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(features[voted] @ weight + bias, labels[voted])
        loss = loss + WEIGHT_PENALTY * weight.square().sum()
        loss.backward()
        return loss

    expected = one_hot(labels)
    if bool(voted.any()):
        optimizer.step(loss)  # type: ignore[arg-type]  # declared for numbers
        with torch.no_grad():
            expected[voted] = (features[voted] @ weight + bias).softmax(dim=1)
    return expected
