"""Distillation: what trained networks answer for the training pictures, as a part of the target.

Several networks together are right more often than each alone, and their doubt tells more than a label.
Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torchvision.datasets import ImageFolder

from fer_stream.errors import WeightsError
from fer_stream.expressions import EXPRESSIONS
from fer_stream.recognition.torch_model import load_model
from train.data import evaluation_loader
from train.parallel import Processes
from train.prediction import EVALUATION_BATCH, predict
from train.reporter import Reporter


def mean_answers(
    teachers: Sequence[Path],
    folder: ImageFolder,
    device: torch.device,
    processes: Processes,
    reporter: Reporter,
    workers: int = 0,
) -> torch.Tensor:
    """Returns the mean of what networks answer for a folder's pictures and their mirror images.

    Without their temperatures: a network of the strong recipe is less sure without its own than it is right.

    Args:
        teachers: Checkpoints of fer-train; each sees the pictures in its own size.
        folder: The pictures.
        device: Where the networks run.
        processes: Of the run; each reads its share of the pictures.
        reporter: Told of the progress.
        workers: Processes that prepare pictures.

    Returns:
        float32 (N, 7), rows that add up to 1.

    Raises:
        SourceError: A picture can't be read.
        WeightsError: A checkpoint can't be used.
    """
    answers = torch.zeros(len(folder), len(EXPRESSIONS))
    loaded = [load_model(path) for path in teachers]  # before any of them has worked for minutes
    for path, (checkpoint, built) in zip(teachers, loaded, strict=True):
        model = built.to(device).to(memory_format=torch.channels_last)
        loader = evaluation_loader(folder, checkpoint.input, EVALUATION_BATCH, workers, processes)
        for mirrored in (False, True):
            reporter.phase(0, "teacher mirrored" if mirrored else "teacher", len(loader))
            logits, _ = predict(model, loader, device, reporter.batch, mirrored=mirrored)
            answer = torch.from_numpy(processes.in_order(logits)).softmax(dim=1)
            if not answer.isfinite().all():
                raise WeightsError(f"{path} answers some pictures with no numbers; choose another teacher")
            answers += answer
    return answers / (2 * len(teachers))
