"""Change whole batches of pictures at random, as tensors on the training device.

This way one process prepares a batch of 64 in about 20 milliseconds. Picture by picture through PIL would
take several times as long, and worker processes would compete with the training for the cores.

Nothing here reads a value back from the device, and no shape depends on a value. A CUDA graph can
therefore record these functions together with the training step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import nn

LOWEST_RESOLUTION = 0.3  # down to 14 px of FER2013's 48
NOISE = 0.07
ERASED_SIDES = (0.15, 0.45)


@dataclass(frozen=True)
class Strength:
    """The strength of the augmentation.

    Attributes:
        rotation: Share of the run's rotation.
        scale: Scale by up to this much either way, as a natural logarithm.
        shift: Shift by up to this much either way, as a share of the side.
        gamma: Change the exponent by up to this much either way, as a natural logarithm.
        low_resolution_share: Share of the pictures that lose their fine detail.
        noise_share: Share of the pictures that get noise.
        erased_share: Share of the pictures in which a rectangle is covered.
    """

    rotation: float
    scale: float
    shift: float
    gamma: float
    low_resolution_share: float
    noise_share: float
    erased_share: float


# For most of a run. It imitates boxes that are as far off FER2013's crops as MTCNN's are, and faces that are
# small, dark or partly covered.
STRONG = Strength(1.0, 0.2, 0.08, 0.5, 0.25, 0.15, 0.25)
# For the last part of a run, with pictures that are nearly as in use.
GENTLE = Strength(0.24, 0.07, 0.03, 0.15, 0.05, 0.03, 0.0)


def augment(
    pixels: torch.Tensor, size: int, rotation_degrees: float, strength: Strength = STRONG
) -> torch.Tensor:
    """Change each picture of a batch at random and resize it to the network's input.

    All random numbers come from torch's global generator for the device.

    Args:
        pixels: uint8 (N, C, H, W), H = W.
        size: Side of the result in px.
        rotation_degrees: Rotate by up to this much either way, at full strength.
        strength: The strength of the augmentation.

    Returns:
        float32 (N, C, size, size) in 0..1.
    """
    images = pixels.float() / 255
    # Noise is per pixel of the original picture, so add it before the picture is enlarged.
    images = _add_noise(_lower_resolution(images, strength.low_resolution_share), strength.noise_share)
    images = _move(images, size, rotation_degrees, strength)
    return _erase(_relight(images, strength.gamma), strength.erased_share)


def mix_up(batch: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Mix each picture of a batch, or its target, with the one before it.

    The batch is in random order, so the one before is a random partner.

    Source: Zhang et al., mixup: Beyond Empirical Risk Minimization, 2018.

    Args:
        batch: (N, ...).
        share: Weight of the picture itself, a tensor of shape (), 0.5 to 1; see `mixing_shares`.
    """
    return torch.lerp(batch.roll(1, dims=0), batch, share)


def mixing_shares(count: int, alpha: float) -> torch.Tensor:
    """Draw the weight of the picture itself for each step, from Beta(alpha, alpha), mirrored to 0.5..1.

    Returns:
        float32 (count,) on the CPU; all ones if alpha is 0.
    """
    if not alpha:
        return torch.ones(count)
    shares = torch.distributions.Beta(alpha, alpha).sample((count,))
    return torch.maximum(shares, 1 - shares)


def _uniform(images: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Draw a number for each picture: (N, 1, 1, 1)."""
    return torch.empty(len(images), 1, 1, 1, device=images.device).uniform_(low, high)


def _chosen(images: torch.Tensor, share: float) -> torch.Tensor:
    """Draw whether each picture is chosen: bool (N, 1, 1, 1)."""
    return _uniform(images, 0, 1) < share


def _lower_resolution(images: torch.Tensor, share: float) -> torch.Tensor:
    """Reduce some pictures to the detail of a small face, each to a random resolution.

    Reducing and enlarging again is linear and separable, so one matrix does both along an axis.
    """
    count, _, side, _ = images.shape
    matrices = _resolutions(side, images.device)  # the last one leaves a picture unchanged
    reduced = len(matrices) - 1
    drawn = torch.randint(0, reduced, (count,), device=images.device)
    drawn = torch.where(_chosen(images, share).view(-1), drawn, torch.full_like(drawn, reduced))
    rows = matrices[drawn].unsqueeze(1)
    return rows @ images @ rows.transpose(-1, -2)


@lru_cache(maxsize=8)
def _resolutions(side: int, device: torch.device) -> torch.Tensor:
    """Return a matrix for each lower resolution, which reduces a column to it and enlarges it again.

    Returns:
        float32 (K, side, side), the identity last.
    """
    identity = torch.eye(side)
    columns = identity.view(1, 1, side, side)
    matrices = []
    for small in range(max(1, round(side * LOWEST_RESOLUTION)), side):
        reduced = nn.functional.interpolate(
            columns, (small, side), mode="bilinear", antialias=True, align_corners=False
        )
        enlarged = nn.functional.interpolate(reduced, (side, side), mode="bilinear", align_corners=False)
        matrices.append(enlarged[0, 0])
    return torch.stack([*matrices, identity]).to(device)


def _move(images: torch.Tensor, size: int, rotation_degrees: float, strength: Strength) -> torch.Tensor:
    """Flip, rotate, scale, shift and resize, in one interpolation."""
    count, device = len(images), images.device
    most = math.radians(rotation_degrees * strength.rotation)
    angle = torch.empty(count, device=device).uniform_(-most, most)
    scale = torch.empty(count, device=device).uniform_(-strength.scale, strength.scale).exp()
    flip = (torch.rand(count, device=device) < 0.5).float() * 2 - 1
    reach = 2 * strength.shift  # coordinates span 2
    shift = torch.empty(2, count, device=device).uniform_(-reach, reach)
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


def _relight(images: torch.Tensor, gamma: float) -> torch.Tensor:
    # No changes of brightness and contrast, because standardizing would undo them.
    # The lower limit avoids powers of 0.
    return images.clamp_min(1e-4) ** _uniform(images, -gamma, gamma).exp()


def _add_noise(images: torch.Tensor, share: float) -> torch.Tensor:
    sigma = _uniform(images, 0, NOISE) * _chosen(images, share)
    return (images + sigma * torch.randn_like(images[:, :1])).clamp(0, 1)


def _erase(images: torch.Tensor, share: float) -> torch.Tensor:
    """Cover a rectangle of some pictures, as hands, hair and masks do.

    Source: Zhong et al., Random Erasing Data Augmentation, 2017.
    """
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device).view(1, 1, -1, 1) / height
    columns = torch.arange(width, device=images.device).view(1, 1, 1, -1) / width
    tall, wide = _uniform(images, *ERASED_SIDES), _uniform(images, *ERASED_SIDES)
    top, left = _uniform(images, 0, 1) * (1 - tall), _uniform(images, 0, 1) * (1 - wide)
    inside = (rows >= top) & (rows < top + tall) & (columns >= left) & (columns < left + wide)
    inside = inside & _chosen(images, share)
    return torch.where(inside, _uniform(images, 0, 1), images)
