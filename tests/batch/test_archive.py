"""Archives from start to end on a Ray cluster: repeated runs, lost workers, Ctrl-C, estimates."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.archives import write_clip
from helpers.command import rest_of

pytest.importorskip("ray", reason="needs the extra batch: pip install '.[batch]'")
pytest.importorskip("fsspec")

import pyarrow.parquet as pq
import ray.exceptions

from fer_stream.batch import work
from fer_stream.batch.cluster import Cluster
from fer_stream.batch.estimate import estimate
from fer_stream.batch.inputs import find_recordings
from fer_stream.batch.manifest import Record
from fer_stream.batch.parts import Header
from fer_stream.batch.progress import Progress
from fer_stream.batch.settings import Settings
from fer_stream.command import cli as single
from fer_stream.errors import SourceError
from fer_stream.expressions import EXPRESSIONS, LABELS
from fer_stream.system.files import file_hash

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


linux = pytest.mark.skipif(sys.platform != "linux", reason="finds workers in /proc")


WAIT_S = 120


def manifest(output: Path) -> dict[str, dict]:
    return {Path(row["source"]).name: row for row in pq.read_table(output / "manifest.parquet").to_pylist()}


@pytest.mark.slow
def test_a_second_run_does_only_what_is_missing_failed_or_changed(batch, cluster, clip, hopper_bgr, tmp_path):
    archive, output = tmp_path / "archive", tmp_path / "out"
    write_clip(archive / "a.mp4", hopper_bgr, 12)
    write_clip(archive / "b.mp4", hopper_bgr, 150, rate=5)  # long enough to be cut
    (archive / "bad.mp4").write_bytes(b"no video at all")
    command = (archive, "--output", output, "--ray", cluster.address)
    said = batch(*command)
    assert said.code == 3 and said.out == ""
    assert all(line.startswith("fer-batch: ") for line in said.err.splitlines()), said.err
    assert "failed" in said.err and "bad.mp4 can't be read as a video" in said.err
    rows = manifest(output)
    assert {name: row["state"] for name, row in rows.items()} == {
        "a.mp4": "done",
        "b.mp4": "done",
        "bad.mp4": "failed",
    }
    assert (rows["b.mp4"]["frames"], rows["b.mp4"]["faces"], rows["b.mp4"]["duration_s"]) == (150, 1, 30.0)
    assert rows["b.mp4"]["hash"] == file_hash(archive / "b.mp4") and rows["b.mp4"]["seconds"] > 0
    assert rows["bad.mp4"]["error"].endswith("or not a video")
    # All tables can be read as one, and a recording's table equals that of fer-stream.
    assert pq.read_table(output / "tables").num_rows == 162
    summary = pq.read_table(output / "summary.parquet").to_pylist()
    assert [row["face_s"] for row in summary] == pytest.approx([1.2, 30])
    assert sum(summary[0][f"share_{label}"] for label in LABELS) == pytest.approx(1, abs=1e-5)
    assert single.main([str(archive / "b.mp4"), "--data", str(tmp_path / "b.parquet"), "--quiet"]) == 0
    ours, theirs = pq.read_table(output / rows["b.mp4"]["table"]), pq.read_table(tmp_path / "b.parquet")
    assert ours.column_names == theirs.column_names
    for name in ("source", "frame", "time_s", "face_id"):
        assert ours[name].equals(theirs[name])
    for name in ("x1", "y2"):
        np.testing.assert_allclose(ours[name].to_numpy(), theirs[name].to_numpy(), atol=2e-2)
    for name in EXPRESSIONS:
        np.testing.assert_allclose(ours[name].to_numpy(), theirs[name].to_numpy(), atol=1e-4)

    tables = {path: path.stat().st_mtime_ns for path in (output / "tables").iterdir()}
    (archive / "bad.mp4").write_bytes(clip.read_bytes())
    write_clip(archive / "a.mp4", hopper_bgr, 14)
    (output / "manifest.parquet").unlink()  # as after a killed driver; the tables hold the records
    said = batch(*command)
    assert said.code == 0 and "2 of 2 recordings done" in said.err and "1 were done before" in said.err
    rows = manifest(output)
    assert [row["state"] for row in rows.values()] == ["done"] * 3 and rows["a.mp4"]["frames"] == 14
    kept = output / rows["b.mp4"]["table"]
    assert kept.stat().st_mtime_ns == tables[kept]

    said = batch(*command)
    assert said.code == 0 and "nothing to do" in said.err and "3 recordings done already" in said.err
    said = batch(*command, "--smooth", "0", "--dry-run")
    assert said.code == 0 and len(said.out.splitlines()) == 3
    assert re.search(r"about \d+:\d\d with 2 at once", said.err)
    said = batch(
        archive / "b.mp4", *command[1:], "--chart", "--save", "--part", "12", "--smooth", "0", "--quiet"
    )
    assert said.code == 0 and said.err == ""
    assert [path.suffix for folder in ("videos", "charts") for path in (output / folder).iterdir()] == [
        ".mp4",
        ".png",
    ]
    assert not any((output / "parts").iterdir())


def test_a_dry_run_writes_nothing(batch, cluster, clip, tmp_path):
    said = batch(clip, "--output", tmp_path / "out", "--ray", cluster.address, "--dry-run")
    assert said.code == 0 and said.out == f"{clip}\t0:01\t1 part\n"
    assert (
        "1 recording, " in said.err and "in 1 part to do" in said.err and "s of video per second" in said.err
    )
    assert not (tmp_path / "out").exists()


def test_a_bad_recording_does_not_end_an_estimate(tmp_path):
    class Here:
        """Runs tasks at once. Reading a header kills the worker."""

        def slots(self, _settings: Settings) -> int:
            return 1

        def submit(self, function: Callable[..., object], *_arguments: object) -> object:
            return function

        def wait(self, pending: list[object], _timeout_s: float) -> list[object]:
            return pending

        def result(self, function: object) -> None:
            if function is work.read_header:
                raise SourceError("the worker died")

    (tmp_path / "a.mp4").write_bytes(b"x")
    recordings = find_recordings([str(tmp_path)])
    estimated = estimate(recordings, Settings("0"), None, Here())
    assert estimated.recordings == [(recordings[0], 0.0, 1)] and estimated.run_s is None


@pytest.mark.parametrize(("is_readable", "video_s"), [(True, 20.0), (False, 10.0)])
def test_an_estimate_adds_the_mean_only_for_a_recording_that_can_be_read(is_readable, video_s, tmp_path):
    class Here:
        """Finds a length of 10 s for the first recording, and no length for the second one."""

        def slots(self, _settings: Settings) -> int:
            return 1

        def submit(self, function: Callable[..., object], *arguments: object) -> object:
            return function, arguments

        def wait(self, pending: list[object], _timeout_s: float) -> list[object]:
            return pending

        def result(self, task: tuple) -> object:
            function, arguments = task
            if function is work.read_header:
                known = arguments[1].name.endswith("a.mp4")
                return Header(duration_s=10.0, is_readable=True) if known else Header(is_readable=is_readable)
            return (4.0, 1.0) if function is work.measure else None

    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"x")
    estimated = estimate(find_recordings([str(tmp_path)]), Settings("0"), None, Here())
    assert estimated.video_s == video_s


def test_a_failed_recording_does_not_count_for_the_time_left(tmp_path, monkeypatch, capsys):
    for name, size in (("bad.mp4", 9), ("done.mp4", 4000), ("next.mp4", 8000)):
        (tmp_path / name).write_bytes(b"x" * size)
    recordings = find_recordings([str(tmp_path)])
    bad, finished, _ = recordings
    now_s = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    with Progress(recordings, quiet=False) as progress:
        progress.begin()
        now_s = 1.0
        progress.failed(bad, SourceError("it can't be read"), 1.0)
        assert "left" not in capsys.readouterr().err
        now_s = 20.0
        progress.done(finished, Record("done.mp4", duration_s=30.0), 1.0)
        assert "0:40 left" in capsys.readouterr().err


def test_the_line_about_a_recording_tells_it_from_those_with_the_same_name(tmp_path, capsys):
    for folder in ("monday", "tuesday"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.mp4").write_bytes(b"x")
    recordings = find_recordings([str(tmp_path)])
    with Progress(recordings, quiet=False) as progress:
        for recording in recordings:
            progress.done(recording, Record(recording.name), 1.0)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"fer-batch: 1/2 done monday{os.sep}x.mp4: ")
    assert lines[1].startswith(f"fer-batch: 2/2 done tuesday{os.sep}x.mp4: ")


@pytest.mark.parametrize(
    ("death", "words"),
    [
        (ray.exceptions.OutOfMemoryError("killed"), "the worker ran out of memory; use fewer --workers"),
        (
            ray.exceptions.WorkerCrashedError(),
            "the worker died 4 times (WorkerCrashedError); the recording may",
        ),
    ],
)
@pytest.mark.parametrize("quiet", [False, True])
def test_the_line_about_a_dead_worker_names_the_recording(death, words, quiet, tmp_path, monkeypatch, capsys):
    def die(_reference: object) -> None:
        raise death

    monkeypatch.setattr(ray, "get", die)
    with pytest.raises(SourceError) as caught:
        Cluster(1.0).result("reference")
    (tmp_path / "a.mp4").write_bytes(b"x")
    recordings = find_recordings([str(tmp_path)])
    with Progress(recordings, quiet=quiet) as progress:
        progress.failed(recordings[0], caught.value, 1.0)
    start = "fer-batch: " if quiet else "fer-batch: 1/1 failed "
    assert capsys.readouterr().err.startswith(f"{start}{recordings[0].name}: {words}")


def test_the_tasks_that_load_the_networks_run_on_a_gpu(monkeypatch):
    class Task:
        """Stands in for Ray's remote function. It returns the share of a GPU that it would get."""

        def __init__(self, share: float) -> None:
            self.share = share

        def options(self, **_options: object) -> Task:
            return self

        def remote(self, *_arguments: object) -> float:
            return self.share

    monkeypatch.setattr(ray, "remote", lambda **options: lambda _function: Task(options["num_gpus"]))
    tasks = (work.prepare, work.analyze, work.analyze_part, work.measure, work.read_header, work.join_parts)
    for device, shares in (("cuda", [0.25] * 4 + [0, 0]), ("cpu", [0] * 6)):
        submit = Cluster(0.25).submit
        assert [submit(task, Settings("0", device=device)) for task in tasks] == shares


def test_the_line_about_a_failed_recording_names_it_once(tmp_path, capsys):
    (tmp_path / "a.mp4").write_bytes(b"x")
    recordings = find_recordings([str(tmp_path)])
    with Progress(recordings, quiet=True) as progress:
        progress.failed(recordings[0], SourceError(f"{recordings[0].name} can't be read"), 1.0)
    assert capsys.readouterr().err == f"fer-batch: {recordings[0].name} can't be read\n"


@pytest.mark.parametrize(
    ("options", "written"),
    [
        ({"table": "csv"}, "tables/*.csv, summary.csv, manifest.parquet"),
        (
            {"save": True, "report": True},
            "tables/*.parquet, videos/*.mp4, reports/*.html, summary.parquet, manifest.parquet, index.html",
        ),
    ],
)
def test_the_last_line_names_everything_that_was_written(options, written, tmp_path, capsys):
    (tmp_path / "a.mp4").write_bytes(b"x")
    recordings = find_recordings([str(tmp_path)])
    with Progress(recordings, quiet=False) as progress:
        progress.begin()
        progress.done(recordings[0], Record("a.mp4"), 1.0)
        progress.summarize(0, "results", Settings("0", **options))
    assert capsys.readouterr().err.splitlines()[-1] == f"fer-batch: wrote results: {written}"


@linux
@pytest.mark.slow
def test_a_killed_worker_loses_only_its_part(batch, cluster, hopper_bgr, tmp_path):
    import threading

    video = write_clip(tmp_path / "long.mp4", hopper_bgr, 120, size_wh=(320, 384), rate=1)
    killed: list[int] = []

    def kill() -> None:
        deadline = time.monotonic() + WAIT_S
        while len(killed) < 2 and time.monotonic() < deadline:
            for process in Path("/proc").iterdir():
                if process.name.isdecimal() and int(process.name) not in killed and len(killed) < 2:
                    try:
                        command = (process / "cmdline").read_bytes()
                    except OSError:
                        continue
                    if command.startswith(b"ray::analyze_part"):
                        os.kill(int(process.name), signal.SIGKILL)
                        killed.append(int(process.name))
            time.sleep(0.02)

    killer = threading.Thread(target=kill)
    killer.start()
    said = batch(
        *(video, "--output", tmp_path / "out", "--ray", cluster.address),
        *("--part", "12", "--smooth", "0", "--quiet"),
    )
    killer.join()
    assert len(killed) == 2
    assert (said.code, said.out, said.err) == (0, "", "")
    assert manifest(tmp_path / "out")["long.mp4"]["frames"] == 120
    assert pq.read_table(tmp_path / "out" / "tables")["frame"].to_pylist() == list(range(120))


@posix
@pytest.mark.slow
def test_ctrl_c_keeps_finished_recordings_and_the_next_run_continues(analyzer, hopper_bgr, tmp_path):
    archive, output = tmp_path / "archive", tmp_path / "out"
    for name, frames in {"a": 6, "b": 120}.items():
        write_clip(archive / f"{name}.mp4", hopper_bgr, frames, size_wh=(320, 384))
    command = [
        sys.executable,
        "-m",
        "fer_stream.batch",
        str(archive),
        "--output",
        str(output),
        "--workers",
        "1",
    ]
    run = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert run.stderr is not None
    said = [run.stderr.readline()]
    os.killpg(run.pid, signal.SIGINT)
    out, rest = rest_of(run, WAIT_S)
    said += rest.splitlines()
    assert run.returncode == 130, said
    assert said[0].startswith("fer-batch: 1/2 done a.mp4") and said[-1] == "fer-batch: interrupted"
    assert out == "" and all(line.startswith("fer-batch: ") for line in said), said
    states = {name: row["state"] for name, row in manifest(output).items()}
    assert states == {"a.mp4": "done", "b.mp4": "waiting"}
    assert len(list((output / "tables").iterdir())) <= 2  # a finished one, and one that was being written

    again = subprocess.run(command, check=False, capture_output=True, text=True, timeout=WAIT_S)
    assert again.returncode == 0 and "1 of 1 recordings done" in again.stderr, again.stderr
    assert {path.name[0] for path in (output / "tables").iterdir()} == {"a", "b"}
    assert not [path for path in output.iterdir() if path.name.startswith(".")]
