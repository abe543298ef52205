"""Hold back what C libraries write to standard error, but show it if the process dies.

For example, libpng reports damaged files in this way, and FFmpeg and ONNX Runtime say why they abort.
"""

from __future__ import annotations

import faulthandler
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_LAST_LINES = 40


@contextmanager
def native_messages(*, shown: bool) -> Iterator[None]:
    """Hold back the messages of C libraries. If the process dies, show the last ones and a traceback.

    Text that Python writes to `sys.stderr` gets through.

    Args:
        shown: Let all messages through at once.
    """
    _fill_standard_streams()
    before = sys.stderr
    try:
        is_standard = before is not None and before.fileno() == 2
    except (OSError, ValueError):  # not a file
        is_standard = False
    real_stderr = os.dup(2)
    prints_traceback = not faulthandler.is_enabled()
    holder: subprocess.Popen[bytes] | None = None
    try:
        if prints_traceback:
            faulthandler.enable(real_stderr)
        if not shown:
            if is_standard:
                before.flush()
                sys.stderr = open(  # noqa: SIM115
                    real_stderr,
                    "w",
                    encoding=before.encoding,
                    errors=before.errors,
                    buffering=1,
                    closefd=False,
                )
            holder = _redirect_to_tail(real_stderr)
        yield
    finally:
        if is_standard:
            with suppress(OSError):  # its reader has gone
                sys.stderr.flush()
            sys.stderr = before
        if holder is not None:
            holder.kill()  # before its input ends, or it would print the messages
            holder.wait()
        os.dup2(real_stderr, 2)
        if prints_traceback:
            faulthandler.disable()
        os.close(real_stderr)


def _redirect_to_tail(standard_error: int) -> subprocess.Popen[bytes] | None:
    """Redirect descriptor 2 to a program that prints the last lines when this process has died.

    Only another process can still print at that time. If there is no `tail`, the messages are lost.
    """
    try:
        holder = subprocess.Popen(
            ["tail", "-n", str(_LAST_LINES)],
            stdin=subprocess.PIPE,
            stdout=standard_error,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that Ctrl-C in the terminal does not reach it
        )
    except OSError:
        target = os.open(os.devnull, os.O_WRONLY)
        os.dup2(target, 2)
        os.close(target)
        return None
    assert holder.stdin is not None
    os.dup2(holder.stdin.fileno(), 2)
    holder.stdin.close()
    return holder


def _fill_standard_streams() -> None:
    """Open standard streams that a shell closed (2>&-).

    Otherwise, the next opened file, such as the saved video, would take their place and receive their text.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # uses the lowest free descriptor
