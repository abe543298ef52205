"""The folder of results: one run at a time, on this machine and on others."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="needs the extra batch: pip install '.[batch]'")
pytest.importorskip("fsspec")

from fer_stream.batch.manifest import read_manifest
from fer_stream.batch.output_folder import Output
from fer_stream.batch.tables import TableWriter
from fer_stream.errors import OutputError


def test_another_machine_must_see_the_same_output_folder(tmp_path):
    (tmp_path / "here").mkdir()
    with Output(str(tmp_path / "here")).marked() as marked:
        marked.check()
        (tmp_path / "here").rename(tmp_path / "elsewhere")
        with pytest.raises(OutputError, match=r"sees a different .* all machines share"):
            marked.check()


def test_two_runs_cannot_share_an_output_folder(tmp_path):
    output = Output(str(tmp_path))
    output.make()
    half = tmp_path / "tables" / ".fer-stream-1-a.part"
    (tmp_path / "records").mkdir()
    halves = [half, *(tmp_path / folder / half.name for folder in (".", "records", "videos"))]
    for left_over in halves:
        left_over.write_bytes(b"half")
    marks = [{"host": platform.node(), "process": os.getpid(), "time_s": time.time() - 3600}]
    if os.name == "posix":
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        marks.append({"host": platform.node(), "process": ended.pid, "time_s": time.time()})
    for mark in marks:  # left by killed runs
        (tmp_path / f".fer-batch-run-{mark['process']}").write_text(json.dumps(mark))
    with output.marked() as marked:
        assert not any(left_over.exists() for left_over in halves) and len([*tmp_path.glob(".*")]) == 1
        half.write_bytes(b"being written")
        for again in (Output(str(tmp_path)), output):
            again.make()
            with pytest.raises(OutputError, match="another fer-batch"), again.marked():
                pass
        marked.check()
        assert half.exists()
    assert not [*tmp_path.glob(".*")]
    memory = Output("memory://two-runs")
    memory.make()
    with memory.marked(), pytest.raises(OutputError, match="another fer-batch"), memory.marked():
        pass


def test_a_table_has_its_suffix_only_once_it_is_finished(tmp_path):
    output = Output(str(tmp_path))
    for name in ("a.parquet", "a.csv"):
        with output.writing("tables", name) as path:
            path.write_bytes(b"half")
            assert not [*(tmp_path / "tables").glob(f"*{Path(name).suffix}")]
        assert (tmp_path / "tables" / name).read_bytes() == b"half"


def test_errors_while_reading_are_not_reported_as_output_errors(tmp_path, monkeypatch):
    output = Output(str(tmp_path))
    with pytest.raises(PermissionError), output.writing("tables", "a.parquet"):
        raise PermissionError(13, "of the recording")
    assert not [*(tmp_path / "tables").iterdir()]

    def denied(*_arguments: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(output.fs), "ls", denied)
    with pytest.raises(OutputError, match="can't read"):
        output.names("tables")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_an_error_of_the_output():
    with pytest.raises(OutputError, match="space"):
        TableWriter(Path("/dev/full"), 1.0)


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "tables").write_bytes(b"")
    with pytest.raises(OutputError, match=f"can't write {tmp_path}/tables: File exists"):
        Output(str(tmp_path)).make()


def test_a_folder_in_the_place_of_the_manifest_is_one_line(tmp_path):
    (tmp_path / "manifest.parquet").mkdir()
    with pytest.raises(OutputError, match=r"manifest\.parquet: it is a folder"):
        read_manifest(Output(str(tmp_path)))
