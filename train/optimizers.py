"""Make the optimizers of the recipes."""

from __future__ import annotations

import torch
from torch import nn

from train.config import TrainConfig

MOMENTUM = 0.9


def trained_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that are not frozen."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def make_optimizer(network: nn.Module, config: TrainConfig, device: torch.device) -> torch.optim.Optimizer:
    """Make the optimizer of a run.

    On a GPU the learning rate is a tensor, so that a captured step reads its current value.
    """
    if config.optimizer == "adam":
        return torch.optim.Adam(network.parameters(), lr=config.lr)
    parameters = trained_parameters(network)
    # Biases and the weights of normalization layers have one dimension.
    groups = [
        {"params": [each for each in parameters if each.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [each for each in parameters if each.ndim <= 1], "weight_decay": 0.0},
    ]
    on_gpu = device.type == "cuda"
    lr = torch.tensor(config.lr, device=device) if on_gpu else config.lr
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=MOMENTUM, nesterov=True, fused=on_gpu)
    return torch.optim.AdamW(groups, lr=lr, fused=on_gpu, capturable=on_gpu)


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: dict, device: torch.device) -> None:
    """Restore an optimizer's state, which may have been saved on another device."""
    before = [group["lr"] for group in optimizer.param_groups]
    kept = {name: optimizer.param_groups[0].get(name) for name in ("fused", "capturable", "foreach")}
    optimizer.load_state_dict(state)
    for group, lr in zip(optimizer.param_groups, before, strict=True):
        group["lr"] = lr
        group.update({name: value for name, value in kept.items() if name in group})
