"""Settings of Python for a program of several threads that works on frames."""

from __future__ import annotations

import gc
import sys

SWITCH_INTERVAL_S = 0.0005


def settle() -> None:
    """Set Python up for the work on frames, after everything is loaded.

    The loaded modules are hundreds of thousands of objects that stay until the end. They are kept out of the
    garbage collector's rounds, each of which would hold up all threads.

    A thread that returns from a library waits for the thread that runs Python code, 5 ms by default. Frames
    take less, so threads take turns more often.
    """
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
