"""Show a recording at its own pace, for sinks that people watch."""

from __future__ import annotations

import time
from collections.abc import Callable

LONGEST_WAIT_S = 1.0  # for the time of the next frame; Ctrl-C waits this long, too
_STEP_S = 0.03


class RealTime:
    """Waits for the times of a recording's frames. The first frame starts the clock."""

    def __init__(self) -> None:
        self._began_s: float | None = None

    def wait_for(self, time_s: float, meanwhile: Callable[[], None] | None = None) -> None:
        """Wait until it is time for a frame.

        Args:
            time_s: Time of the frame in the recording.
            meanwhile: Called repeatedly while waiting.
        """
        now_s = time.monotonic()
        if self._began_s is None:
            self._began_s = now_s - time_s
        ahead_s = self._began_s + time_s - now_s
        wait_s = min(max(ahead_s, 0.0), LONGEST_WAIT_S)
        if meanwhile is None:
            time.sleep(wait_s)
        else:
            while (left_s := now_s + wait_s - time.monotonic()) > 0:
                time.sleep(min(left_s, _STEP_S))
                meanwhile()
        self._began_s -= ahead_s - wait_s  # after a delay or a gap, go on from here at the usual pace
