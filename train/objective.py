"""What a training step computes: the network with its one or two last layers, and the loss."""

from __future__ import annotations

import torch
from timm.models.efficientnet import EfficientNet
from torch import nn

from train.augmentation import mix_up
from train.config import TrainConfig
from train.data import Batch, one_hot
from train.votes import VOTED


class TrainedNetwork(nn.Module):
    """An EfficientNet-B0, with a second last layer for the votes while it is trained.

    FER2013's single labels hide a lot of doubt; the ten FER+ votes of a picture show it. Learning both
    from the same features keeps the first layer to FER2013's labels.

    Args:
        body: timm's EfficientNet-B0 with its layer for the seven expressions.
        with_votes: Whether there is a second layer.
    """

    def __init__(self, body: EfficientNet, with_votes: bool) -> None:
        super().__init__()
        self.body = body
        self.votes_layer = nn.Linear(body.num_features, len(VOTED)) if with_votes else None

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Returns logits (N, 7), and (N, 10) of the votes or None, of images (N, 3, size, size)."""
        features = self.body.forward_head(self.body.forward_features(images), pre_logits=True)
        votes = None if self.votes_layer is None else self.votes_layer(features)
        return self.body.classifier(features), votes


class Objective:
    """Turns a batch into what the network is shown and what its answer is measured by.

    Args:
        config: The run.
    """

    def __init__(self, config: TrainConfig) -> None:
        self._config = config

    def prepare(
        self, batch: Batch, device: torch.device, *, mixed: bool
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Prepares a batch.

        Args:
            batch: As the folder's batches give it.
            device: Where the network is.
            mixed: Whether pictures may be mixed.

        Returns:
            Images, and the targets as distributions: (N, 7), and (N, 10) where there are votes.
        """
        images = batch.images.to(device, memory_format=torch.channels_last, non_blocking=True)
        targets = [batch.target.to(device, non_blocking=True)]
        if batch.votes is not None:
            targets.append(batch.votes.to(device, non_blocking=True))
        if mixed and self._config.mixup_alpha:
            images, targets = mix_up(images, targets, self._config.mixup_alpha)
        return images, targets

    def loss(
        self, outputs: tuple[torch.Tensor, torch.Tensor | None], targets: list[torch.Tensor]
    ) -> torch.Tensor:
        """Returns the mean cross-entropy of the expressions, with that of the votes by its weight.

        A picture without votes, whose distribution is 0 everywhere, adds nothing to the second.
        """
        logits, votes = outputs
        loss = nn.functional.cross_entropy(logits, targets[0])
        if votes is not None:
            loss = loss + self._config.votes_weight * nn.functional.cross_entropy(votes, targets[1])
        return loss


def mixed_target(
    labels: torch.Tensor, expected: torch.Tensor | None, answers: torch.Tensor | None, config: TrainConfig
) -> torch.Tensor:
    """Returns what the network is to answer for each picture: its label, mixed with what else is known.

    Args:
        labels: int64 (N,).
        expected: float32 (N, 7) of `votes.expected_labels`, or None.
        answers: float32 (N, 7) of `teachers.mean_answers`, or None.
        config: Says the shares.

    Returns:
        float32 (N, 7), rows that add up to 1.
    """
    target = one_hot(labels)
    if expected is not None:
        target = (1 - config.expected_share) * target + config.expected_share * expected
    if answers is not None:
        target = (1 - config.teacher_share) * target + config.teacher_share * answers
    return target
