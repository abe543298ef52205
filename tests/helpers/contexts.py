"""Make run contexts for tests that write to a sink by hand."""

from __future__ import annotations

from typing import Any

from fer_stream.sinks import RunContext
from fer_stream.sinks.provenance import Provenance
from fer_stream.sources import SourceInfo, SourceKind
from fer_stream.status import RunStatus


def make_info(**fields: Any) -> SourceInfo:
    """Return the description of a video without a file, changed by the given fields."""
    known: dict[str, Any] = {
        "name": "clip.mp4",
        "kind": SourceKind.VIDEO,
        "path": None,
        "size_wh": (64, 48),
        "frame_rate": None,
        "time_base": None,
        "duration_s": None,
        "frame_count": None,
    }
    return SourceInfo(**(known | fields))


def camera_info(**fields: Any) -> SourceInfo:
    """Return the description of a camera, changed by the given fields."""
    return make_info(**({"name": "camera 0", "kind": SourceKind.CAMERA} | fields))


def make_context(source: SourceInfo | None = None, **fields: Any) -> RunContext:
    """Return the context of a run without options, changed by the given fields."""
    known: dict[str, Any] = {
        "source": source or make_info(),
        "status": RunStatus(),
        "provenance": Provenance(),
        "crop_scale": 1.0,
        "blurred": False,
        "saved_video": None,
        "written_files": list,
    }
    return RunContext(**(known | fields))
