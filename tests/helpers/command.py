"""Run the commands as a user would, and check their messages and files."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from fer_stream.expressions import EXPRESSIONS

COLUMNS = [
    *("source", "frame", "time_s", "face_id", "x1", "y1", "x2", "y2", "detection_score"),
    *("expression", "confidence", *EXPRESSIONS),
]
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")


@dataclass
class Said:
    """Exit code and output of a run."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The single line on standard error."""
        assert self.err.endswith("\n") and self.err.count("\n") == 1, self.err
        assert "Traceback" not in self.err
        return self.err.rstrip("\n")


def start(arguments: Sequence[object], **options) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "fer_stream", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def rest_of(process: subprocess.Popen[str], limit_s: float) -> tuple[str, str]:
    """Return the unread rest of standard output and of standard error, after the process has ended.

    After a `readline`, `communicate` would lose the lines that Python has read ahead.

    Args:
        process: The process. It writes little to standard error, so one pipe can be read after the other.
        limit_s: The process is killed if it takes longer.
    """
    assert process.stdout is not None and process.stderr is not None
    killer = threading.Timer(limit_s, process.kill)
    killer.start()
    try:
        out, err = process.stdout.read(), process.stderr.read()
        process.wait()
    finally:
        killer.cancel()
        killer.join()
    return out, err


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
