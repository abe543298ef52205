"""Face-seconds: the time that each person was seen, by label.

The end-of-run summary, the timeline and `fer-batch` all count with these, so that they agree.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction

from fer_stream.expressions import LABELS
from fer_stream.types import Face
from fer_stream.words import counted, duration_text

LEAST_SHARE = 0.05  # of the time that a person was seen; smaller shares are not listed
LONGEST_STEP_S = 1.0  # a longer pause between frames counts as this, unless frames always come that slowly
MOMENT_S = 0.5  # a person who was seen for less is not listed if there are others
MOST_LABELS = 4  # number of labels that are listed for a person
MOST_PEOPLE = 256  # number of people who are counted separately
RETURN_S = 60.0  # a person who is away for longer may be forgotten


def average_interval_s(frame_rate: float | Fraction | None) -> float:
    """Return the average time from frame to frame, that of 30 frames a second if the rate is unknown."""
    return 1 / float(frame_rate or 30)


class FrameClock:
    """Gives the seconds that each frame of a recording stands for.

    A frame stands for the time since the one before it, the first for the average interval.

    Args:
        interval_s: Average time from frame to frame.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._longest_s = max(LONGEST_STEP_S, 2 * interval_s)
        self._last_s: float | None = None

    def step_s(self, time_s: float) -> float:
        """Return the seconds that the next frame stands for.

        Args:
            time_s: Time of the frame. Frames must come in order.
        """
        last_s = time_s - self._interval_s if self._last_s is None else self._last_s
        self._last_s = time_s
        return min(max(time_s - last_s, 0.0), self._longest_s)


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
