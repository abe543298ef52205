"""MTCNN's three networks with the pixels they read: on the CPU here, on a GPU in `torch_cascade.py`.

The detector (`detector.py`) is the same for both. They read the same pixels in the same precision, so they
find the same faces.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from fer_stream.detection.bands import BandedPixels, Level, SummedBand
from fer_stream.detection.mtcnn import O_NET_INPUT, P_NET_INPUT, P_NET_STRIDE, R_NET_INPUT, load_mtcnn
from fer_stream.detection.pixels import PartPixels, SquarePixels, SummedPixels
from fer_stream.inference.threads import Workers

if TYPE_CHECKING:
    from fer_stream.inference.network import Network

_T = TypeVar("_T")
TakeStrip = Callable[[np.ndarray, np.ndarray, float, tuple[int, int]], _T]
CpuPixels = SummedPixels | SquarePixels

# A level of the pyramid with more pixels goes through P-Net in strips of about so many, which bounds memory:
# P-Net's first layer takes 40 bytes a pixel.
STRIP_PIXELS = 2**17
LARGEST_SUMMED = 4096 * 2160  # pixels; a larger picture is summed in bands


class Use(Enum):
    """The purpose of reading a picture."""

    SCAN = auto()  # a whole frame
    REFINE = auto()  # a few squares of a frame, for O-Net alone


class Pixels(Protocol):
    """A frame, as `Cascade.read` or `Cascade.read_part` returns it."""

    @property
    def size_wh(self) -> tuple[int, int]:
        """Size of the whole frame in px."""
        ...


class Cascade(Protocol):
    """The three networks and the pixels they read.

    On the CPU, any number of threads may scan, search and refine, and pixels are valid until the same
    thread's next `read`. On a GPU, one thread may scan while another one searches or refines, and the pixels
    of a scan are valid until the next scan.
    """

    def read(self, image_bgr: np.ndarray, use: Use) -> Any:
        """Sum a frame.

        Args:
            image_bgr: uint8 (H, W, 3).
            use: The purpose.

        Returns:
            `Pixels`, to be given to the networks.
        """
        ...

    def read_part(self, image_bgr: np.ndarray, part_xyxy: np.ndarray) -> Any:
        """Read a part of a frame, to search it.

        Args:
            image_bgr: The whole frame, uint8 (H, W, 3).
            part_xyxy: int (4,) px, inside the frame.

        Returns:
            `Pixels` of the whole frame. P-Net sees the part alone, with the same pixels as in a scan.
        """
        ...

    def p_net(self, pixels: Any, scales: Sequence[float], take: TakeStrip[_T]) -> list[list[_T]]:
        """Run P-Net over the pyramid of a frame that was read to scan it, or to search a part of it.

        Args:
            pixels: The frame.
            scales: Size of each level relative to the frame.
            take: Called for each strip of each level with four arguments: the correction of each place's
                box, float32 (4, height, width); the probabilities of no face and of a face, float32
                (2, height, width); the scale; and the number of places to the left of the strip and above it.
                Several threads may call it at once. It must not keep the arrays: of all strips of a large
                picture they would take gigabytes.

        Returns:
            The results of `take` for the strips of each level, in order. A part that is too small for a place
            of P-Net at some level has no result for that level.
        """
        ...

    def r_net(self, pixels: Any, squares_xyxy: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run R-Net on squares, (N, 4) px; return shifts (N, 4) and probabilities (N, 2)."""
        ...

    def o_net(self, pixels: Any, squares_xyxy: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run O-Net on squares, (N, 4) px; return shifts (N, 4), points (N, 10), probabilities (N, 2)."""
        ...

    def unsplit(self) -> Cascade:
        """Return a cascade with the same networks that splits no frame over CPU threads."""
        ...


def load_cascade(device: str, threads: int = 0) -> Cascade:
    """Load the three networks.

    Args:
        device: `cpu` or `cuda:N`, as `pick_device` returns it.
        threads: CPU threads; 0 for one per core.
    """
    if device == "cpu":
        return CpuCascade(threads)
    from fer_stream.detection.torch_cascade import TorchCascade

    return TorchCascade(device)


def p_net_strips(width: int, height: int) -> list[slice]:
    """Return the rows of a level that P-Net takes at a time, so that the places line up without a gap.

    A place covers `P_NET_INPUT` rows, and the next one begins `P_NET_STRIDE` rows further down.
    """
    places = max(1, (STRIP_PIXELS // width - P_NET_INPUT) // P_NET_STRIDE)
    all_places = (height - P_NET_INPUT) // P_NET_STRIDE + 1
    strips = []
    for first in range(0, max(1, all_places), places):
        is_last = first + places >= all_places
        end = height if is_last else (first + places - 1) * P_NET_STRIDE + P_NET_INPUT
        strips.append(slice(first * P_NET_STRIDE, end))
    return strips


class CpuCascade:
    """The three networks on the CPU.

    Args:
        threads: CPU threads; 0 for one per core.
    """

    def __init__(self, threads: int = 0) -> None:
        self._workers = Workers(threads)
        self._last = threading.local()  # the pixels of each thread's last whole frame
        self._p_net, self._r_net, self._o_net = (
            load_mtcnn(name, self._workers.network_threads) for name in ("PNet", "RNet", "ONet")
        )

    def read(self, image_bgr: np.ndarray, use: Use) -> CpuPixels:
        """Sum a frame. One larger than 4K, or one to refine, is summed later, in bands or squares."""
        if use == Use.REFINE:
            return SquarePixels(image_bgr)
        height, width = image_bgr.shape[:2]
        if width * height > LARGEST_SUMMED:
            return BandedPixels(image_bgr)
        last: SummedPixels | None = self._last.__dict__.pop("pixels", None)
        if last is not None and last.size_wh != (width, height):
            last = None  # free it before the next one is allocated
        self._last.pixels = SummedPixels(image_bgr, reuse=last)
        return self._last.pixels

    def read_part(self, image_bgr: np.ndarray, part_xyxy: np.ndarray) -> PartPixels:
        """Read a part of a frame, to search it; see `Cascade.read_part`."""
        return PartPixels(image_bgr, part_xyxy)

    def p_net(
        self,
        pixels: SummedPixels | BandedPixels | PartPixels,
        scales: Sequence[float],
        take: TakeStrip[_T],
    ) -> list[list[_T]]:
        """Run P-Net over the pyramid; see `Cascade.p_net`."""

        def run_strip(rows: slice, level_rows: np.ndarray, scale: float) -> _T:
            shifts, probabilities = self._p_net(level_rows)
            return take(shifts[0], probabilities[0], scale, (0, rows.start // P_NET_STRIDE))

        whole_wh = pixels.size_wh
        sizes_wh = [(int(whole_wh[0] * scale + 1), int(whole_wh[1] * scale + 1)) for scale in scales]
        if isinstance(pixels, SummedPixels):

            def run_level(index: int) -> list[_T]:
                size_wh, scale = sizes_wh[index], scales[index]
                strips = p_net_strips(*size_wh)
                return [run_strip(rows, pixels.resized(size_wh, rows), scale) for rows in strips]

            # The first level has about as many pixels as all others together, so two threads have equal work.
            return self._workers.map(run_level, range(len(scales)))

        if isinstance(pixels, PartPixels):
            found = []
            for size_wh, scale in zip(sizes_wh, scales, strict=True):
                level, first_xy = pixels.resized_part(size_wh, P_NET_STRIDE)
                if min(level.shape[2:]) >= P_NET_INPUT:
                    shifts, probabilities = self._p_net(level)
                    left, above = (first // P_NET_STRIDE for first in first_xy)
                    found.append([take(shifts[0], probabilities[0], scale, (left, above))])
            return found

        levels = [Level(pixels.size_wh, size_wh, p_net_strips(*size_wh)) for size_wh in sizes_wh]
        taken: list[list[_T]] = [[] for _ in scales]

        def add_band(index: int, band: SummedBand) -> None:
            for rows, level_rows in levels[index].add(band):
                taken[index].append(run_strip(rows, level_rows, scales[index]))

        for band in pixels.bands(levels):
            self._workers.map(partial(add_band, band=band), range(len(scales)))
        return taken

    def r_net(self, pixels: CpuPixels, squares_xyxy: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run R-Net on squares; see `Cascade.r_net`."""
        return self._run_on_squares(self._r_net, R_NET_INPUT, pixels, squares_xyxy)

    def o_net(self, pixels: CpuPixels, squares_xyxy: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run O-Net on squares; see `Cascade.o_net`."""
        return self._run_on_squares(self._o_net, O_NET_INPUT, pixels, squares_xyxy)

    def unsplit(self) -> CpuCascade:
        """Return a cascade with the same networks; see `Cascade.unsplit`."""
        other = copy.copy(self)  # shares the networks, and the memory of each thread's pixels
        other._workers = Workers(1)
        return other

    def _run_on_squares(
        self, network: Network, size: int, pixels: CpuPixels, squares_xyxy: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        def run(part: slice) -> tuple[np.ndarray, ...]:
            return network(pixels.crops(squares_xyxy[part], size))

        outputs = self._workers.map(run, self._workers.parts(len(squares_xyxy)))
        return tuple(np.concatenate(parts) for parts in zip(*outputs, strict=True))
