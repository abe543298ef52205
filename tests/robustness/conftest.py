"""Fixtures for the robustness tests: the command, small disks and drives that fail."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from helpers.command import Said


@pytest.fixture
def command() -> Callable[..., Said]:
    """Run the command in its own process, inside another command such as `strace` if given."""

    def run(*arguments: object, inside: Sequence[object] = (), **options) -> Said:
        line = [*inside, sys.executable, "-m", "fer_stream", *arguments]
        done = subprocess.run(
            list(map(str, line)), check=False, capture_output=True, text=True, timeout=120, **options
        )
        return Said(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def small_disk(tmp_path) -> Callable[[int], list[str]]:
    """Return a command that runs another one with a disk of that many kilobytes at `tmp_path/disk`.

    Afterwards, the files on the disk are copied to `tmp_path/left`. Only that command sees the disk.
    """
    (tmp_path / "disk").mkdir()
    (tmp_path / "left").mkdir()
    script = (
        f"mount -t tmpfs -o size=$0k none '{tmp_path}/disk' || exit 99\n"
        f"\"$@\"; code=$?; cp -r '{tmp_path}'/disk/. '{tmp_path}/left'; exit $code"
    )
    inside = ["unshare", *(() if os.geteuid() == 0 else ("--user", "--map-root-user")), "--mount"]
    try:
        tried = subprocess.run(
            [*inside, "sh", "-c", script, "10", "true"], check=False, capture_output=True, text=True
        )
    except FileNotFoundError:
        pytest.skip("needs unshare (Linux)")
    if tried.returncode != 0:
        pytest.skip(f"can't mount a small disk here: {tried.stderr.strip()}")
    return lambda kilobytes: [*inside, "sh", "-c", script, str(kilobytes)]


@pytest.fixture
def failing_calls(tmp_path) -> Callable[[str, str, Path], list[str]]:
    """Return a command under which a system call on a path fails with EIO, as on a lost drive."""
    try:
        tried = subprocess.run(
            ["strace", "-f", "-o", tmp_path / "trace.txt", "true"],
            check=False,
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:
        pytest.skip("needs strace (Linux)")
    if tried.returncode != 0:
        pytest.skip(f"strace may not trace here: {tried.stderr.strip()}")

    def inside(call: str, when: str, path: Path) -> list[str]:
        fault = f"inject={call}:error=EIO:when={when}"
        return ["strace", "-f", "-qq", "-o", str(tmp_path / "trace.txt"), "-P", str(path), "-e", fault]

    return inside
