"""Write the annotated video: every frame once, in order, at its own time, with the source's sound."""

from __future__ import annotations

import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import av
import av.error
import cv2
import numpy as np
from av.video.frame import PictureType

from fer_stream.errors import OutputError, cannot_write
from fer_stream.inference.threads import ENCODER_THREADS
from fer_stream.sinks.audio import AudioTracks, goes_on_after
from fer_stream.sinks.base import Sink, check_output, closed_error
from fer_stream.sinks.yuv import YuvConverter
from fer_stream.sources import SourceKind
from fer_stream.sources.container import MEDIA_ERRORS
from fer_stream.status import Recording
from fer_stream.system.closing import first_error
from fer_stream.system.files import open_new
from fer_stream.system.memory import FOUR_K_BYTES, LARGE_FRAME_BYTES
from fer_stream.words import duration_text

if TYPE_CHECKING:
    from fer_stream.sources import SourceInfo
    from fer_stream.types import AnalyzedFrame


@dataclass(frozen=True)
class _Format:
    """Settings for one kind of file.

    Attributes:
        muxer: FFmpeg's name of the container.
        encoder: FFmpeg's name of the video encoder.
        encoder_options: Options of the encoder.
        muxer_options: Options of the container.
        longest_side: In px; the encoder takes no larger picture.
    """

    muxer: str
    encoder: str
    encoder_options: dict[str, str]
    muxer_options: dict[str, str]
    longest_side: int


# Trade size for speed at constant quality; the bit rate depends on the picture. Compared with veryfast at 20,
# this takes half the time for the same quality (SSIM), and 2 to 25 % more bytes.
_H264 = {"preset": "superfast", "crf": "22", "forced-idr": "1"}
_VP9 = {
    **{"deadline": "realtime", "cpu-used": "7", "row-mt": "1", "tile-columns": "2"},
    **{"crf": "30", "b": "0", "lag-in-frames": "0"},
}
# The longest time between keyframes. A player can seek to a keyframe, and the file of a killed run plays up
# to the last one.
KEYFRAME_EVERY_S = Fraction(2)

# The file is written as fragments and becomes an ordinary file at the end. FFmpeg 7.1 and 8.0 can do that
# too, but with delay_moov the file loses its beginning. With these versions the file stays fragmented: it
# plays, but seeks more slowly.
_HYBRID = av.library_versions["libavformat"] >= (62, 12, 0)
_MOVFLAGS = "hybrid_fragmented" if _HYBRID else "empty_moov+default_base_moof"
_COMMON = {
    "flush_packets": "1",
    # The longest time for which packets wait for those of the other streams, in microseconds.
    "max_interleave_delta": "1000000",
}
# Sound may begin before the picture, because the encoder has a delay. Matroska would shift everything to
# avoid that.
_MATROSKA = {**_COMMON, "cluster_time_limit": "1000", "avoid_negative_ts": "disabled"}
# The index waits for the first fragment (delay_moov), because not all times are known earlier.
_MP4 = {**_COMMON, "movflags": f"{_MOVFLAGS}+frag_keyframe+delay_moov"}

_FORMATS = {
    ".mp4": _Format("mp4", "libx264", _H264, _MP4, longest_side=16384),
    ".mkv": _Format("matroska", "libx264", _H264, _MATROSKA, longest_side=16384),
    ".webm": _Format("webm", "libvpx-vp9", _VP9, _MATROSKA, longest_side=65535),
}
VIDEO_EXTENSIONS = tuple(_FORMATS)

# ISO/IEC 23091-2 code points: BT.709 primaries, transfer and matrix, limited range. The file states them,
# because players would guess from the size of the picture.
_BT709 = 1
_LIMITED = 1

SILENT_S = 1  # a live source that sends no frame for longer than this has gone quiet
# A recording whose clock begins later than this is saved from 0: browsers seek to the wrong place otherwise.
LATE_CLOCK_S = 60

_LONGEST_MP4_TICKS = 2**31 - 1  # that one frame can last

_UNKNOWN_TIME_BASE = Fraction(1, 90000)
_UNKNOWN_RATE = Fraction(30)


class VideoSink(Sink):
    """Writes an annotated video: H.264 for `.mp4` and `.mkv`, VP9 for `.webm`.

    Times are those of the source, as exactly as the container can store them: exact in MP4, milliseconds in
    Matroska and WebM. For a part of a recording, for a live source, and if the recording's clock begins after
    `LATE_CLOCK_S`, the first frame is at 0. The sound of a part is cut in the same way.
    While it is written, the file plays up to its last seconds, even if the program is killed. Once closed, it
    is an ordinary file. An odd width or height grows by one: the last column or row is repeated. Pictures of
    another size are resized to that of the first.

    The audio streams of a recording are copied if the container accepts them, and encoded again if not. For a
    part of a recording they end with the video.

    Attributes:
        problems: Problems with the sound, as sentences; empty if the sound is fine.
    """

    name = "video"
    needs_frame = False

    def __init__(self, path: Path | str, info: SourceInfo, *, overwrite: bool = False) -> None:
        """Check the path and the encoder. The file is opened with the first frame.

        Args:
            path: A path with one of `VIDEO_EXTENSIONS`.
            info: Facts about the source: rate, time base, part, and the file with the sound.
            overwrite: Whether an existing file is replaced.

        Raises:
            UsageError: The extension is unknown.
            OutputError: The file exists, is the input or can't be written, the encoder is missing, or the
                pictures are too large for it.
        """
        super().__init__()
        self._path = check_output(
            path, overwrite=overwrite, source_path=info.path, extensions=VIDEO_EXTENSIONS
        )
        self.saved_video = self._path
        self._overwrite = overwrite
        self._extension = self._path.suffix.lower()
        self._format = _FORMATS[self._extension]
        try:
            av.codec.Codec(self._format.encoder, "w")
        except ValueError as error:
            raise OutputError(
                f"can't write {self._path}: this PyAV lacks {self._format.encoder}; "
                "install PyAV's own wheel or choose another extension"
            ) from error
        if info.size_wh is not None:
            self._check_size(info.size_wh)
        self._info = info
        self._time_base = info.time_base or _UNKNOWN_TIME_BASE
        rate = info.frame_rate or _UNKNOWN_RATE
        self._interval_pts = max(1, round(1 / rate / self._time_base))
        self._rate = rate
        self._file: _MuxedFile | None = None
        self._output: Any = None
        self._stream: Any = None
        self._audio: AudioTracks | None = None
        if info.kind == SourceKind.VIDEO and info.path is not None:  # later, another file may be there
            self._audio = AudioTracks(info.path, self._extension, self.problems)
        self._converter: YuvConverter | None = None
        self._offset_pts = 0
        self._last_pts: int | None = None
        self._keyframe_pts = 0
        self._captured_s = 0.0
        self._last_picture: av.VideoFrame | None = None
        self._failed = self._closed = False

    def needs_image(self, analyzed: AnalyzedFrame) -> bool:
        """Return True: every frame is written."""
        return True

    def prepare(self, image_bgr: np.ndarray) -> av.VideoFrame:
        """Return the picture in the encoder's size and pixel format. See `Sink.prepare`."""
        try:
            if self._converter is None:
                self._converter = YuvConverter((image_bgr.shape[1], image_bgr.shape[0]))
            return self._converter.convert(image_bgr)
        except (*MEDIA_ERRORS, cv2.error) as error:
            raise cannot_write(self._path, error) from error

    def write(self, analyzed: AnalyzedFrame, image: np.ndarray | av.VideoFrame | None) -> None:
        """Write one frame at its own time. See `Sink.write`.

        Args:
            analyzed: The frame.
            image: The annotated picture, as returned by `prepare` or uint8 (H, W, 3).

        Raises:
            OutputError: The file can't be written any further.
        """
        if image is None:
            raise ValueError("a video sink needs the annotated picture")
        if self._closed:
            raise closed_error(self._path)
        if self._failed:
            raise OutputError(f"can't write {self._path}: an earlier write failed")
        try:
            picture = image if isinstance(image, av.VideoFrame) else self.prepare(image)
            if self._converter is None or not self._converter.has_lent(picture):
                raise ValueError("the picture was prepared by another sink, or written before")
            source_pts = round(Fraction(analyzed.frame.time_s) / self._time_base)
            if self._stream is None:
                self._open(picture, source_pts)
            pts = source_pts - self._offset_pts
            if self._last_pts is None:
                is_keyframe = True
            else:
                # A player shows one frame at a time, so equal or falling times move on by one tick.
                pts = max(pts, self._last_pts + 1)
                self._check_gap(pts)
                self._interval_pts = pts - self._last_pts
                is_keyframe = (pts - self._keyframe_pts) * self._time_base >= KEYFRAME_EVERY_S
            self._last_pts, self._captured_s = pts, analyzed.frame.captured_s
            if is_keyframe:
                self._keyframe_pts = pts
            picture.pts, picture.time_base = pts, self._time_base
            picture.pict_type = PictureType.I if is_keyframe else PictureType.NONE
            self._mux(self._stream.encode(picture))
            # `_finish` may repeat the last picture, so only the one before it is free.
            if self._last_picture is not None and self._last_picture is not picture:
                self._converter.take_back(self._last_picture)
            self._last_picture = picture
        except (*MEDIA_ERRORS, OSError) as error:
            self._failed = True
            raise cannot_write(self._path, error) from error

    def close(self) -> None:
        """Finish the file. See `Sink.close`."""
        if self._closed:
            return
        self._closed = True
        calls = [self._finish, self._close_output]
        if self._audio is not None:
            calls.append(self._audio.close)
        if self._file is not None:
            calls.append(self._file.close)  # a file system in the network may report a failed write only here
        failure = first_error(calls, (*MEDIA_ERRORS, OSError))
        if failure is not None and not self._failed:
            self._failed = True
            raise cannot_write(self._path, failure) from failure

    def outputs(self) -> list[Path]:
        """Return the file, once a frame has been written."""
        return [self._path] if self._file is not None else []

    def recordings(self) -> list[Recording]:
        """Return the file while it is being written."""
        if self._last_pts is None or self._closed or self._failed:
            return []
        duration_pts = self._last_pts + max(self._interval_pts, self._pts_since_capture())
        return [Recording(self._path, float(duration_pts * self._time_base))]

    def _pts_since_capture(self) -> int:
        """Return the ticks since the last frame of a live source was captured."""
        if not self._info.is_live or not self._captured_s:
            return 0
        return int((time.monotonic() - self._captured_s) / self._time_base)

    def _check_size(self, size_wh: tuple[int, int]) -> None:
        """Raise OutputError if pictures of this size are too large for the encoder."""
        if max(size_wh) > self._format.longest_side:
            width, height = size_wh
            remedy = "" if self._extension == ".webm" else ", or choose .webm"
            raise OutputError(
                f"can't write {self._path}: {self._extension} takes at most {self._format.longest_side} px a "
                f"side, but the picture is {width}x{height} px; scale it down{remedy}"
            )

    def _check_gap(self, pts: int) -> None:
        """Raise OutputError if the time since the last frame is too long for MP4."""
        gap_s = float((pts - (self._last_pts or 0)) * self._time_base)
        # FFmpeg may have made the ticks finer than those of the source.
        if self._extension == ".mp4" and gap_s > _LONGEST_MP4_TICKS * self._stream.time_base:
            self._failed = True
            at_s = float(((self._last_pts or 0) + self._offset_pts) * self._time_base)
            raise OutputError(
                f"can't write {self._path} any further: the source has no picture for {duration_text(gap_s)} "
                f"after {duration_text(at_s)}, and .mp4 can't hold so long a gap; save it as .mkv"
            )

    def _open(self, picture: av.VideoFrame, source_pts: int) -> None:
        """Open the file and write its header, without the sound if that fails."""
        self._check_size((picture.width, picture.height))
        self._offset_pts = source_pts if _starts_at_first_frame(self._info) else 0
        self._file = _MuxedFile(self._path, overwrite=self._overwrite)
        try:
            self._start(picture)
        except MEDIA_ERRORS as error:
            self._file.check()
            if self._audio is None:
                raise
            self._audio.close()
            self._audio = None
            self._file.rewind()
            self._start(picture)
            self.problems.append(f"the sound can't be saved as {self._extension} ({error}); saved without it")

    def _start(self, picture: av.VideoFrame) -> None:
        """Set up the streams for pictures like this one, and write the header."""
        options = dict(self._format.muxer_options)
        if self._extension == ".mp4":
            # The unit of a track's start time must be fine enough for the sound, and exact for the picture.
            ticks = self._time_base.denominator
            options["movie_timescale"] = str(ticks * -(-90_000 // ticks))
        self._output = av.open(
            cast(Any, self._file),
            "w",
            format=self._format.muxer,
            container_options=options,
        )
        encoder_options = dict(self._format.encoder_options)
        picture_bytes = 3 * picture.width * picture.height
        # A live source may send only one frame every ten seconds. It should be saved without waiting for the
        # next ones. From 4K on, frames waiting in the encoder take too much memory.
        holds_frames = not self._info.is_live and picture_bytes < FOUR_K_BYTES
        if not holds_frames:
            encoder_options["bf"] = "0"  # no B-frames; at 4K this makes files 1 % larger
        if picture_bytes > LARGE_FRAME_BYTES and self._format.encoder == "libx264":
            # No subpixel motion estimation: x264 would keep three more pictures for each reference frame.
            # At 8K this makes files 1 to 3 % larger.
            encoder_options["x264-params"] = "subme=0"
        stream = self._output.add_stream(self._format.encoder, options=encoder_options)
        stream.time_base = self._time_base
        context = stream.codec_context
        context.width, context.height = picture.width, picture.height
        context.pix_fmt = picture.format.name
        context.time_base = self._time_base
        context.framerate = self._rate
        context.sample_aspect_ratio = Fraction(1)
        # x264's threads encode different frames, or slices of the same frame, which is slower.
        context.thread_type = "FRAME" if holds_frames else "SLICE"
        context.thread_count = ENCODER_THREADS
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        context.color_range = _LIMITED
        if self._audio is not None:
            offset_s = self._offset_pts * self._time_base
            self._audio.add_streams(
                self._output, offset_s, cut=self._info.start_s > 0, can_seek=self._info.can_seek
            )
        self._output.start_encoding()
        self._stream = stream

    def _mux(self, packets: list[av.Packet]) -> None:
        """Mux video packets, each after the sound that comes before it."""
        assert self._file is not None
        for packet in packets:
            # Containers use the duration of the last packet only.
            packet.duration = self._interval_pts
            if self._audio is not None and packet.dts is not None:
                self._audio.advance(packet.dts * self._time_base)
                self._file.check()
            self._output.mux(packet)
            self._file.check()

    def _finish(self) -> None:
        """Flush the encoder, and write the rest of the sound."""
        if self._stream is None or self._output is None:
            return
        assert self._file is not None
        silent_pts = self._pts_since_capture()
        if self._last_picture is not None and silent_pts * self._time_base > SILENT_S:
            # The camera went quiet. Its last picture stayed until now, so that the video keeps its true
            # length.
            self._last_picture.pts = (self._last_pts or 0) + silent_pts
            self._mux(self._stream.encode(self._last_picture))
        self._mux(self._stream.encode(None))
        if self._audio is None or self._last_pts is None or self._info.path is None:
            return
        end_s: Fraction | None = (self._last_pts + self._interval_pts) * self._time_base
        last_source_s = (self._last_pts + self._offset_pts) * self._time_base
        if self._info.end_s is None and not goes_on_after(self._info.path, last_source_s):
            end_s = None
        self._audio.advance(end_s)
        self._audio.finish()
        self._file.check()

    def _close_output(self) -> None:
        if self._output is not None:
            self._output.close()
            if self._file is not None:
                self._file.check()


def clip_start_s(info: SourceInfo, first_time_s: float) -> float:
    """Return the time in the source at which an annotated video starts.

    Args:
        info: Facts about the source.
        first_time_s: Time of the first frame that was written.
    """
    return first_time_s if _starts_at_first_frame(info) else 0.0


def _starts_at_first_frame(info: SourceInfo) -> bool:
    """Return whether the times of an annotated video start at 0 with its first frame.

    Parts of recordings, live sources, and recordings whose clock begins late do. All other videos keep the
    source's own times.
    """
    return info.start_s > 0 or info.is_live or info.clock_starts_s > LATE_CLOCK_S


class _MuxedFile:
    """The file that the muxer writes to. After a write has failed, it is never changed again.

    Finishing an MP4 file rewrites its beginning. On a full disk, that would turn playable fragments into a
    file that does not play.
    """

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self.name = str(path)
        self._file = open_new(path, overwrite=overwrite)
        self._error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Write all of the data, unless a write has failed before."""
        remaining = memoryview(data)
        try:
            while remaining and self._error is None:
                remaining = remaining[self._file.write(remaining) :]
        except OSError as error:
            self._error = error
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a place in the file."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the place in the file."""
        return self._file.tell()

    def rewind(self) -> None:
        """Empty the file."""
        self._file.seek(0)
        self._file.truncate()

    def check(self) -> None:
        """Raise the error of the failed write, if there was one."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Close the file."""
        self._file.close()
