"""The interface of a loaded network, whatever runs it."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np


class Network(Protocol):
    """A loaded network: a batch goes in, float32 arrays come out."""

    def __call__(self, batch: Any) -> tuple[np.ndarray, ...]:
        """Run the network.

        Args:
            batch: (N, ...), an array. On the CPU it is float32 (N, C, H, W).

        Returns:
            One float32 array (N, ...) for each output.
        """
        ...
