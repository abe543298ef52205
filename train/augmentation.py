"""Random changes of whole batches of pictures, as tensors on the training device.

One process prepares a batch of 64 in some 20 milliseconds this way; picture by picture through PIL it
takes several times as long, and worker processes would take the cores from the training.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from fer_stream.preprocessing import LOWEST_STD, STANDARD_MEAN, STANDARD_STD

SCALE = 0.2  # natural logarithm: 0.82 to 1.22 times
SHIFT = 0.08  # of the side; MTCNN's boxes differ from FER2013's crops by about as much
GAMMA = 0.5  # natural logarithm: faces in the dark and against the light
LOW_RESOLUTION_SHARE, LOWEST_RESOLUTION = 0.25, 0.3  # down to 14 px of FER2013's 48
NOISE_SHARE, NOISE = 0.15, 0.07
ERASED_SHARE = 0.25
ERASED_SIDES = (0.15, 0.45)


def augment(pixels: torch.Tensor, size: int, rotation_degrees: float) -> torch.Tensor:
    """Changes each picture of a batch at random and brings it to the network's size.

    Everything is drawn from torch's global generator.

    Args:
        pixels: uint8 (N, C, H, W).
        size: Side of the result in px.
        rotation_degrees: Rotated by up to this much either way.

    Returns:
        float32 (N, C, size, size) in 0..1.
    """
    images = pixels.float() / 255
    # Noise comes with the pixels of the picture: before they are enlarged.
    images = _add_noise(_lower_resolution(images))
    images = _move(images, size, rotation_degrees)
    return _erase(_relight(images))


def standardize(images: torch.Tensor) -> torch.Tensor:
    """Brings each picture to one mean and standard deviation, as `network_input` does in use.

    Args:
        images: (N, C, H, W) in 0..1.
    """
    std, mean = torch.std_mean(images, dim=(1, 2, 3), keepdim=True, correction=0)
    return STANDARD_MEAN + (images - mean) * STANDARD_STD / std.clamp_min(LOWEST_STD)


def mix_up(
    images: torch.Tensor, targets: list[torch.Tensor], alpha: float
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Mixes each picture and its targets with another one's of the batch.

    Source: Zhang et al., mixup: Beyond Empirical Risk Minimization, 2018.

    Args:
        images: (N, C, H, W).
        targets: Distributions, each (N, classes).
        alpha: The proportion is drawn from Beta(alpha, alpha), once for the batch.
    """
    share = torch.distributions.Beta(alpha, alpha).sample().item()
    share = max(share, 1 - share)
    others = torch.randperm(len(images), device=images.device)
    mixed = [share * each + (1 - share) * each[others] for each in targets]
    return share * images + (1 - share) * images[others], mixed


def _uniform(images: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Returns a number for each picture: (N, 1, 1, 1)."""
    return torch.empty(len(images), 1, 1, 1, device=images.device).uniform_(low, high)


def _chosen(images: torch.Tensor, share: float) -> torch.Tensor:
    """Returns whether each picture is chosen: bool (N,)."""
    return torch.rand(len(images), device=images.device) < share


def _lower_resolution(images: torch.Tensor) -> torch.Tensor:
    """Takes the detail of small faces from some pictures, all of a batch to the same resolution."""
    chosen = _chosen(images, LOW_RESOLUTION_SHARE)
    if not chosen.any():
        return images
    side_hw = images.shape[-2:]
    factor = LOWEST_RESOLUTION + (1 - LOWEST_RESOLUTION) * torch.rand(()).item()
    small_hw = [max(1, round(side * factor)) for side in side_hw]
    small = nn.functional.interpolate(
        images[chosen], small_hw, mode="bilinear", antialias=True, align_corners=False
    )
    images = images.clone()
    images[chosen] = nn.functional.interpolate(small, side_hw, mode="bilinear", align_corners=False)
    return images


def _move(images: torch.Tensor, size: int, rotation_degrees: float) -> torch.Tensor:
    """Flips, rotates, scales, shifts and resizes, in one interpolation."""
    count, device = len(images), images.device
    angle = torch.empty(count, device=device).uniform_(-1, 1) * math.radians(rotation_degrees)
    scale = torch.empty(count, device=device).uniform_(-SCALE, SCALE).exp()
    flip = torch.where(torch.rand(count, device=device) < 0.5, -1.0, 1.0)
    shift = torch.empty(2, count, device=device).uniform_(-2 * SHIFT, 2 * SHIFT)  # coordinates span 2
    cos, sin = angle.cos() * scale, angle.sin() * scale
    to_source = torch.stack(
        [
            torch.stack([flip * cos, -flip * sin, shift[0]], dim=1),
            torch.stack([sin, cos, shift[1]], dim=1),
        ],
        dim=1,
    )
    grid = nn.functional.affine_grid(to_source, [count, images.shape[1], size, size], align_corners=False)
    return nn.functional.grid_sample(
        images, grid, mode="bilinear", padding_mode="border", align_corners=False
    )


def _relight(images: torch.Tensor) -> torch.Tensor:
    # Brightness and contrast are left alone: `standardize` takes them away.
    # The smallest value keeps the power's gradient-free computation finite at 0.
    return images.clamp_min(1e-4) ** _uniform(images, -GAMMA, GAMMA).exp()


def _add_noise(images: torch.Tensor) -> torch.Tensor:
    sigma = _uniform(images, 0, NOISE) * _chosen(images, NOISE_SHARE)[:, None, None, None]
    return (images + sigma * torch.randn_like(images[:, :1])).clamp(0, 1)


def _erase(images: torch.Tensor) -> torch.Tensor:
    """Covers a rectangle of some pictures, as hands, hair and masks do.

    Source: Zhong et al., Random Erasing Data Augmentation, 2017.
    """
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device).view(1, 1, -1, 1) / height
    columns = torch.arange(width, device=images.device).view(1, 1, 1, -1) / width
    tall, wide = _uniform(images, *ERASED_SIDES), _uniform(images, *ERASED_SIDES)
    top, left = _uniform(images, 0, 1) * (1 - tall), _uniform(images, 0, 1) * (1 - wide)
    inside = (rows >= top) & (rows < top + tall) & (columns >= left) & (columns < left + wide)
    inside &= _chosen(images, ERASED_SHARE)[:, None, None, None]
    return torch.where(inside, _uniform(images, 0, 1), images)
