"""A picture with its faces marked, beside a bar chart of every face's probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from fer_stream.expressions import EXPRESSIONS, color_hex, needs_dark_text
from fer_stream.rendering.charts.face_pose import area_px
from fer_stream.rendering.plotting import QUIET_HEX, TEXT_HEX, check_chart_path, new_figure, save_figure
from fer_stream.types import Face
from fer_stream.words import counted, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CHARTED_FACES = 6


def face_chart(image_bgr: np.ndarray, face_or_faces: Face | Sequence[Face], path: Path) -> None:
    """Write a picture with its faces marked beside a bar chart of every face's probabilities.

    Args:
        image_bgr: The picture, uint8 (H, W, 3).
        face_or_faces: Its faces. The largest ones are charted. Without faces, the chart says so.
        path: The file, with one of `CHART_SUFFIXES`.

    Raises:
        UsageError: The extension is unknown.
        OutputError: The file can't be written.
    """
    path = Path(path)
    check_chart_path(path)
    faces = [face_or_faces] if isinstance(face_or_faces, Face) else list(face_or_faces)
    by_size = sorted(faces, key=lambda face: -area_px(face))
    charted = sorted(by_size[:MOST_CHARTED_FACES], key=lambda face: face.id)
    columns = 1 if len(charted) <= 3 else 2
    rows = max(math.ceil(len(charted) / columns), 1)

    height, width = image_bgr.shape[:2]
    chart_in, margin_in, gap_in = 3.4, 0.4, 1.15
    row_in = 4.6 if rows == 1 else 2.3 if rows == 2 else 2.0
    picture_in = min(max(rows * row_in * width / height, 3.0), 8.0)
    height_in = max(rows * row_in, min(picture_in * height / width, 8.0)) + 2 * margin_in
    width_in = 2 * margin_in + picture_in + columns * (gap_in + chart_in) + 0.3
    figure = new_figure(width_in, height_in)

    def place(left: float, top: float, wide: float, high: float) -> Axes:
        """Return axes, placed in inches from the top left corner."""
        return figure.add_axes(
            (left / width_in, 1 - (top + high) / height_in, wide / width_in, high / height_in)
        )

    picture = place(margin_in, margin_in, picture_in, height_in - 2 * margin_in)
    _draw_picture(picture, image_bgr, charted, faces)
    if not charted:
        axes = place(margin_in + picture_in, margin_in, gap_in + chart_in, height_in - 2 * margin_in)
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no face found", ha="center", va="center", fontsize=15, color=QUIET_HEX)
    cell_in = (height_in - 2 * margin_in) / rows
    for index, face in enumerate(charted):
        row, column = divmod(index, columns)
        left = margin_in + picture_in + column * (gap_in + chart_in) + gap_in
        axes = place(left, margin_in + row * cell_in + 0.32, chart_in - 0.3, cell_in - 0.5)
        _draw_bars(axes, face, numbered=len(faces) > 1)
    if len(faces) > len(charted):
        more = counted(len(faces) - len(charted), "smaller face")
        figure.text(
            1 - margin_in / width_in,
            0.16 / height_in,
            f"+{more} not charted",
            ha="right",
            va="bottom",
            fontsize=9,
            color=QUIET_HEX,
        )
    save_figure(figure, path)


def _draw_picture(axes: Axes, image_bgr: np.ndarray, charted: Sequence[Face], faces: Sequence[Face]) -> None:
    from matplotlib.patches import Rectangle

    height, width = image_bgr.shape[:2]
    shrink = min(1.0, 1600 / max(width, height))  # no file needs a photo's full size
    size_wh = max(1, round(width * shrink)), max(1, round(height * shrink))
    shown_bgr = cv2.resize(image_bgr, size_wh, interpolation=cv2.INTER_AREA)
    axes.imshow(shown_bgr[:, :, ::-1], extent=(0, width, height, 0), interpolation="antialiased")
    axes.set_axis_off()
    ids = {face.id for face in charted}
    for face in faces:
        left, top, right, bottom = face.box_xyxy.tolist()
        is_charted = face.id in ids
        color = color_hex(face.label) if is_charted else "#ffffff"
        for line, edge in ((3.4, "#00000090"), (1.8, color)):
            axes.add_patch(
                Rectangle(
                    (left, top),
                    right - left,
                    bottom - top,
                    fill=False,
                    linewidth=line,
                    edgecolor=edge,
                    joinstyle="round",
                )
            )
        if len(faces) > 1 and is_charted:
            # Put the id above the box, so that it does not cover a small face. At the top of the picture it
            # goes inside.
            is_above = top > 0.06 * height
            axes.annotate(
                str(face.id),
                (left, top),
                xytext=(2, 4 if is_above else -4),
                textcoords="offset points",
                ha="left",
                va="bottom" if is_above else "top",
                fontsize=9,
                fontweight="bold",
                color=TEXT_HEX if needs_dark_text(face.label) else "#ffffff",
                bbox={"boxstyle": "round,pad=0.2", "facecolor": color, "edgecolor": "none"},
            )
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)


def _draw_bars(axes: Axes, face: Face, *, numbered: bool) -> None:
    positions = np.arange(len(EXPRESSIONS))
    top_index = -1 if face.unsure else int(face.probabilities.argmax())
    axes.barh(positions, 1.0, height=0.62, color="#f1f2f4")
    axes.barh(positions, face.probabilities, height=0.62, color=[color_hex(name) for name in EXPRESSIONS])
    axes.set_yticks(positions, EXPRESSIONS)
    for index, label in enumerate(axes.get_yticklabels()):
        label.set_fontweight("bold" if index == top_index else "normal")
        label.set_color(TEXT_HEX)
    for index, probability in enumerate(face.probabilities.tolist()):
        axes.text(
            1.17,
            index,
            f"{percent(probability, unsure=face.unsure)} %",
            ha="right",
            va="center_baseline",
            fontsize=9.5,
            fontweight="bold" if index == top_index else "normal",
            color=TEXT_HEX if index == top_index else QUIET_HEX,
        )
    axes.set_xlim(0, 1)
    axes.set_ylim(len(EXPRESSIONS) - 0.5, -0.5)
    axes.set_xticks([])
    axes.tick_params(length=0, labelsize=9.5, pad=6)
    axes.spines[:].set_visible(False)
    title = face.label if face.unsure else f"{face.expression} {percent(face.confidence)} %"
    axes.set_title(
        f"{face.id}   {title}" if numbered else title,
        loc="left",
        fontsize=13,
        fontweight="normal" if face.unsure else "bold",
        color=QUIET_HEX if face.unsure else TEXT_HEX,
        pad=7,
    )
