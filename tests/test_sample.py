"""The sample clip matches its README, and its script makes the same clip."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from helpers.paths import SAMPLE
from helpers.sample_clip import COMPARED_FRAMES, DecodedClip


def test_clip_is_small_enough_to_commit() -> None:
    assert SAMPLE.stat().st_size < 2_500_000


def test_clip_has_its_size_frames_and_times(decoded_sample: DecodedClip) -> None:
    assert decoded_sample.streams == {("h264", "yuv420p"), ("aac", "stereo")}
    assert decoded_sample.size_wh == {(1280, 720)}
    assert decoded_sample.times == [index * Fraction(1001, 30000) for index in range(240)]
    assert decoded_sample.duration_s == pytest.approx(8.008)


def test_sound_lasts_as_long_as_the_video(decoded_sample: DecodedClip) -> None:
    assert decoded_sample.sound_start_s == pytest.approx(0, abs=0.03)
    sound_end_s = decoded_sample.sound_start_s + decoded_sample.sound.shape[1] / decoded_sample.sample_rate_hz
    assert sound_end_s == pytest.approx(decoded_sample.duration_s, abs=0.1)
    assert 0.3 < np.abs(decoded_sample.sound).max() <= 1, "neither silent nor clipped"


def test_note_and_flash_mark_each_second_together(decoded_sample: DecodedClip) -> None:
    jumps = np.flatnonzero(np.diff(decoded_sample.flash_luma) > 8) + 1
    flashes_s = [float(decoded_sample.times[index]) for index in jumps]
    assert flashes_s == pytest.approx([1, 2, 3, 4, 5, 6, 7], abs=1001 / 30000)

    # The difference of neighbouring samples favours the note's overtones over the low chords.
    overtones = np.diff(decoded_sample.sound.mean(axis=0))
    for second in range(1, 8):
        at = round((second - decoded_sample.sound_start_s) * decoded_sample.sample_rate_hz)
        window = decoded_sample.sample_rate_hz // 50
        before, after = overtones[at - 2 * window : at - window], overtones[at : at + window]
        assert after.std() > 2.5 * before.std(), f"a note begins at {second} s"


def test_script_renders_the_frames_of_the_clip(
    decoded_sample: DecodedClip, sample_script: ModuleType
) -> None:
    pytest.importorskip("skimage", reason="scikit-image (extra `test`) holds one of the two portraits")
    scene = sample_script.make_scene()
    for index in COMPARED_FRAMES:
        difference = np.abs(
            sample_script.render_frame(scene, index).astype(int) - decoded_sample.pictures_bgr[index]
        )
        assert difference.mean() < 3.5, f"frame {index}"


@pytest.mark.parametrize(
    ("output", "complaint"),
    [("clip.avi", "ends in .mp4"), ("missing/clip.mp4", "there is no folder")],
)
def test_bad_output_is_one_line_and_leaves_nothing(
    sample_script: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    output: str,
    complaint: str,
) -> None:
    assert sample_script.main(["--output", str(tmp_path / output)]) == 4
    printed = capsys.readouterr()
    assert complaint in printed.err
    assert printed.err.count("\n") == 1
    assert not list(tmp_path.iterdir())
