"""Build a checkpoint's network as a PyTorch module, for training and for comparison."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import timm
import torch
from torch import nn

from fer_stream.expressions import FER2013
from fer_stream.recognition.weights import Checkpoint, load_checkpoint, name_in_errors


def build_model(checkpoint: Checkpoint, labels: str = FER2013) -> nn.Module:
    """Return the network with the last layer of an annotation, in evaluation mode, on the CPU.

    Raises:
        WeightsError: The weights do not fit the architecture, or lack that layer.
    """
    arrays = {**checkpoint.state_dict, **checkpoint.network_arrays(labels)}
    model: nn.Module = timm.create_model(checkpoint.architecture, num_classes=len(checkpoint.classes))
    model.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})
    return model.eval()


def arrays_of(model: nn.Module) -> dict[str, np.ndarray]:
    """Return a network's parameters and buffers as arrays, with floats as float32."""
    state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    return {
        name: np.asarray((tensor.float() if tensor.is_floating_point() else tensor).numpy(), order="C")
        for name, tensor in state.items()
    }


def load_model(path: Path) -> tuple[Checkpoint, nn.Module]:
    """Read a checkpoint and return it with its network for FER2013's labels, on the CPU.

    Raises:
        WeightsError: As for `load_checkpoint`, or the weights do not fit the network.
    """
    checkpoint = load_checkpoint(path)
    with name_in_errors(path):
        return checkpoint, build_model(checkpoint)
