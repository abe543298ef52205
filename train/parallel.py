"""Train one network in several processes: `torchrun --nproc-per-node N -m train ...`.

Each process takes its share of every batch, the gradients are averaged, and the first process writes
the files. Without torchrun there is only one process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import distributed, nn

from fer_stream.errors import FerStreamError, UsageError


@dataclass(frozen=True)
class Processes:
    """The processes of a run.

    The methods are collective: every process must call them in the same order.

    Attributes:
        rank: Number of this process, from 0.
        count: Number of processes.
    """

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """True in the process that writes files and prints."""
        return self.rank == 0

    def share_result(self, work: Callable[[], Any]) -> Any:
        """Do some work in the first process. Return its result, or raise its error, in every process.

        Args:
            work: Called in the first process only.
        """
        if self.count == 1:
            return work()
        box: list[Any] = [None]
        if self.is_first:
            try:
                box = [work()]
            except FerStreamError as error:  # send it, because the other processes wait for a result
                box = [error]
        distributed.broadcast_object_list(box, src=0)
        if isinstance(box[0], FerStreamError):
            raise box[0]
        return box[0]

    def in_order(self, part: np.ndarray) -> np.ndarray:
        """Join the parts of all processes. Each part holds every `count`-th row, starting at its rank."""
        if self.count == 1:
            return part
        parts: list[Any] = [None] * self.count
        distributed.all_gather_object(parts, part)
        whole = np.empty((sum(map(len, parts)), *part.shape[1:]), part.dtype)
        for rank, rows in enumerate(parts):
            whole[rank :: self.count] = rows
        return whole

    def sum(self, values: list[float]) -> list[float]:
        """Return the sum of each value over the processes."""
        return np.sum(self.in_order(np.array([values])), axis=0).tolist()

    def from_first(self, value: float) -> float:
        """Return the first process's value in every process."""
        if self.count == 1:
            return value
        box = torch.tensor([value], dtype=torch.float64)
        if distributed.get_backend() == "nccl":
            box = box.cuda()
        distributed.broadcast(box, src=0)
        return float(box[0])

    def average_buffers(self, model: nn.Module) -> None:
        """Average the running statistics over the processes, because each saw only its share of the data."""
        if self.count == 1:
            return
        for buffer in model.buffers():
            if buffer.is_floating_point():
                distributed.all_reduce(buffer)
                buffer /= self.count


@contextmanager
def joined_processes(device: torch.device) -> Iterator[Processes]:
    """Connect the processes that torchrun started. Without torchrun there is only one.

    Args:
        device: The device of this process, as `local_device` returns it.
    """
    count = _number("WORLD_SIZE", 1, 1, 1_000_000)
    if count == 1 or "RANK" not in os.environ:  # a batch system may set only one of the two
        yield Processes()
        return
    _number("RANK", 0, 0, count - 1)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # NCCL sends objects through it
    try:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    except (ValueError, RuntimeError) as error:
        why = str(error).partition("\n")[0]
        raise UsageError(f"can't join the other processes ({why}); start with torchrun") from error
    try:
        yield Processes(rank=distributed.get_rank(), count=count)
    finally:
        distributed.destroy_process_group()


def _number(variable: str, default: int, lowest: int, highest: int) -> int:
    """Return the number in one of torchrun's environment variables."""
    said = os.environ.get(variable, str(default))
    if not said.isdecimal() or len(said) > 7 or not lowest <= int(said) <= highest:
        raise UsageError(
            f"{variable}={said[:20]} is not a number from {lowest} to {highest}; "
            "unset it, or start with torchrun"
        )
    return int(said)


def pick_device(name: str) -> torch.device:
    """Return the device that `auto`, `cpu`, `cuda` or `cuda:N` means.

    Raises:
        UsageError: No such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"no device {name!r}; use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"no CUDA device {name}; PyTorch sees {torch.cuda.device_count()}; use --device cpu")
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"no device {name!r}; use auto, cpu, cuda or cuda:N")
    return device


def local_device(device: torch.device) -> torch.device:
    """Return the device of this process. With `cuda` and several processes, each gets its own GPU."""
    if device.type == "cuda" and device.index is None and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return device
