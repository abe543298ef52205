"""The annotated video: every frame once, in order, at its own time, with the source's sound."""

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
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from fer_stream.errors import OutputError
from fer_stream.inference.threads import ENCODER_THREADS
from fer_stream.sinks.audio import AudioTracks, goes_on_after
from fer_stream.sinks.base import Sink, cannot_write, check_output
from fer_stream.sources import SourceKind
from fer_stream.sources.container import MEDIA_ERRORS
from fer_stream.status import Recording
from fer_stream.system.files import open_new

if TYPE_CHECKING:
    from fer_stream.sources import SourceInfo
    from fer_stream.types import AnalyzedFrame


@dataclass(frozen=True)
class _Format:
    """How one kind of file is made.

    Attributes:
        muxer: FFmpeg's name of the container.
        encoder: FFmpeg's name of the video encoder.
        encoder_options: Its options.
        muxer_options: The container's options.
    """

    muxer: str
    encoder: str
    encoder_options: dict[str, str]
    muxer_options: dict[str, str]


# Speed against size, in one place. A constant quality; the bit rate follows from the picture.
# Against veryfast at 20: half the time and as good a picture (SSIM), for 2 to 25 % more bytes.
_H264 = {"preset": "superfast", "crf": "22", "forced-idr": "1"}
_VP9 = {
    **{"deadline": "realtime", "cpu-used": "7", "row-mt": "1", "tile-columns": "2"},
    **{"crf": "30", "b": "0", "lag-in-frames": "0"},
}
# At least so often a point to seek to, and up to which a killed run's file plays.
KEYFRAME_EVERY_S = Fraction(2)

# Fragments first, turned into an ordinary file at the end. FFmpeg 7.1 and 8.0 have that too, but with
# delay_moov its file loses its beginning; a file of fragments plays as well, and only seeks slower.
_HYBRID = av.library_versions["libavformat"] >= (62, 12, 0)
_MOVFLAGS = "hybrid_fragmented" if _HYBRID else "empty_moov+default_base_moof"
_COMMON = {
    "flush_packets": "1",
    # Packets wait for those of the other streams, but not longer than this (microseconds).
    "max_interleave_delta": "1000000",
}
# Sound may begin before the picture by an encoder's delay. Matroska would move everything to hide it.
_MATROSKA = {**_COMMON, "cluster_time_limit": "1000", "avoid_negative_ts": "disabled"}
# The index waits for the first fragment (delay_moov), because only then all times are known.
_MP4 = {**_COMMON, "movflags": f"{_MOVFLAGS}+frag_keyframe+delay_moov"}

_FORMATS = {
    ".mp4": _Format("mp4", "libx264", _H264, _MP4),
    ".mkv": _Format("matroska", "libx264", _H264, _MATROSKA),
    ".webm": _Format("webm", "libvpx-vp9", _VP9, _MATROSKA),
}
VIDEO_EXTENSIONS = tuple(_FORMATS)

# ISO/IEC 23091-2 code points: BT.709 primaries, transfer and matrix, limited range. Stated in the
# file, because players guess by the size of the picture where nothing is said.
_BT709 = 1
_LIMITED = 1

SILENT_S = 1  # a live source that gives no frame for longer has gone quiet

_UNKNOWN_TIME_BASE = Fraction(1, 90000)
_UNKNOWN_RATE = Fraction(30)


class VideoSink(Sink):
    """Writes an annotated video: H.264 for `.mp4` and `.mkv`, VP9 for `.webm`.

    Times are the source's own, as exact as the container can say them: exact in MP4, milliseconds in
    Matroska and WebM. With `info.start_s` above 0 the first frame is at 0 and the sound is cut alike;
    of a live source the first frame is at 0, too.
    While it is written the file plays up to its last seconds, also when the program is killed; closed,
    it is an ordinary file. An odd width or height grows by one, the last column or row repeated. A
    picture of another size than the first is resized to it.

    The audio streams of a recording are copied where the container takes them, else encoded anew.
    They end with the video where that is only a part of the recording.

    Attributes:
        problems: What is wrong with the sound, in sentences; empty if nothing is.
    """

    name = "video"

    def __init__(self, path: Path | str, info: SourceInfo, *, overwrite: bool = False) -> None:
        """Checks the path and the encoder; the file is opened with the first frame.

        Args:
            path: One of `VIDEO_EXTENSIONS`.
            info: What is read: rate, time base, part, and where the sound is.
            overwrite: Whether an existing file is replaced.

        Raises:
            UsageError: The extension is unknown.
            OutputError: The file exists, is the input or can't be written, or the encoder is missing.
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
        self._info = info
        self._time_base = info.time_base or _UNKNOWN_TIME_BASE
        rate = info.frame_rate or _UNKNOWN_RATE
        self._interval_pts = max(1, round(1 / rate / self._time_base))
        self._rate = rate
        self._file: _MuxedFile | None = None
        self._output: Any = None
        self._stream: Any = None
        self._audio: AudioTracks | None = None
        self._reformatter = VideoReformatter()  # kept: it makes its tables with the first frame
        self._size_wh = (0, 0)
        self._offset_pts = 0
        self._last_pts: int | None = None
        self._keyframe_pts = 0
        self._captured_s = 0.0
        self._last_picture: av.VideoFrame | None = None
        self._failed = self._closed = False

    def needs_image(self, analyzed: AnalyzedFrame) -> bool:
        """Return True: every frame is written."""
        return True

    def write(self, analyzed: AnalyzedFrame, image_bgr: np.ndarray | None) -> None:
        """Writes one frame at its own time. See `Sink.write`."""
        if image_bgr is None:
            raise ValueError("a video sink needs the annotated picture")
        if self._closed or self._failed:
            raise OutputError(f"can't write {self._path}: it is closed")
        try:
            source_pts = round(Fraction(analyzed.frame.time_s) / self._time_base)
            if self._stream is None:
                self._open(image_bgr, source_pts)
            pts = source_pts - self._offset_pts
            first = self._last_pts is None
            if self._last_pts is not None:
                # A player shows one frame at a time: equal times, and a clock set back, move on by one.
                pts = max(pts, self._last_pts + 1)
                self._interval_pts = pts - self._last_pts
            self._last_pts, self._captured_s = pts, analyzed.frame.captured_s
            self._last_picture = picture = self._picture(image_bgr)
            picture.pts, picture.time_base = pts, self._time_base
            if first or (pts - self._keyframe_pts) * self._time_base >= KEYFRAME_EVERY_S:
                picture.pict_type = av.video.frame.PictureType.I
                self._keyframe_pts = pts
            self._mux(self._stream.encode(picture))
        except (*MEDIA_ERRORS, OSError, cv2.error) as error:
            self._failed = True
            raise cannot_write(self._path, error) from error

    def close(self) -> None:
        """Finishes the file. See `Sink.close`."""
        if self._closed:
            return
        self._closed = True
        failure: Exception | None = None
        if self._stream is not None and self._output is not None:
            try:
                self._finish()
            except (*MEDIA_ERRORS, OSError) as error:
                failure = error
        if self._output is not None:
            try:
                self._output.close()
                if self._file is not None:
                    self._file.check()
            except (*MEDIA_ERRORS, OSError) as error:
                failure = failure or error
        if self._audio is not None:
            self._audio.close()
        if self._file is not None:
            self._file.close()
        if failure is not None and not self._failed:
            self._failed = True
            raise cannot_write(self._path, failure) from failure

    def outputs(self) -> list[Path]:
        """Returns the file, once a frame was written."""
        return [self._path] if self._file is not None else []

    def recordings(self) -> list[Recording]:
        """Returns the file while it is written."""
        if self._last_pts is None or self._closed or self._failed:
            return []
        duration_pts = self._last_pts + max(self._interval_pts, self._pts_since_capture())
        return [Recording(self._path, float(duration_pts * self._time_base))]

    def _pts_since_capture(self) -> int:
        """Ticks that have passed since the last frame of a live source was captured."""
        if not self._info.is_live or not self._captured_s:
            return 0
        return int((time.monotonic() - self._captured_s) / self._time_base)

    def _open(self, image_bgr: np.ndarray, source_pts: int) -> None:
        """Opens the file and writes its header, without the sound where that can't be had."""
        height, width = image_bgr.shape[:2]
        self._size_wh = (width, height)
        cut = self._info.start_s > 0
        self._offset_pts = source_pts if clip_start_s(self._info, float(source_pts)) else 0
        if self._info.kind == SourceKind.VIDEO and self._info.path is not None:
            self._audio = AudioTracks(self._info.path, self._extension, self.problems)
        self._file = _MuxedFile(self._path, overwrite=self._overwrite)
        try:
            self._start(cut)
        except MEDIA_ERRORS as error:
            self._file.check()
            if self._audio is None:
                raise
            self._audio.close()
            self._audio = None
            self._file.rewind()
            self._start(cut)
            self.problems.append(f"the sound can't be saved as {self._extension} ({error}); saved without it")

    def _start(self, cut: bool) -> None:
        """Sets the streams up and writes the header."""
        width, height = self._size_wh
        options = dict(self._format.muxer_options)
        if self._extension == ".mp4":
            # What a track's beginning is told in: fine enough for the sound, exact for the picture.
            ticks = self._time_base.denominator
            options["movie_timescale"] = str(ticks * -(-90_000 // ticks))
        self._output = av.open(
            cast(Any, self._file),
            "w",
            format=self._format.muxer,
            container_options=options,
        )
        encoder_options = dict(self._format.encoder_options)
        if self._info.is_live:
            # Frames in the order of their times, so that a gap at the end is told in the last one's.
            encoder_options["bf"] = "0"
        stream = self._output.add_stream(self._format.encoder, options=encoder_options)
        stream.time_base = self._time_base
        context = stream.codec_context
        context.width, context.height = width + width % 2, height + height % 2
        context.pix_fmt = "yuv420p"
        context.time_base = self._time_base
        context.framerate = self._rate
        context.sample_aspect_ratio = Fraction(1)
        context.thread_count = ENCODER_THREADS
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        context.color_range = _LIMITED
        if self._audio is not None:
            offset_s = self._offset_pts * self._time_base
            self._audio.add_streams(self._output, offset_s, cut=cut, can_seek=self._info.can_seek)
        self._output.start_encoding()
        self._stream = stream

    def _picture(self, image_bgr: np.ndarray) -> av.VideoFrame:
        """Turns a picture into what the encoder takes."""
        width, height = self._size_wh
        if image_bgr.shape[:2] != (height, width):
            image_bgr = cv2.resize(image_bgr, self._size_wh, interpolation=cv2.INTER_AREA)
        if width % 2 or height % 2:
            image_bgr = cv2.copyMakeBorder(image_bgr, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image_bgr), format="bgr24")
        return self._reformatter.reformat(
            frame, format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )

    def _mux(self, packets: list[av.Packet]) -> None:
        """Muxes video packets, each after the sound that comes before it."""
        assert self._file is not None
        for packet in packets:
            # Containers reckon with the duration of the last packet only.
            packet.duration = self._interval_pts
            if self._audio is not None and packet.dts is not None:
                self._audio.advance(packet.dts * self._time_base)
                self._file.check()
            self._output.mux(packet)
            self._file.check()

    def _finish(self) -> None:
        """Writes what the encoder holds, and the rest of the sound."""
        assert self._file is not None
        silent_pts = self._pts_since_capture()
        if self._last_picture is not None and silent_pts * self._time_base > SILENT_S:
            # A camera that has gone quiet: its last picture stood until now, and a minute stays a minute.
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


def clip_start_s(info: SourceInfo, first_time_s: float) -> float:
    """Return the time in the source at which an annotated video starts.

    A part of a recording, and anything live, starts with its first frame; nothing can be shown before 0. All
    other videos keep the source's own times.

    Args:
        info: The source.
        first_time_s: Time of the first frame that was written.
    """
    return first_time_s if info.start_s > 0 or info.is_live or first_time_s < 0 else 0.0


class _MuxedFile:
    """The file under the muxer: after a failed write it stays as it is.

    Finishing an MP4 file rewrites its beginning. With a full disk that would make the fragments that
    play into a file that does not, so nothing is written any more once a write has failed.
    """

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self.name = str(path)
        self._file = open_new(path, overwrite=overwrite)
        self._error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Writes all of it, unless a write has failed before."""
        left = memoryview(data)
        try:
            while left and self._error is None:
                left = left[self._file.write(left) :]
        except OSError as error:
            self._error = error
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Moves to a place in the file."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Returns the place in the file."""
        return self._file.tell()

    def rewind(self) -> None:
        """Empties the file."""
        self._file.seek(0)
        self._file.truncate()

    def check(self) -> None:
        """Raises the error of the write that failed, if one has."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
