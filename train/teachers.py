"""Distill trained networks (teachers) into the network in training.

Several networks together are right more often than each alone, and their probabilities say more than a
label. In each training step they read the same augmented and mixed pictures as the network in training.

Sources: Hinton et al., Distilling the Knowledge in a Neural Network, 2015. Beyer et al., Knowledge
distillation: A good teacher is patient and consistent, 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from fer_stream.errors import UsageError, WeightsError
from fer_stream.recognition.preprocessing import InputSpec
from fer_stream.recognition.weights import load_checkpoint
from train.architectures import TwoHeaded, two_headed_network
from train.batches import Batch, normalized
from train.votes import VOTE_INDICES

LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, eq=False)
class Answers:
    """The mean answer of some teachers.

    Attributes:
        label: float32 (N, 7), probabilities of FER2013's labels.
        ferplus: float32 (N, 7), probabilities of the FER+ majority; None if no teacher has a FER+ layer.
    """

    label: torch.Tensor
    ferplus: torch.Tensor | None


class Teachers:
    """Trained networks whose answers are averaged.

    Args:
        networks: Each network with the input that it expects.
        spec: The input that the network in training expects.
        device: The device of all networks.
    """

    def __init__(
        self, networks: Sequence[tuple[TwoHeaded, InputSpec]], spec: InputSpec, device: torch.device
    ) -> None:
        self._spec = spec
        self._networks = [
            (
                network.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last),
                expected,
            )
            for network, expected in networks
        ]

    def __len__(self) -> int:
        return len(self._networks)

    @torch.no_grad()
    def answer(self, batch: Batch) -> Answers:
        """Return the mean answer for a batch, which needs its `unnormalized` pictures.

        The logits are not divided by the teachers' temperatures. Without its temperature, a network of the
        strong recipe is underconfident, and such soft answers teach more.
        """
        labels, ferplus = [], []
        for network, expected in self._networks:
            logits, votes = network(self._input(batch, expected))
            labels.append(logits.float().softmax(dim=1))
            if votes is not None:
                ferplus.append(votes.float().softmax(dim=1))
        return Answers(_mean(labels), _mean(ferplus) if ferplus else None)

    def _input(self, batch: Batch, expected: InputSpec) -> torch.Tensor:
        if _sees_the_same(expected, self._spec) or batch.unnormalized is None:
            return batch.images
        pictures = batch.unnormalized
        if expected.grayscale and pictures.shape[1] == len(LUMA):
            luma = [weight * channel for weight, channel in zip(LUMA, pictures.unbind(dim=1), strict=True)]
            pictures = torch.stack(luma).sum(dim=0)[:, None]
        if expected.size != pictures.shape[-1]:
            pictures = nn.functional.interpolate(
                pictures,
                (expected.size, expected.size),
                mode="bilinear",
                align_corners=False,
                antialias=expected.size < pictures.shape[-1],
            )
        return normalized(pictures, expected)


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
        voted = torch.stack([columns[index] for index in VOTE_INDICES]).sum(dim=0)
        for expression, index in enumerate(VOTE_INDICES):
            columns[index] = columns[index].lerp(answers.ferplus[:, expression] * voted, share)
        votes = torch.stack(columns, dim=1)
    return Batch(batch.images, batch.target.lerp(answers.label, share), votes, batch.unnormalized)


def load_teachers(paths: Sequence[Path], spec: InputSpec, device: torch.device) -> Teachers | None:
    """Load the teachers of a run and try each one out. Return None without paths.

    Args:
        paths: Checkpoints of fer-train, of any architecture.
        spec: The input that the network in training expects.
        device: The device to run them on.

    Raises:
        WeightsError: A checkpoint can't be used.
    """
    networks = []
    for path in paths:
        checkpoint = load_checkpoint(path, any_architecture=True)
        try:
            network = two_headed_network(checkpoint)
        except (RuntimeError, UsageError) as error:
            raise WeightsError(
                f"{path}: the weights do not fit {checkpoint.architecture}; choose another teacher"
            ) from error
        teacher = Teachers([(network, checkpoint.input)], spec, device)
        if not teacher.answer(_grey_pictures(spec, device)).label.isfinite().all():
            raise WeightsError(f"{path} gives numbers that are not finite; choose another teacher")
        networks.append((network, checkpoint.input))
    return Teachers(networks, spec, device) if networks else None


def _grey_pictures(spec: InputSpec, device: torch.device) -> Batch:
    pictures = torch.rand(2, 1, spec.size, spec.size, generator=torch.Generator().manual_seed(0)).to(device)
    return Batch(normalized(pictures, spec), torch.zeros(2, 7, device=device), None, pictures)


def _sees_the_same(first: InputSpec, second: InputSpec) -> bool:
    def key(spec: InputSpec) -> tuple:
        return spec.size, spec.mean, spec.std, spec.grayscale, spec.standardize

    return key(first) == key(second)


def _mean(answers: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack(answers).mean(dim=0)
