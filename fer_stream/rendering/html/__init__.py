"""Pieces of web pages that the report and the live page share: style, palette, curves and the chart library.

uPlot 1.6.32 draws the curves (https://github.com/leeoniya/uPlot, MIT, see uPlot-LICENSE.txt).
"""

from __future__ import annotations

import base64
import hashlib
import json
from importlib import resources
from typing import Any

from fer_stream.expressions import COLORS_RGB, LABELS, UNSURE, UNSURE_RGB

LEAST_CONTRAST = 3.0  # against the page, as WCAG 2.2 (1.4.11) requires for graphics
DARK_LINE_CONTRAST = 4.5  # on a dark page, a thin blue line with less is hard to see
_LIGHT_PAGE_RGB = (255, 255, 255)
_DARK_PAGE_RGB = (24, 26, 29)


def static_text(name: str, package: str = __name__) -> str:
    """Return the text of a file beside this module or in another package."""
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


def uplot_script() -> str:
    """Return uPlot as a script that starts with its licence, which every copy must have."""
    return f"/*\n{static_text('uPlot-LICENSE.txt')}*/\n{static_text('uPlot.iife.min.js')}"


def palette_css() -> str:
    """Return CSS variables for the overlay's colours: `--fill-happy`, and `--line-happy` for thin lines.

    A line is darker on a light page, and lighter on a dark one, if the overlay's colour would be hard to see.
    The same goes for "unsure", which is drawn as hatching.
    """

    def variables(page_rgb: tuple[int, int, int], line_contrast: float) -> str:
        named = {**COLORS_RGB, UNSURE: _visible(UNSURE_RGB, page_rgb)}
        fills = (f"--fill-{name}:{_hex(named[name])};" for name in LABELS)
        lines = (f"--line-{name}:{_hex(_visible(named[name], page_rgb, line_contrast))};" for name in LABELS)
        return "".join((*fills, *lines))

    return (
        f":root{{{variables(_LIGHT_PAGE_RGB, LEAST_CONTRAST)}}}"
        f"@media(prefers-color-scheme:dark){{:root{{{variables(_DARK_PAGE_RGB, DARK_LINE_CONTRAST)}}}}}"
    )


def csp_hash(text: str) -> str:
    """Return the source expression for one inline script or style in a Content-Security-Policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def json_for_script(content: Any) -> str:
    """Return JSON that is safe inside `<script type="application/json">`, whatever its strings contain."""
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    # Only "</script" and "<!--" end or change a script, and both need a "<".
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hex(rgb: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*rgb)


def _luminance(rgb: tuple[int, int, int]) -> float:
    """Return the relative luminance of WCAG 2.2, 0 to 1."""
    parts = [value / 255 for value in rgb]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _visible(
    rgb: tuple[int, int, int], page_rgb: tuple[int, int, int], least_contrast: float = LEAST_CONTRAST
) -> tuple[int, int, int]:
    """Return a colour, moved towards black or white until it has enough contrast with the page."""
    page = _luminance(page_rgb)
    target = 0 if page > 0.5 else 255
    for step in range(21):
        mixed = tuple(round(value + (target - value) * step / 20) for value in rgb)
        red, green, blue = mixed
        bright, dark = sorted((_luminance((red, green, blue)), page), reverse=True)
        if (bright + 0.05) / (dark + 0.05) >= least_contrast:
            break
    return red, green, blue
