"""Convert pictures from BGR to YUV 4:2:0, the pixel format of video encoders.

OpenCV's matrix product takes about half the time of FFmpeg's scaler. It also rounds, while the scaler
truncates and so makes pictures darker by half a grey level on average.
"""

from __future__ import annotations

from collections import deque

import av
import cv2
import numpy as np

# ITU-R BT.709-6: the shares of red, green and blue in luma. Limited range: luma takes 16 to 235, chroma 16 to
# 240.
_RED, _GREEN, _BLUE = 0.2126, 0.7152, 0.0722
_LUMA, _CHROMA = 219 / 255, 224 / 255
_CB, _CR = _CHROMA / (2 - 2 * _BLUE), _CHROMA / (2 - 2 * _RED)
_YUV_OF_BGR = np.array(
    [
        [_LUMA * _BLUE, _LUMA * _GREEN, _LUMA * _RED, 16],
        [_CHROMA / 2, -_CB * _GREEN, -_CB * _RED, 128],
        [-_CR * _BLUE, -_CR * _GREEN, _CHROMA / 2, 128],
    ],
    np.float32,
)
_ROWS = 256  # an even number of rows that are converted together, so that they stay in the CPU's cache


class YuvConverter:
    """Converts the pictures of one video to `yuv420p` (BT.709, limited range).

    An odd width or height grows by one: the last column or row is repeated.

    Args:
        size_wh: Size of the video in px. Pictures of another size are resized to it.
    """

    def __init__(self, size_wh: tuple[int, int]) -> None:
        self._size_wh = size_wh
        self._lent: set[int] = set()  # `id` of each frame that was returned and not taken back
        self._spare: deque[av.VideoFrame] = deque()

    def convert(self, image_bgr: np.ndarray) -> av.VideoFrame:
        """Return a picture as a frame.

        Each chroma sample is the mean of 2 x 2 pixels. Our decoder repeats each sample for 2 x 2 pixels, so
        the chroma of a recording comes out unchanged.

        Args:
            image_bgr: uint8 (H, W, 3).

        Raises:
            ValueError: The array has another type or shape.
        """
        if image_bgr.dtype != np.uint8 or image_bgr.shape[2:] != (3,) or not image_bgr.size:
            raise ValueError(f"a picture is uint8 (H, W, 3), not {image_bgr.dtype} {image_bgr.shape}")
        width, height = self._size_wh
        if image_bgr.shape[:2] != (height, width):
            image_bgr = cv2.resize(image_bgr, self._size_wh, interpolation=cv2.INTER_AREA)
        if width % 2 or height % 2:
            image_bgr = cv2.copyMakeBorder(image_bgr, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        if self._spare:
            frame = self._spare.popleft()
            frame.make_writable()
        else:
            frame = av.VideoFrame(width + width % 2, height + height % 2, "yuv420p")
        _write_into(frame, image_bgr)
        self._lent.add(id(frame))
        return frame

    def has_lent(self, frame: av.VideoFrame) -> bool:
        """Return whether `convert` returned this frame and it was not taken back."""
        return id(frame) in self._lent

    def take_back(self, frame: av.VideoFrame) -> None:
        """Reuse a frame that is no longer needed. Another thread may call this.

        Allocating a frame each time is slower and takes more memory.
        """
        self._lent.remove(id(frame))
        self._spare.append(frame)


def _write_into(frame: av.VideoFrame, image_bgr: np.ndarray) -> None:
    """Write a picture into a frame of the same size. Its width and height are even."""
    height, width = image_bgr.shape[:2]
    luma, *chroma = (
        np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        for plane in frame.planes
    )
    yuv = np.empty((min(_ROWS, height), width, 3), np.uint8)
    for top in range(0, height, _ROWS):
        rows, half_rows = slice(top, top + _ROWS), slice(top // 2, (top + _ROWS) // 2)
        part = cv2.transform(image_bgr[rows], _YUV_OF_BGR, yuv[: height - top])
        cv2.extractChannel(part, 0, luma[rows])
        half = cv2.resize(part, (width // 2, len(part) // 2), interpolation=cv2.INTER_AREA)
        for channel, plane in enumerate(chroma, start=1):
            cv2.extractChannel(half, channel, plane[half_rows])
