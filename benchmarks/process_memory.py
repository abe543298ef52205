"""The memory that a process holds now, for the benchmarks that watch whether it grows."""

from __future__ import annotations

import re
from pathlib import Path

from fer_stream.profiling import peak_rss_mb


def rss_mb() -> float:
    """Return the memory that this process holds now (RSS) in MB, or its peak if the system does not say."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return peak_rss_mb()
    held = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    return peak_rss_mb() if held is None else int(held[1]) / 2**10
