"""Show the progress of fer-batch: a bar for the archive in a terminal, or a line per recording elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence

import rich.progress
from rich.console import Console
from rich.table import Column
from rich.text import Text

from fer_stream.batch.index import INDEX, common_folder
from fer_stream.batch.inputs import Recording
from fer_stream.batch.manifest import Record
from fer_stream.batch.settings import Settings
from fer_stream.command.colors import BAD_HEX, BUSY_HEX, GOOD_HEX
from fer_stream.command.reporting import say
from fer_stream.errors import FerStreamError, one_line
from fer_stream.words import clock_text, counted

PROG = "fer-batch"


class Progress:
    """Shows the progress of an archive: recordings, rate, failures and time left.

    The time left is estimated from file sizes, which are known before a recording is opened. Failed
    recordings are left out, because most fail at once, whatever their size.

    Args:
        recordings: The recordings to analyze.
        quiet: Print failures only.
    """

    def __init__(self, recordings: Sequence[Recording], *, quiet: bool) -> None:
        self._total = len(recordings)
        self._folder = common_folder([recording.name for recording in recordings])
        self._total_bytes = float(sum(_weight(recording) for recording in recordings))
        self._quiet = quiet
        self._done = self._failed = 0
        self._video_s = self._done_bytes = 0.0
        self._began_s = time.monotonic()
        self._console = Console(stderr=True, highlight=False)
        self._bar: rich.progress.Progress | None = None
        if self._console.is_terminal and not quiet:
            self._bar = rich.progress.Progress(
                rich.progress.TextColumn("{task.description}", markup=False),
                rich.progress.BarColumn(
                    bar_width=None,
                    complete_style=BUSY_HEX,
                    finished_style=GOOD_HEX,
                    table_column=Column(ratio=1),
                ),
                rich.progress.TextColumn("{task.fields[failures]}", style=BAD_HEX, markup=False),
                rich.progress.TextColumn("{task.fields[rate]}", style=BUSY_HEX, markup=False),
                rich.progress.TextColumn("{task.fields[left]}", markup=False),
                console=self._console,
                transient=True,
                expand=True,
            )
            self._task = self._bar.add_task(
                "starting workers", total=self._total_bytes, failures="", rate="", left=""
            )

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self) -> None:
        """Start the clock. Called when the networks are loaded."""
        self._began_s = time.monotonic()
        self.refresh()

    def advance(self, recording: Recording, share: float) -> None:
        """Note that a share of a recording (0 to 1) has been analyzed."""
        self._done_bytes += share * _weight(recording)

    def done(self, recording: Recording, record: Record, share: float) -> None:
        """Report a finished recording. `share` is the part of it that `advance` has not counted."""
        self.advance(recording, share)
        self._done += 1
        self._video_s += record.duration_s
        people = counted(record.faces, "person")
        length, took = clock_text(record.duration_s), clock_text(record.seconds)
        note = f"; {record.error}" if record.error else ""
        name = record.source.removeprefix(self._folder)
        self._line(
            Text("done ", style=GOOD_HEX),
            f"{name}: {length} of video, {people}, in {took} of work{note}",
        )

    def failed(self, recording: Recording, error: FerStreamError, share: float) -> None:
        """Report a recording that failed, by name.

        Args:
            recording: The recording.
            error: Its error, which need not name it.
            share: The part of it that `advance` has not counted.
        """
        self._total_bytes -= share * _weight(recording)
        self._failed += 1
        text = str(error) if recording.name in str(error) else f"{recording.name}: {error}"
        if self._quiet:
            say(PROG, text)
        else:
            self._line(Text("failed ", style=BAD_HEX), text)

    def refresh(self) -> None:
        """Update the bar."""
        if self._bar is not None:
            self._bar.update(
                self._task,
                completed=self._done_bytes,
                total=self._total_bytes,
                description=f"{self._done + self._failed}/{self._total} recordings",
                failures=f"{self._failed} failed" if self._failed else "",
                rate=self._rate(),
                left=self._time_left(),
            )

    def summarize(self, before: int, place: str, settings: Settings, *, interrupted: bool = False) -> None:
        """Print the summary.

        Args:
            before: Number of recordings that earlier runs finished.
            place: The output, for messages.
            settings: The settings, which say what was written.
            interrupted: Whether the run was interrupted.
        """
        if self._bar is not None:
            self._bar.stop()
        if self._quiet:
            return
        failed = f", {self._failed} failed" if self._failed else ""
        earlier = f", {before} were done before" if before else ""
        left = self._total - self._done - self._failed
        undone = f", {left} not done: run the same command to continue" if interrupted and left else ""
        rate = f" ({rate})" if (rate := self._rate()) else ""
        took = clock_text(time.monotonic() - self._began_s)
        say(PROG, f"{self._done} of {self._total} recordings done in {took}{rate}{failed}{earlier}{undone}")
        folders = settings.folders if self._done else ()
        written = [f"{folder}/*{settings.suffix(folder)}" for folder in folders]
        written += [f"summary.{settings.table}", "manifest.parquet", *([INDEX] if settings.report else [])]
        say(PROG, f"wrote {place}: {', '.join(written)}")

    def _line(self, word: Text, text: str) -> None:
        if self._quiet:
            return
        if self._bar is not None:
            self._console.print(Text.assemble(word, one_line(text)), soft_wrap=True)
            return
        state = ", ".join(part for part in (self._rate(), self._time_left()) if part)
        count = f"{self._done + self._failed}/{self._total}"
        say(PROG, f"{count} {word.plain}{text}" + (f" ({state})" if state else ""))

    def _rate(self) -> str:
        """Return the speed relative to real time as text; empty before the first recording is done."""
        elapsed_s = time.monotonic() - self._began_s
        return f"{self._video_s / elapsed_s:.1f} times real time" if self._video_s and elapsed_s else ""

    def _time_left(self) -> str:
        elapsed_s = time.monotonic() - self._began_s
        left_bytes = self._total_bytes - self._done_bytes
        if not self._done_bytes or left_bytes < 0.5:
            return ""
        return f"{clock_text(elapsed_s * left_bytes / self._done_bytes)} left"


def _weight(recording: Recording) -> int:
    return max(1, recording.size_bytes)
