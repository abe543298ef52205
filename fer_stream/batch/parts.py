"""How a long recording is cut, and how its parts become one table, as if it had been one pass.

A part begins some seconds before its cut, so that at the cut it knows what one pass would know: the
same frames are scanned, from nothing, and smoothing has forgotten how it began. Those seconds are
analyzed twice, by the part before and by this one. The faces that both see there, in the
same place, are the same, and that joins the ids.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fer_stream.detection.geometry import iou_matrix
from fer_stream.errors import SourceError
from fer_stream.expressions import EXPRESSIONS
from fer_stream.pipeline import LONGEST_STEP_S
from fer_stream.sinks.base import Sink, cannot_write
from fer_stream.sinks.table import table_rows, table_schema
from fer_stream.sources.container import COUNTABLE_CODECS, MEDIA_ERRORS, open_container, pick_video_stream
from fer_stream.system.files import unreadable_kind
from fer_stream.types import AnalyzedFrame, Face

SAME_FACE_IOU = 0.5
ROW_GROUP_ROWS = 8192
_FOOTER_KEY = "fer-batch"
# Besides the table's own columns a part holds what the timeline needs to choose a face's picture.
_LANDMARKS = pa.field("landmarks_xy", pa.list_(pa.float32()))


@dataclass(frozen=True)
class Part:
    """A part of a recording, in its presentation time.

    Attributes:
        index: Which part it is, from 0.
        start_s: Its first moment.
        end_s: The first moment that is the next part's; None for the last one.
        from_s: Where reading begins: earlier than `start_s`, but for the first part.
    """

    index: int = 0
    start_s: float = 0.0
    end_s: float | None = None
    from_s: float = 0.0


WHOLE = Part()


@dataclass(frozen=True)
class Look:
    """What is known of a recording before it is decoded.

    Attributes:
        first_s: Presentation time of its beginning.
        duration_s: Its length; 0 where it is not known.
        can_be_cut: Whether reading can begin anywhere in it at little cost.
    """

    first_s: float = 0.0
    duration_s: float = 0.0
    can_be_cut: bool = False


def look(file: Path | BinaryIO) -> Look:
    """Reads the head of a recording.

    Args:
        file: A path or an open binary file.

    Returns:
        What it says; of what can't be read that nothing is known, for its analysis will say why.
    """
    try:
        if isinstance(file, Path) and unreadable_kind(file):
            return Look()
        with open_container(file) as container:
            stream = pick_video_stream(container)
            if stream is None or stream.time_base is None or stream.codec_context is None:
                return Look()
            duration_s = float((stream.duration or 0) * stream.time_base)
            if duration_s <= 0:
                duration_s = (container.duration or 0) / 1e6  # AV_TIME_BASE
            # Counting the packets before a part must give the frames, see sources/video.py.
            guesses_times = container.format.name == "avi"
            return Look(
                first_s=float((stream.start_time or 0) * stream.time_base),
                duration_s=max(duration_s, 0.0),
                can_be_cut=stream.codec_context.name in COUNTABLE_CODECS and not guesses_times,
            )
    except (*MEDIA_ERRORS, OSError):
        return Look()


def cut(seen: Look, part_s: float, warm_up_s: float) -> list[Part]:
    """Cuts a recording into equal parts of at least `part_s`, none shorter than its warm-up."""
    count = int(seen.duration_s / max(part_s, warm_up_s, 1.0)) if seen.can_be_cut else 1
    if count < 2:
        return [WHOLE]
    cuts_s = [0.0]
    for index in range(1, count):
        cut_s = max(0.0, seen.first_s + seen.duration_s * index / count)
        # Half a microsecond aside, a cut parts the table's times, in microseconds, as it does the source's.
        cuts_s.append(math.floor(cut_s * 1e6) / 1e6 + 5e-7)
    return [
        Part(index, start_s, end_s, max(0.0, start_s - warm_up_s) if index else 0.0)
        for index, (start_s, end_s) in enumerate(zip(cuts_s, [*cuts_s[1:], None], strict=True))
    ]


@dataclass
class Count:
    """What a table comes to, counted as it grows.

    Attributes:
        frames: Frames.
        faces: Different faces.
        duration_s: From the first frame to the end of the last.
        expression_s: Face seconds of each expression.
    """

    frames: int = 0
    faces: int = 0
    duration_s: float = 0.0
    expression_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(EXPRESSIONS, 0.0))
    _first_s: float = math.nan
    _last_s: float = math.nan
    _last_frame: int = -1
    _last_step_s: float = 0.0

    def add(self, table: pa.Table, interval_s: float) -> None:
        """Takes in the next rows; a frame's rows may come in two pieces."""
        frame, time_s = (_numbers(table, name) for name in ("frame", "time_s"))
        if not len(frame):
            return
        indices, first_rows, frame_of = np.unique(frame, return_index=True, return_inverse=True)
        times_s = time_s[first_rows]
        if self.frames == 0:
            self._first_s, self._last_s = float(times_s[0]), float(times_s[0]) - interval_s
        goes_on = int(indices[0]) == self._last_frame
        steps_s = np.diff(times_s, prepend=self._last_s)
        steps_s = np.clip(steps_s, 0.0, LONGEST_STEP_S)
        if goes_on:
            steps_s[0] = self._last_step_s
        self.frames += len(indices) - int(goes_on)
        self._last_s, self._last_frame = float(times_s[-1]), int(indices[-1])
        self._last_step_s = float(steps_s[-1])
        self.duration_s = round(self._last_s - self._first_s + interval_s, 6)
        self.faces = max(self.faces, int(pc.max(table["face_id"]).as_py() or 0))
        expressions = np.array(table["expression"].to_pylist(), object)
        for name in EXPRESSIONS:
            self.expression_s[name] += float(steps_s[frame_of[expressions == name]].sum())


class TableWriter:
    """Writes a Parquet table a row group at a time, with a footer that says what it is.

    Its methods raise OutputError if the table can't be written.

    Args:
        path: Where to.
        interval_s: What a frame takes on average.
        with_landmarks: Whether the landmarks go with the rows.
    """

    def __init__(self, path: Path, interval_s: float, *, with_landmarks: bool = False) -> None:
        self.count = Count()
        self._interval_s = interval_s
        self._schema = table_schema()
        if with_landmarks:
            self._schema = self._schema.append(_LANDMARKS)
        self._path = path
        with self._errors():
            self._out = pq.ParquetWriter(path, self._schema, compression="zstd")

    def add(self, table: pa.Table) -> None:
        """Writes some rows, as one row group."""
        if table.num_rows:
            self.count.add(table, self._interval_s)
            with self._errors():
                self._out.write_table(table.select(self._schema.names))

    def close(self, footer: dict[str, Any] | None = None) -> None:
        """Finishes the file; without a footer it is one that nobody takes for finished."""
        if footer is not None:
            self._out.add_key_value_metadata({_FOOTER_KEY: json.dumps(footer)})
        with self._errors():
            self._out.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise cannot_write(self._path.parent, error) from error


def read_footer(path: Any) -> dict[str, Any] | None:
    """Returns what a table's footer says; None where there is none, or no such file."""
    try:
        metadata = pq.read_metadata(path).metadata or {}
        footer = json.loads(metadata[_FOOTER_KEY.encode()])
    except (OSError, KeyError, ValueError, pa.ArrowException):
        return None
    return footer if isinstance(footer, dict) else None


class RowsSink(Sink):
    """Gathers the rows of analyzed frames and gives them to a writer in bounded pieces."""

    name = "table"

    def __init__(self, writer: TableWriter, source: str, *, with_landmarks: bool) -> None:
        super().__init__()
        self._writer, self._source = writer, source
        self._with_landmarks = with_landmarks
        self._rows: list[tuple[Any, ...]] = []

    def write(self, analyzed: AnalyzedFrame, image_bgr: np.ndarray | None = None) -> None:
        """Takes in one frame. See `Sink.write`."""
        faces = analyzed.faces or (None,)
        for row, face in zip(table_rows(analyzed), faces, strict=True):
            row = (self._source, *row[1:])
            if self._with_landmarks:
                row += (None if face is None else face.landmarks_xy.reshape(-1).tolist(),)
            self._rows.append(row)
        if len(self._rows) >= ROW_GROUP_ROWS:
            self.close()

    def outputs(self) -> list[Path]:
        """Returns none: the file is the writer's."""
        return []

    def close(self) -> None:
        """Passes on what is gathered. See `Sink.close`."""
        if self._rows:
            schema = table_schema()
            if self._with_landmarks:
                schema = schema.append(_LANDMARKS)
            columns = zip(*self._rows, strict=True)
            arrays = [pa.array(column, kind.type) for column, kind in zip(columns, schema, strict=True)]
            self._writer.add(pa.Table.from_arrays(arrays, schema=schema))
            self._rows.clear()


def join(parts: Sequence[Part], read: Callable[[Part], pa.Table], name: str) -> Iterator[pa.Table]:
    """Joins the tables of a recording's parts, holding two of them at a time.

    Args:
        parts: All of them, in order.
        read: Returns the table of a part, from its `from_s` on.
        name: The recording's, for errors.

    Yields:
        The rows of one part after the other, without the warm-up, ids joined and counted in order of
        appearance, and frames counted on where damage made a part count otherwise.

    Raises:
        SourceError: Two parts saw the same time, and no frame in common.
    """
    before: pa.Table | None = None
    known_ids = shift = 0
    for part in parts:
        table = read(part)
        if table.num_rows == 0:  # the recording is shorter than it says
            continue
        new_ids: dict[int, int] = {}
        if before is not None:
            overlap = table.filter(pc.less(table["time_s"], part.start_s))
            earlier = before.filter(pc.greater_equal(before["time_s"], part.from_s))
            if earlier.num_rows and overlap.num_rows:  # else no frame is there: all after it is new
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
        # As one pass has them: by frame, and in it by id.
        table = table.sort_by([("frame", "ascending"), ("face_id", "ascending")])
        if table.num_rows:
            yield table
            before = table


def faces_by_frame(tables: Iterable[pa.Table]) -> Iterator[tuple[float, tuple[Face, ...]]]:
    """Yields the time of each frame of joined parts and its faces, as the analyzer had them."""
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
        landmarks_xy=np.array(row[_LANDMARKS.name], np.float32).reshape(5, 2),
        detection_score=row["detection_score"],
        probabilities=np.array([row[name] for name in EXPRESSIONS], np.float32),
    )


def _frame_shift(earlier: pa.Table, overlap: pa.Table, name: str) -> int:
    """Returns what to add to a part's frame numbers, from a frame that both saw.

    Raises:
        SourceError: There is none.
    """
    numbers = dict(zip(_numbers(earlier, "time_s"), _numbers(earlier, "frame"), strict=True))
    for time_s, frame in zip(
        _numbers(overlap, "time_s")[::-1], _numbers(overlap, "frame")[::-1], strict=True
    ):
        if time_s in numbers:
            return int(numbers[time_s] - frame)
    raise SourceError(f"{name}: its parts do not meet; analyze it in one with a longer --part")


def _same_faces(earlier: pa.Table, overlap: pa.Table) -> dict[int, int]:
    """Returns for ids of a part those that the part before gave the same faces.

    From the last frame back: the nearer to the cut, the surer are both of what they see. A face that
    was last seen before that was seen by both a little earlier.
    """
    at_earlier, at_overlap = _faces_by_time(earlier), _faces_by_time(overlap)
    same: dict[int, int] = {}
    taken: set[int] = set()
    for time_s in sorted(at_overlap.keys() & at_earlier.keys(), reverse=True):
        ids, boxes = at_overlap[time_s]
        earlier_ids, earlier_boxes = at_earlier[time_s]
        iou = iou_matrix(boxes, earlier_boxes)
        for flat in np.argsort(-iou, axis=None):
            row, column = np.unravel_index(flat, iou.shape)
            if iou[row, column] < SAME_FACE_IOU:
                break
            face_id, earlier_id = int(ids[row]), int(earlier_ids[column])
            if face_id not in same and earlier_id not in taken:
                same[face_id] = earlier_id
                taken.add(earlier_id)
    return same


def _faces_by_time(table: pa.Table) -> dict[float, tuple[np.ndarray, np.ndarray]]:
    """Returns for each time with faces their ids, (N,), and boxes, float32 (N, 4)."""
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
