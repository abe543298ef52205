"""Messages of C libraries: quiet in a run, passed through by --verbose, and shown after an abort."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.command import posix
from helpers.paths import SAMPLE

# The command, but each row of the table comes with a message of a C library. After row 59, it may die.
CHATTY = """
import ctypes, os, sys
from fer_stream.sinks import TableSink
write = TableSink.write
def chatty(sink, *given):
    write(sink, *given)
    os.write(2, f"libodd: row {{sink.__dict__.setdefault('rows', 0)}}\\n".encode())
    sink.rows += 1
    if sink.rows == 60:
        {then}
TableSink.write = chatty
from fer_stream.__main__ import main
main()
"""


def run(folder: Path, *arguments: str, then: str = "pass") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CHATTY.format(then=then), str(SAMPLE), "--end", "2.5"]
    return subprocess.run(
        [*command, "--data", str(folder / "t.csv"), *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=90,
    )


def test_only_verbose_shows_messages_of_c_libraries(tmp_path: Path) -> None:
    quiet = run(tmp_path)
    assert quiet.returncode == 0 and "libodd" not in quiet.stderr
    verbose = run(tmp_path, "--verbose", "--overwrite")
    assert verbose.returncode == 0
    assert "libodd: row 0\n" in verbose.stderr and "libodd: row 59\n" in verbose.stderr


@posix
@pytest.mark.parametrize(
    ("then", "told"),
    [
        ("os.abort()", "Aborted"),
        ("ctypes.string_at(0)", "Segmentation fault"),
        ("os.kill(os.getpid(), 9)", ""),
    ],
    ids=["abort", "segmentation fault", "kill"],
)
def test_the_last_messages_are_shown_when_the_process_dies(tmp_path: Path, then: str, told: str) -> None:
    said = run(tmp_path, then=then)
    assert said.returncode < 0
    assert "libodd: row 59\n" in said.stderr
    assert "libodd: row 0\n" not in said.stderr, "only the last ones"
    if told:
        assert f"Fatal Python error: {told}" in said.stderr and "in chatty" in said.stderr
