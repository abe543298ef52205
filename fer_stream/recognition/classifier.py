"""Face crops in one batch through EfficientNet-B0: seven probabilities a face."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fer_stream.errors import WeightsError
from fer_stream.expressions import EXPRESSIONS
from fer_stream.inference.network import Network
from fer_stream.inference.onnx_runtime import OnnxNetwork
from fer_stream.inference.threads import Workers
from fer_stream.recognition.weights import (
    BUILT_IN_WEIGHTS,
    Checkpoint,
    annotation,
    load_checkpoint,
    name_in_errors,
)

MAX_BATCH = 64  # bounds the memory of a frame with a crowd in it
MOST_ON_CPU = 8  # faces at once; by measurement 42 take a tenth longer each


class Classifier:
    """Reads expressions. Not for use by two threads at once.

    Args:
        device: `cpu` or `cuda:N`, as `devices.pick_device` returns it.
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
        checkpoint = load_checkpoint(path)
        self._workers = Workers(threads if device == "cpu" else 1)
        with name_in_errors(path):
            self.labels = annotation(labels, has_ferplus=checkpoint.ferplus is not None)
            self._network = _load_network(
                checkpoint, self.labels, device, threads=self._workers.network_threads
            )
        head = checkpoint.head(self.labels)
        self._temperature = head.temperature
        self.unsure_below = head.unsure_below
        self.input = checkpoint.input

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


def _load_network(checkpoint: Checkpoint, labels: str, device: str, *, threads: int) -> Network:
    """Load a checkpoint's network with the last layer of an annotation, and try it.

    Raises:
        WeightsError: The weights do not fit the network, or it answers with numbers that are not finite.
    """
    network: Network
    if device == "cpu":
        network = OnnxNetwork(
            checkpoint.graph_path,
            checkpoint.network_arrays(labels),
            threads=threads,
            max_batch=MOST_ON_CPU,
        )
    else:
        from fer_stream.inference.torch_cuda import TorchNetwork
        from fer_stream.recognition.torch_model import build_model

        network = TorchNetwork(build_model(checkpoint, labels), device, half=True)
    # Finite weights can give infinite answers, for example with negative variances.
    noise = np.random.default_rng(0).standard_normal((2, 3, 64, 64), np.float32)
    if not np.isfinite(network(noise)[0]).all():
        raise WeightsError("its network gives no finite numbers; train it again, or choose another file")
    return network


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns float32 probabilities over the last axis."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)
