"""The state of a run right now, for the window's status line and the terminal's panel."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from fer_stream.sources import SourceStatus
from fer_stream.words import clock_text

RATE_OVER_S = 2.0  # the rate is averaged over this time, which is steady to read and quick to react
LATENCY_S = 0.5  # time constant of the averaged latency
KEPT_NOTICES = 32


@dataclass(frozen=True)
class Recording:
    """A video that is being written.

    Attributes:
        path: The file.
        duration_s: Its length so far.
    """

    path: Path
    duration_s: float


@dataclass
class RunStatus:
    """The state of a run. `pipeline.run` updates it; read it in the same thread.

    Attributes:
        device: Compute device of the networks.
        frames: Frames that went to every sink.
        dropped: Frames of a live source that came while an earlier one was being analyzed.
        time_s: Time of the newest frame in the source.
        latency_s: Time from capture to the last sink, as a moving average; None before the first frame.
        source: State of the source.
        recordings: Videos that are being written.
        notices: Events that are worth a line, such as a still that was saved; the newest last.
        notice_count: Number of notices in all.
    """

    device: str = ""
    frames: int = 0
    dropped: int = 0
    time_s: float = 0.0
    latency_s: float | None = None
    source: SourceStatus = field(default_factory=SourceStatus)
    recordings: tuple[Recording, ...] = ()
    notices: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_NOTICES))
    notice_count: int = 0
    _done_s: deque[float] = field(default_factory=lambda: deque(maxlen=1024), repr=False)

    def frame_done(self, time_s: float, latency_s: float, now_s: float | None = None) -> None:
        """Count a frame that went to every sink.

        Args:
            time_s: Time of the frame in the source.
            latency_s: Time from capture to the last sink.
            now_s: `time.monotonic()`.
        """
        now_s = time.monotonic() if now_s is None else now_s
        since_s = now_s - self._done_s[-1] if self._done_s else 0.0
        self._done_s.append(now_s)
        self.frames += 1
        self.time_s = time_s
        if self.latency_s is None:
            self.latency_s = latency_s
        else:
            share = since_s / (since_s + LATENCY_S)
            self.latency_s += share * (latency_s - self.latency_s)

    def frames_per_s(self, now_s: float | None = None) -> float:
        """Return the rate of the last two seconds; 0 if no frame came in them."""
        now_s = time.monotonic() if now_s is None else now_s
        while self._done_s and now_s - self._done_s[0] > RATE_OVER_S:
            self._done_s.popleft()
        if len(self._done_s) < 2:
            return 0.0
        # When frames stop, the time since the last one counts too, so the rate falls smoothly.
        mean_s = (self._done_s[-1] - self._done_s[0]) / (len(self._done_s) - 1)
        overdue_s = max(0.0, now_s - self._done_s[-1] - mean_s)
        return (len(self._done_s) - 1) / max(self._done_s[-1] - self._done_s[0] + overdue_s, 1e-6)

    def numbers(self, now_s: float | None = None) -> list[str]:
        """Return the parts of a live run's status line: rate, latency, dropped frames, device."""
        numbers = [f"{self.dropped} dropped", self.device]
        if not self.source.message:  # rate and latency mean nothing while no picture comes
            latency = "" if self.latency_s is None else f"{1000 * self.latency_s:.0f} ms latency"
            numbers = [f"{self.frames_per_s(now_s):.1f} frames/s", latency, *numbers]
        return [number for number in numbers if number]

    def clock(self) -> str:
        """Return the current time in the source, which runs on while no picture comes."""
        return clock_text(self.time_s + (self.source.since_s if self.source.message else 0))

    def notice(self, text: str) -> None:
        """Add a notice for the terminal to print."""
        self.notices.append(text)
        self.notice_count += 1

    def notices_since(self, count: int) -> list[str]:
        """Return the notices after the first `count`. Old ones may be gone."""
        new = min(self.notice_count - count, len(self.notices))
        return list(self.notices)[len(self.notices) - new :]
