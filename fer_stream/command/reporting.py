"""End a command: report errors in one line, and exit with their code."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from fer_stream.command.logs import LOGGER, log_to_standard_error
from fer_stream.errors import (
    INTERRUPTED_EXIT_CODE,
    FerStreamError,
    OutOfMemoryError,
    OutputError,
    ReaderGoneError,
    UsageError,
    one_line,
    reason_of,
)
from fer_stream.sources.addresses import without_passwords
from fer_stream.system.background import a_thread_runs
from fer_stream.system.interrupts import ignore_interrupts
from fer_stream.system.memory import is_out_of_memory
from fer_stream.system.requirements import broken_module, installation_problem

# Printed after a run with --blur.
BLUR_REMINDER = "check the result before you share it: a face that was never found is not hidden"


def end_program(code: int) -> NoReturn:
    """End the process of a command whose `main` has returned, with its exit code.

    A second Ctrl-C must not replace the code with that of a signal. A thread that is still blocked in a
    silent stream must not wake up in an interpreter that is shutting down. An output stream that accepts no
    more text must not change the code.
    """
    ignore_interrupts()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):  # otherwise Python flushes again and ends with 120
            with suppress(AttributeError, OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    if a_thread_runs():
        os._exit(code)
    sys.exit(code)


def exit_code_of(prog: str, run: Callable[[], int], *, has_verbose: bool = False) -> int:
    """Run a command, and report an error or an interrupt in one line.

    Args:
        prog: Name of the command.
        run: Does the work and returns the exit code.
        has_verbose: Whether the command has `--verbose`, which shows where an unexpected error happened. If
            not, such an error is raised, so that its traceback is not lost.

    Returns:
        That exit code, or the one of the error.
    """
    log_to_standard_error(prog, verbose=False)
    try:
        return run()
    except ReaderGoneError as error:
        return error.exit_code
    except KeyboardInterrupt as interrupt:
        say(prog, str(interrupt) or "interrupted")
        return INTERRUPTED_EXIT_CODE
    except Exception as error:
        known = _in_words(error)
        if known is None and not has_verbose:
            raise
        if known is None:
            known = _unexpected(error)
        LOGGER.debug("ended by an error", exc_info=True)
        say(prog, str(known))
        return known.exit_code


def _unexpected(error: Exception) -> FerStreamError:
    kind = type(error)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    reason = f": {reason_of(error)}" if str(error) else ""
    hint = "" if LOGGER.isEnabledFor(logging.DEBUG) else "; --verbose shows where it happened"
    return FerStreamError(f"unexpected {name}{reason}{hint}")


def _in_words(error: Exception) -> FerStreamError | None:
    """Return the error to show to the user, or None if the error is unexpected."""
    if is_out_of_memory(error) and not isinstance(error, OutOfMemoryError):
        return OutOfMemoryError()
    if isinstance(error, FerStreamError):
        return error
    if (module := broken_module(error)) is not None and installation_problem(error) is None:
        return UsageError(
            f"{module} is installed but can't be loaded: {type(error).__name__}: {error}; "
            f"install it again with: pip install --force-reinstall {module}"
        )
    if isinstance(error, FileNotFoundError) and not error.filename and _is_current_folder_gone():
        return OutputError("the current folder was removed; change to another one")
    if isinstance(error, OSError):  # from the system, not yet turned into one of our errors
        what = f" {error.filename}" if error.filename else ""
        return OutputError(f"can't read or write{what}: {reason_of(error)}")
    if isinstance(error, (ImportError, AttributeError, TypeError)):
        problem = installation_problem(error)
        return None if problem is None else UsageError(problem)
    return None


def _is_current_folder_gone() -> bool:
    try:
        os.getcwd()  # noqa: PTH109
    except FileNotFoundError:
        return True
    return False


def say(program: str, text: str) -> None:
    """Print one line to standard error, with passwords hidden. Errors of the stream are ignored."""
    if sys.stderr is None:  # closed from the start; print would take standard output instead
        return
    with suppress(OSError):
        print(f"{program}: {one_line(without_passwords(text))}", file=sys.stderr, flush=True)
