"""The data that stages exchange: frozen dataclasses of NumPy arrays, checked when they are made."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fer_stream.expressions import EXPRESSIONS, UNSURE

_THREE_FLOAT32 = (np.dtype(np.float32),) * 3


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a source.

    Attributes:
        bgr: The picture, uint8 (H, W, 3), upright, in OpenCV's channel order. It must not change
            afterwards, because the analysis keeps it for a while. If a camera fills one array again and
            again, copy the array for each frame.
        index: Position in the whole source, from 0, even if reading started later.
        time_s: Presentation time in a recording; seconds since the start of a live source; 0 for an image.
            Finite, and 0 or more.
        source: Name of the source, as in the table.
        captured_s: `time.monotonic()` when the frame left the source. Latency counts from here.

    Raises:
        ValueError: The picture is empty or has another type or shape, or the index or a time can't be right.
    """

    bgr: np.ndarray
    index: int
    time_s: float
    source: str = ""
    captured_s: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.bgr, np.ndarray):
            raise ValueError(f"a frame is a NumPy array, not {type(self.bgr).__name__}")
        if self.bgr.dtype != np.uint8 or self.bgr.ndim != 3 or self.bgr.shape[2] != 3:
            raise ValueError(f"a frame is uint8 (H, W, 3), not {self.bgr.dtype} {self.bgr.shape}")
        if not self.bgr.size:
            raise ValueError(f"a frame has at least one pixel, but this one's shape is {self.bgr.shape}")
        if not (isinstance(self.index, (int, np.integer)) and self.index >= 0):
            raise ValueError(f"a frame's index is a whole number from 0, not {self.index!r}")
        if not 0 <= self.time_s < math.inf:  # NaN fails, too
            raise ValueError(f"a frame's time_s is a finite number of seconds from 0, not {self.time_s}")
        if not math.isfinite(self.captured_s):
            raise ValueError(f"a frame's captured_s is a finite number of seconds, not {self.captured_s}")
        object.__setattr__(self, "index", int(self.index))  # NumPy's numbers can't be written as JSON
        object.__setattr__(self, "time_s", float(self.time_s))

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.bgr.shape[1], self.bgr.shape[0]


@dataclass(frozen=True, eq=False)
class Detections:
    """The faces that a detector found in one picture. N = 0 if it found none; never None.

    Attributes:
        boxes_xyxy: float32 (N, 4), left, top, right, bottom in px, inside the frame.
        scores: float32 (N,), the detector's confidence, 0 to 1.
        landmarks_xy: float32 (N, 5, 2), px: left eye, right eye, nose, left and right mouth
            corner, as seen in the picture.

    Raises:
        ValueError: An array has another type or shape.
    """

    boxes_xyxy: np.ndarray
    scores: np.ndarray
    landmarks_xy: np.ndarray

    def __post_init__(self) -> None:
        count = len(self.boxes_xyxy)
        shapes = (self.boxes_xyxy.shape, self.scores.shape, self.landmarks_xy.shape)
        if shapes != ((count, 4), (count,), (count, 5, 2)):
            raise ValueError(f"detections are (N, 4), (N,) and (N, 5, 2), not {shapes}")
        types = (self.boxes_xyxy.dtype, self.scores.dtype, self.landmarks_xy.dtype)
        if types != _THREE_FLOAT32:
            raise ValueError(f"detections are float32, not {', '.join(map(str, types))}")

    def __len__(self) -> int:
        return len(self.boxes_xyxy)

    @classmethod
    def none(cls) -> Detections:
        """Return the detections of a picture without a face."""
        return cls(np.zeros((0, 4), np.float32), np.zeros((0,), np.float32), np.zeros((0, 5, 2), np.float32))

    def __getitem__(self, picked: np.ndarray | Sequence[int] | slice) -> Detections:
        """Return the picked detections, by index array, mask or slice."""
        return Detections(self.boxes_xyxy[picked], self.scores[picked], self.landmarks_xy[picked])


@dataclass(frozen=True, eq=False)
class Face:
    """One face in one frame.

    Attributes:
        id: Number of the person, the same in every frame, from 1 in order of appearance.
        box_xyxy: float32 (4,), left, top, right, bottom in px, inside the frame.
        landmarks_xy: float32 (5, 2), px.
        detection_score: The detector's confidence, 0 to 1.
        probabilities: float32 (7,), in the order of `EXPRESSIONS`, smoothed; they sum to 1.
        unsure: Whether the best probability is below the threshold of the weights or of `--unsure-below`.
        readings: Numbers from readers other than the expression's, smoothed, by column name.
    """

    id: int
    box_xyxy: np.ndarray
    landmarks_xy: np.ndarray
    detection_score: float
    probabilities: np.ndarray
    unsure: bool = False
    readings: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.probabilities.shape != (len(EXPRESSIONS),):
            raise ValueError(f"a face has {len(EXPRESSIONS)} probabilities, not {self.probabilities.shape}")
        if not float(self.probabilities.min()) >= -1e-3:  # NaN fails, too; -1e-3 allows for rounding
            raise ValueError(f"probabilities are at least 0, not {float(self.probabilities.min()):.4f}")
        if abs(float(self.probabilities.sum()) - 1.0) > 1e-3:
            raise ValueError(f"probabilities sum to 1, not {float(self.probabilities.sum()):.4f}")
        shapes = (self.box_xyxy.shape, self.landmarks_xy.shape)
        if shapes != ((4,), (5, 2)):
            raise ValueError(f"a face's box is (4,) and its landmarks (5, 2), not {shapes}")
        object.__setattr__(self, "id", operator.index(self.id))  # NumPy's numbers can't be written as JSON

    @property
    def expression(self) -> str:
        """The most probable expression."""
        return EXPRESSIONS[int(self.probabilities.argmax())]

    @property
    def confidence(self) -> float:
        """The probability of the most probable expression, 0 to 1."""
        return float(self.probabilities.max())

    @property
    def label(self) -> str:
        """The text to show people: the expression, or `UNSURE`."""
        return UNSURE if self.unsure else self.expression


@dataclass(frozen=True, eq=False)
class AnalyzedFrame:
    """A frame and the faces in it, ordered by id.

    Attributes:
        frame: The frame, as it came from the source.
        faces: Its faces; empty if nobody is in the picture.
        possible_faces_xyxy: float32 (N, 4) px, every place where a face is or may be: everything that the
            detector took for a face, shown or not, and the places where a face probably is while the detector
            misses it. `--blur` hides these places.
    """

    frame: Frame
    faces: tuple[Face, ...]
    possible_faces_xyxy: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))

    def __post_init__(self) -> None:
        object.__setattr__(self, "faces", tuple(self.faces))  # a list could change later
