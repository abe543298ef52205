"""The driver: hand out tasks and collect their results. Ray decides when and where they run.

For each recording, one task reads its header, one or more tasks analyze it, and a last one joins the parts.
The driver submits only as many tasks as keep the workers busy. It keeps one record for each recording.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fer_stream.batch import work
from fer_stream.batch.cluster import Cluster
from fer_stream.batch.index import INDEX, write_index
from fer_stream.batch.inputs import Recording
from fer_stream.batch.manifest import FAILED, Record, write_manifest
from fer_stream.batch.output_folder import Output
from fer_stream.batch.parts import WHOLE, Part, PartResult, cut
from fer_stream.batch.progress import Progress
from fer_stream.batch.settings import TRACKER_WARM_UP_S, Settings
from fer_stream.errors import FerStreamError, OutputError

TASKS_AHEAD = 4  # submitted per task that can run, so that a cluster sees that it should grow
LEAST_TASKS_AHEAD = 32
REFRESH_S = 0.5
# The manifest of a million recordings takes seconds to write, so it is not written often.
SAVE_EVERY_S = 10.0
SAVE_SHARE = 0.05


@dataclass(eq=False)
class _Job:
    """A recording that is being analyzed.

    Attributes:
        recording: The recording.
        parts: Its parts.
        results: Results of the finished parts, by index.
        error: The error that made it fail; None if it did not fail.
    """

    recording: Recording
    parts: list[Part] = field(default_factory=list)
    results: dict[int, PartResult] = field(default_factory=dict)
    error: FerStreamError | None = None


def write_records(output: Output, records: Collection[Record], settings: Settings) -> None:
    """Write the manifest and the summary, and the index if this or an earlier run made reports.

    Raises:
        OutputError: One of them can't be written.
    """
    write_manifest(output, records, settings)
    if settings.report or INDEX in output.names():
        write_index(output, records)


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
        self._pending: dict[Any, tuple[_Job, Part | None, Callable[..., Any]]] = {}
        self._saved_s, self._save_took_s = time.monotonic(), 0.0
        self.errors: list[FerStreamError] = []

    def run(self, recordings: Sequence[Recording]) -> None:
        """Analyze recordings. A failure is noted in the recording's record and in `errors`.

        Raises:
            WeightsError: The weights can't be used.
            UsageError: A worker can't use its GPU.
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
        """Write the records."""
        began_s = time.monotonic()
        write_records(self._output, self.records.values(), self._settings)
        self._saved_s = time.monotonic()
        self._save_took_s = self._saved_s - began_s

    def _submit_more(self, waiting: Iterator[Recording]) -> bool:
        """Submit tasks for more recordings while workers may need them. Return whether tasks are pending."""
        enough = max(LEAST_TASKS_AHEAD, TASKS_AHEAD * self._cluster.slots(self._settings))
        while len(self._pending) < enough and (recording := next(waiting, None)) is not None:
            self._submit(_Job(recording), None, work.read_header, recording)
        return bool(self._pending)

    def _submit(self, job: _Job, part: Part | None, step: Callable[..., Any], *arguments: Any) -> None:
        reference = self._cluster.submit(step, self._settings, *arguments)
        self._pending[reference] = job, part, step

    def _continue_job(self, job: _Job, part: Part | None, step: Callable[..., Any], result: Any) -> None:
        """Submit the tasks that follow from a finished one."""
        if job.error is not None:  # another part of the recording failed
            return
        recording, output = job.recording, self._output
        if step is work.read_header:
            job.parts = cut(result, self._settings.part_s, TRACKER_WARM_UP_S)
            if job.parts == [WHOLE]:
                self._submit(job, None, work.analyze, self._weights, recording, output)
            else:
                for each in job.parts:
                    self._submit(job, each, work.analyze_part, self._weights, recording, each, output)
        elif step is work.analyze_part:
            assert part is not None
            job.results[part.index] = result
            self._progress.advance(recording, 1 / len(job.parts))
            if len(job.results) == len(job.parts):
                results = [job.results[index] for index in range(len(job.parts))]
                self._submit(job, None, work.join_parts, recording, job.parts, results, output)
        else:
            self.records[recording.output_name] = result
            self._progress.done(recording, result, 1.0 if step is work.analyze else 0.0)

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
        done = len(job.results) / len(job.parts) if job.parts else 0.0
        self._progress.failed(job.recording, error, 1.0 - done)

    @property
    def exit_code(self) -> int:
        """0 if nothing failed; 4 if an output failed; otherwise the highest code among the errors."""
        codes = {error.exit_code for error in self.errors}
        return OutputError.exit_code if OutputError.exit_code in codes else max(codes, default=0)
