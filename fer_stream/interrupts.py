"""Ctrl-C and SIGTERM, turned into a call at a place that can bear it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# SIGHUP comes when a terminal is closed, SIGBREAK is Ctrl-Break on Windows.
_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
]


@contextmanager
def on_interrupt(handle: Callable[[], None]) -> Iterator[None]:
    """Calls `handle`, in the main thread, for each signal that asks to end; the innermost one counts.

    Signals reach the main thread only: in another one this does nothing.

    Args:
        handle: Runs between any two instructions of the main thread, so it takes no lock. It may raise.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handler(_number: int, _frame: FrameType | None) -> None:
        handle()

    before = {}
    try:
        for number in _SIGNALS:
            # nohup asks to go on when the terminal is closed. A shell's background job ignores Ctrl-C
            # only because no terminal sends it any, and whoever sends one by hand means it.
            if number == getattr(signal, "SIGHUP", None) and signal.getsignal(number) == signal.SIG_IGN:
                continue
            before[number] = signal.signal(number, handler)
        yield
    finally:
        for number, previous in before.items():
            if previous is not None:  # set by something other than Python, which can't set it again
                signal.signal(number, previous)
