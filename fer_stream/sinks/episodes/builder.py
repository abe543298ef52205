"""Build episodes: join the readings of each face into stretches of one expression."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fer_stream.face_time import FrameClock, longest_gap_s

if TYPE_CHECKING:
    from fer_stream.types import AnalyzedFrame

SHORTEST_S = 0.3  # a shorter stretch joins its longer neighbour
_SAME_S = 1e-6  # the resolution of the table's times


@dataclass(frozen=True)
class Episode:
    """A stretch of one expression on one face.

    Attributes:
        face_id: The face.
        start_s: Time in the source at which it starts.
        end_s: Time in the source at which it ends; the face's next episode may start here.
        expression: The expression, or `unsure`.
        confidence_mean: Mean of the table's `confidence` over the frames with this label.
        confidence_max: Its maximum.
    """

    face_id: int
    start_s: float
    end_s: float
    expression: str
    confidence_mean: float
    confidence_max: float

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.end_s - self.start_s


@dataclass
class _Stretch:
    """Consecutive readings of one face that count as one expression."""

    label: str
    start_s: float
    end_s: float
    frames: int
    confidence_sum: float
    confidence_max: float

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s

    def absorb(self, other: _Stretch) -> None:
        """Join an adjacent stretch to this one.

        The label stays. Frames with another label do not count in the confidence.
        """
        self.start_s, self.end_s = min(self.start_s, other.start_s), max(self.end_s, other.end_s)
        if other.label != self.label:
            return
        self.frames += other.frames
        self.confidence_sum += other.confidence_sum
        self.confidence_max = max(self.confidence_max, other.confidence_max)


@dataclass
class _Track:
    """One face: its finished episodes, and the stretches since it last came back."""

    done: list[Episode] = field(default_factory=list)
    stretches: list[_Stretch] = field(default_factory=list)


class EpisodeBuilder:
    """Builds episodes from analyzed frames, in order.

    A reading lasts until the face's next one. The face's last reading, and its last one before a gap, lasts
    as long as a frame does at that point of the source.

    Args:
        frame_interval_s: Expected seconds from frame to frame, used until frames show the real interval.
    """

    def __init__(self, frame_interval_s: float) -> None:
        self._tracks: dict[int, _Track] = {}
        self._clock = FrameClock(frame_interval_s)
        self._now_s = 0.0

    def add(self, analyzed: AnalyzedFrame) -> None:
        """Add one frame."""
        # A live source's clock may be set back.
        time_s = self._now_s = max(analyzed.frame.time_s, self._now_s)
        self._clock.step_s(time_s)
        interval_s = self._clock.interval_s
        for face in analyzed.faces:
            track = self._tracks.setdefault(face.id, _Track())
            label, confidence = face.label, face.confidence
            if track.stretches and time_s - track.stretches[-1].end_s > longest_gap_s(interval_s):
                self._finish(face.id, track)
            end_s = time_s + interval_s
            if track.stretches:
                track.stretches[-1].end_s = time_s
            new = _Stretch(label, time_s, end_s, 1, confidence, confidence)
            if track.stretches and track.stretches[-1].label == label:
                track.stretches[-1].absorb(new)
            else:
                track.stretches.append(new)

    def episodes(self) -> list[Episode]:
        """Return the episodes of the frames so far, by face and then by time."""
        return [
            episode
            for face_id, track in sorted(self._tracks.items())
            for episode in (*track.done, *_episodes(face_id, track.stretches))
        ]

    def _finish(self, face_id: int, track: _Track) -> None:
        track.done += _episodes(face_id, track.stretches)
        track.stretches = []


def _episodes(face_id: int, stretches: list[_Stretch]) -> Iterator[Episode]:
    for stretch in without_short(stretches):
        yield Episode(
            face_id,
            stretch.start_s,
            stretch.end_s,
            stretch.label,
            stretch.confidence_sum / stretch.frames,
            stretch.confidence_max,
        )


def without_short(stretches: list[_Stretch]) -> list[_Stretch]:
    """Join every stretch under `SHORTEST_S` with its longer neighbour, the shortest stretch first.

    Args:
        stretches: Adjacent stretches of one face, in order. They are not changed.

    Returns:
        The joined stretches. A single one stays, however short.
    """
    kept: list[_Stretch | None] = [_Stretch(**vars(stretch)) for stretch in stretches]
    before = list(range(-1, len(kept) - 1))
    after = list(range(1, len(kept) + 1))

    def join(into: int, removed: int) -> None:
        target, source = kept[into], kept[removed]
        assert target is not None and source is not None
        target.absorb(source)
        kept[removed] = None
        left, right = before[removed], after[removed]
        if left >= 0:
            after[left] = right
        if right < len(kept):
            before[right] = left

    queue = [(stretch.duration_s, index) for index, stretch in enumerate(stretches)]
    heapq.heapify(queue)
    while queue:
        duration_s, index = heapq.heappop(queue)
        stretch = kept[index]
        if stretch is None or stretch.duration_s != duration_s:
            continue  # it was joined meanwhile; a stretch that grew was queued again
        if duration_s >= SHORTEST_S - _SAME_S:
            break
        neighbours = [
            (other.duration_s, -at, at)
            for at in (before[index], after[index])
            if 0 <= at < len(kept) and (other := kept[at]) is not None
        ]
        if not neighbours:
            break
        into = max(neighbours)[2]  # the earlier one of two that are equally long
        join(into, index)
        for beside in (before[into], after[into]):  # neighbours that now touch may have the same label
            grown, other = kept[into], kept[beside] if 0 <= beside < len(kept) else None
            if grown is not None and other is not None and other.label == grown.label:
                join(into, beside)
        grown = kept[into]
        assert grown is not None
        heapq.heappush(queue, (grown.duration_s, into))
    return [stretch for stretch in kept if stretch is not None]
