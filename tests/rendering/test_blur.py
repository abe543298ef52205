"""`--blur`: the output shows no face, and nothing else changes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fer_stream.detection.detector import O_NET_THRESHOLD
from fer_stream.rendering.blur import MARGIN, hide, hide_faces
from fer_stream.types import AnalyzedFrame, Face, Frame

BOX = np.array([60, 40, 100, 90], np.float32)


def face(face_id: int = 1, box: np.ndarray = BOX) -> Face:
    return Face(face_id, box, np.zeros((5, 2), np.float32), 0.9, np.full(7, 1 / 7, np.float32))


def noise(index: int = 0) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, (160, 200, 3), np.uint8)


def hidden(before: AnalyzedFrame, after: AnalyzedFrame, box: np.ndarray) -> bool:
    """Return whether a place has lost its detail."""
    left, top, right, bottom = box.astype(int)
    place = after.frame.bgr[top:bottom, left:right]
    return place.size > 0 and place.astype(float).std() < 0.25 * before.frame.bgr.std()


def test_no_detector_finds_a_hidden_face_and_the_rest_is_untouched(detector, hopper_bgr):
    (box,) = detector.scan(hopper_bgr).boxes_xyxy
    picture = hopper_bgr.copy()
    hide(picture, box)
    assert len(detector.scan(picture)) == 0
    assert detector.refine(picture, box[None]).scores[0] < O_NET_THRESHOLD / 2

    changed = (picture != hopper_bgr).any(2)
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    center_xy, half_wh = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * MARGIN
    assert columns[0] >= center_xy[0] - half_wh[0] - 1 and columns[-1] <= center_xy[0] + half_wh[0] + 1
    assert rows[0] >= center_xy[1] - half_wh[1] - 1 and rows[-1] <= center_xy[1] + half_wh[1] + 1

    left, top, right, bottom = np.ceil(box).astype(int)
    inside = slice(top, bottom - 1), slice(left, right - 1)
    detail = [cv2.Laplacian(image, cv2.CV_64F)[inside].var() for image in (hopper_bgr, picture)]
    assert detail[1] < 0.005 * detail[0], "fine detail within the face's box"


@pytest.mark.parametrize(
    "box",
    [(-20, -30, 25, 20), (180, 140, 240, 200), (50, 50, 51, 51), (0, 0, 200, 160)],
)
def test_a_face_at_the_border_or_of_any_size_is_hidden(box):
    picture = noise()
    hide(picture, np.array(box, np.float32))
    left, top, right, bottom = np.clip(box, 0, (200, 160, 200, 160))
    assert right > left and bottom > top
    assert (picture[top:bottom, left:right] != noise()[top:bottom, left:right]).any(2).mean() > 0.95


def test_a_face_outside_the_picture_changes_nothing():
    picture = noise()
    hide(picture, np.array((300, 300, 340, 340), np.float32))
    assert (picture == noise()).all()


def test_faces_and_possible_faces_are_hidden_in_a_copy_of_the_frame():
    possible = BOX + np.array([80, 60, 80, 60], np.float32)
    given = AnalyzedFrame(Frame(noise(), 0, 0.0), (face(),), possible[None])
    kept = given.frame.bgr.copy()
    shown = hide_faces(given)
    assert hidden(given, shown, BOX) and hidden(given, shown, possible)
    assert (given.frame.bgr == kept).all()
    assert (shown.frame.bgr[:20] == kept[:20]).all()
    assert shown.faces == given.faces and shown.frame.index == 0


def test_a_frame_without_faces_is_returned_as_it_is():
    given = AnalyzedFrame(Frame(noise(), 0, 0.0), ())
    assert hide_faces(given) is given
