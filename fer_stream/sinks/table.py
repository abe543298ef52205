"""The data table: one row per face per frame, as CSV, JSON lines or Parquet."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from fer_stream.errors import OutputError, cannot_write
from fer_stream.expressions import EXPRESSIONS
from fer_stream.recognition.readers import other_columns
from fer_stream.sinks.base import Sink, check_output, closed_error
from fer_stream.system.files import open_new, replacing, to_standard_output

if TYPE_CHECKING:
    import pyarrow

    from fer_stream.sinks.base import RunContext
    from fer_stream.sinks.provenance import Provenance
    from fer_stream.sources import SourceInfo
    from fer_stream.types import AnalyzedFrame

TABLE_EXTENSIONS = (".csv", ".jsonl", ".parquet")
TABLE_COLUMNS = (
    *("source", "frame", "time_s", "face_id", "x1", "y1", "x2", "y2"),
    *("detection_score", "expression", "confidence"),
    *EXPRESSIONS,
    *other_columns(),
)

_FLUSH_EVERY_S = 0.5
_FLUSH_BYTES = 1 << 16
_ROW_GROUP_ROWS = 8192


class TableSink(Sink):
    """Writes the table while the run goes on.

    CSV and JSON lines reach the disk about every half second, in whole lines. Standard output gets them after
    every frame. A Parquet file can't be read before its end is written, so its rows go to
    `PATH.partial.jsonl` first, as JSON lines, and are turned into the Parquet file when the sink is closed. A
    run that is killed leaves the JSON lines behind, for the user to read or move.

    If the reader of standard output goes away (`| head`), the sink raises an `OutputError` whose `__cause__`
    is the `BrokenPipeError`.
    """

    name = "table"
    needs_frame = False

    def __init__(self, path: Path | str, info: SourceInfo, *, overwrite: bool = False) -> None:
        """Check the path. The file is opened, or replaced, with the first row.

        Args:
            path: One of `TABLE_EXTENSIONS`; `-` is JSON lines on standard output.
            info: Facts about the source.
            overwrite: Whether an existing file is replaced.

        Raises:
            UsageError: The extension is unknown.
            OutputError: The file exists, is the input, or can't be written.
        """
        super().__init__()
        self._path: Path | None = None
        self._pending = bytearray()
        self._flushed_s = time.monotonic()
        self._written = self._failed = self._closed = False
        self._file: BinaryIO | None = None
        self._overwrite = overwrite
        self._metadata: dict[str, str] = {}
        if str(path) == "-":
            self._kind = ".jsonl"
            return
        target = check_output(path, overwrite=overwrite, source_path=info.path, extensions=TABLE_EXTENSIONS)
        self._path = self._rows_path = target
        self._kind = target.suffix.lower()
        if self._kind == ".parquet":
            self._rows_path = check_output(
                target.with_name(f"{target.name}.partial.jsonl"), overwrite=overwrite, source_path=info.path
            )
        if self._kind == ".csv":
            self._pending += csv_line(TABLE_COLUMNS)

    def begin(self, context: RunContext) -> None:
        """Receive the metadata for a Parquet file. See `Sink.begin`."""
        self._metadata = parquet_metadata(context.provenance)

    def write(self, analyzed: AnalyzedFrame, image_bgr: np.ndarray | None = None) -> None:
        """Write the rows of one frame. See `Sink.write`."""
        if self._closed:
            raise closed_error(self._path or "the table")
        for row in table_rows(analyzed):
            self._pending += csv_line(row) if self._kind == ".csv" else _json_line(row)
        self._written = True
        flush_due = time.monotonic() - self._flushed_s >= _FLUSH_EVERY_S
        if self._path is None or flush_due or len(self._pending) >= _FLUSH_BYTES:
            self._flush()

    def close(self) -> None:
        """Write the remaining rows. See `Sink.close`."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._written and not self._failed:
                self._flush()
        finally:
            self._close_file()
        if self._kind == ".parquet" and self._written and not self._failed:
            assert self._path is not None
            _finish_parquet(self._rows_path, self._path, self._metadata)

    def outputs(self) -> list[Path]:
        """Return the file; empty for standard output."""
        if self._path is None or not self._written:
            return []
        return [self._path if self._path.exists() else self._rows_path]

    def _close_file(self) -> None:
        if self._file is None:
            return
        try:
            self._file.close()
        except OSError as error:  # a file system in the network may report a failed write only here
            if self._failed:
                return
            self._failed = True
            raise cannot_write(self._rows_path, error) from error

    def _flush(self) -> None:
        """Write all pending lines, in one piece."""
        if self._failed:
            return
        try:
            if self._path is None:
                to_standard_output(bytes(self._pending))
            else:
                if self._file is None:
                    self._file = open_new(self._rows_path, overwrite=self._overwrite)
                remaining = memoryview(bytes(self._pending))
                while remaining:
                    remaining = remaining[self._file.write(remaining) :]
        except OutputError:
            self._failed = True
            raise
        except OSError as error:
            self._failed = True
            raise cannot_write(self._rows_path, error) from error
        self._pending.clear()
        self._flushed_s = time.monotonic()


def table_schema() -> pyarrow.Schema:
    """Return the types of the table's columns, as Parquet stores them."""
    import pyarrow

    numbers = {"frame": pyarrow.int64(), "face_id": pyarrow.int64()}
    texts = {"source": pyarrow.string(), "expression": pyarrow.string()}
    return pyarrow.schema(
        [(column, (numbers | texts).get(column, pyarrow.float64())) for column in TABLE_COLUMNS]
    )


def printable_source(name: str) -> str:
    """Return a source's name as outputs write it, with bytes that are not valid text escaped."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def table_rows(analyzed: AnalyzedFrame) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a frame, in the order of `TABLE_COLUMNS`, with None for empty fields.

    Boxes are rounded to hundredths of a pixel, times to the microsecond, and probabilities to
    millionths, so that seven still sum to 1 within 4 millionths.
    """
    frame = analyzed.frame
    start = (printable_source(frame.source), frame.index, round(float(frame.time_s), 6))
    if not analyzed.faces:
        yield start + (None,) * (len(TABLE_COLUMNS) - len(start))
    for face in analyzed.faces:
        yield (
            *start,
            face.id,
            *(round(float(value), 2) for value in face.box_xyxy),
            round(float(face.detection_score), 6),
            face.expression,
            round(face.confidence, 6),
            *(round(float(value), 6) for value in face.probabilities),
            *(face.readings.get(column) for column in other_columns()),
        )


def parquet_metadata(provenance: Provenance) -> dict[str, str]:
    """Return the schema metadata of a Parquet file, which says what produced its numbers.

    The keys are `fer_stream.version`, `fer_stream.weights_sha256`, `fer_stream.labels` (the annotation that
    the probabilities follow), `fer_stream.unsure_below` and `fer_stream.options`, a JSON object.
    """
    return {
        "fer_stream.version": provenance.version,
        "fer_stream.weights_sha256": provenance.weights_sha256,
        "fer_stream.labels": provenance.labels,
        "fer_stream.unsure_below": f"{provenance.unsure_below:g}",
        "fer_stream.options": json.dumps(dict(provenance.options), sort_keys=True),
    }


def csv_line(row: Sequence[Any]) -> bytes:
    """Return a row as a line of CSV, the same on every system."""
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="\n").writerow(row)
    return line.getvalue().encode("utf-8")


def _json_line(row: tuple[Any, ...]) -> bytes:
    """Return a row as a line of JSON."""
    return (json.dumps(dict(zip(TABLE_COLUMNS, row, strict=True)), ensure_ascii=False) + "\n").encode("utf-8")


def _finish_parquet(rows_path: Path, path: Path, metadata: Mapping[str, str]) -> None:
    """Turn JSON lines into a Parquet file, a row group at a time, and remove them.

    Raises:
        OutputError: It can't be written; the JSON lines stay.
    """
    import pyarrow
    import pyarrow.parquet

    schema = table_schema().with_metadata(metadata)
    try:
        with (
            replacing(path) as temporary,
            rows_path.open(encoding="utf-8") as lines,
            pyarrow.parquet.ParquetWriter(temporary, schema) as out,
        ):
            group: list[dict[str, Any]] = []
            for line in lines:
                group.append(json.loads(line))
                if len(group) == _ROW_GROUP_ROWS:
                    out.write_table(pyarrow.Table.from_pylist(group, schema))
                    group.clear()
            if group:
                out.write_table(pyarrow.Table.from_pylist(group, schema))
        rows_path.unlink()
    except (OSError, pyarrow.ArrowException) as error:
        raise OutputError(f"{cannot_write(path, error)}; its rows are in {rows_path}") from error
