"""Real-time facial-expression analysis of cameras, recorded video, images and network streams.

from fer_stream import Analyzer

for analyzed in Analyzer().stream("interview.mp4"):
    for face in analyzed.faces:
        print(analyzed.frame.time_s, face.id, face.expression, face.confidence)
"""

import importlib
from typing import TYPE_CHECKING, Any

from fer_stream.errors import (
    FerStreamError,
    OutOfMemoryError,
    OutputError,
    SourceError,
    UsageError,
    WeightsError,
)
from fer_stream.expressions import EXPRESSIONS
from fer_stream.system.environment import set_opencv_environment
from fer_stream.version import __version__

set_opencv_environment()

if TYPE_CHECKING:
    from fer_stream.analyzer import Analyzer
    from fer_stream.pipeline import RunOptions, Summary, run
    from fer_stream.rendering.overlay import Overlay
    from fer_stream.sinks import RunContext, Sink
    from fer_stream.sources import Source, SourceInfo, SourceKind, SourceStatus, open_source
    from fer_stream.types import AnalyzedFrame, Detections, Face, Frame

__all__ = [
    "EXPRESSIONS",
    "AnalyzedFrame",
    "Analyzer",
    "Detections",
    "Face",
    "FerStreamError",
    "Frame",
    "OutOfMemoryError",
    "OutputError",
    "Overlay",
    "RunContext",
    "RunOptions",
    "Sink",
    "Source",
    "SourceError",
    "SourceInfo",
    "SourceKind",
    "SourceStatus",
    "Summary",
    "UsageError",
    "WeightsError",
    "__version__",
    "open_source",
    "run",
]

# Imported on first access, because the command checks its options before OpenCV and the rest load.
_MODULES = {
    "Analyzer": "analyzer",
    "Overlay": "rendering.overlay",
    **dict.fromkeys(("RunOptions", "Summary", "run"), "pipeline"),
    **dict.fromkeys(("RunContext", "Sink"), "sinks"),
    **dict.fromkeys(("Source", "SourceInfo", "SourceKind", "SourceStatus", "open_source"), "sources"),
    **dict.fromkeys(("AnalyzedFrame", "Detections", "Face", "Frame"), "types"),
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
