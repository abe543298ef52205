"""Run a training step: forward, loss, backward, update. On a GPU it is captured once and replayed."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from train.architectures import TwoHeaded
from train.average import MovingAverage
from train.batches import Batch
from train.config import TrainConfig
from train.parallel import Processes
from train.reporter import Reporter
from train.targets import loss_of, taught
from train.teachers import Teachers

COMPILE_PAYS_STEPS, COMPILE_PAYS_MINUTES = 2000, 20  # compiling takes a minute
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


def half_precision(device: torch.device) -> torch.dtype | None:
    """Return the 16-bit type for a step's arithmetic; None for a CPU, which uses 32 bits."""
    if device.type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16


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


def as_trained(
    network: TwoHeaded,
    config: TrainConfig,
    steps: int,
    device: torch.device,
    processes: Processes,
    reporter: Reporter,
) -> nn.Module:
    """Return the network for the steps to call: compiled, or connected with the other processes."""
    if processes.count > 1:
        ids = [device.index] if device.type == "cuda" else None
        with warnings.catch_warnings():
            # torch 2.15 renamed broadcast_buffers, and older versions don't know the new name.
            warnings.simplefilter("ignore", FutureWarning)
            # The running statistics are averaged at each validation instead of copied in every step.
            return DistributedDataParallel(
                network, device_ids=ids, broadcast_buffers=False, gradient_as_bucket_view=True
            )
    # Use the length of the whole run, so that a resumed run computes the same as an unbroken one.
    pays = config.epochs * steps > COMPILE_PAYS_STEPS
    if config.minutes is not None:
        pays = config.minutes > COMPILE_PAYS_MINUTES
    if not pays or device.type != "cpu":
        return network
    reporter.note("the network is compiled in the first step, which takes a minute or more")
    return _CompiledForWholeBatches(network, config.batch_size)


class _CompiledForWholeBatches(nn.Module):
    """A compiled network, about a fifth faster on a CPU, or the plain network if compilation fails.

    It is compiled for one batch size. A smaller last batch goes through the plain network.
    """

    def __init__(self, network: nn.Module, batch_size: int) -> None:
        super().__init__()
        # torch.compile warns that there is no GPU. On a CPU that is expected.
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        torch._dynamo.config.suppress_errors = True  # without a C++ compiler, run the plain network
        self._network, self._batch_size = network, batch_size
        self._compiled: Any = torch.compile(network, dynamic=False)

    def forward(self, images: torch.Tensor) -> Any:
        """Return the network's output."""
        whole = len(images) == self._batch_size
        return (self._compiled if whole else self._network)(images)
