"""What the commands share: options that are checked as they are read, and errors in one line."""

from __future__ import annotations

import argparse
import difflib
import math
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn

from fer_stream.command.logs import LOGGER, log_to_standard_error
from fer_stream.errors import (
    INTERRUPTED_EXIT_CODE,
    FerStreamError,
    OutOfMemoryError,
    OutputError,
    ReaderGoneError,
    UsageError,
    one_line,
)
from fer_stream.expressions import ANNOTATIONS, FERPLUS
from fer_stream.sources.addresses import without_passwords
from fer_stream.system.interrupts import ignore_interrupts, interrupts_raised
from fer_stream.system.memory import is_out_of_memory
from fer_stream.system.requirements import installation_problem

if TYPE_CHECKING:
    from fer_stream.detection.pace import ScanEvery

MAX_BATCH_FRAMES = 256  # frames; all of them are held at once


def end_program(code: int) -> NoReturn:
    """End the process of a command whose `main` has returned, with its exit code.

    A second Ctrl-C that comes now must not turn the code into a signal's. A thread that is still blocked in
    a silent stream must not come back into an interpreter that is being taken down. A stream that takes
    no more text must not change the code.
    """
    ignore_interrupts()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):  # Python would flush it once more and end with 120
            with suppress(AttributeError, OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    if any(thread.daemon and thread.name.startswith("fer-stream") for thread in threading.enumerate()):
        os._exit(code)
    sys.exit(code)


class CommandParser(argparse.ArgumentParser):
    """An argument parser that takes whole option names only, and whose errors are one line."""

    def __init__(self, **settings: object) -> None:
        super().__init__(allow_abbrev=False, **settings)  # type: ignore[arg-type]

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def, override]
        """Parses as usual, and refuses `--option=--`, which before Python 3.13 leaves an empty list."""
        options, rest = super().parse_known_args(args, namespace)
        for action in self._actions:
            value = getattr(options, action.dest, None)
            # [[]] where the option may be given several times.
            if action.nargs is None and isinstance(value, list) and (not value or [] in value):
                self.error(f"argument {'/'.join(action.option_strings)}: '--' is no value")
        return options, rest

    def error(self, message: str) -> NoReturn:
        """Raise a UsageError instead of printing the usage and ending the process."""
        raise UsageError(f"{message}{self._suggestion(message)}; see {self.prog} --help")

    def _suggestion(self, message: str) -> str:
        """Return the options that are meant where an unknown one is close to them."""
        names = [name for action in self._actions for name in action.option_strings if name.startswith("--")]
        unknown = re.findall(r"--[\w-]+", message) if message.startswith("unrecognized arguments") else []
        meant = [close[0] for name in unknown if (close := difflib.get_close_matches(name, names, n=1))]
        return f"; did you mean {' and '.join(dict.fromkeys(meant))}?" if meant else ""


@contextmanager
def only_our_words() -> Iterator[None]:
    """Keeps libraries in C from writing to standard error by themselves, as libpng does about a damaged file.

    What Python writes to `sys.stderr` comes through.
    """
    # Where a shell closed a standard stream (2>&-), the next file to be opened, such as the saved video,
    # would take its place, and get what is meant for it.
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free
    before = sys.stderr
    try:
        is_standard = before is not None and before.fileno() == 2
    except (OSError, ValueError):  # not a file
        is_standard = False
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        if is_standard:
            before.flush()
            sys.stderr = open(  # noqa: SIM115
                kept, "w", encoding=before.encoding, errors=before.errors, buffering=1, closefd=False
            )
        os.dup2(nowhere, 2)
        yield
    finally:
        if is_standard:
            with suppress(OSError):  # nobody reads it any more
                sys.stderr.flush()
            sys.stderr = before
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def exit_code_of(prog: str, run: Callable[[], int]) -> int:
    """Runs a command, and says an error or an interrupt in one line.

    Args:
        prog: The command's name.
        run: Does everything and returns the exit code.

    Returns:
        That code, or the error's.
    """
    log_to_standard_error(prog, verbose=False)
    try:
        with interrupts_raised():
            return run()
    except ReaderGoneError as error:
        return error.exit_code
    except KeyboardInterrupt as interrupt:
        say(prog, str(interrupt) or "interrupted")
        return INTERRUPTED_EXIT_CODE
    except Exception as error:
        known = _in_words(error)
        if known is None:
            raise
        LOGGER.debug("ended by an error", exc_info=True)
        say(prog, str(known))
        return known.exit_code


def _in_words(error: Exception) -> FerStreamError | None:
    """Return what an error means to the user, or None for a fault of this program."""
    if is_out_of_memory(error):
        return OutOfMemoryError()
    if isinstance(error, FerStreamError):
        return error
    if isinstance(error, OSError):  # of the system, and nobody has put it into words
        what = f" {error.filename}" if error.filename else ""
        return OutputError(f"can't read or write{what}: {error.strerror or error}")
    if isinstance(error, (ImportError, AttributeError, TypeError)):
        problem = installation_problem(error)
        return None if problem is None else UsageError(problem)
    return None


def say(program: str, text: str) -> None:
    """Says one line on standard error, if anybody listens; what was typed may hold a password."""
    with suppress(OSError):
        print(f"{program}: {one_line(without_passwords(text))}", file=sys.stderr, flush=True)


def whole(lowest: int, highest: int = 1_000_000) -> Callable[[str], int]:
    """Returns a type for argparse: a whole number from `lowest` to `highest`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = lowest - 1
        if not lowest <= value <= highest:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {lowest} to {highest}")
        return value

    return parse


def size_wh(text: str) -> tuple[int, int]:
    """A type for argparse: a width and a height in pixels, such as 1280x720."""
    parts = re.fullmatch(r"(\d{1,5})[xX](\d{1,5})", text)
    size = (int(parts[1]), int(parts[2])) if parts else (0, 0)
    if 0 in size:
        raise argparse.ArgumentTypeError(f"{text!r} is not a width and a height such as 1280x720")
    return size


def number(fits: Callable[[float], bool], what: str) -> Callable[[str], float]:
    """Returns a type for argparse: a finite number for which `fits` holds, which `what` names."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and fits(value)):
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
        return value

    return parse


def add_analysis_options(
    parser: argparse.ArgumentParser, devices: str = "auto, cpu, cuda or cuda:N"
) -> argparse._ArgumentGroup:
    """Adds the options of the analysis, with what `--device` takes; returns their group."""
    analysis = parser.add_argument_group("analysis")
    analysis.add_argument("--device", default="auto", help=f"{devices} (default: %(default)s)")
    analysis.add_argument(
        "--weights", metavar="PATH", help="a checkpoint of fer-train (default: the built-in one)"
    )
    add_labels_option(analysis)
    analysis.add_argument(
        "--unsure-below",
        type=number(lambda value: 0 <= value <= 1, "a probability from 0 to 1"),
        metavar="P",
        help='call a face "unsure" whose best probability is lower; 0: never (default: as the weights say)',
    )
    analysis.add_argument("--min-face", type=whole(12), metavar="PX", help="smallest face (default: 40)")
    analysis.add_argument(
        "--scan-every",
        type=_scan_every,
        metavar="N",
        help="search the whole frame for new faces at least every N frames; auto (the default) is 10, or 3 "
        "from three faces on, and with a live source what keeps up",
    )
    analysis.add_argument(
        "--smooth",
        type=number(lambda value: value >= 0, "a number of seconds"),
        metavar="SECONDS",
        help="time constant of the smoothing; 0 gives each frame's own probabilities (default: 0.3)",
    )
    analysis.add_argument(
        "--batch",
        type=whole(1, MAX_BATCH_FRAMES),
        metavar="N",
        help="frames whose faces are read together, in a recording (default: 8)",
    )
    return analysis


def add_labels_option(parser: argparse._ActionsContainer) -> None:
    """Add `--labels`, which chooses the annotation to follow."""
    parser.add_argument(
        "--labels",
        choices=ANNOTATIONS,
        help="what the percentages follow: the majority of the ten people of FER+, or the single label of "
        f"FER2013 (default: {FERPLUS} where the weights have it)",
    )


def analysis_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Returns what the options of `add_analysis_options` say to `Analyzer`, where they were given."""
    given = {
        "labels": options.labels,
        "unsure_below": options.unsure_below,
        "min_face": options.min_face,
        "scan_every": options.scan_every,
        "smooth_s": options.smooth,
        "batch": options.batch,
    }
    return {name: value for name, value in given.items() if value is not None}


def _scan_every(text: str) -> ScanEvery:
    """A type for argparse: auto, or a whole number of frames."""
    try:
        return "auto" if text == "auto" else whole(1)(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, nor auto") from error
