"""The temperature and the threshold of a layer."""

from __future__ import annotations

import numpy as np
import pytest

from train.calibration import alternate, calibrate, choose_threshold, lower_bound, shown_at
from train.votes import VOTED


def test_every_second_picture_of_each_class_is_in_the_first_half():
    first = alternate(np.array([0, 0, 0, 1, 1, 2]))
    assert first.tolist() == [True, False, True, True, False, True]


def test_the_threshold_keeps_nine_labels_in_ten_right():
    random = np.random.default_rng(0)
    confidence = random.uniform(0.2, 1.0, 20_000)
    probabilities = np.full((20_000, 7), 0.0)
    probabilities[:, 0], probabilities[:, 1] = confidence, 1 - confidence
    probabilities = np.where(confidence[:, None] > 0.5, probabilities, probabilities[:, ::-1])
    best = probabilities.argmax(axis=1)
    is_right = random.uniform(size=20_000) < probabilities.max(axis=1)
    seen = np.where(is_right, best, -1)  # a tie or contempt is never right
    threshold = choose_threshold(probabilities, seen)
    # A face is right as often as its probability says: from t on (1 + t) / 2 of the faces are.
    assert threshold == pytest.approx(0.81, abs=0.02)
    assert shown_at(threshold, probabilities, seen).right > 0.9
    assert shown_at(0.0, probabilities, seen).shown == 1.0
    assert choose_threshold(probabilities, np.full(20_000, -1)) == 1.0
    assert lower_bound(90, 100) < lower_bound(900, 1000) < 0.9 < lower_bound(920, 1000)


def test_a_threshold_needs_votes():
    labels = np.array([0, 0, 6, 6] * 50)
    logits = 4.0 * np.eye(7)[labels]
    votes = np.zeros((200, len(VOTED)), np.float32)
    assert calibrate(logits, labels, labels, None).unsure_below == 0
    assert calibrate(logits, labels, labels, votes).unsure_below == 0
    votes[:, VOTED.index("contempt")] = 1.0  # no label is right
    assert calibrate(logits, labels, labels, votes).unsure_below == 1
