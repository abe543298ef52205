"""How a run goes over its epochs: the learning rate, and which epochs are gentle."""

from __future__ import annotations

import math

from train.config import TrainConfig


def gentle_epochs(config: TrainConfig) -> int:
    """Returns how many epochs at the end of a run are gentle."""
    return math.floor(config.gentle_share * config.epochs + 0.5)


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """Returns the learning rate of a step, counted from 0 over the run.

    It rises to its highest and falls to 0, and does so anew in the gentle epochs.

    Source of the cosine and of the second rise: Loshchilov and Hutter, SGDR, 2017.
    """
    if config.warmup_share is None:
        return config.lr
    gentle = gentle_epochs(config) * steps_per_epoch
    before = config.epochs * steps_per_epoch - gentle
    if step < before:
        return _risen_and_fallen(config.lr, step / before, config.warmup_share)
    return _risen_and_fallen(config.lr * config.gentle_lr, (step - before) / gentle, config.warmup_share)


def _risen_and_fallen(highest: float, progress: float, warmup_share: float) -> float:
    if progress < warmup_share:
        return highest * (0.01 + 0.99 * progress / warmup_share)
    falling = (progress - warmup_share) / (1 - warmup_share)
    return highest * (1 + math.cos(math.pi * falling)) / 2
