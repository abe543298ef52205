"""Results of earlier runs count only if they are complete. A recording that hangs does not stop others."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("fsspec")

import pyarrow as pa
import pyarrow.parquet as pq

from fer_stream.batch.inputs import Recording, find_recordings
from fer_stream.batch.manifest import (
    DONE,
    MANIFEST,
    WAITING,
    Record,
    finished,
    keep_record,
    read_manifest,
    write_manifest,
)
from fer_stream.batch.output_folder import Output
from fer_stream.batch.settings import Settings
from fer_stream.batch.tables import CsvWriter, TableWriter
from fer_stream.batch.watchdog import watched
from fer_stream.errors import SourceError
from fer_stream.sinks.table import table_schema

RECORDING = Recording("/in/a.mp4", "/in/a.mp4", 100, "stamp")


def done(folder: Path, table_format: str = "parquet") -> tuple[Output, Settings, Path]:
    """Write the results of one recording as a finished run leaves them. Return the path of its table."""
    output, settings = Output(str(folder)), Settings("hash", table=table_format)
    output.make()
    table = folder / "tables" / f"{RECORDING.output_name}.{table_format}"
    writer = (TableWriter if table_format == "parquet" else CsvWriter)(table, 0.04)
    rows = {
        name: pa.array([None] * 3, kind.type)
        for name, kind in zip(table_schema().names, table_schema(), strict=True)
    }
    rows |= {
        "frame": pa.array([0, 1, 2]),
        "time_s": pa.array([0.0, 0.04, 0.08]),
        "unsure": pa.array([None] * 3, pa.bool_()),
    }
    writer.add(pa.table(rows))
    record = Record(
        RECORDING.name, RECORDING.stamp, settings.key, DONE, frames=3, rows=writer.count.rows,
        output_name=RECORDING.output_name,
    )  # fmt: skip
    writer.close(record.__dict__)
    record = keep_record(settings, record, output)
    write_manifest(output, [record], settings)
    return output, settings, table


@pytest.mark.parametrize("table_format", ["parquet", "csv"])
def test_complete_results_count_as_done(tmp_path: Path, table_format: str) -> None:
    output, settings, _ = done(tmp_path, table_format)
    earlier = finished([RECORDING], [settings], output)
    assert earlier.records[RECORDING.output_name].state == DONE and earlier.notes == ()
    (tmp_path / MANIFEST).unlink()
    earlier = finished([RECORDING], [settings], output)
    assert earlier.records[RECORDING.output_name].state == DONE and earlier.notes == ()


@pytest.mark.parametrize("table_format", ["parquet", "csv"])
def test_keeping_a_record_does_not_list_the_tables(
    tmp_path: Path, table_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, settings, table = done(tmp_path, table_format)
    monkeypatch.setattr(Output, "sizes", lambda *_: pytest.fail("an archive may have a million tables"))
    record = keep_record(settings, Record(RECORDING.name, output_name=RECORDING.output_name), output)
    assert record.table_bytes == (table.stat().st_size if table_format == "csv" else 0)


@pytest.mark.parametrize(
    "values",
    [
        *({"frames": 10**30}, {"frames": -1}, {"rows": 1.5}, {"duration_s": math.inf}, {"seconds": math.nan}),
        *({"label_s": {"happy": 10**400}}, {"label_s": {"happy": None}}, {"label_s": {"other": 1.0}}),
        *({"error": "\ud800"}, {"table": 3}, {"label_s": []}, {"output_bytes": {"videos.mp4": 1.5}}),
        *({"output_bytes": []}, {"output_bytes": {"videos.mp4": -1}}, {"output_bytes": {"other": 1}}),
    ],
)
def test_a_record_that_fits_into_no_manifest_counts_as_none(tmp_path: Path, values: dict) -> None:
    output, settings, _ = done(tmp_path, "csv")
    kept = tmp_path / "records" / f"{RECORDING.output_name}.json"
    kept.write_text(json.dumps(json.loads(kept.read_text()) | values))
    (tmp_path / MANIFEST).unlink()
    earlier = finished([RECORDING], [settings], output)
    assert earlier.records[RECORDING.output_name].state == WAITING
    write_manifest(output, earlier.records.values(), settings)


@pytest.mark.parametrize("table_format", ["parquet", "csv"])
@pytest.mark.parametrize("damage", ["15 bytes", "empty", "random", "cut", "grown"])
def test_a_damaged_table_is_made_again_and_reported(tmp_path: Path, table_format: str, damage: str) -> None:
    output, settings, table = done(tmp_path, table_format)
    content = table.read_bytes()
    table.write_bytes(
        {
            "15 bytes": content[:15],
            "empty": b"",
            "random": random.Random(0).randbytes(len(content) - 1),
            "cut": content[:-1],
            "grown": content + b"more",
        }[damage]
    )
    earlier = finished([RECORDING], [settings], output)
    assert earlier.records[RECORDING.output_name].state != DONE
    assert len(earlier.notes) == 1 and table.name in earlier.notes[0] and "analyzed again" in earlier.notes[0]


def test_a_table_with_other_rows_or_settings_is_made_again(tmp_path: Path) -> None:
    output, settings, table = done(tmp_path)
    whole = pq.read_table(table)
    pq.write_table(whole.slice(0, 2), table)
    assert finished([RECORDING], [settings], output).notes
    pq.write_table(whole.slice(0, 2).replace_schema_metadata(whole.schema.metadata), table)
    assert finished([RECORDING], [settings], output).notes
    records, _ = read_manifest(output)
    other = replace(records[RECORDING.output_name], rows=7)
    done(tmp_path)
    write_manifest(output, [other], settings)
    assert "3 rows instead of 7" in finished([RECORDING], [settings], output).notes[0]


def test_a_damaged_manifest_is_reported_and_loses_nothing(tmp_path: Path) -> None:
    output, settings, _ = done(tmp_path)
    for content in (b"", random.Random(1).randbytes(4000), (tmp_path / MANIFEST).read_bytes()[:-200]):
        (tmp_path / MANIFEST).write_bytes(content)
        earlier = finished([RECORDING], [settings], output)
        assert earlier.records[RECORDING.output_name].state == DONE
        assert len(earlier.notes) == 1 and MANIFEST in earlier.notes[0]


def test_manifest_rows_with_wrong_types_count_as_damage(tmp_path: Path) -> None:
    output, settings, _ = done(tmp_path)
    pq.write_table(pa.table({"source": [1], "output_name": [None], "state": ["done"]}), tmp_path / MANIFEST)
    earlier = finished([RECORDING], [settings], output)
    assert earlier.records[RECORDING.output_name].state == DONE and len(earlier.notes) == 1
    assert Record.of({"source": "a", "label_s": {"happy": "much"}}) is None
    assert Record.of([]) is None


STUCK = """
import sys, time
from fer_stream.batch.inputs import Recording, find_recordings
from fer_stream.batch.watchdog import watched
with watched(Recording("/in/a.mp4", "/in/a.mp4", 100, "stamp"), stuck_s=0.5) as progress:
    for _ in range(10):
        time.sleep(0.1)
        progress()
    print("alive", flush=True)
    time.sleep(60)
"""


def test_a_worker_without_progress_ends_and_its_recording_fails(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("os.getppid", os.getpid)  # as if this process and the stuck one had one parent
    process = subprocess.run(
        [sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=50, check=False
    )
    assert process.returncode == 1 and process.stdout == "alive\n"
    with pytest.raises(SourceError, match="no progress"), watched(RECORDING):
        pass
    with watched(RECORDING) as progress:  # a second request gets another chance
        progress()
    with pytest.raises(SourceError, match="damaged"), watched(RECORDING):
        raise SourceError("a.mp4 is damaged")
    assert list(tmp_path.iterdir()) == []


def test_blur_hides_the_faces_of_an_archive_and_makes_old_results_stale(tmp_path: Path, hopper_bgr) -> None:
    from dataclasses import asdict

    import cv2
    from helpers.contexts import camera_info
    from helpers.videos import pictures_of

    from fer_stream.batch import work
    from fer_stream.detection.detector import Detector
    from fer_stream.recognition.weights import BUILT_IN_WEIGHTS
    from fer_stream.sinks import VideoSink
    from fer_stream.system.files import file_hash
    from fer_stream.types import AnalyzedFrame, Frame

    path = tmp_path / "a.mp4"
    info = camera_info(size_wh=None)
    small = cv2.resize(hopper_bgr, (256, 300), interpolation=cv2.INTER_AREA)
    with VideoSink(path, info) as sink:
        for index in range(12):
            sink.write(AnalyzedFrame(Frame(small, index, index / 30), ()), small)
    plain = Settings(file_hash(BUILT_IN_WEIGHTS), save=True)
    blurred = replace(plain, blur=True, scan_every=1)
    assert plain.key != blurred.key and asdict(plain)["blur"] is False
    (recording,) = find_recordings([str(path)])
    for settings, seen in ((plain, True), (blurred, False)):
        output = Output(str(tmp_path / f"out-{seen}"))
        output.make()
        work.analyze(settings, None, recording, output)
        (video,) = (tmp_path / f"out-{seen}" / "videos").iterdir()
        middle = pictures_of(video)[6]
        assert bool(len(Detector().scan(middle))) is seen


def test_a_table_counts_before_the_manifest_knows_it(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"x")
    (recording,) = find_recordings([str(tmp_path / "a.mp4")])
    cpu, cuda = Settings("0"), Settings("0", device_kind="cuda")
    output = Output(str(tmp_path / "out"))
    old = Record(recording.name, "old", cpu.key, "done", output_name=recording.output_name)
    write_manifest(output, [old], cpu)
    with output.writing("tables", f"{recording.output_name}.parquet") as path:
        writer = TableWriter(path, 1.0)
        writer.close(asdict(replace(old, stamp=recording.stamp)))
    states = [finished([recording], kinds, output).records for kinds in ([cpu], [cuda], [cpu, cuda])]
    assert [state[recording.output_name].state for state in states] == ["done", "waiting", "done"]


def test_other_labels_or_another_threshold_make_a_finished_table_stale(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"x")
    (recording,) = find_recordings([str(tmp_path / "a.mp4")])
    before = Settings("0", labels="ferplus", unsure_below=0.5)
    output = Output(str(tmp_path / "out"))
    record = Record(recording.name, recording.stamp, before.key, "done", output_name=recording.output_name)
    with output.writing("tables", f"{recording.output_name}.parquet") as path:
        TableWriter(path, 1.0).close(asdict(record))
    write_manifest(output, [record], before)
    for after, state in (
        (before, "done"),
        (replace(before, labels="fer2013"), "waiting"),
        (replace(before, unsure_below=0.6), "waiting"),
        (replace(before, unsure_below=0.0), "waiting"),
        (replace(before, unsure_below=None), "waiting"),
    ):
        assert finished([recording], [after], output).records[recording.output_name].state == state


def test_a_record_of_another_version_can_be_read():
    assert Record.of({"source": "a", "new": 1}) == Record("a")
    assert Record.of({"new": 1}) is None and Record.of(None) is None
