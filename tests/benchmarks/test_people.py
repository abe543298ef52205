"""The comparison of shown faces with labelled people follows the definitions of the measures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from people import LABELS_OF_VIDEOS, Boxes, People, PeopleScore, read_people, read_table, score_people

LEFT, RIGHT, FAR = (np.array([x, 0, x + 100, 100], np.float32) for x in (0, 200, 600))
FRAMES = range(10)


def everyone(left: int, right: int, frames: range = FRAMES) -> dict[int, dict[int, np.ndarray]]:
    """Return two faces in each of these frames, with their ids or people."""
    return {frame: {left: LEFT, right: RIGHT} for frame in frames}


def score(shown: Boxes, ignored: Boxes | None = None) -> PeopleScore:
    return score_people(People(everyone(1, 2), ignored or {}), shown)


def test_every_face_under_one_id_is_perfect() -> None:
    assert score(everyone(7, 3)) == PeopleScore(
        people=2, faces=20, shown=20, found=20, precision=1, recall=1, idf1=1,
        ids=2, switches=0, shared_ids=0, false_ids=0, longest_false=0,
    )  # fmt: skip


def test_ids_that_swap_cost_idf1_and_are_counted() -> None:
    swapped = score(everyone(7, 3, range(5)) | everyone(3, 7, range(5, 10)))
    assert (swapped.precision, swapped.recall) == (1, 1)
    assert swapped.idf1 == pytest.approx(0.5)
    assert (swapped.switches, swapped.shared_ids) == (2, 2)


def test_a_new_id_after_a_gap_is_one_switch() -> None:
    returned = score(everyone(1, 2, range(4)) | everyone(1, 5, range(6, 10)))
    assert returned.recall == pytest.approx(0.8)
    assert returned.idf1 == pytest.approx(2 * 12 / (20 + 16))  # eight frames as 1, four as 2 or 5
    assert (returned.ids, returned.switches, returned.shared_ids) == (3, 1, 0)


def test_a_false_face_costs_precision_and_lasts_as_long_as_it_is_shown() -> None:
    shown = everyone(1, 2)
    for frame in (2, 5, 6, 7):
        shown[frame][9] = FAR
    false = score(shown)
    assert (false.precision, false.recall) == (pytest.approx(20 / 24), 1)
    assert (false.false_ids, false.longest_false) == (1, 3)


def test_an_ignored_face_counts_neither_way() -> None:
    shown = everyone(1, 2)
    for frame in FRAMES:
        shown[frame][9] = FAR
    ignored = {frame: {3: FAR + 20} for frame in FRAMES}
    found, missed = score(shown, ignored), score(everyone(1, 2), ignored)
    assert (found.precision, found.recall, found.idf1, found.false_ids) == (1, 1, 1, 0)
    assert (missed.precision, missed.recall, missed.idf1) == (1, 1, 1)
    assert (found.ids, missed.ids) == (3, 2)


def test_a_box_on_hair_beside_a_sliver_of_face_is_false() -> None:
    shown = everyone(1, 2)
    shown[0][9] = FAR
    sliver = np.array([680, 10, 705, 90], np.float32)
    assert score(shown, {0: {3: sliver}}).longest_false == 1


def test_a_table_is_read_with_its_empty_frames(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("frame,face_id,x1,y1,x2,y2\n0,4,1.5,2,3,4\n1,,,,,\n2,4,5,6,7,8\n")
    shown = read_table(path)
    assert list(shown) == [0, 2]
    assert shown[0][4].tolist() == [1.5, 2, 3, 4]


@pytest.mark.parametrize(("video", "people", "faces"), [("street-1080p", 9, 543), ("two-faces-720p", 2, 396)])
def test_the_labelled_people_are_complete(video: str, people: int, faces: int) -> None:
    labelled = read_people(LABELS_OF_VIDEOS[video])
    perfect = score_people(labelled, labelled.faces)
    assert (perfect.people, perfect.faces, perfect.idf1) == (people, faces, 1)
    sides = [box[2:] - box[:2] for boxes in labelled.faces.values() for box in boxes.values()]
    assert min(side.max() for side in sides) >= 40
