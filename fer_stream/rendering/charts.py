"""Charts: a picture beside its bar chart, and a video's timeline.

matplotlib loads with the first chart that is drawn, or before (`plotting.load_matplotlib`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from fer_stream.errors import UsageError
from fer_stream.expressions import EXPRESSIONS, color_hex
from fer_stream.rendering.plotting import FAINT_HEX, QUIET_HEX, TEXT_HEX, new_figure, save_figure
from fer_stream.types import AnalyzedFrame, Face
from fer_stream.words import counted, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CHART_SUFFIXES = (".png", ".jpg", ".jpeg", ".svg", ".pdf")

MOST_CHARTED_FACES = 6  # of a picture
MOST_ROWS = 12  # of a timeline
MOST_KEPT_FACES = 48  # with their curves, while a video runs
MOST_BINS = 4096
FIRST_BIN_S = 1 / 64  # shorter than any frame; doubles whenever a face fills its bins
MOMENT_S = 0.5
RETURN_S = 2.0  # whoever is away for longer is not expected back
THUMBNAIL_PX = 96
# Across a timeline. Fewer than dots: an hour has to show its course, not every frame's noise.
CURVE_POINTS = 240
BAND_POINTS = 120


def check_chart_path(path: Path) -> None:
    """Raises UsageError if a chart can't have this name."""
    if path.suffix.lower() not in CHART_SUFFIXES:
        raise UsageError(
            f"a chart is {', '.join(CHART_SUFFIXES)}, not {path.suffix or 'without a suffix'}: {path}"
        )


def face_chart(image_bgr: np.ndarray, face_or_faces: Face | Sequence[Face], path: Path) -> None:
    """Writes a picture with its faces marked beside a bar chart of every face's probabilities.

    Args:
        image_bgr: The picture, uint8 (H, W, 3).
        face_or_faces: Its faces; none is a chart too. The largest ones are charted.
        path: Where to, one of `CHART_SUFFIXES`.

    Raises:
        UsageError: The suffix is another one.
        OutputError: The file can't be written.
    """
    path = Path(path)
    check_chart_path(path)
    faces = [face_or_faces] if isinstance(face_or_faces, Face) else list(face_or_faces)
    by_size = sorted(faces, key=lambda face: -_area_px(face))
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
        """Axes by inches from the top left corner."""
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
        color = color_hex(face.expression) if face.id in ids else "#ffffff"
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
        if len(faces) > 1 and face.id in ids:
            # Above the box, so that it covers no small face; inside at the picture's top.
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
                color=TEXT_HEX,
                bbox={"boxstyle": "round,pad=0.2", "facecolor": color, "edgecolor": "none"},
            )
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)


def _draw_bars(axes: Axes, face: Face, *, numbered: bool) -> None:
    positions = np.arange(len(EXPRESSIONS))
    top_index = int(face.probabilities.argmax())
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
            f"{percent(probability)} %",
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
    title = f"{face.expression} {percent(face.confidence)} %"
    axes.set_title(
        f"{face.id}   {title}" if numbered else title,
        loc="left",
        fontsize=13,
        fontweight="bold",
        color=TEXT_HEX,
        pad=7,
    )


class _Record:
    """What a timeline keeps of one face: its curve in bins of time and its best picture."""

    def __init__(self, face_id: int) -> None:
        self.id = face_id
        self.frames = 0
        self.last_s = -math.inf
        self.top_frames = np.zeros(len(EXPRESSIONS), np.int64)
        self.thumbnail_rgb: np.ndarray | None = None
        self.thumbnail_quality = 0.0
        self._count = 0
        self._bins = np.zeros(64, np.int64)
        # Sums of the seven probabilities, then of frames, for each bin.
        self._sums = np.zeros((64, len(EXPRESSIONS) + 1), np.float64)

    @property
    def bin_count(self) -> int:
        return self._count

    def add(self, time_s: float, bin_index: int, face: Face) -> None:
        self.frames += 1
        self.last_s = time_s
        self.top_frames[int(face.probabilities.argmax())] += 1
        if self._count == 0 or self._bins[self._count - 1] != bin_index:
            if self._count == len(self._bins):
                self._bins = np.concatenate([self._bins, np.zeros_like(self._bins)])
                self._sums = np.concatenate([self._sums, np.zeros_like(self._sums)])
            self._bins[self._count] = bin_index
            self._count += 1
        self._sums[self._count - 1, :-1] += face.probabilities
        self._sums[self._count - 1, -1] += 1

    def halve(self) -> None:
        """Merges each two neighbouring bins."""
        self._bins, self._sums = _merged(self._bins[: self._count] // 2, self._sums[: self._count])
        self._count = len(self._bins)
        # Room for one more: an array of full length grows by doubling, and an empty one could not.
        self._bins = np.append(self._bins, 0)
        self._sums = np.append(self._sums, np.zeros_like(self._sums[:1]), axis=0)

    def curve(self, merge: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns int (N,) bins, each of `merge` kept ones, and their mean probabilities, (N, 7)."""
        bins, sums = _merged(self._bins[: self._count] // merge, self._sums[: self._count])
        return bins, sums[:, :-1] / sums[:, -1:]

    def look(self, analyzed: AnalyzedFrame, face: Face) -> None:
        """Keeps this picture of the face if it is clearly better than the last one kept."""
        quality = math.sqrt(_area_px(face)) * face.detection_score * _frontality(face)
        if self.thumbnail_rgb is not None and quality < 1.15 * self.thumbnail_quality:
            return
        left, top, right, bottom = face.box_xyxy.tolist()
        center_x, center_y = (left + right) / 2, (top + bottom) / 2
        half = 0.62 * max(right - left, bottom - top)
        width, height = analyzed.frame.size_wh
        half = min(half, width / 2, height / 2)
        # Slid into the frame rather than cut, so that it stays square.
        center_x = min(max(center_x, half), width - half)
        center_y = min(max(center_y, half), height - half)
        x0, y0 = max(int(center_x - half), 0), max(int(center_y - half), 0)
        size = max(int(2 * half), 1)
        crop = analyzed.frame.bgr[y0 : y0 + size, x0 : x0 + size, ::-1]
        side = min(size, THUMBNAIL_PX)
        self.thumbnail_rgb = cv2.resize(
            np.ascontiguousarray(crop), (side, side), interpolation=cv2.INTER_AREA
        )
        self.thumbnail_quality = quality


class Timeline:
    """Every face's seven probabilities over the time of a video, drawn when it has ended.

    Memory stays bounded however long the video and however large the crowd: curves are kept in bins
    of time that double when they fill, and of faces that are gone only the longest-seen are kept.

    Args:
        path: Where `save` writes to, one of `CHART_SUFFIXES`.
        source_name: What the title calls the video.

    Raises:
        UsageError: The suffix is another one.
    """

    def __init__(self, path: Path, *, source_name: str = "") -> None:
        self._path = Path(path)
        check_chart_path(self._path)
        # What no font draws and no SVG may hold: bytes that are no text, control characters.
        self._source_name = "".join(each if each.isprintable() else "\ufffd" for each in source_name)
        self._records: dict[int, _Record] = {}
        self._dropped = 0
        self._dropped_longest = 0
        self._bin_s = FIRST_BIN_S
        self._frames = 0
        self._first_s = 0.0
        self._last_s = 0.0

    def add(self, analyzed: AnalyzedFrame) -> None:
        """Takes in the next frame; frames come in order of time."""
        time_s = analyzed.frame.time_s
        if self._frames == 0:
            self._first_s = time_s
        self._last_s = max(time_s, self._first_s)
        self._frames += 1
        bin_index = int((self._last_s - self._first_s) / self._bin_s)
        for face in analyzed.faces:
            if face.id not in self._records:
                self._records[face.id] = _Record(face.id)
            record = self._records[face.id]
            record.add(time_s, bin_index, face)
            record.look(analyzed, face)
        if any(record.bin_count > MOST_BINS for record in self._records.values()):
            self._bin_s *= 2
            for record in self._records.values():
                record.halve()
        if len(self._records) > MOST_KEPT_FACES:
            self._drop_briefest(time_s)

    def save(self) -> None:
        """Draws the timeline and writes it.

        Raises:
            OutputError: The file can't be written.
        """
        frame_s = (self._last_s - self._first_s) / max(self._frames - 1, 1)
        records = sorted(self._records.values(), key=lambda record: (-record.frames, record.id))
        lasting = [record for record in records if record.frames * frame_s >= MOMENT_S] or records
        rows = sorted(lasting[:MOST_ROWS], key=lambda record: record.id)
        left_out = records[len(rows) :]
        longest_left_s = frame_s * max([self._dropped_longest, *(record.frames for record in left_out)])
        save_figure(
            _timeline_figure(
                rows,
                title=self._source_name or "Expressions over time",
                face_count=len(records) + self._dropped,
                more=_more_text(len(left_out) + self._dropped, longest_left_s),
                first_s=self._first_s,
                span_s=self._last_s - self._first_s + frame_s,
                frame_s=frame_s,
                bin_s=self._bin_s,
            ),
            self._path,
        )

    def _drop_briefest(self, time_s: float) -> None:
        """Keeps the curves of half as many faces: the longest-seen, and whoever may still be there."""
        by_length = sorted(self._records.values(), key=lambda record: -record.frames)
        for record in by_length[MOST_KEPT_FACES // 2 :]:
            if record.last_s < time_s - RETURN_S:
                del self._records[record.id]
                self._dropped += 1
                self._dropped_longest = max(self._dropped_longest, record.frames)


def _timeline_figure(
    rows: Sequence[_Record],
    *,
    title: str,
    face_count: int,
    more: str,
    first_s: float,
    span_s: float,
    frame_s: float,
    bin_s: float,
) -> Figure:
    count = max(len(rows), 1)
    row_in = 1.9 if count <= 2 else 1.25 if count <= 5 else 0.95
    head_in, foot_in, width_in = 1.05, 0.75 if more else 0.45, 12.0
    figure_in = head_in + foot_in + count * row_in
    figure = new_figure(width_in, figure_in)
    from matplotlib.patches import Patch
    from matplotlib.ticker import FixedLocator, FuncFormatter

    left_in, right_in = 2.35, 0.4

    def y_of(inches_from_top: float) -> float:
        return 1 - inches_from_top / figure_in

    figure.text(
        0.3 / width_in,
        y_of(0.28),
        title if len(title) <= 80 else f"{title[:79]}…",
        fontsize=15,
        fontweight="bold",
        color=TEXT_HEX,
        va="top",
        parse_math=False,
    )
    subtitle = [counted(face_count, "face") if face_count else "no face found"]
    subtitle.append(_clock(span_s, exact=span_s < 10))
    if rows:
        subtitle.append("area: probability, strip: the most probable")
    figure.text(
        0.3 / width_in,
        y_of(0.66),
        "  ·  ".join(subtitle),
        fontsize=10,
        color=QUIET_HEX,
        va="top",
    )
    figure.legend(
        handles=[Patch(facecolor=color_hex(name), label=name) for name in EXPRESSIONS],
        loc="upper right",
        bbox_to_anchor=(1 - right_in / width_in, y_of(0.58)),
        bbox_transform=figure.transFigure,
        ncols=len(EXPRESSIONS),
        frameon=False,
        fontsize=10,
        labelcolor=TEXT_HEX,
        handlelength=0.9,
        handleheight=0.9,
        handletextpad=0.5,
        columnspacing=1.5,
        borderpad=0,
        borderaxespad=0,
    )
    ticks = _tick_times(first_s, span_s)
    exact_ticks = any(tick % 1 for tick in ticks)
    for row in range(count):
        top_in = head_in + row * row_in
        plot_in = row_in - 0.22
        axes = figure.add_axes(
            (
                left_in / width_in,
                y_of(top_in + plot_in),
                1 - (left_in + right_in) / width_in,
                plot_in / figure_in,
            )
        )
        axes.set_xlim(first_s, first_s + max(span_s, 1e-3))
        axes.set_ylim(-0.17, 1)
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _clock(value, exact=exact_ticks)))
        is_last = row == count - 1
        axes.tick_params(axis="x", length=0, pad=7, labelsize=9.5, labelcolor=QUIET_HEX, labelbottom=is_last)
        axes.axhspan(0, 1, color="#f6f7f8", zorder=0, linewidth=0)
        for tick in ticks:
            axes.axvline(tick, color=FAINT_HEX, linewidth=0.8, zorder=0.5)
        if not rows:
            axes.text(0.5, 0.5, "no face found", transform=axes.transAxes, ha="center", va="center",
                      fontsize=13, color=QUIET_HEX)  # fmt: skip
            continue
        record = rows[row]
        _draw_curve(axes, record, first_s=first_s, span_s=span_s, frame_s=frame_s, bin_s=bin_s)
        side_in = min(plot_in, 1.0)
        if record.thumbnail_rgb is not None:
            picture = figure.add_axes(
                (0.3 / width_in, y_of(top_in + side_in), side_in / width_in, side_in / figure_in)
            )
            picture.imshow(record.thumbnail_rgb, interpolation="bilinear")
            picture.set_axis_off()
        top = int(record.top_frames.argmax())
        share = record.top_frames[top] / record.frames
        text_x = (0.3 + side_in + 0.14) / width_in
        figure.text(text_x, y_of(top_in + 0.02), f"face {record.id}", fontsize=10.5, fontweight="bold",
                    color=TEXT_HEX, va="top")  # fmt: skip
        seen_s = record.frames * frame_s
        lines = f"{_seen(seen_s)}\n{EXPRESSIONS[top]} {100 * share:.0f} %"
        figure.text(
            text_x, y_of(top_in + 0.24), lines, fontsize=8.5, color=QUIET_HEX, va="top", linespacing=1.35
        )
    if more:
        figure.text(0.3 / width_in, 0.24 / figure_in, more, fontsize=9.5, color=QUIET_HEX, va="bottom")
    return figure


def _draw_curve(
    axes: Axes, record: _Record, *, first_s: float, span_s: float, frame_s: float, bin_s: float
) -> None:
    """Stacked areas over a strip of the most probable expression; a gap wherever the face was away."""
    blank = np.full((1, len(EXPRESSIONS)), np.nan)
    pieces_s, pieces = [], []
    for edges_s, means in _stretches(record, CURVE_POINTS, first_s, span_s, frame_s, bin_s):
        middles_s = (edges_s[1:] + edges_s[:-1]) / 2
        # From the first bin's beginning to the last one's end; then nothing, which breaks the area.
        pieces_s += [edges_s[:1], middles_s, edges_s[-1:], edges_s[-1:]]
        pieces += [means[:1], means, means[-1:], blank]
    times_s = np.concatenate(pieces_s)
    tops = np.cumsum(np.concatenate(pieces), axis=1)
    bottoms = np.concatenate([np.zeros_like(tops[:, :1]), tops[:, :-1]], axis=1)

    strip: list[list[tuple[float, float]]] = [[] for _ in EXPRESSIONS]
    for edges_s, means in _stretches(record, BAND_POINTS, first_s, span_s, frame_s, bin_s):
        most = means.argmax(axis=1)
        turns = np.flatnonzero(np.diff(most, prepend=-1))
        for turn, next_turn in zip(turns, [*turns[1:], len(most)], strict=True):
            strip[int(most[turn])].append((edges_s[turn], edges_s[next_turn] - edges_s[turn]))

    for index, name in enumerate(EXPRESSIONS):
        color = color_hex(name)
        where = np.isfinite(tops[:, index])
        axes.fill_between(
            times_s, bottoms[:, index], tops[:, index], where=where, color=color, linewidth=0.2, zorder=2
        )
        if strip[index]:
            axes.broken_barh(strip[index], (-0.17, 0.12), color=color, linewidth=0.2, zorder=2)


def _stretches(
    record: _Record, points: int, first_s: float, span_s: float, frame_s: float, bin_s: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields each stretch that a face was there for: its bins' edges, (N + 1,), and means, (N, 7)."""
    merge = max(1, math.ceil(span_s / points / bin_s))
    bins, means = record.curve(merge)
    width_s = merge * bin_s
    starts_s = first_s + bins * width_s
    away_s = max(MOMENT_S, 3 * frame_s, 1.5 * width_s)
    firsts = np.flatnonzero(np.diff(starts_s, prepend=-math.inf) > away_s)
    for first, end in zip(firsts, [*firsts[1:], len(bins)], strict=True):
        last_edge_s = starts_s[end - 1] + max(width_s, frame_s)
        yield np.append(starts_s[first:end], last_edge_s), means[first:end]


def _merged(bins: np.ndarray, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums neighbouring rows of equal bin."""
    starts = np.flatnonzero(np.diff(bins, prepend=-1))
    return bins[starts], np.add.reduceat(sums, starts, axis=0)


def _tick_times(first_s: float, span_s: float) -> list[float]:
    """At most nine round times in the span."""
    steps_s = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
    step_s: float = next((step for step in steps_s if span_s / step <= 9), 86400)
    first = math.ceil(first_s / step_s - 1e-6)
    last = math.floor((first_s + span_s) / step_s + 1e-6)
    return [round(step_s * number, 3) for number in range(first, last + 1)]


def _clock(time_s: float, *, exact: bool = False) -> str:
    """A time as m:ss or h:mm:ss, with tenths where they count."""
    tenths = round(10 * time_s) if exact else 10 * round(time_s)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{tenths // 10:02d}" + (f".{tenths % 10}" if exact else "")
    return f"{hours}:{minutes:02d}:{seconds}" if hours else f"{minutes}:{seconds}"


def _seen(seen_s: float) -> str:
    return f"{seen_s:.1f} s" if seen_s < 60 else _clock(seen_s)


def _more_text(count: int, longest_s: float) -> str:
    if count == 0:
        return ""
    if longest_s < MOMENT_S:
        return f"+{counted(count, 'face')} seen for under {MOMENT_S} s"
    return f"+{counted(count, 'face')} seen for {_seen(longest_s)} or less"


def _area_px(face: Face) -> float:
    left, top, right, bottom = face.box_xyxy.tolist()
    return max(right - left, 0.0) * max(bottom - top, 0.0)


def _frontality(face: Face) -> float:
    """1 with the nose midway between the eyes, less the further the head is turned."""
    left_eye, right_eye, nose = face.landmarks_xy[:3]
    apart_px = float(np.linalg.norm(right_eye - left_eye))
    if apart_px < 1:
        return 0.3
    aside = abs(float(np.dot(nose - (left_eye + right_eye) / 2, right_eye - left_eye))) / apart_px**2
    return max(0.3, 1 - aside)
