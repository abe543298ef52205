"""Save, load and check weights files (`best-weights.pt`), and find the built-in weights.

Weights may come from strangers. `torch_files.py` reads them in a way that can neither run code nor allocate
unlimited memory, and every field is checked before it is used.

Loading needs no PyTorch; saving does.
"""

from __future__ import annotations

import json
import math
import os
import re
import reprlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_stream.errors import OutputError, UsageError, WeightsError
from fer_stream.expressions import ANNOTATIONS, EXPRESSIONS, FER2013, FERPLUS
from fer_stream.inference.onnx_runtime import DATA
from fer_stream.recognition.checkpoint_fields import CheckpointFields, wrong_field
from fer_stream.recognition.preprocessing import InputSpec
from fer_stream.recognition.torch_files import NotATorchFileError, UnsafeTorchFileError, load_torch_file
from fer_stream.system.files import replacing

if TYPE_CHECKING:
    import torch

FORMAT_VERSION = 1  # adding keys that older programs can ignore, such as `ferplus`, does not raise it
FEATURES = {"efficientnet_b0": 1280}  # the architectures, and the inputs of their last layers
LAST_LAYER = "classifier"  # timm's name for it
BUILT_IN_WEIGHTS = DATA / "best-weights.pt"

MAX_INPUT_SIZE = 512
TEMPERATURES = (0.01, 100)
ONLY_FOR_TRAINING = ".num_batches_tracked"  # counters that a state_dict holds and no graph needs


@dataclass(frozen=True, eq=False)
class Head:
    """A last layer, and how to use its logits.

    Attributes:
        weight: float32 (7, features).
        bias: float32 (7,).
        temperature: The logits are divided by it before the softmax. It is fitted after training.
        unsure_below: A face whose best probability is below this is unsure; 0: never.
    """

    weight: np.ndarray
    bias: np.ndarray
    temperature: float = 1.0
    unsure_below: float = 0.0


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A trained network and everything needed to use it.

    Attributes:
        state_dict: The parameters and buffers, float32, by timm's names. The last layer follows FER2013's
            labels.
        input: The input that the network expects.
        architecture: timm's name for the network.
        classes: The names of the outputs, in order.
        temperature: Temperature of the FER2013 layer, see `Head`.
        unsure_below: Threshold of the FER2013 layer, see `Head`.
        ferplus: A second last layer over the same features, which follows the FER+ majority, or None.
        recipe: The name of the recipe that trained the network.
        epoch: The epoch after which it was saved, from 1.
        metrics: Figures measured on the validation split when it was saved.
    """

    state_dict: Mapping[str, np.ndarray]
    input: InputSpec
    architecture: str = "efficientnet_b0"
    classes: tuple[str, ...] = EXPRESSIONS
    temperature: float = 1.0
    unsure_below: float = 0.0
    ferplus: Head | None = None
    recipe: str = ""
    epoch: int = 0
    metrics: dict[str, float] = field(default_factory=dict)

    def head(self, labels: str | None = None) -> Head:
        """Return the last layer for an annotation, or the default one with None (see `annotation`).

        Raises:
            WeightsError: There is no such layer.
        """
        if annotation(labels, has_ferplus=self.ferplus is not None) == FERPLUS and self.ferplus is not None:
            return self.ferplus
        try:
            weight, bias = (self.state_dict[f"{LAST_LAYER}.{name}"] for name in ("weight", "bias"))
        except KeyError as error:
            raise self._misfit_error() from error
        return Head(weight, bias, self.temperature, self.unsure_below)

    def network_arrays(self, labels: str | None = None) -> dict[str, np.ndarray]:
        """Return the network's arrays by name, with the last layer for an annotation.

        Raises:
            WeightsError: The weights do not fit the architecture, or lack that layer.
        """
        head = self.head(labels)
        last_layer = {f"{LAST_LAYER}.weight": head.weight, f"{LAST_LAYER}.bias": head.bias}
        arrays = {
            name: np.ascontiguousarray(array)
            for name, array in {**self.state_dict, **last_layer}.items()
            if not name.endswith(ONLY_FOR_TRAINING)
        }
        shapes = json.loads(self.graph_path.with_suffix(".json").read_text(encoding="utf-8"))
        if arrays.keys() != shapes.keys() or any(
            array.dtype != np.float32 or list(array.shape) != shapes[name] for name, array in arrays.items()
        ):
            raise self._misfit_error()
        return arrays

    @property
    def graph_path(self) -> Path:
        """The ONNX graph of the architecture, without weights."""
        return DATA / f"{self.architecture}.onnx"

    def _misfit_error(self) -> WeightsError:
        return WeightsError(
            f"the weights do not fit {self.architecture} with {len(self.classes)} classes; "
            "train them again with fer-train, or choose another file"
        )


def annotation(labels: str | None, *, has_ferplus: bool) -> str:
    """Return the annotation to follow: `labels`, or the default of the weights if `labels` is None.

    Raises:
        UsageError: There is no such annotation.
        WeightsError: The annotation is FER+, and the weights have no FER+ layer.
    """
    if labels is None:
        return FERPLUS if has_ferplus else FER2013
    if labels not in ANNOTATIONS:
        raise UsageError(f"no labels {labels!r}; use {' or '.join(ANNOTATIONS)}")
    if labels == FERPLUS and not has_ferplus:
        raise WeightsError(
            "the weights have no FER+ layer; use --labels fer2013, or weights trained with FER+ votes"
        )
    return labels


def save_checkpoint(path: Path, checkpoint: Checkpoint, *, half_precision: bool = False) -> None:
    """Save a checkpoint under a temporary name and rename it, so that `path` is never half written.

    Args:
        path: The file to write.
        checkpoint: The checkpoint.
        half_precision: Whether to store floats in 16 bits, which halves the file, for a release.

    Raises:
        OutputError: The file can't be written.
    """
    import torch

    def stored(array: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(np.array(array))
        return tensor.half() if half_precision and tensor.is_floating_point() else tensor

    content: dict[str, object] = {
        "state_dict": {name: stored(array) for name, array in checkpoint.state_dict.items()},
        "architecture": checkpoint.architecture,
        "classes": list(checkpoint.classes),
        "input_size": checkpoint.input.size,
        "mean": list(checkpoint.input.mean),
        "std": list(checkpoint.input.std),
        "grayscale": checkpoint.input.grayscale,
        "crop_scale": checkpoint.input.crop_scale,
        "native_size": checkpoint.input.native_size,
        "standardize": checkpoint.input.standardize,
        "temperature": checkpoint.temperature,
        "unsure_below": checkpoint.unsure_below,
        "recipe": checkpoint.recipe,
        "epoch": checkpoint.epoch,
        "metrics": dict(checkpoint.metrics),
        "format_version": FORMAT_VERSION,
    }
    if checkpoint.ferplus is not None:
        content["ferplus"] = {
            "weight": stored(checkpoint.ferplus.weight),
            "bias": stored(checkpoint.ferplus.bias),
            "temperature": checkpoint.ferplus.temperature,
            "unsure_below": checkpoint.ferplus.unsure_below,
        }
    save_atomically(content, path)


def save_atomically(content: object, path: Path) -> None:
    """Save `content` with `torch.save`. If the program is killed, the file is the old one or the new one.

    Raises:
        OutputError: The file can't be written.
    """
    import torch

    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:
        # On a full disk, torch raises an error about its unfinished file; the system's error is its cause.
        cause = error.__context__ if isinstance(error, RuntimeError) else error
        if not isinstance(cause, OSError):
            raise
        raise OutputError(f"can't write {path}: {cause.strerror or cause}") from error


def check_weights_file(path: Path, labels: str | None = None) -> str:
    """Check that a file holds weights that this program can run, and that they can follow `labels`.

    Returns:
        The annotation that they will follow, see `annotation`.

    Raises:
        UsageError: There is no such annotation.
        WeightsError: The weights can't be used. The message, of one line, says why.
    """
    if path == BUILT_IN_WEIGHTS:  # a check would take a twentieth of a second at each start
        return annotation(labels, has_ferplus=True)
    return load_for_labels(path, labels)[1]


def load_for_labels(path: Path, labels: str | None = None) -> tuple[Checkpoint, str]:
    """Load a checkpoint, and check that this program can run it and that it can follow `labels`.

    Returns:
        The checkpoint, and the annotation that it will follow, see `annotation`.

    Raises:
        UsageError: There is no such annotation.
        WeightsError: The weights can't be used. The message, of one line, says why.
    """
    checkpoint = load_checkpoint(path)
    with name_in_errors(path):
        checkpoint.network_arrays(labels)
        return checkpoint, annotation(labels, has_ferplus=checkpoint.ferplus is not None)


@contextmanager
def name_in_errors(path: Path) -> Iterator[None]:
    """Add the file's name to errors about its weights."""
    try:
        yield
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error


def _check_is_file(path: Path) -> None:
    try:
        exists, is_folder, is_file = path.exists(), path.is_dir(), path.is_file()
    except OSError as error:  # the name is too long, or a folder is not accessible
        raise WeightsError(f"{path} can't be read as weights: {error.strerror}") from error
    if not exists:
        raise WeightsError(f"no weights file at {path}")
    if is_folder:
        raise WeightsError(f"{path} is a folder; give a file such as best-weights.pt")
    if not is_file:  # a pipe or a device, which may have no end
        raise WeightsError(f"{path} is not a file; give one such as best-weights.pt")


@contextmanager
def _weights_errors(path: Path) -> Iterator[None]:
    """Turn errors about a PyTorch file into a one-line WeightsError."""
    try:
        yield
    except NotATorchFileError as error:
        raise WeightsError(
            f"{path} is not a PyTorch checkpoint ({error}); give a best-weights.pt of fer-train"
        ) from error
    except UnsafeTorchFileError as error:
        raise WeightsError(
            f"{path} can't be used as weights: {error}; get the file again or train it with fer-train"
        ) from error
    except OSError as error:
        raise WeightsError(f"{path} can't be read as weights: {error.strerror or error}") from error


def load_checkpoint(path: Path, *, any_architecture: bool = False) -> Checkpoint:
    """Read a checkpoint and check every field of it.

    Args:
        path: The file.
        any_architecture: Whether to accept networks that fer-stream can't run, as `fer-train` does for
            teachers.

    Raises:
        WeightsError: The file is missing, damaged, not a checkpoint, of a newer format, or does not hold a
            network that this program can run.
    """
    _check_is_file(path)
    with _weights_errors(path):
        content = load_torch_file(path)
    try:
        return _parse_checkpoint(content, path, any_architecture=any_architecture)
    except WeightsError:
        raise
    except Exception as error:  # a field of an unexpected type, such as a sparse tensor
        raise WeightsError(
            f"{path} holds fields that fer-train does not write; give a best-weights.pt made by it"
        ) from error


def _is_name(architecture: object) -> bool:
    return isinstance(architecture, str) and re.fullmatch(r"[\w.-]{1,100}", architecture) is not None


def _parse_checkpoint(content: Any, path: Path, *, any_architecture: bool) -> Checkpoint:
    if not isinstance(content, dict) or "state_dict" not in content:
        raise wrong_field(path, "is a PyTorch file, but not a checkpoint of fer-train")
    fields = CheckpointFields(content, path)
    fields.require("architecture", "classes", "input_size", "mean", "std", "grayscale", "crop_scale")
    _check_version(content, path)
    architecture = content["architecture"]
    known = architecture in FEATURES if isinstance(architecture, str) else False
    if not known and not (any_architecture and _is_name(architecture)):
        raise wrong_field(path, f"holds a network {reprlib.repr(architecture)}, not {' or '.join(FEATURES)}")
    classes = content["classes"]
    if list(classes) != list(EXPRESSIONS):
        raise wrong_field(path, f"knows the classes {reprlib.repr(classes)}, not {', '.join(EXPRESSIONS)}")
    size = fields.integer("input_size", 16, MAX_INPUT_SIZE)
    metrics, epoch = content.get("metrics"), content.get("epoch", 0)
    return Checkpoint(
        input=InputSpec(
            size=size,
            mean=fields.three("mean", -10, 10),
            std=fields.three("std", 1e-3, 10),
            grayscale=fields.boolean("grayscale"),
            crop_scale=fields.number("crop_scale", 0.1, 10),
            native_size=fields.integer("native_size", 8, 4096, default=size),
            standardize=fields.boolean("standardize", default=False),
        ),
        state_dict=fields.arrays("state_dict"),
        architecture=architecture,
        temperature=fields.number("temperature", *TEMPERATURES, default=1.0),
        unsure_below=fields.number("unsure_below", 0, 1, default=0.0),
        ferplus=_ferplus_head(fields, FEATURES.get(architecture)),
        recipe=str(content.get("recipe", "")),
        epoch=epoch if isinstance(epoch, int) else 0,
        metrics={
            str(name): float(value)
            for name, value in (metrics.items() if isinstance(metrics, dict) else ())
            if isinstance(value, (int, float)) and math.isfinite(value)
        },
    )


def _check_version(content: dict[str, Any], path: Path) -> None:
    version = content.get("format_version")
    if not isinstance(version, int) or version < 1:
        raise wrong_field(path, "does not say its format version")
    if version > FORMAT_VERSION:
        raise WeightsError(
            f"{path} has format {reprlib.repr(version)}, newer than this program knows; update fer-stream"
        )


def _ferplus_head(fields: CheckpointFields, features: int | None) -> Head | None:
    """Return the FER+ layer. If `features` is None, its inputs are counted once the network is built."""
    layer = fields.group("ferplus")
    if layer is None:
        return None
    if features is None:
        features = layer.content["weight"].shape[-1]
    return Head(
        layer.array("weight", (len(EXPRESSIONS), features)),
        layer.array("bias", (len(EXPRESSIONS),)),
        temperature=layer.number("temperature", *TEMPERATURES, default=1.0),
        unsure_below=layer.number("unsure_below", 0, 1, default=0.0),
    )
