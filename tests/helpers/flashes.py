"""Write recordings that flash and beep at the same time, and find the flashes and beeps of a video."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE = 48000


def flashing_clip(
    path: Path,
    *,
    codec: str,
    layout: str = "mono",
    start_s: int = 0,
    duration_s: int = 4,
    packet_samples: int = 1152,
    moved_s: Callable[[float], float] = lambda time_s: 0.0,
) -> Path:
    """Make a recording that flashes and beeps for 0.2 s in the middle of each second.

    Args:
        path: The recording.
        codec: Codec of the sound.
        layout: Its channels.
        start_s: The time at which it starts.
        duration_s: Its length.
        packet_samples: Samples in a packet, if the codec leaves the choice.
        moved_s: Gets the true time of a packet of sound. Returns how much later it is stored.
    """
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream(codec, rate=RATE, layout=layout)
        audio.bit_rate = 128_000  # WMA needs one
        packets = []
        for index in range(duration_s * 25):
            grey = 255 if 12 <= index % 25 < 17 else 0
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), grey, np.uint8), "bgr24")
            frame.pts, frame.time_base = start_s * 25 + index, Fraction(1, 25)
            packets += video.encode(frame)
        packets += video.encode(None)
        samples = np.arange(duration_s * RATE)
        is_loud = (samples / RATE % 1 >= 0.48) & (samples / RATE % 1 < 0.68)
        tone = (20000 * np.sin(samples * 2 * np.pi * 1000 / RATE) * is_loud).astype(np.int16)
        for begin in range(0, len(tone), packet_samples):
            sound = av.AudioFrame.from_ndarray(tone[None, begin : begin + packet_samples], "s16", "mono")
            sound.sample_rate, sound.pts, sound.time_base = RATE, start_s * RATE + begin, Fraction(1, RATE)
            packets += audio.encode(sound)
        packets += audio.encode(None)
        packets.sort(key=lambda packet: packet.dts * packet.time_base)
        last: int | None = None
        for packet in packets:
            if packet.stream is audio:
                packet.pts += round(moved_s(float(packet.pts * packet.time_base)) / packet.time_base)
                # Muxers refuse a step back, so equal times come instead.
                packet.pts = packet.dts = packet.pts if last is None else max(packet.pts, last)
                last = packet.pts
            container.mux(packet)
    return path


def flashes_s(path: Path) -> list[float]:
    """Return the times in seconds at which the picture turns bright."""
    with av.open(str(path)) as container:
        frames = [(frame.time, frame.to_ndarray(format="gray").mean()) for frame in container.decode(video=0)]
    is_bright = np.array([grey > 128 for _, grey in frames])
    return [frames[index][0] for index in np.flatnonzero(np.diff(is_bright, prepend=False) & is_bright)]


def beeps_s(path: Path) -> list[float]:
    """Return the times in seconds at which the sound turns loud, by the timestamps of its frames."""
    times_s: list[float] = []
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            sound = frame.to_ndarray().astype(float)
            mono = sound[0] if frame.format.is_planar else sound.reshape(frame.samples, -1)[:, 0]
            loudest = np.iinfo(frame.to_ndarray().dtype).max if frame.format.name.startswith("s") else 1
            times_s += [frame.time + i / frame.sample_rate for i in np.flatnonzero(abs(mono) > loudest * 0.2)]
    loud_s = np.array(times_s)
    return [float(time_s) for time_s in loud_s[np.diff(loud_s, prepend=-1.0) > 0.3]]
