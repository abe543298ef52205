"""Ctrl-C, SIGTERM and their like, turned into a call at a place that can bear it.

Of the handlers that follow each other in a command, the innermost one counts:

    start._run           `end_at_once`: modules load, nothing is open
    exit_code_of         `interrupts_raised`: a KeyboardInterrupt, which the command puts into words
    the command          `ended_at_once` round the imports that take seconds
    pipeline.run         its own: the run ends after the current frame
    end_program          `ignore_interrupts`: the exit code is decided
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from fer_stream.errors import INTERRUPTED_EXIT_CODE

# SIGHUP comes when a terminal is closed, SIGBREAK is Ctrl-Break on Windows.
_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
]


AGAIN_S = 0.05  # after which an interrupt that came in an import is tried again


@contextmanager
def on_interrupt(handle: Callable[[], object]) -> Iterator[None]:
    """Calls `handle`, in the main thread, for each signal that asks to end; the innermost one counts.

    Signals reach the main thread only: in another one this does nothing.

    Args:
        handle: Runs between any two instructions of the main thread, so it takes no lock. It may raise.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _heeded()}
    try:
        set_interrupt_handler(handle)
        yield
    finally:
        for number, previous in before.items():
            if previous is not None:  # None: set by something other than Python, which can't set it again
                signal.signal(number, previous)


@contextmanager
def interrupts_raised() -> Iterator[None]:
    """Ends what the main thread does by a KeyboardInterrupt, but for an import, which is ended first.

    In the middle of one libraries make something else of it: numpy an ImportError of twenty lines,
    OpenCV nothing at all, and torch a crash.
    """

    def ask_again() -> None:
        time.sleep(AGAIN_S)
        signal.raise_signal(signal.SIGINT)

    def interrupt() -> None:
        if _importing(sys._getframe()):
            _thread.start_new_thread(ask_again, ())  # `threading` takes locks, which a handler must not
        else:
            raise KeyboardInterrupt

    with on_interrupt(interrupt):
        yield


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


@contextmanager
def ended_at_once(prog: str) -> Iterator[None]:
    """Lets an interrupt end the process, with its line and its exit code, where nothing is open yet.

    For imports that take seconds.
    """
    with on_interrupt(lambda: end_at_once(prog)):
        yield


def end_at_once(prog: str) -> NoReturn:
    """Ends the process of an interrupted command that has nothing to finish."""
    # Unbuffered, for it may come in the middle of another line's writing; where standard error is now.
    with suppress(AttributeError, OSError, ValueError):
        os.write(sys.stderr.fileno(), f"{prog}: interrupted\n".encode())
    os._exit(INTERRUPTED_EXIT_CODE)


def set_interrupt_handler(handle: Callable[[], object]) -> None:
    """Calls `handle` for each signal that asks to end, from now on; in the main thread only."""

    def handler(_number: int, _frame: FrameType | None) -> None:
        handle()

    for number in _heeded():
        signal.signal(number, handler)


def ignore_interrupts() -> None:
    """Lets no signal that asks to end do so any more; in another than the main thread it does nothing."""
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def _heeded() -> list[int]:
    # nohup asks to go on when the terminal is closed. A shell's background job ignores Ctrl-C only
    # because no terminal sends it any, and whoever sends one by hand means it.
    return [
        number
        for number in _SIGNALS
        if number != getattr(signal, "SIGHUP", None) or signal.getsignal(number) != signal.SIG_IGN
    ]
