"""P-Net, R-Net and O-Net in PyTorch, with facenet-pytorch's weights.

The layers are those of facenet-pytorch's `models/mtcnn.py` (MIT). That module is not imported: it imports
torchvision, which takes seconds.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# Convolution, and side and step of the maximum pooling after it.
_CONVOLUTIONS: dict[str, tuple[tuple[int, int] | None, ...]] = {
    "PNet": ((2, 2), None, None),
    "RNet": ((3, 2), (3, 2), None),
    "ONet": ((3, 2), (3, 2), (2, 2), None),
}


def load_torch_mtcnn(name: str, device: torch.device) -> Callable[[torch.Tensor], tuple[torch.Tensor, ...]]:
    """Load one of the networks in float32.

    Args:
        name: PNet, RNet or ONet.
        device: Device of the network.

    Returns:
        A function from images (N, 3, H, W) to the outputs in facenet-pytorch's order: shifts, landmarks if it
        is O-Net, probabilities.
    """
    import torch
    from torch.nn.functional import conv2d, linear, max_pool2d, prelu

    package = importlib.util.find_spec("facenet_pytorch")
    assert package is not None and package.origin is not None
    path = Path(package.origin).parent / "data" / f"{name.lower()}.pt"
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    weights = {key: tensor.to(device) for key, tensor in loaded.items()}

    def of(layer: str) -> tuple[torch.Tensor, torch.Tensor]:
        return weights[f"{layer}.weight"], weights[f"{layer}.bias"]

    def run(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = images
        for number, pool in enumerate(_CONVOLUTIONS[name], start=1):
            x = prelu(conv2d(x, *of(f"conv{number}")), weights[f"prelu{number}.weight"])
            if pool is not None:
                x = max_pool2d(x, *pool, ceil_mode=True)
        if name == "PNet":
            return conv2d(x, *of("conv4_2")), conv2d(x, *of("conv4_1")).softmax(dim=1)
        last = len(_CONVOLUTIONS[name]) + 1
        x = x.permute(0, 3, 2, 1).flatten(1)
        x = prelu(linear(x, *of(f"dense{last}")), weights[f"prelu{last}.weight"])
        probabilities = linear(x, *of(f"dense{last + 1}_1")).softmax(dim=1)
        others = [
            linear(x, *of(f"dense{last + 1}_{branch}")) for branch in range(2, len(_CONVOLUTIONS[name]))
        ]
        return *others, probabilities

    return run
