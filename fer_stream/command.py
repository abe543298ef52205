"""What the commands share: options that are checked as they are read, and errors in one line."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from fer_stream.errors import UsageError, one_line


class CommandParser(argparse.ArgumentParser):
    """An argument parser that takes whole option names only, and whose errors are one line."""

    def __init__(self, **settings: object) -> None:
        super().__init__(allow_abbrev=False, **settings)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Raises a UsageError instead of printing the usage and ending."""
        raise UsageError(f"{message}; see {self.prog} --help")


def raise_interrupt() -> NoReturn:
    """Ends what the main thread does; for `interrupts.on_interrupt`."""
    raise KeyboardInterrupt


def say(program: str, text: str) -> None:
    """Says one line on standard error, if anybody listens."""
    with suppress(OSError):
        print(f"{program}: {one_line(text)}", file=sys.stderr, flush=True)


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
