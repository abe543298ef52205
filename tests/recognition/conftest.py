"""Checkpoints, and faces for the classifier."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from helpers.checkpoints import INPUT

from fer_stream.analyzer import Analyzer
from fer_stream.expressions import EXPRESSIONS
from fer_stream.recognition.classifier import Classifier
from fer_stream.recognition.preprocessing import face_square, network_input
from fer_stream.recognition.weights import (
    BUILT_IN_WEIGHTS,
    Checkpoint,
    Head,
    load_checkpoint,
    save_checkpoint,
)


@pytest.fixture(scope="module")
def built_in() -> Checkpoint:
    """The checkpoint that comes with the program."""
    return load_checkpoint(BUILT_IN_WEIGHTS)


@pytest.fixture(scope="module")
def biased(built_in, tmp_path_factory) -> Path:
    """Weights whose FER2013 layer always sees sadness and whose FER+ layer always sees happiness."""
    folder = tmp_path_factory.mktemp("biased")

    def always(expression: int) -> np.ndarray:
        return np.where(np.arange(7) == expression, 9, 0).astype(np.float32)

    state_dict = {
        **built_in.state_dict,
        "classifier.weight": np.zeros((7, 1280), np.float32),
        "classifier.bias": always(EXPRESSIONS.index("sad")),
    }
    ferplus = Head(state_dict["classifier.weight"], always(EXPRESSIONS.index("happy")))
    ferplus = dataclasses.replace(ferplus, temperature=9.0, unsure_below=0.5)
    checkpoint = dataclasses.replace(
        built_in, state_dict=state_dict, ferplus=ferplus, temperature=1.0, unsure_below=0.25
    )
    save_checkpoint(folder / "both.pt", checkpoint)
    save_checkpoint(folder / "fer2013.pt", dataclasses.replace(checkpoint, ferplus=None))
    return folder


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    """A checkpoint of a network that was never trained."""
    import timm
    import torch

    from train.architectures import arrays_of

    torch.manual_seed(0)
    model = timm.create_model("efficientnet_b0", num_classes=7)
    return Checkpoint(
        arrays_of(model),
        INPUT,
        temperature=1.25,
        recipe="baseline",
        epoch=3,
        metrics={"validation_loss": 1.5},
    )


@pytest.fixture(scope="module")
def classifier(analyzer: Analyzer) -> Classifier:
    """The classifier of the built-in weights."""
    return analyzer._classifier


@pytest.fixture(scope="module")
def crops(classifier: Classifier, hopper_bgr: np.ndarray) -> np.ndarray:
    """Ten different cuts of one photograph, float32 (10, 3, size, size)."""
    boxes = [
        np.array([x, y, x + 180 + 9 * x, y + 200], np.float32) for x in (0, 40) for y in range(0, 250, 50)
    ]
    squares = [face_square(box, classifier.input.crop_scale) for box in boxes]
    return np.stack([network_input(hopper_bgr, square, classifier.input) for square in squares])
