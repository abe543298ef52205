"""Real-time facial-expression analysis of cameras, recorded video, images and network streams.

from fer_stream import Analyzer, open_source

for analyzed in Analyzer().stream("interview.mp4"):
    for face in analyzed.faces:
        print(analyzed.frame.time_s, face.id, face.expression, face.confidence)
"""

from fer_stream.analyzer import Analyzer
from fer_stream.errors import FerStreamError, OutputError, SourceError, UsageError, WeightsError
from fer_stream.expressions import EXPRESSIONS
from fer_stream.overlay import Overlay
from fer_stream.sources import Source, SourceInfo, open_source
from fer_stream.types import AnalyzedFrame, Detections, Face, Frame
from fer_stream.version import __version__

__all__ = [
    "EXPRESSIONS",
    "AnalyzedFrame",
    "Analyzer",
    "Detections",
    "Face",
    "FerStreamError",
    "Frame",
    "OutputError",
    "Overlay",
    "Source",
    "SourceError",
    "SourceInfo",
    "UsageError",
    "WeightsError",
    "__version__",
    "open_source",
]
