"""Decide where the panels of bars are placed.

Two rules compete: a panel must not cover a face, a tag or another panel, and it must not jump. So a panel
keeps its place beside the box as long as that place is free, and glides along with its face. When it loses
its place, it takes the best free one. No other face is nearer to a panel than its own face.

Tags come first. A face without a tag gets no panel, and it loses its panel if the tag stays away.

A mini panel has no names, so from a distance nobody could tell whose it is. It touches its face's box or lies
in it, or it is not drawn. A larger panel is tied to the box by a short bridge.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fer_stream.rendering.overlay.geometry import Rect, is_free, room_px
from fer_stream.rendering.overlay.parts import (
    TEXT_STEPS,
    Level,
    MeasureText,
    PanelStyle,
    PlacedPanel,
    Scene,
    panel_style,
    scaled_text_px,
)

GLIDE_S = 0.12  # time constant of a panel that follows its face
FADE_S = 0.2  # a panel that moves to a new place fades in over this time
HOLD_S = 0.6  # a panel that loses its new place within this time waits until the time is over
RECHECK_S = 0.4  # a larger panel must fit in two searches this far apart
ENOUGH_ROOM = 4  # in gaps; more room than this does not make a place better
ORDER_COST = 0.9  # in gaps; each step down the order must be made up for by this much more room
MOVE_BACK_COST = 4  # in gaps; makes the place that was just lost the last choice
WITHOUT_TAG_S = 0.3  # a panel stays this long without its tag, which pauses when it changes sides
CROWDED_SHARE = 0.2  # if full panels would cover more of the frame than this, all become compact

SPOTS_BESIDE = tuple(f"{side}-{align}" for align in ("top", "middle", "bottom") for side in ("right", "left"))
SPOTS_OVER_UNDER = tuple(
    f"{side}-{align}" for side in ("below", "above") for align in ("center", "left", "right")
)


@dataclass
class PanelMemory:
    """State of a face's panel from frame to frame.

    Attributes:
        wanted: The largest panel for a face of this size; None before the first frame.
        text_step: Index into `TEXT_STEPS` for a face of this size.
        level: Level of detail; `TAG` if there is no panel, or it is inside the box.
        spot: Its place beside the box, "right-top"; None if the panel is inside the box or not drawn.
        xy: Position of its top left corner, which glides.
        placed_s: Time at which it came to its place.
        fades: Whether it fades in there.
        checked_s: Time of the last search for a place.
        better_seen: Whether the last search found room for a larger panel.
        tag_s: Time at which the face last had a tag.
    """

    wanted: Level | None = None
    text_step: int = 1
    level: Level = Level.TAG
    spot: str | None = None
    xy: tuple[float, float] | None = None
    placed_s: float = -math.inf
    fades: bool = False
    checked_s: float = -math.inf
    better_seen: bool = False
    tag_s: float = -math.inf

    def may_stay(self, now_s: float) -> bool:
        """Return whether the face has a tag now, or had one a moment ago. Update `tag_s` first."""
        return now_s - self.tag_s <= WITHOUT_TAG_S

    def update_size(self, lines: float, *, crowded: bool) -> None:
        """Choose sizes for a face, with hysteresis, so that a box that wobbles changes nothing.

        Args:
            lines: Height of the face's box, measured in heights of ordinary text.
            crowded: Whether there are too many faces for full panels.
        """
        before = self.wanted
        self.wanted = Level.TAG
        for level, minimum in ((Level.MINI, 1.2), (Level.COMPACT, 2.0), (Level.FULL, 3.0)):
            if lines >= minimum * (0.85 if before is not None and before >= level else 1.0):
                self.wanted = level
        if crowded:
            self.wanted = min(self.wanted, Level.COMPACT)
        shortest, tallest = ((0, 7), (5, 20), (16, math.inf))[self.text_step]
        if before is None or not shortest <= lines < tallest:
            self.text_step = 0 if lines < 6 else 1 if lines < 18 else 2


class PanelPlacer:
    """Finds a place for every face's panel.

    Args:
        measure: Returns the width of a text.
    """

    def __init__(self, measure: MeasureText) -> None:
        self._measure = measure
        self._styles: dict[tuple[Level, int], PanelStyle] = {}

    def place(
        self, scene: Scene, memories: Sequence[PanelMemory], tags: Sequence[Rect | None]
    ) -> list[PlacedPanel | None]:
        """Place the panels of all faces of a frame.

        Args:
            scene: The frame.
            memories: State of each face's panel, after `update_size`. They are updated in place.
            tags: The tag of each face; None for a face without a tag.

        Returns:
            For each face its panel, or None if there is no place for one. No panel covers a tag, another
            panel, or the box of another face.
        """
        count = len(scene.boxes)
        tag_rects = [rect for rect in tags if rect]
        kept: list[Rect | None] = [None] * count
        styles: list[PanelStyle | None] = [None] * count

        def parts(index: int) -> list[Rect]:
            return [*tag_rects, *(rect for at, rect in enumerate(kept) if rect and at != index)]

        # First, panels that have a place keep it, in the order of the ids. Then the others search for one.
        for index, memory in enumerate(memories):
            if tags[index]:
                memory.tag_s = scene.now_s
            if not memory.may_stay(scene.now_s):
                continue
            if memory.spot and memory.xy and memory.level <= (memory.wanted or Level.TAG):
                style = self._style_for(memory, memory.level, scene.text_px)
                target = _panel_at(memory.spot, index, style, scene, is_placed=True)
                if target and _is_allowed(target, index, scene.boxes, parts(index)):
                    kept[index] = _glide(memory, target, index, scene, parts(index))
                    styles[index] = style

        by_size = sorted(range(count), key=lambda at: -scene.boxes[at].width * scene.boxes[at].height)
        for index in by_size:
            memory = memories[index]
            found = None
            if tags[index] and _should_search(memory, scene.now_s, has_panel=kept[index] is not None):
                above = memory.level if kept[index] else Level.TAG
                found = self._find(memory, above, index, scene, parts(index))
            if kept[index]:
                # Switch to a larger panel only if it fits in two searches, because room comes and goes.
                if found and not memory.better_seen:
                    memory.better_seen, found = True, None
                if not found:
                    continue
            if found:
                memory.spot, kept[index], styles[index] = found
                _settle(memory, found[1], found[2], scene.now_s)
                continue
            if memory.spot is not None:
                memory.checked_s = scene.now_s
            memory.spot, memory.xy, memory.level, memory.fades = None, None, Level.TAG, False
            style = self._style_for(memory, Level.MINI, scene.text_px)
            inside = _panel_inside(scene.boxes[index], style.size_wh, scene.gap // 2)
            others = [box for at, box in enumerate(scene.boxes) if at != index]
            # A panel that will soon have a place again does not shrink and jump onto the mouth meanwhile.
            wants = (memory.wanted or Level.TAG) > Level.TAG and not _is_held(memory, scene.now_s)
            if inside and wants and memory.may_stay(scene.now_s) and is_free(inside, parts(index) + others):
                kept[index], styles[index] = inside, style

        panels: list[PlacedPanel | None] = []
        for box, memory, rect, panel in zip(scene.boxes, memories, kept, styles, strict=True):
            if rect is None or panel is None:
                panels.append(None)
                continue
            age_s = scene.now_s - memory.placed_s
            opacity = min(1.0, (age_s + max(scene.step_s, 0.02)) / FADE_S) if memory.fades else 1.0
            tie = _tie(rect, box, max(2, scene.gap // 3))
            panels.append(PlacedPanel(rect, panel, opacity, tie if tie and is_free(tie, tag_rects) else None))
        return panels

    def is_crowded(self, scene: Scene) -> bool:
        """Return whether there are too many faces for full panels."""
        width, height = self._style(Level.FULL, scene.text_px).size_wh
        share = len(scene.boxes) * width * height / max(scene.view.width * scene.view.height, 1)
        return share > CROWDED_SHARE and len(scene.boxes) > 1

    def _find(
        self, memory: PanelMemory, above: Level, index: int, scene: Scene, parts: Sequence[Rect]
    ) -> tuple[str, Rect, PanelStyle] | None:
        """Return the best free place for the largest panel that fits and shows more than `above`."""
        others = [box for at, box in enumerate(scene.boxes) if at != index]
        for level in range(memory.wanted or Level.TAG, above, -1):
            style = self._style_for(memory, Level(level), scene.text_px)
            best: tuple[float, str, Rect] | None = None
            for order, spot in enumerate((*SPOTS_BESIDE, *SPOTS_OVER_UNDER)):
                panel = _panel_at(spot, index, style, scene, is_placed=False)
                if panel is None or not _is_allowed(panel, index, scene.boxes, parts, margin_px=scene.gap):
                    continue
                # The more room a panel has around it, the longer it can stay. The order is a matter of taste.
                room = min(room_px(panel, scene.view, [*parts, *others]), ENOUGH_ROOM * scene.gap)
                score = room / scene.gap - ORDER_COST * order
                score -= MOVE_BACK_COST if spot == memory.spot else 0
                if best is None or score > best[0]:
                    best = (score, spot, panel)
            if best:
                return best[1], best[2], style
        return None

    def _style_for(self, memory: PanelMemory, level: Level, text_px: int) -> PanelStyle:
        step = TEXT_STEPS[memory.text_step]
        return self._style(level, scaled_text_px(text_px, min(step, 0.8) if level is Level.COMPACT else step))

    def _style(self, level: Level, text_px: int) -> PanelStyle:
        style = self._styles.get((level, text_px))
        if style is None:
            style = self._styles[level, text_px] = panel_style(level, text_px, self._measure)
        return style


def _is_allowed(
    panel: Rect, index: int, boxes: Sequence[Rect], parts: Sequence[Rect], *, margin_px: int = 0
) -> bool:
    """Return whether a panel covers nothing, and is nearer to its own face's box than to any other.

    Args:
        panel: Place of the panel.
        index: Index of its face.
        boxes: The boxes of all faces.
        parts: Tags and the other panels.
        margin_px: How much nearer its own face must be, px.
    """
    if not is_free(panel, boxes) or not is_free(panel, parts):
        return False
    own_px = panel.distance_px(boxes[index]) + margin_px
    return all(panel.distance_px(other) >= own_px for at, other in enumerate(boxes) if at != index)


def _is_held(memory: PanelMemory, now_s: float) -> bool:
    """Return whether a panel came to its last place so recently that it waits before it takes another one."""
    return now_s - memory.placed_s < HOLD_S


def _should_search(memory: PanelMemory, now_s: float, *, has_panel: bool) -> bool:
    """Return whether to search for a place now.

    A panel that has lost its place searches at once, unless it had only just found it. Every other panel
    searches for a better place from time to time.
    """
    if has_panel and memory.level >= (memory.wanted or Level.TAG):
        memory.better_seen = False
        return False
    just_lost = not has_panel and memory.spot is not None
    if just_lost and _is_held(memory, now_s):
        return False
    if not just_lost and now_s - memory.checked_s < RECHECK_S:
        return False
    memory.checked_s = now_s
    return True


def _glide(memory: PanelMemory, target: Rect, index: int, scene: Scene, parts: Sequence[Rect]) -> Rect:
    """Move a panel part of the way to its target, or further if the rules demand it."""
    assert memory.xy is not None
    start_x, start_y = memory.xy
    share = 1.0 if memory.level is Level.MINI else 1 - math.exp(-scene.step_s / GLIDE_S)
    while True:
        x = start_x + (target.left - start_x) * share
        y = start_y + (target.top - start_y) * share
        left, top = round(x), round(y)
        panel = Rect(left, top, left + target.width, top + target.height)
        # A panel that has grown may not fit into the frame where it was.
        is_in_frame = panel.inside(scene.view)
        if share >= 1 or (is_in_frame and _is_allowed(panel, index, scene.boxes, parts)):
            memory.xy = (x, y)
            return panel
        share = min(1.0, share + 0.1)


def _settle(memory: PanelMemory, panel: Rect, style: PanelStyle, now_s: float) -> None:
    memory.fades = memory.placed_s > -math.inf
    memory.xy, memory.level = (panel.left, panel.top), style.level
    memory.placed_s = now_s
    memory.better_seen = False


def _panel_at(spot: str, index: int, style: PanelStyle, scene: Scene, *, is_placed: bool) -> Rect | None:
    """Return the panel at a place beside its box, slid along the box into the frame.

    Return None if there is no room. A mini panel touches the box. Near the frame's edge, the gaps around a
    larger panel shrink before the panel is given up. They shrink further for a panel that is already placed.
    """
    box, view, (width, height) = scene.boxes[index], scene.view, style.size_wh
    gap, least_gap = scene.gap, scene.gap // 2 if is_placed else scene.gap
    edge_gap = least_gap
    if style.level is Level.MINI:
        gap = least_gap = edge_gap = 0
    side, align = spot.split("-")
    if side in ("right", "left"):
        left = box.right + gap if side == "right" else box.left - gap - width
        left = min(left, view.right - edge_gap - width) if side == "right" else max(left, edge_gap)
        if left < box.right + least_gap if side == "right" else left + width > box.left - least_gap:
            return None
        top = {
            "top": box.top,
            "middle": (box.top + box.bottom - height) // 2,
            "bottom": box.bottom - height,
        }[align]
    else:
        top = box.bottom + gap if side == "below" else box.top - gap - height
        top = min(top, view.bottom - edge_gap - height) if side == "below" else max(top, edge_gap)
        if top < box.bottom + least_gap if side == "below" else top + height > box.top - least_gap:
            return None
        left = {
            "left": box.left,
            "center": (box.left + box.right - width) // 2,
            "right": box.right - width,
        }[align]
    left = min(max(left, edge_gap), view.right - edge_gap - width)
    top = min(max(top, edge_gap), view.bottom - edge_gap - height)
    panel = Rect(left, top, left + width, top + height)
    return panel if panel.inside(view) else None


def _panel_inside(box: Rect, size_wh: tuple[int, int], gap: int) -> Rect | None:
    """Return the panel at the lower edge of the box; None if it would cover more than about the chin."""
    width, height = size_wh
    if box.width < width + 2 * gap or box.height < 4 * height:
        return None
    left = (box.left + box.right - width) // 2
    return Rect(left, box.bottom - gap - height, left + width, box.bottom - gap)


def _tie(panel: Rect, box: Rect, thickness: int) -> Rect | None:
    """Return the bridge from a panel to its box; None if they touch or no straight bridge fits."""
    low, high = max(panel.top, box.top), min(panel.bottom, box.bottom)
    if high - low >= thickness:
        # Put it at eye level if the panel reaches that high. Lower down it would point at the shoulder.
        middle = min(max((2 * box.top + box.bottom) // 3, low + thickness // 2), high - thickness // 2)
        top = middle - thickness // 2
        left, right = min(panel.right, box.right), max(panel.left, box.left)
        return Rect(left, top, right, top + thickness) if left < right else None
    low, high = max(panel.left, box.left), min(panel.right, box.right)
    if high - low >= thickness:
        left = (low + high - thickness) // 2
        top, bottom = min(panel.bottom, box.bottom), max(panel.top, box.top)
        return Rect(left, top, left + thickness, bottom) if top < bottom else None
    return None
