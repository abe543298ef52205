"""The types that stages exchange refuse what can't be right."""

from __future__ import annotations

import numpy as np
import pytest

from fer_stream.types import AnalyzedFrame, Face, Frame

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
