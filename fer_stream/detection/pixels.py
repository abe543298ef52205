"""Make the inputs of MTCNN's networks: all scales of the pyramid and all crops, from one integral image.

The integral image of a frame gives the mean of any rectangle with four reads. Reduction works as in MTCNN:
output pixel i of n is the mean of the input pixels that it touches, from floor(i * N / n) to ceil((i + 1) * N
/ n). Neighbours share pixels if N / n is not whole, which blurs more than OpenCV's INTER_AREA. The networks
were trained on that.

`SummedPixels` works on the CPU with numpy; `torch_cascade.py` does the same on a device of torch.
"""

from __future__ import annotations

import cv2
import numpy as np

_Bounds = tuple[np.ndarray, ...]  # starts and ends

PIXEL_SCALE = 0.0078125  # MTCNN reads (pixel - 127.5) / 128

# Pixels that are computed at a time. Their arrays stay in the processor's cache from one step to the next.
# Arrays of several MB also cost time, because the C library returns their memory to the system each time.
PLACES_AT_ONCE = 2**14
LONGEST_REMAPPED = 2**15 - 2  # px; OpenCV's `remap` takes no longer side


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
        width = size_wh[0]
        x = tuple(bounds[None] for bounds in windows(self.size_wh[0], width))
        y = tuple(bounds[None, rows] for bounds in windows(self.size_wh[1], size_wh[1]))
        means = np.empty((1, 3, y[0].shape[1], width), np.float32)
        step = max(1, PLACES_AT_ONCE // width)
        for first in range(0, means.shape[2], step):
            band = slice(first, first + step)
            means[:, :, band] = self._means(x, (y[0][:, band], y[1][:, band]))
        return means

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
        means = np.empty((len(squares_xyxy), 3, size, size), np.float32)
        step = max(1, PLACES_AT_ONCE // size**2)
        for first in range(0, len(means), step):
            chunk = slice(first, first + step)
            x, y = ((starts[chunk, axis], ends[chunk, axis]) for axis in (0, 1))
            means[chunk] = self._means(x, y)
        return means

    def _means(self, x: _Bounds, y: _Bounds) -> np.ndarray:
        """Return the normalized means of rectangles, float32 (N, 3, H, W), RGB.

        Args:
            x: Starts and ends of the columns of each picture, int64 (N, W) each.
            y: Starts and ends of its rows, int64 (N, H) each.
        """
        is_long = max(self._sums.shape) > LONGEST_REMAPPED
        shape = (len(x[0]), y[0].shape[1], x[0].shape[1], 2)
        places_xy = np.empty(shape, np.int64 if is_long else np.int16)
        # One coordinate changes from corner to corner.
        places_xy[..., 0], places_xy[..., 1] = x[1][:, None, :], y[1][:, :, None]
        sums = self._at(places_xy)
        places_xy[..., 1] = y[0][:, :, None]
        sums -= self._at(places_xy)
        places_xy[..., 0] = x[0][:, None, :]
        sums += self._at(places_xy)
        places_xy[..., 1] = y[1][:, :, None]
        sums -= self._at(places_xy)
        pixels = (y[1] - y[0])[:, :, None] * (x[1] - x[0])[:, None, :]
        means = np.empty((shape[0], 3, *shape[1:3]), np.float32)
        means[:, ::-1] = np.moveaxis(sums, -1, 1)
        means *= (PIXEL_SCALE / pixels).astype(np.float32)[:, None]
        means -= np.float32(127.5 * PIXEL_SCALE)
        return means

    def _at(self, places_xy: np.ndarray) -> np.ndarray:
        """Return the sums at some places, int32 (N, H, W, 3)."""
        count, height, width, _ = places_xy.shape
        if places_xy.dtype != np.int16:
            return self._sums[places_xy[..., 1], places_xy[..., 0]]
        # `remap` reads the sums about twice as fast as NumPy's indexing.
        places_xy = places_xy.reshape(count * height, width, 2)
        sums = cv2.remap(self._sums, places_xy, None, cv2.INTER_NEAREST)  # type: ignore[call-overload]
        return sums.reshape(count, height, width, 3)


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
