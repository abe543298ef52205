"""Fit a layer's temperature, and choose the threshold below which a face is "unsure".

The threshold is chosen on the even pictures of each class, in the order of their names. That leaves the odd
ones to check it on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fer_stream.expressions import EXPRESSIONS
from train.metrics import fit_temperature, log_softmax
from train.votes import majority

SHOWN_RIGHT = 0.9  # at least this share of the labels that are shown must be right
CONFIDENCE_Z = 1.645  # one-sided, 95 %
THRESHOLDS = np.arange(0, 100) / 100


@dataclass(frozen=True)
class Calibration:
    """The numbers that turn a layer's logits into percentages.

    Attributes:
        temperature: The logits are divided by it.
        unsure_below: A face whose best probability is below this is unsure.
    """

    temperature: float
    unsure_below: float


@dataclass(frozen=True)
class Shown:
    """The labels that are shown at a threshold, measured on faces that people voted on.

    Attributes:
        count: Number of faces, shown or not.
        shown: Share of the faces whose best probability reaches the threshold.
        right: Share of the shown faces whose label is the majority's. A face without a clear majority for
            one of the seven expressions counts as wrong.
    """

    count: int
    shown: float
    right: float


def calibrate(
    logits: np.ndarray, truth: np.ndarray, labels: np.ndarray, votes: np.ndarray | None
) -> Calibration:
    """Fit the temperature of a layer and choose its threshold.

    The threshold needs FER+ votes: a single annotator's label is too often wrong to tell which readings are
    right. Without votes it is 0.

    Args:
        logits: (N, 7).
        truth: int (N,), the class that the layer should answer; -1 where it is unknown.
        labels: int (N,), FER2013's labels.
        votes: float32 (N, 10) from `votes.read_votes`, or None.
    """
    known = truth >= 0
    temperature = fit_temperature(logits[known], truth[known])
    if votes is None:
        return Calibration(temperature, 0.0)
    half = alternate(labels) & (votes.max(axis=1) > 0)
    if not half.any():
        return Calibration(temperature, 0.0)
    probabilities = tempered(logits[half], temperature)
    return Calibration(temperature, choose_threshold(probabilities, majority(votes[half])))


def tempered(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Return the probabilities, float64 (N, 7), for logits divided by a temperature."""
    return np.exp(log_softmax(logits.astype(np.float64) / temperature))


def alternate(labels: np.ndarray) -> np.ndarray:
    """Return a mask of every second picture of each class, beginning with the first, bool (N,)."""
    first = np.zeros(len(labels), bool)
    for label in range(len(EXPRESSIONS)):
        first[np.flatnonzero(labels == label)[::2]] = True
    return first


def choose_threshold(probabilities: np.ndarray, majority_labels: np.ndarray) -> float:
    """Return the lowest threshold at which enough of the labels that are shown are right.

    The faces are a sample, and the threshold has to hold for other faces, too. So the lower end of the
    share's confidence interval has to reach `SHOWN_RIGHT`, not the share itself.

    Args:
        probabilities: (N, 7).
        majority_labels: int (N,) from `votes.majority`.

    Returns:
        A multiple of 0.01; 1 if no threshold is good enough.
    """
    confidence, is_right = probabilities.max(axis=1), probabilities.argmax(axis=1) == majority_labels
    for threshold in THRESHOLDS:
        shown = confidence >= threshold
        if shown.any() and lower_bound(int(is_right[shown].sum()), int(shown.sum())) >= SHOWN_RIGHT:
            return float(threshold)
    return 1.0


def lower_bound(hits: int, count: int) -> float:
    """Return the lower end of Wilson's score interval for a share, one-sided, at `CONFIDENCE_Z`.

    Source: Wilson, Probable Inference, the Law of Succession, and Statistical Inference, 1927.
    """
    share, z2 = hits / count, CONFIDENCE_Z**2
    spread = CONFIDENCE_Z * np.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    return float((share + z2 / (2 * count) - spread) / (1 + z2 / count))


def shown_at(threshold: float, probabilities: np.ndarray, majority_labels: np.ndarray) -> Shown:
    """Measure the labels that are shown at a threshold. `choose_threshold` explains the arguments."""
    shown = probabilities.max(axis=1) >= threshold
    right = (probabilities.argmax(axis=1) == majority_labels)[shown]
    return Shown(len(majority_labels), float(shown.mean()), float(right.mean()) if len(right) else 1.0)
