"""The training steps of an epoch: made from pictures (baseline) or from tensors on the device (strong)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch

from train.augmentation import mixing_shares
from train.batches import Batch, PlainBatches, ShuffledShares, StrongBatches, packed_pixels
from train.config import TrainConfig
from train.parallel import Processes
from train.setup import Setup
from train.targets import targets_of
from train.updater import CapturedStep, Updater

# Trains on one batch. It is told whether the step belongs to the gentle part of the run.
Step = Callable[[bool], None]


class PlainSteps:
    """The steps of the baseline, which has no gentle part.

    Args:
        batches: The batches of an epoch.
        updater: Updates the network.
        device: The training device.
    """

    def __init__(self, batches: PlainBatches, updater: Updater, device: torch.device) -> None:
        self._batches, self._updater, self._device = batches, updater, device

    def __iter__(self) -> Iterator[Step]:
        for batch in self._batches:
            yield partial(self._step, batch)

    def _step(self, batch: Batch, _gentle: bool) -> None:
        images = batch.images.to(self._device, memory_format=torch.channels_last, non_blocking=True)
        target = batch.target.to(self._device, non_blocking=True)
        self._updater.update(Batch(images, target), gentle=False)


class StrongSteps:
    """The steps of the strong recipe. On a GPU that can, they are captured once and replayed.

    Args:
        batches: Makes the batches.
        shares: Draws the order of an epoch.
        updater: Updates the network.
        optimizer: The updater's optimizer.
        config: The settings of the run.
        device: The training device.
        processes: The processes of the run.
    """

    def __init__(
        self,
        batches: StrongBatches,
        shares: ShuffledShares,
        updater: Updater,
        optimizer: torch.optim.Optimizer,
        config: TrainConfig,
        device: torch.device,
        processes: Processes,
    ) -> None:
        self._batches, self._shares, self._updater, self._optimizer = batches, shares, updater, optimizer
        self._config, self._device, self._processes = config, device, processes
        self._work: Callable[[torch.Tensor, torch.Tensor], None] | None = None
        self._work_is_gentle = False

    def __iter__(self) -> Iterator[Step]:
        size, processes = self._config.batch_size, self._processes
        order = self._shares.order().to(self._device)
        mixing = mixing_shares(len(self._shares), self._config.mixup_alpha).to(self._device)
        for number in range(len(self._shares)):
            indices = order[number * size : (number + 1) * size][processes.rank :: processes.count]
            yield partial(self._step, indices, mixing[number])

    def _step(self, indices: torch.Tensor, share: torch.Tensor, gentle: bool) -> None:
        if self._work is None or self._work_is_gentle != gentle:
            # Each part of a run has its own work. The other one's graph is dropped.
            self._work, self._work_is_gentle = self._make_work(gentle), gentle
        self._work(indices, share)

    def _make_work(self, gentle: bool) -> Callable[[torch.Tensor, torch.Tensor], None]:
        """Return a function that trains on the pictures with these indices, mixed in this proportion."""
        batches, updater = self._batches, self._updater

        def work(indices: torch.Tensor, share: torch.Tensor) -> None:
            updater.update(batches.make(indices, share, gentle=gentle), gentle=gentle)

        if updater.half_dtype is torch.bfloat16 and self._processes.count == 1:
            return CapturedStep(work, self._optimizer, self._config.batch_size, self._device)
        return work


def make_steps(
    setup: Setup, shares: ShuffledShares, updater: Updater, device: torch.device, processes: Processes
) -> PlainSteps | StrongSteps:
    """Return the steps of a run. Each iteration over them is one epoch."""
    config, pictures = setup.config, setup.splits.training
    if not config.strong_augmentation:
        on_gpu = device.type == "cuda"
        return PlainSteps(
            PlainBatches(pictures, setup.spec, config, shares, pin_memory=on_gpu), updater, device
        )
    targets = targets_of(torch.tensor(pictures.targets), setup.splits.votes, config)
    pixels = packed_pixels(pictures, setup.spec)
    batches = StrongBatches(pixels, targets, setup.spec, config.rotation_degrees, device)
    return StrongSteps(batches, shares, updater, setup.optimizer, config, device, processes)
