"""Formats of an archive's tables and summary, and the provenance in Parquet files."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from helpers.tables import csv_rows

pytest.importorskip("ray", reason="needs Ray: pip install '.[batch]'")
pytest.importorskip("fsspec")

import pyarrow.parquet as pq

from fer_stream.batch import work
from fer_stream.batch.cli import build_parser
from fer_stream.batch.manifest import finished, write_manifest
from fer_stream.batch.output_folder import Output
from fer_stream.batch.parts import Part
from fer_stream.command import cli as single
from fer_stream.expressions import LABELS
from fer_stream.recognition.weights import BUILT_IN_WEIGHTS
from fer_stream.system.files import file_hash
from fer_stream.version import __version__


def test_a_csv_table_is_the_one_that_fer_stream_writes(recording, settings, tmp_path):
    output = Output(str(tmp_path / "out"))
    record = work.analyze(replace(settings, table="csv"), None, recording, output)
    assert record.table.endswith(".csv")
    ours = (tmp_path / "out" / record.table).read_bytes()
    assert single.main([recording.address, "--data", str(tmp_path / "b.csv"), "--quiet"]) == 0
    assert ours == (tmp_path / "b.csv").read_bytes()


def test_the_summary_has_shares_including_unsure_in_both_formats(recording, settings, tmp_path):
    for table_format in ("parquet", "csv"):
        # With this threshold, the face is always unsure.
        chosen = replace(settings, table=table_format, unsure_below=1.0)
        output = Output(str(tmp_path / table_format))
        record = work.analyze(chosen, None, recording, output)
        write_manifest(output, [record], chosen)
        folder = tmp_path / table_format
        summaries = [path.name for path in folder.iterdir() if path.name.startswith("summary")]
        assert summaries == [f"summary.{table_format}"]
        if table_format == "csv":
            (row,) = csv_rows(folder / "summary.csv")
        else:
            (row,) = pq.read_table(folder / "summary.parquet").to_pylist()
        assert float(row["face_s"]) == pytest.approx(3.0)
        assert float(row["share_unsure"]) == 1 and row["expression"] == "unsure"
        assert sum(float(row[f"share_{label}"]) for label in LABELS) == pytest.approx(1, abs=1e-5)
        assert not {"happy", "sad"} & set(row), "a share is called that"


def test_parquet_files_say_what_made_them(recording, settings, tmp_path):
    settings = replace(settings, unsure_below=0.3)
    output = Output(str(tmp_path / "out"))
    record = work.analyze(settings, None, recording, output)
    write_manifest(output, [record], settings)
    assert (
        single.main([recording.address, "--data", str(tmp_path / "b.parquet"), "--unsure-below", "0.3"]) == 0
    )
    for path in (
        tmp_path / "out" / record.table,
        tmp_path / "out" / "summary.parquet",
        tmp_path / "b.parquet",
    ):
        said = {key.decode(): value.decode() for key, value in pq.read_schema(path).metadata.items()}
        assert said["fer_stream.version"] == __version__
        assert said["fer_stream.weights_sha256"] == file_hash(BUILT_IN_WEIGHTS)
        assert said["fer_stream.labels"] == "ferplus"
        assert said["fer_stream.unsure_below"] == "0.3"
        assert json.loads(said["fer_stream.options"])["unsure-below"] == "0.3"


def test_the_threshold_in_the_weights_is_in_every_result(batch, clip, tmp_path):
    for table_format in ("parquet", "csv"):
        folder = tmp_path / table_format
        assert batch(clip, "--output", folder, "--table", table_format, "--blur", "--workers", 1).code == 0
        if table_format == "csv":
            (record,) = (folder / "records").iterdir()
            found = [json.loads(record.read_text())["provenance"]]
        else:
            paths = [folder / "summary.parquet", *(folder / "tables").iterdir()]
            found = [
                {key.decode(): value.decode() for key, value in pq.read_schema(path).metadata.items()}
                for path in paths
            ]
        for said in found:
            assert (said["fer_stream.unsure_below"], said["fer_stream.labels"]) == ("0.72", "ferplus")
            options = json.loads(said["fer_stream.options"])
            names = [f"--{name}" for name in options if name != "blur"]
            values = [f"{name}={options[name[2:]]}" for name in names]
            parsed = build_parser().parse_args(["x", "--output", "y", *values, "--blur"])
            assert parsed.smooth == 0.3 and options["blur"] == "True"


@pytest.mark.parametrize("table_format", ["parquet", "csv"])
def test_tables_count_after_a_killed_driver_unless_the_format_changes(
    recording, settings, tmp_path, table_format
):
    output = Output(str(tmp_path / "out"))
    chosen = replace(settings, table=table_format)
    other = replace(settings, table="csv" if table_format == "parquet" else "parquet")
    name = recording.output_name
    work.analyze(chosen, None, recording, output)  # without a manifest
    assert finished([recording], [chosen], output).records[name].state == "done"
    assert finished([recording], [other], output).records[name].state == "waiting"
    changed = replace(recording, stamp="another")
    assert finished([changed], [chosen], output).records[name].state == "waiting"
    work.analyze(other, None, recording, output)
    assert [path.suffix for path in (tmp_path / "out" / "tables").iterdir()] == [f".{other.table}"]
    assert finished([recording], [other], output).records[name].state == "done"
    assert finished([recording], [chosen], output).records[name].state == "waiting"


def test_joined_parts_give_the_csv_of_one_pass(recording, settings, tmp_path):
    chosen = replace(settings, table="csv", smooth_s=0.0, scan_every=1)
    one, many = Output(str(tmp_path / "one")), Output(str(tmp_path / "many"))
    whole = work.analyze(chosen, None, recording, one)
    parts = [Part(0, 0, 1.55), Part(1, 1.55, None, 0.55)]
    results = [work.analyze_part(chosen, None, recording, part, many) for part in parts]
    joined = work.join_parts(chosen, recording, parts, results, many)
    assert joined.label_s == pytest.approx(whole.label_s)
    ours, theirs = (csv_rows(tmp_path / folder / whole.table) for folder in ("many", "one"))
    assert [(row["frame"], row["face_id"]) for row in ours] == [
        (row["frame"], row["face_id"]) for row in theirs
    ]
    assert not list((tmp_path / "many" / "parts").iterdir())
