"""Shared code of all figures: greys, resolution, loading matplotlib, and saving.

Figures are made without pyplot, because its global state is not thread-safe. matplotlib takes half a second
to load; it loads with the first figure or with `load_matplotlib`.
"""

from __future__ import annotations

import io
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_stream.errors import OutputError, UsageError, reason_of
from fer_stream.system.environment import plain_matplotlib
from fer_stream.system.files import replacing
from fer_stream.words import any_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# When matplotlib has no folder for its font list, it warns on loading that it will be slower.
logging.getLogger("matplotlib").setLevel(logging.ERROR)

CHART_SUFFIXES = (".png", ".jpg", ".jpeg", ".svg", ".pdf")

DOTS_PER_INCH = 150

TEXT_HEX = "#202124"
QUIET_HEX = "#6b6f76"
FAINT_HEX = "#e6e7ea"


def check_chart_path(path: Path) -> None:
    """Check the extension of a chart.

    Raises:
        UsageError: The extension is not in `CHART_SUFFIXES`.
    """
    if path.suffix.lower() not in CHART_SUFFIXES:
        raise UsageError(f"can't write {path}: its name should end in {any_of(CHART_SUFFIXES)}")


def load_matplotlib() -> None:
    """Load matplotlib, so that the first figure need not wait for it.

    Raises:
        OutputError: matplotlib can't be loaded.
    """
    try:
        if Path("matplotlibrc").is_fifo():
            raise OSError("it is a pipe")
        import matplotlib.backends.backend_agg
        import matplotlib.figure
    except Exception as error:
        raise OutputError(f"matplotlib can't be loaded; is a matplotlibrc in this folder? {error}") from error
    if plain_matplotlib():
        matplotlib.rcdefaults()


def new_figure(width_in: float, height_in: float) -> Figure:
    """Return an empty figure of this size in inches."""
    load_matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in), facecolor="white", dpi=DOTS_PER_INCH)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure to a file, in full or not at all.

    Raises:
        OutputError: The file can't be written.
    """
    kind = path.suffix.lower()[1:]
    # At the usual quality, JPEG smears thin lines and small text.
    options: dict[str, Any] = {"pil_kwargs": {"quality": 95}} if kind in ("jpg", "jpeg") else {}
    try:
        # Draw into memory first, because Pillow does not notice a short write to a full disk.
        drawn = io.BytesIO()
        with warnings.catch_warnings():
            # The title may be in a script that the font lacks.
            warnings.filterwarnings("ignore", message="Glyph")
            figure.savefig(drawn, format=kind, dpi=DOTS_PER_INCH, **options)
        with replacing(path) as temporary:
            temporary.write_bytes(drawn.getbuffer())
    except OSError as error:
        raise OutputError(f"can't write the chart {path}: {reason_of(error)}") from error
