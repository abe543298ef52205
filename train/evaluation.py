"""A checkpoint on a folder of labelled pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from fer_stream.weights import Checkpoint, load_checkpoint
from train.data import evaluation_loader, open_folder
from train.loop import EVALUATION_BATCH, Reporter, pick_device, predict
from train.metrics import Report, report


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How well a checkpoint does.

    Attributes:
        checkpoint: The network and what belongs to it.
        measured: Its figures, with its temperature.
        untempered: The same without the temperature.
    """

    checkpoint: Checkpoint
    measured: Report
    untempered: Report


def evaluate(
    weights: Path,
    folder: Path,
    *,
    device: str = "auto",
    batch_size: int = EVALUATION_BATCH,
    reporter: Reporter | None = None,
) -> Evaluation:
    """Measures a checkpoint on `folder/<class>/*`, the pictures prepared as streaming prepares faces.

    Args:
        weights: A checkpoint of fer-train.
        folder: Holds a folder for each of the seven expressions.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        batch_size: Pictures at once.
        reporter: Told of the progress.

    Raises:
        SourceError: The folder can't be used, or one of its pictures.
        UsageError: No such device.
        WeightsError: The checkpoint can't be used.
    """
    reporter = reporter or Reporter()
    torch_device = pick_device(device)
    pictures = open_folder(folder)
    checkpoint = load_checkpoint(weights)
    model = checkpoint.build_model().to(torch_device).to(memory_format=torch.channels_last)
    batches = evaluation_loader(pictures, checkpoint.input, batch_size)
    reporter.phase(0, "evaluation", len(batches))
    logits, labels = predict(model, batches, torch_device, reporter)
    return Evaluation(checkpoint, report(logits, labels, checkpoint.temperature), report(logits, labels))
