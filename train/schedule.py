"""Schedule the learning rate and the gentle part of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from train.config import TrainConfig


@dataclass(frozen=True)
class Schedule:
    """The learning rate and the augmentation over a run. Progress goes from 0 to 1.

    Source of the cosine and of the second rise: Loshchilov and Hutter, SGDR, 2017.

    Attributes:
        lr: Peak learning rate.
        gentle_lr: Peak learning rate of the gentle part.
        gentle_from: Progress at which the gentle part begins; 1: never.
        warmup_share: Share of each part in which the rate rises. None: the rate is constant.
    """

    lr: float
    gentle_lr: float
    gentle_from: float
    warmup_share: float | None

    def is_gentle(self, progress: float) -> bool:
        """Return whether the augmentation is weak at this point."""
        # The gentle part starts at a whole epoch, a ratio that may be rounded, so allow for that.
        return progress > self.gentle_from - 1e-9

    def learning_rate(self, progress: float) -> float:
        """Return the learning rate at this point."""
        if self.warmup_share is None:
            return self.lr
        if not self.is_gentle(progress):
            return _rise_and_fall(self.lr, progress / self.gentle_from, self.warmup_share)
        within = (progress - self.gentle_from) / (1 - self.gentle_from)
        return _rise_and_fall(self.gentle_lr, within, self.warmup_share)


def schedule_of(config: TrainConfig) -> Schedule:
    """Return the schedule of a run. A run by epochs has a whole number of gentle epochs."""
    share = config.gentle_share
    if config.minutes is None:
        share = gentle_epochs(config) / config.epochs
    return Schedule(config.lr, config.lr * config.gentle_lr, 1 - share, config.warmup_share)


def gentle_epochs(config: TrainConfig) -> int:
    """Return the number of gentle epochs at the end of a run by epochs."""
    return math.floor(config.gentle_share * config.epochs + 0.5)


def _rise_and_fall(peak: float, progress: float, warmup_share: float) -> float:
    progress = min(max(progress, 0.0), 1.0)
    if progress < warmup_share:
        return peak * (0.01 + 0.99 * progress / warmup_share)
    falling = (progress - warmup_share) / (1 - warmup_share)
    return peak * (1 + math.cos(math.pi * falling)) / 2
