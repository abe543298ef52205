"""Interrupted runs: signals, kills, full disks, lost drives, and readers that leave."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import av.error
import pytest
from helpers.command import COLUMNS, start
from helpers.extent import amount
from helpers.paths import SAMPLE
from helpers.tiny_dataset import TINY, epochs_of, make_dataset
from helpers.videos import times_of

from fer_stream.command import cli
from fer_stream.system.interrupts import interrupts_raised

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")
FRAMES_PER_S = 30
SAMPLE_FRAMES = 239

# A forked process hangs in PyTorch if its parent has used more than one thread.
pytestmark = pytest.mark.usefixtures("one_thread")


def rows_of(path: Path) -> list[dict]:
    """Return the rows of a table that may have been cut short. Every line must be complete."""
    data = path.read_bytes()
    assert data.endswith(b"\n") or not data
    lines = data.decode("utf-8").splitlines()
    if path.suffix == ".csv":
        rows = list(csv.reader(lines))
        assert not rows or rows[0] == COLUMNS
        assert all(len(row) == len(COLUMNS) for row in rows)
        return [dict(zip(COLUMNS, row, strict=True)) for row in rows[1:]]
    rows = [json.loads(line) for line in lines]
    assert all(list(row) == COLUMNS for row in rows)
    return rows


def frames_that_play(path: Path) -> int:
    """Decode a video to its end, which must raise no error. Return the number of frames."""
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def wait_for(condition: Callable[[], bool], process: subprocess.Popen, limit_s: float = 60) -> None:
    ends_s = time.monotonic() + limit_s
    while not condition() and process.poll() is None:
        assert time.monotonic() < ends_s, "it makes no progress"
        time.sleep(0.02)


@posix
@pytest.mark.parametrize("extension", [".mkv", ".webm"])
def test_a_signal_finishes_every_output(tmp_path, analyzer, extension):
    """Covers the formats that `command/test_signals.py` leaves out. That covers MP4 and standard output."""
    table, saved = tmp_path / "o.parquet", tmp_path / f"o{extension}"
    rows = tmp_path / "o.parquet.partial.jsonl"
    outputs = (
        "--save",
        saved,
        "--data",
        table,
        "--chart",
        tmp_path / "o.png",
        "--profile",
        tmp_path / "p.json",
    )
    process = start((SAMPLE, *outputs))
    wait_for(rows.exists, process)
    asked_s = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "interrupted after" in err and "Traceback" not in err
    assert time.monotonic() - asked_s < 30, "it hangs: an idle machine takes 2 s"
    import pyarrow.parquet

    frames = sorted(set(pyarrow.parquet.read_table(table)["frame"].to_pylist()))
    assert frames == list(range(len(frames))) and not rows.exists()
    assert len(times_of(saved)) == len(frames) == json.loads((tmp_path / "p.json").read_text())["frames"]
    assert frames_that_play(saved) == len(frames)
    assert {path.name for path in tmp_path.iterdir()} == {saved.name, "o.parquet", "o.png", "p.json"}


@posix
@pytest.mark.slow
def test_a_kill_leaves_a_video_that_plays_and_rows_that_parse(tmp_path, analyzer, faults):
    seed = random.Random(6)
    for number in range(amount(3, 50)):
        extension = (".mp4", ".mkv", ".webm")[number % 3]
        kind = (".csv", ".jsonl", ".parquet")[number // 3 % 3]
        folder = tmp_path / str(number)
        folder.mkdir()
        saved, table = folder / f"o{extension}", folder / f"o{kind}"
        rows_path = folder / "o.parquet.partial.jsonl" if kind == ".parquet" else table
        process = start((SAMPLE, "--save", saved, "--data", table))
        wait_for(rows_path.exists, process)
        time.sleep(seed.uniform(0, 8))
        finished = process.poll() is not None
        process.kill()
        process.communicate()
        if finished:  # the machine was faster than the clock
            continue
        faults.tried += 1
        when = f"kill {number}, {saved.name} and {table.name}"
        closing = table.exists() and kind == ".parquet"
        frames = [] if closing else sorted({int(row["frame"]) for row in rows_of(rows_path)})
        assert frames == list(range(len(frames))), when
        # Two seconds from keyframe to keyframe, one of waiting for the sound, and what the encoder holds.
        sure = len(frames) - 3 * FRAMES_PER_S - 60
        if sure > 0:
            assert frames_that_play(saved) >= sure, when
        elif saved.exists() and extension != ".mp4":  # an MP4 begins with its first two seconds
            try:
                frames_that_play(saved)
            except av.error.FFmpegError:
                assert saved.stat().st_size < 100_000, when
        shutil.rmtree(folder)


@posix
def test_rows_of_a_killed_parquet_table_can_be_had_back(tmp_path, analyzer):
    """Recover PATH.partial.jsonl as `docs/robustness.md` describes."""
    import pyarrow.json
    import pyarrow.parquet

    table, rows_path = tmp_path / "o.parquet", tmp_path / "o.parquet.partial.jsonl"
    process = start((SAMPLE, "--data", table))
    wait_for(lambda: rows_path.exists() and rows_path.stat().st_size > 10_000, process)
    process.kill()
    process.communicate()
    assert not table.exists()
    again = subprocess.run(
        [sys.executable, "-m", "fer_stream", str(SAMPLE), "--data", str(table)],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert again.returncode == 4 and rows_path.name in again.stderr and again.stderr.count("\n") == 1
    pyarrow.parquet.write_table(pyarrow.json.read_json(rows_path), table)
    back = pyarrow.parquet.read_table(table)
    assert back.column_names == COLUMNS and back.num_rows == len(rows_of(rows_path)) > 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_kill_while_saving_leaves_the_old_checkpoint_or_the_new_one(tmp_path, faults):
    import torch

    from fer_stream.recognition.weights import save_atomically

    path = tmp_path / "best-weights.pt"
    save_atomically({"number": 0, "tensor": torch.zeros(500_000)}, path)
    seed, halves = random.Random(7), 0
    for _ in range(amount(10, 50)):
        faults.tried += 1
        before = torch.load(path, weights_only=True)["number"]
        child = os.fork()
        if child == 0:
            number = before
            while True:
                number += 1
                save_atomically({"number": number, "tensor": torch.full((500_000,), float(number))}, path)
        time.sleep(seed.uniform(0, 0.1))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        content = torch.load(path, weights_only=True)
        assert content["number"] >= before
        assert bool((content["tensor"] == content["number"]).all())
        for left in tmp_path.glob(".fer-stream-*.part"):
            halves += 1
            left.unlink()
        assert list(tmp_path.iterdir()) == [path]
    assert halves > 0, "no kill fell into a save"


@posix
@pytest.mark.slow
def test_a_killed_training_run_goes_on(tmp_path, faults):
    from fer_stream.recognition.weights import check_weights_file
    from train.cli import main

    data, seed = make_dataset(tmp_path / "data"), random.Random(8)
    for number in range(amount(1, 8)):
        faults.tried += 1
        output = tmp_path / f"run{number}"
        arguments = [str(data), "--output", str(output), "--epochs", "100", *TINY]
        with subprocess.Popen(
            [sys.executable, "-m", "train", *arguments],
            cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        ) as process:  # fmt: skip
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("epoch "):
                    break
            time.sleep(seed.uniform(0, 2))
            process.kill()
        check_weights_file(output / "best-weights.pt")
        done = epochs_of(output)
        assert done >= 1
        # The state may be one epoch ahead of the history: the kill fell between the two.
        assert main([*arguments, "--epochs", str(done + 2), "--resume", "--quiet"]) == 0
        assert epochs_of(output) == done + 2
        assert json.loads((output / "metrics.json").read_text())["cost"]["epochs"] == done + 2


# Outputs that can't be written.


@pytest.mark.parametrize(
    ("option", "name", "kilobytes"),
    [
        *(("--save", "o.mp4", 300), ("--data", "o.parquet", 4), ("--stills", "stills", 700)),
        *(("--data", "o.csv", 4), ("--crops", "crops", 100), ("--chart", "o.png", 8)),
        *(("--save", "o.mkv", 300), ("--save", "o.webm", 60)),
    ][: amount(3, 8)],
)
def test_a_full_disk_is_one_line_and_the_other_outputs_are_finished(
    command, small_disk, tmp_path, option, name, kilobytes
):
    outputs = {"--save": tmp_path / "other.mp4", "--data": tmp_path / "other.jsonl"}
    outputs[option] = tmp_path / "disk" / name
    stills = ("--stills-every", "0.05") if option == "--stills" else ()
    given = [word for pair in outputs.items() for word in pair]
    said = command(SAMPLE, "--end", "3", *given, *stills, inside=small_disk(kilobytes))
    assert said.code == 4
    assert str(tmp_path / "disk" / name) in said.line and "No space left on device" in said.line
    count = None
    if option != "--data":
        frames = sorted({row["frame"] for row in rows_of(tmp_path / "other.jsonl")})
        assert frames == list(range(len(frames))) and frames
        count = len(frames)
    if option != "--save":
        assert frames_that_play(tmp_path / "other.mp4") > 0
        if count is not None:
            assert abs(frames_that_play(tmp_path / "other.mp4") - count) <= 1
    left = tmp_path / "left" / name
    if option == "--save" and left.suffix != ".mp4":
        assert left.stat().st_size > 10_000
    if option in ("--stills", "--crops"):
        import cv2

        assert all(cv2.imread(str(path)) is not None for path in left.rglob("*.jpg")), "none is half"


def test_a_drive_that_goes_away_under_an_output(command, failing_calls, tmp_path):
    saved = tmp_path / "o.mkv"
    inside = failing_calls("write", "5+", saved)
    said = command(SAMPLE, "--end", "3", "--save", saved, "--data", tmp_path / "o.jsonl", inside=inside)
    assert said.code == 4 and str(saved) in said.line and "Input/output error" in said.line
    frames = sorted({row["frame"] for row in rows_of(tmp_path / "o.jsonl")})
    assert frames == list(range(len(frames))) and frames


def test_a_drive_that_goes_away_under_the_source(command, failing_calls, tmp_path):
    video = tmp_path / "long.mkv"
    with av.open(str(video), "w") as container:
        stream = container.add_stream("mjpeg", rate=30, options={"qmin": "1", "qmax": "1"})
        stream.width, stream.height, stream.pix_fmt = 320, 192, "yuvj420p"
        import numpy as np

        noise = np.random.default_rng(1).integers(0, 256, (192, 320, 3), np.uint8)
        for _ in range(60):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, "bgr24")))
    saved = tmp_path / "o.mp4"
    inside = failing_calls("read", "60+", video)
    said = command(video, "--save", saved, "--data", tmp_path / "o.jsonl", inside=inside)
    assert said.code == 3 and "Input/output error" in said.line and str(video) in said.line
    frames = sorted({row["frame"] for row in rows_of(tmp_path / "o.jsonl")})
    assert frames == list(range(len(frames))) and 0 < len(frames) < 60
    assert frames_that_play(saved) == len(frames)


@posix
def test_a_folder_that_goes_away(tmp_path, analyzer):
    stills, table = tmp_path / "stills", tmp_path / "o.jsonl"
    process = start((SAMPLE, "--stills", stills, "--stills-every", "0.02", "--data", table))
    wait_for(lambda: stills.is_dir() and any(stills.iterdir()), process)
    # Rows leave the look-ahead after half a second of frames, and stills with them.
    wait_for(lambda: table.exists() and table.stat().st_size > 0, process)
    stills.rename(tmp_path / "gone")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 4
    assert err.count("\n") == 1 and str(stills) in err and "No such file or directory" in err
    assert len(rows_of(table)) > 0


@pytest.mark.robustness(faults=2)
@posix
def test_standard_output_that_is_closed_from_the_start(command):
    said = command(SAMPLE, "--end", "0.1", "--data", "-", inside=("sh", "-c", '"$@" >&-', "sh"))
    assert said.code == 4 and "standard output" in said.line
    said = command(SAMPLE, "--end", "0.1", "--no-show", inside=("sh", "-c", '"$@" 2>&-', "sh"))
    assert said.code == 0 and said.err == ""


# Sends itself the signal while it imports a module, and continues with the error that the import raises.
SIGNALLED_IN_AN_IMPORT = """
import os, sys
class Signalling:
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), {number})
sys.meta_path.insert(0, Signalling())
from {package}.__main__ import main
main()
"""
PACKAGES = {"fer_stream": "fer_stream", "fer_train": "train", "fer_batch": "fer_stream.batch"}


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize(
    ("command", "module"),
    [
        ("fer_stream", "argparse"),
        ("fer_stream", "numpy"),
        ("fer_stream", "cv2"),
        ("fer_train", "argparse"),
        ("fer_train", "torch"),
        ("fer_batch", "numpy"),
    ],
)
def test_a_signal_while_it_loads_ends_it_in_a_line(tmp_path, command, module, number):
    made = tmp_path / "made" / "stills"
    arguments = {
        "fer_stream": [SAMPLE, "--stills", made],
        "fer_train": [make_dataset(tmp_path / "data"), "--output", made],
        "fer_batch": [SAMPLE, "--output", made],
    }[command]
    code = SIGNALLED_IN_AN_IMPORT.format(module=module, number=int(number), package=PACKAGES[command])
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == f"{command.replace('_', '-')}: interrupted\n"
    assert not any(path.is_file() for path in made.parent.rglob("*"))


def test_an_interrupt_does_not_wait_for_the_networks(tmp_path, monkeypatch, capfd):
    entered, done = threading.Event(), threading.Event()

    def slow(*_: object, **__: object) -> None:
        entered.set()
        done.wait(60)

    def ask() -> None:
        entered.wait(60)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("fer_stream.analyzer.Analyzer.__init__", slow)
    asking = threading.Thread(target=ask)
    asking.start()
    try:
        assert cli.main([str(SAMPLE), "--stills", str(tmp_path / "made")]) == 130
        assert not done.is_set() and not (tmp_path / "made").exists()
        assert capfd.readouterr().err == "fer-stream: interrupted\n"
    finally:
        done.set()
        asking.join()


def test_an_import_is_not_cut_short_by_an_interrupt(tmp_path, monkeypatch):
    (tmp_path / "imported_slowly.py").write_text(
        "import signal, time\n"
        "signal.raise_signal(signal.SIGINT)\n"
        "time.sleep(0.2)\n"  # the signal comes again and has to wait, too
        "whole = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyboardInterrupt), interrupts_raised():
        import imported_slowly

        assert imported_slowly.whole
        time.sleep(10)
        pytest.fail("the interrupt was lost")


def test_a_signal_before_the_first_frame_leaves_no_empty_folder(tmp_path, analyzer, monkeypatch, capfd):
    def frames(*_: object) -> Iterator[None]:
        signal.raise_signal(signal.SIGINT)
        time.sleep(0.2)
        yield from ()

    monkeypatch.setattr("fer_stream.pipeline._timed", frames)
    made = tmp_path / "made"
    assert cli.main([str(SAMPLE), "--stills", str(made / "stills"), "--crops", str(made / "crops")]) == 130
    assert "interrupted" in capfd.readouterr().err and not made.exists()
