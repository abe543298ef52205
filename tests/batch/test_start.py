"""Starting Ray and shutting it down: signals at that time, closed standard streams, and the home folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from helpers.waiting import wait_until

pytest.importorskip("ray", reason="needs the extra batch: pip install '.[batch]'")
pytest.importorskip("fsspec")

from fer_stream.batch import cluster as cluster_module
from fer_stream.batch.cluster import connected
from fer_stream.system.interrupts import interrupts_raised

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
WAIT_S = 120

# Runs fer-batch, and sends it the signal in `ray.init`, right after Ray's native part has loaded.
SIGNALLED_IN_RAY = """
import os
import ray._private.worker as driver
connect = driver.connect
def signalled(*arguments, **options):
    connect(*arguments, **options)
    os.kill(os.getpid(), {number})
driver.connect = signalled
from fer_stream.batch.__main__ import main
main()
"""


class FakeRay:
    """Replaces `ray.init` and `ray.shutdown`. They note what they do, and can send a signal in the middle."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, start: int = 0, end: int = 0) -> None:
        self.parts: list[str] = []
        self.threads: set[int] = set()
        monkeypatch.setattr("ray.init", lambda **_: self._do("start", start))
        monkeypatch.setattr("ray.shutdown", lambda: self._do("end", end))
        monkeypatch.setattr(cluster_module, "_install_native_handlers", lambda: None)

    def _do(self, name: str, number: int) -> None:
        self.parts.append(name)
        self.threads.add(threading.get_ident())
        if number:
            os.kill(os.getpid(), number)
            time.sleep(0.3)
        self.parts.append(f"{name}ed")


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_does_not_stop_ray_halfway(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    ray = FakeRay(monkeypatch, start=getattr(signal, name))
    with pytest.raises(KeyboardInterrupt), interrupts_raised(), connected(None, 1, 1.0):
        pytest.fail("the signal was lost")
    assert ray.parts == ["start", "started", "end", "ended"] and len(ray.threads) == 1
    assert threading.get_ident() not in ray.threads


@posix
def test_a_signal_during_the_shutdown_waits_for_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay(monkeypatch, end=signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), interrupts_raised(), connected(None, 1, 1.0):
        assert ray.parts == ["start", "started"]
    assert ray.parts == ["start", "started", "end", "ended"]


@posix
@pytest.mark.parametrize(("signals", "limit_s"), [(1, 0.1), (2, WAIT_S)])
def test_a_second_signal_or_a_hanging_start_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, signals: int, limit_s: float
) -> None:
    ray = FakeRay(monkeypatch)
    may_start = threading.Event()

    def hang(**_: object) -> None:
        for _number in range(signals):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)
        may_start.wait(WAIT_S)

    monkeypatch.setattr("ray.init", hang)
    monkeypatch.setattr(cluster_module, "_INTERRUPTED_S", limit_s)
    try:
        with pytest.raises(KeyboardInterrupt), interrupts_raised(), connected(None, 1, 1.0):
            pytest.fail("the signal was lost")
        assert ray.parts == []
    finally:
        may_start.set()
        wait_until(lambda: ray.parts == ["end", "ended"])


@posix
@pytest.mark.slow
def test_a_signal_when_rays_native_part_has_loaded_is_one_line(clip: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-c", SIGNALLED_IN_RAY.format(number=int(signal.SIGTERM))),
            *(clip, "--output", tmp_path / "out", "--workers", "1"),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "fer-batch: interrupted\n")


@posix
@pytest.mark.slow
def test_it_works_with_standard_streams_that_are_closed_from_the_start(clip: Path, tmp_path: Path) -> None:
    closed = ("sh", "-c", '"$@" <&- >&- 2>&-', "sh")
    command = (sys.executable, "-m", "fer_stream.batch", clip, "--output", tmp_path / "out", "--workers", "1")
    assert subprocess.run([*closed, *command], check=False, timeout=WAIT_S).returncode == 0
    assert len(list((tmp_path / "out" / "tables").iterdir())) == 1


@linux
@pytest.mark.slow
def test_a_home_that_can_not_be_written_to(clip: Path, tmp_path: Path) -> None:
    """Nobody can write to /proc, not even root."""
    command = (sys.executable, "-m", "fer_stream.batch", clip, "--output", tmp_path / "out", "--workers", "1")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [*command, "--quiet"],
        check=False,
        env=environment | {"HOME": "/proc/none"},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
