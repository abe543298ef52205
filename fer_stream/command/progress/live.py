"""Show the faces of a live source: a panel in a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.text import Text

from fer_stream.command.colors import BAD_HEX, LABEL_STYLES, NOTE_HEX
from fer_stream.errors import one_line
from fer_stream.expressions import EXPRESSIONS
from fer_stream.words import clock_text, counted, percent

if TYPE_CHECKING:
    from fer_stream.sources import SourceInfo
    from fer_stream.status import RunStatus
    from fer_stream.types import AnalyzedFrame, Face

REFRESH_S = 1 / 8  # fast enough for bars to move smoothly; costs a few per cent of a core
LINE_EVERY_S = 5.0
MOST_NAMED_FACES = 6  # in a line

_EIGHTHS = " ▏▎▍▌▋▊▉"
_COLUMNS = " ▁▂▃▄▅▆▇█"
_LEAST_BLOCK, _MOST_BLOCK, _GAP = 24, 40, 3  # characters: width of a face's block, and of the gap between two
_BLOCK_ROWS = len(EXPRESSIONS) + 2  # title, bars and an empty line
_COMPACT_WIDTH = 34  # "person 12 surprise 100 %  ▁▂▃▄▅▆▇"
_COMPACT_FOR_S = 2.0  # so that the panel does not jump when faces are missed for a moment


class Lines:
    """Prints a line every few seconds, and when the source goes away or comes back."""

    def __init__(self, status: RunStatus, say: Callable[[str], None]) -> None:
        self._status, self._say = status, say
        self._faces: tuple[Face, ...] = ()
        self._printed_s = time.monotonic()
        self._connected = True

    def start(self) -> None:
        """Do nothing. The first line comes with the first frames."""

    def stop(self) -> None:
        """Do nothing."""

    def update(self, analyzed: AnalyzedFrame | None) -> None:
        """Show a finished frame; None while no frame comes."""
        if analyzed is not None:
            self._faces = analyzed.faces
        status, now_s = self._status, time.monotonic()
        if status.source.connected != self._connected:
            self._connected = status.source.connected
            self._say("the source is back" if self._connected else one_line(status.source.message))
        if status.frames and now_s - self._printed_s >= LINE_EVERY_S:
            self._printed_s = now_s
            self._say(self._line())

    def _line(self) -> str:
        status = self._status
        parts = [f"{status.clock()}: {', '.join(status.numbers())}"]
        faces = [_in_words(face) for face in self._faces]
        more = len(faces) - MOST_NAMED_FACES
        named = ", ".join(faces[:MOST_NAMED_FACES]) + (f" and {more} more" if more > 0 else "")
        if status.source.message:
            parts.append(one_line(status.source.message))
        else:
            parts.append(f"{counted(len(faces), 'person')}: {named}" if faces else "no face")
        parts += [
            f"recording {one_line(entry.path)} {clock_text(entry.duration_s)}" for entry in status.recordings
        ]
        return "; ".join(parts)


class Panel:
    """A panel with the faces and their bars, the state of the run, and its recordings.

    Args:
        info: Facts about the source.
        status: State of the run.
        console: A terminal.
        hint: The last line, such as how to end the run.
    """

    def __init__(self, info: SourceInfo, status: RunStatus, console: Console, hint: str) -> None:
        self._name = one_line(info.name)
        self._status, self._console, self._hint = status, console, hint
        self._faces: tuple[Face, ...] = ()
        self._drawn_s = self._compact_until_s = 0.0
        self._live = Live(
            console=console,
            auto_refresh=False,  # it would need a thread
            transient=True,
            vertical_overflow="crop",
            redirect_stdout=False,  # standard output belongs to the table
            redirect_stderr=False,
        )

    def start(self) -> None:
        """Show the panel."""
        self._live.start()
        self._live.update(Text(f"loading for {self._name} …", style="dim"), refresh=True)

    def stop(self) -> None:
        """Remove the panel. May be called again."""
        self._live.stop()

    def update(self, analyzed: AnalyzedFrame | None) -> None:
        """Show a finished frame; None while no frame comes."""
        if analyzed is not None:
            self._faces = analyzed.faces
        now_s = time.monotonic()
        if self._status.frames and now_s - self._drawn_s >= REFRESH_S:
            self._drawn_s = now_s
            width, height = self._console.size
            self._live.update(self.render(width, height - 1, now_s), refresh=True)

    def render(self, width: int, height: int, now_s: float) -> Text:
        """Return the panel as lines that fit into the terminal.

        Args:
            width: Width of the terminal in characters.
            height: Largest number of lines.
            now_s: `time.monotonic()`.
        """
        status = self._status
        head = [_line_of_two(Text(self._name, style="bold"), self._recordings(), width)]
        head.append(Text(" · ".join((status.clock(), *status.numbers(now_s)))))
        if status.source.message:
            head.append(Text(f"● {one_line(status.source.message)}", style=f"bold {NOTE_HEX}"))
        head.append(Text())
        rows = max(1, height - len(head) - 2)
        if not status.source.connected:
            body = []  # the last faces may be gone by now
        elif not self._faces:
            body = [Text("no face in the picture", style="dim"), Text()]
        else:
            body = self._face_lines(width, rows, now_s)
        lines = [*head, *body, Text(self._hint, style="dim")][:height]
        for line in lines:
            line.truncate(width, overflow="ellipsis")
        return Text("\n").join(lines)

    def _recordings(self) -> Text:
        recordings = self._status.recordings
        if not recordings:
            return Text()
        text = Text("● ", style=f"bold {BAD_HEX}")
        text.append(clock_text(recordings[0].duration_s), style="bold")
        text.append(
            "  " + ", ".join(one_line(entry.path.name) for entry in recordings), style="not bold default"
        )
        return text

    def _face_lines(self, width: int, rows: int, now_s: float) -> list[Text]:
        columns = max(1, (width + _GAP) // (_LEAST_BLOCK + _GAP))
        if len(self._faces) > columns * max(1, (rows + 1) // _BLOCK_ROWS):
            self._compact_until_s = now_s + _COMPACT_FOR_S
        if now_s < self._compact_until_s or rows < _BLOCK_ROWS - 1:
            columns = max(1, (width + _GAP) // (_COMPACT_WIDTH + _GAP))
            shown = self._faces[: columns * (rows if len(self._faces) <= columns * rows else rows - 1)]
            lines = _side_by_side([[self._compact(face)] for face in shown], columns, _COMPACT_WIDTH)
            if len(shown) < len(self._faces):
                lines.append(Text(f"and {len(self._faces) - len(shown)} more", style="dim"))
            # A legend for the columns, if there is room for it.
            legend = Text(" ").join(Text(name, style=LABEL_STYLES[name]) for name in EXPRESSIONS)
            return [*lines, Text(), legend] if len(lines) + 2 <= rows else [*lines, Text()]
        block = min(_MOST_BLOCK, (width + _GAP) // columns - _GAP)
        return _side_by_side([self._block(face, block) for face in self._faces], columns, block)

    def _block(self, face: Face, width: int) -> list[Text]:
        """Return a face's title and its seven bars."""
        title = Text(f"person {face.id}", style="dim")
        title.append(f"  {face.label}", style=_label_style(face))
        length = width - 15  # without "surprise " before and " 100 %" after the bar
        lines = [title]
        for name, probability in zip(EXPRESSIONS, face.probabilities.tolist(), strict=True):
            top = name == face.label
            line = Text(f"{name:<9}", style="bold" if top else "dim")
            line.append(
                f"{bar_text(probability, length, self._console):<{length}}",
                style=f"not dim not bold {LABEL_STYLES[name]}",
            )
            line.append(f"{percent(probability, unsure=face.unsure):>4} %", style="" if top else "dim")
            lines.append(line)
        return [*lines, Text()]

    def _compact(self, face: Face) -> Text:
        """Return a face in one line: its label, and seven columns in the order of the expressions."""
        line = Text(f"person {face.id:<3}", style="dim")
        line.append(f"{face.label:<9}", style=_label_style(face))
        line.append("       " if face.unsure else f"{percent(face.confidence):>3} %  ", style="not dim")
        for name, probability in zip(EXPRESSIONS, face.probabilities.tolist(), strict=True):
            if self._console.encoding.startswith("utf"):
                column = _COLUMNS[max(1, min(8, round(8 * probability)))]
                line.append(column, style=f"not dim {LABEL_STYLES[name]}")
        return line


def _in_words(face: Face) -> str:
    return f"{face.id} {face.label}" + ("" if face.unsure else f" {percent(face.confidence)} %")


def _label_style(face: Face) -> str:
    """Return the style of a face's label: its colour, or a quiet one if the face is unsure."""
    return "dim" if face.unsure else f"not dim bold {LABEL_STYLES[face.expression]}"


def _line_of_two(left: Text, right: Text, width: int) -> Text:
    """Return a line with a text at each end. The left one is shortened to fit."""
    left.truncate(max(8, width - right.cell_len - 2), overflow="ellipsis")
    return Text.assemble(left, " " * max(1, width - left.cell_len - right.cell_len), right)


def _side_by_side(blocks: Sequence[Sequence[Text]], columns: int, width: int) -> list[Text]:
    """Arrange blocks with the same number of lines in columns, row by row."""
    lines = []
    for begin in range(0, len(blocks), columns):
        for parts in zip(*blocks[begin : begin + columns], strict=True):
            line = Text()
            for part in parts:
                line.append_text(part)
                line.append(" " * (width - part.cell_len + _GAP))
            line.rstrip()
            lines.append(line)
    return lines


def bar_text(share: float, length: int, console: Console, least_eighths: int = 0) -> str:
    """Return a bar, exact to an eighth of a character if the terminal can show that.

    Args:
        share: Share to show, 0 to 1.
        length: Length of the bar for 1, in characters.
        console: The terminal.
        least_eighths: Smallest length of a bar, in eighths.
    """
    if not console.encoding.startswith("utf"):
        return "#" * max(min(least_eighths, 1), round(share * length))
    whole, eighths = divmod(max(least_eighths, round(share * length * 8)), 8)
    return ("█" * whole + _EIGHTHS[eighths]).rstrip()
