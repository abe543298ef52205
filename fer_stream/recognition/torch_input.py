"""Do the second half of `preprocessing.network_input` for whole batches, on a torch device.

In bytes, a crop at the training pictures' resolution is a sixtieth of the network's input. So crops are
copied to the GPU as they are, and are enlarged, standardized and normalized there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from fer_stream.recognition.preprocessing import (
    LOWEST_STD,
    STANDARD_MEAN,
    STANDARD_STD,
    InputSpec,
    native_side,
)

if TYPE_CHECKING:
    import torch


def input_from_crops(spec: InputSpec, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function that turns crops into the network's input.

    Args:
        spec: The input that the network expects.
        device: The device of the crops.

    Returns:
        A function from uint8 (N, side, side) or (N, side, side, 3), as `preprocessing.native_crop` makes
        them, to float32 (N, 3, size, size).
    """
    import torch

    mean = torch.tensor(spec.mean, device=device).view(1, 3, 1, 1)
    std = torch.tensor(spec.std, device=device).view(1, 3, 1, 1)
    enlarge = _enlarger(native_side(spec), spec.size, device)

    def convert(crops: torch.Tensor) -> torch.Tensor:
        pixels = crops[:, None] if spec.grayscale else crops.flip(-1).permute(0, 3, 1, 2)
        if pixels.shape[-1] != spec.size:
            pixels = enlarge(pixels)
        images = pixels.float() / 255
        if spec.standardize:
            images = standardize(images)
        return (images - mean) / std

    return convert


def standardize(images: torch.Tensor) -> torch.Tensor:
    """Give each picture the same mean and standard deviation, as `preprocessing.network_input` does.

    Args:
        images: Float (N, C, H, W) in 0..1.
    """
    import torch

    std, mean = torch.std_mean(images, dim=(1, 2, 3), keepdim=True, correction=0)
    return STANDARD_MEAN + (images - mean) * (STANDARD_STD / std.clamp(min=LOWEST_STD))


def _enlarger(side: int, size: int, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function that enlarges uint8 (N, C, side, side) to int32 (N, C, size, size), as OpenCV does.

    OpenCV's bilinear interpolation of 8-bit pictures works in whole numbers and cuts off bits on the way
    (`VResizeLinear` in its resize.cpp), so its result is darker than that of exact arithmetic by a tenth of a
    grey level. This copies it, because the network's input must be the same on every device.
    """
    import torch

    place = ((np.arange(size) + 0.5) * side / size - 0.5).astype(np.float64)
    first = np.floor(place).astype(np.int64)
    share = (place - first).astype(np.float32)
    low, high = first.clip(0, side - 1), (first + 1).clip(0, side - 1)
    low_weight, high_weight = np.rint((1 - share) * 2**11), np.rint(share * 2**11)
    low_index, high_index = torch.from_numpy(low).to(device), torch.from_numpy(high).to(device)
    low_factor = torch.from_numpy(low_weight.astype(np.int32)).to(device)
    high_factor = torch.from_numpy(high_weight.astype(np.int32)).to(device)

    def enlarge(pixels: torch.Tensor) -> torch.Tensor:
        whole = pixels.to(torch.int32)
        across = (whole[..., low_index] * low_factor + whole[..., high_index] * high_factor) >> 4
        down = ((across[..., low_index, :] * low_factor[:, None]) >> 16) + (
            (across[..., high_index, :] * high_factor[:, None]) >> 16
        )
        return (down + 2) >> 2

    return enlarge
