"""Finding the faces of a recording, a few frames at a time."""

from __future__ import annotations

import numpy as np
import pytest

from fer_stream.analysis.finding import find_in_recording
from fer_stream.profiling import Profile
from fer_stream.types import Detections, Frame


class FindsNothing:
    """A detector that sees no face."""

    def scan(self, image_bgr: np.ndarray, known_xyxy: np.ndarray | None = None) -> Detections:
        return Detections.none()

    def search(self, image_bgr: np.ndarray, box_xyxy: np.ndarray) -> Detections:
        return Detections.none()

    def refine(self, image_bgr: np.ndarray, boxes_xyxy: np.ndarray) -> Detections:
        return Detections.none()


@pytest.mark.parametrize(("size_wh", "together"), [((1920, 1080), [12, 3]), ((3840, 2160), [2] * 7 + [1])])
def test_a_batch_is_as_large_as_asked_for_below_4k(size_wh: tuple[int, int], together: list[int]) -> None:
    bgr = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    frames = [Frame(bgr, index, index / 25) for index in range(15)]
    found = find_in_recording(frames, FindsNothing(), "auto", batch=12, enough_faces=100, profile=Profile())
    assert [len(batch) for batch in found] == together
