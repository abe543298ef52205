"""Show the progress of a run on standard error, and sum it up at the end.

`bar` shows the progress of a recording, `live` shows the faces of a live source. The summary is the same for
both.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from fer_stream.command.colors import GOOD_HEX, LABEL_STYLES, NOTE_HEX
from fer_stream.command.console import PatientConsole
from fer_stream.command.progress.bar import Bar
from fer_stream.command.progress.live import Lines, Panel, bar_text
from fer_stream.command.progress.people import people_lines
from fer_stream.errors import one_line
from fer_stream.sources import SourceKind
from fer_stream.status import RunStatus
from fer_stream.words import counted, duration_text, percent

if TYPE_CHECKING:
    from fer_stream.pipeline import Summary
    from fer_stream.sources import SourceInfo
    from fer_stream.types import AnalyzedFrame

SHARE_BAR_WIDTH = 30  # characters for 100 %


class Progress:
    """Shows the progress of a run on standard error, and sums it up at the end.

    In a terminal it shows a bar for recordings and pictures, and a panel for live sources. Elsewhere it
    prints a line every few seconds for live sources.

    Args:
        info: Facts about the source.
        status: State of the run.
        quiet: Print nothing.
        plain: Show no panel, because something else is printed in the terminal.
        hint: How to end a live run, for the last line of the panel.
    """

    def __init__(
        self,
        info: SourceInfo,
        status: RunStatus | None = None,
        *,
        quiet: bool,
        plain: bool = False,
        hint: str = "Ctrl-C ends it",
    ) -> None:
        self._info = info
        self._status = status or RunStatus()
        self._noticed = 0
        self._console = PatientConsole(stderr=True, quiet=quiet, highlight=False)
        self._view: Bar | Panel | Lines
        if not info.is_live:
            self._view = Bar(info, self._status, self._console)
        elif self._console.is_terminal and not (quiet or plain):
            self._view = Panel(info, self._status, self._console, hint)
        else:
            self._view = Lines(self._status, self._say)

    def __enter__(self) -> Progress:
        self._view.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._view.stop()

    def update(self, analyzed: AnalyzedFrame | None = None) -> None:
        """Show a finished frame, or that no frame comes, and print new notices."""
        for text in self._status.notices_since(self._noticed):
            self._say(one_line(text))
        self._noticed = self._status.notice_count
        self._view.update(analyzed)

    def summarize(self, summary: Summary, files: Sequence[Path]) -> None:
        """Print the summary: people, expressions, problems and files."""
        self._view.stop()
        images = self._info.kind == SourceKind.IMAGES
        unit = "picture" if images else "frame"
        rate = summary.frames / summary.wall_s if summary.wall_s else 0.0
        state = "interrupted after " if summary.interrupted else ""
        self._say(
            Text(one_line(self._info.name), style="bold"),
            f": {state}{counted(summary.frames, unit)} in {duration_text(summary.wall_s)}",
            f", {rate:.1f} {unit}s/s",
            f", {counted(summary.dropped, 'frame')} dropped" if self._info.is_live else "",
        )
        if not summary.faces:
            self._say("no face found")
        elif images:
            self._say(f"{counted(summary.faces, 'face')}, by expression:")
            for label, share in sorted(summary.shares().items(), key=lambda item: -item[1]):
                if share >= 0.005:
                    bar = bar_text(share, SHARE_BAR_WIDTH, self._console, least_eighths=1)
                    self._say(f"  {label:<9}{percent(share):>3} %  ", Text(bar, LABEL_STYLES[label]))
        else:
            self._say(f"{counted(summary.faces, 'person')}; percentages are shares of the time seen:")
            for line in people_lines(summary):
                self._say("  ", line)
        for problem in summary.problems:
            self._say(Text("note ", style=NOTE_HEX), one_line(problem))
        for path in files:
            self._say(Text("wrote ", style=GOOD_HEX), one_line(path))

    def _say(self, *parts: str | Text) -> None:
        """Print one line. The terminal wraps it, so that it can be copied as one line."""
        with suppress(BrokenPipeError):  # rich before 13.8 does not ask on_broken_pipe
            self._console.print(Text.assemble(*parts), soft_wrap=True)
