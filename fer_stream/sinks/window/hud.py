"""Draw the status line, badges and list of keys onto the picture in the window.

Sizes follow the window, not the picture, so that text looks the same over 360p and 4K.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from fer_stream.rendering.overlay.drawing import (
    DIM_BGR,
    PLATE_BGR,
    WHITE_BGR,
    ColorBgr,
    baseline_px,
    blend,
    draw_text,
    plate,
    text_width_px,
)
from fer_stream.rendering.overlay.parts import REGULAR, SEMIBOLD

# Names of keys, and what they do.
KEYS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("s",), "save a still"),
    (("r",), "start or stop a recording"),
    (("space",), "hold the picture; everything else goes on"),
    (("b",), "show or hide the bars"),
    (("m",), "mirror this window, not what is saved"),
    (("h",), "show or hide the keys"),
    (("q", "Esc"), "quit"),
)

RED_BGR: ColorBgr = (64, 64, 235)
AMBER_BGR: ColorBgr = (60, 176, 250)
DISCREET = 0.62  # opacity of plates that are always shown
CLEAR = 0.9  # opacity of plates that should be noticed


@dataclass(frozen=True)
class Hud:
    """Text and signs to draw over the picture.

    Attributes:
        status: The discreet line at the bottom.
        recording: The clock of the recording; None if nothing is recorded.
        warning: The reason why no new picture comes; empty if they come.
        note: The latest event; empty if nothing has happened.
        held: Whether the picture is held.
        shows_keys: Whether the list of keys is shown.
    """

    status: str = ""
    recording: str | None = None
    warning: str = ""
    note: str = ""
    held: bool = False
    shows_keys: bool = False


def draw(canvas: np.ndarray, hud: Hud) -> None:
    """Draw everything onto the picture, in place.

    Args:
        canvas: The window's picture, uint8 (H, W, 3).
        hud: What to draw.
    """
    height, width = canvas.shape[:2]
    size_px = text_size_px((width, height))
    edge = round(0.7 * size_px)
    line = round(1.7 * size_px)
    if hud.shows_keys:
        _dim(canvas, 0.45)

    top = edge
    if hud.recording is not None:
        badge = _Line(canvas, size_px, CLEAR)
        badge.dot(RED_BGR).text(hud.recording, WHITE_BGR, SEMIBOLD).draw(edge, top)
    if hud.held:
        badge = _Line(canvas, size_px, CLEAR).bars(WHITE_BGR).text("held", WHITE_BGR, SEMIBOLD)
        badge.draw(width - edge - badge.width, top)
    if hud.warning:
        # In the middle, or below the badges if it would touch them.
        badge = _Line(canvas, size_px, CLEAR, limit=width - 2 * edge)
        badge.dot(AMBER_BGR).text(hud.warning, AMBER_BGR, SEMIBOLD)
        free = (width - badge.width) // 2 > 9 * size_px
        badge.draw((width - badge.width) // 2, top if free else top + line + edge // 2)

    bottom = height - edge - line
    hint = _Line(canvas, size_px, DISCREET).text("h", WHITE_BGR, SEMIBOLD).text("keys", DIM_BGR)
    if hud.status:
        free = width - 2 * edge - hint.width - edge
        _Line(canvas, size_px, DISCREET, limit=free).text(hud.status, DIM_BGR).draw(edge, bottom)
    if not hud.shows_keys:
        hint.draw(width - edge - hint.width, bottom)
    if hud.note:
        badge = _Line(canvas, size_px, CLEAR, limit=width - 2 * edge).text(hud.note, WHITE_BGR)
        badge.draw((width - badge.width) // 2, bottom - line - edge)
    if hud.shows_keys:
        _draw_keys(canvas, size_px)


def starting(size_wh: tuple[int, int], text: str) -> np.ndarray:
    """Return the picture to show before the first frame, uint8 (H, W, 3)."""
    canvas = np.full((size_wh[1], size_wh[0], 3), PLATE_BGR, np.uint8)
    size_px = text_size_px(size_wh)
    line = _Line(canvas, size_px, 0.0, limit=size_wh[0]).text(text, DIM_BGR)
    line.draw((size_wh[0] - line.width) // 2, (size_wh[1] - round(1.7 * size_px)) // 2)
    return canvas


def text_size_px(size_wh: tuple[int, int]) -> int:
    """Return the size of text for a window, in px."""
    return min(max(round(min(size_wh[1] / 46, size_wh[0] / 64)), 12), 34)


def fitted(picture_bgr: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    """Return a picture scaled to fit the window, in its own shape, on a dark background."""
    width, height = size_wh
    scale = min(width / picture_bgr.shape[1], height / picture_bgr.shape[0])
    inner_wh = max(1, round(picture_bgr.shape[1] * scale)), max(1, round(picture_bgr.shape[0] * scale))
    if inner_wh != (picture_bgr.shape[1], picture_bgr.shape[0]):
        interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        picture_bgr = cv2.resize(picture_bgr, inner_wh, interpolation=interpolation)
    left, top = (width - inner_wh[0]) // 2, (height - inner_wh[1]) // 2
    canvas = np.full((height, width, 3), PLATE_BGR, np.uint8)
    canvas[top : top + inner_wh[1], left : left + inner_wh[0]] = picture_bgr
    return canvas


class _Line:
    """A plate with signs and words in a row.

    Args:
        canvas: The picture to draw on.
        size_px: Size of the text.
        opacity: Opacity of the plate.
        limit: Largest width in px. The last words are shortened to fit.
    """

    def __init__(self, canvas: np.ndarray, size_px: int, opacity: float, limit: int = 1 << 16) -> None:
        self._canvas, self._size_px, self._opacity, self._limit = canvas, size_px, opacity, limit
        self._padding = round(0.6 * size_px)
        self._gap = round(0.5 * size_px)
        self._height = round(1.7 * size_px)
        self._marks: list[tuple[int, str, ColorBgr]] = []
        self._words: list[tuple[int, str, ColorBgr, int]] = []
        self.width = 2 * self._padding

    def _place(self, width: int) -> int:
        left = self.width - self._padding + (self._gap if self.width > 2 * self._padding else 0)
        self.width = left + width + self._padding
        return left

    def dot(self, color: ColorBgr) -> _Line:
        """Add a filled circle."""
        self._marks.append((self._place(round(0.7 * self._size_px)), "dot", color))
        return self

    def bars(self, color: ColorBgr) -> _Line:
        """Add a pause sign."""
        self._marks.append((self._place(round(0.66 * self._size_px)), "bars", color))
        return self

    def text(self, text: str, color: ColorBgr, weight: int = REGULAR) -> _Line:
        """Add words."""
        free = self._limit - self.width - self._gap
        if text_width_px(text, self._size_px, weight) > free:
            while text and text_width_px(text + "…", self._size_px, weight) > free:
                text = text[:-1].rstrip()
            text += "…"
        self._words.append((self._place(text_width_px(text, self._size_px, weight)), text, color, weight))
        return self

    def draw(self, left: int, top: int) -> None:
        """Draw the plate and everything on it."""
        size_px, middle = self._size_px, top + self._height // 2
        if self._opacity:
            background = plate(self.width, self._height, self._height // 4, PLATE_BGR, self._opacity)
            blend(self._canvas, background, left, top)
        for at, kind, color in self._marks:
            if kind == "dot":
                side = round(0.7 * size_px)
                blend(self._canvas, plate(side, side, side // 2, color, 1.0), left + at, middle - side // 2)
            else:
                thick, high = round(0.24 * size_px), round(0.8 * size_px)
                for shift in (0, round(0.42 * size_px)):
                    bar = plate(thick, high, 1, color, 1.0)
                    blend(self._canvas, bar, left + at + shift, middle - high // 2)
        for at, text, color, weight in self._words:
            draw_text(
                self._canvas,
                text,
                left + at,
                top + baseline_px(self._height, size_px),
                size_px,
                weight,
                color,
            )


def _draw_keys(canvas: np.ndarray, size_px: int) -> None:
    """Draw the list of keys in the middle, smaller if the window is small."""
    height, width = canvas.shape[:2]
    size_px = round(1.1 * size_px)
    while size_px > 7 and any(
        wanted > available for wanted, available in zip(_keys_wh(size_px), (width, height), strict=True)
    ):
        size_px -= 1
    wide, high = _keys_wh(size_px)
    left, top = (width - wide) // 2, (height - high) // 2
    blend(canvas, plate(wide, high, size_px // 2, PLATE_BGR, 0.94), left, top)
    padding, row = round(1.4 * size_px), round(2.1 * size_px)
    draw_text(
        canvas,
        "Keys",
        left + padding,
        top + padding + baseline_px(row, size_px) - size_px // 2,
        round(1.25 * size_px),
        SEMIBOLD,
        WHITE_BGR,
    )
    for index, (names, what) in enumerate(KEYS):
        row_top = top + padding + row * (index + 1)
        at = left + padding
        for name in names:
            cap_width, cap_height = _cap_wh(name, size_px)
            cap = plate(cap_width, cap_height, size_px // 3, WHITE_BGR, 0.16)
            blend(canvas, cap, at, row_top + (row - cap_height) // 2)
            text_left = at + (cap_width - text_width_px(name, size_px, SEMIBOLD)) // 2
            draw_text(
                canvas, name, text_left, row_top + baseline_px(row, size_px), size_px, SEMIBOLD, WHITE_BGR
            )
            at += cap_width + size_px // 2
        draw_text(
            canvas,
            what,
            left + padding + _caps_width(size_px) + size_px,
            row_top + baseline_px(row, size_px),
            size_px,
            REGULAR,
            DIM_BGR,
        )


def _cap_wh(name: str, size_px: int) -> tuple[int, int]:
    height = round(1.6 * size_px)
    return max(height, text_width_px(name, size_px, SEMIBOLD) + size_px), height


def _caps_width(size_px: int) -> int:
    return max(
        sum(_cap_wh(name, size_px)[0] for name in names) + (len(names) - 1) * (size_px // 2)
        for names, _ in KEYS
    )


def _keys_wh(size_px: int) -> tuple[int, int]:
    padding, row = round(1.4 * size_px), round(2.1 * size_px)
    words = max(text_width_px(what, size_px, REGULAR) for _, what in KEYS)
    return 2 * padding + _caps_width(size_px) + size_px + words, 2 * padding + row * (len(KEYS) + 1)


def _dim(canvas: np.ndarray, share: float) -> None:
    """Darken the picture in place, behind the list of keys."""
    cv2.convertScaleAbs(canvas, dst=canvas, alpha=1 - share)
