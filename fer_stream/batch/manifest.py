"""What is known of every recording: `manifest.parquet`, and `summary.parquet` to read beside the tables.

The footer of a finished table holds its recording's record, too; beside CSV tables, which have no footer,
`records/NAME.json` does. So a driver that is killed loses nothing that was finished.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from fer_stream.batch.inputs import Recording
from fer_stream.batch.outputs import Output
from fer_stream.batch.settings import Settings
from fer_stream.batch.tables import read_footer
from fer_stream.expressions import LABELS
from fer_stream.face_time import shares_of
from fer_stream.sinks.base import cannot_write
from fer_stream.sinks.table import parquet_metadata

DONE, FAILED, WAITING = "done", "failed", "waiting"
MANIFEST = "manifest.parquet"
SUMMARIES = {"parquet": "summary.parquet", "csv": "summary.csv"}


@dataclass(frozen=True)
class Record:
    """A recording and what became of it.

    Attributes:
        source: Its path or address, as in the table.
        hash: SHA-256 of its content, hexadecimal; empty before it was read.
        state: `done`, `failed` or `waiting`.
        duration_s: Its length, from the first frame to the end of the last.
        frames: Its frames.
        faces: Different faces in it.
        seconds: What workers took for it, added up.
        error: Why it failed; of one that is done, what was wrong with it without ending it.
        table: Its table in the output folder.
        stamp: See `Recording.stamp`.
        settings: See `Settings.key`.
        label_s: Face-seconds of each label, an expression or "unsure".
        output_name: See `Recording.output_name`; tells recordings of the same `source` apart.
    """

    source: str
    stamp: str = ""
    settings: str = ""
    state: str = WAITING
    hash: str = ""
    duration_s: float = 0.0
    frames: int = 0
    faces: int = 0
    seconds: float = 0.0
    error: str = ""
    table: str = ""
    label_s: dict[str, float] = field(default_factory=dict)
    output_name: str = ""

    @classmethod
    def of(cls, values: dict[str, Any] | None) -> Record | None:
        """Returns the record that a footer or a row holds; None if it holds none."""
        known = {item.name for item in fields(cls)}
        try:
            return cls(**{name: value for name, value in (values or {}).items() if name in known})
        except TypeError:
            return None


_TYPES = {"duration_s": pa.float64(), "seconds": pa.float64(), "frames": pa.int64(), "faces": pa.int64()}
_COLUMNS = (
    *("source", "hash", "state", "duration_s", "frames", "faces", "seconds", "error"),
    *("table", "stamp", "settings", "output_name"),
)
_SCHEMA = pa.schema(
    [(name, _TYPES.get(name, pa.string())) for name in _COLUMNS]
    + [("label_s", pa.struct([(label, pa.float64()) for label in LABELS]))]
)
# The shares are those of the time that a face was seen, and empty if none was. `expression` has the largest.
_SUMMARY_SCHEMA = pa.schema(
    [
        *(("source", pa.string()), ("table", pa.string()), ("duration_s", pa.float64())),
        *(("frames", pa.int64()), ("faces", pa.int64()), ("face_s", pa.float64())),
        *(("expression", pa.string()), *((f"share_{label}", pa.float64()) for label in LABELS)),
    ]
)


def read_manifest(output: Output) -> dict[str, Record]:
    """Returns the records of the runs before, by output name; none where there is no manifest."""
    try:
        with output.reading(MANIFEST) as file:
            rows = pq.read_table(file).to_pylist()
    except (OSError, pa.ArrowException):  # damaged: the tables' footers tell
        return {}
    records = (Record.of(row) for row in rows)
    return {record.output_name: record for record in records if record is not None and record.output_name}


def write_manifest(output: Output, records: Iterable[Record], settings: Settings) -> None:
    """Write the manifest and the summary, the latter in the format of the tables.

    Raises:
        OutputError: They can't be written.
    """
    records = sorted(records, key=lambda record: (record.source, record.output_name))
    rows = [asdict(record) | {"label_s": dict.fromkeys(LABELS, 0.0) | record.label_s} for record in records]
    done = [_summary(record) for record in records if record.state == DONE]
    metadata = parquet_metadata(settings.provenance())
    for name, table in (
        (MANIFEST, pa.Table.from_pylist(rows, _SCHEMA)),
        (SUMMARIES[settings.table], pa.Table.from_pylist(done, _SUMMARY_SCHEMA.with_metadata(metadata))),
    ):
        with output.writing(name) as path:
            try:
                _write_table(table, path, as_csv=name.endswith(".csv"))
            except OSError as error:
                raise cannot_write(output.place(name), error) from error
    for table_format, name in SUMMARIES.items():  # a summary of an earlier run would be out of date
        if table_format != settings.table and name in output.names():
            output.remove(name)


def _write_table(table: pa.Table, path: Path, *, as_csv: bool) -> None:
    if as_csv:
        options = pyarrow.csv.WriteOptions(quoting_style="needed")
        pyarrow.csv.write_csv(table, path, options)
    else:
        pq.write_table(table, path)


def _summary(record: Record) -> dict[str, Any]:
    face_s = sum(record.label_s.values())
    row: dict[str, Any] = {name: getattr(record, name) for name in ("source", "table", "frames", "faces")}
    row |= {"duration_s": record.duration_s, "face_s": round(face_s, 6)}
    if face_s > 0:
        row |= {f"share_{label}": share for label, share in shares_of(record.label_s).items()}
        row["expression"] = max(record.label_s, key=record.label_s.__getitem__)
    return row


def finished(
    recordings: Iterable[Recording], settings: Sequence[Settings], output: Output
) -> dict[str, Record]:
    """Returns what is known of earlier runs, with `done` only where everything asked for is there.

    A recording that has changed, or was done with other settings or weights, or lacks an output that
    is asked for, is not done.

    Args:
        recordings: Those asked for.
        settings: Those that will do; they differ in nothing but the kind of device.
        output: Where results are.
    """
    keys = {each.key for each in settings}

    def is_current(record: Record | None, recording: Recording) -> bool:
        return (
            record is not None
            and (record.state, record.stamp) == (DONE, recording.stamp)
            and record.settings in keys
        )

    records = read_manifest(output)
    there = {folder: output.names(folder) for folder in settings[0].folders}
    for recording in recordings:
        record = records.get(recording.output_name)
        table = recording.output_name + settings[0].suffix("tables")
        if not is_current(record, recording) and table in there["tables"]:
            record = _kept_record(output, table) or record
        is_done = is_current(record, recording) and all(
            recording.output_name + settings[0].suffix(folder) in names for folder, names in there.items()
        )
        if is_done and record is not None:
            records[recording.output_name] = record
        else:
            records[recording.output_name] = Record(
                recording.name, recording.stamp, settings[0].key, output_name=recording.output_name
            )
    return records


def keep_record(settings: Settings, record: Record, output: Output) -> None:
    """Keep the record of a finished CSV table, and remove the table that an earlier run wrote as Parquet.

    A Parquet table has its record in its footer; then the table that an earlier run wrote as CSV is removed.

    Raises:
        OutputError: The output can't be written.
    """
    if settings.table == "csv":
        with output.writing(*_record_place(record.output_name)) as path:
            try:
                path.write_text(json.dumps(asdict(record)), encoding="utf-8")
            except OSError as error:
                raise cannot_write(output.place(*_record_place(record.output_name)), error) from error
    names = output.names("tables")
    for table_format in SUMMARIES:
        other = f"{record.output_name}.{table_format}"
        if table_format != settings.table and other in names:
            output.remove("tables", other)


def forget_record(output_name: str, output: Output) -> None:
    """Remove the record of a CSV table that is about to be replaced."""
    folder, name = _record_place(output_name)
    if name in output.names(folder):
        output.remove(folder, name)


def _record_place(output_name: str) -> tuple[str, str]:
    return "records", f"{output_name}.json"


def _kept_record(output: Output, table: str) -> Record | None:
    """Return the record that is kept in a table's footer, or beside it; None if there is none."""
    output_name, _, table_format = table.rpartition(".")
    try:
        if table_format == "csv":
            with output.reading(*_record_place(output_name)) as file:
                content = json.loads(file.read())
            return Record.of(content if isinstance(content, dict) else None)
        with output.reading("tables", table) as file:
            return Record.of(read_footer(file))
    except (OSError, ValueError):
        return None
