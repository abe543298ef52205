"""Read a folder of pictures with a network."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import nn

from fer_stream.expressions import EXPRESSIONS
from train.data import read_batches

EVALUATION_BATCH = 256


def predict(
    model: nn.Module,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    device: torch.device,
    on_batch: Callable[[float, float, float], None] | None = None,
    *,
    mirrored: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Read pictures in order.

    Args:
        model: Takes (N, 3, size, size) and returns logits (N, 7), or those of several last layers side by
            side. It is put into evaluation mode.
        batches: Pictures and labels, such as those of `data.evaluation_loader`. Pictures without a label,
            which pad a batch, are ignored.
        device: The model's device.
        on_batch: Called after each batch with the mean cross-entropy, the accuracy and the pictures per
            second.
        mirrored: Whether to read the mirror images instead.

    Returns:
        float32 logits (N, 7 or more), as the model returns them, and int labels (N,).

    Raises:
        SourceError: A picture can't be read.
    """
    model.eval()
    all_logits, all_labels, loss_sum, hits, count = [], [], 0.0, 0, 0
    began_s = time.monotonic()
    with torch.no_grad():
        for images, labels in read_batches(batches):
            images = images.to(device, memory_format=torch.channels_last)
            logits = model(images.flip(-1) if mirrored else images)[: len(labels)].float().cpu()
            first = logits[:, : len(EXPRESSIONS)]
            loss_sum += float(nn.functional.cross_entropy(first, labels, reduction="sum"))
            hits += int((first.argmax(dim=1) == labels).sum())
            count += len(labels)
            all_logits.append(logits.numpy())
            all_labels.append(labels.numpy())
            if on_batch:
                on_batch(loss_sum / count, hits / count, count / (time.monotonic() - began_s))
    return np.concatenate(all_logits), np.concatenate(all_labels)
