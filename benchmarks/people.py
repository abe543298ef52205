"""Compare the faces of a table with people labelled by hand: precision, recall, IDF1 and ids.

    fer-stream VIDEO --data TABLE.csv
    python benchmarks/people.py LABELS.csv TABLE.csv

`tests/data/README.md` says how the people of two videos were labelled. A shown face and a labelled one are
the same if their boxes have an IoU of at least 0.5. Labelled faces marked `ignore` count neither way.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from fer_stream.detection.geometry import areas, iou_matrix, overlap_of_smaller

LABELS_OF_VIDEOS = {
    "street-1080p": Path(__file__).parents[1] / "tests" / "data" / "street-people.csv",
    "two-faces-720p": Path(__file__).parents[1] / "tests" / "data" / "two-faces-people.csv",
}
SAME_IOU = 0.5
IGNORED_OVERLAP = 0.5  # of a shown box with an ignored face, over the smaller of the two

# By frame, then by id or person: a box, float32 (4,) px.
Boxes = Mapping[int, Mapping[int, np.ndarray]]


@dataclass(frozen=True, eq=False)
class People:
    """The labelled people of one video.

    Attributes:
        faces: The faces that have to be found.
        ignored: The faces that are too small, hidden or turned away to be required.
    """

    faces: Boxes
    ignored: Boxes


@dataclass(frozen=True)
class PeopleScore:
    """The result of comparing the shown faces of a video with its people.

    Attributes:
        people: People with at least one face that has to be found.
        faces: Labelled faces that have to be found, over all frames.
        shown: Shown faces, over all frames, without those on ignored ones.
        found: Labelled faces that are shown.
        precision: `found` over `shown`.
        recall: `found` over `faces`.
        idf1: Share of faces that are shown with the right id, where each person has one id. Source: Ristani
            et al., Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking, 2016.
        ids: All ids that are shown.
        switches: Number of times that a person has another id than when last found.
        shared_ids: Ids that were shown on more than one person.
        false_ids: Ids that were never shown on a labelled or an ignored face.
        longest_false: Frames of the longest false face: consecutive frames in which one id is on no face.
    """

    people: int
    faces: int
    shown: int
    found: int
    precision: float
    recall: float
    idf1: float
    ids: int
    switches: int
    shared_ids: int
    false_ids: int
    longest_false: int


def read_people(path: Path) -> People:
    """Read the labelled people of a video.

    Args:
        path: A file with the columns `frame, person, x1, y1, x2, y2, kind`.
    """
    by_kind: dict[str, dict[int, dict[int, np.ndarray]]] = {"face": {}, "ignore": {}}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            by_kind[row["kind"]].setdefault(int(row["frame"]), {})[int(row["person"])] = _box(row)
    return People(by_kind["face"], by_kind["ignore"])


def read_table(path: Path) -> Boxes:
    """Read the faces of a table that fer-stream has written as CSV."""
    shown: dict[int, dict[int, np.ndarray]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["face_id"]:
                shown.setdefault(int(row["frame"]), {})[int(row["face_id"])] = _box(row)
    return shown


def _box(row: Mapping[str, str]) -> np.ndarray:
    return np.array([float(row[name]) for name in ("x1", "y1", "x2", "y2")], np.float32)


def score_people(people: People, shown: Boxes) -> PeopleScore:
    """Compare the shown faces of a video with its people.

    Args:
        people: The labelled people.
        shown: The shown faces: by frame, then by id.
    """
    false_frames: dict[int, list[int]] = defaultdict(list)
    seen_on: dict[int, set[int]] = defaultdict(set)  # people, of each id
    last_id: dict[int, int] = {}  # of each person
    together: Counter[tuple[int, int]] = Counter()  # frames in which an id overlaps a person
    counted = found = switches = 0
    for frame in sorted(people.faces.keys() | people.ignored.keys() | shown.keys()):
        labelled, boxes = people.faces.get(frame, {}), shown.get(frame, {})
        matched = _matched(labelled, boxes)
        rest = {face_id: box for face_id, box in boxes.items() if face_id not in matched.values()}
        on_ignored = _on_ignored(people.ignored.get(frame, {}), rest)
        for face_id in rest.keys() - on_ignored.keys():
            false_frames[face_id].append(frame)
        for person, face_id in matched.items():
            switches += last_id.setdefault(person, face_id) != face_id
            last_id[person] = face_id
            seen_on[face_id].add(person)
        for face_id, person in on_ignored.items():
            seen_on[face_id].add(person)
        for face_id in boxes.keys() - on_ignored.keys():
            overlaps = iou_matrix(boxes[face_id][None], _stacked(labelled))[0]
            together.update((person, face_id) for person, iou in zip(labelled, overlaps, strict=True)
                            if iou >= SAME_IOU)  # fmt: skip
        found += len(matched)
        counted += len(boxes) - len(on_ignored)
    faces = sum(map(len, people.faces.values()))
    ids = {face_id for boxes in shown.values() for face_id in boxes}
    return PeopleScore(
        people=len({person for boxes in people.faces.values() for person in boxes}),
        faces=faces,
        shown=counted,
        found=found,
        precision=found / max(counted, 1),
        recall=found / max(faces, 1),
        idf1=2 * _rightly_named(together) / max(faces + counted, 1),
        ids=len(ids),
        switches=switches,
        shared_ids=sum(len(seen) > 1 for seen in seen_on.values()),
        false_ids=len(ids - seen_on.keys()),
        longest_false=max((_longest_run(frames) for frames in false_frames.values()), default=0),
    )


def _matched(labelled: Mapping[int, np.ndarray], shown: Mapping[int, np.ndarray]) -> dict[int, int]:
    """Return the shown id of each labelled person who is found, with the best overlaps in total."""
    overlaps = iou_matrix(_stacked(labelled), _stacked(shown))
    people, ids = list(labelled), list(shown)
    overlaps = np.where(overlaps >= SAME_IOU, overlaps, 0)
    rows, columns = linear_sum_assignment(overlaps, maximize=True)
    return {people[row]: ids[column] for row, column in zip(rows, columns, strict=True)
            if overlaps[row, column] > 0}  # fmt: skip


def _on_ignored(ignored: Mapping[int, np.ndarray], shown: Mapping[int, np.ndarray]) -> dict[int, int]:
    """Return the ids of shown faces that lie on ignored ones, each with its person."""
    people, ignored_xyxy = list(ignored), _stacked(ignored)
    on_ignored = {}
    for face_id, box in shown.items():
        overlaps = overlap_of_smaller(box[None], ignored_xyxy)[0]
        # A box on hair that also covers a sliver of a face that is turned away is not on the face.
        overlaps[areas(ignored_xyxy) < areas(box[None]) / 3] = 0
        if overlaps.max(initial=0) >= IGNORED_OVERLAP:
            on_ignored[face_id] = people[int(overlaps.argmax())]
    return on_ignored


def _rightly_named(together: Mapping[tuple[int, int], int]) -> int:
    """Return the number of frames with the right id, for the best pairing of ids and people."""
    people = sorted({person for person, _ in together})
    ids = sorted({face_id for _, face_id in together})
    frames = np.array([[together.get((person, face_id), 0) for face_id in ids] for person in people])
    if not frames.size:
        return 0
    return int(frames[linear_sum_assignment(frames, maximize=True)].sum())


def _longest_run(frames: list[int]) -> int:
    """Return the length of the longest run of consecutive numbers in a rising list."""
    runs = groupby(enumerate(frames), key=lambda item: item[1] - item[0])
    return max(len(list(run)) for _, run in runs)


def _stacked(boxes: Mapping[int, np.ndarray]) -> np.ndarray:
    return np.array(list(boxes.values()), np.float32).reshape(-1, 4)


def print_score(score: PeopleScore) -> None:
    """Print the comparison, one figure per line."""
    print(f"people                     {score.people:6} with {score.faces} faces to find")
    print(f"precision                  {score.precision:6.1%} of {score.shown} faces shown")
    print(f"recall                     {score.recall:6.1%}")
    print(f"IDF1                       {score.idf1:6.1%}")
    print(f"ids                        {score.ids:6}, of which {score.false_ids} on nobody")
    print(f"id switches                {score.switches:6}")
    print(f"ids on several people      {score.shared_ids:6}")
    print(f"longest false face         {score.longest_false:6} frames", flush=True)


def main() -> None:
    """Compare a table with labels and print the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("labels", type=Path, metavar="LABELS.csv")
    parser.add_argument("table", type=Path, metavar="TABLE.csv", help="a table that fer-stream has written")
    options = parser.parse_args()
    print_score(score_people(read_people(options.labels), read_table(options.table)))


if __name__ == "__main__":
    main()
