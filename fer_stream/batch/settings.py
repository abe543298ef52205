"""How an archive is analyzed, and what of that shapes the results."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from fer_stream.analyzer import DEFAULT_BATCH, DEFAULT_MIN_FACE
from fer_stream.batch.outputs import FOLDERS
from fer_stream.detection.pace import ScanEvery
from fer_stream.expressions import FERPLUS
from fer_stream.provenance import Provenance
from fer_stream.recognition.smoothing import DEFAULT_SMOOTH_S
from fer_stream.version import __version__

DEFAULT_PART_S = 600.0
# A tracker that starts midway soon sees what it would see had it come from the beginning: scans that
# are due take nothing from before, and every 30 frames motion is measured from zero (`schedule.RESET_EVERY`).
# With a --scan-every that does not divide 30 that comes less often; but how expected motions differ fell to
# 1/e in 0.7 s in the portrait video, so after this long nothing is left that changes a pixel of a crop.
TRACKER_WARM_UP_S = 12.0


@dataclass(frozen=True)
class Settings:
    """What a worker is told of the whole run.

    Attributes:
        weights_hash: SHA-256 of the weights file, hexadecimal.
        built_in_weights: Whether they are the package's own, which every worker has.
        device: Where a task runs, `cpu` or `cuda`.
        device_kind: What the analysis runs on, `cpu` or `cuda`: scans and roundings differ. Unlike `device`
            it is the same for all tasks of a run.
        threads: CPU threads for one run of a network.
        labels: The annotation to follow, `ferplus` or `fer2013`.
        unsure_below: See `Analyzer`.
        min_face: See `Analyzer`.
        scan_every: See `Analyzer`.
        smooth_s: See `Analyzer`.
        batch: See `Analyzer`.
        part_s: A recording at least twice this long is cut into parts of about this length.
        table: The format of tables and summary, `parquet` or `csv`.
        save: Whether an annotated video is made of every recording.
        chart: Whether a timeline is made of every recording.
        report: Whether a report is made of every recording.
        episodes: The format of the episodes, `csv`, `vtt` or `eaf`; empty for none.
        version: The package's, where the run was started.
    """

    weights_hash: str
    built_in_weights: bool = True
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
    version: str = __version__

    @property
    def warm_up_s(self) -> float:
        """How long before its cut a part begins, so that tracking has settled there."""
        return TRACKER_WARM_UP_S

    def provenance(self, unsure_below: float | None = None) -> Provenance:
        """Return what makes the results.

        Args:
            unsure_below: The threshold in use, which the weights may have set; the option if None.
        """
        options = {
            name: str(getattr(self, name))
            for name in ("labels", "unsure_below", "min_face", "scan_every", "smooth_s")
            if getattr(self, name) is not None
        }
        return Provenance(
            weights_sha256=self.weights_hash,
            labels=self.labels,
            unsure_below=(self.unsure_below or 0.0) if unsure_below is None else unsure_below,
            device=self.device_kind,
            options=options,
            version=self.version,
        )

    def analysis_only(self) -> Settings:
        """Return these settings without those that shape the outputs only."""
        return replace(self, save=False, chart=False, report=False, episodes="", table="parquet", part_s=0.0)

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
        """A text that changes with every setting that shapes the results, and with no other."""
        analysis = (
            self.device_kind,
            self.labels,
            self.unsure_below,
            self.min_face,
            self.scan_every,
            self.smooth_s,
        )
        parts = (self.version, self.weights_hash, *analysis)
        return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:16]
