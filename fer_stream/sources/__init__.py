"""Sources of frames. `open_source` recognizes a source and opens it.

base.py defines what every source does. video.py reads recordings, images.py reads pictures, and live.py reads
what cameras.py and network.py open. Names load on first use, because the commands need addresses and times
before OpenCV loads.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fer_stream.sources.base import Source, SourceInfo, SourceKind, SourceStatus
    from fer_stream.sources.opening import open_source

__all__ = ["Source", "SourceInfo", "SourceKind", "SourceStatus", "open_source"]

_MODULES = {
    **dict.fromkeys(("Source", "SourceInfo", "SourceKind", "SourceStatus"), "base"),
    "open_source": "opening",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
