"""Settings for the analysis of an archive, and a key for those that shape the results."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from fer_stream.analyzer import DEFAULT_BATCH, DEFAULT_MIN_FACE
from fer_stream.batch.output_folder import FOLDERS
from fer_stream.detection.pace import ScanEvery
from fer_stream.expressions import FERPLUS
from fer_stream.recognition.smoothing import DEFAULT_SMOOTH_S
from fer_stream.recognition.weights import BUILT_IN_WEIGHTS
from fer_stream.sinks.provenance import Provenance
from fer_stream.version import __version__

DEFAULT_PART_S = 600.0
# Reading a part begins this many seconds before its start. By the start, the tracker has the state that it
# would have had if it had read the recording from the beginning: regular scans do not depend on earlier
# frames, and every 20 frames (`schedule.RESET_EVERY`) motion is measured from zero. With a --scan-every that
# does not divide 20, motion is reset less often. But its differences fade anyway: in the portrait video they
# fell to 1/e in 0.7 s. After 12 s, they are too small to change a pixel of a crop.
TRACKER_WARM_UP_S = 12.0


@dataclass(frozen=True)
class Settings:
    """Settings of a run, which every worker gets.

    Attributes:
        weights_hash: SHA-256 of the weights file, hexadecimal.
        built_in_weights: Whether the weights are the package's own, which every worker has.
        weights_name: Name of the weights file.
        weights_unsure_below: The threshold in the weights, see `weights.Head`.
        device: Device of a task, `cpu` or `cuda`.
        device_kind: Device of the analysis, `cpu` or `cuda`, because scans and rounding differ. Unlike
            `device`, it is the same for all tasks of a run.
        threads: See `Analyzer`.
        labels: The annotation to follow, `ferplus` or `fer2013`.
        unsure_below: See `Analyzer`; None for the threshold in the weights.
        min_face: See `Analyzer`.
        scan_every: See `Analyzer`.
        smooth_s: See `Analyzer`.
        batch: See `Analyzer`.
        part_s: A recording at least twice this long is cut into parts of about this length.
        table: The format of tables and summary, `parquet` or `csv`.
        save: Whether to write an annotated video of every recording.
        chart: Whether to write a timeline of every recording.
        report: Whether to write a report on every recording.
        episodes: The format of the episodes, `csv`, `vtt` or `eaf`; empty for no episodes.
        blur: Whether to hide every face in the videos and pictures.
        version: Version of the package on the machine that started the run.
    """

    weights_hash: str
    built_in_weights: bool = True
    weights_name: str = BUILT_IN_WEIGHTS.name
    weights_unsure_below: float = 0.0
    device: str = "cpu"
    device_kind: str = "cpu"
    threads: int = 1
    labels: str = FERPLUS
    unsure_below: float | None = None
    min_face: int = DEFAULT_MIN_FACE
    scan_every: ScanEvery = "auto"
    smooth_s: float = DEFAULT_SMOOTH_S
    batch: int = DEFAULT_BATCH
    part_s: float = DEFAULT_PART_S
    table: str = "parquet"
    save: bool = False
    chart: bool = False
    report: bool = False
    episodes: str = ""
    blur: bool = False
    version: str = __version__

    @property
    def provenance(self) -> Provenance:
        """The provenance of the results."""
        options = {
            "labels": self.labels,
            "unsure-below": self.unsure_below,
            "min-face": self.min_face,
            "scan-every": self.scan_every,
            "smooth": self.smooth_s,
            "blur": self.blur or None,
        }
        return Provenance(
            weights_name=self.weights_name,
            weights_sha256=self.weights_hash,
            labels=self.labels,
            unsure_below=self.weights_unsure_below if self.unsure_below is None else self.unsure_below,
            device=self.device_kind,
            options={name: str(value) for name, value in options.items() if value is not None},
            version=self.version,
        )

    def suffix(self, folder: str) -> str:
        """Return the suffix of the files in a folder of the output."""
        chosen = {"tables": self.table, "episodes": self.episodes}
        return f".{chosen[folder]}" if chosen.get(folder) else FOLDERS[folder][0]

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders of the output that get a file for every recording."""
        wanted = {
            "tables": True,
            "videos": self.save,
            "charts": self.chart,
            "reports": self.report,
            "episodes": bool(self.episodes),
        }
        return tuple(folder for folder, is_wanted in wanted.items() if is_wanted)

    @property
    def key(self) -> str:
        """A text that changes if, and only if, a setting that shapes the results changes."""
        analysis = (
            self.device_kind,
            self.labels,
            self.unsure_below,
            self.min_face,
            self.scan_every,
            self.smooth_s,
        )
        parts = (self.version, self.weights_hash, *analysis, *(["blur"] if self.blur else []))
        return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:16]
