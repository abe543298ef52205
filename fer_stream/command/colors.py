"""Colours of words and bars in a terminal.

The background may be black or white, and a program can't rely on finding out which. So each colour has a
contrast of at least 4 to 1 with both; more than 4.6 to 1 with both is impossible. The overlay's yellow and
light blue would be hard to read on white.
"""

from __future__ import annotations

LABEL_STYLES: dict[str, str] = {
    "angry": "#c95900",
    "disgust": "#008761",
    "fear": "#b0598f",
    "happy": "#7d7700",
    "neutral": "#767676",
    "sad": "#2a70d2",
    "surprise": "#0080a0",
    "unsure": "dim",
}

GOOD_HEX = "#2b8030"  # green: something is done
BUSY_HEX = "#00808c"  # cyan: something goes on
NOTE_HEX = "#996a00"  # amber: something to know
BAD_HEX = "#d83a34"  # red: something failed, or is being recorded
