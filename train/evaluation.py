"""A checkpoint on a folder of labelled pictures."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torchvision.datasets import ImageFolder

from fer_stream.errors import SourceError
from fer_stream.recognition.weights import Checkpoint, load_model
from train.data import evaluation_loader, open_folder, read_rgb
from train.folders import VOTES_NAME, check_classes
from train.metrics import Report, report
from train.parallel import pick_device
from train.prediction import EVALUATION_BATCH, predict
from train.reporter import Reporter
from train.votes import majority, read_votes


@dataclass(frozen=True, eq=False)
class Figures:
    """How well a checkpoint does on some pictures.

    Attributes:
        measured: One network, one view of each picture, with the temperature.
        flipped: The logits averaged over the picture and its mirror image, with the temperature.
        voted_count: Pictures of which most FER+ votes, and not as many for another, name one of the
            seven expressions; None where there are no votes.
        agreement: The share of them for which the network says the same.
        flipped_agreement: The same, averaged over the mirror image.
    """

    measured: Report
    flipped: Report
    voted_count: int | None = None
    agreement: float | None = None
    flipped_agreement: float | None = None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How well a checkpoint does.

    Attributes:
        checkpoint: The network and what belongs to it.
        figures: On all pictures.
        untempered: Without the temperature, one view of each.
        unseen: On the pictures that do not occur, pixel for pixel, in the training split beside the
            folder; None where there is no such split or nothing of it occurs.
    """

    checkpoint: Checkpoint
    figures: Figures
    untempered: Report
    unseen: Figures | None


def evaluate(
    weights: Path,
    folder: Path,
    *,
    device: str = "auto",
    batch_size: int = EVALUATION_BATCH,
    reporter: Reporter | None = None,
) -> Evaluation:
    """Measures a checkpoint on `folder/<class>/*`, the pictures prepared as streaming prepares faces.

    Beside the folder it looks for the FER+ votes (`ferplus-votes.csv`) and for the training split
    (`train/`), whose pictures it then leaves out in a second set of figures.

    Args:
        weights: A checkpoint of fer-train.
        folder: Holds a folder for each of the seven expressions.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        batch_size: Pictures at once.
        reporter: Told of the progress.

    Raises:
        SourceError: The folder can't be used, or one of its pictures, or the votes.
        UsageError: No such device.
        WeightsError: The checkpoint can't be used.
    """
    reporter = reporter or Reporter()
    torch_device = pick_device(device)
    pictures = open_folder(folder)
    checkpoint, model = load_model(weights)
    votes_path, training_path = folder.parent / VOTES_NAME, folder.parent / "train"
    votes = read_votes(votes_path, pictures).numpy() if votes_path.is_file() else None
    seen = np.zeros(len(pictures), bool)
    if _is_training_split(training_path) and not training_path.samefile(folder):
        reporter.phase(0, "repeats", 1)
        seen = _seen(pictures, open_folder(training_path))

    model = model.to(torch_device).to(memory_format=torch.channels_last)
    batches = evaluation_loader(pictures, checkpoint.input, batch_size)
    reporter.phase(0, "evaluation", len(batches))
    logits, labels = predict(model, batches, torch_device, reporter.batch)
    reporter.phase(0, "mirrored", len(batches))
    mirrored, _ = predict(model, batches, torch_device, reporter.batch, mirrored=True)

    everything = np.ones(len(labels), bool)
    answers = (logits, (logits + mirrored) / 2, labels, votes, checkpoint.temperature)
    return Evaluation(
        checkpoint=checkpoint,
        figures=_figures(everything, *answers),
        untempered=report(logits, labels),
        unseen=_figures(~seen, *answers) if seen.any() and not seen.all() else None,
    )


def _figures(
    chosen: np.ndarray,
    logits: np.ndarray,
    averaged: np.ndarray,
    labels: np.ndarray,
    votes: np.ndarray | None,
    temperature: float,
) -> Figures:
    measured = report(logits[chosen], labels[chosen], temperature)
    flipped = report(averaged[chosen], labels[chosen], temperature)
    if votes is None:
        return Figures(measured, flipped)
    seen = majority(votes)
    clear = chosen & (seen >= 0)
    if not clear.any():
        return Figures(measured, flipped)
    return Figures(
        measured=measured,
        flipped=flipped,
        voted_count=int(clear.sum()),
        agreement=float((logits.argmax(axis=1) == seen)[clear].mean()),
        flipped_agreement=float((averaged.argmax(axis=1) == seen)[clear].mean()),
    )


def _is_training_split(folder: Path) -> bool:
    """Whether a folder beside the pictures is one of the seven expressions, and not another of that name."""
    try:
        check_classes(folder)
    except SourceError:
        return False
    return True


def _seen(pictures: ImageFolder, training: ImageFolder) -> np.ndarray:
    """Returns which pictures occur, pixel for pixel, in the training split: bool (N,)."""
    trained = {_pixels_hash(path) for path, _ in training.samples}
    return np.array([_pixels_hash(path) in trained for path, _ in pictures.samples])


def _pixels_hash(path: str) -> bytes:
    image = read_rgb(path)
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).digest()
