"""One face's probabilities over time, in bins, so that memory stays bounded however long the video is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fer_stream.expressions import EXPRESSIONS, LABELS
from fer_stream.types import Face

FIRST_BINS = 64
# Columns of a curve's sums: the probabilities, the number of frames, and the number of frames by label.
_FRAMES = len(EXPRESSIONS)
_FIRST_LABEL = _FRAMES + 1


@dataclass(frozen=True)
class Binning:
    """Division of a timeline into bins.

    Attributes:
        first_s: Time of the first frame.
        span_s: Time from there to the end of the last frame.
        frame_s: Average time from frame to frame.
        bin_s: Width of a bin.
    """

    first_s: float
    span_s: float
    frame_s: float
    bin_s: float


@dataclass(frozen=True)
class Stretch:
    """A stretch of time in which a face was seen without a break.

    Attributes:
        edges_s: Edges of its bins, (N + 1,).
        probabilities: Mean probabilities in each bin, (N, 7).
        labels: Index into `LABELS` of the most frequent label of each bin, (N,).
    """

    edges_s: np.ndarray
    probabilities: np.ndarray
    labels: np.ndarray


class Curve:
    """Sums of one face's probabilities and labels, for each bin in which it was seen."""

    def __init__(self) -> None:
        self._count = 0
        self._bins = np.zeros(FIRST_BINS, np.int64)
        self._sums = np.zeros((FIRST_BINS, _FIRST_LABEL + len(LABELS)), np.float32)

    @property
    def bin_count(self) -> int:
        """Number of bins with data."""
        return self._count

    @property
    def kept_bytes(self) -> int:
        """Memory of the curve in bytes."""
        return self._bins.nbytes + self._sums.nbytes

    def add(self, bin_index: int, face: Face) -> None:
        """Add one frame of the face. Bins must come in order."""
        if self._count == 0 or self._bins[self._count - 1] != bin_index:
            if self._count == len(self._bins):
                self._bins = np.concatenate([self._bins, np.zeros_like(self._bins)])
                self._sums = np.concatenate([self._sums, np.zeros_like(self._sums)])
            self._bins[self._count] = bin_index
            self._count += 1
        row = self._sums[self._count - 1]
        row[:_FRAMES] += face.probabilities
        row[_FRAMES] += 1
        row[_FIRST_LABEL + LABELS.index(face.label)] += 1

    def halve(self) -> None:
        """Merge neighbouring bins in pairs."""
        self._bins, self._sums = _merged(self._bins[: self._count] // 2, self._sums[: self._count])
        self._count = len(self._bins)
        # Leave room for one more bin: `add` doubles a full array, and doubling an empty one adds nothing.
        self._bins = np.append(self._bins, 0)
        self._sums = np.append(self._sums, np.zeros_like(self._sums[:1]), axis=0)

    def means(self, merge: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the curve in wider bins.

        Args:
            merge: Number of bins that become one.

        Returns:
            The bins, int (N,); their mean probabilities, (N, 7); the most frequent label, int (N,).
        """
        bins, sums = _merged(self._bins[: self._count] // merge, self._sums[: self._count])
        probabilities = sums[:, :_FRAMES] / sums[:, _FRAMES : _FRAMES + 1]
        return bins, probabilities, sums[:, _FIRST_LABEL:].argmax(axis=1)

    def stretches(self, binning: Binning, points: int, away_s: float) -> Iterator[Stretch]:
        """Yield the stretches in which the face was seen.

        Args:
            binning: The timeline's division into bins.
            points: Approximate maximum number of bins for the whole time.
            away_s: A shorter gap does not end a stretch.
        """
        merge = max(1, math.ceil(binning.span_s / points / binning.bin_s))
        bins, probabilities, labels = self.means(merge)
        width_s = merge * binning.bin_s
        starts_s = binning.first_s + bins * width_s
        away_s = max(away_s, 3 * binning.frame_s, 1.5 * width_s)
        firsts = np.flatnonzero(np.diff(starts_s, prepend=-math.inf) > away_s)
        for first, end in zip(firsts, [*firsts[1:], len(bins)], strict=True):
            last_s = starts_s[end - 1] + max(width_s, binning.frame_s)
            end_s = binning.first_s + binning.span_s
            if last_s > end_s - min(width_s, binning.frame_s):  # a frame may lie anywhere in the last bin
                last_s = end_s
            yield Stretch(np.append(starts_s[first:end], last_s), probabilities[first:end], labels[first:end])


def _merged(bins: np.ndarray, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum neighbouring rows of the same bin."""
    starts = np.flatnonzero(np.diff(bins, prepend=-1))
    return bins[starts], np.add.reduceat(sums, starts, axis=0)
