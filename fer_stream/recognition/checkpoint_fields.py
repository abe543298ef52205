"""Check the fields of a checkpoint one by one: types, ranges and shapes."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from fer_stream.errors import WeightsError
from fer_stream.recognition.torch_files import MAX_ELEMENTS


def wrong_field(path: Path, what: str) -> WeightsError:
    """Return an error that names the file, what is wrong with it, and the remedy."""
    return WeightsError(f"{path} {what}; give a best-weights.pt made by fer-train")


@dataclass(frozen=True)
class CheckpointFields:
    """The fields of a checkpoint, or of a group in it. Each method raises a WeightsError for a wrong field.

    Attributes:
        content: The fields by name, as they were read.
        path: The file, for messages.
        name: Name of the group; empty for the checkpoint itself.
    """

    content: Mapping[str, Any]
    path: Path
    name: str = ""

    def require(self, *names: str) -> None:
        """Check that these fields are there."""
        missing = [name for name in names if name not in self.content]
        if missing:
            raise wrong_field(self.path, f"lacks {', '.join(missing)}")

    def number(self, name: str, low: float, high: float, default: float | None = None) -> float:
        """Return a number from `low` to `high`."""
        value = self.content.get(name, default)
        if not _is_number(value) or not low <= value <= high:
            raise self._wrong_value(name, value, f"which should be a number from {low:g} to {high:g}")
        return float(value)

    def integer(self, name: str, low: int, high: int, default: int | None = None) -> int:
        """Return a whole number from `low` to `high`."""
        value = self.number(name, low, high, default)
        if not value.is_integer():
            raise self._wrong_value(name, value, f"which should be a whole number from {low} to {high}")
        return int(value)

    def three(self, name: str, low: float, high: float) -> tuple[float, float, float]:
        """Return three numbers from `low` to `high`."""
        values = self.content[name]
        if (
            not isinstance(values, (list, tuple))
            or len(values) != 3
            or not all(_is_number(value) and low <= value <= high for value in values)
        ):
            raise self._wrong_value(name, values, f"not three numbers from {low:g} to {high:g}")
        red, green, blue = (float(value) for value in values)
        return red, green, blue

    def boolean(self, name: str, default: bool | None = None) -> bool:
        """Return True or False."""
        value = self.content.get(name, default)
        if not isinstance(value, bool):
            raise self._wrong_value(name, value, "which should be True or False")
        return value

    def group(self, name: str) -> CheckpointFields | None:
        """Return the fields of a group, such as the FER+ layer; None if it is missing."""
        group = self.content.get(name)
        if group is None:
            return None
        if not isinstance(group, dict):
            raise wrong_field(self.path, f"has an entry {name} that is not a last layer")
        return CheckpointFields(group, self.path, name)

    def array(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Return an array of finite numbers, as float32."""
        array = self.content.get(name)
        if not isinstance(array, np.ndarray) or array.dtype.kind != "f" or array.shape != shape:
            raise wrong_field(
                self.path, f"has an entry {self.name} whose {name} is not a tensor of shape {shape}"
            )
        array = _as_float32(array)
        if not np.isfinite(array).all():
            raise wrong_field(
                self.path, f"has an entry {self.name} whose {name} holds numbers that are not finite"
            )
        return array

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """Return a group of arrays with finite numbers. Floats become float32."""
        arrays = self.content[name]
        if not isinstance(arrays, dict) or not all(
            isinstance(key, str) and isinstance(array, np.ndarray) for key, array in arrays.items()
        ):
            raise wrong_field(self.path, f"has a {name} that is not made of tensors")
        # One tensor may occur under many names and grow with each conversion, so count first.
        if sum(array.size for array in arrays.values()) > MAX_ELEMENTS:
            raise wrong_field(self.path, "claims tensors too large for the network")
        arrays = {
            key: _as_float32(array) if array.dtype.kind == "f" else array for key, array in arrays.items()
        }
        if not all(bool(np.isfinite(array).all()) for array in arrays.values()):
            raise wrong_field(self.path, "holds numbers that are not finite")
        return arrays

    def _wrong_value(self, name: str, value: object, expected: str) -> WeightsError:
        return wrong_field(self.path, f"has {name} = {reprlib.repr(value)}, {expected}")


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _as_float32(array: np.ndarray) -> np.ndarray:
    """Return an array as float32; numbers that are too large become infinite."""
    with np.errstate(over="ignore"):
        return array.astype(np.float32)
