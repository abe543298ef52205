"""Rewrite facenet-pytorch's P-Net, R-Net and O-Net in operations that ONNX Runtime runs fast.

On the CPU, ONNX Runtime spends most of these networks' time in PReLU and in the conversions between its
blocked memory layout and the plain one that PReLU needs. `for_onnx` expresses the same functions as
convolutions, which stay in the blocked layout:

- PReLU with slopes a becomes `x + sign(1 - a) * relu(-|1 - a| * x)`. The factors are depthwise 1 x 1
  convolutions, and fusion leaves at most one of them.
- Channels are padded with zeros to the layout's blocks of 8. If the padding leaves room for it, as in P-Net's
  first layer, PReLU runs after the maximum pooling, on a quarter of the pixels.
- A softmax over two classes becomes the sigmoid of their difference.
- P-Net's two outputs come from one convolution, which reads the last layer once instead of twice.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

BLOCK = 8  # channels that ONNX Runtime stores together


def for_onnx(net: nn.Module) -> nn.Module:
    """Return one of the three networks in operations that run faster. It takes over the network's layers."""
    layers = dict(net.named_children())
    channels = 3
    for name, layer in layers.items():  # in the order in which they run
        number = name.removeprefix("prelu")
        if name == f"prelu{number}" and f"conv{number}" in layers:
            slopes = cast(torch.Tensor, layer.weight).detach()
            pool = layers.get(f"pool{number}")
            convolution = layers[f"conv{number}"]
            if pool is not None and int((slopes < 0).sum()) <= -len(slopes) % BLOCK:
                convolution = _padded(_with_sloped_copies(convolution, slopes), channels)
                setattr(net, f"pool{number}", nn.Sequential(pool, _pooled_prelu(slopes, convolution)))
                setattr(net, name, nn.Identity())
            else:
                convolution = _padded(convolution, channels)
                setattr(net, name, _prelu(slopes, convolution))
            setattr(net, f"conv{number}", convolution)
            channels = convolution.out_channels
        elif isinstance(layer, nn.Softmax):
            number = name.removeprefix("softmax")
            _subtract_the_other(layers.get(f"conv{number}") or layers[f"dense{number}"])
            setattr(net, name, nn.Sigmoid())
    return _SharedOutput(net) if "conv4_2" in layers else net


class _SharedOutput(nn.Module):
    """P-Net with one convolution for both outputs."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        outputs = net.conv4_1, net.conv4_2
        self.channels = [output.out_channels for output in outputs]
        self.conv4 = nn.Conv2d(net.conv4_1.in_channels, sum(self.channels), 1)
        with torch.no_grad():
            self.conv4.weight.copy_(torch.cat([output.weight for output in outputs]))
            self.conv4.bias.copy_(torch.cat([output.bias for output in outputs]))  # type: ignore[union-attr]
        self.sigmoid = net.softmax4_1
        net.conv4_1 = net.conv4_2 = net.softmax4_1 = nn.Identity()
        self.features = net

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        difference, shifts = self.conv4(self.features(x)[0]).split(self.channels, dim=1)
        return shifts, self.sigmoid(difference)


def _padded(convolution: Any, in_channels: int) -> nn.Conv2d:
    """Return a convolution whose channels are padded with zeros to whole blocks."""
    out_channels = -(-convolution.out_channels // BLOCK) * BLOCK
    larger = nn.Conv2d(in_channels, out_channels, convolution.kernel_size)
    with torch.no_grad():
        larger.weight.zero_()
        larger.bias.zero_()  # type: ignore[union-attr]
        larger.weight[: convolution.out_channels, : convolution.in_channels] = convolution.weight
        larger.bias[: convolution.out_channels] = convolution.bias  # type: ignore[index]
    return larger


def _with_sloped_copies(convolution: Any, slopes: torch.Tensor) -> nn.Conv2d:
    """Return a convolution that also outputs a * x for each channel whose slope a is negative."""
    negative = torch.nonzero(slopes < 0).flatten()
    larger = nn.Conv2d(convolution.in_channels, len(slopes) + len(negative), convolution.kernel_size)
    with torch.no_grad():
        factors = slopes[negative]
        larger.weight.copy_(
            torch.cat([convolution.weight, convolution.weight[negative] * factors[:, None, None, None]])
        )
        larger.bias.copy_(torch.cat([convolution.bias, convolution.bias[negative] * factors]))  # type: ignore[union-attr]
    return larger


def _prelu(slopes: torch.Tensor, convolution: nn.Conv2d) -> nn.Module:
    """Return PReLU over a convolution's channels, the last of which may be padding."""
    before = torch.zeros(convolution.out_channels, 1, 1, 1)
    before[: len(slopes), 0, 0, 0] = -(1 - slopes).abs()
    return _residual(before, slopes)


def _pooled_prelu(slopes: torch.Tensor, convolution: nn.Conv2d) -> nn.Module:
    """Return PReLU for the pooled channels of `_with_sloped_copies`.

    With a slope of 0 or more, PReLU is monotonic and can run after a maximum. With a negative slope, PReLU is
    the larger of x and a * x, and each of these has its own maximum: `x + relu(a * x - x)`.
    """
    before = torch.zeros(convolution.out_channels, convolution.out_channels, 1, 1)
    copy = len(slopes)
    for channel, slope in enumerate(slopes.tolist()):
        before[channel, channel] = -1 if slope < 0 else -abs(1 - slope)
        if slope < 0:
            before[channel, copy] = 1
            copy += 1
    return _residual(before, slopes)


def _residual(before: torch.Tensor, slopes: torch.Tensor) -> nn.Module:
    """Return x + sign(1 - a) * relu(before * x). The 1 x 1 convolution `before` is depthwise or full."""

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            sign = torch.ones(len(before), 1, 1, 1)
            sign[: len(slopes), 0, 0, 0] = (1 - slopes).sign()
            self.before = nn.Parameter(before)
            self.sign = nn.Parameter(sign) if bool((sign < 0).any()) else None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            channels = len(self.before)
            groups = channels // self.before.shape[1]
            rest = torch.relu(nn.functional.conv2d(x, self.before, groups=groups))
            if self.sign is not None:
                rest = nn.functional.conv2d(rest, self.sign, groups=channels)
            return x + rest

    return Residual()


def _subtract_the_other(layer: Any) -> None:
    """Make a layer with two outputs return, for each output, its difference from the other."""
    with torch.no_grad():
        for parameter in (layer.weight, layer.bias):
            parameter.copy_(parameter - parameter.flip(0))
