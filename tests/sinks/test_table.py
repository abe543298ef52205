"""The data table: it reads back as it was written, even after a run that failed."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from helpers.contexts import make_info
from helpers.faces import make_frame
from helpers.paths import ROOT

from fer_stream.errors import OutputError, UsageError
from fer_stream.expressions import EXPRESSIONS
from fer_stream.sinks import TABLE_COLUMNS, TableSink
from fer_stream.types import AnalyzedFrame, Face


def random_face(face_id: int, seed: int = 0) -> Face:
    weights = np.random.default_rng(seed).random(7).astype(np.float32) ** 4
    box = np.array([1.234, 2.345, 30.5, 40.25], np.float32)
    return Face(face_id, box, np.zeros((5, 2), np.float32), 0.987654321, weights / weights.sum())


def frame_at(index: int, *faces: Face, source: str = "clip.mp4") -> AnalyzedFrame:
    return make_frame(index, index * 1001 / 24000, *faces, source=source)


FRAMES = [
    frame_at(0),
    frame_at(1, random_face(1, 1), random_face(7, 2)),
    frame_at(2, random_face(7, 3), source='Zoë, "größer".mp4'),
]


def read(path: Path) -> list[dict]:
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path).to_pylist()
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    rows = list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8"), newline="")))
    texts = ("source", "expression")
    return [{k: (v or None) if k in texts else (float(v) if v else None) for k, v in r.items()} for r in rows]


@pytest.mark.parametrize("extension", [".csv", ".jsonl", ".parquet"])
def test_each_face_has_a_row_and_so_has_a_frame_without_faces(tmp_path, extension):
    path = tmp_path / f"table{extension}"
    with TableSink(path, make_info()) as sink:
        for frame in FRAMES:
            sink.write(frame)
    assert sink.outputs() == [path] and [entry.name for entry in tmp_path.iterdir()] == [path.name]

    rows = read(path)
    assert all(tuple(row) == TABLE_COLUMNS for row in rows)
    assert [(row["frame"], row["face_id"]) for row in rows] == [(0, None), (1, 1), (1, 7), (2, 7)]
    assert all(rows[0][column] is None for column in TABLE_COLUMNS[3:])
    assert [row["source"] for row in rows[2:]] == ["clip.mp4", 'Zoë, "größer".mp4']
    assert rows[3]["time_s"] == pytest.approx(2002 / 24000, abs=1e-6)
    faces = [FRAMES[1].faces[0], FRAMES[1].faces[1], FRAMES[2].faces[0]]
    for row, face in zip(rows[1:], faces, strict=True):
        assert [row[key] for key in ("x1", "y1", "x2", "y2")] == pytest.approx(face.box_xyxy, abs=0.006)
        assert row["detection_score"] == pytest.approx(0.987654, abs=1e-6)
        assert (row["expression"], row["confidence"]) == (face.expression, row[face.expression])
        assert [row[name] for name in EXPRESSIONS] == pytest.approx(face.probabilities, abs=1e-6)
        assert sum(row[name] for name in EXPRESSIONS) == pytest.approx(1, abs=1e-5)


def test_csv_has_a_header_and_line_feeds(tmp_path):
    with TableSink(tmp_path / "t.csv", make_info()) as sink:
        sink.write(FRAMES[0])
    assert (tmp_path / "t.csv").read_bytes() == (
        b"source,frame,time_s,face_id,x1,y1,x2,y2,detection_score,expression,confidence,"
        b"angry,disgust,fear,happy,neutral,sad,surprise\nclip.mp4,0,0.0,,,,,,,,,,,,,,,\n"
    )


def test_a_parquet_table_has_types_and_row_groups(tmp_path):
    with TableSink(tmp_path / "t.parquet", make_info()) as sink:
        for index in range(9000):
            sink.write(frame_at(index, random_face(1)) if index % 2 else frame_at(index))
    file = pyarrow.parquet.ParquetFile(tmp_path / "t.parquet")
    assert file.num_row_groups == 2 and file.metadata.num_rows == 9000
    kinds = {field.name: str(field.type) for field in file.schema_arrow}
    assert (kinds["frame"], kinds["face_id"], kinds["x1"]) == ("int64", "int64", "double")
    assert kinds["source"] == "string"


@pytest.mark.parametrize("extension", [".csv", ".jsonl", ".parquet"])
def test_whole_rows_are_soon_on_disk(tmp_path, extension):
    path = tmp_path / f"table{extension}"
    sink = TableSink(path, make_info())
    sink.write(frame_at(0, random_face(1)))
    time.sleep(0.55)
    sink.write(frame_at(1, random_face(1)))
    sink.write(frame_at(2, random_face(1)))
    (found,) = sink.outputs()
    assert found.read_bytes().endswith(b"\n")
    assert [row["frame"] for row in read(found)] == [0, 1]
    assert found.name == ("table.parquet.partial.jsonl" if extension == ".parquet" else path.name)
    sink.close()
    sink.close()
    assert [row["frame"] for row in read(path)] == [0, 1, 2]


def test_the_rows_of_a_killed_run_are_not_overwritten(tmp_path):
    (tmp_path / "t.parquet.partial.jsonl").write_text("{}\n")
    with pytest.raises(OutputError, match=r"partial\.jsonl exists"):
        TableSink(tmp_path / "t.parquet", make_info())


def run(program: str, **options: object) -> subprocess.Popen:
    head = "import sys; sys.path[:0] = sys.argv[1:]\nfrom test_table import *\n"
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            head + textwrap.dedent(program),
            str(ROOT),
            str(ROOT / "tests"),
            str(ROOT / "tests" / "sinks"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def test_standard_output_gets_json_lines_at_once():
    program = """
        sink = TableSink("-", make_info())
        sink.write(FRAMES[1]); sys.stdin.readline(); sink.close()
    """
    with run(program, stdin=subprocess.PIPE) as process:
        rows = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.communicate(b"\n")
    assert [row["face_id"] for row in rows] == [1, 7] and tuple(rows[0]) == TABLE_COLUMNS
    assert process.returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows reports a closed pipe otherwise")
def test_a_reader_that_goes_away_is_an_output_error():
    program = """
        sink = TableSink("-", make_info())
        try:
            while True:
                sink.write(FRAMES[1])
        except OutputError as error:
            sink.close()
            sys.exit(40 + isinstance(error.__cause__, BrokenPipeError))
    """
    with run(program) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 41


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("extension", [".csv", ".jsonl", ".parquet"])
def test_a_full_disk_is_one_line(tmp_path, extension):
    path = tmp_path / f"full{extension}"
    rows_path = path.with_name(f"{path.name}.partial.jsonl") if extension == ".parquet" else path
    rows_path.symlink_to("/dev/full")
    sink = TableSink(path, make_info(), overwrite=True)
    sink.write(FRAMES[1])
    with pytest.raises(OutputError, match=r"can't write .*full.*: No space left on device") as caught:
        sink.close()
    assert "\n" not in str(caught.value)
    sink.close()


def test_wrong_outputs_are_found_at_once(tmp_path):
    source = tmp_path / "clip.csv"
    source.write_text("the input")
    with pytest.raises(UsageError, match=r"\.csv, \.jsonl or \.parquet"):
        TableSink(tmp_path / "t.xlsx", make_info())
    with pytest.raises(OutputError, match="--overwrite"):
        TableSink(source, make_info())
    with pytest.raises(OutputError, match="the input itself"):
        TableSink(source, make_info(path=source), overwrite=True)
    with pytest.raises(OutputError, match="can't write"):
        TableSink(source / "t.csv", make_info())
    assert source.read_text() == "the input"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_not_unicode_is_escaped(tmp_path):
    for extension in (".csv", ".parquet"):
        with TableSink(tmp_path / f"t{extension}", make_info()) as sink:
            sink.write(frame_at(0, source=os.fsdecode(b"caf\xe9.mp4")))
        assert read(tmp_path / f"t{extension}")[0]["source"] == r"caf\udce9.mp4"
