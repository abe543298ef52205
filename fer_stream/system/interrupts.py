"""Handle Ctrl-C, SIGTERM and similar signals, in two layers.

1. While modules load, nothing is open: `end_on_interrupt` ends the process with one line. `start` sets it.
2. The run begins before the first output is opened: `interrupts_raised` raises KeyboardInterrupt, so that
   every context manager finishes. Where an exception could leave half a row or half a packet behind,
   `call_on_interrupt` calls a function instead.

When the exit code is decided, `end_program` ignores the signals.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from fer_stream.errors import INTERRUPTED_EXIT_CODE
from fer_stream.system.background import call_later

# SIGHUP is sent when a terminal closes; SIGBREAK is Ctrl-Break on Windows.
_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
]
_AGAIN_S = 0.05  # time after which an interrupt during an import is tried again

_Handler = Callable[[int, FrameType | None], None]

# The function that the handler calls instead of raising KeyboardInterrupt.
_call: Callable[[], object] | None = None


def end_on_interrupt(prog: str) -> None:
    """From now on, end the process at an interrupt, with a message and the exit code. Main thread only."""

    def end(_number: int, _frame: FrameType | None) -> None:
        # Unbuffered, because the interrupt may come while another line is being written.
        with suppress(AttributeError, OSError, ValueError):
            os.write(sys.stderr.fileno(), f"{prog}: interrupted\n".encode())
        os._exit(INTERRUPTED_EXIT_CODE)

    _set_handlers(end)


@contextmanager
def interrupts_raised() -> Iterator[None]:
    """Raise KeyboardInterrupt in the main thread, but let an import finish first.

    Only the main thread receives signals, so this does nothing elsewhere.
    """
    with handlers_kept():
        if threading.current_thread() is threading.main_thread():
            _set_handlers(_interrupt_run)
        yield


@contextmanager
def call_on_interrupt(call: Callable[[], object]) -> Iterator[None]:
    """Call a function in the main thread at each interrupt, instead of raising KeyboardInterrupt.

    Args:
        call: The function. It runs between any two instructions of the main thread, so it must take no lock.
            It may raise.
    """
    global _call
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with interrupts_raised():  # again, because a program may call `pipeline.run` without a command
        before, _call = _call, call
        try:
            yield
        finally:
            _call = before


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Raise KeyboardInterrupt at the end if an interrupt came, or at once if a second one comes."""
    came = 0

    def note() -> None:
        nonlocal came
        came += 1
        if came > 1:
            raise KeyboardInterrupt

    with call_on_interrupt(note):
        yield
    if came:
        raise KeyboardInterrupt


@contextmanager
def handlers_kept() -> Iterator[Callable[[], None]]:
    """Restore the signal handlers at the end, because a library may replace them.

    Yield a function that restores them before the end. Does nothing outside the main thread.
    """
    in_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in _handled_signals()} if in_main else {}

    def restore() -> None:
        for number, previous in before.items():
            if previous is not None:  # None: not set by Python, so Python can't restore it
                signal.signal(number, previous)

    try:
        yield restore
    finally:
        restore()


def ignore_interrupts() -> None:
    """From now on, ignore the signals that ask the program to end. Does nothing outside the main thread."""
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def _interrupt_run(_number: int, _frame: FrameType | None) -> None:
    if _call is not None:
        _call()
    elif _importing(sys._getframe()):
        # Libraries do not expect KeyboardInterrupt during their import: numpy turns it into an ImportError of
        # twenty lines, OpenCV swallows it, and torch crashes.
        call_later(lambda: signal.raise_signal(signal.SIGINT), _AGAIN_S)
    else:
        raise KeyboardInterrupt


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _set_handlers(handler: _Handler) -> None:
    for number in _handled_signals():
        signal.signal(number, handler)


def _handled_signals() -> list[int]:
    # If SIGHUP is ignored, nohup did that, because the program should outlive its terminal. If SIGINT is
    # ignored, a shell did that for a background job. We still handle it, because somebody who sends one means
    # it.
    return [
        number
        for number in _SIGNALS
        if number != getattr(signal, "SIGHUP", None) or signal.getsignal(number) != signal.SIG_IGN
    ]
