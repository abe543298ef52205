"""Ranges of the analysis settings, shared by `Analyzer` and the command-line options."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """The numbers from `lowest` to `highest`, both included. All are finite.

    Attributes:
        lowest: The lowest number.
        highest: The highest number; infinity for no limit.
        what: Words for messages, such as "a probability from 0 to 1".
        is_whole: Whether only whole numbers count.
    """

    lowest: float
    highest: float
    what: str
    is_whole: bool = False

    def holds(self, value: object) -> bool:
        """Return whether a value is one of the numbers."""
        if self.is_whole and not isinstance(value, numbers.Integral):
            return False
        if not isinstance(value, numbers.Real) or isinstance(value, bool):
            return False
        # An infinite or NaN value fails, too.
        return bool(self.lowest <= value <= self.highest and value < math.inf)  # type: ignore[operator]


def whole_numbers(lowest: int, highest: int = 1_000_000) -> Range:
    """Return the range of the whole numbers from `lowest` to `highest`."""
    return Range(lowest, highest, f"a whole number from {lowest} to {highest}", is_whole=True)


UNSURE_BELOW = Range(0, 1, "a probability from 0 to 1")
MIN_FACE = whole_numbers(12)  # px; the input of the network that searches is 12 px wide
SCAN_EVERY = whole_numbers(1)  # frames
SMOOTH_S = Range(0, math.inf, "a number of seconds, 0 or more")
STILLS_EVERY_S = Range(0.001, math.inf, "a number of seconds, 0.001 or more")
CAMERA = whole_numbers(0)  # index
BATCH = whole_numbers(1, 256)  # frames; all of them are in memory at once
THREADS = whole_numbers(0)
