"""Read and write times as people do: seconds, or `[HH:]MM:SS[.mmm]`."""

from __future__ import annotations

import re

from fer_stream.errors import UsageError

MOST_HOURS = 10**9  # with more, a float would lose the milliseconds, and finally overflow
# ASCII digits only: \d alone would also accept digits of other scripts.
_SECONDS = re.compile(r"\d+(?:\.\d*)?|\.\d+", re.ASCII)
_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:\.\d*)?)", re.ASCII)


def parse_time(text: str) -> float:
    """Parse a time and return it in seconds.

    Args:
        text: Seconds ("90", "12.5") or a clock time ("1:30", "01:02:03.250").

    Returns:
        Seconds, finite and not negative.

    Raises:
        UsageError: The text is not a time.
    """
    stripped = text.strip()
    if _SECONDS.fullmatch(stripped):
        seconds = float(stripped)
        if seconds < 3600 * MOST_HOURS:
            return seconds
    elif clock := _CLOCK.fullmatch(stripped):
        hours, minutes, seconds = int(clock[1] or 0), int(clock[2]), float(clock[3])
        if minutes >= 60 or seconds >= 60:
            raise UsageError(
                f"'{text}' is not a time: minutes and seconds go up to 59; give plain seconds "
                "for more, such as 90"
            )
        if hours < MOST_HOURS:
            return hours * 3600 + minutes * 60 + seconds
    raise UsageError(f"'{text}' is not a time: give seconds (90 or 12.5) or [HH:]MM:SS[.mmm] (1:30)")


def format_time(seconds: float) -> str:
    """Return a time as people write it: "0:05", "1:30.500", "1:02:03.250".

    Args:
        seconds: A finite time. It is rounded to milliseconds.

    Returns:
        `[H:]M:SS`, with three decimals unless they are zero. `parse_time` reads it back.
    """
    milliseconds = round(abs(seconds) * 1000)
    sign = "-" if seconds < 0 and milliseconds else ""
    whole_s, milliseconds = divmod(milliseconds, 1000)
    whole_minutes, whole_s = divmod(whole_s, 60)
    hours, minutes = divmod(whole_minutes, 60)
    clock = f"{hours}:{minutes:02}:{whole_s:02}" if hours else f"{minutes}:{whole_s:02}"
    return sign + clock + (f".{milliseconds:03}" if milliseconds else "")


def has_reached(time_s: float, limit_s: float) -> bool:
    """Return whether a frame's time is at or after a limit, which may be copied from the table.

    The table rounds times to microseconds, so a time in it may be slightly later than the frame.
    """
    return max(time_s, round(time_s, 6)) >= limit_s
