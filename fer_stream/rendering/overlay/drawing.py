"""Draw the parts of the overlay at their places, fast.

Parts that do not change between frames (plates, words, numbers, shapes of bars) are drawn once, as sprites. A
sprite holds its colour times its opacity, and the share of the background that shows through. Blending a
sprite touches only the pixels that it covers, with two OpenCV calls in 8-bit arithmetic.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from fer_stream.expressions import EXPRESSIONS, color_bgr, needs_dark_text
from fer_stream.rendering.overlay.geometry import Rect
from fer_stream.rendering.overlay.parts import (
    REGULAR,
    SEMIBOLD,
    PanelStyle,
    PlacedFace,
    id_text,
    tag_text,
)
from fer_stream.types import Face
from fer_stream.words import percent

ColorBgr = tuple[int, int, int]

PLATE_BGR: ColorBgr = (26, 22, 20)
PLATE_OPACITY = 0.84  # enough for blue text over a white wall, and still transparent
WHITE_BGR: ColorBgr = (255, 255, 255)
DIM_BGR: ColorBgr = (206, 202, 200)
INK_BGR: ColorBgr = (20, 16, 14)
TRACK_OPACITY = 0.13
UNSURE_OPACITY = 0.78
NO_ROW = -1  # there is no row to emphasize

# OpenCV's built-in variable sans-serif font. Drawing sets its weight without holding the GIL, so only one
# thread may draw at a time. Threads wait for each other only for texts that are not cached yet.
_FONT = cv2.FontFace("sans")
_FONT_LOCK = threading.Lock()


@dataclass(frozen=True, eq=False)
class Sprite:
    """A picture with transparency, ready to blend.

    Attributes:
        premultiplied: uint8 (h, w, 3), BGR times opacity.
        background: uint8 (h, w, 3), the share of the background that shows through, 0 to 255.
    """

    premultiplied: np.ndarray
    background: np.ndarray


def blend(canvas: np.ndarray, sprite: Sprite, left: int, top: int, width: int | None = None) -> None:
    """Blend a sprite into the canvas, in place, clipped to the canvas.

    Args:
        canvas: uint8 (H, W, 3).
        sprite: The sprite.
        left: Left edge of the sprite, px.
        top: Top edge of the sprite, px.
        width: Number of its columns to draw; all by default.
    """
    height, full_width = sprite.premultiplied.shape[:2]
    width = full_width if width is None else min(width, full_width)
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + width, canvas.shape[1]), min(top + height, canvas.shape[0])
    if x0 >= x1 or y0 >= y1:
        return
    part = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    region = canvas[y0:y1, x0:x1]
    cv2.multiply(region, sprite.background[part], dst=region, scale=1 / 255)
    cv2.add(region, sprite.premultiplied[part], dst=region)


@lru_cache(maxsize=2048)
def text_width_px(text: str, size_px: int, weight: int) -> int:
    """Return the width of a text in px."""
    with _FONT_LOCK:
        return int(cv2.getTextSize((0, 0), text, (0, 0), _FONT, size_px, weight)[2])


def draw_box(canvas: np.ndarray, placed: PlacedFace) -> None:
    """Draw a face's box in place: a hairline and corners in the colour of the expression."""
    box = placed.box
    if box.width < 2 or box.height < 2:
        return
    line = placed.line_px
    thin = max(1, line // 3)
    whole = canvas[box.top : box.bottom, box.left : box.right]
    for edge in (whole[:thin], whole[-thin:], whole[thin:-thin, :thin], whole[thin:-thin, -thin:]):
        if edge.size:
            cv2.convertScaleAbs(edge, dst=edge, alpha=0.6, beta=0.4 * 255)
    # Round to steps of 4 px, so that an approaching face does not need new corners in every frame.
    reach = min(int(0.22 * min(box.width, box.height)), 14 * line) // 4 * 4
    reach = max(reach, 2 * line)
    corners = _corners(reach, line, color_bgr(placed.face.label))
    size = corners[0].background.shape[0]
    for index, corner in enumerate(corners):
        left = box.left if index % 2 == 0 else box.right - size
        top = box.top if index < 2 else box.bottom - size
        blend(canvas, corner, left, top)


def draw_tag(canvas: np.ndarray, placed: PlacedFace) -> None:
    """Draw a face's tag in place: expression, percentage and, in lighter type, its id.

    An unsure face gets a dark, more transparent tag in regular weight, which catches the eye less.
    """
    if placed.tag is None:
        return
    tag, face = placed.tag, placed.face
    rect, size_px = tag.rect, tag.text_px
    color = color_bgr(face.label)
    opacity = UNSURE_OPACITY if face.unsure else 0.94
    blend(canvas, plate(rect.width, rect.height, size_px // 4, color, opacity), rect.left, rect.top)
    ink = INK_BGR if needs_dark_text(face.label) else WHITE_BGR
    weight = REGULAR if face.unsure else SEMIBOLD
    baseline = rect.top + baseline_px(rect.height, size_px)
    draw_text(canvas, tag_text(face), rect.left + tag.padding, baseline, size_px, weight, ink)
    if tag.shows_id:
        text = id_text(face)
        left = rect.right - tag.padding - text_width_px(text, size_px, REGULAR)
        draw_text(canvas, text, left, baseline, size_px, REGULAR, ink)


def draw_panel(canvas: np.ndarray, placed: PlacedFace) -> None:
    """Draw a face's bars in place. Do nothing if no room was found for them."""
    if placed.panel is None:
        return
    rect, style, opacity = placed.panel.rect, placed.panel.style, placed.panel.opacity
    region = canvas[rect.top : rect.bottom, rect.left : rect.right]
    before = region.copy() if opacity < 1 else None
    _draw_rows(canvas, rect, style, placed.face)
    if before is not None:
        cv2.addWeighted(region, opacity, before, 1 - opacity, 0, dst=region)
    elif placed.panel.tie is not None:
        tie = placed.panel.tie
        blend(canvas, plate(tie.width, tie.height, 0, color_bgr(placed.face.label), 1.0), tie.left, tie.top)


def _draw_rows(canvas: np.ndarray, panel: Rect, style: PanelStyle, face: Face) -> None:
    probabilities = face.probabilities
    top_index = NO_ROW if face.unsure else int(probabilities.argmax())
    blend(canvas, _panel_plate(style, top_index), panel.left, panel.top)
    bar_left = panel.left + style.padding + style.name_width + style.gap
    length, thickness = style.bar_wh
    for index, (name, probability) in enumerate(zip(EXPRESSIONS, probabilities.tolist(), strict=True)):
        row_top = panel.top + style.padding + index * style.row
        bar_top = row_top + (style.row - thickness) // 2
        _draw_bar(canvas, bar_left, bar_top, length, thickness, probability, color_bgr(name))
        if style.number_width:
            is_top = index == top_index
            text, weight = str(percent(probability, unsure=face.unsure)), SEMIBOLD if is_top else REGULAR
            left = panel.right - style.padding - text_width_px(text, style.text_px, weight)
            baseline = row_top + baseline_px(style.row, style.text_px)
            draw_text(canvas, text, left, baseline, style.text_px, weight, WHITE_BGR if is_top else DIM_BGR)


def _draw_bar(
    canvas: np.ndarray,
    left: int,
    top: int,
    length: int,
    thickness: int,
    probability: float,
    color: ColorBgr,
) -> None:
    filled = min(max(probability, 0.0), 1.0) * length
    whole = int(filled)
    sprite = plate(length, thickness, thickness // 2, color, 1.0)
    blend(canvas, sprite, left, top, whole)
    # The last column is partly coloured, so that bars grow smoothly instead of pixel by pixel.
    rest = round((filled - whole) * 8)
    if whole < length and rest:
        column = plate(1, thickness, 0, color, rest / 8)
        blend(canvas, column, left + whole, top)


def draw_text(
    canvas: np.ndarray,
    text: str,
    left: int,
    baseline: int,
    size_px: int,
    weight: int,
    color: ColorBgr,
) -> None:
    """Draw a line of text in place, starting at `left` and standing on `baseline`, px."""
    sprite, margin, ascent = _text_sprite(text, size_px, weight, color)
    blend(canvas, sprite, left - margin, baseline - ascent)


@lru_cache(maxsize=1024)
def _text_sprite(text: str, size_px: int, weight: int, color: ColorBgr) -> tuple[Sprite, int, int]:
    """Return the sprite of a text, its offset to the left, and its rows above the baseline."""
    margin, ascent = 2, size_px + 2
    width = text_width_px(text, size_px, weight) + 2 * margin
    coverage = np.zeros((ascent + size_px // 2 + 2, width, 3), np.uint8)
    with _FONT_LOCK:
        cv2.putText(coverage, text, (margin, ascent), WHITE_BGR, _FONT, size_px, weight)
    return _sprite(coverage[:, :, 0] / 255.0, color), margin, ascent


@lru_cache(maxsize=256)
def _corners(reach: int, line: int, color: ColorBgr) -> tuple[Sprite, Sprite, Sprite, Sprite]:
    """Return a box's corners, each a bent line: top left, top right, bottom left, bottom right."""
    size = reach + line
    y, x = np.mgrid[0:size, 0:size] + 0.5
    # Distance to the middle of the line, around the bend and along the two straight ends.
    middle, radius = 1 + line / 2, 0.35 * reach
    bend = middle + radius
    round_px = np.abs(np.hypot(x - bend, y - bend) - radius)
    across_px = np.hypot(x - np.clip(x, bend, reach), y - middle)
    down_px = np.hypot(x - middle, y - np.clip(y, bend, reach))
    straight_px = np.minimum(across_px, down_px)
    distance_px = np.where((x < bend) & (y < bend), round_px, straight_px)
    # A dark edge keeps yellow visible on white.
    edge = np.clip(line / 2 + 1.5 - distance_px, 0, 1) * 0.55
    top = np.clip(line / 2 + 0.5 - distance_px, 0, 1)
    alpha = (1 - (1 - edge) * (1 - top))[:, :, None]
    paint = top[:, :, None] * np.array(color, np.float64)
    paint += ((1 - top) * edge)[:, :, None] * np.array(INK_BGR, np.float64)
    premultiplied, background = _to_uint8(paint), np.repeat(_to_uint8(255 * (1 - alpha)), 3, axis=2)
    sprites = [
        Sprite(
            np.ascontiguousarray(premultiplied[::down, ::across]),
            np.ascontiguousarray(background[::down, ::across]),
        )
        for down in (1, -1)
        for across in (1, -1)
    ]
    return sprites[0], sprites[1], sprites[2], sprites[3]


@lru_cache(maxsize=2048)
def plate(width: int, height: int, radius: int, color: ColorBgr, opacity: float) -> Sprite:
    """Return a rectangle with round corners in one colour."""
    return _sprite(_rounded(width, height, radius) * opacity, color)


@lru_cache(maxsize=128)
def _panel_plate(style: PanelStyle, top_index: int) -> Sprite:
    """Return the static part of a panel: plate, tracks of the bars, and names, the top one in bold."""
    width, height = style.size_wh
    color = np.full((height, width, 3), PLATE_BGR, np.uint8)
    background = np.full((height, width, 3), round(255 * (1 - PLATE_OPACITY)), np.uint8)

    def layer(sprite: Sprite, left: int, top: int) -> None:
        blend(color, sprite, left, top)
        blend(background, Sprite(np.zeros_like(sprite.premultiplied), sprite.background), left, top)

    bar_width, bar_height = style.bar_wh
    bar_left = style.padding + style.name_width + style.gap
    for index, name in enumerate(EXPRESSIONS):
        row_top = style.padding + index * style.row
        if style.name_width:
            is_top = index == top_index
            weight, ink = (SEMIBOLD, WHITE_BGR) if is_top else (REGULAR, DIM_BGR)
            sprite, margin, ascent = _text_sprite(name, style.text_px, weight, ink)
            layer(sprite, style.padding - margin, row_top + baseline_px(style.row, style.text_px) - ascent)
        track = plate(bar_width, bar_height, bar_height // 2, WHITE_BGR, TRACK_OPACITY)
        layer(track, bar_left, row_top + (style.row - bar_height) // 2)
    shape = _rounded(width, height, max(2, style.text_px // 2))[:, :, None]
    opacity = (1 - background / 255) * shape
    return Sprite(_to_uint8(color * opacity), _to_uint8(255 * (1 - opacity)))


def _sprite(alpha: np.ndarray, color: ColorBgr) -> Sprite:
    """Return a sprite of one colour. `alpha` is float (h, w), 0 to 1."""
    alpha = alpha[:, :, None]
    return Sprite(
        _to_uint8(alpha * np.array(color, np.float64)),
        np.repeat(_to_uint8(255 * (1 - alpha)), 3, axis=2),
    )


def _to_uint8(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _rounded(width: int, height: int, radius: int) -> np.ndarray:
    """Return the coverage of a rectangle with round corners, float (height, width), 0 to 1."""
    # The distance from each pixel's centre to the rounded outline gives antialiasing half a pixel wide.
    radius = min(radius, width // 2, height // 2)
    x = np.abs(np.arange(width) + 0.5 - width / 2) - (width / 2 - radius)
    y = np.abs(np.arange(height) + 0.5 - height / 2) - (height / 2 - radius)
    outside = np.hypot(np.maximum(x[None, :], 0), np.maximum(y[:, None], 0))
    if radius == 0:
        return np.ones((height, width))
    return np.clip(radius - outside + 0.5, 0, 1)


def baseline_px(height: int, size_px: int) -> int:
    """Return the baseline at which lower-case and capital letters look centred."""
    return round((height + 0.62 * size_px) / 2)
