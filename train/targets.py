"""Make the distributions that a network learns, and compute the loss of its answers against them."""

from __future__ import annotations

import torch
from torch import nn

from train.batches import Batch, Targets
from train.config import TrainConfig
from train.data import one_hot
from train.teachers import Answers
from train.votes import VOTED_ROWS, expected_labels


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


def taught(batch: Batch, answers: Answers, share: float) -> Batch:
    """Return a batch with the teachers' answers mixed into its targets.

    Teachers know seven expressions only. So the FER+ votes for contempt, unknown and no face stay as they
    are, and the answers are mixed into the rest.

    Args:
        batch: A batch, mixed or not.
        answers: The teachers' answers for the same pictures.
        share: Share of the answers in both targets.
    """
    votes = batch.votes
    if votes is not None and answers.ferplus is not None:
        # Column by column, because an index from the CPU would wait for the GPU.
        columns = list(votes.unbind(dim=1))
        voted = torch.stack([columns[row] for row in VOTED_ROWS]).sum(dim=0)
        for expression, row in enumerate(VOTED_ROWS):
            columns[row] = columns[row].lerp(answers.ferplus[:, expression] * voted, share)
        votes = torch.stack(columns, dim=1)
    return Batch(batch.images, batch.target.lerp(answers.label, share), votes, batch.pictures)


def loss_of(
    outputs: tuple[torch.Tensor, torch.Tensor | None], batch: Batch, votes_weight: float
) -> torch.Tensor:
    """Return the mean cross-entropy of the FER2013 layer, plus the weighted one of the FER+ layer.

    A picture without votes has 0 everywhere in its distribution, so it adds nothing to the second term.
    """
    logits, votes = outputs
    loss = nn.functional.cross_entropy(logits.float(), batch.target)
    if votes is not None and batch.votes is not None:
        loss = loss + votes_weight * nn.functional.cross_entropy(votes.float(), batch.votes)
    return loss
