"""Arrange a frame's overlay: choose sizes, then place the tags, then the panels.

This module only computes places and draws nothing. `tag_placement` and `panel_placement` hold the rules. The
layout remembers where parts were, so that they do not jump from frame to frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from fer_stream.rendering.overlay.geometry import Rect, whole_box
from fer_stream.rendering.overlay.panel_placement import PanelMemory, PanelPlacer
from fer_stream.rendering.overlay.parts import (
    SMALLEST_TEXT_PX,
    TEXT_STEPS,
    MeasureText,
    PlacedFace,
    PlacedPanel,
    Scene,
)
from fer_stream.rendering.overlay.tag_placement import TagMemory, place_tags
from fer_stream.types import AnalyzedFrame

REFERENCE_AREA_PX = 1280 * 720
REFERENCE_TEXT_PX = 16

THICKEST_LINE_SHARE = 0.05  # of the shorter side of a box

STILL_CROWDED_S = 2.0  # panels stay small for this long after a crowd, because people come and go
MEMORY_S = 1.0  # a face that is away for less than this gets its old place back


@dataclass
class _Memory:
    """Where the parts of one face were in earlier frames."""

    seen_s: float
    tag: TagMemory = field(default_factory=TagMemory)
    panel: PanelMemory = field(default_factory=PanelMemory)


class Layout:
    """Finds a place for every face's tag and panel, and keeps it while the rules allow.

    Args:
        measure_text: Returns the width of a text.
        show_bars: Whether to place panels at all.
    """

    def __init__(self, measure_text: MeasureText, *, show_bars: bool = True) -> None:
        self._measure = measure_text
        self._show_bars = show_bars
        self._panels = PanelPlacer(measure_text)
        self._memories: dict[int, _Memory] = {}
        self._last: tuple[str, tuple[int, int]] | None = None
        self._now_s = -math.inf
        self._crowded_s = -math.inf

    def arrange(self, analyzed: AnalyzedFrame) -> tuple[PlacedFace, ...]:
        """Place the parts of every face of a frame.

        Returns:
            One entry per face, in the order of the faces.
        """
        frame, faces = analyzed.frame, analyzed.faces
        step_s = self._advance(frame.source, frame.size_wh, frame.time_s)
        for face in faces:
            self._memories.setdefault(face.id, _Memory(frame.time_s)).seen_s = frame.time_s
        memories = [self._memories[face.id] for face in faces]

        view = Rect(0, 0, *frame.size_wh)
        scale = math.sqrt(view.width * view.height / REFERENCE_AREA_PX)
        scene = Scene(
            view=view,
            faces=faces,
            boxes=[whole_box(face.box_xyxy.tolist(), view) for face in faces],
            text_px=max(SMALLEST_TEXT_PX, round(REFERENCE_TEXT_PX * scale)),
            gap=max(4, round(8 * scale)),
            now_s=frame.time_s,
            step_s=step_s,
        )
        if self._panels.is_crowded(scene):
            self._crowded_s = frame.time_s
        crowded = frame.time_s - self._crowded_s < STILL_CROWDED_S
        for memory, box in zip(memories, scene.boxes, strict=True):
            memory.panel.update_size(box.height / scene.text_px, crowded=crowded)

        # Small faces get small tags, because ordinary ones are much wider than the face. The text of a tag is
        # never smaller than the text of the panel, because the tag is the main message.
        factors = [TEXT_STEPS[memory.panel.text_step] for memory in memories]
        tags = place_tags(scene, [memory.tag for memory in memories], factors, self._measure)
        panels: list[PlacedPanel | None] = [None] * len(faces)
        if self._show_bars:
            tag_rects = [tag.rect if tag else None for tag in tags]
            panels = self._panels.place(scene, [memory.panel for memory in memories], tag_rects)
        line_px = max(2, round(2.6 * scale))
        return tuple(
            PlacedFace(face, box, min(line_px, _thickest_line_px(box)), tag, panel)
            for face, box, tag, panel in zip(faces, scene.boxes, tags, panels, strict=True)
        )

    def _advance(self, source: str, size_wh: tuple[int, int], time_s: float) -> float:
        """Forget faces that have left, and return the time since the last frame, 0 if there was none."""
        step_s = time_s - self._now_s
        is_same = self._last == (source, size_wh)
        self._last, self._now_s = (source, size_wh), time_s
        # If time stands still, this is another picture, because the pictures of a folder are all at time 0.
        if not is_same or step_s <= 0:
            self._memories.clear()
            self._crowded_s = -math.inf
            return 0.0
        gone = [key for key, memory in self._memories.items() if time_s - memory.seen_s > MEMORY_S]
        for key in gone:
            del self._memories[key]
        return step_s


def _thickest_line_px(box: Rect) -> int:
    """Return the thickest line that leaves a small face visible between the corners of its box."""
    return max(1, round(THICKEST_LINE_SHARE * min(box.width, box.height)))
