"""Runs that a signal, a closed terminal or a hang-up ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.command import posix, rest_of, start
from helpers.paths import SAMPLE
from helpers.videos import times_of

pytestmark = posix


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_finishes_every_file(tmp_path, number):
    arguments = (SAMPLE, "--save", tmp_path / "o.mp4", "--data", "-", "--profile", tmp_path / "p.json")
    process = start(arguments)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(5)]
    process.send_signal(number)
    process.send_signal(number)  # a wrapper may pass it on as well
    out, err = rest_of(process, limit_s=20)
    assert process.returncode == 130
    rows = [json.loads(line) for line in [*lines, *out.splitlines()]]
    frames = [row["frame"] for row in rows]
    assert frames == sorted(frames) and len({(row["frame"], row["face_id"]) for row in rows}) == len(rows)
    assert times_of(tmp_path / "o.mp4") == times_of(SAMPLE)[: frames[-1] + 1]
    assert frames[-1] < 239 and "interrupted after" in err and "Traceback" not in err
    assert json.loads((tmp_path / "p.json").read_text())["frames"] == frames[-1] + 1


def test_a_closed_terminal_ends_the_run_like_a_signal(tmp_path: Path) -> None:
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
