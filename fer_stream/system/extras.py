"""Check that optional packages are installed, and say how to install them."""

from __future__ import annotations

import importlib.util
import sys

from fer_stream.errors import UsageError
from fer_stream.words import all_of

# For each extra in pyproject.toml, the modules that a feature needs from it.
_MODULES = {
    "batch": ("ray", "fsspec", "pyarrow"),
    "cuda": ("torch", "facenet_pytorch"),
    "parquet": ("pyarrow",),
    "train": ("torch", "torchvision", "timm"),
    "virtual-camera": ("pyvirtualcam",),
    "web": ("starlette", "uvicorn"),
}


def missing_modules(extra: str) -> list[str]:
    """Return the modules of an extra that are not installed. Nothing is imported."""
    return [name for name in _MODULES[extra] if not _is_installed(name)]


def _is_installed(name: str) -> bool:
    if name in sys.modules:
        return sys.modules[name] is not None
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # import hooks and damaged packages can raise them
        return False
    # A module without an origin may be any folder of that name, such as one in the current folder.
    return spec is not None and spec.origin is not None


def require_extra(extra: str, feature: str) -> None:
    """Check that an extra is installed. Nothing is imported.

    Args:
        extra: Its name in pyproject.toml.
        feature: The option that needs it, as the user gave it, or "this command".

    Raises:
        UsageError: Packages are missing. The message says how to install them.
    """
    missing = missing_modules(extra)
    if missing:
        raise UsageError(f"{feature} needs {all_of(missing)}; {how_to_install(extra)}")


def how_to_install(extra: str) -> str:
    """Return the end of a message: how to install an extra."""
    return f"in fer-stream's source folder, run: pip install '.[{extra}]'"
