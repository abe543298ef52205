"""What the command says while it runs and when it is done: a progress bar and a short summary."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import rich.progress
from rich.console import Console
from rich.markup import escape
from rich.table import Column
from rich.text import Text

from fer_stream.expressions import color_hex
from fer_stream.times import format_time

if TYPE_CHECKING:
    from fer_stream.pipeline import Summary
    from fer_stream.sources import SourceInfo
    from fer_stream.types import AnalyzedFrame

BAR_WIDTH = 24


class _Rate(rich.progress.ProgressColumn):
    """Frames a second so far."""

    def render(self, task: rich.progress.Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} frames/s", style="cyan")


class Progress:
    """Shows how far a run is on standard error, in a terminal; and sums it up afterwards.

    Args:
        info: The source.
        quiet: Say nothing at all.
    """

    def __init__(self, info: SourceInfo, *, quiet: bool) -> None:
        self._info = info
        self._console = Console(stderr=True, quiet=quiet, highlight=False)
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}", table_column=Column(no_wrap=True, ratio=1)),
            rich.progress.BarColumn(bar_width=None, table_column=Column(ratio=1)),
            rich.progress.MofNCompleteColumn(),
            _Rate(),
            rich.progress.TimeRemainingColumn(compact=True),
            console=self._console,
            transient=True,
            expand=True,
            disable=quiet or not self._console.is_terminal,
        )
        name = Path(info.name).name or info.name
        self._task = self._bar.add_task(escape(name), total=info.frame_count)

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
        self._bar.advance(self._task)

    def summarize(self, summary: Summary, files: Sequence[Path]) -> None:
        """Says what came out: faces, expressions, what went wrong, files."""
        self._bar.stop()
        say = self._console.print
        images = self._info.kind == "images"
        rate = summary.frames / summary.wall_s if summary.wall_s else 0.0
        unit = "picture" if images else "frame"
        state = "interrupted after" if summary.interrupted else "analyzed"
        say(
            f"{escape(self._info.name)}: {state} {_count(summary.frames, unit)} "
            f"in {format_time(round(summary.wall_s, 1))}, {rate:.1f} {unit}s/s"
            + (f", {_count(summary.dropped, 'frame')} dropped" if self._info.is_live else "")
        )
        say("no face found" if not summary.faces else f"{_count(summary.faces, 'face')} seen")
        if summary.faces:
            what = "faces" if images else "face time"
            for name, share in sorted(summary.shares().items(), key=lambda item: -item[1]):
                if share >= 0.005:
                    bar = Text("█" * max(1, round(share * BAR_WIDTH)), style=color_hex(name))
                    say(Text(f"  {name:<9}{share:>5.0%} "), bar, Text(f" of {what}") if share > 0.5 else "")
        for problem in summary.problems:
            say(f"note: {escape(problem)}")
        for path in files:
            say(f"wrote {escape(str(path))}", soft_wrap=True)


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"
