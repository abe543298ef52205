"""Make the distributions that a network learns for the training pictures."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from train.config import TrainConfig
from train.data import one_hot
from train.votes import expected_labels


@dataclass(frozen=True, eq=False)
class Targets:
    """The distributions that a network learns for the training pictures.

    Attributes:
        label: float32 (N, 7), FER2013's label mixed with the distribution that the votes predict.
        gentle_label: float32 (N, 7), the same in the gentle part of a run.
        votes: float32 (N, 10) from `votes.read_votes`, or None.
    """

    label: torch.Tensor
    gentle_label: torch.Tensor
    votes: torch.Tensor | None

    def to(self, device: torch.device) -> Targets:
        """Return a copy on a device."""
        votes = None if self.votes is None else self.votes.to(device)
        return Targets(self.label.to(device), self.gentle_label.to(device), votes)


def targets_of(labels: torch.Tensor, votes: torch.Tensor | None, config: TrainConfig) -> Targets:
    """Return the targets of the training pictures, without the teachers' answers.

    Args:
        labels: int64 (N,).
        votes: float32 (N, 10) from `votes.read_votes`, or None.
        config: The settings: the votes' share in the label, and whether there is a FER+ layer.
    """
    label = one_hot(labels)
    if votes is None:
        return Targets(label, label, None)
    expected = expected_labels(votes, labels)
    return Targets(
        label=label.lerp(expected, config.expected_share),
        gentle_label=label.lerp(expected, config.gentle_expected_share),
        votes=votes if config.votes_weight else None,
    )
