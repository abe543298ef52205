"""Handle Ctrl-C, SIGTERM and similar signals in the way that is safe at each point of the program.

A command nests these handlers, and the innermost one applies:

    start._run           `end_at_once`: modules load, nothing is open
    exit_code_of         `interrupts_raised`: a KeyboardInterrupt, which the command reports
    the command          `ended_at_once` around imports that take seconds
    pipeline.run         its own: the run ends after the current frame
    end_program          `ignore_interrupts`: the exit code is decided
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from fer_stream.errors import INTERRUPTED_EXIT_CODE
from fer_stream.system.background import call_later

# SIGHUP is sent when a terminal closes; SIGBREAK is Ctrl-Break on Windows.
_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
]


AGAIN_S = 0.05  # time after which an interrupt during an import is tried again


@contextmanager
def on_interrupt(handle: Callable[[], object]) -> Iterator[None]:
    """Call `handle` in the main thread for each signal that asks the program to end.

    The innermost handler applies. Only the main thread receives signals, so this does nothing elsewhere.

    Args:
        handle: Runs between any two instructions of the main thread, so it must take no lock. It may raise.
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
            if previous is not None:  # None: not set by Python, so Python can't restore it
                signal.signal(number, previous)


@contextmanager
def interrupts_raised() -> Iterator[None]:
    """Raise KeyboardInterrupt in the main thread, but let an import finish first.

    Libraries do not expect it during their import: numpy turns it into an ImportError of twenty lines, OpenCV
    swallows it, and torch crashes.
    """

    def interrupt() -> None:
        if _importing(sys._getframe()):
            call_later(lambda: signal.raise_signal(signal.SIGINT), AGAIN_S)
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
    """Make an interrupt end the process at once, with its message and exit code.

    This is for imports that take seconds, while nothing is open yet.
    """
    with on_interrupt(lambda: end_at_once(prog)):
        yield


def end_at_once(prog: str) -> NoReturn:
    """End the process of an interrupted command that has nothing to finish."""
    # Unbuffered, because the interrupt may come while another line is being written.
    with suppress(AttributeError, OSError, ValueError):
        os.write(sys.stderr.fileno(), f"{prog}: interrupted\n".encode())
    os._exit(INTERRUPTED_EXIT_CODE)


def set_interrupt_handler(handle: Callable[[], object]) -> None:
    """From now on, call `handle` for each signal that asks the program to end. Main thread only."""

    def handler(_number: int, _frame: FrameType | None) -> None:
        handle()

    for number in _heeded():
        signal.signal(number, handler)


def ignore_interrupts() -> None:
    """From now on, ignore the signals that ask the program to end. Does nothing outside the main thread."""
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def _heeded() -> list[int]:
    # If SIGHUP is ignored, nohup did that, because the program should outlive its terminal. If SIGINT is
    # ignored, a shell did that for a background job, but somebody who sends one by hand means it.
    return [
        number
        for number in _SIGNALS
        if number != getattr(signal, "SIGHUP", None) or signal.getsignal(number) != signal.SIG_IGN
    ]
