"""What the command says while it runs and when it is done: a progress bar and a short summary."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import rich.progress
from rich.console import Console
from rich.table import Column
from rich.text import Text

from fer_stream.errors import one_line
from fer_stream.expressions import color_hex
from fer_stream.times import format_time

if TYPE_CHECKING:
    from fer_stream.pipeline import Summary
    from fer_stream.sources import SourceInfo
    from fer_stream.types import AnalyzedFrame

SHARE_BAR_WIDTH = 30  # characters for all of the time
NAME_WIDTH = 26
_EIGHTHS = " ▏▎▍▌▋▊▉"


class Progress:
    """Shows how far a run is on standard error, in a terminal; and sums it up afterwards.

    Args:
        info: The source.
        quiet: Say nothing at all.
    """

    def __init__(self, info: SourceInfo, *, quiet: bool) -> None:
        self._info = info
        self._console = _Console(stderr=True, quiet=quiet, highlight=False)
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn(
                "{task.description}",
                markup=False,  # a name may look like it
                table_column=Column(no_wrap=True, overflow="ellipsis", max_width=NAME_WIDTH),
            ),
            rich.progress.BarColumn(
                bar_width=None,
                complete_style="cyan",
                finished_style="green",
                table_column=Column(ratio=1),
            ),
            _Position(table_column=Column(no_wrap=True, justify="right")),
            _Rate(table_column=Column(no_wrap=True, justify="right")),
            _TimeLeft(table_column=Column(no_wrap=True, justify="right", min_width=9)),
            console=self._console,
            transient=True,
            expand=True,
            disable=quiet or not self._console.is_terminal,
        )
        # Until the first frame is through; the networks are made ready in that time.
        self._task = self._bar.add_task(f"loading {_short_name(info)}", total=info.frame_count)

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def frame_done(self, analyzed: AnalyzedFrame, summary: Summary) -> None:
        """Takes note of a finished frame."""
        self._bar.update(self._task, description=_short_name(self._info), completed=summary.frames)

    def summarize(self, summary: Summary, files: Sequence[Path]) -> None:
        """Says what came out: faces, expressions, what went wrong, files."""
        self._bar.stop()
        images = self._info.kind == "images"
        unit = "picture" if images else "frame"
        rate = summary.frames / summary.wall_s if summary.wall_s else 0.0
        state = "interrupted after " if summary.interrupted else ""
        self._say(
            Text(one_line(self._info.name), style="bold"),
            f": {state}{_counted(summary.frames, unit)} in {_duration(summary.wall_s)}",
            f", {rate:.1f} {unit}s/s",
            f", {_counted(summary.dropped, 'frame')} dropped" if self._info.is_live else "",
        )
        if not summary.faces:
            self._say("no face found")
        else:
            faces = _counted(summary.faces, "face")
            share_of = "their expressions" if images else "share of the time that a face was seen"
            self._say(f"{faces}; {share_of}:")
            for name, share in sorted(summary.shares().items(), key=lambda item: -item[1]):
                if share >= 0.005:
                    self._say(f"  {name:<9}{share:>5.0%}  ", Text(self._share_bar(share), color_hex(name)))
        for problem in summary.problems:
            self._say(Text("note ", style="yellow"), one_line(problem))
        for path in files:
            self._say(Text("wrote ", style="green"), one_line(path))

    def _say(self, *parts: str | Text) -> None:
        """Says one line. A terminal wraps it, and it is whole again when copied."""
        with suppress(BrokenPipeError):  # rich before 13.8 does not ask on_broken_pipe
            self._console.print(Text.assemble(*parts), soft_wrap=True)

    def _share_bar(self, share: float) -> str:
        """Returns a bar to an eighth of a character, where the terminal has them."""
        if not self._console.encoding.startswith("utf"):
            return "#" * max(1, round(share * SHARE_BAR_WIDTH))
        whole, eighths = divmod(max(1, round(share * SHARE_BAR_WIDTH * 8)), 8)
        return ("█" * whole + _EIGHTHS[eighths]).rstrip()


class _Console(Console):
    """A console whose reader may go away: the run's files count, not what is said about them."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class _Position(rich.progress.ProgressColumn):
    """Frames done, of how many."""

    def render(self, task: rich.progress.Task) -> Text:
        done = int(task.completed)
        return Text(str(done) if task.total is None else f"{done}/{max(done, int(task.total))}")


class _Rate(rich.progress.ProgressColumn):
    """Frames a second, lately."""

    def render(self, task: rich.progress.Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s", style="cyan")


class _TimeLeft(rich.progress.ProgressColumn):
    """Time left; of a source without a known end, the time so far."""

    max_refresh = 0.5

    def render(self, task: rich.progress.Task) -> Text:
        if task.total is None:
            return Text(format_time(int(task.elapsed or 0)))
        left_s = task.time_remaining
        return Text("" if left_s is None else f"{format_time(int(left_s))} left")


def _short_name(info: SourceInfo) -> str:
    return one_line(info.name if info.is_live else Path(info.name).name or info.name)


def _counted(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else format_time(round(seconds))
