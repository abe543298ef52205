"""Rectangles in whole pixels, and how far apart they are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple


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
        """Return the area that both rectangles cover, in square pixels."""
        left, top, right, bottom = self
        other_left, other_top, other_right, other_bottom = other
        if left >= other_right or other_left >= right or top >= other_bottom or other_top >= bottom:
            return 0
        width = min(right, other_right) - max(left, other_left)
        return width * (min(bottom, other_bottom) - max(top, other_top))

    def inside(self, other: Rect) -> bool:
        """Return whether all of this rectangle lies in the other one."""
        return (
            self.left >= other.left
            and self.top >= other.top
            and self.right <= other.right
            and self.bottom <= other.bottom
        )

    def distance_px(self, other: Rect) -> float:
        """Return the shortest distance between the two, 0 if they touch or overlap."""
        across = max(self.left - other.right, other.left - self.right, 0)
        down = max(self.top - other.bottom, other.top - self.bottom, 0)
        return math.hypot(across, down)

    def center_distance_px(self, other: Rect) -> float:
        """Return the distance from the centre of this rectangle to the other one, 0 inside it."""
        x, y = (self.left + self.right) / 2, (self.top + self.bottom) / 2
        across = max(x - other.right, other.left - x, 0.0)
        down = max(y - other.bottom, other.top - y, 0.0)
        return math.hypot(across, down)


def whole_box(box_xyxy: Sequence[float], view: Rect) -> Rect:
    """Round a box to whole pixels inside the frame; edges that are not finite become 0."""
    left, top, right, bottom = (float(edge) if math.isfinite(edge) else 0.0 for edge in box_xyxy)
    left, right = (min(max(round(x), 0), view.right) for x in (left, right))
    top, bottom = (min(max(round(y), 0), view.bottom) for y in (top, bottom))
    return Rect(int(left), int(top), int(max(left, right)), int(max(top, bottom)))


def is_free(rect: Rect, obstacles: Iterable[Rect]) -> bool:
    """Return whether a rectangle overlaps none of the obstacles."""
    left, top, right, bottom = rect
    return not any(
        left < other[2] and other[0] < right and top < other[3] and other[1] < bottom for other in obstacles
    )


def room_px(rect: Rect, view: Rect, obstacles: Iterable[Rect]) -> float:
    """Return the free distance to the nearest obstacle or edge of the frame, across or down."""
    room: float = min(
        rect.left - view.left, rect.top - view.top, view.right - rect.right, view.bottom - rect.bottom
    )
    for other in obstacles:
        across = max(rect.left - other.right, other.left - rect.right)
        down = max(rect.top - other.bottom, other.top - rect.bottom)
        room = min(room, max(across, down))
    return room
