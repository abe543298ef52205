"""Measure a checkpoint on a folder of labelled pictures, against FER2013's labels and the FER+ votes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fer_stream.errors import SourceError
from fer_stream.expressions import ANNOTATIONS, FER2013, FERPLUS
from fer_stream.recognition.weights import Checkpoint, load_checkpoint
from train.architectures import evaluation_network
from train.calibration import tempered
from train.data import Pictures, check_sizes, evaluation_loader, open_folder, read_rgb
from train.files import is_file
from train.folders import VOTES_NAME, beside, check_votes, class_folders
from train.metrics import Bin, Report, reliability, report
from train.parallel import pick_device
from train.prediction import EVALUATION_BATCH, predict
from train.reporter import Reporter
from train.votes import majority, read_votes


@dataclass(frozen=True, eq=False)
class BothViews:
    """The figures for one annotation on some pictures, without and with their mirror images.

    Attributes:
        measured: From each picture alone.
        mirrored: From the logits averaged over each picture and its mirror image.
    """

    measured: Report
    mirrored: Report


@dataclass(frozen=True, eq=False)
class LayerEvaluation:
    """The evaluation of the last layer that follows one annotation.

    Attributes:
        temperature: The layer's temperature.
        unsure_below: The layer's threshold.
        figures: On all pictures that have this annotation, with the temperature.
        untempered: On the same pictures, each alone, without the temperature.
        reliability: The accuracy at each confidence. For FER+, pictures without a clear majority for one of
            the seven expressions are included and count as wrong.
        not_in_train: On the pictures that do not occur, pixel for pixel, in the training split beside the
            folder, with the temperature; None without such a split or such a picture.
    """

    temperature: float
    unsure_below: float
    figures: BothViews
    untempered: Report
    reliability: tuple[Bin, ...]
    not_in_train: BothViews | None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The evaluation of a checkpoint.

    Attributes:
        checkpoint: The network and everything that belongs to it.
        layers: The evaluation of the layer for each annotation, in the order of `ANNOTATIONS`.
        missing: The reason why FER+ was not measured; empty if it was, or if nobody asked for it.
    """

    checkpoint: Checkpoint
    layers: dict[str, LayerEvaluation]
    missing: str


def evaluate(
    weights: Path,
    folder: Path,
    *,
    labels: str | None = None,
    device: str = "auto",
    batch_size: int = EVALUATION_BATCH,
    reporter: Reporter | None = None,
) -> Evaluation:
    """Measure a checkpoint on `folder/<class>/*`, with pictures prepared as streaming prepares faces.

    FER2013's labels are the names of the class folders. FER+ is measured if the weights have a layer for it
    and `ferplus-votes.csv` lies beside the folder. Its accuracy is the agreement with the majority, over the
    pictures whose most-voted class is one of the seven and not tied. If `train/` lies beside the folder,
    there are also figures without the pictures that occur in it.

    Args:
        weights: A checkpoint of fer-train.
        folder: Holds a folder for each of the seven expressions.
        labels: The annotation to measure, `ferplus` or `fer2013`; None for all that can be measured.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        batch_size: Number of pictures in a batch.
        reporter: Receives the progress.

    Raises:
        SourceError: The folder, one of its pictures or the votes can't be used.
        UsageError: No such device or annotation.
        WeightsError: The checkpoint can't be used, or lacks the annotation's layer.
    """
    reporter = reporter or Reporter()
    torch_device = pick_device(device)
    check_votes(folder, labels)
    pictures = open_folder(folder)
    check_sizes(pictures)
    checkpoint = load_checkpoint(weights)
    votes_path, training_path = beside(folder, VOTES_NAME), beside(folder, "train")
    needs_votes = labels != FER2013 and checkpoint.ferplus is not None
    votes = read_votes(votes_path, pictures).numpy() if needs_votes and is_file(votes_path) else None
    annotations, missing = _measurable(checkpoint, votes, labels, votes_path)
    is_in_train: np.ndarray | None = None
    if _is_training_split(training_path) and not training_path.samefile(folder):
        reporter.phase(0, "repeats", 1)
        is_in_train = _in_train(pictures, open_folder(training_path))

    model = evaluation_network(checkpoint, annotations).to(torch_device)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    batches = evaluation_loader(pictures, checkpoint.input, batch_size)
    reporter.phase(0, "evaluation", len(batches))
    logits, classes = predict(model, batches, torch_device, reporter.batch)
    reporter.phase(0, "mirrored", len(batches))
    mirrored, _ = predict(model, batches, torch_device, reporter.batch, mirrored=True)

    layers = {}
    views = np.split(np.stack([logits, (logits + mirrored) / 2]), len(annotations), axis=2)
    for annotation, (straight, averaged) in zip(annotations, views, strict=True):
        head = checkpoint.head(annotation)
        if annotation == FERPLUS and votes is not None:
            truth, is_annotated = majority(votes), votes.max(axis=1) > 0
        else:
            truth, is_annotated = classes, np.ones(len(classes), bool)

        is_known = truth >= 0
        not_in_train = None
        if is_in_train is not None:
            is_new = is_known & ~is_in_train
            if is_new.any():
                not_in_train = _both_views(straight, averaged, truth, is_new, head.temperature)
        probabilities = tempered(straight, head.temperature)
        layers[annotation] = LayerEvaluation(
            temperature=head.temperature,
            unsure_below=head.unsure_below,
            figures=_both_views(straight, averaged, truth, is_known, head.temperature),
            untempered=report(straight[is_known], truth[is_known]),
            reliability=reliability(probabilities[is_annotated], truth[is_annotated]),
            not_in_train=not_in_train,
        )
    return Evaluation(checkpoint, layers, missing)


def _both_views(
    straight: np.ndarray, averaged: np.ndarray, truth: np.ndarray, chosen: np.ndarray, temperature: float
) -> BothViews:
    """Measure the logits of the chosen pictures.

    Args:
        straight: (N, 7), from each picture alone.
        averaged: (N, 7), averaged over each picture and its mirror image.
        truth: int (N,), the class of each picture.
        chosen: bool (N,).
        temperature: The logits are divided by it.
    """
    return BothViews(
        report(straight[chosen], truth[chosen], temperature),
        report(averaged[chosen], truth[chosen], temperature),
    )


def _measurable(
    checkpoint: Checkpoint, votes: np.ndarray | None, labels: str | None, votes_path: Path
) -> tuple[list[str], str]:
    """Return the annotations to measure, and the reason if FER+ is missing although nobody left it out."""
    if labels is not None:
        checkpoint.head(labels)  # raises if there is no such layer
    if labels == FER2013:
        return [FER2013], ""
    if checkpoint.ferplus is None:
        return [FER2013], "the weights have no FER+ layer"
    if votes is None:
        return [FER2013], f"no votes at {votes_path}"
    if not (majority(votes) >= 0).any():
        problem = f"no picture has a clear majority in {votes_path}"
        if labels == FERPLUS:
            raise SourceError(f"{problem}; check the names of the pictures there, or use --labels {FER2013}")
        return [FER2013], problem
    return ([FERPLUS] if labels == FERPLUS else list(ANNOTATIONS)), ""


def _is_training_split(folder: Path) -> bool:
    """Return whether a folder holds the seven expressions.

    Raises:
        SourceError: The folder can't be read.
    """
    try:
        class_folders(folder)
    except SourceError as error:
        if isinstance(error.__cause__, OSError):
            raise
        return False
    return True


def _in_train(pictures: Pictures, training: Pictures) -> np.ndarray:
    """Return a mask of the pictures that occur, pixel for pixel, in the training split, bool (N,)."""
    trained = {_pixels_hash(path) for path, _ in training.samples}
    return np.array([_pixels_hash(path) in trained for path, _ in pictures.samples])


def _pixels_hash(path: str) -> bytes:
    image = read_rgb(path)
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).digest()
