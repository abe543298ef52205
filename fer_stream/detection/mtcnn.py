"""facenet-pytorch's P-Net, R-Net and O-Net, in operations that ONNX Runtime does quickly.

On the CPU, ONNX Runtime spends most of these networks' time not in convolutions but in PReLU and in
turning its blocked memory layout to the plain one and back for it. `for_onnx` says the same in
convolutions, which stay in the blocked layout:

- PReLU with the slopes a is `x + sign(1 - a) * relu(-|1 - a| * x)`: depthwise 1 x 1 convolutions, of
  which one or none is left after fusion;
- channels are filled up with zeros to the layout's blocks of 8; where that leaves room for it, as in
  P-Net's first layer, PReLU comes after the maximum pooling, on a quarter of the pixels;
- softmax of two is the sigmoid of their difference.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fer_stream.inference.network import Network
from fer_stream.inference.onnx_runtime import ModuleSpec, load_network
from fer_stream.system.files import file_hash

if TYPE_CHECKING:
    import torch
    from torch import nn

R_NET_INPUT = 24  # side in px
O_NET_INPUT = 48
BLOCK = 8  # channels that ONNX Runtime holds together
# By measurement: 360 crops of a crowd at once take R-Net a quarter longer each, 27 take O-Net a sixth.
_MOST_ON_CPU = {"PNet": 0, "RNet": 64, "ONet": 8}
_EXAMPLE_SHAPES = {
    "PNet": (1, 3, 64, 96),
    "RNet": (2, 3, R_NET_INPUT, R_NET_INPUT),
    "ONet": (2, 3, O_NET_INPUT, O_NET_INPUT),
}


def load_mtcnn(name: str, threads: int) -> Network:
    """Loads one of PNet, RNet and ONet with facenet-pytorch's weights for the CPU.

    Args:
        name: Which.
        threads: CPU threads for one run of the network; 0 takes one a core.
    """
    # Found without importing the package, which would import torch.
    package = importlib.util.find_spec("facenet_pytorch")
    assert package is not None and package.origin is not None
    weights_path = Path(package.origin).parent / "data" / f"{name.lower()}.pt"

    def build() -> tuple[nn.Module, dict[str, Any]]:
        from facenet_pytorch.models import mtcnn

        return getattr(mtcnn, name)().eval(), {}

    spec = ModuleSpec(
        name=name.lower(),
        key=(
            importlib.metadata.version("facenet-pytorch"),
            file_hash(weights_path),
            "blocks 2",
        ),  # the name of what `for_onnx` does
        build=build,
        for_onnx=for_onnx,
        example_shape=_EXAMPLE_SHAPES[name],
        dynamic_axes=(2, 3) if name == "PNet" else (),
        outputs=3 if name == "ONet" else 2,
        most_on_cpu=_MOST_ON_CPU[name],
    )
    return load_network(spec, threads)[0]


def for_onnx(net: nn.Module) -> nn.Module:
    """Returns one of the three networks, changed in place: the same function in other operations."""
    from torch import nn

    layers = dict(net.named_children())
    channels = 3
    for name, layer in layers.items():  # in the order in which they run
        number = name.removeprefix("prelu")
        if name == f"prelu{number}" and f"conv{number}" in layers:
            slopes = cast("torch.Tensor", layer.weight).detach()
            pool = layers.get(f"pool{number}")
            convolution = layers[f"conv{number}"]
            if pool is not None and int((slopes < 0).sum()) <= -len(slopes) % BLOCK:
                convolution = _filled_up(_with_sloped_copies(convolution, slopes), channels)
                setattr(net, f"pool{number}", nn.Sequential(pool, _pooled_prelu(slopes, convolution)))
                setattr(net, name, nn.Identity())
            else:
                convolution = _filled_up(convolution, channels)
                setattr(net, name, _prelu(slopes, convolution))
            setattr(net, f"conv{number}", convolution)
            channels = convolution.out_channels
        elif isinstance(layer, nn.Softmax):
            number = name.removeprefix("softmax")
            _subtract_the_other(layers.get(f"conv{number}") or layers[f"dense{number}"])
            setattr(net, name, nn.Sigmoid())
    return net


def _filled_up(convolution: Any, in_channels: int) -> nn.Conv2d:
    """Returns a convolution with zeros for channels that fill the blocks up."""
    import torch
    from torch import nn

    out_channels = -(-convolution.out_channels // BLOCK) * BLOCK
    larger = nn.Conv2d(in_channels, out_channels, convolution.kernel_size)
    with torch.no_grad():
        larger.weight.zero_()
        larger.bias.zero_()  # type: ignore[union-attr]
        larger.weight[: convolution.out_channels, : convolution.in_channels] = convolution.weight
        larger.bias[: convolution.out_channels] = convolution.bias  # type: ignore[index]
    return larger


def _with_sloped_copies(convolution: Any, slopes: torch.Tensor) -> nn.Conv2d:
    """Returns a convolution that also gives a * x of the channels whose slope a is negative."""
    import torch
    from torch import nn

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
    """Returns PReLU of a convolution's channels, of which the last may be there only to fill up."""
    import torch

    before = torch.zeros(convolution.out_channels, 1, 1, 1)
    before[: len(slopes), 0, 0, 0] = -(1 - slopes).abs()
    return _residual(before, slopes)


def _pooled_prelu(slopes: torch.Tensor, convolution: nn.Conv2d) -> nn.Module:
    """Returns PReLU of what was pooled before it, of the channels of `_with_sloped_copies`.

    Where a slope is not negative, PReLU rises and may as well come after a maximum. Where it is,
    PReLU is the larger of x and a * x, of which each has its maximum: `x + relu(a * x - x)`.
    """
    import torch

    before = torch.zeros(convolution.out_channels, convolution.out_channels, 1, 1)
    copy = len(slopes)
    for channel, slope in enumerate(slopes.tolist()):
        before[channel, channel] = -1 if slope < 0 else -abs(1 - slope)
        if slope < 0:
            before[channel, copy] = 1
            copy += 1
    return _residual(before, slopes)


def _residual(before: torch.Tensor, slopes: torch.Tensor) -> nn.Module:
    """Returns x + sign(1 - a) * relu(before * x); the 1 x 1 convolution `before` is depthwise or full."""
    import torch
    from torch import nn

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
    """Makes a layer of two outputs give each one's difference to the other."""
    import torch

    with torch.no_grad():
        for parameter in (layer.weight, layer.bias):
            parameter.copy_(parameter - parameter.flip(0))
