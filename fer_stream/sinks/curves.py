"""Keep each face's probabilities over time, in bounded memory, for the report and the live page."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fer_stream.expressions import EXPRESSIONS

if TYPE_CHECKING:
    from fer_stream.types import AnalyzedFrame

FIRST_STEP_S = 0.04
MOST_POINTS = 150_000  # in all curves together; a point takes 11 bytes, and a third more in base64
_LAST_STEP = 2**32 - 1  # the page holds the steps as uint32


class Curves:
    """The probabilities of every face over time, averaged over steps.

    When there are too many steps, or the time is too long for them, they double in length.

    Args:
        most_points: Maximum number of steps of all faces together.
        first_step_s: Length of a step at first, in seconds.

    Attributes:
        step_s: Length of a step now, in seconds.
    """

    def __init__(self, most_points: int = MOST_POINTS, first_step_s: float = FIRST_STEP_S) -> None:
        self.step_s = first_step_s
        self._most_points = most_points
        self._count = 0
        self._faces: dict[int, _Curve] = {}

    def add(self, analyzed: AnalyzedFrame) -> None:
        """Add one frame."""
        for face in analyzed.faces:
            self.add_reading(face.id, analyzed.frame.time_s, face.probabilities)

    def add_reading(self, face_id: int, time_s: float, probabilities: np.ndarray) -> None:
        """Add one reading of one face."""
        while time_s / self.step_s > _LAST_STEP:
            self._halve()
        step = int(max(time_s, 0.0) / self.step_s)
        self._count += self._faces.setdefault(face_id, _Curve()).add(step, probabilities)
        if self._count > self._most_points:
            self._halve()

    def _halve(self) -> None:
        self.step_s *= 2
        for curve in self._faces.values():
            curve.halve()
        self._count = sum(len(curve.steps) for curve in self._faces.values())

    def face_ids(self) -> list[int]:
        """Return the faces that have a curve."""
        return sorted(self._faces)

    def encoded(self, face_id: int) -> dict[str, str]:
        """Return one face's curve in base64: `steps` uint32, `values` uint8 (points, 7), 255 is certainty."""
        curve = self._faces[face_id]
        values = np.array(curve.values, np.float32).reshape(-1, len(EXPRESSIONS))
        values_uint8 = np.rint(values * 255).astype(np.uint8)
        steps = np.array(curve.steps, "<u4")
        return {
            "steps": base64.b64encode(steps.tobytes()).decode(),
            "values": base64.b64encode(values_uint8.tobytes()).decode(),
        }


@dataclass
class _Curve:
    """One face's steps, in order, and the mean probabilities and number of readings in each."""

    steps: list[int] = field(default_factory=list)
    values: list[np.ndarray] = field(default_factory=list)
    readings: list[int] = field(default_factory=list)

    def add(self, step: int, values: np.ndarray, readings: int = 1) -> int:
        """Add readings to their step. Return the number of points by which the curve grew."""
        if self.steps and step <= self.steps[-1]:
            total = self.readings[-1] + readings
            self.values[-1] = self.values[-1] + (values - self.values[-1]) * (readings / total)
            self.readings[-1] = total
            return 0
        self.steps.append(step)
        self.values.append(values)
        self.readings.append(readings)
        return 1

    def halve(self) -> None:
        old = zip(self.steps, self.values, self.readings, strict=True)
        self.steps, self.values, self.readings = [], [], []
        for step, values, readings in old:
            self.add(step // 2, values, readings)
