"""The process that a command runs in: closed standard streams, and the threads of libraries."""

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


# Prints the number of threads once a command has started and NumPy has loaded.
THREADS_OF_NUMPY = """
import os, sys
from contextlib import suppress
from {package}.__main__ import main
sys.argv = ["command", "--version"]
with suppress(SystemExit):
    main()
import numpy
print(len(os.listdir("/proc/self/task")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("package", ["fer_stream", "fer_stream.batch"])
def test_numpy_starts_no_thread_in_a_command(package: str) -> None:
    code = THREADS_OF_NUMPY.format(package=package)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "1"
