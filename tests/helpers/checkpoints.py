"""Small checkpoints for tests, and the messages about bad ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from fer_stream.errors import WeightsError
from fer_stream.expressions import EXPRESSIONS
from fer_stream.recognition.preprocessing import InputSpec
from fer_stream.recognition.weights import load_checkpoint

# Like the input of the built-in weights, but smaller and not standardized.
INPUT = InputSpec(
    size=64,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    grayscale=True,
    crop_scale=0.94,
    native_size=48,
)


def checkpoint_content() -> dict:
    """Return the content of a small file that passes every check of its fields."""
    import torch  # not at the top: most tests run where PyTorch is missing

    return {
        "state_dict": {"layer.weight": torch.ones(2, 2)},
        "architecture": "efficientnet_b0",
        "classes": list(EXPRESSIONS),
        "input_size": 64,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.2, 0.2, 0.2],
        "grayscale": True,
        "crop_scale": 0.94,
        "native_size": 48,
        "temperature": 1.0,
        "recipe": "baseline",
        "epoch": 1,
        "metrics": {"validation_loss": 1.0},
        "format_version": 1,
    }


def save_small_checkpoint(path: Path) -> None:
    """Save a file that passes every check of its fields and has no FER+ layer."""
    import torch

    torch.save(checkpoint_content(), path)


def refused(path: Path) -> str:
    """Return the message with which a checkpoint is refused."""
    with pytest.raises(WeightsError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert "\n" not in message and path.name in message
    return message
