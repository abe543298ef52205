"""Keep the records of all recordings in `manifest.parquet`, and write the summary for users.

The footer of a finished table also contains its record. A CSV table has no footer, so its record is in
`records/NAME.json`. If the driver is killed, no finished work is lost.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fer_stream.batch.addresses import is_address
from fer_stream.batch.inputs import Recording
from fer_stream.batch.output_folder import FOLDERS, Output
from fer_stream.batch.settings import Settings
from fer_stream.batch.tables import footer_of, read_footer
from fer_stream.errors import OutputError, cannot_write
from fer_stream.expressions import LABELS
from fer_stream.face_time import shares_of
from fer_stream.sinks.table import csv_line, parquet_metadata
from fer_stream.system.thread_pool import side_by_side

READERS = 16  # threads that read footers
DONE, FAILED, WAITING = "done", "failed", "waiting"
MANIFEST = "manifest.parquet"
TABLE_FORMATS = ("parquet", "csv")


@dataclass(frozen=True)
class Record:
    """A recording and the result of its analysis.

    Attributes:
        source: Path or address, as in the table.
        hash: SHA-256 of the content, hexadecimal; empty before it was read.
        state: `done`, `failed` or `waiting`.
        duration_s: Length from the first frame to the end of the last one.
        frames: Number of frames.
        rows: Number of rows in the table.
        faces: Number of people.
        seconds: Total time of all workers.
        error: The error if it failed. If it is done, the problems that did not end the analysis.
        table: Path of the table in the output folder.
        table_bytes: Size of its CSV table; 0 for Parquet, whose footer holds the number of rows.
        output_bytes: Sizes of its other outputs, by `output_kind`. It is 0 or missing for an output that does
            not exist, or that an older version made.
        stamp: See `Recording.stamp`.
        settings: See `Settings.key`.
        label_s: Face-seconds of each label, an expression or "unsure".
        labels: The annotation that the labels follow, `ferplus` or `fer2013`; empty before the analysis.
        output_name: See `Recording.output_name`. It differs even if two recordings have the same `source`.
    """

    source: str
    stamp: str = ""
    settings: str = ""
    state: str = WAITING
    hash: str = ""
    duration_s: float = 0.0
    frames: int = 0
    rows: int = 0
    faces: int = 0
    seconds: float = 0.0
    error: str = ""
    table: str = ""
    table_bytes: int = 0
    output_bytes: dict[str, int] = field(default_factory=dict)
    label_s: dict[str, float] = field(default_factory=dict)
    labels: str = ""
    output_name: str = ""

    @classmethod
    def of(cls, values: object) -> Record | None:
        """Return the record that a footer or row holds; None if it holds no complete one."""
        if not isinstance(values, dict):
            return None
        kept = {item.name: values[item.name] for item in fields(cls) if item.name in values}
        seconds, sizes = kept.get("label_s", {}), kept.get("output_bytes", {})
        for named, names in ((seconds, LABELS), (sizes, _OUTPUT_KINDS)):
            if not isinstance(named, dict) or not named.keys() <= set(names):
                return None
        numbers = {name: kept[name] for name in _TYPES if name in kept}
        texts = [kept[name] for name in kept.keys() - numbers.keys() - {"label_s", "output_bytes"}]
        if "source" not in kept or not all(isinstance(text, str) and _is_utf8(text) for text in texts):
            return None
        if not all(_is_count(number) for number in (*numbers.values(), *seconds.values(), *sizes.values())):
            return None
        integers = [number for name, number in numbers.items() if _TYPES[name] == pa.int64()]
        if any(isinstance(number, float) for number in (*integers, *sizes.values())):
            return None
        return cls(**kept)


def output_kind(folder: str, suffix: str) -> str:
    """Return the name of a kind of output in `Record.output_bytes`, such as `episodes.csv`."""
    return folder + suffix


def _is_utf8(text: str) -> bool:
    return text.encode("utf-8", "ignore").decode() == text


def _is_count(number: object) -> bool:
    """Return whether a value is a number from 0 that fits into the manifest."""
    return type(number) in (int, float) and 0 <= number < 2**63  # type: ignore[operator]


_TYPES = {"duration_s": pa.float64(), "seconds": pa.float64(), "frames": pa.int64(), "faces": pa.int64()}
_TYPES |= {"rows": pa.int64(), "table_bytes": pa.int64()}
_COLUMNS = (
    *("source", "hash", "state", "duration_s", "frames", "faces", "seconds", "error"),
    *("table", "stamp", "settings", "output_name", "rows", "table_bytes", "labels"),
)
_OUTPUT_KINDS = tuple(
    output_kind(folder, suffix)
    for folder, suffixes in FOLDERS.items()
    for suffix in suffixes
    if folder != "tables"
)
_SCHEMA = pa.schema(
    [(name, _TYPES.get(name, pa.string())) for name in _COLUMNS]
    + [("label_s", pa.struct([(label, pa.float64()) for label in LABELS]))]
    + [("output_bytes", pa.struct([(kind, pa.int64()) for kind in _OUTPUT_KINDS]))]
)
# Shares of the time that a face was seen; empty if no face was seen. `expression` is the one with the largest
# share.
_SUMMARY_SCHEMA = pa.schema(
    [
        *(("source", pa.string()), ("table", pa.string()), ("duration_s", pa.float64())),
        *(("frames", pa.int64()), ("faces", pa.int64()), ("face_s", pa.float64())),
        *(("labels", pa.string()), ("expression", pa.string())),
        *((f"share_{label}", pa.float64()) for label in LABELS),
    ]
)


def read_manifest(output: Output) -> tuple[dict[str, Record], list[str]]:
    """Read the records of earlier runs.

    Returns:
        The records by output name, empty if there is no manifest; and a line for each problem.

    Raises:
        OutputError: A folder has the manifest's name.
    """
    damaged = f"{output.place(MANIFEST)} is damaged; it must be rebuilt from the tables"
    try:
        if output.is_folder(MANIFEST):
            raise OutputError(f"can't write {output.place(MANIFEST)}: it is a folder; move it away")
        with output.reading(MANIFEST) as file:
            rows = pq.read_table(file).to_pylist()
    except FileNotFoundError:
        return {}, []
    except OutputError:
        raise
    except Exception:  # damaged bytes raise many types
        return {}, [damaged]
    records = [Record.of(row) for row in rows]
    complete = {record.output_name: record for record in records if record is not None and record.output_name}
    return complete, [] if len(complete) == len(rows) else [damaged]


def write_manifest(output: Output, records: Iterable[Record], settings: Settings) -> None:
    """Write the manifest and the summary, the latter in the format of the tables.

    Raises:
        OutputError: One of them can't be written.
    """
    records = sorted(records, key=lambda record: (record.source, record.output_name))
    no_seconds, no_bytes = dict.fromkeys(LABELS, 0.0), dict.fromkeys(_OUTPUT_KINDS, 0)
    rows = [
        asdict(record)
        | {"label_s": no_seconds | record.label_s, "output_bytes": no_bytes | record.output_bytes}
        for record in records
    ]
    done = [_summary(record) for record in records if record.state == DONE]
    metadata = parquet_metadata(settings.provenance)
    for name, table in (
        (MANIFEST, pa.Table.from_pylist(rows, _SCHEMA)),
        (_summary_name(settings.table), pa.Table.from_pylist(done, _SUMMARY_SCHEMA.with_metadata(metadata))),
    ):
        with output.writing(name) as path:
            try:
                _write_table(table, path, as_csv=name.endswith(".csv"))
            except OSError as error:
                raise cannot_write(output.place(name), error) from error
    for name in map(_summary_name, TABLE_FORMATS):  # a summary of an earlier run would be out of date
        if name != _summary_name(settings.table) and name in output.names():
            output.remove(name)


def _summary_name(table_format: str) -> str:
    return f"summary.{table_format}"


def _write_table(table: pa.Table, path: Path, *, as_csv: bool) -> None:
    if as_csv:
        rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
        path.write_bytes(b"".join(map(csv_line, (table.column_names, *rows))))
    else:
        pq.write_table(table, path)


def _summary(record: Record) -> dict[str, Any]:
    face_s = sum(record.label_s.values())
    copied = ("source", "table", "duration_s", "frames", "faces", "labels")
    row: dict[str, Any] = {name: getattr(record, name) for name in copied}
    row["face_s"] = round(face_s, 6)
    if face_s > 0:
        row |= {f"share_{label}": round(share, 6) for label, share in shares_of(record.label_s).items()}
        row["expression"] = max(record.label_s, key=record.label_s.__getitem__)
    return row


@dataclass(frozen=True)
class Earlier:
    """Results of earlier runs.

    Attributes:
        records: The record of every recording by output name. `done` only if all results are complete.
        notes: A line for each damaged result, whose recording will be analyzed again.
    """

    records: dict[str, Record]
    notes: tuple[str, ...]


def finished(recordings: Sequence[Recording], settings: Sequence[Settings], output: Output) -> Earlier:
    """Find the recordings that earlier runs have finished, with every requested output.

    A recording is not done if it has changed, if it was analyzed with other settings or weights, or if a
    requested output is missing or damaged. Removed recordings without results are forgotten.

    Args:
        recordings: The requested recordings.
        settings: Acceptable settings, which differ only in the kind of device.
        output: The folder of results.

    Raises:
        OutputError: The folder of results can't be read.
    """
    keys = {each.key for each in settings}
    records, notes = read_manifest(output)
    records = {name: record for name, record in records.items() if not _is_gone(record)}
    wanted = settings[0].folders
    existing = {folder: output.sizes(folder) for folder in wanted}

    def earlier_result(recording: Recording) -> tuple[Record, str]:
        record = records.get(recording.output_name)
        table = recording.output_name + settings[0].suffix("tables")
        if not _is_current(record, recording, keys) and table in existing["tables"]:
            record = _kept_record(output, table) or record
        new = Record(recording.name, recording.stamp, settings[0].key, output_name=recording.output_name)
        names = {folder: recording.output_name + settings[0].suffix(folder) for folder in wanted}
        if record is None or not _is_current(record, recording, keys):
            return new, ""
        if any(name not in existing[folder] for folder, name in names.items()):
            return new, ""
        for folder, name in names.items():
            if problem := _problem(output, folder, name, record, existing[folder][name]):
                return new, f"{output.place(folder, name)} {problem}; the recording must be analyzed again"
        return record, ""

    for recording, (record, note) in zip(
        recordings, side_by_side(earlier_result, recordings, READERS), strict=True
    ):
        records[recording.output_name] = record
        notes += [note] if note else []
    return Earlier(records, tuple(notes))


def _is_gone(record: Record) -> bool:
    """Return whether a recording was removed before it was analyzed. For an address, this is unknown."""
    return record.state != DONE and not is_address(record.source) and not os.path.lexists(record.source)


def same_analysis(recording: Recording, settings: Settings, output: Output) -> Record | None:
    """Return the record of the recording's finished table, in either format, if the analysis was the same."""
    tables = (f"{recording.output_name}.{table_format}" for table_format in TABLE_FORMATS)
    records = (_kept_record(output, table) for table in tables)
    return next((record for record in records if _is_current(record, recording, {settings.key})), None)


def _is_current(record: Record | None, recording: Recording, keys: Collection[str]) -> bool:
    """Return whether a record says that this recording was analyzed, with one of these settings."""
    return (
        record is not None
        and (record.state, record.stamp) == (DONE, recording.stamp)
        and record.settings in keys
    )


def _problem(output: Output, folder: str, name: str, record: Record, size_bytes: int) -> str:
    """Return the problem with a finished output of a recording, or an empty string."""
    if not size_bytes:
        return "is empty"
    suffix = Path(name).suffix
    if folder == "tables" and suffix == ".parquet":
        return _table_problem(output, name, record)
    noted_bytes = record.output_bytes.get(output_kind(folder, suffix), 0) or size_bytes
    if size_bytes != (record.table_bytes if folder == "tables" else noted_bytes):
        return "has changed size since it was written"
    return ""


def _table_problem(output: Output, table: str, record: Record) -> str:
    """Return the problem with a finished Parquet table, or an empty string."""
    try:
        with output.reading("tables", table) as file:
            metadata = pq.read_metadata(file)
    except Exception:  # damaged bytes raise many types
        return "can't be read"
    kept = Record.of(footer_of(metadata))
    if kept is None or (kept.settings, kept.stamp) != (record.settings, record.stamp):
        return "does not match the settings in the manifest"
    return (
        "" if metadata.num_rows == record.rows else f"has {metadata.num_rows} rows instead of {record.rows}"
    )


def keep_record(settings: Settings, record: Record, output: Output) -> Record:
    """Store the record of a finished table, and remove the recording's table in the other format.

    A CSV table's record is a separate file. A Parquet table already has its record in its footer.

    Returns:
        The record, with the size of a CSV table.

    Raises:
        OutputError: The output can't be written.
    """
    if settings.table == "csv":
        provenance = parquet_metadata(settings.provenance)  # in a Parquet table, its metadata
        record = replace(record, table_bytes=output.size("tables", f"{record.output_name}.csv"))
        with output.writing(*_record_place(record.output_name)) as path:
            try:
                content = asdict(record) | {"provenance": provenance}
                path.write_text(json.dumps(content), encoding="utf-8")
            except OSError as error:
                raise cannot_write(output.place(*_record_place(record.output_name)), error) from error
    else:
        forget_record(record.output_name, output)
    for table_format in TABLE_FORMATS:
        if table_format != settings.table:  # remove it unseen: listing a million tables takes long
            output.remove("tables", f"{record.output_name}.{table_format}")
    return record


def forget_record(output_name: str, output: Output) -> None:
    """Remove the record of a CSV table, if there is one."""
    output.remove(*_record_place(output_name))


def _record_place(output_name: str) -> tuple[str, str]:
    return "records", f"{output_name}.json"


def _kept_record(output: Output, table: str) -> Record | None:
    """Return the record in a table's footer or beside the table; None if there is no such record."""
    output_name, _, table_format = table.rpartition(".")
    try:
        if table_format == "csv":
            with output.reading(*_record_place(output_name)) as file:
                return Record.of(json.loads(file.read()))
        with output.reading("tables", table) as file:
            return Record.of(read_footer(file))
    except Exception:  # damaged bytes raise many types
        return None
