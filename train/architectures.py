"""The networks that can be trained: every timm network, and a ResNet-18 for small pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import timm
import torch
from timm.models import register_model
from timm.models.resnet import BasicBlock, ResNet
from torch import nn

from fer_stream.errors import UsageError
from fer_stream.expressions import EXPRESSIONS, FER2013
from fer_stream.recognition.weights import LAST_LAYER, Checkpoint
from train.config import SMALL_RESNET

CHANNELS = 3


@register_model
def resnet18_48px(pretrained: bool = False, **options: Any) -> ResNet:
    """Make timm's ResNet-18 with a stem for small pictures: 3 x 3, no stride, no pooling.

    timm's own stem reduces a 48-px picture to 12 x 12 values; this one keeps 48 x 48.

    Source: He et al., Deep Residual Learning for Image Recognition, 2016, the networks for CIFAR-10.
    """
    if pretrained:
        raise RuntimeError(f"there are no pretrained weights of {SMALL_RESNET}")
    for name in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):
        options.pop(name, None)
    model: Any = ResNet(BasicBlock, (2, 2, 2, 2), **options)  # type: ignore[arg-type]
    model.conv1 = nn.Conv2d(CHANNELS, 64, kernel_size=3, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()
    made: ResNet = model
    return made


def new_body(architecture: str, *, pretrained: bool = False, drop_path: float = 0.0) -> nn.Module:
    """Make one of timm's networks with a last layer for the seven expressions.

    Raises:
        UsageError: timm has no such network, or it does not end in one linear layer.
        Exception: Any error that timm raises if it can't get the pretrained weights.
    """
    check_architecture(architecture)
    options: dict[str, Any] = {"drop_path_rate": drop_path} if drop_path else {}
    try:
        body: nn.Module = timm.create_model(
            architecture, pretrained=pretrained, num_classes=len(EXPRESSIONS), **options
        )
    except TypeError as error:  # it has no residual branches to leave out
        if not drop_path:
            raise UsageError(f"{architecture} can't have {len(EXPRESSIONS)} outputs") from error
        return new_body(architecture, pretrained=pretrained)
    if not isinstance(last_layer(body), nn.Linear):
        raise UsageError(f"{architecture} does not end in one linear layer; choose another --architecture")
    return body


def check_architecture(architecture: str) -> None:
    """Raise a UsageError if timm has no network of this name."""
    if not timm.is_model(architecture):
        near = timm.list_models(f"*{architecture.split('_')[0]}*")[:5]
        such = f"; it has {', '.join(near)}" if near else ""
        raise UsageError(f"timm has no network {architecture!r}{such}; see timm.list_models()")


def last_layer(body: nn.Module) -> nn.Module:
    """Return the layer that computes the logits of the expressions."""
    classifier: nn.Module = body.get_classifier()  # type: ignore[operator]
    return classifier


class TwoHeaded(nn.Module):
    """A network with a last layer for FER2013's labels and, optionally, a second one for the FER+ votes.

    FER2013's single labels hide how much people disagree; the ten FER+ votes of a picture show it. Both
    layers read the same features.

    Args:
        body: A timm network with its layer for the seven expressions.
        votes_outputs: Outputs of the second layer; 0 for a network without one.
    """

    def __init__(self, body: nn.Module, votes_outputs: int) -> None:
        super().__init__()
        self.body = body
        width = last_layer(body).in_features
        self.votes_layer = nn.Linear(width, votes_outputs) if votes_outputs else None  # type: ignore[arg-type]

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return logits (N, 7), and logits (N, votes_outputs) or None, for images (N, 3, size, size)."""
        body: Any = self.body
        features = body.forward_head(body.forward_features(images), pre_logits=True)
        votes = None if self.votes_layer is None else self.votes_layer(features)
        return last_layer(body)(features), votes


def two_headed_network(checkpoint: Checkpoint) -> TwoHeaded:
    """Return the network of a checkpoint of any architecture, in evaluation mode, on the CPU.

    If the checkpoint has a second layer, that has seven outputs, one for each expression.

    Raises:
        UsageError: timm has no such network.
        RuntimeError: The weights do not fit it.
    """
    ferplus = checkpoint.ferplus
    network = TwoHeaded(new_body(checkpoint.architecture), len(EXPRESSIONS) if ferplus else 0)
    network.body.load_state_dict(as_tensors(checkpoint.state_dict))
    if ferplus and network.votes_layer is not None:
        network.votes_layer.load_state_dict(as_tensors({"weight": ferplus.weight, "bias": ferplus.bias}))
    return network.eval()


def evaluation_network(checkpoint: Checkpoint, annotations: Sequence[str] = (FER2013,)) -> nn.Module:
    """Return the network of a checkpoint that fer-stream runs, in evaluation mode, on the CPU.

    Args:
        checkpoint: The checkpoint.
        annotations: The annotations that its last layers follow, see `Checkpoint.head`.

    Returns:
        A module that gives logits (N, 7 * annotations), those of the layers side by side.

    Raises:
        WeightsError: The weights do not fit the network, or lack a layer.
    """
    model: nn.Module = timm.create_model(checkpoint.architecture, num_classes=len(checkpoint.classes))
    model.load_state_dict(as_tensors({**checkpoint.state_dict, **checkpoint.network_arrays(FER2013)}))
    heads = [checkpoint.head(annotation) for annotation in annotations]
    weight = np.concatenate([head.weight for head in heads])
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict(as_tensors({"weight": weight, "bias": np.concatenate([h.bias for h in heads])}))
    setattr(model, LAST_LAYER, layer)
    return model.eval()


def arrays_of(model: nn.Module) -> dict[str, np.ndarray]:
    """Return a network's parameters and buffers as arrays, with floats as float32."""
    state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    return {
        name: np.asarray((tensor.float() if tensor.is_floating_point() else tensor).numpy(), order="C")
        for name, tensor in state.items()
    }


def as_tensors(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Return the weights as PyTorch tensors. The arrays may be read-only."""
    return {
        name: torch.from_numpy(np.array(each)) if isinstance(each, np.ndarray) else each
        for name, each in weights.items()
    }
