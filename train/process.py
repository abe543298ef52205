"""Change settings of a training process that must be set before torch loads."""

from __future__ import annotations

import ctypes
import os
import platform
import sys

# Options of mallopt, from glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


def prepare_process() -> None:
    """Make training on the CPU faster without changing its results. Call it before importing torch."""
    # Between parallel regions OpenMP's threads spin for a while. Two runs that share cores then slow each
    # other down. A policy that the user has set stays.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Let malloc keep freed memory for the next training step.

    By default glibc gives large blocks, such as a step's activations, back to the system when they
    are freed. Each step then touches every page of them for the first time again: page faults cost
    up to a quarter of the time.
    """
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_MMAP_MAX, 0)  # large blocks also come from the heap, not from maps of their own
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)  # the free end of the heap is not given back
    mallopt(M_TOP_PAD, 64 * 2**20)  # the heap grows by this many bytes at a time
