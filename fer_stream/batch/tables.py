"""Collect the rows of an archive's tables, and write them to files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fer_stream.errors import cannot_write
from fer_stream.expressions import LABELS, UNSURE
from fer_stream.face_time import FrameClock
from fer_stream.sinks.base import Sink
from fer_stream.sinks.table import TABLE_COLUMNS, csv_line, table_rows, table_schema
from fer_stream.types import AnalyzedFrame

ROW_GROUP_ROWS = 8192
_FOOTER_KEY = "fer-batch"
# For the summary, collected rows also say whether the face is unsure. The table itself does not.
UNSURE_ROW = pa.field("unsure", pa.bool_())
# The table of a part also contains landmarks, with which the timeline chooses a face's picture.
LANDMARKS = pa.field("landmarks_xy", pa.list_(pa.float32()))


@dataclass
class Count:
    """Totals of a table, counted while it grows.

    Attributes:
        frames: Number of frames.
        rows: Number of rows.
        faces: Number of people.
        duration_s: Seconds from the first frame to the end of the last one.
        label_s: Face-seconds of each label, an expression or "unsure".
    """

    frames: int = 0
    rows: int = 0
    faces: int = 0
    duration_s: float = 0.0
    label_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(LABELS, 0.0))
    _clock: FrameClock | None = None
    _first_s: float = math.nan
    _last_s: float = math.nan
    _last_frame: int = -1
    _last_step_s: float = 0.0

    def add(self, table: pa.Table, interval_s: float) -> None:
        """Count the next rows. The rows of a frame may come in two pieces."""
        frame, time_s = (table[name].to_numpy() for name in ("frame", "time_s"))
        if not len(frame):
            return
        self.rows += len(frame)
        indices, first_rows, frame_of = np.unique(frame, return_index=True, return_inverse=True)
        times_s = time_s[first_rows]
        if self._clock is None:
            self._clock, self._first_s = FrameClock(interval_s), float(times_s[0])
        continues_frame = int(indices[0]) == self._last_frame
        new_s = [self._clock.step_s(time_s) for time_s in times_s[int(continues_frame) :].tolist()]
        steps_s = np.array([self._last_step_s, *new_s] if continues_frame else new_s)
        self.frames += len(indices) - int(continues_frame)
        self._last_s, self._last_frame = float(times_s[-1]), int(indices[-1])
        self._last_step_s = float(steps_s[-1])
        self.duration_s = round(self._last_s - self._first_s + interval_s, 6)
        self.faces = max(self.faces, int(pc.max(table["face_id"]).as_py() or 0))
        labels = np.array(table["expression"].to_pylist(), object)
        labels[table[UNSURE_ROW.name].fill_null(False).to_numpy()] = UNSURE
        for label in LABELS:
            self.label_s[label] += float(steps_s[frame_of[labels == label]].sum())


class TableWriter:
    """Writes a Parquet table by row groups, with a footer that contains its record.

    Its methods raise OutputError if the table can't be written.

    Args:
        path: The file.
        interval_s: Expected seconds from frame to frame.
        is_part: Whether it is the table of a part, which has additional columns for the join.
        metadata: Metadata of the schema.
    """

    def __init__(
        self,
        path: Path,
        interval_s: float,
        *,
        is_part: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.count = Count()
        self._interval_s = interval_s
        self._schema = part_schema() if is_part else table_schema().with_metadata(metadata)
        self._path = path
        with self._errors():
            self._out = pq.ParquetWriter(path, self._schema, compression="zstd")

    def add(self, table: pa.Table) -> None:
        """Write rows as one row group."""
        if table.num_rows:
            self.count.add(table, self._interval_s)
            with self._errors():
                self._out.write_table(table.select(self._schema.names))

    def close(self, footer: dict[str, Any] | None = None) -> None:
        """Finish the file. Without a footer, it does not count as finished."""
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


class CsvWriter:
    """Writes a table as CSV, as `fer-stream --data` does, and counts as `TableWriter` does.

    Its methods raise OutputError if the table can't be written.

    Args:
        path: The file.
        interval_s: Expected seconds from frame to frame.
    """

    def __init__(self, path: Path, interval_s: float) -> None:
        self.count = Count()
        self._path, self._interval_s = path, interval_s
        try:
            self._out = path.open("wb")
            self._out.write(csv_line(TABLE_COLUMNS))
        except OSError as error:
            raise cannot_write(path.parent, error) from error

    def add(self, table: pa.Table) -> None:
        """Write rows."""
        self.count.add(table, self._interval_s)
        columns = [table[name].to_pylist() for name in TABLE_COLUMNS]
        try:
            self._out.writelines(csv_line(row) for row in zip(*columns, strict=True))
        except OSError as error:
            raise cannot_write(self._path.parent, error) from error

    def close(self, footer: dict[str, Any] | None = None) -> None:
        """Finish the file. A CSV file has no footer; `manifest.keep_record` writes it beside the tables."""
        try:
            self._out.close()
        except OSError as error:
            raise cannot_write(self._path.parent, error) from error


def part_schema() -> pa.Schema:
    """Return the columns of a part's table: those of the table, and those for the join."""
    return table_schema().append(UNSURE_ROW).append(LANDMARKS)


def read_footer(path: Any) -> dict[str, Any] | None:
    """Return the content of a table's footer; None if the table is missing or not finished."""
    try:
        return footer_of(pq.read_metadata(path))
    except Exception:  # damaged bytes raise many types
        return None


def footer_of(metadata: pq.FileMetaData) -> dict[str, Any] | None:
    """Return the content of a footer that was read; None if the table was never finished."""
    try:
        footer = json.loads((metadata.metadata or {})[_FOOTER_KEY.encode()])
    except (KeyError, ValueError):
        return None
    return footer if isinstance(footer, dict) else None


class RowsSink(Sink):
    """Collects the rows of analyzed frames, and passes them to a writer in bounded pieces."""

    name = "table"

    def __init__(self, writer: TableWriter | CsvWriter, source: str) -> None:
        super().__init__()
        self._writer, self._source = writer, source
        self._rows: list[tuple[Any, ...]] = []

    def write(self, analyzed: AnalyzedFrame, image_bgr: np.ndarray | None = None) -> None:
        """Collect the rows of one frame. See `Sink.write`."""
        faces = analyzed.faces or (None,)
        for row, face in zip(table_rows(analyzed), faces, strict=True):
            extra = (None, None) if face is None else (face.unsure, face.landmarks_xy.reshape(-1).tolist())
            self._rows.append((self._source, *row[1:], *extra))
        if len(self._rows) >= ROW_GROUP_ROWS:
            self._flush()

    def outputs(self) -> list[Path]:
        """Return an empty list: the file belongs to the writer."""
        return []

    def close(self) -> None:
        """Pass on the last rows. See `Sink.close`."""
        self._flush()

    def _flush(self) -> None:
        """Pass the collected rows to the writer."""
        if self._rows:
            schema = part_schema()
            columns = zip(*self._rows, strict=True)
            arrays = [pa.array(column, kind.type) for column, kind in zip(columns, schema, strict=True)]
            self._writer.add(pa.Table.from_arrays(arrays, schema=schema))
            self._rows.clear()
