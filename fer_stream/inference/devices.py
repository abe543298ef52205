"""Choose the device that runs the networks."""

from __future__ import annotations

import ctypes
import logging
import re
import sys

from fer_stream.errors import UsageError
from fer_stream.system.extras import how_to_install, missing_modules, require_extra
from fer_stream.words import all_of

_LOGGER = logging.getLogger(__name__)


def pick_device(name: str) -> str:
    """Return the device for a `--device` value.

    PyTorch is imported only on machines with an NVIDIA driver, or if `name` asks for CUDA.

    Args:
        name: `auto`, `cpu`, `cuda` or `cuda:N`.

    Returns:
        `cpu` or `cuda:N`.

    Raises:
        UsageError: This machine has no such device, or PyTorch is not installed.
    """
    if name == "cpu":
        return "cpu"
    if name == "auto":
        return _automatic_device()
    cuda = re.fullmatch(r"cuda(?::([0-9]{1,9}))?", name) if isinstance(name, str) else None
    if cuda is None:
        raise UsageError(f"no device {name!r}; use auto, cpu, cuda or cuda:N")
    require_extra("cuda", f"--device {name}")
    index, count = int(cuda[1] or 0), _cuda_device_count()
    if index >= count:
        raise UsageError(f"no CUDA device {index}: this machine offers {count}; use --device cpu or auto")
    return f"cuda:{index}"


def _automatic_device() -> str:
    """Return the first CUDA device, or `cpu` on a machine without one."""
    if not _has_nvidia_driver():
        return "cpu"
    missing = missing_modules("cuda")
    if missing:
        _LOGGER.info(
            "this machine has an NVIDIA driver, but %s is not installed: using the CPU; for the GPU, %s",
            all_of(missing),
            how_to_install("cuda"),
        )
        return "cpu"
    if not _cuda_device_count():
        _LOGGER.info("this machine has an NVIDIA driver, but PyTorch finds no CUDA device: using the CPU")
        return "cpu"
    return "cuda:0"


def _has_nvidia_driver() -> bool:
    """Return whether the driver's library can be loaded, which takes less than a millisecond."""
    library = {"win32": "nvcuda.dll", "linux": "libcuda.so.1"}.get(sys.platform)
    if library is None:
        return False
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _cuda_device_count() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0
