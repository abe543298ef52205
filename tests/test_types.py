"""The types that stages exchange refuse what can't be right."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from fer_stream.types import AnalyzedFrame, Detections, Face, Frame

BOX, LANDMARKS = np.zeros(4, np.float32), np.zeros((5, 2), np.float32)
EVEN = np.full(7, 1 / 7, np.float32)


@pytest.mark.parametrize(
    "probabilities",
    [
        np.full(7, np.nan, np.float32),
        np.array([2, -1, 0, 0, 0, 0, 0], np.float32),
        np.full(7, 0.5, np.float32),
        np.full(6, 1 / 6, np.float32),
    ],
)
def test_probabilities_are_seven_numbers_from_0_that_sum_to_1(probabilities: np.ndarray) -> None:
    with pytest.raises(ValueError, match="probabilities"):
        Face(1, BOX, LANDMARKS, 0.9, probabilities)


@pytest.mark.parametrize(("box", "landmarks"), [(np.zeros(5), LANDMARKS), (BOX, np.zeros((4, 2)))])
def test_a_face_has_one_box_and_five_landmarks(box: np.ndarray, landmarks: np.ndarray) -> None:
    with pytest.raises(ValueError, match="landmarks"):
        Face(1, box, landmarks, 0.9, EVEN)


def test_the_faces_of_a_frame_can_not_be_changed() -> None:
    faces = [Face(1, BOX, LANDMARKS, 0.9, EVEN)]
    analyzed = AnalyzedFrame(Frame(np.zeros((2, 2, 3), np.uint8), 0, 0.0), faces)  # type: ignore[arg-type]
    faces.clear()
    assert len(analyzed.faces) == 1


PICTURE = np.zeros((2, 2, 3), np.uint8)


@pytest.mark.parametrize("time_s", [float("nan"), float("inf"), -0.1])
def test_the_time_of_a_frame_is_a_finite_number_from_0(time_s: float) -> None:
    with pytest.raises(ValueError, match="time_s is a finite number of seconds from 0, not"):
        Frame(PICTURE, 0, time_s)


def test_a_frame_was_captured_at_a_finite_time() -> None:
    with pytest.raises(ValueError, match="captured_s is a finite number of seconds, not nan"):
        Frame(PICTURE, 0, 0.0, captured_s=float("nan"))


@pytest.mark.parametrize("index", [-1, 1.5, float("nan")])
def test_the_index_of_a_frame_is_a_whole_number_from_0(index: float) -> None:
    with pytest.raises(ValueError, match="index is a whole number from 0, not"):
        Frame(PICTURE, index, 0.0)  # type: ignore[arg-type]


def test_numbers_of_numpy_are_an_index_and_a_time() -> None:
    frame = Frame(PICTURE, np.int64(3), np.float32(0.5))  # type: ignore[arg-type]
    face = Face(np.int64(2), BOX, LANDMARKS, 0.9, EVEN)  # type: ignore[arg-type]
    assert json.dumps([frame.index, frame.time_s, face.id]) == "[3, 0.5, 2]"


def test_the_id_of_a_face_is_a_whole_number() -> None:
    with pytest.raises(TypeError):
        Face(1.7, BOX, LANDMARKS, 0.9, EVEN)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((0, 0, 3), np.uint8), "at least one pixel"),
        (np.zeros((100, 0, 3), np.uint8), "at least one pixel"),
        ([[[1, 2, 3]]], "a NumPy array, not list"),
    ],
)
def test_an_empty_picture_or_another_object_is_no_frame(picture: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Frame(picture, 0, 0.0)


@pytest.mark.parametrize("wrong", ["boxes_xyxy", "scores", "landmarks_xy"])
@pytest.mark.parametrize("dtype", [np.float64, np.int32, object])
def test_detections_are_float32(wrong: str, dtype: type) -> None:
    arrays = {
        "boxes_xyxy": np.zeros((2, 4), np.float32),
        "scores": np.zeros(2, np.float32),
        "landmarks_xy": np.zeros((2, 5, 2), np.float32),
    }
    Detections(**arrays)
    arrays[wrong] = arrays[wrong].astype(dtype)
    with pytest.raises(ValueError, match=f"detections are float32, not .*{np.dtype(dtype)}"):
        Detections(**arrays)
