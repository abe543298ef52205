"""Open a recording's container safely, pick its video stream, and read what its header states."""

from __future__ import annotations

import contextlib
import errno
import itertools
import statistics
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
import av.error
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from fer_stream.errors import SourceError, UsageError, reason_of
from fer_stream.sources.heif import IN_TILES, TiledPictureError
from fer_stream.sources.lists import is_list
from fer_stream.sources.time_text import parse_time
from fer_stream.system.environment import check_pixels, max_video_pixels
from fer_stream.system.files import unreadable_kind
from fer_stream.system.memory import is_out_of_memory

# Codecs in which every packet is exactly one shown picture. Only their packets can be counted instead
# of frames: a VP8 packet may be hidden, an MPEG-4 packet may be empty, and two MPEG-2 packets may
# be one frame.
COUNTABLE_CODECS = frozenset(
    {"h264", "hevc", "vp9", "libvpx-vp9", "av1", "libdav1d", "mjpeg", "prores", "png"}
)

# Above this rate FFmpeg has probably taken the resolution of the timestamps for the frame rate.
_HIGHEST_RATE = 300
_NO_TIMESTAMPS = 0x80  # AVFMT_NOTIMESTAMPS: the format holds only the coded video
# Gaps matter only if they make the average rate lower than this. Other files are not opened a second time.
_SLOW_RATE = 10
_FIRST_PACKETS = 9  # give eight intervals, so that a gap among them does not matter

# The containers that may be opened; FFmpeg knows hundreds. Formats that name other files or addresses
# (playlists, session descriptions) are left out, and so are the formats of old games, which are little
# tested. The names ending in _pipe are single pictures.
_CONTAINERS = (
    *("mov", "matroska", "webm", "avi", "mpegts", "mpeg", "mpegvideo", "h264", "hevc", "vvc", "av1", "obu"),
    *("ivf", "m4v", "h263", "flv", "live_flv", "asf", "asf_o", "ogg", "mxf", "gxf", "dv", "nut", "rm", "wtv"),
    *("mjpeg", "mpjpeg", "smjpeg", "vc1", "dirac", "cavsvideo", "yuv4mpegpipe", "gif", "apng", "webp_anim"),
    *("jpegxl_anim", "webp_pipe", "png_pipe", "jpeg_pipe", "bmp_pipe", "tiff_pipe", "jpegxl_pipe"),
    # Sound only, so that the message can tell a song from a damaged file.
    *("mp3", "aac", "flac", "wav", "aiff", "caf", "amr", "ac3", "eac3", "w64"),
)

_OPEN_OPTIONS = {"format_whitelist": ",".join(_CONTAINERS), "protocol_whitelist": "file"}

# Containers that state how long their video is. For the others FFmpeg guesses or measures.
_STATING_CONTAINERS = ("mov", "matroska", "avi", "asf")

# Containers that stay readable when files are joined byte by byte (`cat a.ts b.ts`).
_JOINABLE_CONTAINERS = ("mpegts", "mpeg", "matroska", "flv", "asf", "ogg")

# FFmpeg's flags of a stream: the main one, and a part of a larger picture (AV_DISPOSITION_...).
_DEFAULT, _DEPENDENT = 0x1, 0x80000

# The errors that PyAV raises for damaged or odd streams, for video and sound, reading and writing.
MEDIA_ERRORS = (av.error.FFmpegError, ValueError, RuntimeError, NotImplementedError)

# System errors, such as a drive that went away. A file that ends too soon gives other errors.
UNREACHABLE = (errno.EIO, errno.ENXIO, errno.ENODEV, errno.EACCES, getattr(errno, "ESTALE", errno.EIO))
DAMAGED = "it is damaged, incomplete, or not a video"


def open_video(path: Path, name: str) -> tuple[InputContainer, VideoStream]:
    """Open a video file and pick its video stream.

    Args:
        path: The file.
        name: The name to use in messages.

    Returns:
        The container, which the caller closes, and the stream.

    Raises:
        SourceError: The file is missing, empty, no video, or in a codec that FFmpeg cannot decode.
    """
    try:
        if kind := unreadable_kind(path):
            raise SourceError(f"{name} is {kind}, not a video file")
        if path.stat().st_size == 0:
            raise SourceError(f"{name} is empty (zero bytes)")
    except OSError as error:
        raise SourceError(f"{name} can't be read: {reason_of(error)}") from error
    try:
        container = open_container(path)
    except (av.error.FFmpegError, OSError) as error:
        if is_out_of_memory(error):
            raise
        if error.errno in (*UNREACHABLE, errno.EMFILE, errno.ENFILE):  # the last two: too many open files
            raise SourceError(f"{name} can't be read: {reason_of(error)}") from error
        if _names_other_files(path):
            raise SourceError(
                f"{name} is a list of other files or addresses; give the video itself"
            ) from error
        raise SourceError(f"{name} can't be read as a video: {DAMAGED}") from error
    try:
        video = pick_video_stream(container)
        if in_tiles(container):
            raise TiledPictureError(f"{name} {IN_TILES}")
        if video is None:
            raise SourceError(f"{name} holds no video, only {_stream_kinds(container)}")
        if video.codec_context is None:
            raise SourceError(f"{name} is coded in a way that FFmpeg can't decode; convert it to H.264")
        check_pixels(name, (video.width or 0, video.height or 0), max_video_pixels())
    except BaseException:
        container.close()
        raise
    return container, video


def open_container(file: Path | BinaryIO) -> InputContainer:
    """Open a recording, but no other file that it may name.

    Args:
        file: A path, or a binary file open for reading.

    Raises:
        FFmpegError: It is not a recording, or its container is not allowed.
        OSError: It can't be read.
    """
    # "file:" because FFmpeg mistakes a name with a colon for a protocol. "replace" because metadata in
    # another encoding is no reason to refuse a video.
    source = f"file:{file}" if isinstance(file, Path) else file
    options = {**_OPEN_OPTIONS, "max_pixels": str(max_video_pixels())}
    return av.open(source, "r", options=options, metadata_errors="replace")


def _names_other_files(path: Path) -> bool:
    """Return whether a file is a list of other files or addresses."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        return is_list(file.read(1024))
    return False


def pick_video_stream(container: InputContainer) -> VideoStream | None:
    """Return FFmpeg's choice of video stream, never a cover picture; None if there is no video."""
    videos = [stream for stream in container.streams.video if not _is_cover(stream)]
    best = container.streams.best("video")
    if isinstance(best, VideoStream) and best in videos:
        return best
    return videos[0] if videos else None


def in_tiles(container: InputContainer) -> bool:
    """Return whether a container holds a picture in tiles. PyAV gives each tile as a stream of its own."""
    flags = [stream.disposition.value for stream in container.streams.video]
    return any(flag & _DEPENDENT for flag in flags) and not any(flag & _DEFAULT for flag in flags)


def _is_cover(stream: VideoStream) -> bool:
    """Return whether a stream is the cover picture of a song, which FFmpeg reports as video."""
    # PyAV 14.0 lacks this flag, so there a cover is read as a video of one frame.
    disposition = getattr(stream, "disposition", None)
    return disposition is not None and bool(disposition.value & 0x400)  # AV_DISPOSITION_ATTACHED_PIC


def _stream_kinds(container: InputContainer) -> str:
    kinds = sorted({stream.type for stream in container.streams if stream.type != "video"})
    return " and ".join(kinds) or "a picture"


def may_be_joined(container: InputContainer) -> bool:
    """Return whether files of this container can be joined byte by byte, so that its times may restart."""
    return container.format.name.partition(",")[0] in _JOINABLE_CONTAINERS


def frame_rate(stream: VideoStream) -> Fraction | None:
    """Return the average frames per second that the file states; None if it states none that is plausible."""
    # The average of an AVI counts empty chunks as frames. FFmpeg may write one after each frame of H.264.
    # Without a container, the average is only FFmpeg's default. The coded video may state its rate itself.
    has_average = not (_is_avi(stream) or int(stream.container.format.flags) & _NO_TIMESTAMPS)
    average_rate = stream.average_rate if has_average else None
    rates = [rate for rate in (average_rate, stream.guessed_rate) if rate and 0 < rate <= _HIGHEST_RATE]
    if not rates:
        return None
    average, guessed = rates[0], rates[-1]
    # If the last frame is cut short, the average differs a little from the recording's rate.
    return guessed if abs(guessed / average - 1) < Fraction(5, 1000) else average


def usual_interval_s(path: Path, name: str, rate: Fraction | None) -> float | None:
    """Return the usual time from frame to frame in seconds, if gaps make the average longer.

    The average rate of an MP4 includes its gaps. With a gap of an hour in a short clip, the average interval
    lasts for minutes.

    Args:
        path: The file.
        name: The name to use in messages.
        rate: Average frames per second, if known.

    Returns:
        The median of the first intervals; None if the average is no longer than that.
    """
    if rate is None or rate >= _SLOW_RATE:
        return None
    container, stream = open_video(path, name)
    with container, contextlib.suppress(av.error.FFmpegError):
        packets = itertools.islice(container.demux(stream), _FIRST_PACKETS)
        pts = sorted(packet.pts for packet in packets if packet.pts is not None)
        steps = [after - before for before, after in itertools.pairwise(pts) if after > before]
        if steps and stream.time_base is not None:
            usual_s = statistics.median_low(steps) * stream.time_base
            return float(usual_s) if usual_s < 1 / rate else None
    return None


def duration_s(container: InputContainer, stream: VideoStream) -> float | None:
    """Return the length of a recording in seconds, as far as it is known."""
    if stream.duration and stream.duration > 0 and stream.time_base:
        return float(stream.duration * stream.time_base)
    if container.duration and container.duration > 0:
        return container.duration / av.time_base
    return None


def stated_end_s(container: InputContainer, stream: VideoStream) -> float | None:
    """Return the presentation time at which a file says its video ends; None if it does not say."""
    kind = container.format.name.partition(",")[0]
    if kind not in _STATING_CONTAINERS:
        return None
    start_s = float((stream.start_time or 0) * stream.time_base) if stream.time_base else 0.0
    if kind == "avi" and stream.frames and stream.average_rate:
        # The duration of an AVI stream is that of its index, not of its header.
        return start_s + float(stream.frames / stream.average_rate)
    if stream.duration and stream.duration > 0 and stream.time_base:
        return start_s + float(stream.duration * stream.time_base)
    if tag := stream.metadata.get("DURATION"):  # Matroska states the time at which each stream ends
        with contextlib.suppress(UsageError):
            return parse_time(tag)
    if len(container.streams) == 1 and container.duration and container.duration > 0:
        return start_s + container.duration / av.time_base
    return None


def frame_count(stream: VideoStream) -> int | None:
    """Return the number of frames that a file states; None if it states none."""
    return None if _is_avi(stream) else stream.frames or None  # an AVI counts its empty chunks too


def has_timestamps(stream: VideoStream, first: VideoFrame) -> bool:
    """Return whether frames carry presentation times. `first` is the first decoded frame."""
    return first.pts is not None and not _guesses_times(stream)


def decoding_delay(stream: VideoStream, first: VideoFrame, first_dts: int | None) -> int | None:
    """Return the delay of decoding timestamps, for files that have no presentation timestamps.

    Args:
        stream: The stream.
        first: The first decoded frame.
        first_dts: Decoding timestamp of the stream's first packet.

    Returns:
        Ticks to subtract from a frame's decoding timestamp to get its presentation time; None if frames carry
        presentation times, or no times at all.
    """
    if first.dts is None or first_dts is None or not _guesses_times(stream):
        return None
    return first.dts - first_dts


def _guesses_times(stream: VideoStream) -> bool:
    """Return whether FFmpeg makes up the presentation times.

    AVI stores only the times of decoding: its chunks follow at a constant rate, and some are empty. Where the
    codec reorders frames, the presentation times that FFmpeg makes up are out of order.
    """
    return _is_avi(stream) and bool(stream.codec_context.has_b_frames)


def _is_avi(stream: VideoStream) -> bool:
    return stream.container.format.name == "avi"
