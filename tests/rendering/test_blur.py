"""`--blur`: no face is left in what comes out, and nothing else is changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import pytest

from fer_stream.detection.detector import O_NET_THRESHOLD
from fer_stream.errors import SourceError
from fer_stream.rendering.blur import HOLD_S, LOOK_AHEAD_S, MARGIN, hide, hide_faces
from fer_stream.types import AnalyzedFrame, Face, Frame

BOX = np.array([60, 40, 100, 90], np.float32)
FRAME_S = 0.04


def face(face_id: int = 1, box: np.ndarray = BOX) -> Face:
    return Face(face_id, box, np.zeros((5, 2), np.float32), 0.9, np.full(7, 1 / 7, np.float32))


def noise(index: int = 0) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, (160, 200, 3), np.uint8)


def frames(present: Iterable[bool]) -> list[AnalyzedFrame]:
    return [
        AnalyzedFrame(Frame(noise(index), index, index * FRAME_S), (face(),) if there else ())
        for index, there in enumerate(present)
    ]


def hidden(before: AnalyzedFrame, after: AnalyzedFrame) -> bool:
    """Whether the face's place has lost its detail."""
    left, top, right, bottom = BOX.astype(int)
    place = after.frame.bgr[top:bottom, left:right]
    if (place == before.frame.bgr[top:bottom, left:right]).all():
        return False
    assert place.astype(float).std() < 0.25 * before.frame.bgr.std(), "half hidden"
    return True


def test_a_hidden_face_is_found_by_no_detector_and_the_rest_is_untouched(detector, hopper_bgr):
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
    [(-20, -30, 25, 20), (180, 140, 240, 200), (50, 50, 51, 51), (300, 300, 340, 340), (0, 0, 200, 160)],
)
def test_a_face_at_the_border_or_of_any_size_is_hidden(box):
    picture = noise()
    hide(picture, np.array(box, np.float32))
    left, top, right, bottom = np.clip(box, 0, (200, 160, 200, 160))
    if right > left and bottom > top:
        assert (picture[top:bottom, left:right] != noise()[top:bottom, left:right]).any(2).mean() > 0.95


def test_a_face_that_is_lost_for_a_moment_stays_hidden():
    lost_after = 5
    given = frames([True] * lost_after + [False] * 40)
    shown = list(hide_faces(given, "camera"))
    until_s = (lost_after - 1) * FRAME_S + HOLD_S
    for before, after in zip(given, shown, strict=True):
        assert hidden(before, after) == (after.frame.time_s <= until_s + 1e-9), after.frame.time_s
        assert after.faces == before.faces and after.frame.index == before.frame.index


def test_a_recording_is_hidden_before_the_face_is_first_found():
    first = 20
    given = frames([False] * first + [True] * 5)
    shown = list(hide_faces(given, "video"))
    early = [hidden(*pair) for pair in zip(given, shown, strict=True)].index(True)
    assert (first - early) * FRAME_S == pytest.approx(LOOK_AHEAD_S, abs=FRAME_S)
    assert all(hidden(*pair) for pair in zip(given[early:], shown[early:], strict=True))
    live = list(hide_faces(given, "camera"))
    assert [hidden(*pair) for pair in zip(given, live, strict=True)] == [
        index >= first for index in range(first + 5)
    ]


def test_what_is_live_does_not_wait():
    taken = 0

    def source() -> Iterator[AnalyzedFrame]:
        nonlocal taken
        for frame in frames([True] * 10):
            taken += 1
            yield frame

    for index, _ in enumerate(hide_faces(source(), "camera")):
        assert taken == index + 1


def test_the_frames_themselves_stay_and_pictures_do_not_influence_each_other():
    given = frames([True, False, False])
    kept = [frame.frame.bgr.copy() for frame in given]
    shown = list(hide_faces(given, "images"))
    assert [hidden(*pair) for pair in zip(given, shown, strict=True)] == [True, False, False]
    assert all((frame.frame.bgr == bgr).all() for frame, bgr in zip(given, kept, strict=True))


def test_what_came_before_an_error_comes_out_hidden():
    def source() -> Iterator[AnalyzedFrame]:
        yield from frames([True] * 4)
        raise SourceError("cable pulled")

    came = []
    with pytest.raises(SourceError, match="cable pulled"):
        for after in hide_faces(source(), "video"):
            came.append(after)  # noqa: PERF402  what came before the error counts
    assert len(came) == 4
    assert all(hidden(*pair) for pair in zip(frames([True] * 4), came, strict=True))
