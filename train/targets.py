"""The distributions that a network learns, and the loss that compares its answer with them."""

from __future__ import annotations

import torch
from torch import nn

from train.batches import Batch, Targets
from train.config import TrainConfig
from train.data import one_hot
from train.teachers import Answers
from train.votes import VOTED_ROWS, expected_labels


def targets_of(labels: torch.Tensor, votes: torch.Tensor | None, config: TrainConfig) -> Targets:
    """Return the targets of the training pictures before any teacher answers.

    Args:
        labels: int64 (N,).
        votes: float32 (N, 10) of `votes.read_votes`, or None.
        config: Says how far the votes correct the label, and whether they are learned themselves.
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


def taught(batch: Batch, answers: Answers, share: float) -> Batch:
    """Return a batch whose targets contain the teachers' answers.

    Teachers know seven expressions. The FER+ votes for contempt, unknown and no face keep their share;
    the teachers' answer takes its share of the rest.

    Args:
        batch: A batch, mixed or not.
        answers: What the teachers say about the same pictures.
        share: Share of the answers in both targets.
    """
    votes = batch.votes
    if votes is not None and answers.ferplus is not None:
        # Column by column: an index from the CPU would wait for the GPU.
        columns = list(votes.unbind(dim=1))
        voted = torch.stack([columns[row] for row in VOTED_ROWS]).sum(dim=0)
        for expression, row in enumerate(VOTED_ROWS):
            columns[row] = columns[row].lerp(answers.ferplus[:, expression] * voted, share)
        votes = torch.stack(columns, dim=1)
    return Batch(batch.images, batch.target.lerp(answers.label, share), votes, batch.pictures)


def loss_of(
    outputs: tuple[torch.Tensor, torch.Tensor | None], batch: Batch, votes_weight: float
) -> torch.Tensor:
    """Return the mean cross-entropy of the FER2013 layer, plus that of the FER+ layer by its weight.

    A picture without votes, whose distribution is 0 everywhere, adds nothing to the second.
    """
    logits, votes = outputs
    loss = nn.functional.cross_entropy(logits.float(), batch.target)
    if votes is not None and batch.votes is not None:
        loss = loss + votes_weight * nn.functional.cross_entropy(votes.float(), batch.votes)
    return loss
