"""Write videos whose pictures show their index, and read videos back."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.bitstream import BitStreamFilterContext

NTSC = Fraction(1001, 24000)


def picture(index: int, size_wh: tuple[int, int] = (160, 96)) -> np.ndarray:
    """Return a picture, uint8 (H, W, 3) BGR, that shows its index (0 to 255) and which way is up."""
    width, height = size_wh
    bgr = np.full((height, width, 3), 60, np.uint8)
    for bit in range(8):
        bgr[: height // 2, bit * width // 8 : (bit + 1) * width // 8] = 255 * (index >> bit & 1)
    bgr[height * 3 // 4 :, : width // 2] = 200
    return bgr


def add_noise(container: av.container.OutputContainer, frames: int) -> None:
    """Add a stream of noise, which compresses badly, at 20 frames per second."""
    stream = container.add_stream("libx264", rate=20, options={"g": "20", "bf": "0"})
    stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
    for index in range(frames):
        noise = np.random.default_rng(index).integers(0, 255, (96, 128, 3), np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="bgr24")))
    container.mux(stream.encode())


def index_in(bgr: np.ndarray) -> int:
    """Return the index that a picture shows. Fail if the picture is not upright."""
    height, width = bgr.shape[:2]
    low = bgr[height * 7 // 8, [width // 4, width * 3 // 4]].mean(1)
    assert low[0] > 150 > 100 > low[1], f"the picture is turned or mirrored: {low}"
    bits = [bgr[height // 4, (2 * bit + 1) * width // 16].mean() > 127 for bit in range(8)]
    return sum(bool(is_set) << bit for bit, is_set in enumerate(bits))


def write_video(
    path: Path,
    ticks: Sequence[int],
    *,
    time_base: Fraction = NTSC,
    size_wh: tuple[int, int] = (160, 96),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    shown: Callable[[np.ndarray], np.ndarray] = lambda bgr: bgr,
    pixel_aspect: Fraction | None = None,
) -> Path:
    """Write pictures 0, 1, 2, ... at the given times, in ticks of the time base."""
    if options is None:
        options = {"g": "12", "bf": "2"} if codec == "libx264" else {}
    muxing = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=muxing) as container:
        stream = container.add_stream(codec, rate=round(1 / time_base), options=options)
        coded = shown(picture(0, size_wh))
        stream.height, stream.width = coded.shape[:2]
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = time_base
        if pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        for index, tick in enumerate(ticks):
            bgr = np.ascontiguousarray(shown(picture(index, size_wh)))
            frame = av.VideoFrame.from_ndarray(bgr, format="bgr24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = tick, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_repeats(path: Path, frames: int, shown_again: Container[int]) -> Path:
    """Write pictures 0, 1, 2, ... to a NUT file, with empty packets for those that repeat the one before."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuvj420p"
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(index), format="bgr24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            for packet in stream.encode(frame):
                empty = av.Packet()
                empty.pts, empty.dts, empty.time_base = packet.pts, packet.dts, packet.time_base
                empty.stream = stream
                container.mux(empty if index in shown_again else packet)
    return path


def copy_to_avi(path: Path, chunks_per_s: int) -> Path:
    """Copy the H.264 of an MP4 to an AVI. Its chunks between the frames are empty."""
    avi = path.with_suffix(".avi")
    with opened(path) as source, av.open(str(avi), "w") as output:
        given = source.streams.video[0]
        copied = output.add_stream_from_template(given)
        copied.time_base = Fraction(1, chunks_per_s)
        start_codes = BitStreamFilterContext("h264_mp4toannexb", given)
        for packet in source.demux(given):
            for ready in start_codes.filter(packet if packet.size else None):
                ready.stream = copied
                output.mux(ready)
    return avi


def set_display_matrix(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Set the rotation in the track header of an MP4, as a phone does."""
    a, b, c, d = (value << 16 for value in matrix)
    data = path.read_bytes()
    identity = np.array([1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30], ">i4").tobytes()
    turned = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], ">i4").tobytes()
    track_header = data.index(b"tkhd")
    path.write_bytes(data[:track_header] + data[track_header:].replace(identity, turned, 1))


def numbered(index: int, size_wh: tuple[int, int] = (160, 96)) -> np.ndarray:
    """Return a picture that shows its index as eight dark or bright stripes, the lowest bit first."""
    width, height = size_wh
    bits = np.array([(index >> bit & 1) * 200 + 25 for bit in range(8)], np.uint8)
    return np.repeat(np.repeat(bits, width // 8)[None, :, None], height, 0).repeat(3, 2)


def number_of(image: np.ndarray) -> int:
    """Return the index that the stripes of a picture show."""
    stripes = image[:, :, 1].mean(0).reshape(8, -1).mean(1) > 128
    return int(sum(1 << bit for bit in range(8) if stripes[bit]))


def make_clip(
    path: Path, *, codec: str = "aac", video_s: float = 2.0, audio_s: float = 2.0, start_s: int = 0
) -> Path:
    """Make a small recording with a tone."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 160, 96, "yuv420p"
        audio = container.add_stream(codec, rate=48000, layout="mono")
        packets = []
        for index in range(round(video_s * 25)):
            frame = av.VideoFrame.from_ndarray(numbered(index), "bgr24")
            frame.pts, frame.time_base = index + start_s * 25, Fraction(1, 25)
            packets += video.encode(frame)
        packets += video.encode(None)
        samples = np.arange(round(audio_s * 48000))
        tone = (8000 * np.sin(samples * 2 * np.pi * 440 / 48000)).astype(np.int16)
        for begin in range(0, len(tone), 1024):
            sound = av.AudioFrame.from_ndarray(tone[None, begin : begin + 1024], "s16", "mono")
            sound.sample_rate, sound.pts, sound.time_base = 48000, begin + start_s * 48000, Fraction(1, 48000)
            packets += audio.encode(sound)
        packets += audio.encode(None)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


def opened(path: Path) -> av.container.InputContainer:
    return av.open(f"file:{path}")  # otherwise FFmpeg takes a name with a colon for a protocol


def times_of(path: Path) -> list[Fraction]:
    """Return the times of all frames in order, without decoding."""
    with opened(path) as container:
        packets = container.demux(video=0)
        return sorted(packet.pts * packet.time_base for packet in packets if packet.pts is not None)


def pictures_of(path: Path, start: int = 0, end: int | None = None) -> list[np.ndarray]:
    """Return decoded pictures, uint8 (H, W, 3) BGR."""
    with opened(path) as container:
        frames = itertools.islice(container.decode(video=0), start, end)
        return [frame.to_ndarray(format="bgr24") for frame in frames]


def audio_s(path: Path) -> float:
    """Return the length of a video's sound."""
    with opened(path) as container:
        return sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))


def psnr_db(first: np.ndarray, second: np.ndarray) -> float:
    """Return how alike two pictures are: above 33 dB, the eye sees no difference."""
    return 10 * np.log10(255**2 / max(float(np.mean((first.astype(float) - second) ** 2)), 1e-9))
