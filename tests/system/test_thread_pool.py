"""Calls side by side in threads."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator

import pytest

from fer_stream.errors import SourceError
from fer_stream.system.background import Background
from fer_stream.system.thread_pool import ThreadPool, side_by_side

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


def run_script(script: str) -> subprocess.CompletedProcess[str]:
    """Run a program in another process, and check that it ends with 0."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_after_an_error_no_further_call_begins() -> None:
    called = []

    def call(item: int) -> None:
        called.append(item)
        time.sleep(0.01)
        if item == 0:
            raise SourceError("broken")

    with pytest.raises(SourceError, match="broken"):
        side_by_side(call, range(1000), 2)
    assert len(called) < 900


def test_calls_still_run_when_the_main_thread_has_ended() -> None:
    script = """
        import threading
        from fer_stream.system.thread_pool import ThreadPool, side_by_side

        def work():
            threading.main_thread().join()
            print(side_by_side(lambda item: item * item, [1, 2, 3], 2))
            with ThreadPool(1) as pool:
                print(repr(pool.submit(int, "none").exception()))

        threading.Thread(target=work).start()
    """
    ended = run_script(script)
    assert ended.stderr == ""
    first, second = ended.stdout.splitlines()
    assert first == "[1, 4, 9]"
    assert second.startswith("ValueError")


def test_calls_still_run_while_the_main_thread_waits_for_other_pools() -> None:
    """The main thread counts as alive until these have finished."""
    script = """
        import threading, time
        from fer_stream.system.thread_pool import ThreadPool

        def work():
            other, pool = ThreadPool(1), ThreadPool(1)
            other.submit(started.set)
            other.submit(time.sleep, 0.5)
            results = []
            for item in range(70):
                results.append(pool.submit(abs, -item).result())
                time.sleep(0.01)
            print(results == list(range(70)))

        started = threading.Event()
        threading.Thread(target=work).start()
        started.wait()
    """
    ended = run_script(script)
    assert (ended.stdout, ended.stderr) == ("True\n", "")


def test_a_closed_pool_takes_no_call() -> None:
    pool = ThreadPool(1)
    pool.close()
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(abs, -1)


def test_a_thread_of_a_pool_can_close_a_reader_that_waits_for_it() -> None:
    """Garbage collection can do that, in any thread."""
    with ThreadPool(1) as pool:
        readers: list[Background[str]] = []

        def close_the_reader() -> str:
            while not readers:
                time.sleep(0.001)
            readers[0].close(10.0)
            return "closed"

        def source() -> Iterator[str]:
            yield pool.submit(close_the_reader).result()

        began_s = time.monotonic()
        readers.append(Background(source()))
        readers[0].close()
    assert time.monotonic() - began_s < 5
