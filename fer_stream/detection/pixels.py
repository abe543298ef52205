"""Make the inputs of MTCNN's networks: all scales of the pyramid and all crops, from one sum.

The integral image of a frame gives the mean of any rectangle with four reads. Reduction works as in MTCNN:
output pixel i of n is the mean of the input pixels that it touches, from floor(i * N / n) to ceil((i + 1) * N
/ n). Neighbours share pixels if N / n is not whole, which blurs more than OpenCV's INTER_AREA. The networks
were trained on that.

`SummedPixels` works on the CPU with numpy; `torch_cascade.py` does the same on a device of torch.
"""

from __future__ import annotations

import cv2
import numpy as np

PIXEL_SCALE = 0.0078125  # MTCNN reads (pixel - 127.5) / 128

ROWS_AT_ONCE = 32  # their sums stay in the processor's cache from one step to the next


class SummedPixels:
    """The integral image of a frame, or of one part of it.

    Args:
        image_bgr: uint8 (H, W, 3).
        around_xyxy: (N, 4) px, the squares that will be cut out; None for the whole frame.
        reuse: The sums of an earlier frame that are no longer needed. Their memory is overwritten, because
            fresh memory costs as much time as the sums.
    """

    def __init__(
        self,
        image_bgr: np.ndarray,
        around_xyxy: np.ndarray | None = None,
        *,
        reuse: SummedPixels | None = None,
    ) -> None:
        height, width = image_bgr.shape[:2]
        self.size_wh = (width, height)
        self._origin_xy = np.zeros(2, np.int64)
        if around_xyxy is not None:
            lows, highs = whole_pixels(around_xyxy, self.size_wh)
            self._origin_xy = lows.min(axis=0)
            (left, top), (right, bottom) = self._origin_xy, highs.max(axis=0)
            image_bgr = image_bgr[top:bottom, left:right]
        # int32 overflows beyond 4K, but the difference of two sums is right all the same.
        self._sums: np.ndarray = cv2.integral(image_bgr, reuse._sums if reuse else None)

    def resized(self, size_wh: tuple[int, int], rows: slice = slice(None)) -> np.ndarray:
        """Return some rows of the whole frame reduced, float32 (1, 3, rows, width), RGB in -1..1.

        Args:
            size_wh: The reduced size of the whole frame.
            rows: The rows of it to return; all by default.
        """
        starts_x, ends_x = windows(self.size_wh[0], size_wh[0])
        starts_y, ends_y = (ends[rows] for ends in windows(self.size_wh[1], size_wh[1]))
        pixels = (ends_y - starts_y)[:, None] * (ends_x - starts_x)
        normalised = np.empty((1, 3, len(starts_y), size_wh[0]), np.float32)
        for first in range(0, len(starts_y), ROWS_AT_ONCE):
            band = slice(first, first + ROWS_AT_ONCE)
            lines = self._sums[ends_y[band]]
            lines -= self._sums[starts_y[band]]
            sums = lines.take(ends_x, axis=1)
            sums -= lines.take(starts_x, axis=1)
            _normalise(sums, pixels[band], out=normalised[0, :, band])
        return normalised

    def crops(self, squares_xyxy: np.ndarray, size: int) -> np.ndarray:
        """Cut squares as MTCNN does: whole pixels, counted from 1, cut off at the border.

        Args:
            squares_xyxy: (N, 4) px.
            size: Side of a crop in px.

        Returns:
            float32 (N, 3, size, size), RGB in -1..1. A square outside the frame gives the nearest pixels, in
            which no face is found.
        """
        starts, ends = _crop_windows(squares_xyxy, self.size_wh, size)
        starts, ends = starts - self._origin_xy[:, None], ends - self._origin_xy[:, None]
        left, right = starts[:, 0, None, :], ends[:, 0, None, :]
        top, bottom = starts[:, 1, :, None], ends[:, 1, :, None]
        # Indexes into the flat array: a crowd's hundreds of crops are cut several times faster.
        flat, stride = self._sums.reshape(-1, 3), self._sums.shape[1]
        sums = flat.take(bottom * stride + right, axis=0)
        sums -= flat.take(top * stride + right, axis=0)
        sums -= flat.take(bottom * stride + left, axis=0)
        sums += flat.take(top * stride + left, axis=0)
        return _normalise(sums, (bottom - top) * (right - left))


def _crop_windows(
    squares_xyxy: np.ndarray, size_wh: tuple[int, int], size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the starts and ends of the windows of crops in x and y, int64 (N, 2, size) each."""
    lows, highs = whole_pixels(squares_xyxy, size_wh)
    starts, ends = windows((highs - lows)[..., None], size)
    return starts + lows[..., None], ends + lows[..., None]


def whole_pixels(squares_xyxy: np.ndarray, size_wh: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the first pixel of each square and the one after its last, int64 (N, 2), inside."""
    whole, limit = np.trunc(squares_xyxy).astype(np.int64), np.array(size_wh)
    lows = np.minimum(np.maximum(whole[:, :2], 1), limit) - 1
    return lows, np.maximum(np.minimum(whole[:, 2:], limit), lows + 1)


def windows(length: np.ndarray | int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the starts and ends of the windows that reduce `length` pixels to `count`."""
    index = np.arange(count)
    return index * length // count, -(-(index + 1) * length // count)


def _normalise(sums_bgr: np.ndarray, pixels: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Return sums int32 (..., H, W, 3) over a number of pixels (..., H, W) as float32 (..., 3, H, W)."""
    *leading, height, width, _ = sums_bgr.shape
    if out is None:
        out = np.empty((*leading, 3, height, width), np.float32)
    scale = (PIXEL_SCALE / pixels).astype(np.float32)
    for rgb in range(3):  # plane by plane, which reads and writes each number once
        np.multiply(sums_bgr[..., 2 - rgb], scale, out=out[..., rgb, :, :])
    out -= np.float32(127.5 * PIXEL_SCALE)
    return out
