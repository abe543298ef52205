"""The process that a command runs in: standard streams that were closed from the start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# Exits with 0 if a new file can't be taken for a standard stream, and a library finds a standard error.
CLOSED_STREAMS = """
import faulthandler, os, sys
from fer_stream.system.environment import open_standard_streams
open_standard_streams()
with open(sys.argv[1], "w") as file:
    os.write(2, b"by native code")
    faulthandler.enable()
    print("\\udcff", file=sys.stderr)
    sys.exit(file.fileno() <= 2 or sys.stdout is not None)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")
def test_closed_standard_streams_lead_nowhere(tmp_path: Path) -> None:
    file = tmp_path / "file"
    run = ("sh", "-c", '"$@" <&- >&- 2>&-', "sh", sys.executable, "-c", CLOSED_STREAMS, file)
    assert subprocess.run(run, check=False).returncode == 0
    assert file.read_bytes() == b""
