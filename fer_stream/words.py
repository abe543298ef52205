"""Format numbers and times for messages, charts and the screen."""

from __future__ import annotations

import math
from collections.abc import Sequence

_PLURALS = {"person": "people"}


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, "1 face" or "2 faces", "1 person" or "2 people"."""
    return f"{number} {noun}" if number == 1 else f"{number} {_PLURALS.get(noun, f'{noun}s')}"


def any_of(names: Sequence[str]) -> str:
    """Return the names as alternatives, ".mp4, .mkv or .webm"."""
    return _enumerated(names, "or")


def all_of(names: Sequence[str]) -> str:
    """Return all names in one phrase, "torch, torchvision and timm"."""
    return _enumerated(names, "and")


def _enumerated(names: Sequence[str], conjunction: str) -> str:
    *first, last = names
    return f"{', '.join(first)} {conjunction} {last}" if first else last


def percent(probability: float, *, unsure: bool = False) -> int:
    """Return a probability in whole percent. It rounds up to 100 only from 99.95 %.

    Args:
        probability: 0 to 1.
        unsure: Whether the face is unsure. Its percentages round down, so that none reaches the threshold.
    """
    if unsure:
        return math.floor(100 * probability)
    return min(math.floor(100 * probability + 0.5), 99 if probability < 0.9995 else 100)


def clock_text(time_s: float, *, exact: bool = False) -> str:
    """Return a time or a length as m:ss or h:mm:ss, with tenths if `exact`. Halves round up."""
    units = 10 if exact else 1
    tenths = math.floor(abs(time_s) * units + 0.5) * (10 // units)
    sign = "-" if time_s < 0 and tenths else ""
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{tenths // 10:02d}" + (f".{tenths % 10}" if exact else "")
    return sign + (f"{hours}:{minutes:02d}:{seconds}" if hours else f"{minutes}:{seconds}")


def duration_text(seconds: float) -> str:
    """Return a duration, "8.0 s", or "1:05" from a minute on."""
    return f"{seconds:.1f} s" if seconds < 59.95 else clock_text(seconds)
