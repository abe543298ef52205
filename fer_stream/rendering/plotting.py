"""Shared code of all figures: greys, resolution, and writing.

Figures are made as objects, without pyplot, because its global state is not safe for threads. matplotlib
loads with the first figure or with `load_matplotlib`, which takes half a second.
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

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Without a folder for its list of fonts, matplotlib warns at loading that it will be slower.
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
        raise UsageError(
            f"a chart is {', '.join(CHART_SUFFIXES)}, not {path.suffix or 'without a suffix'}: {path}"
        )


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
    """Write a figure, whole or not at all.

    Raises:
        OutputError: The file can't be written.
    """
    kind = path.suffix.lower()[1:]
    # JPEG smears thin lines and small text at its usual quality.
    options: dict[str, Any] = {"pil_kwargs": {"quality": 95}} if kind in ("jpg", "jpeg") else {}
    try:
        # Through memory, because Pillow does not notice a short write to a full disk.
        drawn = io.BytesIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph")  # of a name in a script that the font lacks
            figure.savefig(drawn, format=kind, dpi=DOTS_PER_INCH, **options)
        with replacing(path) as temporary:
            temporary.write_bytes(drawn.getbuffer())
    except OSError as error:
        raise OutputError(f"can't write the chart {path}: {reason_of(error)}") from error
