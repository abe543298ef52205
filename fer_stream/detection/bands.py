"""Reduce a frame larger than 4K in bands of its rows, for all levels of the pyramid in one pass.

Summing a whole 8K frame takes 400 MB, and a picture of 64 megapixels takes 770 MB. A band needs a fifth of
that. The results are the same, bit for bit, as with `SummedPixels` for the whole frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fer_stream.detection.pixels import SquarePixels, SummedPixels, windows

BAND_ROWS = 512  # rows of the frame that each band adds to the one before


class BandedPixels(SquarePixels):
    """A frame that is summed a band at a time for a scan, and square by square for known faces.

    Args:
        image_bgr: uint8 (H, W, 3). It must not change while this is in use.
    """

    def bands(self, levels: Sequence[Level]) -> Iterator[SummedBand]:
        """Yield bands from top to bottom. Each is valid until the next one.

        Bands overlap, so that every window of every level fits into one band.

        Args:
            levels: The levels of the pyramid.
        """
        height = self.size_wh[1]
        rows = min(height, BAND_ROWS + max(level.longest_window for level in levels))
        sums: SummedPixels | None = None
        for bottom in range(rows, height + BAND_ROWS, BAND_ROWS):
            bottom = min(bottom, height)
            sums = SummedPixels(self._image_bgr[bottom - rows : bottom], reuse=sums)
            yield SummedBand(sums, bottom - rows, bottom)


@dataclass(frozen=True, eq=False)
class SummedBand:
    """The sums of some rows of a frame.

    Attributes:
        sums: The sums.
        top: The first row.
        bottom: The row after the last one.
    """

    sums: SummedPixels
    top: int
    bottom: int


class Level:
    """A level of the pyramid that is made from top to bottom and used in strips. Call `add` once per band.

    Args:
        source_wh: Size of the frame in px.
        size_wh: Size of the level in px.
        strips: The rows of each strip, see `p_net_strips`. Two strips may share rows.

    Attributes:
        longest_window: Largest number of rows of the frame that one row of the level averages.
    """

    def __init__(self, source_wh: tuple[int, int], size_wh: tuple[int, int], strips: Sequence[slice]) -> None:
        self._x = windows(source_wh[0], size_wh[0])
        self._starts, self._ends = windows(source_wh[1], size_wh[1])
        self.longest_window = int((self._ends - self._starts).max())
        self._strips = list(strips)
        self._made = 0  # number of rows made so far
        # The latest rows. The next strip needs some of them.
        self._rows = np.empty((1, 3, 0, size_wh[0]), np.float32)

    def add(self, band: SummedBand) -> Iterator[tuple[slice, np.ndarray]]:
        """Make the rows that a band covers. Yield each strip that is now complete, and its rows."""
        made = int(np.searchsorted(self._ends, band.bottom, side="right"))
        rows = slice(self._made, made)
        new = band.sums.reduced(self._x, (self._starts[rows] - band.top, self._ends[rows] - band.top))
        self._rows = np.concatenate([self._rows, new], axis=2)
        self._made = made
        while self._strips and self._strips[0].stop <= made:
            strip = self._strips.pop(0)
            first = made - self._rows.shape[2]
            yield strip, np.ascontiguousarray(self._rows[:, :, strip.start - first : strip.stop - first])
            if self._strips:
                self._rows = self._rows[:, :, self._strips[0].start - first :]
