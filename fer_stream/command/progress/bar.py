"""A progress bar for recordings and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import rich.progress
from rich.console import Console
from rich.table import Column
from rich.text import Text

from fer_stream.command.colors import BUSY_HEX, GOOD_HEX
from fer_stream.errors import one_line
from fer_stream.words import clock_text

if TYPE_CHECKING:
    from fer_stream.sources import SourceInfo
    from fer_stream.status import RunStatus
    from fer_stream.types import AnalyzedFrame

NAME_WIDTH = 26


class Bar:
    """The progress bar of a recording or of pictures. Outside a terminal it shows nothing."""

    def __init__(self, info: SourceInfo, status: RunStatus, console: Console) -> None:
        self._status = status
        self._name = one_line(Path(info.name).name or info.name)
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn(
                "{task.description}",
                markup=False,  # a name may look like markup
                table_column=Column(no_wrap=True, overflow="ellipsis", max_width=NAME_WIDTH),
            ),
            rich.progress.BarColumn(
                bar_width=None,
                complete_style=BUSY_HEX,
                finished_style=GOOD_HEX,
                table_column=Column(ratio=1),
            ),
            _Position(table_column=Column(no_wrap=True, justify="right")),
            _Rate(table_column=Column(no_wrap=True, justify="right")),
            _TimeLeft(table_column=Column(no_wrap=True, justify="right", min_width=9)),
            console=console,
            transient=True,
            expand=True,
            disable=console.quiet or not console.is_terminal,
        )
        # Shown until the first frame is done, while the networks load.
        self._task = self._bar.add_task(f"loading {self._name}", total=info.frame_count)

    def start(self) -> None:
        """Show the bar."""
        self._bar.start()

    def stop(self) -> None:
        """Remove the bar. May be called again."""
        self._bar.stop()

    def update(self, analyzed: AnalyzedFrame | None) -> None:
        """Show a finished frame; None while no frame comes."""
        if analyzed is not None:
            self._bar.update(self._task, description=self._name, completed=self._status.frames)


class _Position(rich.progress.ProgressColumn):
    """Column with the frames done and their total."""

    def render(self, task: rich.progress.Task) -> Text:
        done = int(task.completed)
        return Text(str(done) if task.total is None else f"{done}/{max(done, int(task.total))}")


class _Rate(rich.progress.ProgressColumn):
    """Column with the current frames per second."""

    def render(self, task: rich.progress.Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s", style=BUSY_HEX)


class _TimeLeft(rich.progress.ProgressColumn):
    """Column with the time left, or the time so far if the end is unknown."""

    max_refresh = 0.5

    def render(self, task: rich.progress.Task) -> Text:
        if task.total is None:
            return Text(clock_text(task.elapsed or 0))
        left_s = task.time_remaining
        return Text("" if left_s is None else f"{clock_text(left_s)} left")
