"""Pictures for the encoder: the right colours, in any size, in reused memory."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fer_stream.sinks.yuv import YuvConverter


def exact_yuv(image_bgr: np.ndarray) -> np.ndarray:
    """BT.709 with limited range, from its definition: float64 (H, W, 3)."""
    blue, green, red = (image_bgr[..., channel] / 255 for channel in range(3))
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    chroma_blue, chroma_red = (blue - luma) / 1.8556, (red - luma) / 1.5748
    return np.stack([16 + 219 * luma, 128 + 224 * chroma_blue, 128 + 224 * chroma_red], axis=-1)


@pytest.mark.parametrize("size_wh", [(2, 2), (64, 512), (322, 514), (1280, 720)])
def test_colours_are_those_of_bt_709_to_a_grey_level(size_wh: tuple[int, int]) -> None:
    width, height = size_wh
    small = np.random.default_rng(4).integers(0, 256, (7, 9, 3), np.uint8)
    image = cv2.resize(small, size_wh, interpolation=cv2.INTER_NEAREST)
    planes = YuvConverter(size_wh).convert(image).to_ndarray()
    exact = exact_yuv(image.astype(np.float64))
    luma_error = planes[:height] - exact[..., 0]
    assert np.abs(luma_error).max() < 1 and abs(luma_error.mean()) < 0.2
    of_squares = exact.reshape(height // 2, 2, width // 2, 2, 3).mean(axis=(1, 3))
    chroma = planes[height:].reshape(2, height // 2, width // 2)
    assert np.abs(chroma - of_squares[..., 1:].transpose(2, 0, 1)).max() < 1.5


def test_frames_that_come_back_hold_the_next_pictures() -> None:
    converter = YuvConverter((32, 32))
    shades = [np.full((32, 32, 3), shade, np.uint8) for shade in (0, 100, 200)]
    first, second = converter.convert(shades[0]), converter.convert(shades[1])
    converter.take_back(first)
    assert not converter.has_lent(first) and converter.has_lent(second)
    third = converter.convert(shades[2])
    assert third is first and second is not first
    assert [int(frame.to_ndarray()[0, 0]) for frame in (second, third)] == [102, 188]


@pytest.mark.parametrize("shape", [(32, 32), (32, 32, 4), (32, 32, 1), (0, 32, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.uint16])
def test_other_arrays_are_refused(shape: tuple[int, ...], dtype: type) -> None:
    with pytest.raises(ValueError, match=r"a picture is uint8 \(H, W, 3\), not"):
        YuvConverter((32, 32)).convert(np.zeros(shape, dtype))
    if dtype is not np.uint8:
        with pytest.raises(ValueError, match="a picture is uint8"):
            YuvConverter((32, 32)).convert(np.zeros((32, 32, 3), dtype))
