"""Prepare a network for fast training steps: compilation, several processes, and 16-bit arithmetic."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from train.architectures import TwoHeaded
from train.config import TrainConfig
from train.parallel import Processes
from train.reporter import Reporter

COMPILE_PAYS_STEPS, COMPILE_PAYS_MINUTES = 2000, 20  # compiling takes a minute


def half_precision(device: torch.device) -> torch.dtype | None:
    """Return the 16-bit type for a step's arithmetic; None for a CPU, which uses 32 bits."""
    if device.type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16


def as_trained(
    network: TwoHeaded,
    config: TrainConfig,
    steps: int,
    device: torch.device,
    processes: Processes,
    reporter: Reporter,
) -> nn.Module:
    """Return the network for the steps to call: compiled, or connected with the other processes."""
    if processes.count > 1:
        ids = [device.index] if device.type == "cuda" else None
        with warnings.catch_warnings():
            # torch 2.15 renamed broadcast_buffers, and older versions don't know the new name.
            warnings.simplefilter("ignore", FutureWarning)
            # The running statistics are averaged at each validation instead of copied in every step.
            return DistributedDataParallel(
                network, device_ids=ids, broadcast_buffers=False, gradient_as_bucket_view=True
            )
    # Use the length of the whole run, so that a resumed run computes the same as an unbroken one.
    pays = config.epochs * steps > COMPILE_PAYS_STEPS
    if config.minutes is not None:
        pays = config.minutes > COMPILE_PAYS_MINUTES
    if not pays or device.type != "cpu":
        return network
    reporter.note("the network is compiled in the first step, which takes a minute or more")
    return _CompiledForWholeBatches(network, config.batch_size)


class _CompiledForWholeBatches(nn.Module):
    """A compiled network, about a fifth faster on a CPU, or the plain network if compilation fails.

    It is compiled for one batch size. A smaller last batch goes through the plain network.
    """

    def __init__(self, network: nn.Module, batch_size: int) -> None:
        super().__init__()
        # torch.compile warns that there is no GPU. On a CPU that is expected.
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        torch._dynamo.config.suppress_errors = True  # without a C++ compiler, run the plain network
        self._network, self._batch_size = network, batch_size
        self._compiled: Any = torch.compile(network, dynamic=False)

    def forward(self, images: torch.Tensor) -> Any:
        """Return the network's output."""
        whole = len(images) == self._batch_size
        return (self._compiled if whole else self._network)(images)
