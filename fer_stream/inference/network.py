"""The interface of a loaded network, whatever runs it."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np


class Network(Protocol):
    """A loaded network: a float32 batch goes in, float32 arrays come out."""

    def __call__(self, batch: Any) -> tuple[np.ndarray, ...]:
        """Run the network.

        Args:
            batch: float32 (N, C, H, W), an array. A network on a GPU also takes a tensor on that GPU.

        Returns:
            One float32 array (N, ...) for each output.
        """
        ...
