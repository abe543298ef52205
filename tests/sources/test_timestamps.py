"""Time continues when a recording's timestamps restart or jump."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from helpers.command import Said
from helpers.videos import index_in, make_clip, number_of, opened, times_of, write_video

from fer_stream.errors import NoFramesError
from fer_stream.sources import open_source
from fer_stream.sources.timestamps import BreakFinder

FRAMES = 40
TICK = Fraction(1, 25)


def clip(path: Path, first_s: int = 0) -> Path:
    """Write 40 numbered frames at 25 frames per second, from a given time on."""
    return write_video(path, [first_s * 25 + index for index in range(FRAMES)], time_base=TICK)


def joined(folder: Path, suffix: str, *starts_s: int) -> Path:
    """Join recordings that begin at the given times byte by byte, as `cat` does."""
    path = folder / f"joined{suffix}"
    pieces = [clip(folder / f"{number}{suffix}", first_s) for number, first_s in enumerate(starts_s)]
    path.write_bytes(b"".join(piece.read_bytes() for piece in pieces))
    return path


# FFmpeg itself finds only two of three joined Matroska files.
@pytest.mark.parametrize(("suffix", "pieces"), [(".ts", 3), (".mkv", 2)])
def test_the_time_of_a_joined_recording_runs_on(tmp_path: Path, suffix: str, pieces: int) -> None:
    path = joined(tmp_path, suffix, *[0] * pieces)
    with open_source(path) as source:
        frames = [(index_in(frame.bgr), frame.index, frame.time_s) for frame in source]
        problems = source.problems
    assert [index for _, index, _ in frames] == list(range(pieces * FRAMES))
    assert [number for number, _, _ in frames] == list(range(FRAMES)) * pieces
    assert all(abs(after - before - 0.04) < 0.002 for (_, _, before), (_, _, after) in pairwise(frames))
    times = {2: "once", 3: "2 times"}[pieces]
    assert problems == [f"{path}: its timestamps restart or jump {times}; time runs on without a gap"]


@pytest.mark.parametrize("starts_s", [(0, 30_000), (80_000, 10)], ids=["hours ahead", "hours back"])
def test_a_jump_of_hours_is_saved_whole(
    fer: Callable[..., Said], loaded: None, tmp_path: Path, starts_s: tuple[int, int]
) -> None:
    said = fer(joined(tmp_path, ".ts", *starts_s), "--save", tmp_path / "o.mp4", "--quiet")
    assert said.code == 0, said.err
    times_s = times_of(tmp_path / "o.mp4")
    assert len(times_s) == 2 * FRAMES
    assert all(abs(after - before - TICK) < Fraction(1, 1000) for before, after in pairwise(times_s))


@pytest.mark.parametrize("start_s", [0.4, 2.4])
def test_a_part_of_a_joined_recording_is_numbered_as_the_whole(tmp_path: Path, start_s: float) -> None:
    path = joined(tmp_path, ".ts", 0, 0)
    with open_source(path) as source:
        whole = [(frame.index, frame.time_s, index_in(frame.bgr)) for frame in source]
    first_s = whole[0][1]
    with open_source(path, start_s=first_s + start_s) as source:
        part = [(frame.index, frame.time_s, index_in(frame.bgr)) for frame in source]
    assert part == [frame for frame in whole if frame[1] >= first_s + start_s]


def test_a_start_past_the_end_of_a_joined_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoFramesError, match="start earlier"):
        open_source(joined(tmp_path, ".ts", 0, 0), start_s=10.0)


def test_sound_stays_with_the_picture_across_a_join(
    fer: Callable[..., Said], loaded: None, tmp_path: Path
) -> None:
    piece = make_clip(tmp_path / "a.ts", video_s=2.0, audio_s=2.0)
    path = tmp_path / "joined.ts"
    path.write_bytes(piece.read_bytes() * 4)
    said = fer(path, "--save", tmp_path / "o.mp4", "--quiet")
    assert said.code == 0, said.err
    with opened(tmp_path / "o.mp4") as container:
        sound_s = [float(frame.pts * frame.time_base) for frame in container.decode(audio=0)]
    assert 7.9 < sound_s[-1] < 8.2
    assert max(after - before for before, after in pairwise(sound_s)) < 0.1
    with opened(tmp_path / "o.mp4") as container:
        numbers = [number_of(frame.to_ndarray(format="bgr24")) for frame in container.decode(video=0)]
    assert numbers == list(range(50)) * 4


def test_a_slow_frame_rate_is_not_a_break(tmp_path: Path) -> None:
    path = write_video(tmp_path / "slow.mkv", range(4), time_base=Fraction(90))
    with open_source(path) as source:
        times_s = [frame.time_s for frame in source]
        assert source.problems == []
    assert np.allclose(np.diff(times_s), 90)


def test_jitter_is_not_a_break() -> None:
    finder = BreakFinder(Fraction(1, 100), 4)
    assert [finder.running_time(tick) for tick in (0, 4, 8, 6, 12, 80)] == [0, 4, 8, 6, 12, 80]
    assert finder.breaks == 0
    assert (finder.running_time(2), finder.breaks) == (84, 1)
    assert (finder.running_time(6), finder.breaks) == (88, 1)
    assert (finder.running_time(100_000), finder.breaks) == (92, 2)


def test_an_mp4_has_one_timeline(tmp_path: Path) -> None:
    path = write_video(tmp_path / "slides.mp4", [0, 1, 2, 200, 201], time_base=Fraction(1))
    with open_source(path) as source:
        assert [round(frame.time_s) for frame in source] == [0, 1, 2, 200, 201]
        assert not any("restart" in problem for problem in source.problems)


def test_a_gap_too_long_for_mp4_is_named_and_what_came_before_plays(
    fer: Callable[..., Said], loaded: None, tmp_path: Path
) -> None:
    path = write_video(tmp_path / "gap.mkv", [0, 1, 2, 25_000_000], time_base=TICK)
    said = fer(path, "--save", tmp_path / "o.mp4", "--quiet")
    assert said.code == 4
    assert "no picture for 277:46:40 after 0.1 s" in said.err and "save it as .mkv" in said.err
    assert len(times_of(tmp_path / "o.mp4")) == 3
    assert fer(path, "--save", tmp_path / "o.mkv", "--quiet").code == 0
