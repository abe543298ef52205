"""Estimate how long a run would take, for --dry-run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fer_stream.batch import work
from fer_stream.batch.archive import LEAST_TASKS_AHEAD, REFRESH_S
from fer_stream.batch.cluster import Cluster
from fer_stream.batch.inputs import Recording
from fer_stream.batch.parts import Header, Part, cut
from fer_stream.batch.settings import TRACKER_WARM_UP_S, Settings
from fer_stream.errors import FerStreamError

MEASURED_CLIPS = 4
MEASURED_S = 4.0


@dataclass(frozen=True)
class Estimate:
    """An estimate of a run.

    Attributes:
        recordings: For each recording, its length in seconds (0 if unknown) and its number of parts.
        video_s: Seconds of video to analyze, including warm-up. An unknown length counts as the mean, and a
            recording that can't be read as 0.
        rate: Seconds of video per second of one worker; 0 if nothing could be measured.
        measured_s: Seconds of video that were measured.
        slots: Number of tasks at once.
    """

    recordings: list[tuple[Recording, float, int]]
    video_s: float
    rate: float
    measured_s: float
    slots: int

    @property
    def run_s(self) -> float | None:
        """Estimated duration of the run in seconds; None if unknown."""
        return self.video_s / self.rate / self.slots if self.rate > 0 else None


def estimate(recordings: Sequence[Recording], settings: Settings, weights: Any, cluster: Cluster) -> Estimate:
    """Estimate a run: read all headers, and analyze short clips with as many tasks as a run would use.

    Raises:
        WeightsError: The weights can't be used.
        UsageError: A worker can't use its GPU.
    """
    headers: dict[str, Header] = {}
    pending: dict[Any, Recording] = {}
    waiting = iter(recordings)
    slots = cluster.slots(settings)
    while True:
        while len(pending) < max(LEAST_TASKS_AHEAD, slots) and (each := next(waiting, None)) is not None:
            pending[cluster.submit(work.read_header, settings, each)] = each
        if not pending:
            break
        for reference in cluster.wait(list(pending), REFRESH_S):
            each = pending.pop(reference)
            try:
                headers[each.output_name] = cluster.result(reference)
            except FerStreamError:  # the run will report it
                headers[each.output_name] = Header()

    cluster.result(cluster.submit(work.prepare, settings, weights, None))
    measurable = [each for each in recordings if headers[each.output_name].duration_s > 0]
    clips = max(MEASURED_CLIPS, slots)
    chosen = measurable[:: max(1, len(measurable) // clips)][:clips]
    references = []
    for each in chosen:  # from the middle, because beginnings are often black or empty
        header = headers[each.output_name]
        start_s = max(0.0, header.first_s + max(0.0, header.duration_s - MEASURED_S) / 2)
        part = Part(0, start_s, start_s + MEASURED_S, start_s)
        references.append(cluster.submit(work.measure, settings, weights, each, part))
    measured_s = took_s = 0.0
    for reference in references:
        try:
            video_s, seconds = cluster.result(reference)
        except FerStreamError:  # the run will report it
            continue
        measured_s, took_s = measured_s + video_s, took_s + seconds

    mean_s = sum(headers[each.output_name].duration_s for each in measurable) / max(1, len(measurable))
    lengths, total_s = [], 0.0
    for each in recordings:
        header = headers[each.output_name]
        cuts = cut(header, settings.part_s, TRACKER_WARM_UP_S)
        total_s += header.duration_s or (mean_s if header.is_readable else 0.0)
        total_s += sum(part.start_s - part.from_s for part in cuts)
        lengths.append((each, header.duration_s, len(cuts)))
    return Estimate(lengths, total_s, measured_s / took_s if took_s else 0.0, measured_s, slots)
