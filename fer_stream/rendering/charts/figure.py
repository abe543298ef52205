"""Draw the figure of a timeline: a row for each face, with its picture and its curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_stream.expressions import EXPRESSIONS, LABELS, UNSURE, color_hex
from fer_stream.face_time import MOMENT_S, PersonTime, main_shares
from fer_stream.rendering.charts.curve import Binning, Curve, Stretch
from fer_stream.rendering.charts.portrait import Portraits
from fer_stream.rendering.plotting import DOTS_PER_INCH, QUIET_HEX, TEXT_HEX, new_figure
from fer_stream.words import clock_text, counted, duration_text, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Points across a timeline. There are fewer than pixels, because the curve of an hour should show trends, not
# the noise of each frame.
CURVE_POINTS = 240

WIDTH_IN, MARGIN_IN, LEFT_IN, RIGHT_IN = 12.0, 0.3, 3.2, 0.4
STRIP = -0.17, 0.12  # bottom and height, in units of the probability axis
PEAK_Y = 1.07
LINE_IN = 22 / DOTS_PER_INCH  # whole pixels, so that lines of text stay evenly spaced
NOT_SEEN_HEX, GRID_HEX = "#e8eaed", "#cfd2d7"


@dataclass(frozen=True)
class Row:
    """One face of a timeline.

    Attributes:
        time: Time that it was seen, by label.
        curve: Its probabilities.
        portraits: Its pictures.
    """

    time: PersonTime
    curve: Curve
    portraits: Portraits


def timeline_figure(
    rows: Sequence[Row], binning: Binning, *, title: str, face_count: int, more: str
) -> Figure:
    """Draw a timeline.

    Args:
        rows: The faces to show.
        binning: The timeline's division into bins.
        title: Title above it.
        face_count: Number of faces, including those without a row.
        more: A line about the faces without a row; empty if every face has one.
    """
    count = max(len(rows), 1)
    row_in = 1.9 if count <= 2 else 1.25 if count <= 5 else 1.1
    head_in, foot_in = 1.45, 0.75 if more else 0.45
    figure_in = head_in + foot_in + count * row_in
    figure = new_figure(WIDTH_IN, figure_in)
    _draw_head(figure, figure_in, binning, title=title, face_count=face_count, has_rows=bool(rows))
    ticks = tick_times(binning.first_s, binning.span_s)
    for number in range(count):
        top_in, plot_in = head_in + number * row_in, row_in - 0.3
        axes = figure.add_axes(
            (
                LEFT_IN / WIDTH_IN,
                1 - (top_in + plot_in) / figure_in,
                1 - (LEFT_IN + RIGHT_IN) / WIDTH_IN,
                plot_in / figure_in,
            )
        )
        _draw_axes(
            axes, binning, ticks, is_first=number == 0, is_last=number == count - 1, has_curve=bool(rows)
        )
        if rows:
            stretches = list(rows[number].curve.stretches(binning, CURVE_POINTS, away_s=MOMENT_S))
            _draw_curve(axes, stretches)
            peak = _draw_peak(axes, rows[number], stretches)
            _draw_person(figure, rows[number], peak, top_in, min(plot_in, 1.0), figure_in)
        else:
            axes.text(0.5, 0.5, "no face found", transform=axes.transAxes, ha="center", va="center",
                      fontsize=13, color=QUIET_HEX)  # fmt: skip
    if more:
        figure.text(MARGIN_IN / WIDTH_IN, 0.24 / figure_in, more, fontsize=9.5, color=QUIET_HEX, va="bottom")
    return figure


def _draw_head(
    figure: Figure, figure_in: float, binning: Binning, *, title: str, face_count: int, has_rows: bool
) -> None:
    """Draw the title, a line that explains the rows, and the legend."""
    from matplotlib.patches import Patch

    figure.text(
        MARGIN_IN / WIDTH_IN,
        1 - 0.28 / figure_in,
        title if len(title) <= 80 else f"{title[:79]}…",
        fontsize=15,
        fontweight="bold",
        color=TEXT_HEX,
        va="top",
        parse_math=False,
    )
    subtitle = [
        counted(face_count, "person") if face_count else "no face found",
        duration_text(binning.span_s),
    ]
    if has_rows:
        subtitle += [
            "area: probability of each expression, hatched where unsure",
            "strip: the label",
            "▾ peak of the expression beside the picture",
        ]
    figure.text(MARGIN_IN / WIDTH_IN, 1 - 0.66 / figure_in, "  ·  ".join(subtitle), fontsize=10,
                color=QUIET_HEX, va="top")  # fmt: skip
    handles = [Patch(**_strip_style(label), label=label) for label in LABELS]
    handles.append(Patch(facecolor=NOT_SEEN_HEX, linewidth=0, label="not seen"))
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(LEFT_IN / WIDTH_IN, 1 - 0.98 / figure_in),
        bbox_transform=figure.transFigure,
        ncols=len(handles),
        frameon=False,
        fontsize=9.5,
        labelcolor=TEXT_HEX,
        handlelength=0.9,
        handleheight=0.9,
        handletextpad=0.5,
        columnspacing=1.5,
        borderpad=0,
        borderaxespad=0,
    )


def _draw_axes(
    axes: Axes, binning: Binning, ticks: Sequence[float], *, is_first: bool, is_last: bool, has_curve: bool
) -> None:
    """Draw the time axis and the axis of the probabilities."""
    from matplotlib.ticker import FixedLocator, FuncFormatter

    exact_ticks = any(round(tick, 1) % 1 for tick in ticks)
    axes.set_xlim(binning.first_s, binning.first_s + max(binning.span_s, 1e-3))
    axes.set_ylim(STRIP[0], 1)
    axes.spines[:].set_visible(False)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: clock_text(value, exact=exact_ticks)))
    axes.tick_params(axis="x", length=0, pad=7, labelsize=9.5, labelcolor=QUIET_HEX, labelbottom=is_last)
    for bottom, top in ((0, 1), (STRIP[0], STRIP[0] + STRIP[1])):
        axes.axhspan(bottom, top, color=NOT_SEEN_HEX, zorder=0, linewidth=0)
    for tick in ticks:
        axes.axvline(tick, color=GRID_HEX, linewidth=0.8, zorder=0.5)
    axes.set_yticks([0, 0.5, 1] if has_curve else [], ["0", "50", "100 %"] if has_curve else [])
    axes.tick_params(axis="y", length=2.5, width=0.8, color=QUIET_HEX, pad=3, labelsize=7.5,
                     labelcolor=QUIET_HEX)  # fmt: skip
    if has_curve and is_first:
        axes.annotate("probability", (0, 1), xytext=(-3, 9), xycoords="axes fraction",
                      textcoords="offset points", ha="right", fontsize=7.5, color=QUIET_HEX)  # fmt: skip


def _draw_curve(axes: Axes, stretches: Sequence[Stretch]) -> None:
    """Draw stacked areas of the probabilities over a strip of the labels, with gaps where the face was away.

    Area and strip use the same bins, so that they begin and end together.
    """
    times_s, tops = _area(stretches)
    bottoms = np.concatenate([np.zeros_like(tops[:, :1]), tops[:, :-1]], axis=1)
    strip = _strip(stretches)
    for index, label in enumerate(LABELS):
        if label != UNSURE:
            axes.fill_between(
                times_s, bottoms[:, index], tops[:, index], where=np.isfinite(tops[:, index]),
                color=color_hex(label), linewidth=0, zorder=2,
            )  # fmt: skip
        if strip[index]:
            axes.broken_barh(strip[index], STRIP, **_strip_style(label), zorder=2)
    unsure = strip[LABELS.index(UNSURE)]
    if unsure:  # the probabilities keep their colours, but none of them counts as an answer
        axes.broken_barh(
            unsure, (0, 1), facecolor="none", edgecolor="white", hatch="/////", linewidth=0, zorder=3
        )


def _area(stretches: Sequence[Stretch]) -> tuple[np.ndarray, np.ndarray]:
    """Return the times of the areas' points, (M,), and the tops of the stacked areas there, (M, 7)."""
    blank = np.full((1, len(EXPRESSIONS)), np.nan)
    pieces_s, pieces = [], []
    for stretch in stretches:
        edges_s, means = stretch.edges_s, stretch.probabilities
        # From the beginning of the first bin to the end of the last one, then NaN, which breaks the area.
        pieces_s += [edges_s[:1], (edges_s[1:] + edges_s[:-1]) / 2, edges_s[-1:], edges_s[-1:]]
        pieces += [means[:1], means, means[-1:], blank]
    return np.concatenate(pieces_s), np.cumsum(np.concatenate(pieces), axis=1)


def _strip(stretches: Sequence[Stretch]) -> list[list[tuple[float, float]]]:
    """Return the pieces of the strip for each of `LABELS`, as start and length in seconds."""
    strip: list[list[tuple[float, float]]] = [[] for _ in LABELS]
    for stretch in stretches:
        changes = np.flatnonzero(np.diff(stretch.labels, prepend=-1))
        for change, next_change in zip(changes, [*changes[1:], len(stretch.labels)], strict=True):
            begin_s, end_s = stretch.edges_s[change], stretch.edges_s[next_change]
            strip[int(stretch.labels[change])].append((begin_s, end_s - begin_s))
    return strip


def _draw_peak(axes: Axes, row: Row, stretches: Sequence[Stretch]) -> str:
    """Mark the highest point in the curve of the main expression, and return words about it.

    A point is the mean of a bin, so in a long recording a short peak may not be the highest point. Of points
    that are equally high, the one nearest to the picture is marked. A person who was always unsure
    has no peak; there are no words then.
    """
    label = row.time.main_label()
    if label == UNSURE:
        return ""
    times_s = np.concatenate([(each.edges_s[1:] + each.edges_s[:-1]) / 2 for each in stretches])
    heights = np.concatenate([each.probabilities[:, EXPRESSIONS.index(label)] for each in stretches])
    # An unsure moment is no peak, however high.
    has_label = np.concatenate([each.labels for each in stretches]) == LABELS.index(label)
    if has_label.any():
        heights[~has_label] = 0.0
    highest = np.flatnonzero(heights > heights.max() - 1e-6)
    picture_s = row.portraits.by_label[label].time_s
    at = highest[np.abs(times_s[highest] - picture_s).argmin()]
    axes.plot([times_s[at]], [PEAK_Y], marker="v", markersize=4.5, color=TEXT_HEX, clip_on=False, zorder=4,
              linestyle="none")  # fmt: skip
    widths_s = np.concatenate([np.diff(each.edges_s) for each in stretches])
    at_text = clock_text(float(times_s[at]), exact=bool(widths_s[at] < 1.0))
    return f"▾ {at_text}: probability of\n{label} {percent(float(heights[at]))} %"


def _draw_person(
    figure: Figure, row: Row, peak: str, top_in: float, side_in: float, figure_in: float
) -> None:
    """Draw the face's picture beside the time that it was seen, its main labels and the curve's peak."""
    label = row.time.main_label()
    portrait = row.portraits.by_label.get(label)
    shares = [f"{name} {percent(share)} %" for name, share in main_shares(row.time.shares()).items()]
    first, others = ", ".join(shares[:2]), ", ".join(shares[2:])  # two fit in a line
    lines = [
        f"seen for {duration_text(row.time.seen_s)}, of that time",
        *([f"{first},", others] if others else [first]),
        *peak.splitlines(),
    ]
    if portrait is not None:
        picture = figure.add_axes(
            (
                MARGIN_IN / WIDTH_IN,
                1 - (top_in + side_in) / figure_in,
                side_in / WIDTH_IN,
                side_in / figure_in,
            )
        )
        picture.imshow(portrait.rgb, interpolation="bilinear")
        picture.set_axis_off()
    text_x = (MARGIN_IN + side_in + 0.14) / WIDTH_IN
    figure.text(text_x, 1 - (top_in + 0.02) / figure_in, f"person {row.time.id}", fontsize=10.5,
                fontweight="bold", color=TEXT_HEX, va="top")  # fmt: skip
    # Each line is a text of its own: matplotlib spaces the lines of one text by their tallest letters.
    for number, line in enumerate(lines):
        figure.text(text_x, 1 - (top_in + 0.34 + number * LINE_IN) / figure_in, line, fontsize=8,
                    color=QUIET_HEX, va="baseline")  # fmt: skip


def _strip_style(label: str) -> dict[str, Any]:
    """Return how a label looks in the strip. "Unsure" is hatched, so that it is not taken for "neutral"."""
    if label == UNSURE:
        return {"facecolor": "white", "edgecolor": color_hex(UNSURE), "hatch": "/////", "linewidth": 0}
    return {"facecolor": color_hex(label), "linewidth": 0}


def tick_times(first_s: float, span_s: float) -> list[float]:
    """Return the beginning of the span and at most nine round times in it."""
    steps_s = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
    days = max(1, math.ceil(span_s / 9 / 86400))
    step_s: float = next((step for step in steps_s if span_s / step <= 9), 86400 * days)
    first = math.ceil(first_s / step_s - 1e-6)
    last = math.floor((first_s + span_s) / step_s + 1e-6)
    times_s = [round(step_s * number, 3) for number in range(first, last + 1)]
    # A label too close to that of the beginning would touch it.
    return [first_s, *(time_s for time_s in times_s if time_s - first_s > 0.45 * step_s)]
