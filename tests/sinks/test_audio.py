"""The sound of an annotated video: copied where the container allows it, and in step with the picture."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.contexts import make_info
from helpers.flashes import beeps_s, flashes_s, flashing_clip
from helpers.paths import SHARED_VIDEOS as VIDEOS
from helpers.recordings import (
    EXTENSIONS,
    TOLERANCE_S,
    annotate,
    audio_packets,
    decoded,
    write_numbered,
)
from helpers.videos import audio_s, make_clip, numbered, write_repeats

from fer_stream.sinks import VideoSink
from fer_stream.sinks.audio import goes_on_after
from fer_stream.sources import open_source


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize(
    ("name", "start_s", "end_s"),
    [("portrait-360p.mp4", 0.0, 0.7), ("portrait-360p.mp4", 1.3, 2.0), ("selfie-360p.mp4", 0.0, None)],
)
def test_real_videos_keep_their_frames_times_and_sound(tmp_path, name, start_s, end_s, extension):
    source = VIDEOS / name
    if not source.exists():
        pytest.skip(f"needs {name} of the shared data")
    path = tmp_path / f"out{extension}"
    times_s, problems = annotate(source, path, start_s, end_s)
    offset_s = times_s[0] if start_s else 0

    assert problems == []
    found_s = decoded(path)[1]
    errors = [abs(a - b + offset_s) for a, b in zip(found_s, times_s, strict=True)]
    assert max(errors) <= TOLERANCE_S[extension]
    until_s = 1e9 if end_s is None else times_s[-1] + (times_s[-1] - times_s[-2])
    wanted = [
        (time_s - offset_s, size)
        for time_s, size in audio_packets(source)
        if time_s < until_s and (not start_s or time_s >= offset_s)
    ]
    found = audio_packets(path)
    if extension == ".webm":  # encoded again as Opus, whose packets last 20 ms
        with av.open(str(path)) as container:
            assert container.streams.audio[0].codec_context.name in ("opus", "libopus")
        assert abs(float(found[0][0] - wanted[0][0])) < 0.03
        assert abs(float(found[-1][0] - wanted[-1][0])) < 0.06
    else:
        assert [size for _, size in found] == [size for _, size in wanted]
        tolerance_s = Fraction(1, 40000) if extension == ".mp4" else Fraction(2, 1000)
        assert max(abs(a[0] - b[0]) for a, b in zip(found, wanted, strict=True)) <= tolerance_s


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_sound_that_begins_before_the_picture_shifts_nothing(tmp_path, extension):
    """The first packet of an AAC encoder has a time before 0."""
    source = make_clip(tmp_path / "clip.mp4")
    assert audio_packets(source)[0][0] < 0
    times_s, problems = annotate(source, tmp_path / f"out{extension}")
    assert problems == []
    assert decoded(tmp_path / f"out{extension}")[1] == times_s
    if extension != ".webm":
        found, wanted = audio_packets(tmp_path / f"out{extension}"), audio_packets(source)
        assert len(found) == len(wanted)
        assert max(abs(a[0] - b[0]) for a, b in zip(found, wanted, strict=True)) < 0.0011


def test_sound_of_a_transport_stream_is_copied(tmp_path):
    """Its AAC packets have headers that MP4 stores once, and its times do not begin at 0."""
    source = make_clip(tmp_path / "clip.ts", start_s=3)
    times_s, problems = annotate(source, tmp_path / "out.mp4")
    assert problems == [] and times_s[0] >= 3
    assert decoded(tmp_path / "out.mp4")[1] == times_s
    with av.open(str(tmp_path / "out.mp4")) as container:
        sound = [frame.time for frame in container.decode(audio=0)]
    assert abs(sound[0] - float(times_s[0])) < 0.1 and len(sound) >= 90


def test_a_recording_whose_clock_begins_late_is_saved_from_zero(tmp_path):
    source = make_clip(tmp_path / "clip.ts", start_s=5000)
    times_s, problems = annotate(source, tmp_path / "out.mp4", clock_starts_s=5000.0)
    assert problems == [] and times_s[0] >= 5000
    assert decoded(tmp_path / "out.mp4")[1] == [time_s - times_s[0] for time_s in times_s]
    with av.open(str(tmp_path / "out.mp4")) as container:
        sound_s = [frame.time for frame in container.decode(audio=0)]
    assert abs(sound_s[0]) < 0.1 and len(sound_s) >= 90
    with open_source(source) as opened:
        assert opened.info.clock_starts_s == pytest.approx(float(times_s[0]), abs=0.1)


def test_sound_that_the_container_cannot_hold_is_encoded_again(tmp_path):
    source = make_clip(tmp_path / "clip.mkv", codec="pcm_s16le")
    _, problems = annotate(source, tmp_path / "out.mp4")
    assert problems == []
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert abs(len(sound) / 48000 - 2) < 0.05
    loudest_hz = np.abs(np.fft.rfft(sound[4800:52800])).argmax()
    assert abs(int(loudest_hz) - 440) <= 1


@pytest.mark.parametrize("codec", ["pcm_mulaw", "adpcm_ms", "wmav2"])
def test_sound_that_matroska_cannot_hold_is_encoded_again(tmp_path, codec):
    source = flashing_clip(tmp_path / "clip.avi", codec=codec, duration_s=2)
    _, problems = annotate(source, tmp_path / "out.mkv")
    assert problems == []
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
    assert beeps_s(tmp_path / "out.mkv") == pytest.approx(beeps_s(source), abs=0.005)
    assert audio_s(tmp_path / "out.mkv") == pytest.approx(audio_s(source), abs=0.05)


@pytest.mark.parametrize(
    ("codec", "moved_s"),
    [
        pytest.param("mp2", lambda time_s: -0.06 * (1.3 < time_s < 1.5), id="a step back"),
        pytest.param(
            "mp2", lambda time_s: -0.03 * (time_s > 1 and round(time_s * 1000) % 240 < 24), id="jitter"
        ),
        pytest.param("ac3", lambda time_s: 0.032 * (1.25 < time_s < 1.28), id="a late packet"),
    ],
)
def test_sound_whose_times_go_back_a_little_is_encoded_whole_and_in_step(tmp_path, codec, moved_s):
    source = flashing_clip(tmp_path / "clip.mkv", codec=codec, duration_s=3, moved_s=moved_s)
    _, problems = annotate(source, tmp_path / "out.webm")
    assert problems == []
    assert beeps_s(tmp_path / "out.webm") == pytest.approx([0.48, 1.48, 2.48], abs=0.005)
    assert flashes_s(tmp_path / "out.webm") == pytest.approx([0.48, 1.48, 2.48], abs=0.001)
    assert audio_s(tmp_path / "out.webm") == pytest.approx(3, abs=0.05)


@pytest.mark.parametrize("extension", [".mp4", ".mkv"])
def test_sound_whose_times_go_back_a_little_is_copied_whole(tmp_path, extension):
    """A few packets are 32 ms late, as happens with AC-3 in MPEG streams."""
    source = flashing_clip(tmp_path / "clip.ts", codec="ac3", duration_s=2)
    move_packets(source, Fraction(2881, 90000))
    _, problems = annotate(source, tmp_path / f"out{extension}")
    assert problems == []
    sizes = [[size for _, size in audio_packets(path)] for path in (source, tmp_path / f"out{extension}")]
    assert sizes[0] == sizes[1]
    assert beeps_s(tmp_path / f"out{extension}") == pytest.approx(flashes_s(source), abs=0.005)


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_packets_that_go_back_far_are_left_out(tmp_path, extension):
    source = flashing_clip(tmp_path / "clip.ts", codec="ac3", duration_s=2)
    move_packets(source, Fraction(-3, 10))
    _, problems = annotate(source, tmp_path / f"out{extension}")
    assert problems == ["the times of the sound go back in places; left out there"]
    assert audio_s(source) - 0.3 < audio_s(tmp_path / f"out{extension}") < audio_s(source)
    assert beeps_s(tmp_path / f"out{extension}") == pytest.approx(flashes_s(source), abs=0.005)


def move_packets(path: Path, seconds: Fraction) -> None:
    """Change the time of a few packets of sound in a transport stream, after the first beep."""
    time_s = audio_packets(path)[30][0]
    stored = path.read_bytes()
    assert stored.count(pts_field(time_s)) == 1
    path.write_bytes(stored.replace(pts_field(time_s), pts_field(time_s + seconds)))


def pts_field(time_s: Fraction) -> bytes:
    """Return a time as an MPEG stream stores it."""
    pts = round(time_s * 90000)
    return bytes([0x21 | pts >> 29, pts >> 22 & 255, pts >> 14 & 254 | 1, pts >> 7 & 255, pts << 1 & 254 | 1])


def test_packets_shorter_than_a_tick_of_matroska_are_all_copied(tmp_path):
    """As those of TrueHD, which last 0.83 ms."""
    source = flashing_clip(tmp_path / "clip.mkv", codec="pcm_s16le", duration_s=1, packet_samples=40)
    _, problems = annotate(source, tmp_path / "out.mkv")
    assert problems == []
    assert audio_packets(tmp_path / "out.mkv") == audio_packets(source)


def test_a_wrong_first_time_is_put_right_soon(tmp_path):
    """AC-3 in an MPEG program stream has one after a jump."""
    source = flashing_clip(tmp_path / "clip.mkv", codec="ac3", moved_s=lambda time_s: 0.032 * (time_s < 0.02))
    _, problems = annotate(source, tmp_path / "out.webm")
    assert problems == []
    beeps = beeps_s(tmp_path / "out.webm")
    assert beeps[0] == pytest.approx(0.48, abs=0.04)
    assert beeps[1:] == pytest.approx([1.48, 2.48, 3.48], abs=0.005)


def test_sound_that_goes_back_far_is_left_out_until_it_is_in_step_again(tmp_path):
    source = flashing_clip(tmp_path / "clip.mkv", codec="mp2", moved_s=lambda time_s: -0.2 * (time_s > 1.8))
    _, problems = annotate(source, tmp_path / "out.webm")
    assert problems == ["the times of the sound go back in places; left out there"]
    assert beeps_s(tmp_path / "out.webm") == pytest.approx([0.48, 1.48, 2.28, 3.28], abs=0.025)


def test_a_gap_in_encoded_sound_stays(tmp_path):
    source = flashing_clip(tmp_path / "clip.mkv", codec="mp2", moved_s=lambda time_s: 0.3 * (time_s > 1.3))
    _, problems = annotate(source, tmp_path / "out.webm")
    assert problems == []
    assert beeps_s(tmp_path / "out.webm") == pytest.approx([0.48, 1.78, 2.78, 3.78], abs=0.005)


def test_sound_with_coarse_times_is_encoded_whole(tmp_path):
    """AVI counts the packets of WMA, each of 43 ms, and an AAC packet is half as long."""
    source = flashing_clip(tmp_path / "clip.avi", codec="wmav2", duration_s=3)
    _, problems = annotate(source, tmp_path / "out.mp4")
    assert problems == []
    assert beeps_s(tmp_path / "out.mp4") == pytest.approx(beeps_s(source), abs=0.005)
    assert audio_s(tmp_path / "out.mp4") == pytest.approx(audio_s(source), abs=0.05)


def test_sound_goes_on_when_its_channels_change(tmp_path):
    """A film on TV has more channels than the news before it."""
    pieces = [
        flashing_clip(tmp_path / f"{start_s}.ts", codec="ac3", layout=layout, start_s=start_s, duration_s=2)
        for start_s, layout in ((0, "mono"), (2, "5.1"), (4, "stereo"))
    ]
    source = tmp_path / "clip.ts"
    source.write_bytes(b"".join(piece.read_bytes() for piece in pieces))
    _, problems = annotate(source, tmp_path / "out.webm")
    assert problems == []
    assert beeps_s(tmp_path / "out.webm") == pytest.approx(flashes_s(source), abs=0.02)
    assert audio_s(tmp_path / "out.webm") == pytest.approx(6, abs=0.1)


def test_a_track_that_cannot_be_encoded_any_further_is_named_in_plain_words(tmp_path, monkeypatch):
    def failing(self: object, packet: object) -> None:
        raise ValueError("Invalid argument")

    monkeypatch.setattr("fer_stream.sinks.audio._EncodedTrack.write", failing)
    _, problems = annotate(make_clip(tmp_path / "clip.mp4"), tmp_path / "out.webm")
    assert problems == ["an audio track can't be saved beyond 0.0 s"]


def test_long_sound_is_kept_to_its_end_only_with_the_whole_picture(tmp_path):
    source = make_clip(tmp_path / "clip.mp4", video_s=1, audio_s=3)
    annotate(source, tmp_path / "whole.mp4")
    assert audio_packets(tmp_path / "whole.mp4") == audio_packets(source)

    with VideoSink(tmp_path / "stopped.mp4", make_info(path=source, time_base=Fraction(1, 25))) as sink:
        write_numbered(sink, [Fraction(index, 25) for index in range(15)])
    assert 0.5 < audio_packets(tmp_path / "stopped.mp4")[-1][0] < 0.6


def test_damaged_sound_is_reported_and_the_picture_is_saved(tmp_path):
    source = make_clip(tmp_path / "clip.mkv")
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        places = [(p.pos, p.size) for p in container.demux(audio=0) if p.size][20:60]
    noise = np.random.default_rng(1)
    for pos, size in places:
        data[pos + 10 : pos + size] = noise.integers(0, 256, size - 10, np.uint8).tobytes()
    source.write_bytes(data)
    times_s, problems = annotate(source, tmp_path / "out.webm")
    assert len(decoded(tmp_path / "out.webm")[0]) == len(times_s) == 50
    assert len(problems) == 1 and "damaged" in problems[0]
    with av.open(str(tmp_path / "out.webm")) as container:
        assert list(container.decode(audio=0))[-1].time > 1.9


def test_the_video_ends_with_the_stream_that_is_read(tmp_path):
    path = tmp_path / "two.ts"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("mpeg2video", rate=25) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for index in range(50):
            # The first stream ends after one picture, like a cover.
            for stream in streams[index > 0 :]:
                frame = av.VideoFrame.from_ndarray(numbered(index), "bgr24")
                frame.pts, frame.time_base = index, Fraction(1, 25)
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    with open_source(path) as source:
        times_s = [Fraction(frame.time_s).limit_denominator(90000) for frame in source]
    assert len(times_s) == 50
    assert goes_on_after(path, times_s[24])
    assert not goes_on_after(path, times_s[-1])


def test_a_video_that_only_repeats_its_picture_has_ended(tmp_path):
    path = write_repeats(tmp_path / "still.nut", 50, shown_again=range(30, 50))
    assert goes_on_after(path, Fraction(28, 25))
    assert not goes_on_after(path, Fraction(29, 25))


@pytest.mark.skipif(sys.platform == "win32", reason="there an open file can't be replaced")
def test_the_sound_is_that_of_the_file_that_is_read_even_if_it_is_replaced(tmp_path):
    source = make_clip(tmp_path / "clip.mp4", video_s=2.0, audio_s=2.0)
    with VideoSink(tmp_path / "out.mp4", make_info(path=source)) as sink:
        make_clip(tmp_path / "other.mp4", video_s=2.0, audio_s=0.5).replace(source)
        write_numbered(sink, [Fraction(index, 25) for index in range(50)])
    assert sink.problems == []
    assert audio_s(tmp_path / "out.mp4") > 1.9


def test_a_source_with_unreadable_sound_is_saved_without_sound(tmp_path):
    (tmp_path / "clip.mp4").write_text("no video")
    with VideoSink(tmp_path / "out.mp4", make_info(path=tmp_path / "clip.mp4")) as sink:
        write_numbered(sink, [Fraction(0), Fraction(1, 25)])
    assert len(decoded(tmp_path / "out.mp4")[0]) == 2
    assert len(sink.problems) == 1 and "clip.mp4" in sink.problems[0]
