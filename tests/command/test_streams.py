"""Runs that lose their standard streams, their memory or their terminal."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.command import Said, posix, start
from helpers.paths import SAMPLE

from fer_stream.errors import OutputError, SourceError, WeightsError
from fer_stream.system.memory import is_out_of_memory

pytestmark = posix
RUN = [sys.executable, "-m", "fer_stream", str(SAMPLE), "--end", "0.1", "--overwrite"]


@pytest.fixture(autouse=True)
def _networks_in_the_cache(analyzer) -> None:
    """Load the networks once, so that each run here starts fast."""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_standard_error_that_takes_nothing_does_not_change_the_exit_code(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*RUN, "--data", str(tmp_path / "o.csv")], stderr=full, check=False, timeout=60)
    assert done.returncode == 0
    assert (tmp_path / "o.csv").stat().st_size > 0


def test_a_closed_terminal_ends_the_run_as_a_signal_does(tmp_path: Path) -> None:
    terminal, its_end = os.openpty()
    table = tmp_path / "o.csv"
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "fer_stream",
            str(SAMPLE),
            "--data",
            str(table),
            "--save",
            str(tmp_path / "o.mp4"),
        ],
        stdin=its_end,
        stdout=its_end,
        stderr=its_end,
        start_new_session=True,
        preexec_fn=_take_terminal,  # noqa: PLW1509  # no threads run in this test
    )
    os.close(its_end)
    while not (table.exists() and table.stat().st_size):
        os.read(terminal, 65536)
    os.close(terminal)  # the kernel sends SIGHUP
    assert process.wait(timeout=60) == 130
    assert table.read_bytes().endswith(b"\n")


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_a_hang_up_ends_like_a_termination(tmp_path: Path) -> None:
    process = start((SAMPLE, "--data", "-"))
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in said


def test_a_reader_that_has_seen_enough_ends_the_run_quietly() -> None:
    process = start((SAMPLE, "--data", "-"))
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=60) == 4
    assert process.stderr.read() == ""


# Errors as the libraries raise them. A real limit hits another one in each run, and some end the process.
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


def test_every_library_says_it_in_its_own_way() -> None:
    caused = WeightsError("the weights do not fit")
    caused.__cause__ = MemoryError()
    for error in (
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("can't start new thread"),
        RuntimeError(
            "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer"
        ),
        caused,
    ):
        assert is_out_of_memory(error), error
    for error in (OSError(28, "No space left on device"), SourceError("damaged"), OutputError("exists")):
        assert not is_out_of_memory(error), error
