"""Times as people write them: seconds, or `[HH:]MM:SS[.mmm]`."""

from __future__ import annotations

import math
import re

from fer_stream.errors import UsageError

# ASCII digits only: \d alone would also take digits of other scripts, which no other tool prints.
_SECONDS = re.compile(r"\d+(?:\.\d*)?|\.\d+", re.ASCII)
_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:\.\d*)?)", re.ASCII)


def parse_time(text: str) -> float:
    """Reads a time.

    Args:
        text: Seconds ("90", "12.5") or a clock time ("1:30", "01:02:03.250").

    Returns:
        Seconds, finite and not negative.

    Raises:
        UsageError: The text is no such time.
    """
    stripped = text.strip()
    if _SECONDS.fullmatch(stripped):
        seconds = float(stripped)
        if math.isfinite(seconds):
            return seconds
    elif clock := _CLOCK.fullmatch(stripped):
        hours, minutes, seconds = int(clock[1] or 0), int(clock[2]), float(clock[3])
        if minutes >= 60 or seconds >= 60:
            raise UsageError(
                f"'{text}' is not a time: minutes and seconds go up to 59; give plain seconds "
                "for more, such as 90"
            )
        # Through a string of digits any number of hours may come: only a finite sum is a time.
        if hours < 10**9:
            return hours * 3600 + minutes * 60 + seconds
    raise UsageError(f"'{text}' is not a time: give seconds (90 or 12.5) or [HH:]MM:SS[.mmm] (1:30)")


def format_time(seconds: float) -> str:
    """Writes a time for people: "0:05", "1:30.500", "1:02:03.250".

    Args:
        seconds: A finite time; it is rounded to the millisecond.

    Returns:
        `[H:]M:SS`, with three decimals unless they are zero, that `parse_time` reads back.
    """
    milliseconds = round(abs(seconds) * 1000)
    sign = "-" if seconds < 0 and milliseconds else ""
    whole_s, milliseconds = divmod(milliseconds, 1000)
    whole_minutes, whole_s = divmod(whole_s, 60)
    hours, minutes = divmod(whole_minutes, 60)
    clock = f"{hours}:{minutes:02}:{whole_s:02}" if hours else f"{minutes}:{whole_s:02}"
    return sign + clock + (f".{milliseconds:03}" if milliseconds else "")
