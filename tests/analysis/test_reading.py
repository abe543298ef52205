"""A face of a recording is read from time to time, and more often while its expression changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from helpers.tracks import TINY_BGR, tracked

from fer_stream.analysis.finding import FoundFrame
from fer_stream.analysis.lookahead import ReadFrame
from fer_stream.analysis.reading import read_recording
from fer_stream.detection.backfill import FoundEarlier
from fer_stream.detection.tracker import TrackedFrame
from fer_stream.errors import SourceError
from fer_stream.expressions import EXPRESSIONS
from fer_stream.profiling import Profile
from fer_stream.types import Frame

HAPPY, NEUTRAL = EXPRESSIONS.index("happy"), EXPRESSIONS.index("neutral")
UNSURE_BELOW = 0.7


@dataclass
class FakeReader:
    """Reads how happy a face is from its place, and remembers which places it read."""

    happy_at: Callable[[int], float]
    columns = EXPRESSIONS
    read_at: list[int] = field(default_factory=list)

    def crop(self, image_bgr: np.ndarray, box_xyxy: np.ndarray, landmarks_xy: np.ndarray) -> np.ndarray:
        return box_xyxy[:1]

    def read(self, crops: np.ndarray) -> np.ndarray:
        self.read_at += [int(x) for x in crops[:, 0]]
        readings = np.zeros((len(crops), len(EXPRESSIONS)), np.float32)
        readings[:, HAPPY] = [self.happy_at(int(x)) for x in crops[:, 0]]
        readings[:, NEUTRAL] = 1 - readings[:, HAPPY]
        return readings


def found(index: int, *track_ids: int, frames_per_s: float = 25.0) -> FoundFrame:
    """Return a frame whose faces begin at pixel `index`."""
    faces = tuple(tracked(track_id, index + 25.0) for track_id in track_ids)
    return FoundFrame(Frame(TINY_BGR, index, index / frames_per_s), TrackedFrame(faces))


def read(frames: list[FoundFrame], reader: FakeReader, *, smooth_s: float = 0.3) -> list[ReadFrame]:
    some = (frames[start : start + 4] for start in range(0, len(frames), 4))
    return list(read_recording(some, [reader], smooth_s, UNSURE_BELOW, Profile()))


def happy(frames: list[ReadFrame]) -> list[float]:
    return [float(face.values[HAPPY]) for frame in frames for face in frame.faces]


def test_a_steady_face_is_read_in_every_fifth_frame_and_has_values_in_all() -> None:
    reader = FakeReader(lambda x: 0.05 + 0.002 * x)
    out = read([found(index, 1) for index in range(60)], reader)
    assert [frame.frame.index for frame in out] == list(range(60))
    assert happy(out) == pytest.approx([0.05 + 0.002 * index for index in range(60)], abs=1e-6)
    assert sorted(reader.read_at) == [*range(0, 60, 5), 59]


def test_a_change_is_read_frame_by_frame() -> None:
    reader = FakeReader(lambda x: 0.9 if x >= 32 else 0.1)
    out = read([found(index, 1) for index in range(60)], reader)
    assert happy(out) == pytest.approx([0.1] * 32 + [0.9] * 28)
    assert sorted(reader.read_at) == sorted([*range(0, 60, 5), 31, 32, 33, 59])


@pytest.mark.parametrize(
    ("certainty", "between"),
    [(UNSURE_BELOW + 0.01, [31, 32, 33]), (0.49, [31, 32, 33]), (0.9, []), (0.6, [])],
    ids=["becomes sure", "another expression while unsure", "surely happy", "unsure, but rather happy"],
)
def test_a_small_change_is_read_frame_by_frame_if_label_or_expression_may_change(
    certainty: float, between: list[int]
) -> None:
    reader = FakeReader(lambda x: certainty + 0.02 * (x >= 32))
    read([found(index, 1) for index in range(60)], reader)
    assert sorted({*reader.read_at} - {*range(0, 60, 5), 59}) == between


def test_a_sudden_change_is_found_by_halving_the_frames_between_two_readings() -> None:
    reader = FakeReader(lambda x: 0.9 if x >= 11 else 0.1)
    out = read([found(index, 1, frames_per_s=60) for index in range(30)], reader)
    assert happy(out) == pytest.approx([0.1] * 11 + [0.9] * 19)
    assert sorted(reader.read_at) == [0, 8, 10, 11, 12, 20, 24, 29]


@pytest.mark.parametrize(("frames_per_s", "reads"), [(5, 60), (12, 26), (60, 10), (240, 9)])
def test_readings_follow_the_time_and_not_the_frame_rate(frames_per_s: float, reads: int) -> None:
    reader = FakeReader(lambda _: 0.5)
    read([found(index, 1, frames_per_s=frames_per_s) for index in range(60)], reader)
    assert len(reader.read_at) == pytest.approx(reads, abs=1)


def test_without_smoothing_every_frame_is_read() -> None:
    reader = FakeReader(lambda _: 0.5)
    read([found(index, 1) for index in range(12)], reader, smooth_s=0)
    assert sorted(reader.read_at) == list(range(12))


def test_a_face_is_read_in_its_first_and_its_last_frame() -> None:
    reader = FakeReader(lambda x: 0.01 * x)
    out = read([found(index, *[1] * (4 <= index <= 10)) for index in range(20)], reader)
    assert happy(out) == pytest.approx([0.01 * index for index in range(4, 11)])
    assert sorted(reader.read_at) == [4, 5, 10]


def test_a_part_that_starts_later_reads_the_same_frames() -> None:
    whole, part = FakeReader(lambda _: 0.5), FakeReader(lambda _: 0.5)
    read([found(index, 1) for index in range(60)], whole)
    read([found(index, 1) for index in range(31, 60)], part)
    assert set(part.read_at) - {31} == {index for index in whole.read_at if index > 31}


def test_a_face_that_is_found_in_an_earlier_frame_is_read_there() -> None:
    reader = FakeReader(lambda x: 0.01 * x)
    late = found(5, 2)
    earlier = FoundEarlier(found(4).frame, tracked(2, 4 + 25.0))
    frames = [*(found(index) for index in range(5)), FoundFrame(late.frame, late.tracked, (earlier,))]
    out = read(frames, reader)
    assert out[5].earlier[0].face.values[HAPPY] == pytest.approx(0.04)


def test_frames_that_wait_come_out_before_an_error() -> None:
    def breaks_off() -> Iterator[list[FoundFrame]]:
        yield [found(index, 1) for index in range(5)]
        raise SourceError("the file breaks off")

    out = []
    with pytest.raises(SourceError, match="breaks off"):
        for one in read_recording(breaks_off(), [FakeReader(lambda _: 0.5)], 0.3, UNSURE_BELOW, Profile()):
            out.append(one.frame.index)  # noqa: PERF401 - the error comes after them
    assert out == list(range(5))
