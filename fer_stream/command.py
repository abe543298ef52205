"""What the commands share: options that are checked as they are read, and errors in one line."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from fer_stream.addresses import without_passwords
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
