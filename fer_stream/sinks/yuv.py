"""Convert pictures from BGR to YUV 4:2:0, the pixel format of video encoders.

OpenCV's matrix product takes about half the time of FFmpeg's scaler, and rounds where the scaler cuts off
fractions, which makes pictures darker by half a grey level.
"""

from __future__ import annotations

import av
import cv2
import numpy as np

# ITU-R BT.709-6, table 4: the luma of red, green and blue. Limited range: luma from 16 to 235, chroma from 16
# to 240.
_RED, _GREEN, _BLUE = 0.2126, 0.7152, 0.0722
_LUMA_SPAN, _CHROMA_SPAN, _BLACK, _NO_COLOR = 219 / 255, 224 / 255, 16.0, 128.0
_CB, _CR = 2 * (1 - _BLUE), 2 * (1 - _RED)  # ranges of blue minus luma, and of red minus luma
_YUV_OF_BGR = np.array(
    [
        [_LUMA_SPAN * _BLUE, _LUMA_SPAN * _GREEN, _LUMA_SPAN * _RED, _BLACK],
        [_CHROMA_SPAN / 2, -_CHROMA_SPAN * _GREEN / _CB, -_CHROMA_SPAN * _RED / _CB, _NO_COLOR],
        [-_CHROMA_SPAN * _BLUE / _CR, -_CHROMA_SPAN * _GREEN / _CR, _CHROMA_SPAN / 2, _NO_COLOR],
    ],
    np.float32,
)
_ROWS = 256  # an even number of rows that are converted together, so that they stay in the processor's cache


def to_yuv420(image_bgr: np.ndarray) -> av.VideoFrame:
    """Return a picture as `yuv420p`, by BT.709 with limited range.

    The chroma of a pixel is the mean of a square of 2 x 2.

    Args:
        image_bgr: uint8 (H, W, 3); H and W are even.
    """
    height, width = image_bgr.shape[:2]
    frame = av.VideoFrame(width, height, "yuv420p")
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
    return frame
