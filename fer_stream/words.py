"""Small pieces of what people read."""

from __future__ import annotations

import math


def counted(number: int, noun: str) -> str:
    """Returns a number with its noun, "1 face" or "2 faces"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def percent(probability: float) -> int:
    """Returns a probability in whole percent, 100 only for certainty so that it never overstates."""
    return min(math.floor(100 * probability + 0.5), 99 if probability < 0.9995 else 100)
