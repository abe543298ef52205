"""Face-seconds: the time that each person was seen, by label.

The end-of-run summary, the timeline, the report and `fer-batch` count with these, and episodes end at the
same gaps, so that all of them agree.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from fer_stream.expressions import LABELS
from fer_stream.types import Face
from fer_stream.words import counted, duration_text

LEAST_SHARE = 0.05  # of the time that a person was seen; smaller shares are not listed
LONGEST_GAP_S = 0.5  # a longer absence, from the end of a face's last frame, ends a stretch
MOMENT_S = 0.5  # a person who was seen for less is not listed if there are others
MOST_LABELS = 4  # number of labels that are listed for a person
MOST_PEOPLE = 256  # number of people who are counted separately
RETURN_S = 60.0  # a person who is away for longer may be forgotten
_KEPT_INTERVALS = 15
_ROUNDING_S = 3e-6  # so that the table's times, in whole microseconds, give the same gaps as the exact ones


def longest_gap_s(interval_s: float) -> float:
    """Return the longest absence that does not end a stretch, for frames that come at this interval."""
    longest_s = max(LONGEST_GAP_S, interval_s / 2)  # the intervals of a slow source vary
    return longest_s + _ROUNDING_S


class FrameClock:
    """Gives the seconds that each frame of a recording stands for.

    A frame stands for the time since the one before it. The first frame, and one after a pause that would end
    a stretch, stand for one interval.

    Args:
        interval_s: Expected seconds from frame to frame.

    Attributes:
        interval_s: Seconds from frame to frame at this point of the source: the median of the last intervals,
            because a hole in a recording says nothing about its frame rate.
    """

    def __init__(self, interval_s: float) -> None:
        self.interval_s = interval_s
        self._intervals_s: deque[float] = deque([interval_s], maxlen=_KEPT_INTERVALS)
        self._last_s: float | None = None

    def step_s(self, time_s: float) -> float:
        """Return the seconds that the next frame stands for.

        Args:
            time_s: Time of the frame. Frames must come in order.
        """
        last_s, self._last_s = self._last_s, time_s
        if last_s is None:
            return self.interval_s
        step_s = max(time_s - last_s, 0.0)
        if step_s > 0:
            self._intervals_s.append(step_s)
            self.interval_s = statistics.median_low(self._intervals_s)
        is_pause = step_s > self.interval_s + longest_gap_s(self.interval_s)
        return self.interval_s if is_pause else step_s


@dataclass
class PersonTime:
    """The time that one person was seen.

    Attributes:
        id: The face's id.
        label_s: Seconds with each label, an expression or "unsure".
        last_s: When the person was last seen.
    """

    id: int
    label_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(LABELS, 0.0))
    last_s: float = -math.inf

    def add(self, label: str, step_s: float, time_s: float) -> None:
        """Count one frame."""
        self.label_s[label] += step_s
        self.last_s = time_s

    @property
    def seen_s(self) -> float:
        """Seconds that the person was seen."""
        return sum(self.label_s.values())

    def shares(self) -> dict[str, float]:
        """Return the share of each label in the time that the person was seen, 0 to 1."""
        return shares_of(self.label_s)

    def main_label(self) -> str:
        """Return the expression with the largest share; "unsure" only if there was no other label."""
        *expressions, unsure = LABELS
        best = max(expressions, key=self.label_s.__getitem__)
        return best if self.label_s[best] > 0 else unsure


class PeopleTime:
    """Counts the time of everyone who is seen.

    Args:
        bounded: Whether to drop people when there are too many.

    Attributes:
        by_id: The people by id. When there are too many, those seen most briefly and not lately are dropped.
        dropped: How many were dropped.
        dropped_longest_s: The longest time that one of those was seen.
    """

    def __init__(self, *, bounded: bool = True) -> None:
        self._bounded = bounded
        self.by_id: dict[int, PersonTime] = {}
        self.dropped = 0
        self.dropped_longest_s = 0.0

    def add(self, faces: Iterable[Face], step_s: float, time_s: float) -> None:
        """Count one frame."""
        for face in faces:
            if face.id not in self.by_id:
                self.by_id[face.id] = PersonTime(face.id)
            self.by_id[face.id].add(face.label, step_s, time_s)
        if self._bounded and len(self.by_id) > MOST_PEOPLE:
            by_length = sorted(self.by_id.values(), key=lambda person: -person.seen_s)
            for person in by_length[MOST_PEOPLE // 2 :]:
                if person.last_s < time_s - RETURN_S or len(self.by_id) > 2 * MOST_PEOPLE:
                    del self.by_id[person.id]
                    self.dropped += 1
                    self.dropped_longest_s = max(self.dropped_longest_s, person.seen_s)


def shares_of(label_s: dict[str, float]) -> dict[str, float]:
    """Return each label's share of the whole time, 0 to 1; 0 for all if there is no time."""
    total_s = sum(label_s.values())
    return {label: value / total_s if total_s > 0 else 0.0 for label, value in label_s.items()}


def main_shares(shares: dict[str, float]) -> dict[str, float]:
    """Return the labels that are listed for a person, with their shares, largest first."""
    ranked = sorted(shares.items(), key=lambda item: -item[1])
    main = [(label, share) for label, share in ranked if share >= LEAST_SHARE][:MOST_LABELS]
    return dict(main or ranked[:1])


def more_people_text(count: int, longest_s: float) -> str:
    """Return a line about the people who are not listed; empty if everyone is.

    Args:
        count: How many there are.
        longest_s: The longest time that one of them was seen.
    """
    if count == 0:
        return ""
    if longest_s < MOMENT_S:
        return f"+{counted(count, 'person')} seen for under {MOMENT_S} s"
    return f"+{counted(count, 'person')} seen for {duration_text(longest_s)} or less"
