"""What a recording should hold and does not: counted while it is read, and told in a line."""

from __future__ import annotations

from fractions import Fraction

from fer_stream.sources.times import format_time

# A camera leaves out a picture now and then; so long without one, in a recording of a constant rate, is
# a piece that is not there.
_SHORTEST_GAP_S = 0.25
# Of the steps between frames, how many a recording of a constant rate has of that rate at least.
_REGULAR_SHARE = 0.9


class Losses:
    """Compares the frames that come with what the recording says of itself.

    A file that ends too soon gives no error: its reader just finds no more packets. Nor does damage in
    a container that looks for the next whole piece, and goes on there.
    """

    def __init__(self, name: str, rate: Fraction | None, stated_end_s: float | None) -> None:
        """Begins before the first frame.

        Args:
            name: Of the recording, as shown.
            rate: Frames a second on average, if known.
            stated_end_s: Where the recording says that its video ends, presentation time, if it does.
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
        """Takes note of a frame; what it says of its own duration may be 0."""
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

    def problems(self, end_s: float | None) -> list[str]:
        """Returns a line for each loss, after the last frame that there is.

        Args:
            end_s: The end of the part that was wanted; None for the whole rest. Where a part was read to its
                end, no end is missed: then negative infinity.
        """
        lines = []
        interval_s = self._interval_s
        is_regular = self._regular_steps >= _REGULAR_SHARE * self._steps - 1
        if interval_s and self._gaps_s and is_regular:
            lines.append(
                f"{self._name}: {self._gaps_s:.1f} s in its middle hold no picture; "
                f"about {_frames(self._gaps_s / interval_s)} missing"
            )
        if not is_regular and self._steps:
            # The stated rate means nothing here, and the last frame may be shown as long as the others.
            interval_s = self._steps_s / self._steps
        if self._last_s is not None and self._stated_end_s is not None:
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
