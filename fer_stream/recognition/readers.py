"""The interface of a face reader, and the list of readers of anything but the expression.

To add a reader, of age for example, write a module with a class that implements `FaceReader`, and add the
class to `OTHER_READERS`. Its columns then follow those of the expression in every table and on the live page,
and `Face.readings` holds its values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

import numpy as np


class FaceReader(Protocol):
    """Reads numbers from the pictures of faces.

    Attributes:
        columns: Names of the numbers, in order. They are known before anything is loaded.
    """

    columns: ClassVar[tuple[str, ...]]

    def __init__(self, device: str = "cpu", *, threads: int = 0) -> None:
        """Load the reader.

        Args:
            device: `cpu` or `cuda:N`, as `devices.pick_device` returns it.
            threads: CPU threads; 0 for one per core.
        """
        ...

    def crop(self, image_bgr: np.ndarray, box_xyxy: np.ndarray, landmarks_xy: np.ndarray) -> np.ndarray:
        """Cut a face out of a frame, in the form that `read` takes.

        Args:
            image_bgr: uint8 (H, W, 3).
            box_xyxy: (4,) px.
            landmarks_xy: (5, 2) px, see `Detections.landmarks_xy`.

        Returns:
            An array of the same shape for every face.
        """
        ...

    def read(self, crops: np.ndarray) -> np.ndarray:
        """Read a batch of faces.

        Args:
            crops: (N, ...), N crops as `crop` makes them.

        Returns:
            float32 (N, number of columns).
        """
        ...


OTHER_READERS: Sequence[type[FaceReader]] = ()


def other_columns() -> tuple[str, ...]:
    """Return the columns of the registered readers."""
    return tuple(column for reader in OTHER_READERS for column in reader.columns)
