"""Cut a long recording into parts, and join the parts into the table that one pass would give.

Reading a part begins some seconds before its start, so that the tracker gets into the state that it would
have in one pass: the same frames are scanned, and older frames no longer matter. Those seconds are analyzed
twice, in the previous part and in this one. Faces that both see at the same place are the same, so their ids
are joined. A part is also read past its end, for as long as a recording looks ahead. The rows of that time
belong to the next part and are dropped.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fer_stream.analysis.lookahead import LONGEST_AHEAD_S
from fer_stream.batch.tables import LANDMARKS, ROW_GROUP_ROWS, UNSURE_ROW
from fer_stream.detection.association import best_pairs
from fer_stream.detection.geometry import iou_matrix
from fer_stream.detection.schedule import RESET_EVERY
from fer_stream.errors import SourceError
from fer_stream.expressions import EXPRESSIONS
from fer_stream.sources.container import COUNTABLE_CODECS, MEDIA_ERRORS, open_container, pick_video_stream
from fer_stream.system.files import unreadable_kind
from fer_stream.types import Face

SAME_FACE_IOU = 0.5
# Two trackers that start at different frames agree from the first or second motion reset on. So the warm-up
# spans three resets, which takes longer at a low frame rate, as in a time-lapse.
WARM_UP_FRAMES = 3 * RESET_EVERY
# A damaged header may state any length. So a recording has no more parts than this, and its file holds at
# least this much for each.
MOST_PARTS, LEAST_PART_BYTES = 1000, 4096


@dataclass(frozen=True)
class Part:
    """A part of a recording, in its presentation time.

    Attributes:
        index: Position among the parts, from 0.
        start_s: Start of the part.
        end_s: End of the part (exclusive); None for the last part.
        from_s: Time at which reading begins, earlier than `start_s` except for the first part.
    """

    index: int = 0
    start_s: float = 0.0
    end_s: float | None = None
    from_s: float = 0.0

    @property
    def until_s(self) -> float | None:
        """Time at which reading ends, later than `end_s`, because the look-ahead needs later frames."""
        return None if self.end_s is None else self.end_s + LONGEST_AHEAD_S


WHOLE = Part()


@dataclass(frozen=True)
class PartResult:
    """The result of analyzing a part, besides the rows of its table. It is stored in the table's footer.

    Attributes:
        interval_s: Expected seconds from frame to frame.
        hash: SHA-256 of the recording, hexadecimal; empty except for the first part.
        problems: Problems that did not end the analysis.
        seconds: Time that the analysis took.
    """

    interval_s: float
    hash: str
    problems: tuple[str, ...]
    seconds: float

    def __post_init__(self) -> None:
        numbers = (self.interval_s, self.seconds)
        if not all(isinstance(number, (int, float)) and 0 <= number < math.inf for number in numbers):
            raise ValueError(f"a number of a part is negative or not a number: {numbers}")
        if not all(isinstance(text, str) for text in (self.hash, *self.problems)):
            raise ValueError("the hash or a problem of a part is not a text")

    @classmethod
    def of(cls, values: object) -> PartResult | None:
        """Read the result from a footer. Return None if it is missing or incomplete."""
        if not isinstance(values, dict) or not isinstance(values.get("problems"), list):
            return None
        try:
            return cls(**values | {"problems": tuple(values["problems"])})
        except (TypeError, ValueError):
            return None


@dataclass(frozen=True)
class Header:
    """Facts from the header of a recording.

    Attributes:
        first_s: Presentation time of its beginning.
        duration_s: Length in seconds; 0 if unknown.
        can_be_cut: Whether reading can begin at any point without decoding the frames before it.
        frame_rate: Average frames per second; 0 if unknown.
        size_bytes: Size of the file; 0 if unknown.
        is_readable: Whether its header could be read.
    """

    first_s: float = 0.0
    duration_s: float = 0.0
    can_be_cut: bool = False
    frame_rate: float = 0.0
    size_bytes: int = 0
    is_readable: bool = False


def read_header(file: Path | BinaryIO) -> Header:
    """Read the header of a recording.

    Args:
        file: A path or an open binary file.

    Returns:
        The header, or the defaults if it can't be read. The analysis will report that error.
    """
    try:
        if isinstance(file, Path) and unreadable_kind(file):
            return Header()
        with open_container(file) as container:
            stream = pick_video_stream(container)
            if stream is None or stream.time_base is None or stream.codec_context is None:
                return Header()
            duration_s = float((stream.duration or 0) * stream.time_base)
            if duration_s <= 0:
                duration_s = (container.duration or 0) / 1e6  # AV_TIME_BASE
            # To start at a part without decoding the frames before it, the reader counts packets as frames;
            # see sources/seeking.py.
            guesses_times = container.format.name == "avi"
            return Header(
                first_s=float((stream.start_time or 0) * stream.time_base),
                duration_s=max(duration_s, 0.0),
                can_be_cut=stream.codec_context.name in COUNTABLE_CODECS and not guesses_times,
                frame_rate=float(stream.average_rate or 0),
                size_bytes=max(0, container.size),
                is_readable=True,
            )
    except (*MEDIA_ERRORS, OSError):
        return Header()


def cut(header: Header, part_s: float, warm_up_s: float) -> list[Part]:
    """Cut a recording into equal parts of at least `part_s`, and at least as long as the warm-up.

    Args:
        header: The header of the recording.
        part_s: Least length of a part in seconds.
        warm_up_s: Seconds by which reading begins before a part. It is longer for a slow recording, so that
            it spans `WARM_UP_FRAMES`.
    """
    if header.frame_rate > 0:
        warm_up_s = max(warm_up_s, WARM_UP_FRAMES / header.frame_rate)
    count = int(header.duration_s / max(part_s, warm_up_s, 1.0)) if header.can_be_cut else 1
    count = min(count, MOST_PARTS)
    if header.size_bytes:
        count = min(count, header.size_bytes // LEAST_PART_BYTES)
    if count < 2:
        return [WHOLE]
    cuts_s = [0.0]
    for index in range(1, count):
        cut_s = max(0.0, header.first_s + header.duration_s * index / count)
        # Put cuts between two microseconds. The table rounds times to microseconds, and a cut must divide
        # them in the same way as the source's exact times.
        cuts_s.append(math.floor(cut_s * 1e6) / 1e6 + 5e-7)
    return [
        Part(index, start_s, end_s, max(0.0, start_s - warm_up_s) if index else 0.0)
        for index, (start_s, end_s) in enumerate(zip(cuts_s, [*cuts_s[1:], None], strict=True))
    ]


def join(parts: Sequence[Part], read: Callable[[Part], pa.Table], name: str) -> Iterator[pa.Table]:
    """Join the tables of a recording's parts. Two of them are in memory at a time.

    Args:
        parts: All parts, in order.
        read: Returns the table of a part, from its `from_s` to its `until_s`.
        name: Name of the recording, for errors.

    Yields:
        The rows of one part after the other, without warm-up and look-ahead. Ids are joined, and count in
        order of appearance. Frame numbers continue, even if damage made one part count differently.

    Raises:
        SourceError: Two parts saw the same time, but have no frame in common.
    """
    before: pa.Table | None = None
    known_ids = shift = 0
    for part in parts:
        table = read(part)
        if part.end_s is not None:
            table = table.filter(pc.less(table["time_s"], part.end_s))
        if table.num_rows == 0:  # the recording is shorter than it states
            continue
        new_ids: dict[int, int] = {}
        if before is not None:
            overlap = table.filter(pc.less(table["time_s"], part.start_s))
            earlier = before.filter(pc.greater_equal(before["time_s"], part.from_s))
            # Without common rows the parts do not overlap, and all faces are new.
            if earlier.num_rows and overlap.num_rows:
                shift = _frame_shift(earlier, overlap, name)
            if shift:
                table = _with_column(table, "frame", pc.add(table["frame"], shift))
            new_ids = _same_faces(earlier, overlap)
            table = table.filter(pc.greater_equal(table["time_s"], part.start_s))
        for old_id in pc.unique(table["face_id"]).to_pylist():  # in order of appearance
            if old_id is not None and old_id not in new_ids:
                known_ids += 1
                new_ids[old_id] = known_ids
        ids = [None if old_id is None else new_ids[old_id] for old_id in table["face_id"].to_pylist()]
        table = _with_column(table, "face_id", pa.chunked_array([pa.array(ids, pa.int64())]))
        # In the order of one pass: by frame, then by id.
        table = table.sort_by([("frame", "ascending"), ("face_id", "ascending")])
        if table.num_rows:
            yield table
            before = table


def faces_by_frame(tables: Iterable[pa.Table]) -> Iterator[tuple[float, tuple[Face, ...]]]:
    """Yield the time and the faces of each frame of joined parts."""
    for table in tables:
        rows = table.to_batches(max_chunksize=ROW_GROUP_ROWS)
        for _, frame in itertools.groupby(
            (row for batch in rows for row in batch.to_pylist()), key=itemgetter("frame")
        ):
            faces = list(frame)
            yield faces[0]["time_s"], tuple(_face(row) for row in faces if row["face_id"] is not None)


def _face(row: dict[str, Any]) -> Face:
    return Face(
        id=row["face_id"],
        box_xyxy=np.array([row[name] for name in ("x1", "y1", "x2", "y2")], np.float32),
        landmarks_xy=np.array(row[LANDMARKS.name], np.float32).reshape(5, 2),
        detection_score=row["detection_score"],
        probabilities=np.array([row[name] for name in EXPRESSIONS], np.float32),
        unsure=row[UNSURE_ROW.name],
    )


def _frame_shift(earlier: pa.Table, overlap: pa.Table, name: str) -> int:
    """Return the number to add to a part's frame numbers, from a frame that both parts saw.

    Raises:
        SourceError: There is no such frame.
    """
    numbers = dict(zip(_numbers(earlier, "time_s"), _numbers(earlier, "frame"), strict=True))
    for time_s, frame in zip(
        _numbers(overlap, "time_s")[::-1], _numbers(overlap, "frame")[::-1], strict=True
    ):
        if time_s in numbers:
            return int(numbers[time_s] - frame)
    raise SourceError(f"{name}: its parts do not overlap; analyze it as one part with a longer --part")


def _same_faces(earlier: pa.Table, overlap: pa.Table) -> dict[int, int]:
    """Return a mapping from the ids of a part to those that the part before gave to the same faces.

    It starts at the last common frame, because both parts are most reliable near the cut. Faces that are
    missing there are matched in earlier frames.
    """
    at_earlier, at_overlap = _faces_by_time(earlier), _faces_by_time(overlap)
    same: dict[int, int] = {}
    taken: set[int] = set()
    for time_s in sorted(at_overlap.keys() & at_earlier.keys(), reverse=True):
        ids, boxes = at_overlap[time_s]
        earlier_ids, earlier_boxes = at_earlier[time_s]
        iou = iou_matrix(boxes, earlier_boxes)
        iou[[int(face_id) in same for face_id in ids], :] = 0
        iou[:, [int(earlier_id) in taken for earlier_id in earlier_ids]] = 0
        for row, column in best_pairs(iou, SAME_FACE_IOU):
            same[int(ids[row])] = int(earlier_ids[column])
            taken.add(int(earlier_ids[column]))
    return same


def _faces_by_time(table: pa.Table) -> dict[float, tuple[np.ndarray, np.ndarray]]:
    """Return the ids (N,) and boxes, float32 (N, 4), for each time with faces."""
    table = table.filter(pc.is_valid(table["face_id"]))
    time_s, ids = _numbers(table, "time_s"), _numbers(table, "face_id")
    boxes = np.stack([_numbers(table, name) for name in ("x1", "y1", "x2", "y2")], axis=1).astype(np.float32)
    order = np.argsort(time_s, kind="stable")
    starts = np.unique(time_s[order], return_index=True)[1]
    return {
        float(time_s[rows[0]]): (ids[rows], boxes[rows]) for rows in np.split(order, starts[1:]) if len(rows)
    }


def _numbers(table: pa.Table, name: str) -> np.ndarray:
    return table[name].to_numpy()


def _with_column(table: pa.Table, name: str, values: pa.ChunkedArray) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), table.schema.field(name), values)
