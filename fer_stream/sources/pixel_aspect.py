"""Compute the size of anamorphic video (DVD, DV, HDV) with square pixels."""

from __future__ import annotations

from fractions import Fraction

# The shapes of pixels that a file may state, width to height. Real ones lie between 1:2 and 2:1. A ratio this
# close to square comes from rounding.
_PIXEL_ASPECTS = (0.25, 4.0)
_ALMOST_SQUARE = 0.01


def square_size(size_wh: tuple[int, int], pixel_aspect: Fraction | float | None) -> tuple[int, int]:
    """Return the size at which the pixels of a picture are square.

    One side grows and none shrinks, so that no detail is lost. A size that changes becomes even.

    Args:
        size_wh: Width and height as coded, in px.
        pixel_aspect: Width to height of a pixel, as the file states it. None, 0 and absurd ratios count as 1.
    """
    least, most = _PIXEL_ASPECTS
    aspect = float(pixel_aspect or 1)
    if not least <= aspect <= most or abs(aspect - 1) < _ALMOST_SQUARE:
        return size_wh
    width, height = size_wh
    return 2 * round(width * max(aspect, 1) / 2), 2 * round(height / min(aspect, 1) / 2)
