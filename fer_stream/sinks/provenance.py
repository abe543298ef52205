"""Provenance of a run's results: program, weights, annotation, options and source.

Outputs store it beside the numbers, so that a reader can later see how they were made and reproduce them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from fer_stream.system.files import file_hash
from fer_stream.version import __version__


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@dataclass(frozen=True)
class Provenance:
    """The source, weights and settings that produced a run's results.

    Attributes:
        source_name: The path or address as given, without a password.
        source_path: The file that was read; None for anything else.
        weights_name: Name of the weights file.
        weights_sha256: Its SHA-256, hexadecimal; empty if not known.
        labels: The annotation that the probabilities follow, `ferplus` or `fer2013`.
        unsure_below: A face whose best probability is lower is "unsure"; 0 means never.
        device: Compute device, `cpu` or `cuda:0`.
        options: The options that the user gave, by name without the dashes.
        version: Version of fer-stream.
        started_at: When the run started, in UTC.
    """

    source_name: str = ""
    source_path: Path | None = None
    weights_name: str = ""
    weights_sha256: str = ""
    labels: str = ""
    unsure_below: float = 0.0
    device: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    version: str = __version__
    started_at: datetime = field(default_factory=_now)

    @cached_property
    def source_sha256(self) -> str:
        """SHA-256 of the source file, hexadecimal; empty if there is no file or it can't be read.

        The file is read on the first access, which takes about two seconds per gigabyte.
        """
        if self.source_path is None or not self.source_path.is_file():
            return ""
        try:
            return file_hash(self.source_path)
        except OSError:
            return ""

    def as_dict(self) -> dict[str, Any]:
        """Return all fields and the source's hash, ready for JSON."""
        return {
            "program": "fer-stream",
            "version": self.version,
            "started_at": self.started_at.isoformat(),
            "source": self.source_name,
            "source_sha256": self.source_sha256,
            "weights": self.weights_name,
            "weights_sha256": self.weights_sha256,
            "labels": self.labels,
            "unsure_below": self.unsure_below,
            "device": self.device,
            "options": dict(self.options),
        }
