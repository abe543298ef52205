"""Update a network: forward, loss, backward, step. On a GPU this is captured once and replayed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from train.acceleration import half_precision
from train.average import MovingAverage
from train.batches import Batch
from train.config import TrainConfig
from train.teachers import Teachers, taught

EAGER_STEPS = 3  # before the capture, for libraries to pick algorithms and the optimizer to make its state


@dataclass(frozen=True)
class TrainingTotals:
    """Loss, hits and pictures, summed over training steps.

    Attributes:
        loss_sum: Sum of the pictures' losses.
        hits: Number of pictures for which the network's top class is the target's top class.
        count: Number of pictures.
    """

    loss_sum: float = 0.0
    hits: int = 0
    count: int = 0

    @property
    def loss(self) -> float:
        """Mean loss per picture."""
        return self.loss_sum / max(self.count, 1)

    @property
    def accuracy(self) -> float:
        """Share of the pictures for which the network's top class is the target's top class."""
        return self.hits / max(self.count, 1)

    def __add__(self, other: TrainingTotals) -> TrainingTotals:
        return TrainingTotals(
            self.loss_sum + other.loss_sum, self.hits + other.hits, self.count + other.count
        )


class Updater:
    """Updates a network, one batch at a time.

    Args:
        network: The network as `as_trained` returns it.
        parameters: The parameters that are trained.
        optimizer: The optimizer of these parameters.
        average: The moving average of the network, or None.
        teachers: The teachers, or None.
        config: The settings of the run.
        device: The network's device.
    """

    def __init__(
        self,
        network: nn.Module,
        parameters: list[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        average: MovingAverage | None,
        teachers: Teachers | None,
        config: TrainConfig,
        device: torch.device,
    ) -> None:
        self._network, self._parameters, self._optimizer = network, parameters, optimizer
        self._average, self._teachers, self._config = average, teachers, config
        self._device = device
        self.half_dtype = half_precision(device)
        self._scaler = torch.amp.GradScaler(device.type, enabled=self.half_dtype is torch.float16)
        self._sums = torch.zeros(3, device=device)

    def set_step(self, step: int, lr: float) -> None:
        """Set the learning rate and the average's decay, which change from step to step."""
        for group in self._optimizer.param_groups:
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr
        if self._average is not None:
            self._average.set_step(step)

    def update(self, batch: Batch, *, gentle: bool) -> None:
        """Learn from one batch."""
        half = self.half_dtype
        with torch.autocast(self._device.type, dtype=half or torch.bfloat16, enabled=half is not None):
            if self._teachers is not None:
                config = self._config
                share = config.gentle_teacher_share if gentle else config.teacher_share
                batch = taught(batch, self._teachers.answer(batch), share)
            outputs = self._network(batch.images)
            loss = loss_of(outputs, batch, self._config.votes_weight)
        self._optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()
        if self._config.clip_norm:
            self._scaler.unscale_(self._optimizer)
            torch.nn.utils.clip_grad_norm_(self._parameters, self._config.clip_norm)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        if self._average is not None:
            self._average.update()
        with torch.no_grad():
            hits = (outputs[0].argmax(dim=1) == batch.target.argmax(dim=1)).sum().float()
            count = torch.full_like(hits, len(batch.images))
            self._sums += torch.stack([loss.detach() * count, hits, count])

    def begin(self) -> None:
        """Reset the totals."""
        self._sums.zero_()

    def totals(self) -> TrainingTotals:
        """Wait for the device, and return the totals since `begin`."""
        loss_sum, hits, count = self._sums.tolist()
        return TrainingTotals(loss_sum, round(hits), round(count))


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


class CapturedStep:
    """A step captured as a CUDA graph, so that its thousands of kernels start in one call.

    The first calls run eagerly. See "CUDA Graphs" in PyTorch's notes on CUDA semantics.

    Args:
        work: Takes indices and the mixing share on the device. It must not copy anything back to the host.
        optimizer: The optimizer, whose gradients are freed before the capture.
        batch_size: Length of the indices.
        device: A CUDA device.
    """

    def __init__(
        self,
        work: Callable[[torch.Tensor, torch.Tensor], None],
        optimizer: torch.optim.Optimizer,
        batch_size: int,
        device: torch.device,
    ) -> None:
        self._work, self._optimizer = work, optimizer
        self._indices = torch.zeros(batch_size, dtype=torch.int64, device=device)
        self._share = torch.zeros((), device=device)
        self._stream = torch.cuda.Stream(device)
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, indices: torch.Tensor, share: torch.Tensor) -> None:
        """Run the step."""
        self._indices.copy_(indices)
        self._share.copy_(share)
        if self._graph is None and self._calls < EAGER_STEPS:
            self._calls += 1
            current = torch.cuda.current_stream()
            self._stream.wait_stream(current)
            with torch.cuda.stream(self._stream):
                self._work(self._indices, self._share)
            current.wait_stream(self._stream)
            return
        if self._graph is None:
            self._optimizer.zero_grad(set_to_none=True)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):  # captures the work without running it
                self._work(self._indices, self._share)
            self._graph = graph
        self._graph.replay()
