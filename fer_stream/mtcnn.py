"""facenet-pytorch's P-Net, R-Net and O-Net, in operations that ONNX Runtime does quickly.

On the CPU, ONNX Runtime spends most of these networks' time not in convolutions but in PReLU and in
turning its blocked memory layout to the plain one and back for it. `for_onnx` says the same in
convolutions, which stay in the blocked layout:

- PReLU with the slopes a is `a * x + (1 - a) * relu(x)`, two depthwise 1 x 1 convolutions;
- channels are filled up with zeros to the layout's blocks of 8;
- softmax of two is the sigmoid of their difference.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fer_stream.runtime import ModuleSpec, Network, load_network
from fer_stream.weights import file_hash

if TYPE_CHECKING:
    import torch
    from torch import nn

R_NET_INPUT = 24  # side in px
O_NET_INPUT = 48
BLOCK = 8  # channels that ONNX Runtime holds together
_EXAMPLE_SHAPES = {
    "PNet": (1, 3, 64, 96),
    "RNet": (2, 3, R_NET_INPUT, R_NET_INPUT),
    "ONet": (2, 3, O_NET_INPUT, O_NET_INPUT),
}


def load_mtcnn(name: str, device: str, threads: int) -> Network:
    """Loads one of PNet, RNet and ONet with facenet-pytorch's weights.

    Args:
        name: Which.
        device: `cpu` or `cuda:N`.
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
        key=(importlib.metadata.version("facenet-pytorch"), file_hash(weights_path), "blocks"),
        build=build,
        for_onnx=for_onnx,
        example_shape=_EXAMPLE_SHAPES[name],
        dynamic_axes=(2, 3) if name == "PNet" else (),
        outputs=3 if name == "ONet" else 2,
        half_on_cuda=False,  # boxes and thresholds stay those of the CPU
    )
    return load_network(spec, device, threads)[0]


def for_onnx(net: nn.Module) -> nn.Module:
    """Returns one of the three networks, changed in place: the same function in other operations."""
    from torch import nn

    layers = dict(net.named_children())
    channels = 3
    for name, layer in layers.items():  # in the order in which they run
        number = name.removeprefix("prelu")
        if name == f"prelu{number}" and f"conv{number}" in layers:
            convolution = _filled_up(layers[f"conv{number}"], channels)
            channels = convolution.out_channels
            setattr(net, f"conv{number}", convolution)
            setattr(net, name, _prelu(cast("torch.Tensor", layer.weight), channels))
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


def _prelu(slopes: torch.Tensor, channels: int) -> nn.Module:
    """Returns PReLU of so many channels, of which the last may be there only to fill up."""
    import torch
    from torch import nn

    class PReLU(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            weight = torch.zeros(channels, 1, 1, 1)
            weight[: len(slopes), 0, 0, 0] = slopes.detach()
            self.slopes, self.rest = nn.Parameter(weight), nn.Parameter(1 - weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            linear = nn.functional.conv2d(x, self.slopes, groups=channels)
            return linear + nn.functional.conv2d(torch.relu(x), self.rest, groups=channels)

    return PReLU()


def _subtract_the_other(layer: Any) -> None:
    """Makes a layer of two outputs give each one's difference to the other."""
    import torch

    with torch.no_grad():
        for parameter in (layer.weight, layer.bias):
            parameter.copy_(parameter - parameter.flip(0))
