"""What a run spends its time on: seconds by stage, and how late each frame was."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

KEPT_SAMPLES = 4096  # of each stage; a six-hour run takes no more memory than a short one


@dataclass
class _Samples:
    """The mean of all samples, and a thinned-out series of them for the percentiles."""

    count: int = 0
    total: float = 0.0
    stride: int = 1
    kept: list[float] = field(default_factory=list)

    def add(self, value: float) -> None:
        if self.count % self.stride == 0:
            self.kept.append(value)
            if len(self.kept) >= KEPT_SAMPLES:
                self.kept = self.kept[::2]
                self.stride *= 2
        self.count += 1
        self.total += value

    def percentile(self, percent: float) -> float:
        return float(np.percentile(self.kept, percent)) if self.kept else 0.0


class Profile:
    """Collects how long each stage takes. Each stage is timed by one thread only."""

    def __init__(self) -> None:
        self._stages: dict[str, _Samples] = {}
        self._latency = _Samples()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times what is done inside, as one sample of a stage."""
        began_s = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - began_s)

    def add(self, name: str, duration_s: float, frames: int = 1) -> None:
        """Adds a stage's time, spread evenly over the frames that it was spent on."""
        samples = self._stages.setdefault(name, _Samples())
        for _ in range(frames):
            samples.add(duration_s / frames)

    def add_latency(self, duration_s: float) -> None:
        """Adds the time of one frame from capture to the last sink."""
        self._latency.add(duration_s)

    def stages_ms(self) -> dict[str, dict[str, float]]:
        """Returns for each stage the mean, p50 and p95 in ms."""
        return {
            name: {
                "mean": round(1000 * samples.total / max(samples.count, 1), 3),
                "p50": round(1000 * samples.percentile(50), 3),
                "p95": round(1000 * samples.percentile(95), 3),
            }
            for name, samples in self._stages.items()
        }

    def latency_ms(self) -> dict[str, float]:
        """Returns p50 and p95 of the latency in ms."""
        return {
            "p50": round(1000 * self._latency.percentile(50), 3),
            "p95": round(1000 * self._latency.percentile(95), 3),
        }


def peak_rss_mb() -> float:
    """Returns the most memory that this process has held so far, in MB; 0 where that is unknown."""
    try:
        # Not getrusage: on Linux it begins with what the process that started this one held.
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)[1]) / 2**10  # type: ignore[index]
    except (OSError, TypeError):
        pass
    try:
        import resource
    except ImportError:
        return _peak_rss_mb_windows()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _peak_rss_mb_windows() -> float:
    import ctypes
    from ctypes import wintypes

    class Counters(ctypes.Structure):
        _fields_ = [
            ("cb", wintypes.DWORD),
            ("PageFaultCount", wintypes.DWORD),
            ("PeakWorkingSetSize", ctypes.c_size_t),
            *((f"unused{index}", ctypes.c_size_t) for index in range(7)),
        ]

    counters = Counters(cb=ctypes.sizeof(Counters))
    process = ctypes.windll.kernel32.GetCurrentProcess()  # type: ignore[attr-defined]
    if not ctypes.windll.psapi.GetProcessMemoryInfo(process, ctypes.byref(counters), counters.cb):  # type: ignore[attr-defined]
        return 0.0
    return counters.PeakWorkingSetSize / 2**20
