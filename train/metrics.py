"""Measure a classifier from its logits and the labels. Needs NumPy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fer_stream.expressions import EXPRESSIONS

ECE_BINS = 15
RELIABILITY_BINS = 10


@dataclass(frozen=True)
class Bin:
    """The readings whose confidence lies in one range.

    Attributes:
        low: Start of the range, 0 to 1.
        high: End of the range (exclusive, except for 1).
        count: Number of readings.
        accuracy: Share of the readings that are right; None without readings.
    """

    low: float
    high: float
    count: int
    accuracy: float | None


@dataclass(frozen=True, eq=False)
class Report:
    """The figures of a network on a set of labelled pictures.

    Attributes:
        count: Number of pictures.
        loss: Mean cross-entropy, in nats, of the logits after division by the temperature.
        accuracy: Share of pictures whose most probable class is the label.
        macro_f1: F1 averaged over the classes that occur in the labels.
        recall: For each class, the share of its pictures that were found; NaN for a class without pictures.
        ece: Expected calibration error over 15 equal bins of confidence (Guo et al., 2017).
        confusion: int64 (7, 7), with a row for each label and a column for each prediction.
    """

    count: int
    loss: float
    accuracy: float
    macro_f1: float
    recall: np.ndarray
    ece: float
    confusion: np.ndarray

    def as_dict(self) -> dict[str, object]:
        """Return the report in types that JSON can hold."""
        return {
            "count": self.count,
            "loss": self.loss,
            "accuracy": self.accuracy,
            "macro_f1": self.macro_f1,
            "recall": {
                name: None if np.isnan(value) else float(value)
                for name, value in zip(EXPRESSIONS, self.recall, strict=True)
            },
            "ece": self.ece,
            "confusion_matrix": self.confusion.tolist(),
            "classes": list(EXPRESSIONS),
        }


def checkpoint_metrics(fer2013: Report, ferplus: Report | None) -> dict[str, float]:
    """Return the `metrics` of a checkpoint.

    Args:
        fer2013: The FER2013 layer's figures on the validation split.
        ferplus: The FER+ layer's figures on the validation split; None without such a layer.
    """
    names = ("count", "accuracy", "macro_f1", "loss", "ece")
    metrics = {f"validation_{name}": float(getattr(fer2013, name)) for name in names}
    if ferplus is not None:
        metrics |= {f"validation_ferplus_{name}": float(getattr(ferplus, name)) for name in names}
    return metrics


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return the logarithm of the softmax over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean negative log-likelihood of the labels, in nats."""
    return float(-log_softmax(logits)[np.arange(len(labels)), labels].mean())


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean gap between confidence and accuracy over equal bins of confidence.

    Source: Guo et al., On Calibration of Modern Neural Networks, 2017.
    """
    confidence = np.nan_to_num(probabilities.max(axis=1))  # the loss shows that the network diverged
    correct = probabilities.argmax(axis=1) == labels
    bins = np.clip(np.ceil(confidence * ECE_BINS).astype(int) - 1, 0, ECE_BINS - 1)
    gaps = np.bincount(bins, weights=correct - confidence, minlength=ECE_BINS)
    return float(np.abs(gaps).sum() / len(labels))


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> tuple[Bin, ...]:
    """Return the accuracy at each confidence, up to 0.2 and then in steps of 0.1.

    Args:
        probabilities: (N, 7).
        labels: int (N,); a negative one is never right.
    """
    confidence, is_right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    steps = np.clip((confidence * RELIABILITY_BINS).astype(int), 0, RELIABILITY_BINS - 1)
    bins = []
    # The best of seven probabilities is at least 0.14 and seldom below 0.2, so the first range is wider.
    for step in range(1, RELIABILITY_BINS):
        chosen = steps <= 1 if step == 1 else steps == step
        count = int(chosen.sum())
        low = 0.0 if step == 1 else step / RELIABILITY_BINS
        accuracy = float(is_right[chosen].mean()) if count else None
        bins.append(Bin(low, (step + 1) / RELIABILITY_BINS, count, accuracy))
    return tuple(bins)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature with the lowest cross-entropy, found by golden-section search.

    As a function of the temperature's logarithm, the cross-entropy has a single minimum.

    Source: Guo et al., On Calibration of Modern Neural Networks, 2017.
    """
    low, high = np.log(0.05), np.log(20.0)
    golden = (np.sqrt(5) - 1) / 2
    for _ in range(60):
        left, right = high - golden * (high - low), low + golden * (high - low)
        if cross_entropy(logits / np.exp(left), labels) < cross_entropy(logits / np.exp(right), labels):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))


def report(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> Report:
    """Measure predictions.

    Args:
        logits: (N, 7).
        labels: int (N,).
        temperature: The logits are divided by it.
    """
    tempered = logits.astype(np.float64) / temperature
    predicted = tempered.argmax(axis=1)
    confusion = np.zeros((len(EXPRESSIONS), len(EXPRESSIONS)), np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    hits, actual, said = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    with np.errstate(invalid="ignore"):
        recall = np.where(actual > 0, hits / actual, np.nan)
        f1 = np.where(actual > 0, 2 * hits / (actual + said), np.nan)
    return Report(
        count=len(labels),
        loss=cross_entropy(tempered, labels),
        accuracy=float((predicted == labels).mean()),
        macro_f1=float(np.nanmean(f1)),
        recall=recall,
        ece=expected_calibration_error(np.exp(log_softmax(tempered)), labels),
        confusion=confusion,
    )
