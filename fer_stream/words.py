"""Small pieces of what people read."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Returns a number with its noun, "1 face" or "2 faces"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
