"""EfficientNet-B0 for inference in PyTorch: timm's weights in fewer and faster operations.

Source: Tan and Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, 2019. The
weights have timm's names, but timm is not imported, because that alone takes seconds.

Batch normalization is folded into the convolution before it. The channels of a pixel lie together in memory,
(N, H, W, C), so that a 1 x 1 convolution is a matrix product.

Nothing runs in cuDNN, which chooses its algorithms again for each new batch size. Measured on an H100 in half
precision: loading the network for batches of 8, 32 and 64 takes 1.0 s, and a batch of 64 faces takes 2.1 ms.
With the depthwise convolutions in cuDNN, loading takes 12.2 s and the batch 1.3 ms.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    Weights = Mapping[str, torch.Tensor]

EPSILON = 1e-5  # of batch normalization, timm's value for this network
STAGE_STRIDES = (1, 2, 2, 2, 1, 2, 1)


class EfficientNetB0:
    """The network, ready to run on one device.

    Args:
        weights: timm's state_dict of `efficientnet_b0`, float32 on the CPU.
        device: The device that it runs on.
        dtype: The precision of its arithmetic.
    """

    def __init__(self, weights: Weights, device: torch.device, dtype: torch.dtype) -> None:
        def ready(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.to(device, dtype)

        def dense(name: str) -> tuple[torch.Tensor, torch.Tensor]:
            return ready(weights[f"{name}.weight"].flatten(1)), ready(weights[f"{name}.bias"])

        def folded(convolution: str, norm: str) -> tuple[torch.Tensor, torch.Tensor]:
            weight, bias = _folded(weights, convolution, norm)
            # A 1 x 1 convolution is a matrix.
            return ready(weight.flatten(1) if weight.shape[-1] == 1 else weight), ready(bias)

        self._dtype = dtype
        self._stem = folded("conv_stem", "bn1")
        self._blocks = []
        for stage, stage_stride in enumerate(STAGE_STRIDES):
            for index in range(sum(f"blocks.{stage}.{each}.conv_dw.weight" in weights for each in range(9))):
                name = f"blocks.{stage}.{index}"
                expands = f"{name}.conv_pwl.weight" in weights
                expand = folded(f"{name}.conv_pw", f"{name}.bn1") if expands else None
                depthwise = folded(f"{name}.conv_dw", f"{name}.bn2" if expands else f"{name}.bn1")
                squeeze = dense(f"{name}.se.conv_reduce"), dense(f"{name}.se.conv_expand")
                project = (
                    folded(f"{name}.conv_pwl", f"{name}.bn3")
                    if expands
                    else folded(f"{name}.conv_pw", f"{name}.bn2")
                )
                self._blocks.append((expand, depthwise, stage_stride if index == 0 else 1, squeeze, project))
        self._head = folded("conv_head", "bn2")
        self._classifier = dense("classifier")

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits, float32 (N, classes), for images (N, 3, H, W)."""
        from torch.nn.functional import linear, silu

        x = silu(_stem(images.to(self._dtype), *self._stem))
        for expand, (weight, bias), stride, (reduce, enlarge), project in self._blocks:
            y = x if expand is None else silu(linear(x, *expand))
            y = silu(_depthwise(y, weight, bias, stride))
            gate = linear(silu(linear(y.mean(dim=(1, 2), keepdim=True), *reduce)), *enlarge).sigmoid()
            y = linear(y * gate, *project)
            x = x + y if y.shape == x.shape and stride == 1 else y
        x = silu(linear(x, *self._head)).mean(dim=(1, 2))
        return linear(x, *self._classifier).float()


def _stem(images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Apply the first convolution, 3 x 3 with stride 2: (N, 3, H, W) to (N, H / 2, W / 2, 32)."""
    from torch.nn.functional import linear, pad

    # As a matrix product of all 3 x 3 patches.
    patches = pad(images, (1, 1, 1, 1)).unfold(2, 3, 2).unfold(3, 3, 2)
    return linear(patches.permute(0, 2, 3, 1, 4, 5).flatten(3), weight.flatten(1), bias)


def _depthwise(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, stride: int) -> torch.Tensor:
    """Apply a depthwise convolution to (N, H, W, C)."""
    import torch
    from torch.nn.functional import conv2d

    padding = weight.shape[-1] // 2
    with torch.backends.cudnn.flags(enabled=False):  # PyTorch's own kernel
        y = conv2d(x.permute(0, 3, 1, 2), weight, bias, stride=stride, padding=padding, groups=len(weight))
    return y.permute(0, 2, 3, 1).contiguous()


def _folded(weights: Weights, convolution: str, norm: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Fold batch normalization into a convolution, and return its weight and bias."""
    scale = weights[f"{norm}.weight"] / (weights[f"{norm}.running_var"] + EPSILON).sqrt()
    bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
    return weights[f"{convolution}.weight"] * scale[:, None, None, None], bias
