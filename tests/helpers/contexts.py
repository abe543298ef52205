"""Make run contexts for tests that write to a sink by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fer_stream.sinks import RunContext
from fer_stream.sinks.provenance import Provenance
from fer_stream.sources import SourceInfo, SourceKind
from fer_stream.status import RunStatus


def make_info(**fields: Any) -> SourceInfo:
    known: dict[str, Any] = {
        "name": "clip.mp4",
        "kind": SourceKind.VIDEO,
        "path": Path("clip.mp4"),
        "size_wh": (64, 48),
        "frame_rate": None,
        "time_base": None,
        "duration_s": None,
        "frame_count": None,
    }
    return SourceInfo(**(known | fields))


def make_context(source: SourceInfo | None = None, **fields: Any) -> RunContext:
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
