"""Time spent in each stage of a run, and the latency of each frame."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

KEPT_SAMPLES = 4096  # per stage, so a six-hour run takes no more memory than a short one


@dataclass
class _Samples:
    """The sum of all samples, and every n-th sample for the percentiles."""

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
    """Collects the time of each stage. Time a stage in one thread only."""

    def __init__(self) -> None:
        self._stages: dict[str, _Samples] = {}
        self._latency = _Samples()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block as one sample of a stage."""
        began_s = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - began_s)

    def add(self, name: str, duration_s: float, frames: int = 1) -> None:
        """Add the time that a stage took for some frames, as equal samples."""
        samples = self._stages.setdefault(name, _Samples())
        for _ in range(frames):
            samples.add(duration_s / frames)

    def add_latency(self, duration_s: float) -> None:
        """Add one frame's time from capture to the last sink."""
        self._latency.add(duration_s)

    def stages_ms(self) -> dict[str, dict[str, float]]:
        """Return the mean, p50 and p95 of each stage in ms."""
        return {
            name: {
                "mean": round(1000 * samples.total / max(samples.count, 1), 3),
                "p50": round(1000 * samples.percentile(50), 3),
                "p95": round(1000 * samples.percentile(95), 3),
            }
            for name, samples in self._stages.items()
        }

    def latency_ms(self) -> dict[str, float]:
        """Return the p50 and p95 of the latency in ms."""
        return {
            "p50": round(1000 * self._latency.percentile(50), 3),
            "p95": round(1000 * self._latency.percentile(95), 3),
        }


def peak_rss_mb() -> float:
    """Return the peak memory of this process in MB; 0 if the system does not say."""
    try:
        # Not getrusage: on Linux it includes the memory of the process that started this one.
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
