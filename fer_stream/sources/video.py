"""Recorded video, decoded with PyAV: every frame once, in order, at its own presentation time."""

from __future__ import annotations

import contextlib
import errno
import math
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, cast

import av
import av.error
import cv2
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from fer_stream.errors import NoFramesError, SourceError, UsageError
from fer_stream.sources.base import Source, SourceInfo, SourceKind
from fer_stream.sources.losses import Losses
from fer_stream.sources.times import format_time, parse_time
from fer_stream.types import Frame

# Codecs whose every packet is one picture that is shown: only their packets can be counted in
# place of frames. (A packet of VP8 may be hidden, one of MPEG-4 empty, two of MPEG-2 one frame.)
COUNTABLE_CODECS = frozenset(
    {"h264", "hevc", "vp9", "libvpx-vp9", "av1", "libdav1d", "mjpeg", "prores", "png"}
)

# No codec shows a picture later than this many packets after it was decoded.
_REORDER_PACKETS = 32

# Without a stated rate FFmpeg may take the timestamps' resolution for one, such as 1000 a second.
_HIGHEST_RATE = 300

_FALLBACK_RATE = Fraction(25)  # what FFmpeg assumes of a stream that states no rate

# The containers that are opened; FFmpeg knows hundreds. Above all none that names other files or
# addresses to read (playlists, session descriptions), and none of forgotten games, where nobody looks
# for faults any more. The pipes are single pictures.
_CONTAINERS = (
    *("mov", "matroska", "webm", "avi", "mpegts", "mpeg", "mpegvideo", "h264", "hevc", "vvc", "av1", "obu"),
    *("ivf", "m4v", "h263", "flv", "live_flv", "asf", "asf_o", "ogg", "mxf", "gxf", "dv", "nut", "rm", "wtv"),
    *("mjpeg", "mpjpeg", "smjpeg", "vc1", "dirac", "cavsvideo", "yuv4mpegpipe", "gif", "apng", "webp_anim"),
    *("jpegxl_anim", "webp_pipe", "png_pipe", "jpeg_pipe", "bmp_pipe", "tiff_pipe", "jpegxl_pipe"),
    # Sound only: so that a song is told from a damaged file.
    *("mp3", "aac", "flac", "wav", "aiff", "caf", "amr", "ac3", "eac3", "w64"),
)
_OPENING = {
    "format_whitelist": ",".join(_CONTAINERS),
    "protocol_whitelist": "file",
    # Twice what 8K has. A damaged or hostile header may state a picture that no memory holds.
    "max_pixels": str(2**26),
}

# What damage or an odd stream makes PyAV raise, in video and sound, read and written.
MEDIA_ERRORS = (av.error.FFmpegError, ValueError, RuntimeError, NotImplementedError)


class VideoSource(Source):
    """Reads a video file.

    `time_s` is the raw presentation time, no offset subtracted, and rises strictly: a timestamp
    that does not is put one tick behind the last. `index` counts from the recording's first frame
    wherever reading starts.
    """

    def __init__(
        self, path: Path, *, name: str, start_s: float = 0.0, end_s: float | None = None, mirror: bool
    ) -> None:
        """Opens a video file and decodes the first frame that is asked for.

        Args:
            path: The file.
            name: As shown.
            start_s: First moment wanted, presentation time.
            end_s: First moment no longer wanted; None for the end of the file.
            mirror: Flip every frame horizontally.

        Raises:
            SourceError: It is no video, or has no frame between start and end.
        """
        super().__init__(mirror=mirror)
        self._path, self._name = path, name
        self._end_s = end_s
        self._damaged_packets = 0
        self._read_error, self._unreachable = "", False
        self._reformatter = VideoReformatter()
        self._losses: Losses | None = None
        self._reached_end = False
        self._open()
        try:
            first = next(self._decoded, None)
            if first is None:
                raise SourceError(f"{name}: none of its video can be decoded; {_DAMAGED}")
            self._coded_size_wh = first.width, first.height
            self._display_matrix = _display_matrix(first)
            self._has_timestamps = _has_timestamps(self._container, self._stream, first)
            self._clock = _Clock(self._stream, has_timestamps=self._has_timestamps)
            self.info = self._describe(start_s)
            # Decoded now, so that an empty part shows at once, and handed out by the first read.
            self._first: tuple[VideoFrame, float] | None = None
            first, self._index, time_s = self._go_to(start_s, first)
            self._first = first, time_s
            self._losses = Losses(name, self.info.frame_rate, _stated_end_s(self._container, self._stream))
            self._losses.add(time_s, self._duration_s(first))
            if end_s is not None and time_s >= end_s:
                raise NoFramesError(
                    f"{name} has no frame between {format_time(start_s)} and {format_time(end_s)}; "
                    "widen the part"
                )
        except BaseException:
            self._container.close()
            raise

    def _open(self) -> None:
        """Opens the file at its beginning, again where it is open already."""
        self._container, self._stream = _open_video(self._path, self._name)
        # Frames of several threads at once; without it a decoder works on one core.
        self._stream.thread_type = "AUTO"
        self._stream.codec_context.options = {"max_pixels": _OPENING["max_pixels"]}
        self._decoded = self._decode()

    def _describe(self, start_s: float) -> SourceInfo:
        stream = self._stream
        rate = _frame_rate(stream)
        time_base = stream.time_base
        duration_s: float | None = None
        if stream.duration and stream.duration > 0 and time_base:
            duration_s = float(stream.duration * time_base)
        elif self._container.duration and self._container.duration > 0:
            duration_s = self._container.duration / 1e6  # AV_TIME_BASE
        is_cut = start_s > 0 or self._end_s is not None
        frame_count = stream.frames or None
        if is_cut or frame_count is None:
            frame_count = None
            if rate and duration_s:
                first_s = float((stream.start_time or 0) * time_base) if time_base else 0.0
                last_s = first_s + duration_s
                part_s = min(last_s, self._end_s or last_s) - max(first_s, start_s)
                frame_count = max(1, round(part_s * rate))
        width, height = self._coded_size_wh
        if _swaps_axes(self._display_matrix):
            width, height = height, width
        return SourceInfo(
            name=self._name,
            kind=SourceKind.VIDEO,
            path=self._path,
            size_wh=(width, height),
            frame_rate=rate,
            time_base=time_base,
            duration_s=duration_s,
            frame_count=frame_count,
            start_s=start_s,
            end_s=self._end_s,
        )

    def _go_to(self, start_s: float, first: VideoFrame) -> tuple[VideoFrame, int, float]:
        """Returns the first frame at or after the start, its index and its time.

        Counting packets gives the index without decoding what comes before, and the keyframe to
        seek to. What was found there is believed only if it is the very frame that the packets
        promised; a file that can't be counted or sought is decoded from its beginning.
        """
        time_s = self._clock.time_s(first, 0)
        if time_s >= start_s:
            return first, 0, time_s
        place = None
        if self._has_timestamps:
            place = _find_start(self._path, self._name, first, start_s, self.info.duration_s)
        if place is not None and self._seek(place.seek_timestamp):
            for frame in self._decoded:
                if frame.pts is None or frame.pts >= place.pts:
                    if frame.pts == place.pts:
                        return frame, place.index, self._clock.restart(frame)
                    break
        self._container.close()
        self._open()
        self._damaged_packets, self._read_error, self._unreachable = 0, "", False
        self._clock = _Clock(self._stream, has_timestamps=self._has_timestamps)
        for index, frame in enumerate(self._decoded):
            time_s = self._clock.time_s(frame, index)
            if time_s >= start_s:
                return frame, index, time_s
        raise _past_the_end(self._name, self.info.duration_s or time_s, start_s)

    def _seek(self, timestamp: int) -> bool:
        try:
            self._container.seek(timestamp, stream=self._stream, backward=True, any_frame=False)
        except av.error.FFmpegError:
            return False
        self._decoded = self._decode()
        self._damaged_packets, self._read_error, self._unreachable = 0, "", False
        return True

    def _decode(self) -> Iterator[VideoFrame]:
        """Yields frames from where the container stands; counts what can't be decoded."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError as error:
                # What the file holds up to here is read; the rest is not there, or can't be reached.
                self._read_error = error.strerror or type(error).__name__
                self._unreachable = error.errno in _UNREACHABLE
                packet = None
            try:
                frames = self._stream.decode(packet)
            except av.error.EOFError:  # flushed before: demux ends with a flushing packet
                return
            except av.error.FFmpegError:
                self._damaged_packets += 1
                frames = []
            yield from frames
            if packet is None:
                return

    def _read(self) -> Frame | None:
        step, self._first = self._first or self._step(), None
        if step is None:
            if self._unreachable:
                reason, self._read_error, self._unreachable = self._read_error, "", False
                raise SourceError(f"{self._name} can't be read any further: {reason}; is its drive there?")
            self._note_problems()
            if self._losses is not None:
                self.problems += self._losses.problems(self._end_s if self._reached_end else -math.inf)
                self._losses = None
            return None
        decoded, time_s = step
        frame = self._frame(self._to_bgr(decoded), self._index, time_s, self._name)
        self._index += 1
        return frame

    def _step(self) -> tuple[VideoFrame, float] | None:
        """Decodes the next frame of the part; None at its end."""
        decoded = next(self._decoded, None)
        if decoded is None:
            self._reached_end = True
            return None
        time_s = self._clock.time_s(decoded, self._index)
        if self._end_s is not None and time_s >= self._end_s:
            return None
        if self._losses is not None:
            self._losses.add(time_s, self._duration_s(decoded))
        return decoded, time_s

    def _duration_s(self, frame: VideoFrame) -> float:
        """Returns how long a frame is shown, as far as it says so; else 0."""
        if not (self._has_timestamps and frame.duration and frame.time_base):
            return 0.0
        return float(frame.duration * frame.time_base)

    def _to_bgr(self, frame: VideoFrame) -> np.ndarray:
        """Returns the picture, uint8 (H, W, 3), upright, of the first frame's size.

        Colours are FFmpeg's default reading: matrix and range as the frame is tagged, BT.601 and
        limited range where it is not, whatever the size. Interlaced frames stay woven, alpha is
        dropped. A size that changes midway is scaled, as boxes and saved video need one size.
        """
        width, height = self._coded_size_wh
        # One reformatter for all frames: it keeps its tables. to_ndarray(format=...) makes new ones.
        try:
            picture = self._reformatter.reformat(frame, width=width, height=height, format="bgr24")
        except (av.error.FFmpegError, ValueError) as error:
            raise SourceError(
                f"{self._name}: pixels of the format {frame.format.name} can't be read; convert it to H.264"
            ) from error
        return _upright(picture.to_ndarray(), self._display_matrix)

    def _note_problems(self) -> None:
        if self._damaged_packets:
            packets = "packet was" if self._damaged_packets == 1 else "packets were"
            self.problems.append(f"{self._name}: {self._damaged_packets} damaged {packets} skipped")
        if self._read_error:
            self.problems.append(f"{self._name} can't be read to its end: {self._read_error}")
        self._damaged_packets, self._read_error = 0, ""

    def _release(self) -> None:
        self._note_problems()
        self._first = None
        self._container.close()


# Errors of the system, such as a drive that went away; a file that ends too soon gives others.
_UNREACHABLE = (errno.EIO, errno.ENXIO, errno.ENODEV, errno.EACCES, getattr(errno, "ESTALE", errno.EIO))
_DAMAGED = "it is damaged, incomplete, or no video"


def _open_video(path: Path, name: str) -> tuple[InputContainer, VideoStream]:
    if not path.is_file():
        raise SourceError(f"{name} is not a file")
    try:
        if path.stat().st_size == 0:
            raise SourceError(f"{name} is empty (zero bytes)")
        container = open_container(path)
    except PermissionError as error:
        raise SourceError(f"{name} can't be read: {error.strerror}") from error
    except (av.error.FFmpegError, OSError) as error:
        if _names_other_files(path):
            raise SourceError(
                f"{name} is a list of other files or addresses; give the video itself"
            ) from error
        raise SourceError(f"{name} can't be read as a video: {_DAMAGED}") from error
    try:
        video = pick_video_stream(container)
        if video is None:
            raise SourceError(f"{name} holds no video, only {_list_kinds(container)}")
        if video.codec_context is None:
            raise SourceError(f"{name} is coded in a way that FFmpeg can't decode; convert it to H.264")
    except BaseException:
        container.close()
        raise
    return container, video


def open_container(file: Path | BinaryIO) -> InputContainer:
    """Opens a recording, and nothing that its content may name.

    Args:
        file: Its path, or itself, open for reading.

    Raises:
        FFmpegError: It is none, or of a kind that is not read.
        OSError: It can't be read.
    """
    # "file:" because FFmpeg takes what stands before a colon in a name for a protocol, and
    # "replace" because metadata in another encoding is no reason to refuse a video.
    source = f"file:{file}" if isinstance(file, Path) else file
    return av.open(source, "r", options=_OPENING, metadata_errors="replace")


def _names_other_files(path: Path) -> bool:
    """Returns whether a file is a playlist, a session description or a script of FFmpeg's."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        start = file.read(1024).removeprefix(b"\xef\xbb\xbf").lstrip()
        return start.startswith((b"#EXTM3U", b"ffconcat", b"v=0", b"[playlist]")) or b"<MPD" in start
    return False


def pick_video_stream(container: InputContainer) -> VideoStream | None:
    """Returns the video stream that is read: FFmpeg's choice, but never a cover; None if there is none."""
    videos = [stream for stream in container.streams.video if not _is_cover(stream)]
    best = container.streams.best("video")
    if isinstance(best, VideoStream) and best in videos:
        return best
    return videos[0] if videos else None


def _is_cover(stream: VideoStream) -> bool:
    """Returns whether a stream is the picture that goes with a song: to FFmpeg that is video too."""
    # PyAV 14.0 does not tell; there it is read as a video of one frame.
    disposition = getattr(stream, "disposition", None)
    return disposition is not None and bool(disposition.value & 0x400)  # AV_DISPOSITION_ATTACHED_PIC


def _frame_rate(stream: VideoStream) -> Fraction | None:
    """Returns the average rate as far as the file tells, else None."""
    rates = [
        rate for rate in (stream.average_rate, stream.guessed_rate) if rate and 0 < rate <= _HIGHEST_RATE
    ]
    if not rates:
        return None
    average, guessed = rates[0], rates[-1]
    # A last frame cut short puts the average a little beside the rate that it was recorded at.
    return guessed if abs(guessed / average - 1) < Fraction(5, 1000) else average


# Containers that state how long their video is; of others FFmpeg guesses, or measures what is there.
_STATING_CONTAINERS = ("mov", "matroska", "avi", "asf")


def _stated_end_s(container: InputContainer, stream: VideoStream) -> float | None:
    """Returns where a file says that its video ends, presentation time; None where it says nothing."""
    kind = container.format.name.partition(",")[0]
    if kind not in _STATING_CONTAINERS:
        return None
    start_s = float((stream.start_time or 0) * stream.time_base) if stream.time_base else 0.0
    if kind == "avi" and stream.frames and stream.average_rate:
        return start_s + float(stream.frames / stream.average_rate)  # its duration is that of the index
    if stream.duration and stream.duration > 0 and stream.time_base:
        return start_s + float(stream.duration * stream.time_base)
    if tag := stream.metadata.get("DURATION"):  # Matroska, of each stream: the time of its end
        with contextlib.suppress(UsageError):
            return parse_time(tag)
    if len(container.streams) == 1 and container.duration and container.duration > 0:
        return start_s + container.duration / av.time_base
    return None


def _list_kinds(container: InputContainer) -> str:
    kinds = sorted({stream.type for stream in container.streams if stream.type != "video"})
    return " and ".join(kinds) or "a picture"


def _has_timestamps(container: InputContainer, stream: VideoStream, first: VideoFrame) -> bool:
    """Returns whether frames carry presentation times, once the first has been decoded."""
    # AVI stores none; what FFmpeg makes up is out of order where the codec reorders frames.
    is_guessed = container.format.name == "avi" and stream.codec_context.has_b_frames
    return first.pts is not None and not is_guessed


class _Clock:
    """Turns timestamps into times that rise strictly."""

    def __init__(self, stream: VideoStream, *, has_timestamps: bool) -> None:
        self._rate = _frame_rate(stream) or _FALLBACK_RATE
        self._time_base = stream.time_base if has_timestamps else None
        self._last_pts: int | None = None

    def time_s(self, frame: VideoFrame, index: int) -> float:
        """Returns a frame's time; frames come in order."""
        if self._time_base is None:
            return float(index / self._rate)
        pts = frame.pts
        if self._last_pts is not None:
            if pts is None:
                pts = self._last_pts + max(1, round(1 / (self._rate * self._time_base)))
            pts = max(pts, self._last_pts + 1)
        assert pts is not None  # the first frame has one: has_timestamps
        self._last_pts = pts
        return float(pts * self._time_base)

    def restart(self, frame: VideoFrame) -> float:
        """Returns the time of a frame with a timestamp, whatever came before it."""
        self._last_pts = None
        return self.time_s(frame, 0)


@dataclass(frozen=True)
class _Place:
    """Where a part of a video begins.

    Attributes:
        pts: Timestamp of its first frame.
        index: Position of that frame in the recording.
        seek_timestamp: Timestamp of the keyframe that it depends on.
    """

    pts: int
    index: int
    seek_timestamp: int


def _find_start(
    path: Path, name: str, first: VideoFrame, start_s: float, duration_s: float | None
) -> _Place | None:
    """Finds the first frame at or after a time by reading packets without decoding them.

    Args:
        path: The video file.
        name: As shown.
        first: The recording's first frame.
        start_s: The time, after the first frame's.
        duration_s: The recording's length, for the message, if known.

    Returns:
        The place, or None where packets do not tell.

    Raises:
        SourceError: The recording ends before.
    """
    container, stream = _open_video(path, name)
    pts_seen: list[int] = []
    keyframes: list[tuple[int, int]] = []  # pts, and the timestamp to seek to
    packets_after = 0
    with container:
        time_base = stream.time_base
        if (
            time_base is None
            or first.pts is None
            or first.interlaced_frame  # a packet may hold half a frame
            or stream.codec_context.name not in COUNTABLE_CODECS
        ):
            return None
        try:
            for packet in container.demux(stream):
                if packet.size == 0 or packet.is_discard:
                    continue
                if packet.pts is None:
                    return None
                pts_seen.append(packet.pts)
                timestamp = packet.pts if packet.dts is None else packet.dts
                if packet.is_keyframe:
                    keyframes.append((packet.pts, timestamp))
                # Nothing is shown before it is decoded, so from here on all is later than the start.
                packets_after += timestamp * time_base >= start_s
                if packets_after > _REORDER_PACKETS:
                    break
        except av.error.FFmpegError:
            pass  # the packets up to the damage still count

    # Before the first frame that can be decoded lie, at most, those that need a frame not there.
    first_pts = first.pts
    shown = sorted(pts for pts in pts_seen if pts >= first_pts)
    index = bisect_left(shown, start_s, key=lambda pts: float(pts * time_base))
    if index == len(shown):
        last_s = float(shown[-1] * time_base) if shown else 0.0
        raise _past_the_end(name, duration_s or last_s, start_s)
    before = [timestamp for pts, timestamp in keyframes if pts <= shown[index]]
    if not before:
        return None
    return _Place(shown[index], index, before[-1])


def _past_the_end(name: str, duration_s: float, start_s: float) -> NoFramesError:
    return NoFramesError(
        f"{name} is {format_time(duration_s)} long, so nothing is left from {format_time(start_s)}; "
        "start earlier"
    )


def _display_matrix(frame: VideoFrame) -> tuple[int, int, int, int]:
    """Returns signs and places of the axes (a, b, c, d) by which a phone says how it was held.

    A point (x, y) of the coded picture is shown at (a x + c y, b x + d y); libavutil's display.h.
    """
    side_data = frame.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return 1, 0, 0, 1
    matrix = np.frombuffer(bytes(cast(SideData, side_data)), np.int32)
    a, b, c, d = (int(matrix[position]) for position in (0, 1, 3, 4))
    return a, b, c, d


def _swaps_axes(matrix: tuple[int, int, int, int]) -> bool:
    a, b, c, d = matrix
    return abs(b) + abs(c) > abs(a) + abs(d)


def _upright(bgr: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """Turns and flips a picture by its display matrix, to the nearest quarter turn."""
    a, b, c, d = matrix
    if _swaps_axes(matrix):
        bgr = cv2.transpose(bgr)
        flip_x, flip_y = c < 0, b < 0
    else:
        flip_x, flip_y = a < 0, d < 0
    if flip_x and flip_y:
        return cv2.flip(bgr, -1)
    if flip_x:
        return cv2.flip(bgr, 1)
    if flip_y:
        return cv2.flip(bgr, 0)
    return bgr
