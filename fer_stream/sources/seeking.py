"""Find the first frame of a part of a recording by reading packets, without decoding."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av.error
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from fer_stream.errors import NoFramesError
from fer_stream.sources.container import COUNTABLE_CODECS, may_be_joined, open_video
from fer_stream.sources.time_text import format_time, has_reached
from fer_stream.sources.timestamps import BreakFinder

# No codec shows a picture later than this many packets after it was decoded.
_REORDER_PACKETS = 32
# A recording that begins later than this, as transport streams do, says so when a part is past its end.
NOTED_S = 1.0


@dataclass(frozen=True)
class Place:
    """The place in a file at which a part begins.

    Attributes:
        pts: Timestamp of the part's first frame.
        index: Index of that frame in the recording, from 0.
        seek_timestamp: Timestamp of the keyframe that the frame depends on.
        position: Byte position of that keyframe in the file; None if the container does not say.
    """

    pts: int
    index: int
    seek_timestamp: int
    position: int | None


def find_start(
    path: Path, name: str, first: VideoFrame, start_s: float, duration_s: float | None
) -> Place | None:
    """Find the first frame at or after a time by reading packets without decoding them.

    Args:
        path: The video file.
        name: The name to use in messages.
        first: The recording's first frame.
        start_s: The time to find, in seconds, later than the first frame's.
        duration_s: The recording's length in seconds for the message, if known.

    Returns:
        The place; None if packets don't show it, or if timestamps restart before it.

    Raises:
        NoFramesError: The recording ends before that time.
    """
    container, stream = open_video(path, name)
    with container:
        time_base, first_pts = stream.time_base, first.pts
        if (
            time_base is None
            or first_pts is None
            or first.interlaced_frame  # a packet may hold half a frame
            or stream.codec_context.name not in COUNTABLE_CODECS
        ):
            return None
        packets = _packets_until(start_s, container, stream, time_base)
    if packets is None:
        return None

    # Packets before the first decodable frame can only be frames whose references are missing.
    shown = sorted(pts for pts in packets.pts if pts >= first_pts)
    index = bisect_left(shown, True, key=lambda pts: has_reached(float(pts * time_base), start_s))
    if index == len(shown):
        last_s = float(shown[-1] * time_base) if shown else 0.0
        first_s = float(first_pts * time_base)
        end_s = first_s + duration_s if duration_s else last_s
        raise past_the_end(name, first_s, last_s, end_s, start_s)
    before = [(timestamp, position) for pts, timestamp, position in packets.keyframes if pts <= shown[index]]
    if not before:
        return None
    return Place(shown[index], index, *before[-1])


@dataclass(frozen=True)
class _Packets:
    """The timestamps of a recording's packets, and the places of its keyframes.

    Attributes:
        pts: The presentation timestamp of each, in the order of decoding.
        keyframes: For each keyframe its presentation timestamp, the timestamp to seek to, and the position of
            its packet in the file, in bytes.
    """

    pts: Sequence[int]
    keyframes: Sequence[tuple[int, int, int | None]]


def _packets_until(
    start_s: float, container: InputContainer, stream: VideoStream, time_base: Fraction
) -> _Packets | None:
    """Read the packets up to a time. None if one has no timestamp, or if timestamps restart."""
    finder, can_break = BreakFinder(time_base, 1), may_be_joined(container)
    pts: list[int] = []
    keyframes: list[tuple[int, int, int | None]] = []
    packets_after_start = 0
    try:
        for packet in container.demux(stream):
            if packet.size == 0 or packet.is_discard:
                continue
            if packet.pts is None:
                return None
            timestamp = packet.pts if packet.dts is None else packet.dts
            finder.running_time(timestamp)
            if finder.breaks and can_break:
                return None
            pts.append(packet.pts)
            if packet.is_keyframe:
                keyframes.append((packet.pts, timestamp, packet.pos))
            # Nothing is shown before it is decoded, so from here on all frames are later than the start.
            packets_after_start += timestamp * time_base >= start_s
            if packets_after_start > _REORDER_PACKETS:
                break
    except av.error.FFmpegError:
        pass  # the packets before the damage still count
    return _Packets(pts, keyframes)


def past_the_end(name: str, first_s: float, last_s: float, end_s: float, start_s: float) -> NoFramesError:
    """Return the error for a part that begins after the last frame of its recording.

    Args:
        name: The name to use in messages.
        first_s: The time of the recording's first frame.
        last_s: The time at which its last frame begins.
        end_s: The time of its end.
        start_s: The start of the part.
    """
    if start_s < end_s:
        last = f"its last one begins at {format_time(last_s)}"
        return NoFramesError(f"{name} has no frame after {format_time(start_s)}: {last}; start earlier")
    length = f"is {format_time(end_s - first_s)} long"
    if first_s >= NOTED_S:
        length = f"begins at {format_time(first_s)} by its own clock and ends at {format_time(end_s)}"
    return NoFramesError(f"{name} {length}, so nothing is left from {format_time(start_s)}; start earlier")
