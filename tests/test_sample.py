"""The sample clip matches its README, and its script makes the same clip."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest

SAMPLES = Path(__file__).parents[1] / "samples"
CLIP = SAMPLES / "two-faces-720p.mp4"
COMPARED_FRAMES = (66, 100, 207)  # leaving, out, close to the other


@dataclass(frozen=True, eq=False)
class DecodedClip:
    """The decoded clip, with only those pictures that the tests compare.

    Attributes:
        size_wh: Width and height of all frames, px.
        times: Presentation time of each frame, s, exact.
        duration_s: The video's duration as its stream gives it.
        flash_luma: float64 (frames,), mean luma of a piece of backdrop that no card covers.
        pictures_bgr: The frames of `COMPARED_FRAMES`.
        sound: float32 (2, N), samples.
        sound_start_s: Time of the first sample.
        sample_rate_hz: Samples a second.
        streams: Each stream's codec and format.
    """

    size_wh: set[tuple[int, int]]
    times: list[Fraction]
    duration_s: float
    flash_luma: np.ndarray
    pictures_bgr: dict[int, np.ndarray]
    sound: np.ndarray
    sound_start_s: float
    sample_rate_hz: int
    streams: set[tuple[str, str]]


@pytest.fixture(scope="module")
def clip() -> DecodedClip:
    sizes, times, flash_luma, pictures_bgr = set(), [], [], {}
    with av.open(str(CLIP)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        streams = {
            (video.codec_context.name, video.codec_context.pix_fmt),
            (audio.codec_context.name, audio.layout.name),
        }
        duration_s = float(video.duration * video.time_base)
        for index, frame in enumerate(container.decode(video)):
            sizes.add((frame.width, frame.height))
            times.append(frame.pts * frame.time_base)
            luma = frame.planes[0]
            rows = np.frombuffer(luma, np.uint8).reshape(luma.height, luma.line_size)
            flash_luma.append(rows[5:45, 520:800].mean())
            if index in COMPARED_FRAMES:
                pictures_bgr[index] = frame.to_ndarray(format="bgr24")
    with av.open(str(CLIP)) as container:
        blocks = list(container.decode(audio=0))
    return DecodedClip(
        size_wh=sizes,
        times=times,
        duration_s=duration_s,
        flash_luma=np.array(flash_luma),
        pictures_bgr=pictures_bgr,
        sound=np.concatenate([block.to_ndarray() for block in blocks], axis=1),
        sound_start_s=float(blocks[0].time),
        sample_rate_hz=blocks[0].sample_rate,
        streams=streams,
    )


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_sample", SAMPLES / "make_sample.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_clip_is_small_enough_to_commit() -> None:
    assert CLIP.stat().st_size < 2_500_000


def test_clip_has_its_size_frames_and_times(clip: DecodedClip) -> None:
    assert clip.streams == {("h264", "yuv420p"), ("aac", "stereo")}
    assert clip.size_wh == {(1280, 720)}
    assert clip.times == [index * Fraction(1001, 30000) for index in range(240)]
    assert clip.duration_s == pytest.approx(8.008)


def test_sound_lasts_as_long_as_the_video(clip: DecodedClip) -> None:
    assert clip.sound_start_s == pytest.approx(0, abs=0.03)
    sound_end_s = clip.sound_start_s + clip.sound.shape[1] / clip.sample_rate_hz
    assert sound_end_s == pytest.approx(clip.duration_s, abs=0.1)
    assert 0.3 < np.abs(clip.sound).max() <= 1, "neither silent nor clipped"


def test_note_and_flash_mark_each_second_together(clip: DecodedClip) -> None:
    jumps = np.flatnonzero(np.diff(clip.flash_luma) > 8) + 1
    flashes_s = [float(clip.times[index]) for index in jumps]
    assert flashes_s == pytest.approx([1, 2, 3, 4, 5, 6, 7], abs=1001 / 30000)

    # The difference of neighbouring samples favours the note's overtones over the low chords.
    overtones = np.diff(clip.sound.mean(axis=0))
    for second in range(1, 8):
        at = round((second - clip.sound_start_s) * clip.sample_rate_hz)
        window = clip.sample_rate_hz // 50
        before, after = overtones[at - 2 * window : at - window], overtones[at : at + window]
        assert after.std() > 2.5 * before.std(), f"a note begins at {second} s"


def test_script_renders_the_frames_of_the_clip(clip: DecodedClip, script: ModuleType) -> None:
    pytest.importorskip("skimage", reason="scikit-image (extra `test`) holds one of the two portraits")
    scene = script.make_scene()
    for index in COMPARED_FRAMES:
        difference = np.abs(script.render_frame(scene, index).astype(int) - clip.pictures_bgr[index])
        assert difference.mean() < 3.5, f"frame {index}"


@pytest.mark.parametrize(
    ("output", "complaint"),
    [("clip.avi", "ends in .mp4"), ("missing/clip.mp4", "there is no folder")],
)
def test_bad_output_is_one_line_and_leaves_nothing(
    script: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    output: str,
    complaint: str,
) -> None:
    assert script.main(["--output", str(tmp_path / output)]) == 4
    printed = capsys.readouterr()
    assert complaint in printed.err
    assert printed.err.count("\n") == 1
    assert not list(tmp_path.iterdir())
