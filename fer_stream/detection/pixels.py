"""Make the inputs of MTCNN's networks: all scales of the pyramid and all crops.

The integral image of a frame gives the mean of any rectangle with four reads. Reduction works as in MTCNN:
output pixel i of n is the mean of the input pixels that it touches, from floor(i * N / n) to ceil((i + 1) * N
/ n). Neighbours share pixels if N / n is not whole, which blurs more than OpenCV's INTER_AREA. The networks
were trained on that.

`SummedPixels` sums a whole frame once, for a scan. `SquarePixels` sums only the squares that are cut out, for
known faces. `PartPixels` also makes the pyramid of a part of the frame, to search it. All of them give the
same pixels, bit for bit. They run on the CPU, with NumPy and OpenCV; `torch_cascade.py` makes the pixels of a
scan on a GPU.
"""

from __future__ import annotations

import cv2
import numpy as np

_Bounds = tuple[np.ndarray, ...]  # two arrays: starts and ends

PIXEL_SCALE = 0.0078125  # MTCNN reads (pixel - 127.5) / 128

# Pixels that are computed at a time. Their arrays stay in the processor's cache from one step to the next.
# Arrays of several MB also cost time, because the C library returns their memory to the system each time.
PLACES_AT_ONCE = 2**14
LONGEST_REMAPPED = 2**15 - 2  # px; OpenCV's `remap` takes no longer side
# px; the integral image of a square with a longer side does not fit into the processor's cache
LONGEST_INTEGRATED = 800


class SummedPixels:
    """The integral image of a frame.

    Args:
        image_bgr: uint8 (H, W, 3).
        reuse: The sums of an earlier frame that are no longer needed. Their memory is overwritten, because
            fresh memory costs as much time as the sums.
    """

    def __init__(self, image_bgr: np.ndarray, *, reuse: SummedPixels | None = None) -> None:
        height, width = image_bgr.shape[:2]
        self.size_wh = (width, height)
        # int32 overflows beyond 4K, but the difference of two sums is right all the same.
        self._sums: np.ndarray = cv2.integral(image_bgr, reuse._sums if reuse else None)

    def resized(self, size_wh: tuple[int, int], rows: slice = slice(None)) -> np.ndarray:
        """Return some rows of the whole frame reduced, float32 (1, 3, rows, width), RGB in -1..1.

        Args:
            size_wh: The reduced size of the whole frame.
            rows: The rows of it to return; all by default.
        """
        starts, ends = windows(self.size_wh[1], size_wh[1])
        return self.reduced(windows(self.size_wh[0], size_wh[0]), (starts[rows], ends[rows]))

    def reduced(self, x: _Bounds, y: _Bounds) -> np.ndarray:
        """Return the means of a grid of windows, float32 (1, 3, rows, width), RGB in -1..1.

        Args:
            x: Starts and ends of the columns of the grid, int64 (width,) each.
            y: Starts and ends of its rows, int64 (rows,) each.
        """
        x, y = (tuple(bounds[None] for bounds in axis) for axis in (x, y))
        width = x[0].shape[1]
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
        dtype = np.int64 if is_long else np.int16
        starts_x, ends_x = (bounds.astype(dtype)[:, None, :] for bounds in x)
        starts_y, ends_y = (bounds.astype(dtype)[:, :, None] for bounds in y)
        places_xy = np.empty((len(x[0]), y[0].shape[1], x[0].shape[1], 2), dtype)
        # One coordinate changes from corner to corner.
        places_xy[..., 0], places_xy[..., 1] = ends_x, ends_y
        sums = self._at(places_xy)
        places_xy[..., 1] = starts_y
        corner = self._at(places_xy)
        sums -= corner
        places_xy[..., 0] = starts_x
        sums += self._at(places_xy, out=corner)
        places_xy[..., 1] = ends_y
        sums -= self._at(places_xy, out=corner)
        return _normalized_means(sums, x[1] - x[0], y[1] - y[0])

    def _at(self, places_xy: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Return the sums at some places, int32 (N, H, W, 3), in the memory of `out` if possible."""
        count, height, width, _ = places_xy.shape
        if places_xy.dtype != np.int16:
            return self._sums[places_xy[..., 1], places_xy[..., 0]]
        # `remap` reads the sums about twice as fast as NumPy's indexing.
        places_xy = places_xy.reshape(count * height, width, 2)
        if out is not None:
            out = out.reshape(count * height, width, 3)
        sums = cv2.remap(self._sums, places_xy, None, cv2.INTER_NEAREST, out)  # type: ignore[call-overload]
        return sums.reshape(count, height, width, 3)


class SquarePixels:
    """A frame of which only a few squares are read, each summed on its own.

    Args:
        image_bgr: uint8 (H, W, 3). It must not change while this is in use.
    """

    def __init__(self, image_bgr: np.ndarray) -> None:
        self._image_bgr = image_bgr
        self.size_wh = (image_bgr.shape[1], image_bgr.shape[0])

    def crops(self, squares_xyxy: np.ndarray, size: int) -> np.ndarray:
        """Cut squares as `SummedPixels.crops` does, with the same result."""
        lows, highs = whole_pixels(squares_xyxy, self.size_wh)
        sums = np.empty((len(lows), size, size, 3), np.int32)
        widths, heights = np.empty((2, len(lows), size), np.int64)
        for index, ((left, top), (right, bottom)) in enumerate(
            zip(lows.tolist(), highs.tolist(), strict=True)
        ):
            part_bgr = self._image_bgr[top:bottom, left:right]
            x, y = windows(right - left, size), windows(bottom - top, size)
            sums[index] = _window_sums(part_bgr, x, y)
            widths[index], heights[index] = x[1] - x[0], y[1] - y[0]
        return _normalized_means(sums, widths, heights)


class PartPixels(SquarePixels):
    """A frame of which one part is searched.

    Args:
        image_bgr: uint8 (H, W, 3). It must not change while this is in use.
        part_xyxy: int (4,) px, inside the frame.
    """

    def __init__(self, image_bgr: np.ndarray, part_xyxy: np.ndarray) -> None:
        super().__init__(image_bgr)
        self._part_xyxy = part_xyxy

    def resized_part(self, size_wh: tuple[int, int], step: int) -> tuple[np.ndarray, tuple[int, int]]:
        """Return the pixels that `SummedPixels.resized` makes from this part of the frame alone.

        Args:
            size_wh: The reduced size of the whole frame.
            step: The place of the first pixel and the size of the result are multiples of this.

        Returns:
            The pixels, float32 (1, 3, rows, columns), RGB in -1..1, and the place of the first one in the
            reduced frame, column and row.
        """
        bounds, first_xy = [], []
        for axis in (0, 1):
            start, end = (int(self._part_xyxy[axis + side]) for side in (0, 2))
            starts, ends = windows(self.size_wh[axis], size_wh[axis])
            first = int(np.searchsorted(starts, start))
            first += -first % step
            count = max(0, int(np.searchsorted(ends, end, side="right")) - first)
            inside = slice(first, first + count - count % step)
            bounds.append((starts[inside] - start, ends[inside] - start))
            first_xy.append(first)
        left, top, right, bottom = self._part_xyxy
        x, y = bounds
        sums = _window_sums(self._image_bgr[top:bottom, left:right], x, y)
        means = _normalized_means(sums[None], (x[1] - x[0])[None], (y[1] - y[0])[None])
        return means, (first_xy[0], first_xy[1])


def _window_sums(part_bgr: np.ndarray, x: _Bounds, y: _Bounds) -> np.ndarray:
    """Return the sums of the pixels in a grid of windows, int32 (H, W, 3).

    Args:
        part_bgr: uint8 (rows, columns, 3).
        x: Starts and ends of the columns of the grid, int64 (W,) each.
        y: Starts and ends of its rows, int64 (H,) each.
    """
    if max(part_bgr.shape) <= LONGEST_INTEGRATED:
        sums = cv2.integral(part_bgr)
        bands = sums[y[1]] - sums[y[0]]
        return bands[:, x[1]] - bands[:, x[0]]
    # A column of zeros on the right, because `reduceat` takes no index beyond the last column.
    bands = np.zeros((len(y[0]), part_bgr.shape[1] + 1, 3), np.int32)
    for band, start, end in zip(bands, *(bounds.tolist() for bounds in y), strict=True):
        cv2.reduce(part_bgr[start:end], 0, cv2.REDUCE_SUM, band[None, :-1], cv2.CV_32S)
    # `reduceat` sums from each index to the next: at even places a window, at odd ones the gap after it.
    return np.add.reduceat(bands, np.stack(x, axis=1).reshape(-1), axis=1)[:, ::2]


def _normalized_means(sums: np.ndarray, widths: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Return the means of windows as MTCNN reads them, float32 (N, 3, H, W), RGB in -1..1.

    Args:
        sums: int32 (N, H, W, 3), BGR, the sums of the pixels in each window.
        widths: int64 (N, W) px, the widths of the windows in each column.
        heights: int64 (N, H) px, the heights of the windows in each row.
    """
    means = np.empty((len(sums), 3, *sums.shape[1:3]), np.float32)
    means[:, ::-1] = sums.transpose(0, 3, 1, 2)
    pixels = heights.astype(np.float32)[:, :, None] * widths.astype(np.float32)[:, None, :]
    means *= (np.float32(PIXEL_SCALE) / pixels)[:, None]
    means -= np.float32(127.5 * PIXEL_SCALE)
    return means


def _crop_windows(
    squares_xyxy: np.ndarray, size_wh: tuple[int, int], size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the starts and ends of the windows of crops in x and y, int64 (N, 2, size) each."""
    lows, highs = whole_pixels(squares_xyxy, size_wh)
    starts, ends = windows((highs - lows)[..., None], size)
    return starts + lows[..., None], ends + lows[..., None]


def whole_pixels(squares_xyxy: np.ndarray, size_wh: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the first pixel of each square and the one after its last, int64 (N, 2) each, inside the frame.

    Args:
        squares_xyxy: (N, 4) px, counted from 1 as in MTCNN.
        size_wh: Size of the frame in px.
    """
    whole, limit = np.trunc(squares_xyxy).astype(np.int64), np.array(size_wh)
    lows = np.minimum(np.maximum(whole[:, :2], 1), limit) - 1
    return lows, np.maximum(np.minimum(whole[:, 2:], limit), lows + 1)


def windows(length: np.ndarray | int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the starts and ends of the windows that reduce `length` pixels to `count`.

    Args:
        length: Number of pixels, or an array (..., 1) of numbers.
        count: Number of windows.

    Returns:
        Two arrays, int64 (..., count).
    """
    index = np.arange(count)
    return index * length // count, -(-(index + 1) * length // count)
