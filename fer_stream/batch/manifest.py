"""What is known of every recording: `manifest.parquet`, and `summary.parquet` to read beside the tables.

The footer of a finished table holds its recording's record, too. So a driver that is killed loses
nothing that was finished: what the manifest does not know yet, the tables tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fer_stream.batch.inputs import Recording
from fer_stream.batch.outputs import FOLDERS, Output
from fer_stream.batch.parts import read_footer
from fer_stream.batch.settings import Settings
from fer_stream.expressions import EXPRESSIONS
from fer_stream.sinks.base import cannot_write

DONE, FAILED, WAITING = "done", "failed", "waiting"
MANIFEST, SUMMARY = "manifest.parquet", "summary.parquet"


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
        expression_s: Face seconds of each expression.
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
    expression_s: dict[str, float] = field(default_factory=dict)
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
    + [("expression_s", pa.struct([(name, pa.float64()) for name in EXPRESSIONS]))]
)
# Shares of the time that a face was seen; empty where none was.
_SUMMARY_SCHEMA = pa.schema(
    [
        *(("source", pa.string()), ("table", pa.string()), ("duration_s", pa.float64())),
        *(("frames", pa.int64()), ("faces", pa.int64()), ("face_s", pa.float64())),
        *(("expression", pa.string()), *((name, pa.float64()) for name in EXPRESSIONS)),
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


def write_manifest(output: Output, records: Iterable[Record]) -> None:
    """Writes the manifest and the summary.

    Raises:
        OutputError: They can't be written.
    """
    records = sorted(records, key=lambda record: (record.source, record.output_name))
    rows = [
        asdict(record) | {"expression_s": dict.fromkeys(EXPRESSIONS, 0.0) | record.expression_s}
        for record in records
    ]
    done = [_summary(record) for record in records if record.state == DONE]
    for name, table in (
        (MANIFEST, pa.Table.from_pylist(rows, _SCHEMA)),
        (SUMMARY, pa.Table.from_pylist(done, _SUMMARY_SCHEMA)),
    ):
        with output.writing(name) as path:
            try:
                pq.write_table(table, path)
            except OSError as error:
                raise cannot_write(output.place(name), error) from error


def _summary(record: Record) -> dict[str, Any]:
    face_s = sum(record.expression_s.values())
    row: dict[str, Any] = {name: getattr(record, name) for name in ("source", "table", "frames", "faces")}
    row |= {"duration_s": record.duration_s, "face_s": round(face_s, 6)}
    if face_s > 0:
        row |= {name: value / face_s for name, value in record.expression_s.items()}
        row["expression"] = max(record.expression_s, key=record.expression_s.__getitem__)
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
    wanted = {"tables", *(["videos"] if settings[0].save else []), *(["charts"] if settings[0].chart else [])}
    there = {folder: output.names(folder) for folder in wanted}
    for recording in recordings:
        record = records.get(recording.output_name)
        table = f"{recording.output_name}.parquet"
        if not is_current(record, recording) and table in there["tables"]:
            record = _record_in_footer(output, table) or record
        is_done = is_current(record, recording) and all(
            recording.output_name + FOLDERS[folder] in names for folder, names in there.items()
        )
        if is_done and record is not None:
            records[recording.output_name] = record
        else:
            records[recording.output_name] = Record(
                recording.name, recording.stamp, settings[0].key, output_name=recording.output_name
            )
    return records


def _record_in_footer(output: Output, table: str) -> Record | None:
    try:
        with output.reading("tables", table) as file:
            return Record.of(read_footer(file))
    except OSError:
        return None
