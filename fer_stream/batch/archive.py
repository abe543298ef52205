"""The driver: hand out tasks and collect their results. Ray decides when and where they run.

For each recording, one task reads its header, one or more tasks analyze it, and a last one joins the parts.
The driver submits only as many tasks as keep the workers busy. It keeps one record for each recording.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fer_stream.batch import work
from fer_stream.batch.cluster import Cluster
from fer_stream.batch.index import INDEX, write_index
from fer_stream.batch.inputs import Recording
from fer_stream.batch.manifest import FAILED, Record, write_manifest
from fer_stream.batch.output_folder import Output
from fer_stream.batch.parts import WHOLE, Look, Part, cut
from fer_stream.batch.progress import Progress
from fer_stream.batch.settings import Settings
from fer_stream.errors import FerStreamError, OutputError

TASKS_AHEAD = 4  # submitted per task that can run, so that a cluster sees that it should grow
LEAST_TASKS_AHEAD = 32
REFRESH_S = 0.5
# The manifest of a million recordings takes seconds to write, so it is not written often.
SAVE_EVERY_S = 10.0
SAVE_SHARE = 0.05

MEASURED_CLIPS = 4
MEASURED_S = 4.0


@dataclass(eq=False)
class _Job:
    """A recording that is being analyzed.

    Attributes:
        recording: The recording.
        parts: Its parts.
        footers: Footers of the finished parts, by index.
        error: The error that made it fail; None if it did not fail.
    """

    recording: Recording
    parts: list[Part] = field(default_factory=list)
    footers: dict[int, dict[str, Any]] = field(default_factory=dict)
    error: FerStreamError | None = None


class Archive:
    """Analyzes recordings and keeps their records.

    Args:
        records: The records of all recordings in the output, by output name. They are kept up to date.
        settings: Settings of the analysis.
        weights: Result of `Cluster.put` for the content of the weights file; None for the built-in weights.
        output: The folder of results.
        cluster: The cluster that runs the tasks.
        progress: The messages of the command.
    """

    def __init__(
        self,
        records: dict[str, Record],
        settings: Settings,
        weights: Any,
        output: Output,
        cluster: Cluster,
        progress: Progress,
    ) -> None:
        self.records = records
        self._settings, self._weights = settings, weights
        self._output, self._cluster, self._progress = output, cluster, progress
        self._pending: dict[Any, tuple[_Job, Part | None, str]] = {}
        self._saved_s, self._save_took_s = time.monotonic(), 0.0
        self.errors: list[FerStreamError] = []

    def run(self, recordings: Sequence[Recording]) -> None:
        """Analyze recordings. A failure is noted in the recording's record and in `errors`.

        Raises:
            WeightsError: The weights can't be used.
            OutputError: Workers or the driver can't write the output.
        """
        prepared = self._cluster.submit(work.prepare, self._settings, self._weights, self._output)
        while not self._cluster.wait([prepared], REFRESH_S):  # takes long if the cluster must grow first
            self._output.refresh_mark()
        self._cluster.result(prepared)
        self._progress.begin()
        waiting = iter(recordings)
        try:
            while self._submit_more(waiting):
                for reference in self._cluster.wait(list(self._pending), REFRESH_S):
                    job, part, step = self._pending.pop(reference)
                    try:
                        self._continue_job(job, part, step, self._cluster.result(reference))
                    except FerStreamError as error:
                        self._fail(job, error)
                self._progress.refresh()
                self._output.refresh_mark()
                if time.monotonic() - self._saved_s > max(SAVE_EVERY_S, self._save_took_s / SAVE_SHARE):
                    self.save()
        finally:
            self.save()

    def save(self) -> None:
        """Write the manifest and the summary, and the index if this or an earlier run made reports."""
        began_s = time.monotonic()
        write_manifest(self._output, self.records.values(), self._settings)
        if self._settings.report or INDEX in self._output.names():
            write_index(self._output, self.records.values())
        self._saved_s = time.monotonic()
        self._save_took_s = self._saved_s - began_s

    def _submit_more(self, waiting: Iterator[Recording]) -> bool:
        """Submit tasks for more recordings while workers may need them. Return whether tasks are pending."""
        enough = max(LEAST_TASKS_AHEAD, TASKS_AHEAD * self._cluster.slots(self._settings))
        while len(self._pending) < enough and (recording := next(waiting, None)) is not None:
            self._submit(_Job(recording), None, work.inspect, recording)
        return bool(self._pending)

    def _submit(self, job: _Job, part: Part | None, function: Any, *arguments: Any) -> None:
        reference = self._cluster.submit(function, self._settings, *arguments)
        self._pending[reference] = job, part, function.__name__

    def _continue_job(self, job: _Job, part: Part | None, step: str, result: Any) -> None:
        """Submit the tasks that follow from a finished one."""
        if job.error is not None:  # another part of the recording failed
            return
        recording, output = job.recording, self._output
        if step == "inspect":
            job.parts = cut(result, self._settings.part_s, self._settings.warm_up_s)
            if job.parts == [WHOLE]:
                self._submit(job, None, work.analyze, self._weights, recording, output)
            for each in job.parts if len(job.parts) > 1 else []:
                self._submit(job, each, work.analyze_part, self._weights, recording, each, output)
        elif step == "analyze_part":
            assert part is not None
            job.footers[part.index] = result
            self._progress.advance(recording, 1 / len(job.parts))
            if len(job.footers) == len(job.parts):
                footers = [job.footers[index] for index in range(len(job.parts))]
                self._submit(job, None, work.join_parts, recording, job.parts, footers, output)
        else:
            self.records[recording.output_name] = result
            self._progress.done(recording, result, 1.0 if step == "analyze" else 0.0)

    def _fail(self, job: _Job, error: FerStreamError) -> None:
        if job.error is not None:
            return
        job.error = error
        self.errors.append(error)
        for reference, (other, _, _) in self._pending.items():
            if other is job:
                self._cluster.cancel(reference)
        name = job.recording.output_name
        self.records[name] = replace(
            self.records[name], settings=self._settings.key, state=FAILED, error=str(error)
        )
        done = len(job.footers) / len(job.parts) if job.parts else 0.0
        self._progress.failed(job.recording, error, 1.0 - done)

    @property
    def exit_code(self) -> int:
        """Exit code: 0 if nothing failed, else that of an output error, or else that of a source error."""
        codes = {error.exit_code for error in self.errors}
        return OutputError.exit_code if OutputError.exit_code in codes else max(codes, default=0)


@dataclass(frozen=True)
class Estimate:
    """An estimate of a run.

    Attributes:
        parts: For each recording, its length in seconds (0 if unknown) and its number of parts.
        video_s: Seconds of video to analyze, including warm-up. An unknown length counts as the mean, and a
            recording that can't be read as 0.
        rate: Seconds of video per second of one worker; 0 if nothing could be measured.
        measured_s: Seconds of video that were measured.
        slots: Number of tasks at once.
    """

    parts: list[tuple[Recording, float, int]]
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
    """
    looks: dict[str, Look] = {}
    pending: dict[Any, Recording] = {}
    waiting = iter(recordings)
    slots = cluster.slots(settings)
    while True:
        while len(pending) < max(LEAST_TASKS_AHEAD, slots) and (each := next(waiting, None)) is not None:
            pending[cluster.submit(work.inspect, settings, each)] = each
        if not pending:
            break
        for reference in cluster.wait(list(pending), REFRESH_S):
            each = pending.pop(reference)
            try:
                looks[each.output_name] = cluster.result(reference)
            except FerStreamError:  # the run will report it
                looks[each.output_name] = Look()

    cluster.result(cluster.submit(work.prepare, settings, weights, None))
    measurable = [each for each in recordings if looks[each.output_name].duration_s > 0]
    clips = max(MEASURED_CLIPS, slots)
    chosen = measurable[:: max(1, len(measurable) // clips)][:clips]
    references = []
    for each in chosen:  # from the middle, because beginnings are often black or empty
        seen = looks[each.output_name]
        start_s = max(0.0, seen.first_s + max(0.0, seen.duration_s - MEASURED_S) / 2)
        part = Part(0, start_s, start_s + MEASURED_S, start_s)
        references.append(cluster.submit(work.measure, settings, weights, each, part))
    measured_s = took_s = 0.0
    for reference in references:
        try:
            video_s, seconds = cluster.result(reference)
        except FerStreamError:  # the run will report it
            continue
        measured_s, took_s = measured_s + video_s, took_s + seconds

    mean_s = sum(looks[each.output_name].duration_s for each in measurable) / max(1, len(measurable))
    parts, total_s = [], 0.0
    for each in recordings:
        seen = looks[each.output_name]
        cuts = cut(seen, settings.part_s, settings.warm_up_s)
        total_s += seen.duration_s or (mean_s if seen.is_readable else 0.0)
        total_s += sum(part.start_s - part.from_s for part in cuts)
        parts.append((each, seen.duration_s, len(cuts)))
    return Estimate(parts, total_s, measured_s / took_s if took_s else 0.0, measured_s, slots)
