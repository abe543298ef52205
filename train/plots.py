"""Draw the charts of a run: its curves over the epochs, and the confusion matrix of its best epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fer_stream.expressions import EXPRESSIONS, color_hex
from fer_stream.rendering.plotting import FAINT_HEX, QUIET_HEX, TEXT_HEX, new_figure, save_figure
from fer_stream.words import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from train.metrics import Report
    from train.reporter import HistoryRow

# Unlike any expression's colour, because splits and matrix cells do not stand for an expression.
TRAIN_HEX = "#a9adb5"
FERPLUS_HEX = "#2f6fb7"
CELL_HEX = "#24324d"


def save_curves(history: Sequence[HistoryRow], path: Path) -> None:
    """Draw loss and accuracy of both splits over the epochs, and mark the best epoch.

    Args:
        history: A row for each validation, at least one of them the best so far.
        path: The `.png` to write.

    Raises:
        OutputError: The file can't be written.
    """
    best = [row for row in history if row.best][-1]
    epochs = [row.epoch for row in history]
    figure = new_figure(11.0, 4.9)
    from matplotlib.ticker import MaxNLocator

    agreement = [100 * row.ferplus_agreement for row in history if row.ferplus_agreement is not None]
    has_ferplus = len(agreement) == len(history)
    labels = "validation: FER2013's own labels" + ("  ·  FER+: its majority" if has_ferplus else "")
    _head(figure, "Training", f"best epoch {best.epoch} of {epochs[-1]}  ·  {labels}")
    panels = (
        ("loss", [row.train_loss for row in history], [row.validation_loss for row in history], "{:.3f}"),
        (
            "accuracy, %",
            [100 * row.train_accuracy for row in history],
            [100 * row.validation_accuracy for row in history],
            "{:.1f} %",
        ),
    )
    for column, (name, train, validation, style) in enumerate(panels):
        axes = figure.add_axes((0.06 + 0.49 * column, 0.11, 0.37, 0.6))
        axes.set_title(name, loc="left", fontsize=11, fontweight="bold", color=TEXT_HEX, pad=20)
        _plain(axes)
        axes.axvline(best.epoch, color=TEXT_HEX, linewidth=0.9, linestyle=(0, (2, 3)), zorder=1)
        curves = [("train", train, TRAIN_HEX, 1.8), ("validation", validation, TEXT_HEX, 2.2)]
        if column and has_ferplus:
            curves.append(("FER+", agreement, FERPLUS_HEX, 2.2))
        for _, values, color, width in curves:
            marker = "o" if len(epochs) < 3 else ""
            axes.plot(
                epochs, values, color=color, linewidth=width, marker=marker, markersize=4,
                solid_capstyle="round", zorder=3,
            )  # fmt: skip
        at_best = validation[epochs.index(best.epoch)]
        axes.plot(
            [best.epoch], [at_best], "o", color=TEXT_HEX, markersize=7, markeredgecolor="white",
            markeredgewidth=1.5, zorder=4,
        )  # fmt: skip
        # The validation loss of an epoch that diverged may be infinite or NaN. The best epoch's is finite.
        shown = [value for _, values, *_ in curves for value in values if math.isfinite(value)]
        low, high = min(shown), max(shown)
        margin = 0.08 * (high - low) or 0.5
        axes.set_ylim(low - margin, high + margin)
        axes.set_xlim(0.7, max(epochs) + 0.3)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
        axes.set_xlabel("epoch", fontsize=9.5, color=QUIET_HEX)
        # At the top of the axes, above the line, no curve can cross the text.
        is_late = best.epoch > (1 + max(epochs)) / 2
        axes.annotate(
            style.format(at_best), (best.epoch, 1), xycoords=("data", "axes fraction"),
            xytext=(-5 if is_late else 5, 3), textcoords="offset points",
            ha="right" if is_late else "left", va="bottom", fontsize=9.5, fontweight="bold", color=TEXT_HEX,
        )  # fmt: skip
        _name_ends(axes, epochs[-1], [(name, values, color) for name, values, color, _ in curves])
    save_figure(figure, path)


def _name_ends(axes: Axes, last_epoch: int, curves: list[tuple[str, list[float], str]]) -> None:
    """Write each curve's name beside its last finite value, and keep names apart if these are close.

    Args:
        axes: The axes.
        last_epoch: The place of the names on the x axis.
        curves: Name, values and colour of each curve.
    """
    ends = [
        (name, [each for each in values if math.isfinite(each)][-1], color) for name, values, color in curves
    ]
    low, high = axes.get_ylim()
    apart, lowest = 0.075 * (high - low), low
    for name, value, color in sorted(ends, key=lambda end: end[1]):
        place = max(value, lowest)
        lowest = place + apart
        axes.annotate(
            name, (last_epoch, place), xytext=(9, 0), textcoords="offset points", va="center_baseline",
            fontsize=9.5, color=QUIET_HEX if color == TRAIN_HEX else color, annotation_clip=False,
        )  # fmt: skip


def save_confusion_matrix(measured: Report, path: Path, *, subtitle: str) -> None:
    """Draw the confusion matrix beside the recall of each class.

    Args:
        measured: The figures.
        path: The `.png` to write.
        subtitle: A description of what was measured.

    Raises:
        OutputError: The file can't be written.
    """
    count = len(EXPRESSIONS)
    width_in, height_in, cell_in = 10.0, 8.0, 0.86
    left_in, top_in, gap_in = 1.45, 1.55, 0.3
    figure = new_figure(width_in, height_in)
    _head(figure, "Confusion matrix", subtitle)

    def place(left: float, wide: float) -> Axes:
        """Add axes that are as high as the matrix, placed in inches from the left."""
        high = count * cell_in
        bottom = 1 - (top_in + high) / height_in
        return figure.add_axes((left / width_in, bottom, wide / width_in, high / height_in))

    shares = measured.confusion / np.maximum(measured.confusion.sum(axis=1, keepdims=True), 1)
    axes = place(left_in, count * cell_in)
    _draw_cells(axes, measured.confusion, shares)
    axes.set_xticks(range(count), EXPRESSIONS)
    axes.set_yticks(range(count), EXPRESSIONS)
    axes.tick_params(length=0, labelsize=10, labelcolor=TEXT_HEX, pad=7, labeltop=True, labelbottom=False)
    axes.annotate(
        "predicted", (0, 1), xycoords="axes fraction", xytext=(0, 26), textcoords="offset points",
        fontsize=9.5, color=QUIET_HEX,
    )  # fmt: skip
    axes.annotate(
        "labelled", (0, 1), xycoords="axes fraction", xytext=(-8, 9), textcoords="offset points",
        fontsize=9.5, color=QUIET_HEX, ha="right",
    )  # fmt: skip
    _draw_recall(place(left_in + count * cell_in + gap_in, 1.45), measured)
    save_figure(figure, path)


def _draw_cells(axes: Axes, confusion: np.ndarray, shares: np.ndarray) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    shades = LinearSegmentedColormap.from_list("cells", ["#f6f7f8", CELL_HEX])
    axes.imshow(shares, cmap=shades, vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        is_hit = row == column
        ink = "white" if share > 0.55 else TEXT_HEX
        axes.text(
            column, row - 0.09, f"{percent(share)} %", ha="center", va="center", fontsize=11,
            fontweight="bold" if is_hit else "normal", color=ink,
        )  # fmt: skip
        axes.text(
            column, row + 0.23, str(confusion[row, column]), ha="center", va="center", fontsize=8,
            color=ink, alpha=0.8,
        )  # fmt: skip
    for edge in np.arange(len(shares) - 1) + 0.5:
        axes.axhline(edge, color="white", linewidth=2)
        axes.axvline(edge, color="white", linewidth=2)
    axes.spines[:].set_visible(False)


def _draw_recall(axes: Axes, measured: Report) -> None:
    positions = np.arange(len(EXPRESSIONS))
    recall = np.nan_to_num(measured.recall)
    axes.barh(positions, 1.0, height=0.34, color="#f1f2f4")
    axes.barh(positions, recall, height=0.34, color=[color_hex(name) for name in EXPRESSIONS])
    for position, found, pictures in zip(
        positions, measured.recall, measured.confusion.sum(axis=1), strict=True
    ):
        said = "no pictures" if np.isnan(found) else f"{100 * found:.1f} %"
        axes.text(0, position - 0.31, said, fontsize=9.5, fontweight="bold", color=TEXT_HEX, va="center")
        if pictures:
            axes.text(
                1, position - 0.31, f"of {pictures}", fontsize=8, color=QUIET_HEX, ha="right", va="center"
            )
    axes.set_xlim(0, 1)
    axes.set_ylim(len(EXPRESSIONS) - 0.5, -0.5)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_title("recall", loc="left", fontsize=10, color=TEXT_HEX, pad=10)


def _head(figure: Figure, title: str, subtitle: str) -> None:
    """Add title and subtitle, at the same distances in inches on every figure."""
    width_in, height_in = figure.get_size_inches()
    left = 0.4 / width_in
    figure.text(left, 1 - 0.3 / height_in, title, fontsize=15, fontweight="bold", color=TEXT_HEX, va="top")
    figure.text(
        left, 1 - 0.68 / height_in, subtitle, fontsize=10, color=QUIET_HEX, va="top", parse_math=False
    )


def _plain(axes: Axes) -> None:
    """Remove the frame and the ticks that a curve does not need."""
    axes.spines[:].set_visible(False)
    axes.grid(axis="y", color=FAINT_HEX, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=9.5, labelcolor=QUIET_HEX)
