"""Face crops in one batch through EfficientNet-B0: seven probabilities a face."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_stream.errors import WeightsError
from fer_stream.expressions import EXPRESSIONS
from fer_stream.inference.network import Network
from fer_stream.inference.onnx_runtime import ModuleSpec, load_network
from fer_stream.inference.threads import WORKERS, Workers
from fer_stream.recognition.preprocessing import InputSpec, native_crop, native_side, network_input
from fer_stream.recognition.weights import BUILT_IN_WEIGHTS, Checkpoint, check_weights_file, load_checkpoint
from fer_stream.system.files import file_hash

if TYPE_CHECKING:
    from torch import nn

MAX_BATCH = 64  # bounds the memory of a frame with a crowd in it
MOST_ON_CPU = 8  # faces at once; by measurement 42 take a tenth longer each
CUDA_SIZES = (8, 32, MAX_BATCH)
HALF_ON_CUDA = True


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
        enough_faces: Once this many faces wait, they are better read now than with those of further frames.

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
            model = checkpoint.build_model(self.labels)
            _check_runs(model, path)
            return model, _stored(checkpoint, self.labels)

        spec = ModuleSpec(
            name="expression",
            key=(file_hash(path), self.labels, importlib.metadata.version("timm")),
            build=build,
            example_shape=(2, 3, 64, 64),
            dynamic_axes=(2, 3),
            most_on_cpu=MOST_ON_CPU,
        )
        self._workers = Workers(threads if device == "cpu" else 1)
        self._network: Network
        if device == "cpu":
            self.enough_faces = WORKERS * MOST_ON_CPU
            self._network, stored = load_network(spec, self._workers.network_threads)
            self.input = InputSpec(**stored["input"])
        else:
            self.enough_faces = MAX_BATCH
            checkpoint = load_checkpoint(path)
            stored = _stored(checkpoint, self.labels)
            self.input = checkpoint.input
            self._network = _on_cuda(checkpoint, self.labels, device, path)
        self._on_cpu = device == "cpu"
        self._temperature = float(stored["temperature"])
        self.unsure_below = float(stored["unsure_below"])

    def crop(self, image_bgr: np.ndarray, square_xyxy: np.ndarray, roll: float) -> np.ndarray:
        """Cut a face out of a frame in the form that `probabilities` takes.

        Args:
            image_bgr: uint8 (H, W, 3).
            square_xyxy: (4,) px, as `preprocessing.face_square` returns it.
            roll: Radians, as `preprocessing.face_roll` returns it.

        Returns:
            On the CPU the network's input, as `preprocessing.network_input` makes it. On a GPU the first half
            of that, as `preprocessing.native_crop` makes it.
        """
        return (network_input if self._on_cpu else native_crop)(image_bgr, square_xyxy, self.input, roll)

    def probabilities(self, batch: np.ndarray) -> np.ndarray:
        """Reads a batch of faces.

        Args:
            batch: (N, ...), N crops as `crop` makes them.

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


def _stored(checkpoint: Checkpoint, labels: str) -> dict[str, Any]:
    """Return what reading with one of the last layers needs besides the network."""
    head = checkpoint.head(labels)
    return {
        "input": dataclasses.asdict(checkpoint.input),
        "temperature": head.temperature,
        "unsure_below": head.unsure_below,
    }


def _on_cuda(checkpoint: Checkpoint, labels: str, device: str, path: Path) -> Network:
    """Load a checkpoint's network for a GPU and record all sizes of batch.

    Raises:
        WeightsError: The weights do not fit the network, or it answers with numbers that are not finite.
    """
    import torch

    from fer_stream.inference.torch_cuda import Lane, TorchNetwork
    from fer_stream.recognition.torch_efficientnet import EfficientNetB0
    from fer_stream.recognition.torch_input import input_from_crops

    lane, spec, head = Lane(device), checkpoint.input, checkpoint.head(labels)
    weights = {**checkpoint.state_dict, "classifier.weight": head.weight, "classifier.bias": head.bias}
    dtype = torch.float16 if HALF_ON_CUDA and lane.is_cuda else torch.float32
    model = EfficientNetB0(weights, lane.device, dtype)
    prepare = input_from_crops(spec, lane.device)
    network = TorchNetwork(lambda crops: model(prepare(crops)), lane, sizes=CUDA_SIZES)
    side = native_side(spec)
    noise = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)
    crops = noise[..., 0] if spec.grayscale else noise
    network.warm_up(crops)
    if not np.isfinite(network(crops)[0]).all():
        raise WeightsError(f"{path} gives no finite numbers; train it again, or choose another file")
    return network


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
