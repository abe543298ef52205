"""Where the overlay's parts go. Pure geometry: no pixels, but a memory of the last frame.

Two rules compete: nothing may cover a face or leave the frame, and nothing may jump. So every face
keeps the place of its label and panel for as long as that place is free; only when it is not, the
best free one is taken. Sizes come in steps with hysteresis, and a panel glides after its face.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from fer_stream.expressions import EXPRESSIONS
from fer_stream.types import AnalyzedFrame, Face
from fer_stream.words import percent

REFERENCE_AREA_PX = 1280 * 720
REFERENCE_TEXT_PX = 16
SMALLEST_TEXT_PX = 11  # below it, antialiased lower-case letters close up

REGULAR, SEMIBOLD = 400, 600  # font weights

MEMORY_S = 1.0  # how long a face may be away and still find its old place
GLIDE_S = 0.12  # time constant of a panel that follows its face
FADE_S = 0.2  # a panel that has to change its place fades in there
RECHECK_S = 0.4  # a better panel must fit at two looks, this far apart
ENOUGH_ROOM = 4  # gaps: room beyond it does not make a place better
ORDER_COST = 0.9  # gaps: a place further down the order needs about this much more room to be taken
MOVE_BACK_COST = 4  # gaps: the place that has just been lost is taken again last
CROWDED_SHARE = 0.2  # of the frame, under full panels: above it all of them turn compact

# (text, size_px, weight) -> width in px; handed in so that this module needs no font.
MeasureText = Callable[[str, int, int], int]


class Rect(NamedTuple):
    """A rectangle in whole pixels; right and bottom are the first column and row outside it."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Width in px."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Height in px."""
        return self.bottom - self.top

    def overlap_px(self, other: Rect) -> int:
        """The area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return width * height if width > 0 and height > 0 else 0

    def inside(self, other: Rect) -> bool:
        """Whether all of it lies in the other one."""
        return (
            self.left >= other.left
            and self.top >= other.top
            and self.right <= other.right
            and self.bottom <= other.bottom
        )


class Level(IntEnum):
    """How much of a face's probabilities there is room for."""

    LABEL = 0  # no bars
    MINI = 1  # seven small columns, no text
    COMPACT = 2  # names and bars in small text
    FULL = 3  # names, bars and numbers


@dataclass(frozen=True)
class PanelStyle:
    """The inner measures of a panel, px.

    Attributes:
        level: What it shows.
        text_px: Size of its text.
        padding: Space inside the plate's edge.
        row: Height of a row; of a mini panel, the width of a column with its gap.
        name_width: Width of the names' column.
        gap: Space between columns.
        bar_wh: The longest bar's length and its thickness; of a mini panel, width and height.
        number_width: Width of the numbers' column.
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
        count = len(EXPRESSIONS)
        if self.level is Level.MINI:
            width = count * self.row - (self.row - self.bar_wh[0])
            return width + 2 * self.padding, self.bar_wh[1] + 2 * self.padding
        width = (
            self.name_width
            + self.gap
            + self.bar_wh[0]
            + (self.gap + self.number_width if self.number_width else 0)
        )
        return width + 2 * self.padding, count * self.row + 2 * self.padding


@dataclass(frozen=True)
class PlacedFace:
    """A face and where its parts are drawn.

    Attributes:
        face: The face.
        box: Its box, whole px, inside the frame; may be empty for a degenerate one.
        line_px: Thickness of the box's corners.
        label: The label's plate; None in a frame too small for any.
        label_text_px: Size of the label's text.
        label_padding_px: Space inside the label's left and right edge.
        shows_id: Whether the label has room for the face's id.
        panel: The bars' plate; None where there is no room.
        style: What is in the panel.
        opacity: Of the panel, 0 to 1: it fades in at a new place.
    """

    face: Face
    box: Rect
    line_px: int
    label: Rect | None
    label_text_px: int
    label_padding_px: int
    shows_id: bool
    panel: Rect | None
    style: PanelStyle | None
    opacity: float


def label_text(face: Face) -> str:
    """What the label says, "happy 87 %"."""
    return f"{face.expression} {percent(face.confidence)} %"


def id_text(face: Face) -> str:
    """How the label gives the face's id."""
    return f"{face.id}"


@dataclass
class _Memory:
    """What is remembered of one face."""

    seen_s: float
    label_spot: int | None = None
    level: Level = Level.LABEL
    wanted: Level | None = None
    text_step: int = 1
    spot: str | None = None  # a panel's place beside the box, "right-top"; None: inside or none
    xy: tuple[float, float] | None = None  # the panel's place on screen, which glides
    placed_s: float = -math.inf
    fades: bool = False
    checked_s: float = field(default=-math.inf)
    better_seen: bool = False


SPOTS_BESIDE = tuple(f"{side}-{align}" for align in ("top", "middle", "bottom") for side in ("right", "left"))
SPOTS_OVER_UNDER = tuple(
    f"{side}-{align}" for side in ("below", "above") for align in ("center", "left", "right")
)
# Of the panel's text, for a small, an ordinary and a large face.
TEXT_STEPS = (0.8, 1.0, 1.25)


class Layout:
    """Finds a place for every face's label and panel, and keeps it while it is free.

    Args:
        measure_text: Gives the width of a text.
        show_bars: Whether to place panels at all.
    """

    def __init__(self, measure_text: MeasureText, *, show_bars: bool = True) -> None:
        self._measure = measure_text
        self._show_bars = show_bars
        self._memories: dict[int, _Memory] = {}
        self._styles: dict[tuple[Level, int], PanelStyle] = {}
        self._last: tuple[str, tuple[int, int]] | None = None
        self._now_s = -math.inf
        self._crowded = False

    def arrange(self, analyzed: AnalyzedFrame) -> tuple[PlacedFace, ...]:
        """Places the parts of every face of a frame.

        Returns:
            One entry a face, in the faces' order. No panel covers a face's box, a label or another
            panel, except one in its own face's box when there is no free place near it.
        """
        frame, faces = analyzed.frame, analyzed.faces
        step_s = self._advance(frame.source, frame.size_wh, frame.time_s)
        for face in faces:
            self._memories.setdefault(face.id, _Memory(frame.time_s)).seen_s = frame.time_s

        view = Rect(0, 0, *frame.size_wh)
        scale = math.sqrt(view.width * view.height / REFERENCE_AREA_PX)
        text_px = max(SMALLEST_TEXT_PX, round(REFERENCE_TEXT_PX * scale))
        gap = max(4, round(8 * scale))
        boxes = [_whole(face.box_xyxy.tolist(), view) for face in faces]
        labels = self._place_labels(faces, boxes, view, text_px, gap)
        panels: list[tuple[Rect | None, PanelStyle | None]] = [(None, None)] * len(faces)
        if self._show_bars:
            panels = self._place_panels(
                faces, boxes, [label for label, _ in labels], view, text_px, gap, step_s
            )

        placed = []
        for face, box, (label, shows_id), (panel, style) in zip(faces, boxes, labels, panels, strict=True):
            memory = self._memories[face.id]
            age_s = frame.time_s - memory.placed_s
            opacity = min(1.0, (age_s + max(step_s, 0.02)) / FADE_S) if memory.fades else 1.0
            placed.append(
                PlacedFace(
                    face=face,
                    box=box,
                    line_px=max(2, round(2.6 * scale)),
                    label=label,
                    label_text_px=text_px,
                    label_padding_px=_label_padding_px(text_px),
                    shows_id=shows_id,
                    panel=panel,
                    style=style,
                    opacity=opacity,
                )
            )
        return tuple(placed)

    def _advance(self, source: str, size_wh: tuple[int, int], time_s: float) -> float:
        """Forgets what is over and returns the time since the last frame, 0 when there was none."""
        step_s = time_s - self._now_s
        is_same = self._last == (source, size_wh)
        self._last, self._now_s = (source, size_wh), time_s
        # Time that does not go on means another picture: those of a folder are all at 0.
        if not is_same or step_s <= 0:
            self._memories.clear()
            self._crowded = False
            return 0.0
        gone = [key for key, memory in self._memories.items() if time_s - memory.seen_s > MEMORY_S]
        for key in gone:
            del self._memories[key]
        return step_s

    # Labels

    def _place_labels(
        self, faces: Sequence[Face], boxes: Sequence[Rect], view: Rect, text_px: int, gap: int
    ) -> list[tuple[Rect | None, bool]]:
        height = round(1.6 * text_px)
        placed: list[tuple[Rect | None, bool]] = []
        taken: list[Rect] = []
        for index, (face, box) in enumerate(zip(faces, boxes, strict=True)):
            # Two digits' width whatever they are, so that the plate does not twitch with them.
            text_width = self._measure(f"{face.expression} 88 %", text_px, SEMIBOLD)
            width = text_width + 2 * _label_padding_px(text_px)
            id_width = self._measure(id_text(face), text_px, REGULAR) + text_px // 2
            shows_id = width + id_width <= view.width
            width += id_width if shows_id else 0
            if width > view.width or height > view.height:
                placed.append((None, False))
                continue
            others = taken + [other for at, other in enumerate(boxes) if at != index]
            memory = self._memories[face.id]
            spots = _label_spots(box, (width, height), view, gap)
            spot = memory.label_spot
            if spot is None or _covered_px(spots[spot], box, others) > 0:
                # The least covered wins; of equals the old spot, then the one named first.
                spot = min(
                    range(len(spots)), key=lambda at: (_covered_px(spots[at], box, others), at != spot, at)
                )
            memory.label_spot = spot
            placed.append((spots[spot], shows_id))
            taken.append(spots[spot])
        return placed

    # Panels

    def _place_panels(
        self,
        faces: Sequence[Face],
        boxes: Sequence[Rect],
        labels: Sequence[Rect | None],
        view: Rect,
        text_px: int,
        gap: int,
        step_s: float,
    ) -> list[tuple[Rect | None, PanelStyle | None]]:
        full_wh = self._style(Level.FULL, text_px).size_wh
        share = len(faces) * full_wh[0] * full_wh[1] / max(view.width * view.height, 1)
        self._crowded = share > CROWDED_SHARE * (0.8 if self._crowded else 1.0) and len(faces) > 1

        kept: list[Rect | None] = [None] * len(faces)
        styles: list[PanelStyle | None] = [None] * len(faces)
        fixed = [label for label in labels if label]

        def obstacles(index: int) -> list[Rect]:
            return [*boxes, *fixed, *(rect for at, rect in enumerate(kept) if rect and at != index)]

        # Whoever has a place keeps it, the longest-known first; only then the others look for one.
        for index, (face, box) in enumerate(zip(faces, boxes, strict=True)):
            memory = self._memories[face.id]
            self._update_wishes(memory, box, text_px)
            if memory.spot and memory.xy and memory.level <= (memory.wanted or Level.LABEL):
                style = self._style_for(memory, memory.level, text_px)
                target = _panel_at(memory.spot, box, style.size_wh, view, gap, least_gap=gap // 2)
                if target and _is_free(target, obstacles(index)):
                    kept[index] = self._glide(memory, target, obstacles(index), step_s)
                    styles[index] = style

        by_size = sorted(range(len(faces)), key=lambda at: -boxes[at].width * boxes[at].height)
        for index in by_size:
            memory, box = self._memories[faces[index].id], boxes[index]
            wanted = memory.wanted or Level.LABEL
            found = None
            if self._may_look(memory, has_panel=kept[index] is not None):
                above = memory.level if kept[index] else Level.LABEL
                found = self._find_panel(memory, wanted, above, box, obstacles(index), view, text_px, gap)
            if kept[index]:
                # A larger panel only when it would have fitted for a while: room comes and goes.
                if found and not memory.better_seen:
                    memory.better_seen, found = True, None
                if not found:
                    continue
            if found:
                memory.spot, kept[index], styles[index] = found
                self._settle(memory, found[1], found[2])
                continue
            style = self._style_for(memory, Level.MINI, text_px)
            panel = _panel_inside(box, style.size_wh, gap // 2) if wanted > Level.LABEL else None
            if panel and _is_free(panel, [rect for rect in obstacles(index) if rect != box]):
                kept[index], styles[index] = panel, style
            memory.spot, memory.xy, memory.level = None, None, Level.LABEL
            memory.fades, memory.checked_s = False, self._now_s
        return list(zip(kept, styles, strict=True))

    def _update_wishes(self, memory: _Memory, box: Rect, text_px: int) -> None:
        """How large a panel the face deserves, with hysteresis so that a breathing box changes nothing."""
        height = box.height / text_px
        wanted = memory.wanted

        def reaches(lines: float, level: Level) -> bool:
            return height >= lines * (0.85 if wanted is not None and wanted >= level else 1.0)

        memory.wanted = Level.LABEL
        for level, lines in ((Level.MINI, 1.2), (Level.COMPACT, 2.0), (Level.FULL, 3.0)):
            if reaches(lines, level):
                memory.wanted = level
        if self._crowded:
            memory.wanted = min(memory.wanted, Level.COMPACT)
        shortest, tallest = ((0, 7), (5, 20), (16, math.inf))[memory.text_step]
        if wanted is None or not shortest <= height < tallest:
            memory.text_step = 0 if height < 6 else 1 if height < 18 else 2

    def _may_look(self, memory: _Memory, *, has_panel: bool) -> bool:
        """Whether to search for a place: at once when one was lost, from time to time for a better one."""
        if has_panel and memory.level >= (memory.wanted or Level.LABEL):
            memory.better_seen = False
            return False
        if (has_panel or memory.spot is None) and self._now_s - memory.checked_s < RECHECK_S:
            return False
        memory.checked_s = self._now_s
        return True

    def _find_panel(
        self,
        memory: _Memory,
        wanted: Level,
        above: Level,
        box: Rect,
        obstacles: Sequence[Rect],
        view: Rect,
        text_px: int,
        gap: int,
    ) -> tuple[str, Rect, PanelStyle] | None:
        """The best free place for the largest panel that fits, larger than `above`."""
        for level in range(wanted, above, -1):
            style = self._style_for(memory, Level(level), text_px)
            best: tuple[float, str, Rect] | None = None
            # A mini panel says no name, so it goes under its face, where nobody takes it for another's.
            spots = (
                (*SPOTS_BESIDE, *SPOTS_OVER_UNDER)
                if level > Level.MINI
                else (*SPOTS_OVER_UNDER, *SPOTS_BESIDE)
            )
            for order, spot in enumerate(spots):
                panel = _panel_at(spot, box, style.size_wh, view, gap, least_gap=gap)
                if panel is None or not _is_free(panel, obstacles):
                    continue
                # Room round it is time until it has to move; the order is taste.
                room = min(
                    _room_px(panel, view, (rect for rect in obstacles if rect != box)), ENOUGH_ROOM * gap
                )
                score = room / gap - ORDER_COST * order - (MOVE_BACK_COST if spot == memory.spot else 0)
                if best is None or score > best[0]:
                    best = (score, spot, panel)
            if best:
                return best[1], best[2], style
        return None

    def _glide(self, memory: _Memory, target: Rect, obstacles: Sequence[Rect], step_s: float) -> Rect:
        """Moves the panel part of the way to its target, further where it would cover something."""
        assert memory.xy is not None
        start_x, start_y = memory.xy
        share = 1 - math.exp(-step_s / GLIDE_S)
        while True:
            x = start_x + (target.left - start_x) * share
            y = start_y + (target.top - start_y) * share
            left, top = round(x), round(y)
            panel = Rect(left, top, left + target.width, top + target.height)
            if share >= 1 or _is_free(panel, obstacles):
                memory.xy = (x, y)
                return panel
            share = min(1.0, share + 0.1)

    def _settle(self, memory: _Memory, panel: Rect, style: PanelStyle) -> None:
        memory.fades = memory.placed_s > -math.inf
        memory.xy, memory.level = (panel.left, panel.top), style.level
        memory.placed_s = self._now_s
        memory.better_seen = False

    def _style_for(self, memory: _Memory, level: Level, text_px: int) -> PanelStyle:
        step = TEXT_STEPS[memory.text_step]
        if level is Level.COMPACT:
            step = min(step, 0.8)
        return self._style(level, max(SMALLEST_TEXT_PX, round(text_px * step)))

    def _style(self, level: Level, text_px: int) -> PanelStyle:
        style = self._styles.get((level, text_px))
        if style is None:
            style = self._styles[level, text_px] = _panel_style(level, text_px, self._measure)
        return style


def _panel_style(level: Level, text_px: int, measure: MeasureText) -> PanelStyle:
    if level <= Level.MINI:
        width = max(3, round(0.45 * text_px))
        return PanelStyle(
            level=Level.MINI,
            text_px=text_px,
            padding=max(2, round(0.35 * text_px)),
            row=width + max(1, round(0.15 * text_px)),
            name_width=0,
            gap=0,
            bar_wh=(width, round(2.0 * text_px)),
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


def _label_padding_px(text_px: int) -> int:
    return round(0.5 * text_px)


def _whole(box_xyxy: Sequence[float], view: Rect) -> Rect:
    """A box in whole pixels inside the frame, whatever came in."""
    left, top, right, bottom = (float(edge) if math.isfinite(edge) else 0.0 for edge in box_xyxy)
    left, right = (min(max(round(x), 0), view.right) for x in (left, right))
    top, bottom = (min(max(round(y), 0), view.bottom) for y in (top, bottom))
    return Rect(int(left), int(top), int(max(left, right)), int(max(top, bottom)))


def _label_spots(box: Rect, size_wh: tuple[int, int], view: Rect, gap: int) -> list[Rect]:
    """The places for a label, the best first: above, below, stacked further off, in the box."""
    width, height = size_wh
    away = max(1, gap // 2)
    lefts = (box.left, box.right - width, (box.left + box.right - width) // 2)
    above, below = box.top - away - height, box.bottom + away
    spots = [(above, 0), (above, 1), (below, 0), (below, 1), (above, 2), (below, 2)]
    for stacked in (1, 2):
        further = stacked * (height + 2)
        spots += [(above - further, 0), (above - further, 1), (below + further, 0)]
    spots.append((box.top + away, 0))
    rects = []
    for top, align in spots:
        left = min(max(lefts[align], 0), view.right - width)
        top = min(max(top, 0), view.bottom - height)
        rects.append(Rect(left, top, left + width, top + height))
    return rects


def _covered_px(label: Rect, own_box: Rect, others: Sequence[Rect]) -> float:
    # The own face may lend its edge before another face or label is covered.
    return sum(label.overlap_px(other) for other in others) + 0.3 * label.overlap_px(own_box)


def _panel_at(
    spot: str, box: Rect, size_wh: tuple[int, int], view: Rect, gap: int, *, least_gap: int
) -> Rect | None:
    """The panel at a place beside a box, slid along the box into the frame; None if there is no room."""
    width, height = size_wh
    side, align = spot.split("-")
    if side in ("right", "left"):
        left = box.right + gap if side == "right" else box.left - gap - width
        # Near the frame's edge the gaps give way before the panel does.
        left = min(left, view.right - least_gap - width) if side == "right" else max(left, least_gap)
        if left < box.right + least_gap if side == "right" else left + width > box.left - least_gap:
            return None
        top = {
            "top": box.top,
            "middle": (box.top + box.bottom - height) // 2,
            "bottom": box.bottom - height,
        }[align]
    else:
        top = box.bottom + gap if side == "below" else box.top - gap - height
        top = min(top, view.bottom - least_gap - height) if side == "below" else max(top, least_gap)
        if top < box.bottom + least_gap if side == "below" else top + height > box.top - least_gap:
            return None
        left = {
            "left": box.left,
            "center": (box.left + box.right - width) // 2,
            "right": box.right - width,
        }[align]
    left = min(max(left, least_gap), view.right - least_gap - width)
    top = min(max(top, least_gap), view.bottom - least_gap - height)
    panel = Rect(left, top, left + width, top + height)
    return panel if panel.inside(view) else None


def _panel_inside(box: Rect, size_wh: tuple[int, int], gap: int) -> Rect | None:
    """The panel at the lower edge of the box, if it takes no more than a chin's height of it."""
    width, height = size_wh
    if box.width < width + 2 * gap or box.height < 3 * height:
        return None
    left = (box.left + box.right - width) // 2
    return Rect(left, box.bottom - gap - height, left + width, box.bottom - gap)


def _is_free(panel: Rect, obstacles: Sequence[Rect]) -> bool:
    left, top, right, bottom = panel
    return not any(
        left < other[2] and other[0] < right and top < other[3] and other[1] < bottom for other in obstacles
    )


def _room_px(panel: Rect, view: Rect, obstacles: Iterable[Rect]) -> float:
    """The distance to what is nearest: another part, or the frame's edge."""
    room: float = min(
        panel.left - view.left, panel.top - view.top, view.right - panel.right, view.bottom - panel.bottom
    )
    for other in obstacles:
        across = max(panel.left - other.right, other.left - panel.right)
        down = max(panel.top - other.bottom, other.top - panel.bottom)
        room = min(room, max(across, down))
    return room
