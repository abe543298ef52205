"""The overlay over a real crowd."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.faces import blank_frame, face_at

from fer_stream.rendering.overlay.drawing import text_width_px
from fer_stream.rendering.overlay.layout import Layout
from fer_stream.rendering.overlay.parts import PlacedFace

STREET = Path(__file__).with_name("street-faces.json")


@pytest.fixture(scope="module")
def street() -> list[tuple[PlacedFace, ...]]:
    """The placements of a crowd's faces at 1920x1080, 25 frames per second."""
    layout, frames = Layout(text_width_px), []
    for index, rows in enumerate(json.loads(STREET.read_text(encoding="utf-8"))):
        faces = [face_at(row[0], row[1:5], row[5], row[6]) for row in rows]
        frames.append(layout.arrange(blank_frame((1920, 1080), faces, index)))
    return frames
