"""What the commands share: options that are checked as they are read, and errors in one line."""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from fer_stream.addresses import without_passwords
from fer_stream.errors import UsageError, one_line


class CommandParser(argparse.ArgumentParser):
    """An argument parser that takes whole option names only, and whose errors are one line."""

    def __init__(self, **settings: object) -> None:
        super().__init__(allow_abbrev=False, **settings)  # type: ignore[arg-type]

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def, override]
        """Parses as usual, and refuses `--option=--`, which before Python 3.13 leaves an empty list."""
        options, rest = super().parse_known_args(args, namespace)
        for action in self._actions:
            if action.nargs is None and getattr(options, action.dest, None) == []:
                self.error(f"argument {'/'.join(action.option_strings)}: '--' is no value")
        return options, rest

    def error(self, message: str) -> NoReturn:
        """Raises a UsageError instead of printing the usage and ending."""
        raise UsageError(f"{message}; see {self.prog} --help")


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


def raise_interrupt() -> NoReturn:
    """Ends what the main thread does; for `interrupts.on_interrupt`."""
    raise KeyboardInterrupt


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
