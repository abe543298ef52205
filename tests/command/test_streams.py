"""Runs that lose their standard streams, an output or their memory."""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.command import COLUMNS, Said, posix, start
from helpers.paths import SAMPLE
from helpers.videos import times_of

from fer_stream.errors import OutputError, SourceError, WeightsError
from fer_stream.system.memory import is_out_of_memory

pytestmark = posix
RUN = [sys.executable, "-m", "fer_stream", str(SAMPLE), "--end", "0.1", "--overwrite"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_standard_error_does_not_change_the_exit_code(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*RUN, "--data", str(tmp_path / "o.csv")], stderr=full, check=False, timeout=60)
    assert done.returncode == 0
    assert (tmp_path / "o.csv").stat().st_size > 0


@posix
def test_a_reader_that_goes_away_ends_it_quietly(tmp_path):
    process = start((SAMPLE, "--data", "-", "--save", tmp_path / "o.mp4"))
    assert process.stdout is not None and process.stderr is not None
    json.loads(process.stdout.readline())
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(timeout=20) == 4
    assert err == ""
    assert 0 < len(times_of(tmp_path / "o.mp4")) < 239


@posix
def test_other_outputs_are_finished_when_one_fails_midway(tmp_path):
    def limit() -> None:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    # The video soon exceeds the limit of a file's size. The table does not.
    arguments = (SAMPLE, "--save", tmp_path / "o.mp4", "--data", tmp_path / "o.csv")
    process = start(arguments, preexec_fn=limit)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 4
    assert len(err.splitlines()) == 1 and str(tmp_path / "o.mp4") in err and "File too large" in err
    rows = list(csv.reader((tmp_path / "o.csv").read_text().splitlines()))
    assert len(rows) > 4 and all(len(row) == len(COLUMNS) for row in rows)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_pipe_that_does_not_block_is_a_problem_with_the_output(unbuffered: str) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    done = subprocess.run(
        [sys.executable, "-m", "fer_stream", SAMPLE, "--end", "0.1", "--data", "-"],
        check=False,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    os.close(reader)
    os.close(writer)
    assert done.returncode == 4
    assert done.stderr == (
        "fer-stream: can't write to standard output: its reader made it non-blocking and is too slow\n"
    )


# Errors as the libraries raise them. A real limit hits a different library each time, or ends the process.
@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("can't start new thread"),
        ImportError("libopenblas.so: failed to map segment from shared object"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_too_little_memory_is_one_line(fer: Callable[..., Said], monkeypatch, error: Exception) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("fer_stream.analyzer.Analyzer.__init__", fail)
    said = fer(SAMPLE, "--end", "0.1", "--data", "o.csv")
    assert said.code == 1 and "not enough memory" in said.line


def test_out_of_memory_errors_of_all_libraries_are_recognized() -> None:
    caused = WeightsError("the weights do not fit")
    caused.__cause__ = MemoryError()
    for error in (
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        OSError(errno.EAGAIN, "Resource temporarily unavailable"),  # a process or a thread of FFmpeg starts
        RuntimeError("can't start new thread"),
        RuntimeError(
            "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer"
        ),
        caused,
    ):
        assert is_out_of_memory(error), error
    for error in (OSError(28, "No space left on device"), SourceError("damaged"), OutputError("exists")):
        assert not is_out_of_memory(error), error
