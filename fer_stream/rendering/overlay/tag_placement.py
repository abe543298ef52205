"""Decide where the tags of faces are placed.

A tag touches its own face's box: above it, below it, beside it, or inside its upper edge. Four rules hold
in every frame:

- No other face is nearer to the tag than its own face, measured from the tag's edge and from its middle.
- Tags do not overlap.
- A tag outside its box is never moved onto another face's box.
- A tag inside its box covers at most 40 % of it. A small face has no room for that, so its tag is outside.

A place outside the box and close to another face is the last resort.

A tag keeps its place as long as the rules allow. It never hops from one side of its box to another between
two frames: it first goes inside or is left out for `PAUSE_S`. It changes sides at most once per
`TURN_S`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fer_stream.rendering.overlay.geometry import Rect, is_free
from fer_stream.rendering.overlay.parts import (
    REGULAR,
    SEMIBOLD,
    MeasureText,
    PlacedTag,
    Scene,
    id_text,
    scaled_text_px,
    widest_tag_text,
)
from fer_stream.types import Face

PAUSE_S = 0.12  # before a tag changes sides, it is on no side for this long
TURN_S = 1.0  # minimum time between two changes of sides
LEFT_OUT_S = 0.12  # a tag that found no place looks for one again after this time
RETURN_S = 1.0  # a better place must have been free this long before the tag returns to it
COVERED_SHARE = 0.12  # share of another face's box that a tag may cover before it moves away
OWN_COVERED_SHARE = 0.3  # share of its own face's box that a tag may cover
PLACED_OWN_COVERED_SHARE = 0.4  # the same for a tag that is already there, so that it does not flicker
TURN_COST = 2  # cost of changing sides, in steps down the order of places


class Spot(NamedTuple):
    """A place for a tag at its box.

    Attributes:
        side: `above`, `below`, `inside`, or beside the box: `left` or `right`.
        align: `left`, `right` or `center`; beside the box always `center`.
        shows_id: Whether the tag shows the face's id there. Without it the tag is narrower.
    """

    side: str
    align: str
    shows_id: bool = True

    @property
    def is_beside(self) -> bool:
        """Whether the place is to the left or to the right of the box."""
        return self.side in ("left", "right")


# In order of preference.
OUTSIDE = tuple(Spot(side, align) for side in ("above", "below") for align in ("left", "right", "center"))
INSIDE = tuple(Spot("inside", align) for align in ("left", "right", "center"))
BESIDE = (Spot("right", "center"), Spot("left", "center"))
_WITH_ID = (*OUTSIDE, *INSIDE, *BESIDE)
SPOTS = (*_WITH_ID, *(spot._replace(shows_id=False) for spot in _WITH_ID))

# Close to another face, a tag looks like that face's label. Every other place costs less.
CROWDED_COST = len(SPOTS) + TURN_COST


@dataclass
class TagMemory:
    """State of a face's tag from frame to frame.

    Attributes:
        spot: The place of the tag in the last frame; None if it had none.
        side: The side of its box that it was on last; empty if it was on none.
        side_s: Time at which it was last on that side.
        turned_s: Time at which it last came there from another side.
        left_out_s: Time at which it last found no place.
        better_since_s: Time at which a better place became free; infinite if none is.
    """

    spot: Spot | None = None
    side: str = ""
    side_s: float = -math.inf
    turned_s: float = -math.inf
    left_out_s: float = -math.inf
    better_since_s: float = math.inf

    def may_turn(self, side: str, now_s: float) -> bool:
        """Return whether the tag may go to this side without hopping from another one."""
        if side == "inside" or self.side in ("", side):
            return True
        return now_s - self.side_s >= PAUSE_S and now_s - self.turned_s >= TURN_S

    def note(self, now_s: float) -> None:
        """Remember the side that the tag is on in this frame."""
        if self.spot is None or self.spot.side == "inside":
            return
        if self.side not in ("", self.spot.side):
            self.turned_s = now_s
        self.side, self.side_s = self.spot.side, now_s


def place_tags(
    scene: Scene, memories: Sequence[TagMemory], text_factors: Sequence[float], measure: MeasureText
) -> list[PlacedTag | None]:
    """Place the tags of all faces of a frame.

    Args:
        scene: The frame.
        memories: State of each face's tag. They are updated in place.
        text_factors: For each face a factor on the size of ordinary text.
        measure: Returns the width of a text.

    Returns:
        For each face its tag, or None if no place is free for it.
    """
    plates = [
        _Plate(face, scene, factor, measure) for face, factor in zip(scene.faces, text_factors, strict=True)
    ]
    placed: list[Rect | None] = [None] * len(plates)

    def taken(index: int) -> list[Rect]:
        return [rect for at, rect in enumerate(placed) if rect is not None and at != index]

    # Tags that can stay do so before the others search for a place, so a new tag drives no other away.
    searching = []
    for index, memory in enumerate(memories):
        rect = None
        if memory.spot is not None:
            rect = plates[index].rect_at(memory.spot, scene.boxes[index], scene.view)
            if rect and not _is_allowed(rect, index, scene.boxes, taken(index), is_placed=True):
                rect = None
        placed[index] = rect
        if rect is None or _may_improve(memory):
            searching.append(index)
    for index in searching:
        _move(index, memories[index], plates[index], placed, taken(index), scene)

    tags: list[PlacedTag | None] = []
    for plate, memory, rect in zip(plates, memories, placed, strict=True):
        memory.note(scene.now_s)
        shows_id = memory.spot is not None and memory.spot.shows_id
        tags.append(None if rect is None else PlacedTag(rect, plate.text_px, plate.padding, shows_id))
    return tags


class _Plate:
    """Size of a face's tag."""

    def __init__(self, face: Face, scene: Scene, text_factor: float, measure: MeasureText) -> None:
        self.text_px = scaled_text_px(scene.text_px, text_factor)
        self.padding = round(0.5 * self.text_px)
        self._height = round(1.6 * self.text_px)
        self._width = measure(widest_tag_text(face), self.text_px, SEMIBOLD) + 2 * self.padding
        self._id_width = measure(id_text(face), self.text_px, REGULAR) + self.text_px // 2

    def rect_at(self, spot: Spot, box: Rect, view: Rect) -> Rect | None:
        """Return the tag at a place, slid along the box into the frame; None if it does not fit in."""
        width, height = self._width + (self._id_width if spot.shows_id else 0), self._height
        if width > view.width:
            return None
        if spot.is_beside:
            top = min(max((box.top + box.bottom - height) // 2, 0), view.bottom - height)
            left = box.left - width if spot.side == "left" else box.right
        else:
            top = {"above": box.top - height, "below": box.bottom, "inside": box.top}[spot.side]
            left = {
                "left": box.left,
                "right": box.right - width,
                "center": (box.left + box.right - width) // 2,
            }[spot.align]
            left = min(max(left, 0), view.right - width)
            if spot.side == "inside":
                top = min(top, view.bottom - height)
        if top < 0 or top + height > view.bottom or left < 0 or left + width > view.right:
            return None
        return Rect(left, top, left + width, top + height)


def _is_allowed(
    rect: Rect, index: int, boxes: Sequence[Rect], taken: Sequence[Rect], *, is_placed: bool = False
) -> bool:
    """Return whether the rules allow a tag here. A tag that is already here may cover a little more."""
    if not is_free(rect, taken):
        return False
    own = boxes[index]
    own_share = PLACED_OWN_COVERED_SHARE if is_placed else OWN_COVERED_SHARE
    if rect.overlap_px(own) > own_share * own.width * own.height:
        return False
    # Every place touches the face's own box, so no other box is nearer to the plate. Another box may still be
    # nearer to the plate's middle.
    own_center_px = rect.center_distance_px(own)
    may_overlap = is_placed or rect.overlap_px(own) > 0
    for at, other in enumerate(boxes):
        if at == index:
            continue
        if own_center_px and rect.center_distance_px(other) < own_center_px:
            return False
        covered_px = rect.overlap_px(other)
        if covered_px and not (may_overlap and covered_px <= COVERED_SHARE * other.width * other.height):
            return False
    return True


def _may_improve(memory: TagMemory) -> bool:
    return memory.spot is not None and memory.spot not in OUTSIDE


def _move(
    index: int,
    memory: TagMemory,
    plate: _Plate,
    placed: list[Rect | None],
    taken: Sequence[Rect],
    scene: Scene,
) -> None:
    """Find the best place for one tag that has none, or only a second-best one."""
    if scene.now_s - memory.left_out_s < LEFT_OUT_S:
        return
    others = [box for at, box in enumerate(scene.boxes) if at != index]
    best: tuple[float, Spot, Rect] | None = None
    current = None if placed[index] is None else memory.spot
    is_beside = current is not None and current.is_beside
    current_order = len(SPOTS) if current is None else SPOTS.index(current)
    for order, spot in enumerate(SPOTS[:current_order]):
        if best is not None and order >= best[0]:
            break  # places further down the order cost more
        if not (is_beside or memory.may_turn(spot.side, scene.now_s)):
            continue
        rect = plate.rect_at(spot, scene.boxes[index], scene.view)
        if rect is None or not _is_allowed(rect, index, scene.boxes, taken):
            continue
        cost = float(order) + (TURN_COST if memory.spot and spot.side != memory.spot.side else 0)
        if spot.side != "inside" and any(rect.distance_px(other) < scene.gap for other in others):
            if current is not None:
                continue  # not worth leaving the current place
            cost += CROWDED_COST
        if best is None or cost < best[0]:
            best = cost, spot, rect

    if placed[index] is not None:  # it has a second-best place
        if best is None:
            memory.better_since_s = math.inf
            return
        memory.better_since_s = min(memory.better_since_s, scene.now_s)
        if scene.now_s - memory.better_since_s < RETURN_S:
            return
    memory.better_since_s = math.inf
    if best is None or not memory.may_turn(best[1].side, scene.now_s):
        # A tag beside its box is left out for a moment, too, before it goes to a better place.
        memory.spot, placed[index], memory.left_out_s = None, None, scene.now_s
    else:
        memory.spot, placed[index] = best[1], best[2]
