"""Keep the exponential moving average of a network in training."""

from __future__ import annotations

import copy

import torch
from torch import nn

WARM_UP_STEPS = 20


class MovingAverage:
    """The exponential moving average of a network's weights and running statistics.

    At first the decay is lower than configured, so that the average soon forgets the random start.

    Attributes:
        network: A copy of the network with the averaged weights.

    Args:
        network: The network in training, on its device.
        decay: Share of the average that is kept in a step.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self._max_decay = decay
        average, live = self.network.state_dict(), network.state_dict()
        names = [name for name, tensor in live.items() if tensor.is_floating_point()]
        self._average = [average[name] for name in names]
        self._live = [live[name] for name in names]
        # On the device, so that a captured step reads the current value.
        self._step_weight = torch.zeros((), device=self._live[0].device)
        self._step_decay = torch.zeros_like(self._step_weight)

    def set_step(self, step: int) -> None:
        """Set the decay for the update after this step. Steps count from 0 over the whole run."""
        decay = min(self._max_decay, (1 + step) / (WARM_UP_STEPS + step))
        self._step_weight.fill_(1 - decay)
        self._step_decay.fill_(decay)

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the network."""
        torch._foreach_mul_(self._average, self._step_decay)
        torch._foreach_add_(self._average, torch._foreach_mul(self._live, self._step_weight))
