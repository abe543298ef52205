"""The parts of the overlay and their sizes: tags, panels of bars, and a face with all of its parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from fer_stream.expressions import EXPRESSIONS, UNSURE
from fer_stream.rendering.overlay.geometry import Rect
from fer_stream.types import Face
from fer_stream.words import percent

SMALLEST_TEXT_PX = 11  # in smaller text, antialiased lower-case letters run together

REGULAR, SEMIBOLD = 400, 600  # font weights

# Factors on the size of the text, for a small, an ordinary and a large face.
TEXT_STEPS = (0.8, 1.0, 1.25)

# (text, size_px, weight) -> width in px; passed in, so that placement needs no font.
MeasureText = Callable[[str, int, int], int]


class Level(IntEnum):
    """Level of detail of a face's probabilities."""

    TAG = 0  # no bars
    MINI = 1  # bars alone, with no text
    COMPACT = 2  # names and bars in small text
    FULL = 3  # names, bars and numbers


@dataclass(frozen=True)
class PanelStyle:
    """Dimensions inside a panel, px.

    Attributes:
        level: Level of detail.
        text_px: Size of its text.
        padding: Space inside the plate's edge.
        row: Height of a row.
        name_width: Width of the names' column; 0 in a mini panel.
        gap: Space between columns.
        bar_wh: Length and thickness of the longest bar.
        number_width: Width of the numbers' column; 0 in a panel without numbers.
    """

    level: Level
    text_px: int
    padding: int
    row: int
    name_width: int
    gap: int
    bar_wh: tuple[int, int]
    number_width: int

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height of the whole panel."""
        width = (
            self.name_width
            + self.gap
            + self.bar_wh[0]
            + (self.gap + self.number_width if self.number_width else 0)
        )
        return width + 2 * self.padding, len(EXPRESSIONS) * self.row + 2 * self.padding


@dataclass(frozen=True)
class PlacedTag:
    """A face's tag.

    Attributes:
        rect: Its background plate.
        text_px: Size of its text.
        padding: Space inside its left and right edge.
        shows_id: Whether it has room for the face's id.
    """

    rect: Rect
    text_px: int
    padding: int
    shows_id: bool


@dataclass(frozen=True)
class PlacedPanel:
    """A face's bars.

    Attributes:
        rect: Their background plate.
        style: Dimensions inside the panel.
        opacity: 0 to 1; a panel fades in at a new place.
        tie: The short bridge between the panel and its face's box; None if they touch.
    """

    rect: Rect
    style: PanelStyle
    opacity: float = 1.0
    tie: Rect | None = None


@dataclass(frozen=True)
class PlacedFace:
    """A face and the places of its parts.

    Attributes:
        face: The face.
        box: Its box, whole px, inside the frame; may be empty for a degenerate one.
        line_px: Thickness of the box's corners.
        tag: Its tag; None if no place is free for it.
        panel: Its bars; None if no place is free for them.
    """

    face: Face
    box: Rect
    line_px: int
    tag: PlacedTag | None
    panel: PlacedPanel | None


@dataclass(frozen=True)
class Scene:
    """A frame, prepared for placement.

    Attributes:
        view: The frame.
        faces: Its faces.
        boxes: Their boxes, whole px, inside the frame.
        text_px: Size of ordinary text in a frame of this size.
        gap: Ordinary space between parts, px.
        now_s: Time of the frame.
        step_s: Time since the previous frame; 0 for the first.
    """

    view: Rect
    faces: Sequence[Face]
    boxes: Sequence[Rect]
    text_px: int
    gap: int
    now_s: float
    step_s: float


def tag_text(face: Face) -> str:
    """Return the text of a tag: "happy 87 %", or "unsure"."""
    return UNSURE if face.unsure else f"{face.expression} {percent(face.confidence)} %"


def widest_tag_text(face: Face) -> str:
    """Return the text that a tag reserves room for. Its digits are wide, so that the plate keeps its size."""
    return tag_text(face) if face.unsure or percent(face.confidence) == 100 else f"{face.expression} 88 %"


def id_text(face: Face) -> str:
    """Return the text for the face's id."""
    return f"{face.id}"


def scaled_text_px(text_px: int, factor: float) -> int:
    """Return a text size times a factor, but at least a readable size."""
    return max(SMALLEST_TEXT_PX, round(text_px * factor))


def panel_style(level: Level, text_px: int, measure: MeasureText) -> PanelStyle:
    """Return the dimensions of a panel for a size of text."""
    if level <= Level.MINI:
        thickness = round(0.25 * text_px)
        return PanelStyle(
            level=Level.MINI,
            text_px=text_px,
            padding=round(0.3 * text_px),
            row=thickness + max(1, round(0.12 * text_px)),
            name_width=0,
            gap=0,
            bar_wh=(round(2.5 * text_px), thickness),
            number_width=0,
        )
    full = level is Level.FULL
    return PanelStyle(
        level=level,
        text_px=text_px,
        padding=round((0.75 if full else 0.5) * text_px),
        row=round((1.5 if full else 1.25) * text_px),
        name_width=max(measure(name, text_px, SEMIBOLD) for name in EXPRESSIONS),
        gap=round(0.6 * text_px),
        bar_wh=(round((5.5 if full else 3.5) * text_px), max(3, round(0.5 * text_px))),
        number_width=measure("100", text_px, SEMIBOLD) if full else 0,
    )
