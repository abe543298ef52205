"""Face crops in one batch through EfficientNet-B0: seven probabilities a face."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_stream.errors import WeightsError
from fer_stream.expressions import EXPRESSIONS
from fer_stream.inference.runtime import ModuleSpec, load_network
from fer_stream.inference.threads import Workers
from fer_stream.recognition.preprocessing import InputSpec
from fer_stream.recognition.weights import BUILT_IN_WEIGHTS, check_weights_file, load_checkpoint
from fer_stream.system.files import file_hash

if TYPE_CHECKING:
    from torch import nn

MAX_BATCH = 64  # bounds the memory of a frame with a crowd in it
MOST_ON_CPU = 8  # faces at once; by measurement 42 take a tenth longer each


class Classifier:
    """Reads expressions. Not for use by two threads at once.

    Args:
        device: `cpu` or `cuda:N`, as `runtime.pick_device` returns it.
        weights: A checkpoint of fer-train; the built-in one where None.
        labels: The annotation to follow, `ferplus` or `fer2013`; the weights' default where None.
        threads: CPU threads; 0 takes one a core.

    Attributes:
        labels: The annotation that is followed.
        unsure_below: The weights' threshold for it, see `weights.Head`.
        input: The preprocessing that the network expects.

    Raises:
        UsageError: There is no such annotation.
        WeightsError: The weights can't be used, or lack the annotation's layer.
    """

    def __init__(
        self,
        device: str = "cpu",
        *,
        weights: Path | None = None,
        labels: str | None = None,
        threads: int = 0,
    ) -> None:
        path = weights or BUILT_IN_WEIGHTS
        self.labels = check_weights_file(path, labels)

        def build() -> tuple[nn.Module, dict[str, Any]]:
            checkpoint = load_checkpoint(path)
            head = checkpoint.head(self.labels)
            stored = {
                "input": dataclasses.asdict(checkpoint.input),
                "temperature": head.temperature,
                "unsure_below": head.unsure_below,
            }
            model = checkpoint.build_model(self.labels)
            _check_runs(model, path)
            return model, stored

        spec = ModuleSpec(
            name="expression",
            key=(file_hash(path), self.labels, importlib.metadata.version("timm")),
            build=build,
            example_shape=(2, 3, 64, 64),
            dynamic_axes=(2, 3),
            most_on_cpu=MOST_ON_CPU,
        )
        self._workers = Workers(threads if device == "cpu" else 1)
        self._network, stored = load_network(spec, device, self._workers.network_threads)
        self._temperature = float(stored["temperature"])
        self.unsure_below = float(stored["unsure_below"])
        self.input = InputSpec(**stored["input"])

    def probabilities(self, batch: np.ndarray) -> np.ndarray:
        """Reads a batch of faces.

        Args:
            batch: float32 (N, 3, size, size), as `preprocessing.network_input` makes it.

        Returns:
            float32 (N, 7), each row summing to 1, in the order of `EXPRESSIONS`.
        """
        if not len(batch):
            return np.zeros((0, len(EXPRESSIONS)), np.float32)
        logits: list[np.ndarray] = []
        for start in range(0, len(batch), MAX_BATCH):
            some = batch[start : start + MAX_BATCH]
            parts = [some[part] for part in self._workers.parts(len(some))]
            logits += self._workers.map(lambda part: self._network(part)[0], parts)
        return softmax(np.concatenate(logits) / self._temperature)


def _check_runs(model: nn.Module, path: Path) -> None:
    """Refuses weights that are numbers, but whose network gives none, such as of negative variances."""
    import torch

    noise = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        if not bool(torch.isfinite(model(noise)).all()):
            raise WeightsError(f"{path} gives no finite numbers; train it again, or choose another file")


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns float32 probabilities over the last axis."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)
