"""Write an annotated video, and read back its pictures, times and sound."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from fer_stream.sinks import VideoSink
from fer_stream.types import AnalyzedFrame, Frame
from helpers.contexts import make_info
from helpers.videos import numbered

EXTENSIONS = (".mp4", ".mkv", ".webm")


NTSC = Fraction(24000, 1001)


# Matroska and WebM count in milliseconds.
TOLERANCE_S = {".mp4": 0, ".mkv": Fraction(1, 2000), ".webm": Fraction(1, 2000)}


def analyzed(image: np.ndarray, index: int, time_s: float) -> AnalyzedFrame:
    return AnalyzedFrame(Frame(image, index, time_s), ())


def write_numbered(sink: VideoSink, times_s: list[Fraction], size_wh: tuple[int, int] = (160, 96)) -> None:
    for index, time_s in enumerate(times_s):
        image = numbered(index, size_wh)
        sink.write(analyzed(image, index, float(time_s)), image)


def decoded(path: Path) -> tuple[list[np.ndarray], list[Fraction]]:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        times_s = [frame.pts * frame.time_base for frame in frames]
        # Older PyAV converts by BT.601 unless the colour space is given.
        bgr = {"format": "bgr24", "src_colorspace": Colorspace.ITU709, "src_color_range": ColorRange.MPEG}
        return [frame.reformat(**bgr).to_ndarray() for frame in frames], times_s


def audio_packets(path: Path) -> list[tuple[Fraction, int]]:
    with av.open(str(path)) as container:
        return [
            (packet.pts * packet.time_base, packet.size) for packet in container.demux(audio=0) if packet.size
        ]


def annotate(source: Path, output: Path, start_s: float = 0.0, end_s: float | None = None, **fields: object):
    """Save a recording without drawing on it. Return the times of the frames read, and the problems."""
    times_s = []
    with av.open(str(source)) as container:
        stream = container.streams.video[0]
        info = make_info(
            path=source,
            frame_rate=stream.average_rate,
            time_base=stream.time_base,
            start_s=start_s,
            end_s=end_s,
            **fields,
        )
        with VideoSink(output, info) as sink:
            for index, frame in enumerate(container.decode(stream)):
                time_s = frame.pts * frame.time_base
                if end_s is not None and time_s >= end_s:
                    break
                if time_s >= start_s:
                    image = frame.to_ndarray(format="bgr24")
                    times_s.append(time_s)
                    sink.write(analyzed(image, index, float(time_s)), image)
    return times_s, sink.problems
