"""Faces in a batch, read one by one or together, give the same probabilities."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from fer_stream.errors import WeightsError
from fer_stream.recognition import classifier as classifier_module
from fer_stream.recognition.classifier import Classifier, softmax


def test_a_batch_gives_what_single_faces_give(classifier: Classifier, crops: np.ndarray) -> None:
    together = classifier.read(crops)
    single = np.concatenate([classifier.read(crop[None]) for crop in crops])
    assert together.shape == (10, 7)
    assert together.dtype == np.float32
    np.testing.assert_allclose(together, single, atol=1e-5)
    np.testing.assert_allclose(together.sum(axis=1), 1, atol=1e-6)
    assert len(np.unique(together.round(4), axis=0)) == 10


def test_a_crowd_goes_through_in_parts(
    classifier: Classifier, crops: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, network, sizes = classifier.read(crops), classifier._network, []

    def watched(batch: np.ndarray) -> tuple[np.ndarray, ...]:
        sizes.append(len(batch))
        return network(batch)

    monkeypatch.setattr(classifier_module, "MAX_BATCH", 4)
    monkeypatch.setattr(classifier, "_network", watched)
    np.testing.assert_allclose(classifier.read(crops), whole, atol=1e-5)
    assert sizes == [4, 4, 2]


def test_no_face_gives_no_row(classifier: Classifier) -> None:
    size = classifier.input.size
    assert classifier.read(np.zeros((0, 3, size, size), np.float32)).shape == (0, 7)


def test_the_temperature_of_the_weights_is_applied(
    classifier: Classifier, crops: np.ndarray, tmp_path: Path
) -> None:
    from fer_stream.recognition.weights import BUILT_IN_WEIGHTS, load_checkpoint, save_checkpoint

    checkpoint = load_checkpoint(BUILT_IN_WEIGHTS)
    softer = tmp_path / "softer.pt"
    head = checkpoint.head("ferplus")
    head = dataclasses.replace(head, temperature=3 * head.temperature)
    save_checkpoint(softer, dataclasses.replace(checkpoint, ferplus=head))
    logs = np.log(classifier.read(crops))
    softer_logs = np.log(Classifier(weights=softer).read(crops))
    np.testing.assert_allclose(
        softer_logs - softer_logs.mean(axis=1, keepdims=True),
        (logs - logs.mean(axis=1, keepdims=True)) / 3,
        atol=1e-3,
    )


def test_foreign_weights_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "weights.pt"
    text.write_text("not weights")
    with pytest.raises(WeightsError, match=r"weights\.pt"):
        Classifier(weights=text)


def test_softmax_of_large_and_equal_logits() -> None:
    given = softmax(np.array([[1000.0, 0, -1000], [2, 2, 2]], np.float32))
    np.testing.assert_allclose(given, [[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]], atol=1e-6)
    assert given.dtype == np.float32


def test_weights_whose_output_is_not_finite_are_an_error(tmp_path) -> None:
    from dataclasses import replace as replaced

    from fer_stream.recognition.weights import BUILT_IN_WEIGHTS, load_checkpoint, save_checkpoint

    built_in = load_checkpoint(BUILT_IN_WEIGHTS)
    head = replaced(built_in.ferplus, bias=np.array([3e38, 0, 0, 0, 0, 0, 0], np.float32), temperature=0.01)
    save_checkpoint(tmp_path / "huge.pt", replaced(built_in, ferplus=head))
    classifier = Classifier("cpu", weights=tmp_path / "huge.pt", labels="ferplus")
    side = classifier.input.size
    with pytest.raises(WeightsError, match="not numbers"):
        classifier.read(np.zeros((1, 3, side, side), np.float32))
