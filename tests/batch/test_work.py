"""The tasks of a worker, run in this process."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import av
import pytest

pytest.importorskip("ray", reason="needs the extra batch: pip install '.[batch]'")
pytest.importorskip("fsspec")

import fsspec
import pyarrow.parquet as pq
from helpers.contexts import make_info

from fer_stream.batch import work
from fer_stream.batch.inputs import find_recordings
from fer_stream.batch.manifest import finished, same_analysis, write_manifest
from fer_stream.batch.output_folder import FOLDERS, Output
from fer_stream.batch.parts import Part
from fer_stream.errors import WeightsError


def test_a_worker_reads_and_writes_other_file_systems(settings, clip):
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/in/hopper.mp4", clip.read_bytes())
    (recording,) = find_recordings(["memory://in/hopper.mp4"])
    output = Output("memory://results/here")
    output.make()
    settings = replace(settings, save=True, chart=True, smooth_s=0.0)
    whole = work.analyze(settings, None, recording, output)
    one = pq.read_table(memory.open(f"/results/here/{whole.table}"))
    videos = memory.find("/results/here/videos")
    parts = [Part(0, 0, 0.55), Part(1, 0.55, None, 0.15)]
    results = [work.analyze_part(settings, None, recording, part, output) for part in parts]
    memory.rm(videos)
    assert work.join_parts(settings, recording, parts, results, output).frames == whole.frames == 12
    assert pq.read_table(memory.open(f"/results/here/{whole.table}")).num_rows == one.num_rows
    assert set(one["source"].to_pylist()) == {"memory://in/hopper.mp4"}
    assert output.names("parts") == set()
    with memory.open(videos[0]) as file, av.open(file) as video:
        assert sum(1 for _ in video.decode(video=0)) == 12
    assert memory.cat_file(memory.find("/results/here/charts")[0])[:4] == b"\x89PNG"


def test_a_worker_with_another_version_or_weights_is_refused(settings, monkeypatch):
    monkeypatch.setattr(work, "_loaded", None)
    for other, words in (
        (replace(settings, version="0.0.1"), "was started with 0.0.1; install the same version on every"),
        (replace(settings, weights_hash="0" * 64), "differ from those where fer-batch was started"),
    ):
        with pytest.raises(WeightsError, match=words):
            work.load(other, None)


def test_each_row_of_the_summary_names_its_annotation(settings, clip, tmp_path):
    output = Output(str(tmp_path / "out"))
    output.make()
    records = []
    for labels in ("ferplus", "fer2013"):  # of two runs, each of which was given one recording
        video = tmp_path / f"{labels}.mp4"
        video.write_bytes(clip.read_bytes())
        (recording,) = find_recordings([str(video)])
        settings = replace(settings, labels=labels)
        records.append(work.analyze(settings, None, recording, output))
        write_manifest(output, records, settings)
    rows = pq.read_table(tmp_path / "out" / "summary.parquet").to_pylist()
    assert {Path(row["source"]).stem: row["labels"] for row in rows} == {
        "ferplus": "ferplus",
        "fer2013": "fer2013",
    }


def test_workers_use_the_labels_and_threshold_of_the_command(settings, monkeypatch):
    monkeypatch.setattr(work, "_loaded", None)
    analyzer = work.load(replace(settings, labels="fer2013", unsure_below=0.25), None)
    assert (analyzer.labels, analyzer.unsure_below) == ("fer2013", 0.25)


def test_each_folder_of_the_output_has_its_own_sink(settings, clip, tmp_path):
    settings = replace(settings, save=True, chart=True, report=True, episodes="csv")
    assert set(settings.folders) == set(FOLDERS)
    (recording,) = find_recordings([str(clip)])
    names = {}
    for folder in set(FOLDERS) - {"tables"}:
        path = tmp_path / f"a{settings.suffix(folder)}"
        names[folder] = work._sink(folder, path, path, make_info(), recording).name
    assert names == {"videos": "video", "charts": "chart", "reports": "report", "episodes": "episodes"}
    with pytest.raises(LookupError, match="'crops'"):
        work._sink("crops", tmp_path, tmp_path, make_info(), recording)


def test_outputs_of_an_earlier_run_stay_while_they_agree_with_the_table(settings, clip, tmp_path):
    (recording,) = find_recordings([str(clip)])
    output = Output(str(tmp_path))
    work.analyze(replace(settings, save=True, episodes="csv"), None, recording, output)
    earlier = {
        path: path.stat().st_mtime_ns for path in (*tmp_path.glob("videos/*"), *tmp_path.glob("episodes/*"))
    }
    assert len(earlier) == 2
    work.analyze(replace(settings, table="csv", chart=True), None, recording, output)
    assert {path: path.stat().st_mtime_ns for path in earlier} == earlier
    assert len([*tmp_path.glob("charts/*")]) == 1
    work.analyze(replace(settings, min_face=50), None, recording, output)  # other faces, so other videos
    assert not any(path.exists() for path in earlier) and not [*tmp_path.glob("charts/*")]


@pytest.mark.parametrize("table", ["parquet", "csv"])
@pytest.mark.parametrize("cut", [False, True])
def test_a_damaged_output_is_made_again_and_reported(settings, clip, tmp_path, table, cut):
    (recording,) = find_recordings([str(clip)])
    output, both = Output(str(tmp_path)), replace(settings, table=table, save=True, episodes="csv")
    output.make()
    if cut:
        parts = [Part(0, 0, 0.55), Part(1, 0.55, None, 0.15)]
        results = [work.analyze_part(both, None, recording, part, output) for part in parts]
        work.join_parts(both, recording, parts, results, output)
    else:
        work.analyze(both, None, recording, output)
    (video,) = tmp_path.glob("videos/*")
    last = work.analyze(replace(both, save=False, chart=True), None, recording, output)  # keeps the video
    for _ in range(2):  # without a manifest and with one
        earlier = finished([recording], [both], output)
        assert earlier.records[recording.output_name].state == "done" and earlier.notes == ()
        write_manifest(output, [last], settings)
    os.truncate(video, 100)
    earlier = finished([recording], [both], output)
    assert earlier.records[recording.output_name].state == "waiting"
    assert earlier.notes == (
        f"{video} has changed size since it was written; the recording must be analyzed again",
    )
    write_manifest(output, [replace(last, output_bytes={})], settings)  # as by an older version
    assert finished([recording], [both], output).records[recording.output_name].state == "done"


def test_a_killed_run_leaves_no_table_that_vouches_for_its_new_outputs(settings, clip, tmp_path):
    (recording,) = find_recordings([str(clip)])
    output = Output(str(tmp_path))
    work.analyze(replace(settings, table="csv"), None, recording, output)
    work._remove_outdated(replace(settings, min_face=50), recording, output)
    assert same_analysis(recording, settings, output) is None
    assert not [*tmp_path.glob("tables/*")] and not [*tmp_path.glob("records/*")]


@pytest.mark.parametrize("table", ["csv", "parquet"])
def test_an_interrupted_run_keeps_the_outputs_of_the_same_analysis(
    settings, clip, tmp_path, monkeypatch, table
):
    (recording,) = find_recordings([str(clip)])
    output, settings = Output(str(tmp_path)), replace(settings, table=table)
    work.analyze(replace(settings, save=True), None, recording, output)
    (video,) = tmp_path.glob("videos/*")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(work, "_run", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        work.analyze(replace(settings, episodes="csv"), None, recording, output)
    work.analyze(replace(settings, episodes="csv"), None, recording, output)
    assert video.exists()
