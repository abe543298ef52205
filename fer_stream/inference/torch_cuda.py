"""Run a PyTorch module on an NVIDIA GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import nn


class TorchNetwork:
    """A network in PyTorch. Implements `network.Network`.

    Args:
        module: The network, with its weights.
        device: `cuda:N`.
        half: Run in half precision instead of float32.
    """

    def __init__(self, module: nn.Module, device: str, *, half: bool = False) -> None:
        import torch

        self._torch = torch
        self._device = torch.device(device)
        self._dtype = torch.float16 if half else torch.float32
        self._module = (
            module.to(self._device, self._dtype).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        )

    def __call__(self, batch: np.ndarray | torch.Tensor) -> tuple[np.ndarray, ...]:
        """Run the network on float32 (N, C, H, W)."""
        torch = self._torch
        with torch.inference_mode():
            if isinstance(batch, torch.Tensor):
                images = batch
            else:
                images = torch.from_numpy(np.ascontiguousarray(batch))
                if self._device.type == "cuda":
                    images = images.pin_memory()
            images = images.to(self._device, self._dtype, non_blocking=True)
            outputs = self._module(images.contiguous(memory_format=torch.channels_last))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return tuple(output.float().cpu().numpy() for output in outputs)
