"""`fer-train` when it is stopped or can't write: its files and its messages."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys

import pytest
from helpers.paths import ROOT
from helpers.tiny_dataset import TINY, epochs_of
from helpers.training import fails

from fer_stream.command.console import PatientConsole
from fer_stream.errors import UsageError
from train.cli import main


@pytest.mark.parametrize("error", [KeyboardInterrupt(), UsageError("no")])
def test_a_run_that_writes_nothing_removes_the_folders_that_it_made(
    data, tmp_path, capsys, monkeypatch, error
):
    def ended(*_: object, **__: object) -> None:
        assert output.is_dir()
        raise error

    monkeypatch.setattr("train.loop.train", ended)
    (tmp_path / "mine").mkdir()
    for name in ("new/run", "mine", "mine/run"):
        output = tmp_path / name
        assert fails([data, "--output", output, *TINY], capsys)[0] in (2, 130)
        assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]


def test_a_broken_pipe_does_not_end_the_training():
    tried = []

    class Gone(io.StringIO):
        def write(self, text):
            tried.append(text)
            raise BrokenPipeError

    console = PatientConsole(file=Gone())
    for epoch in (1, 2):
        console.print(f"epoch {epoch}")  # raises nothing
    assert tried[0].startswith("epoch 1")


def test_a_full_disk_is_reported_in_one_line(data, tmp_path, capsys, monkeypatch):
    def full(path):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("fer_stream.system.files.replacing", full)
    code, said = fails(
        [data, "--output", tmp_path, "--epochs", "1", "--quiet", *TINY, "--batch-size", "28"], capsys
    )
    assert code == 4 and "history.csv: No space left on device" in said


def test_an_overwriting_run_interrupted_at_its_start_does_not_offer_resume(
    data, tmp_path, capsys, monkeypatch
):
    output = tmp_path / "run"
    arguments = [str(data), "--output", str(output), *TINY]
    assert main([*arguments, "--epochs", "1", "--quiet"]) == 0

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("train.loop.train", interrupted)
    capsys.readouterr()
    assert main([*arguments, "--epochs", "2", "--overwrite"]) == 130
    said = capsys.readouterr().err
    assert "start again with" in said and "--overwrite" in said and "--resume" not in said


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to catch")
def test_a_terminated_run_prints_the_command_that_resumes_it(data, tmp_path):
    output = tmp_path / "run"
    arguments = [str(data), "--output", str(output), "--epochs", "100", *TINY]
    with subprocess.Popen(
        [sys.executable, "-m", "train", *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        for line in process.stdout:
            if line.startswith("epoch "):
                break
        process.send_signal(signal.SIGTERM)
        said = process.stderr.read()
        assert process.wait(30) == 130
    assert said.count("\n") == 1 and said.startswith("fer-train: interrupted; continue with: fer-train ")
    assert said.rstrip().endswith("--resume") and str(output) in said
    done = epochs_of(output)
    assert main([*arguments, "--epochs", str(done + 1), "--resume", "--quiet"]) == 0
    assert epochs_of(output) == done + 1
    assert json.loads((output / "metrics.json").read_text())["cost"]["epochs"] == done + 1
