"""Boxes: overlap, suppression, squares and borders."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_stream.detection.geometry import (
    areas,
    clipped,
    iou_matrix,
    non_maximum_suppression,
    overlap_of_smaller,
    squared,
    suppress_nested,
)

NO_BOXES = np.zeros((0, 4), np.float32)


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


@st.composite
def scored_boxes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    number = st.integers(-50, 150)
    rows = draw(st.lists(st.tuples(number, number, st.integers(1, 80), st.integers(1, 80)), max_size=12))
    scores = draw(st.lists(st.integers(1, 1000), min_size=len(rows), max_size=len(rows)))
    return boxes(*((x, y, x + w, y + h) for x, y, w, h in rows)), np.array(scores, np.float32) / 1000


def test_overlap_of_known_boxes() -> None:
    a = boxes((0, 0, 10, 10))
    b = boxes((0, 0, 10, 10), (5, 0, 15, 10), (10, 0, 20, 10), (2, 2, 4, 4))
    np.testing.assert_allclose(iou_matrix(a, b), [[1, 1 / 3, 0, 0.04]], rtol=1e-6)
    np.testing.assert_allclose(overlap_of_smaller(a, b), [[1, 0.5, 0, 1]], rtol=1e-6)


def test_empty_and_flat_boxes_overlap_nothing() -> None:
    assert iou_matrix(NO_BOXES, boxes((0, 0, 1, 1))).shape == (0, 1)
    flat = boxes((3, 3, 3, 9), (5, 5, 4, 4))
    assert areas(flat).tolist() == [0, 0]
    assert not iou_matrix(flat, flat).any()
    assert not overlap_of_smaller(flat, boxes((0, 0, 10, 10))).any()


@settings(max_examples=50, deadline=None)
@given(scored_boxes())
def test_suppression_keeps_the_best_of_those_that_overlap(case: tuple[np.ndarray, np.ndarray]) -> None:
    found, scores = case
    kept = non_maximum_suppression(found, scores, 0.5)
    assert (np.diff(scores[kept]) <= 0).all()
    overlap = iou_matrix(found, found)
    for position, index in enumerate(kept):
        assert (overlap[index, kept[:position]] <= 0.5 + 1e-5).all()
    for index in set(range(len(found))) - set(kept.tolist()):
        better = [other for other in kept if scores[other] >= scores[index]]
        assert (overlap[index, better] > 0.5 - 1e-5).any()


@settings(max_examples=50, deadline=None)
@given(scored_boxes())
def test_no_kept_box_lies_mostly_within_another(case: tuple[np.ndarray, np.ndarray]) -> None:
    found, scores = case
    kept = suppress_nested(found, scores, 0.7)
    overlap = overlap_of_smaller(found[kept], found[kept])
    np.fill_diagonal(overlap, 0)
    assert (overlap <= 0.7).all()
    assert len(kept) == 0 or scores[kept[0]] == scores.max()


def test_only_nested_suppression_removes_a_small_box_in_a_large_one() -> None:
    found, scores = boxes((0, 0, 100, 100), (10, 10, 40, 40)), np.array([0.9, 0.8], np.float32)
    assert non_maximum_suppression(found, scores, 0.5).tolist() == [0, 1]
    assert suppress_nested(found, scores, 0.7).tolist() == [0]


@pytest.mark.parametrize("suppress", [non_maximum_suppression, suppress_nested])
def test_suppressing_no_boxes_keeps_none(suppress: object) -> None:
    kept = suppress(NO_BOXES, np.zeros(0, np.float32), 0.5)  # type: ignore[operator]
    assert kept.shape == (0,)
    assert NO_BOXES[kept].shape == (0, 4)


def test_squares_keep_the_centre_and_take_the_longer_side() -> None:
    np.testing.assert_allclose(squared(boxes((10, 20, 30, 60))), [[0, 20, 40, 60]])
    np.testing.assert_allclose(squared(boxes((10, 20, 30, 60)), 1.5), [[-10, 10, 50, 70]])


@settings(max_examples=50, deadline=None)
@given(scored_boxes(), st.tuples(st.integers(1, 100), st.integers(1, 100)))
def test_clipped_boxes_lie_inside_and_are_not_empty(
    case: tuple[np.ndarray, np.ndarray], size_wh: tuple[int, int]
) -> None:
    given_boxes, before = case[0], case[0].copy()
    inside = clipped(given_boxes, size_wh)
    assert (inside[:, :2] >= 0).all()
    assert (inside[:, 2:] <= size_wh).all()
    assert (inside[:, 2:] - inside[:, :2] >= 1).all()
    np.testing.assert_array_equal(given_boxes, before)


def test_boxes_inside_stay_as_they_are() -> None:
    np.testing.assert_array_equal(clipped(boxes((0.5, 1, 9.25, 10)), (10, 10)), [[0.5, 1, 9.25, 10]])
