"""Run networks in PyTorch on a GPU: batches of a few fixed sizes, each captured once as a CUDA graph.

The first run of a new shape is slow, because cuDNN chooses its algorithms again. A small batch spends most of
its time on kernel launches. So each batch is padded to the next of a few sizes, and each size is captured as
a CUDA graph, which takes a single launch to replay.

Everything here also runs on CPU tensors (`cpu:0`), without graphs. The tests use that.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

    TensorFunction = Callable[[torch.Tensor], torch.Tensor]

# CUDA graphs are captured one at a time, because threads that capture at the same time disturb each other.
_CAPTURE_LOCK = threading.Lock()
RUNS_TIMED = 10  # runs between two readings of the clock


class Lane:
    """A CUDA stream for one thread at a time. Two threads with a lane each can use the device at once.

    Args:
        device: `cuda:N`, or a name of the CPU in torch, such as `cpu:0`.

    Attributes:
        device: The same as a `torch.device`.
    """

    def __init__(self, device: str) -> None:
        import torch

        self.device = torch.device(device)
        self.is_cuda = self.device.type == "cuda"
        if self.is_cuda:
            # TF32 would change boxes by a pixel and decisions at thresholds; the CPU has no such mode.
            torch.backends.cuda.matmul.allow_tf32 = False
            torch.backends.cudnn.allow_tf32 = False
            self.stream = torch.cuda.Stream(self.device)
            self.pool = torch.cuda.graph_pool_handle()

    def host_buffer(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """Return zeros in host memory that the device can copy from and to directly."""
        import torch

        return torch.zeros(tuple(shape), dtype=dtype, pin_memory=self.is_cuda)

    def active(self) -> contextlib.AbstractContextManager[object]:
        """Return a context in which work goes to this lane."""
        import torch

        return torch.cuda.stream(self.stream) if self.is_cuda else contextlib.nullcontext()

    def wait(self) -> None:
        """Wait until the device has finished all work in this lane."""
        if self.is_cuda:
            self.stream.synchronize()


class CapturedFunction:
    """A function of one tensor of fixed shape, from host memory to host memory.

    The first call runs the function eagerly. The second call captures it as a CUDA graph, which
    every later call replays. So a shape that occurs only once, as with pictures, is not captured.

    Args:
        function: Takes a tensor on the device and returns one, whose shape must not depend on values.
        lane: The lane that it runs in.
        shape: Shape of the input.
        dtype: Type of the input.

    Attributes:
        host_input: An array for the input, to be filled before each call.
    """

    def __init__(
        self, function: TensorFunction, lane: Lane, shape: Sequence[int], dtype: torch.dtype
    ) -> None:
        import torch

        self._torch, self._function, self._lane = torch, function, lane
        self._host = lane.host_buffer(shape, dtype)
        self._input = self._host.to(lane.device) if lane.is_cuda else self._host
        self.host_input: np.ndarray = self._host.numpy()
        self._graph: Any = None
        self._output: torch.Tensor | None = None
        self._host_output: torch.Tensor | None = None

    def __call__(self) -> np.ndarray:
        """Run the function on `host_input`. The next call overwrites the array that this one returns."""
        torch = self._torch
        if not self._lane.is_cuda:
            with torch.inference_mode():
                return self._launch().numpy()
        with torch.inference_mode(), self._lane.active():
            self._input.copy_(self._host, non_blocking=True)
            output = self._launch()
            if self._host_output is None:
                self._host_output = self._lane.host_buffer(output.shape, output.dtype)
            self._host_output.copy_(output, non_blocking=True)
            self._lane.wait()
        return self._host_output.numpy()

    def seconds_on_device(self, limit_s: float) -> float:
        """Return the mean time of a run on the device, without copies, repeated for about `limit_s`."""
        torch = self._torch
        self._lane.wait()
        began_s, runs = time.perf_counter(), 0
        with torch.inference_mode(), self._lane.active():
            while time.perf_counter() - began_s < limit_s:
                for _ in range(RUNS_TIMED):
                    self._launch()
                self._lane.wait()
                runs += RUNS_TIMED
        return (time.perf_counter() - began_s) / runs

    def _launch(self) -> torch.Tensor:
        """Start the function on the device, from the second run on as a graph, and return its output."""
        if self._graph is not None:
            self._graph.replay()
        elif self._output is None or not self._lane.is_cuda:
            self._output = self._function(self._input)
        else:
            self._capture().replay()
        assert self._output is not None
        return self._output

    def _capture(self) -> Any:
        # Another thread may have made the first run, and libraries must not be set up while a graph is
        # captured: cuDNN has a handle for each thread.
        self._function(self._input)
        graph = self._torch.cuda.CUDAGraph()
        with (
            _CAPTURE_LOCK,
            self._torch.cuda.graph(
                graph, pool=self._lane.pool, stream=self._lane.stream, capture_error_mode="thread_local"
            ),
        ):
            self._output = self._function(self._input)
        self._graph = graph
        return graph


class BatchFunction:
    """A function of a batch whose size varies: padded with zeros to the next of a few sizes.

    Args:
        function: Takes a tensor (N, ...) on the device and returns float32 (N, K).
        lane: The lane that it runs in.
        sizes: The sizes, in ascending order. A larger batch is split into parts of the last size.
    """

    def __init__(self, function: TensorFunction, lane: Lane, sizes: Sequence[int]) -> None:
        self._function, self._lane, self._sizes = function, lane, tuple(sizes)
        self._captured: dict[tuple[int, ...], CapturedFunction] = {}

    def warm_up(self, row_shape: Sequence[int], dtype: torch.dtype) -> None:
        """Capture every size. This takes seconds on a GPU and would otherwise delay the first frames."""
        if self._lane.is_cuda:
            for size in self._sizes:
                captured = self.of_shape((size, *row_shape), dtype)
                captured()
                captured()

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """Run the function on a batch (N, ...) of at least one row, and return (N, K)."""
        dtype, largest = torch_dtype(batch), self._sizes[-1]
        outputs = []
        for start in range(0, len(batch), largest):
            part = batch[start : start + largest]
            size = next(size for size in self._sizes if size >= len(part))
            captured = self.of_shape((size, *batch.shape[1:]), dtype)
            captured.host_input[: len(part)] = part
            captured.host_input[len(part) :] = 0
            outputs.append(captured()[: len(part)].copy())
        return np.concatenate(outputs)

    def of_shape(self, shape: tuple[int, ...], dtype: torch.dtype) -> CapturedFunction:
        """Return the captured function for batches of exactly this shape, (N, ...)."""
        if shape not in self._captured:
            self._captured[shape] = CapturedFunction(self._function, self._lane, shape, dtype)
        return self._captured[shape]


class TorchNetwork:
    """A network in PyTorch, from a batch (N, ...) to float32 (N, K).

    Args:
        network: The network as a function of a batch on the device.
        lane: The lane that it runs in.
        sizes: See `BatchFunction`.
    """

    def __init__(self, network: TensorFunction, lane: Lane, *, sizes: Sequence[int]) -> None:
        self._run = BatchFunction(network, lane, sizes)

    def warm_up(self, example: np.ndarray) -> None:
        """Capture every size, for batches whose rows have the shape and type of the example's, (N, ...)."""
        self._run.warm_up(example.shape[1:], torch_dtype(example))

    def __call__(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run the network on a batch (N, ...)."""
        return (self._run(batch),)

    def seconds_on_device(self, batch: np.ndarray, limit_s: float) -> float:
        """Return the mean time on the device, without copies, of a batch of exactly one of the sizes."""
        self(batch)
        return self._run.of_shape(batch.shape, torch_dtype(batch)).seconds_on_device(limit_s)


def torch_dtype(array: np.ndarray) -> torch.dtype:
    """Return the torch dtype that matches an array's."""
    import torch

    return torch.from_numpy(array[:0]).dtype
