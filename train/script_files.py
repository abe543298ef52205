"""Read the networks of an earlier training script as checkpoints.

A file of that script is a dict that `torch.load(weights_only=True)` reads. Its `state_dict` holds a network
and, under `votes.`, a second last layer for the ten classes of the FER+ votes. The network is timm's
EfficientNet-B0 under `body.`, or a ResNet-18 for one grey channel with the names `stem`, `body.0` to `body.7`
and `classifier`. Its `stage` holds the name and the input size.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fer_stream.errors import WeightsError
from fer_stream.recognition.torch_files import NotATorchFileError, UnsafeTorchFileError, load_torch_file
from fer_stream.recognition.weights import Checkpoint, Head
from train.architectures import two_headed_network
from train.config import RECIPES, SMALL_RESNET
from train.data import input_spec
from train.pretrained import ARCHITECTURE
from train.votes import VOTE_INDICES

BODY, VOTES = "body.", "votes."
FER2013_SIDE = 48  # px of the pictures that these networks were trained on
BLOCK_PARTS = {"c1": "conv1", "b1": "bn1", "c2": "conv2", "b2": "bn2", "sc": "downsample"}


def read_content(path: Path) -> Any:
    """Read the content of a PyTorch file, with arrays in place of tensors.

    Raises:
        WeightsError: The file can't be read.
    """
    try:
        return load_torch_file(path)
    except (NotATorchFileError, UnsafeTorchFileError, OSError) as error:
        raise WeightsError(f"{path} can't be read as a network: {error}") from error


def read_script_file(path: Path) -> Checkpoint:
    """Read a file of the script as a checkpoint, which has no temperatures and thresholds yet.

    Raises:
        WeightsError: The file can't be read, or is not such a file.
    """
    content = read_content(path)
    try:
        arrays = {
            name: array.astype(np.float32) if array.dtype.kind == "f" else array
            for name, array in content["state_dict"].items()
        }
        weight, bias = (arrays.pop(VOTES + name)[list(VOTE_INDICES)] for name in ("weight", "bias"))
        is_resnet = "stem.0.weight" in arrays
        config = replace(RECIPES["strong"], input_size=int(content["stage"]["size"]))
        checkpoint = Checkpoint(
            state_dict=_from_resnet(arrays) if is_resnet else _from_body(arrays),
            input=input_spec(config, FER2013_SIDE),
            architecture=SMALL_RESNET if is_resnet else ARCHITECTURE,
            ferplus=Head(weight, bias),
            recipe=str(content["stage"]["name"]),
            epoch=round(content["epochs"]),
        )
        two_headed_network(checkpoint)
    except (KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        raise WeightsError(
            f"{path} is not a network with a layer of FER+ votes; see train/script_files.py"
        ) from error
    return checkpoint


def _from_body(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(BODY): array for name, array in arrays.items()}


def _from_resnet(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rename the arrays of the script's ResNet-18 to timm's, and widen its stem to three channels."""
    renamed = {}
    for name, array in arrays.items():
        if match := re.fullmatch(r"body\.(\d)\.(c1|b1|c2|b2|sc)\.(.+)", name):
            block, part, rest = match.groups()
            name = f"layer{int(block) // 2 + 1}.{int(block) % 2}.{BLOCK_PARTS[part]}.{rest}"
        elif name == "stem.0.weight":
            # The script reads the first channel only. All three hold the same grey picture.
            name = "conv1.weight"
            array = np.concatenate([array, np.zeros_like(array), np.zeros_like(array)], axis=1)
        else:
            name = name.replace("stem.1.", "bn1.").replace("classifier.", "fc.")
        renamed[name] = array
    return renamed
