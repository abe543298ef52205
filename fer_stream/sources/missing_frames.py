"""Count the frames that are missing from a damaged recording."""

from __future__ import annotations

from fractions import Fraction

from fer_stream.sources.time_text import format_time

# A camera skips a picture now and then. A longer time without one, in a recording with a constant rate, means
# that a piece is missing.
_SHORTEST_GAP_S = 0.25
# A recording has a constant rate if at least this share of the steps between frames agrees with it.
_REGULAR_SHARE = 0.9


class Losses:
    """Compares the frames of a recording with the length and the rate that it states.

    FFmpeg reports no error for a file that ends too early: there are just no more packets. It also reports
    none for damage in a container whose reader skips to the next intact piece.
    """

    def __init__(self, name: str, rate: Fraction | None, stated_end_s: float | None) -> None:
        """Start to count, before the first frame.

        Args:
            name: Name of the recording for messages.
            rate: Average frames per second, if known.
            stated_end_s: Presentation time at which the recording says that its video ends, if it does.
        """
        self._name = name
        self._stated_end_s = stated_end_s
        self._interval_s = 1 / float(rate) if rate else None
        self._last_s: float | None = None
        self._end_s = 0.0
        self._steps = self._regular_steps = 0
        self._steps_s = 0.0
        self._gaps_s = 0.0

    def add(self, time_s: float, duration_s: float) -> None:
        """Count a frame. Its stated duration may be 0."""
        interval_s = self._interval_s
        if self._last_s is not None and interval_s is not None:
            step_s = time_s - self._last_s
            self._steps += 1
            self._steps_s += step_s
            self._regular_steps += abs(step_s - interval_s) <= max(0.1 * interval_s, 0.0015)
            if step_s > max(_SHORTEST_GAP_S, 2.5 * interval_s, duration_s):
                self._gaps_s += step_s - interval_s
        self._last_s = time_s
        self._end_s = time_s + max(duration_s, interval_s or 0.0)

    def problems(self, end_s: float | None, *, end_reached: bool = False, repeats: bool = False) -> list[str]:
        """Return a line for each loss. Call it after the last frame.

        Args:
            end_s: End of the requested part; None for the end of the recording.
            end_reached: Whether a frame at or after `end_s` came, so that no frame is missing at the end.
            repeats: Whether the recording leaves out pictures that are the same as the one before.
        """
        lines = []
        interval_s = self._interval_s
        is_regular = not repeats and self._regular_steps >= _REGULAR_SHARE * self._steps - 1
        if interval_s and self._gaps_s and is_regular:
            lines.append(
                f"{self._name}: {self._gaps_s:.1f} s in its middle hold no picture; "
                f"about {_frames(self._gaps_s / interval_s)} missing"
            )
        if not is_regular and self._steps:
            # The stated rate means nothing here. The last frame may be shown for as long as the others.
            interval_s = self._steps_s / self._steps
        if self._last_s is not None and self._stated_end_s is not None and not end_reached:
            wanted_end_s = self._stated_end_s if end_s is None else min(end_s, self._stated_end_s)
            shown_until_s = max(self._end_s, self._last_s + (interval_s or 0.0))
            missing_s = wanted_end_s - shown_until_s
            if missing_s > max(1.5 * (interval_s or 0.0), 0.05):
                count = f"; about {_frames(missing_s / interval_s)} missing" if interval_s else ""
                lines.append(
                    f"{self._name} says that it ends at {format_time(self._stated_end_s)}, "
                    f"but its video ends at {format_time(shown_until_s)}{count}"
                )
        return lines


def _frames(count: float) -> str:
    number = max(1, round(count))
    return "1 frame is" if number == 1 else f"{number} frames are"
