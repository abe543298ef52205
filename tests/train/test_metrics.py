"""The figures of a classifier, on cases that are small enough to calculate by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from fer_stream.expressions import EXPRESSIONS
from train.metrics import (
    checkpoint_metrics,
    cross_entropy,
    expected_calibration_error,
    fit_temperature,
    reliability,
    report,
)

ANGRY, DISGUST, FEAR, HAPPY = range(4)


def logits_saying(predicted, margin: float = 5.0) -> np.ndarray:
    logits = np.zeros((len(predicted), len(EXPRESSIONS)))
    logits[np.arange(len(predicted)), predicted] = margin
    return logits


def test_accuracy_f1_recall_and_confusion_of_five_pictures():
    labels = np.array([ANGRY, ANGRY, ANGRY, FEAR, HAPPY])
    measured = report(logits_saying([ANGRY, ANGRY, FEAR, FEAR, ANGRY]), labels)
    assert measured.count == 5
    assert measured.accuracy == pytest.approx(3 / 5)
    assert measured.recall[[ANGRY, FEAR, HAPPY]] == pytest.approx([2 / 3, 1, 0])
    assert np.isnan(measured.recall[DISGUST])
    # F1: angry 2*2/(3+3), fear 2*1/(1+2), happy 0; classes without pictures do not count.
    assert measured.macro_f1 == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert measured.confusion[ANGRY].tolist() == [2, 0, 1, 0, 0, 0, 0]
    assert measured.confusion[HAPPY, ANGRY] == 1
    assert measured.confusion.sum() == 5


def test_a_class_without_pictures_is_null_in_json():
    content = json.loads(json.dumps(report(logits_saying([ANGRY]), np.array([ANGRY])).as_dict()))
    assert content["recall"]["angry"] == 1.0
    assert content["recall"]["happy"] is None
    assert content["classes"] == list(EXPRESSIONS)


def test_a_checkpoint_names_the_figures_of_both_layers():
    fer2013, ferplus = report(logits_saying([ANGRY]), np.array([ANGRY])), report(np.eye(7), np.arange(7))
    metrics = checkpoint_metrics(fer2013, ferplus)
    assert (metrics["validation_count"], metrics["validation_ferplus_count"]) == (1, 7)
    names = [f"validation_{name}" for name in ("count", "accuracy", "macro_f1", "loss", "ece")]
    assert list(checkpoint_metrics(fer2013, None)) == names
    assert {name.replace("_ferplus", "") for name in metrics} == set(names) and len(metrics) == 10


def test_cross_entropy_of_no_knowledge_is_the_logarithm_of_seven():
    assert cross_entropy(np.zeros((3, 7)), np.array([0, 3, 6])) == pytest.approx(math.log(7))
    assert cross_entropy(np.full((1, 7), 1e4), np.array([2])) == pytest.approx(math.log(7))


def test_calibration_error_is_the_mean_gap_of_the_bins():
    # Two sure at 0.9, one of them wrong: gap |0.5 - 0.9|. Two at 0.5, both right: gap |1 - 0.5|.
    probabilities = np.zeros((4, 7))
    probabilities[:2, ANGRY], probabilities[:2, FEAR] = 0.9, 0.1
    probabilities[2:, HAPPY], probabilities[2:, 4:] = 0.5, 0.5 / 3
    labels = np.array([ANGRY, FEAR, HAPPY, HAPPY])
    assert expected_calibration_error(probabilities, labels) == pytest.approx(0.5 * 0.4 + 0.5 * 0.5)


def test_reliability_is_the_accuracy_in_each_tenth_of_confidence():
    probabilities = np.zeros((5, 7))
    probabilities[0] = [0.16, *[0.14] * 6]
    probabilities[1:, ANGRY], probabilities[1:, FEAR] = [0.75, 0.75, 1.0, 0.9], [0.25, 0.25, 0.0, 0.1]
    bins = reliability(probabilities, np.array([ANGRY, ANGRY, -1, ANGRY, FEAR]))
    assert [each.low for each in bins] == [0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert [each.high for each in bins] == [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert [each.count for each in bins] == [1, 0, 0, 0, 0, 0, 2, 0, 2]
    assert [each.accuracy for each in bins if each.count] == [1.0, 0.5, 0.5]
    assert bins[1].accuracy is None


def test_a_classifier_that_is_as_sure_as_it_is_right_has_no_calibration_error():
    probabilities = np.full((4, 7), 0.25 / 6)
    probabilities[:, ANGRY] = 0.75
    assert expected_calibration_error(probabilities, np.array([0, 0, 0, 1])) == pytest.approx(0, abs=1e-9)


def test_the_temperature_undoes_a_scaling_of_the_logits():
    random = np.random.default_rng(0)
    honest = random.normal(0, 2, (4000, 7))
    probabilities = np.exp(honest) / np.exp(honest).sum(axis=1, keepdims=True)
    labels = (probabilities.cumsum(axis=1) > random.random((4000, 1))).argmax(axis=1)
    assert fit_temperature(honest, labels) == pytest.approx(1.0, abs=0.06)
    assert fit_temperature(3 * honest, labels) == pytest.approx(3 * fit_temperature(honest, labels), rel=1e-3)


def test_three_of_four_right_asks_for_a_confidence_of_three_quarters():
    logits = logits_saying([ANGRY] * 4, margin=10.0)
    temperature = fit_temperature(logits, np.array([ANGRY, ANGRY, ANGRY, FEAR]))
    # softmax(10 / t) over one against six is 0.75 where exp(10 / t) = 18.
    assert temperature == pytest.approx(10 / math.log(18), rel=1e-4)


def test_the_temperature_changes_loss_and_calibration_but_no_prediction():
    logits, labels = logits_saying([ANGRY] * 4, margin=10.0), np.array([ANGRY, ANGRY, ANGRY, FEAR])
    before, after = report(logits, labels), report(logits, labels, fit_temperature(logits, labels))
    assert after.ece == pytest.approx(0, abs=1e-3) and before.ece == pytest.approx(0.25, abs=1e-2)
    assert after.loss < before.loss
    assert after.accuracy == before.accuracy and (after.confusion == before.confusion).all()
