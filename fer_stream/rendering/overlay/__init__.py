"""Draw the faces of a frame: boxes, labels and live bars.

`layout` arranges a frame, `tag_placement` and `panel_placement` decide where a tag and a panel are placed,
and `drawing` turns that into pixels.
"""

from __future__ import annotations

import numpy as np

from fer_stream.rendering.overlay import drawing
from fer_stream.rendering.overlay.layout import Layout
from fer_stream.types import AnalyzedFrame


class Overlay:
    """Annotates the frames of one stream.

    It remembers where parts were placed, so use one overlay for each stream.

    Args:
        show_bars: Draw the seven probability bars, not only the box and its label.
    """

    def __init__(self, *, show_bars: bool = True) -> None:
        self._layout = Layout(drawing.text_width_px, show_bars=show_bars)

    def annotate(self, analyzed: AnalyzedFrame) -> np.ndarray:
        """Return a new picture with every face marked, uint8 BGR (H, W, 3). The frame is not changed."""
        canvas = analyzed.frame.bgr.copy()
        placed_faces = self._layout.arrange(analyzed)
        for placed in placed_faces:
            drawing.draw_box(canvas, placed)
        for placed in placed_faces:
            drawing.draw_panel(canvas, placed)
        # Tags last, because they must stay readable.
        for placed in placed_faces:
            drawing.draw_tag(canvas, placed)
        return canvas
