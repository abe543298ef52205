"""Unusual videos: each kind works or ends in a one-line error, and missing frames are reported."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.command import files_below
from helpers.videos import make_clip, pictures_of, set_display_matrix, times_of, write_video

PAL = Fraction(1, 25)
WEBM = {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8", "g": "12"}}


def clip(path: Path, count: int = 60, **settings) -> Path:
    return write_video(path, range(count), **{"time_base": PAL, **settings})


def cut_off(path: Path, share: float) -> Path:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def joined(path: Path, *parts: Path) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def damaged(path: Path, first: int = 13, last: int = 15) -> Path:
    """Overwrite some packets of a video."""
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for position, size in packets[first : last + 1]:
        data[position : position + size] = b"\xff" * size
    path.write_bytes(data)
    return path


def stating_hours(path: Path) -> Path:
    """Make a Matroska file state a length of ten hours."""
    data = path.read_bytes().replace(b"00:00:02.400", b"10:00:00.000")
    place = data.index(b"\x44\x89\x88") + 3  # the element Duration, a float64 of milliseconds
    path.write_bytes(data[:place] + struct.pack(">d", 36e6) + data[place + 8 :])
    return path


def stating_less(path: Path) -> Path:
    """Make every header of an MP4 state half its length."""
    data = bytearray(path.read_bytes())
    for box, offset in ((b"mvhd", 16), (b"mdhd", 16), (b"tkhd", 20), (b"elst", 8)):
        place = data.index(box) + 4 + offset
        value = int.from_bytes(data[place : place + 4], "big")
        data[place : place + 4] = (value // 2).to_bytes(4, "big")
    path.write_bytes(data)
    return path


def stating_half_a_gigabyte(path: Path, packet: int) -> Path:
    """Make an MP4 state that a packet takes 512 MiB."""
    data = bytearray(path.read_bytes())
    place = data.index(b"stsz") + 16 + 4 * packet
    data[place] = 0x20
    path.write_bytes(data)
    return path


def without_frames(path: Path) -> Path:
    """Write a Matroska file with an empty video track."""
    clip(path, 1)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"\x1f\x43\xb6\x75")])  # up to the first cluster
    return path


def only_sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000, layout="mono")
        for _ in range(20):
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            sound.sample_rate = 48000
            container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    return path


def turned(path: Path, quarters: int) -> Path:
    matrix = [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)][quarters]
    clip(path, 10, shown=lambda bgr: np.ascontiguousarray(np.rot90(bgr, quarters)))
    set_display_matrix(path, matrix)
    return path


@dataclass(frozen=True)
class Case:
    """A video, the number of its frames, and the text that the summary must contain."""

    make: Callable[[Path], Path]
    frames: int | range
    note: str | None = None
    size_wh: tuple[int, int] = (160, 96)
    options: tuple[str, ...] = ()


INTERLACED = {"flags": "+ildct+ilme", "x264-params": "interlaced=1:tff=1"}
WORKING = {
    "truncated .mp4": Case(lambda d: cut_off(clip(d / "a.mp4"), 0.7), range(10, 50), "missing"),
    "truncated .mkv": Case(lambda d: cut_off(clip(d / "a.mkv"), 0.7), range(10, 50), "missing"),
    "truncated .webm": Case(lambda d: cut_off(clip(d / "a.webm", **WEBM), 0.7), range(10, 50), "missing"),
    "truncated .avi": Case(
        lambda d: cut_off(clip(d / "a.avi", codec="mpeg4"), 0.7), range(10, 50), "missing"
    ),
    # A transport stream does not say how long it is: nobody can tell that it once was longer.
    "truncated .ts": Case(lambda d: cut_off(clip(d / "a.ts"), 0.7), range(10, 50)),
    "damaged in the middle, .mp4": Case(
        lambda d: damaged(clip(d / "a.mp4")), range(50, 58), "3 damaged packets were skipped"
    ),
    "a piece of the middle gone, .ts": Case(
        lambda d: damaged(clip(d / "a.ts"), 13, 25), range(30, 55), "in its middle hold no picture; about"
    ),
    "damaged first keyframe": Case(lambda d: damaged(clip(d / "a.mp4"), 0, 0), range(40, 60), "damaged"),
    "changing size": Case(
        lambda d: joined(d / "a.h264", clip(d / "1.h264", 8), clip(d / "2.h264", 8, size_wh=(320, 192))), 16
    ),
    "stating 10 hours": Case(
        lambda d: stating_hours(clip(d / "a.mkv")),
        60, "says that it ends at 10:00:00, but its video ends at 0:02",
    ),
    "a packet of 512 MiB": Case(
        lambda d: stating_half_a_gigabyte(clip(d / "a.mp4"), 30), range(25, 31), "states an impossible size"
    ),
    "stating half": Case(lambda d: stating_less(clip(d / "a.mp4")), range(30, 61)),
    "one frame": Case(lambda d: clip(d / "a.mp4", 1), 1),
    "no timestamps": Case(lambda d: clip(d / "a.h264"), 60),
    "10-bit": Case(lambda d: clip(d / "a.mkv", 10, pix_fmt="yuv420p10le"), 10),
    "interlaced": Case(lambda d: clip(d / "a.mp4", 20, options=INTERLACED), 20),
    "2x2": Case(
        lambda d: clip(d / "a.mkv", 5, codec="ffv1", shown=lambda _: np.full((2, 2, 3), 90, np.uint8)),
        5, size_wh=(2, 2),
    ),
    "641x359": Case(
        lambda d: clip(d / "a.mp4", 5, size_wh=(641, 359), pix_fmt="yuv444p"), 5, size_wh=(642, 360)
    ),
    "8K": Case(
        lambda d: clip(d / "a.mkv", 1, size_wh=(7680, 4320), codec="mjpeg", pix_fmt="yuvj420p"),
        1, size_wh=(7680, 4320), options=("--min-face", "2000"),
    ),
    "1 frame a second": Case(lambda d: clip(d / "a.mp4", 6, time_base=Fraction(1)), 6),
    "240 frames a second": Case(lambda d: clip(d / "a.mp4", 60, time_base=Fraction(1, 240)), 60),
    **{
        f"turned by {90 * quarters}": Case(lambda d, quarters=quarters: turned(d / "a.mp4", quarters), 10)
        for quarters in (1, 2, 3)
    },
    "sound longer than the picture": Case(lambda d: make_clip(d / "a.mp4", video_s=1, audio_s=3), 25),
    "a picture that moves (.gif)": Case(lambda d: clip(d / "a.gif", 6, codec="gif", pix_fmt="rgb8"), 6),
}  # fmt: skip


@pytest.mark.parametrize("name", WORKING)
def test_it_works_and_says_what_is_missing(fer, loaded, tmp_path, name):
    case = WORKING[name]
    video = case.make(tmp_path)
    said = fer(video, "--save", "o.mp4", "--data", "o.jsonl", *case.options)
    assert said.code == 0, said.err
    rows = [json.loads(line) for line in Path("o.jsonl").read_text(encoding="utf-8").splitlines()]
    frames = [row["frame"] for row in rows]
    assert frames == list(range(len(frames))), "every frame once, and none has a face"
    assert len(frames) in ([case.frames] if isinstance(case.frames, int) else case.frames)
    times_s = [row["time_s"] for row in rows]
    assert times_s == sorted(set(times_s))
    saved = pictures_of(Path("o.mp4"))
    assert len(saved) == len(times_of(Path("o.mp4"))) == len(frames)
    assert {picture.shape[1::-1] for picture in saved} == {case.size_wh}
    notes = [line for line in said.err.splitlines() if line.startswith("note ")]
    if case.note is None:
        assert not notes
    else:
        assert case.note in " ".join(notes) and str(video) in notes[0]


REFUSED = {
    "zero bytes": (lambda d: cut_off(clip(d / "a.mp4", 1), 0), "is empty"),
    "no video stream": (lambda d: only_sound(d / "a.mp4"), "holds no video, only audio"),
    "no frames": (lambda d: without_frames(d / "a.mkv"), "can't be read as a video"),
    "without its index": (
        lambda d: joined(d / "a.mov", cut_off(clip(d / "b.mov"), 0.9)), "can't be read as a video"
    ),
    "nothing but damage": (lambda d: damaged(clip(d / "a.mp4"), 0, 60), "none of its video can be decoded"),
    "a billion pixels": (lambda d: claiming(d / "a.avi", 32000, 32000), "can be decoded"),
}  # fmt: skip


def claiming(path: Path, width: int, height: int) -> Path:
    """Write an AVI whose header claims another size than its only frame, a raw one, has."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "bgr24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 64, 3), np.uint8), "bgr24")))
    old, new = struct.pack("<ii", 64, 32), struct.pack("<ii", width, height)
    data = path.read_bytes()
    assert old in data
    path.write_bytes(
        data.replace(old, new).replace(struct.pack("<ii", 64, -32), struct.pack("<ii", width, -height))
    )
    return path


@pytest.mark.parametrize("name", REFUSED)
def test_it_ends_in_its_line(fer, loaded, tmp_path, name):
    make, says = REFUSED[name]
    said = fer(make(tmp_path), "--save", "o.mp4", "--data", "o.csv")
    assert said.code == 3
    assert says in said.line
    assert files_below(Path.cwd()) == set()


def test_only_what_is_missing_of_a_part_is_said(fer, loaded, tmp_path):
    video = cut_off(clip(tmp_path / "a.mp4"), 0.7)
    assert "note" not in fer(video, "--end", "0.4").err
    assert "about 5 frames are missing" not in fer(video, "--end", "0.4").err
    assert "missing" in fer(video, "--end", "2").err


def test_names_reach_no_shell_and_no_pattern(fer, loaded, tmp_path, faults):
    """Names with characters that are special to a shell, FFmpeg, Python's formatting or a terminal work."""
    source = clip(tmp_path / "source.mp4", 3)
    names = [
        "$(touch x)",
        "`touch x`",
        "a;touch x",
        "a|touch x",
        "a&&touch x",
        "%d",
        "%03d{0}",
        "a'b\"c",
        "x y",
    ]
    for name in names:
        faults.tried += 1
        shutil.copy(source, f"{name}.mp4")
        said = fer(
            f"{name}.mp4", "--save", f"{name}.mkv", "--data", f"{name}.csv", "--chart", f"{name}.png",
            "--stills", f"{name} stills", "--stills-every", "0.1", "--crops", f"{name} crops",
        )  # fmt: skip
        assert said.code == 0 and "Traceback" not in said.err, said.err
        assert len(times_of(Path(f"{name}.mkv"))) == 3
    assert not Path("x").exists()
    outputs = {
        f"{name}{suffix}"
        for name in names
        for suffix in (".mp4", ".mkv", ".csv", ".png", " stills", " crops")
    }
    assert {path.name for path in Path.cwd().iterdir()} == outputs  # nothing beside what was asked for
