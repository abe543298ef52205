"""Pixels as MTCNN's networks want them: every scale of the pyramid and every crop, from one sum.

The integral image of a frame gives the mean of any rectangle in four reads. It reduces as MTCNN does:
output pixel i of n is the mean of the input pixels that it touches, from floor(i * N / n) to
ceil((i + 1) * N / n). Neighbours share pixels where N / n is not whole, which blurs more than
OpenCV's INTER_AREA; the networks were trained on that.

All frames have one size. `SummedPixels` works on the CPU with numpy, `TorchSummedPixels` does the same
on any device of torch, for many frames at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    import torch

PIXEL_SCALE = 0.0078125  # MTCNN reads (pixel - 127.5) / 128

ROWS_AT_ONCE = 32  # their sums stay in the processor's cache from one step to the next


class SummedPixels:
    """The integral images of frames, or of one part of them.

    Args:
        images_bgr: uint8 (H, W, 3) each.
        around_xyxy: (N, 4) px, the squares that will be cut out; the whole frames where None.
        reuse: One that is used no more, whose memory is written anew: fresh memory costs as much time
            as the sums.
    """

    def __init__(
        self,
        images_bgr: Sequence[np.ndarray],
        around_xyxy: np.ndarray | None = None,
        *,
        reuse: SummedPixels | None = None,
    ) -> None:
        height, width = images_bgr[0].shape[:2]
        self.size_wh = (width, height)
        self._origin_xy = np.zeros(2, np.int64)
        if around_xyxy is not None:
            lows, highs = _whole_pixels(around_xyxy, self.size_wh)
            self._origin_xy = lows.min(axis=0)
            (left, top), (right, bottom) = self._origin_xy, highs.max(axis=0)
            images_bgr = [image_bgr[top:bottom, left:right] for image_bgr in images_bgr]
        # int32 overflows beyond 4K, but the difference of two sums is right all the same.
        old: Iterator[np.ndarray] = iter(reuse._sums if reuse else ())
        self._sums: list[np.ndarray] = [cv2.integral(image_bgr, next(old, None)) for image_bgr in images_bgr]

    def __len__(self) -> int:
        return len(self._sums)

    def resized(self, size_wh: tuple[int, int]) -> np.ndarray:
        """Returns the whole frames reduced, float32 (frames, 3, height, width), RGB in -1..1."""
        starts_x, ends_x = _windows(self.size_wh[0], size_wh[0])
        starts_y, ends_y = _windows(self.size_wh[1], size_wh[1])
        pixels = (ends_y - starts_y)[:, None] * (ends_x - starts_x)
        normalised = np.empty((len(self), 3, size_wh[1], size_wh[0]), np.float32)
        for frame, frame_sums in enumerate(self._sums):
            for first in range(0, size_wh[1], ROWS_AT_ONCE):
                band = slice(first, first + ROWS_AT_ONCE)
                rows = frame_sums[ends_y[band]]
                rows -= frame_sums[starts_y[band]]
                sums = rows.take(ends_x, axis=1)
                sums -= rows.take(starts_x, axis=1)
                _normalise(sums, pixels[band], out=normalised[frame, :, band])
        return normalised

    def crops(self, squares_xyxy: np.ndarray, frames: np.ndarray, size: int) -> np.ndarray:
        """Cuts squares as MTCNN does: whole pixels, counted from 1, cut off at the border.

        Args:
            squares_xyxy: (N, 4) px.
            frames: int (N,), the frame of each.
            size: Side of a crop in px.

        Returns:
            float32 (N, 3, size, size), RGB in -1..1. Of a square outside the frame its nearest
            pixels, in which no face is found.
        """
        starts, ends = _crop_windows(squares_xyxy, self.size_wh, size)
        starts, ends = starts - self._origin_xy[:, None], ends - self._origin_xy[:, None]
        normalised = np.empty((len(squares_xyxy), 3, size, size), np.float32)
        for frame in np.unique(frames):
            picked = np.flatnonzero(frames == frame)
            left, right = starts[picked, 0, None, :], ends[picked, 0, None, :]
            top, bottom = starts[picked, 1, :, None], ends[picked, 1, :, None]
            # Indexes into the flat array: a crowd's hundreds of crops are cut several times faster.
            flat, stride = self._sums[frame].reshape(-1, 3), self._sums[frame].shape[1]
            sums = flat.take(bottom * stride + right, axis=0)
            sums -= flat.take(top * stride + right, axis=0)
            sums -= flat.take(bottom * stride + left, axis=0)
            sums += flat.take(top * stride + left, axis=0)
            normalised[picked] = _normalise(sums, (bottom - top) * (right - left))
        return normalised


class TorchSummedPixels:
    """`SummedPixels` on a device of torch: the same numbers, as tensors.

    Args:
        images_bgr: uint8 (H, W, 3) each, as arrays, or as tensors that `upload` has sent ahead.
        device: Where.
    """

    def __init__(self, images_bgr: Sequence[np.ndarray | torch.Tensor], device: str) -> None:
        import torch

        self._torch, self._device = torch, device
        images = torch.stack([upload(image_bgr, device) for image_bgr in images_bgr])
        count, height, width, _ = images.shape
        self.size_wh = (width, height)
        self._sums = torch.zeros((count, height + 1, width + 1, 3), dtype=torch.int32, device=device)
        self._sums[:, 1:, 1:] = images.cumsum(1, dtype=torch.int32).cumsum(2, dtype=torch.int32)

    def __len__(self) -> int:
        return len(self._sums)

    def resized(self, size_wh: tuple[int, int]) -> torch.Tensor:
        """Returns the whole frames reduced, float32 (frames, 3, height, width), RGB in -1..1."""
        starts_x, ends_x = _windows(self.size_wh[0], size_wh[0])
        starts_y, ends_y = _windows(self.size_wh[1], size_wh[1])
        pixels = (ends_y - starts_y)[:, None] * (ends_x - starts_x)
        rows = self._sums[:, self._tensor(ends_y)] - self._sums[:, self._tensor(starts_y)]
        sums = rows[:, :, self._tensor(ends_x)] - rows[:, :, self._tensor(starts_x)]
        return self._normalised(sums, pixels)

    def crops(self, squares_xyxy: np.ndarray, frames: np.ndarray, size: int) -> torch.Tensor:
        """Cuts squares, see `SummedPixels.crops`."""
        starts, ends = _crop_windows(squares_xyxy, self.size_wh, size)
        left, right = self._tensor(starts[:, 0, None, :]), self._tensor(ends[:, 0, None, :])
        top, bottom = self._tensor(starts[:, 1, :, None]), self._tensor(ends[:, 1, :, None])
        frame = self._tensor(frames)[:, None, None]
        sums = self._sums[frame, bottom, right] - self._sums[frame, top, right]
        sums += self._sums[frame, top, left] - self._sums[frame, bottom, left]
        pixels = (ends - starts)[:, 1, :, None] * (ends - starts)[:, 0, None, :]
        return self._normalised(sums, pixels)

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return self._torch.from_numpy(np.ascontiguousarray(array)).to(self._device, non_blocking=True)

    def _normalised(self, sums_bgr: torch.Tensor, pixels: np.ndarray) -> torch.Tensor:
        scale = self._tensor((PIXEL_SCALE / pixels).astype(np.float32))[..., None]
        normalised = sums_bgr.float() * scale - 127.5 * PIXEL_SCALE
        return normalised.flip(-1).movedim(-1, -3).contiguous()


def upload(image_bgr: np.ndarray | torch.Tensor, device: str) -> torch.Tensor:
    """Sends a picture to a device and does not wait, so that the next one can be decoded meanwhile."""
    import torch

    if isinstance(image_bgr, torch.Tensor):
        return image_bgr
    image = torch.from_numpy(np.ascontiguousarray(image_bgr))
    if device.startswith("cuda"):
        image = image.pin_memory()
    return image.to(device, non_blocking=True)


def _crop_windows(
    squares_xyxy: np.ndarray, size_wh: tuple[int, int], size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns where the windows of crops start and end in x and y, int64 (N, 2, size) each."""
    lows, highs = _whole_pixels(squares_xyxy, size_wh)
    starts, ends = _windows((highs - lows)[..., None], size)
    return starts + lows[..., None], ends + lows[..., None]


def _whole_pixels(squares_xyxy: np.ndarray, size_wh: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first pixel of each square and the one after its last, int64 (N, 2), inside."""
    whole, limit = np.trunc(squares_xyxy).astype(np.int64), np.array(size_wh)
    lows = np.minimum(np.maximum(whole[:, :2], 1), limit) - 1
    return lows, np.maximum(np.minimum(whole[:, 2:], limit), lows + 1)


def _windows(length: np.ndarray | int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns where the windows that make `count` pixels of `length` start and end."""
    index = np.arange(count)
    return index * length // count, -(-(index + 1) * length // count)


def _normalise(sums_bgr: np.ndarray, pixels: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Returns sums int32 (..., H, W, 3) over a number of pixels (..., H, W) as float32 (..., 3, H, W)."""
    *leading, height, width, _ = sums_bgr.shape
    if out is None:
        out = np.empty((*leading, 3, height, width), np.float32)
    scale = (PIXEL_SCALE / pixels).astype(np.float32)
    for rgb in range(3):  # plane by plane, which reads and writes each number once
        np.multiply(sums_bgr[..., 2 - rgb], scale, out=out[..., rgb, :, :])
    out -= np.float32(127.5 * PIXEL_SCALE)
    return out
