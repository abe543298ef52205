"""Read face crops with EfficientNet-B0: seven probabilities per face, all faces in one batch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np

from fer_stream.errors import WeightsError
from fer_stream.expressions import EXPRESSIONS
from fer_stream.inference.network import Network
from fer_stream.inference.onnx_runtime import OnnxNetwork
from fer_stream.inference.threads import WORKERS, Workers
from fer_stream.recognition.preprocessing import (
    InputSpec,
    face_roll,
    face_square,
    native_crop,
    native_side,
    network_input,
    whole_image,
)
from fer_stream.recognition.weights import (
    BUILT_IN_WEIGHTS,
    Checkpoint,
    annotation,
    load_checkpoint,
    name_in_errors,
)

MAX_BATCH = 64  # bounds the memory of a frame with a crowd in it
MOST_ON_CPU = 8  # faces in a batch; measured, each face takes a tenth longer in a batch of 42
CUDA_SIZES = (8, 32, MAX_BATCH)
HALF_ON_CUDA = True


class Classifier:
    """Reads expressions. Implements `FaceReader`. Not for use by two threads at once.

    Args:
        device: `cpu` or `cuda:N`, as `devices.pick_device` returns it.
        weights: A checkpoint of fer-train; None for the built-in one.
        labels: The annotation to follow, `ferplus` or `fer2013`; None for the default of the weights.
        threads: CPU threads; 0 for one per core.

    Attributes:
        labels: The annotation of the probabilities.
        unsure_below: The threshold of the weights, see `weights.Head`.
        input: The preprocessing that the network expects.
        enough_faces: Number of waiting faces from which a larger batch saves no more time.

    Raises:
        UsageError: There is no such annotation.
        WeightsError: The weights can't be used, or lack the annotation's layer.
    """

    columns: ClassVar[tuple[str, ...]] = EXPRESSIONS

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
        self._on_cpu = device == "cpu"
        self.enough_faces = WORKERS * MOST_ON_CPU if self._on_cpu else MAX_BATCH
        self._workers = Workers(threads if self._on_cpu else 1)
        self.input = checkpoint.input
        with name_in_errors(path):
            self.labels = annotation(labels, has_ferplus=checkpoint.ferplus is not None)
            self._network = _load_network(
                checkpoint, self.labels, device, threads=self._workers.network_threads
            )
            # Finite weights can give infinite results, for example with negative variances.
            noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
            crop = self._crop_square(noise, whole_image(noise), 0.0)
            if not np.isfinite(self._network(np.stack([crop, crop]))[0]).all():
                raise WeightsError(
                    "its network gives numbers that are not finite; train it again, or choose another file"
                )
        head = checkpoint.head(self.labels)
        self._temperature = head.temperature
        self.unsure_below = head.unsure_below

    def crop(self, image_bgr: np.ndarray, box_xyxy: np.ndarray, landmarks_xy: np.ndarray) -> np.ndarray:
        """Cut a face out of a frame. See `FaceReader.crop`.

        Returns:
            On the CPU, the network's input, as `preprocessing.network_input` makes it. For a GPU, the result
            of the first half of that preprocessing, as `preprocessing.native_crop` makes it.
        """
        square = face_square(box_xyxy, self.input.crop_scale)
        return self._crop_square(image_bgr, square, face_roll(landmarks_xy))

    def _crop_square(self, image_bgr: np.ndarray, square_xyxy: np.ndarray, roll: float) -> np.ndarray:
        return (network_input if self._on_cpu else native_crop)(image_bgr, square_xyxy, self.input, roll)

    def read(self, crops: np.ndarray) -> np.ndarray:
        """Read the probabilities of a batch of faces. See `FaceReader.read`.

        Args:
            crops: (N, ...), N crops as `crop` makes them.

        Returns:
            float32 (N, 7), each row summing to 1, in the order of `EXPRESSIONS`.

        Raises:
            WeightsError: The weights are so large that a reading is not a number.
        """
        if not len(crops):
            return np.zeros((0, len(EXPRESSIONS)), np.float32)
        logits: list[np.ndarray] = []
        for start in range(0, len(crops), MAX_BATCH):
            chunk = crops[start : start + MAX_BATCH]
            parts = [chunk[part] for part in self._workers.parts(len(chunk))]
            logits += self._workers.map(lambda part: self._network(part)[0], parts)
        with np.errstate(over="ignore", invalid="ignore"):
            probabilities = softmax(np.concatenate(logits) / self._temperature)
        if not np.isfinite(probabilities).all():
            raise WeightsError("the weights give readings that are not numbers; train them again")
        return probabilities


def _load_network(checkpoint: Checkpoint, labels: str, device: str, *, threads: int) -> Network:
    """Load a checkpoint's network with the last layer of an annotation.

    Raises:
        WeightsError: The weights do not fit the network.
    """
    arrays = checkpoint.network_arrays(labels)
    if device == "cpu":
        return OnnxNetwork(checkpoint.graph_path, arrays, threads=threads, max_batch=MOST_ON_CPU)
    return _load_on_cuda(arrays, checkpoint.input, device)


def _load_on_cuda(arrays: Mapping[str, np.ndarray], spec: InputSpec, device: str) -> Network:
    """Load the network for a GPU, with the second half of the preprocessing, and capture every size."""
    import torch

    from fer_stream.inference.torch_cuda import Lane, TorchNetwork
    from fer_stream.recognition.torch_efficientnet import EfficientNetB0
    from fer_stream.recognition.torch_input import input_from_crops

    lane = Lane(device)
    dtype = torch.float16 if HALF_ON_CUDA and lane.is_cuda else torch.float32
    weights = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    model = EfficientNetB0(weights, lane.device, dtype)
    prepare = input_from_crops(spec, lane.device)
    network = TorchNetwork(lambda crops: model(prepare(crops)), lane, sizes=CUDA_SIZES)
    side = native_side(spec)
    network.warm_up(np.zeros((1, side, side) if spec.grayscale else (1, side, side, 3), np.uint8))
    return network


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return float32 probabilities over the last axis."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)
