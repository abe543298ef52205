"""Share the cores of the CPU between the stages.

Measured on 2 cores that other programs used at the same time: a scan split over two threads takes 15 to 23 %
less time than on one thread, and 6 to 8 % more CPU time. ONNX Runtime's own second thread costs up to 22 %
more CPU time. The number of threads makes no clear difference for OpenCV (1 or 2), or for x264 (2, 3
or 4 frame threads). The decoder chooses its own number of threads.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar

from fer_stream.system.cores import CORES
from fer_stream.system.thread_pool import side_by_side

ENCODER_THREADS = min(4, CORES)  # in x264, each thread needs 13 bytes of memory per pixel
OPENCV_THREADS = min(4, CORES)  # 16 threads cost a third more CPU time and save no time
WORKERS = 2  # parts of a scan or of a batch that run side by side
LEAST_PART = 4  # in crops; a smaller part is not worth a thread
MOST_NETWORK_THREADS = 4  # of one run of a network; the layers are too small for more
MOST_EARLY_SCAN_THREADS = 3
SPLIT_EARLY_SCANS_FROM = 4  # cores; two unsplit scans keep fewer cores busy

_T = TypeVar("_T")


def early_scan_threads(device: str, threads: int = 0) -> int:
    """Return how many threads scan frames early, see `EarlyScans`; 0 for no early scans.

    Speedup by early scans on the CPU, measured with a crowd and without a saved video:

        cores   early scans at the same time   each scan        speedup
        2       2                              in one thread    1.1
        4       1                              split over two   1.1
        8       2                              split over two   1.5
        16      3                              split over two   1.5

    More threads do not help.

    Args:
        device: Device of the scans. A GPU makes one scan at a time.
        threads: CPU threads that the analysis may use; 0 for one per core.
    """
    cores = threads or CORES
    if device != "cpu":
        return min(1, cores // 4)
    if splits_early_scans(threads):
        return min(MOST_EARLY_SCAN_THREADS, cores // 4)
    return 2 if cores > 1 else 0


def splits_early_scans(threads: int = 0) -> bool:
    """Return whether each early scan on the CPU is split over two threads. See `early_scan_threads`.

    Args:
        threads: CPU threads that the analysis may use; 0 for one per core.
    """
    return (threads or CORES) >= SPLIT_EARLY_SCANS_FROM


class Workers:
    """Runs calls side by side in threads.

    Args:
        threads: Total CPU threads; 0 for one per core.

    Attributes:
        network_threads: Number of these threads that each run of a network may use.
    """

    def __init__(self, threads: int = 0) -> None:
        threads = threads or CORES
        self._count = min(WORKERS, threads)
        self.network_threads = max(1, min(MOST_NETWORK_THREADS, threads // self._count))

    def map(self, do: Callable[..., _T], items: Sequence[object]) -> list[_T]:
        """Return `do(item)` for each item, in order. The calls run side by side."""
        return side_by_side(do, items, self._count)

    def parts(self, count: int) -> list[slice]:
        """Return slices that split `count` items evenly. There is at least one slice."""
        parts = max(1, min(self._count, count // LEAST_PART))
        bounds = [count * part // parts for part in range(parts + 1)]
        return [slice(low, high) for low, high in itertools.pairwise(bounds)]
