"""Recorded video, decoded with PyAV: every frame once, in order, at its own presentation time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import av.error
import numpy as np
from av.video.frame import VideoFrame

from fer_stream.errors import NoFramesError, SourceError, reason_of
from fer_stream.sources.base import Source, SourceInfo, SourceKind
from fer_stream.sources.bgr import BgrConverter
from fer_stream.sources.container import (
    DAMAGED,
    UNREACHABLE,
    decoding_delay,
    duration_s,
    frame_count,
    frame_rate,
    has_timestamps,
    may_be_joined,
    open_video,
    stated_end_s,
    usual_interval_s,
)
from fer_stream.sources.missing_frames import Losses
from fer_stream.sources.orientation import display_matrix, swaps_axes, upright
from fer_stream.sources.pixel_aspect import square_size
from fer_stream.sources.seeking import Place, find_start, past_the_end
from fer_stream.sources.time_text import format_time, has_reached
from fer_stream.sources.timestamps import Clock
from fer_stream.system.cores import CORES
from fer_stream.system.environment import check_pixels, max_video_pixels
from fer_stream.system.memory import LARGE_FRAME_BYTES, has_memory_for, is_out_of_memory
from fer_stream.types import Frame

# Measured: on 16 cores, four threads take two thirds of the time of one. On 2 cores, a second thread takes
# more CPU time and saves no time.
MOST_CONVERTER_THREADS = 4


class VideoSource(Source):
    """Reads a video file.

    `time_s` is the presentation time as stored, without an offset, and rises strictly. Where the timestamps
    restart or jump, time runs on; see timestamps.py. `index` counts from the recording's first frame
    even if reading starts later.
    """

    def __init__(
        self,
        path: Path,
        *,
        name: str,
        start_s: float = 0.0,
        end_s: float | None = None,
        mirror: bool,
        threads: int = 0,
    ) -> None:
        """Open a video file and decode the first frame of the part.

        Args:
            path: The file.
            name: The name to show.
            start_s: Start of the part, presentation time in seconds.
            end_s: End of the part (exclusive); None for the end of the file.
            mirror: Flip every frame horizontally.
            threads: CPU threads that the process may use; 0 for one per core. The decoder chooses for itself.

        Raises:
            SourceError: The file is no video, or has no frame between start and end.
        """
        super().__init__(mirror=mirror)
        self._path, self._name = path, name
        self._end_s = end_s
        self._losses: Losses | None = None
        self._reached_end = False  # of the file
        self._repeats = False  # whether empty packets repeat some of the pictures
        # Of the first packet since the last seek: its position in bytes, and its decoding timestamp.
        self._first_position: int | None = None
        self._first_dts: int | None = None
        self._noted_breaks = 0  # breaks that are already listed in `problems`
        self._open()
        try:
            first = next(self._decoded, None)
            if first is None:
                raise SourceError(f"{name}: none of its video can be decoded; {DAMAGED}")
            # The stream's ratio holds for all frames, because boxes and saved video need one size.
            aspect = self._stream.sample_aspect_ratio
            self._size_wh = square_size((first.width, first.height), aspect)  # before a turn
            check_pixels(name, self._size_wh, max_video_pixels())
            converter_threads = max(1, min(MOST_CONVERTER_THREADS, (threads or CORES) // 4))
            self._to_picture = BgrConverter(self._size_wh, converter_threads)
            self._display_matrix = display_matrix(first)
            self._has_timestamps = has_timestamps(self._stream, first)
            self._delay = decoding_delay(self._stream, first, self._first_dts)
            self._clock = self._new_clock()
            # Decode the first frame now, so that an empty part fails at once. The first call of `_read`
            # returns it.
            self._first: tuple[VideoFrame, float] | None = None
            first, self._index, time_s = self._go_to(start_s, first)
            self.info = self._describe(start_s)
            self._first = first, time_s
            self._losses = Losses(name, self.info.frame_rate, stated_end_s(self._container, self._stream))
            self._losses.add(time_s, self._duration_s(first))
            if end_s is not None and has_reached(time_s, end_s):
                begins = f" (by its own clock it begins at {format_time(time_s)})" if self._index == 0 else ""
                raise NoFramesError(
                    f"{name} has no frame between {format_time(start_s)} and {format_time(end_s)}{begins}; "
                    "widen the part"
                )
        except BaseException:
            self._container.close()
            raise

    def _open(self) -> None:
        """Open the file, or reopen it, at its beginning."""
        self._container, self._stream = open_video(self._path, self._name)
        # Decode frames in several threads at once. Without this, the decoder uses one core. Each thread holds
        # a frame, so threads share one frame if frames are larger than 4K.
        frame_bytes = 3 * self._stream.width * self._stream.height
        self._stream.thread_type = "AUTO" if frame_bytes <= LARGE_FRAME_BYTES else "SLICE"
        self._stream.codec_context.options = {"max_pixels": str(max_video_pixels())}
        self._begin_decoding()

    def _begin_decoding(self) -> None:
        """Decode from the container's current position, and forget the damage that was found before."""
        self._damaged_packets, self._read_error, self._unreachable = 0, "", False
        self._decoded = self._decode()

    def _new_clock(self) -> Clock:
        return Clock(
            self._stream,
            has_timestamps=self._has_timestamps,
            delay=self._delay,
            may_break=may_be_joined(self._container),
        )

    def _describe(self, start_s: float) -> SourceInfo:
        stream = self._stream
        rate = frame_rate(stream)
        time_base = stream.time_base
        length_s = duration_s(self._container, stream)
        is_cut = start_s > 0 or self._end_s is not None
        count = None if is_cut else frame_count(stream)
        if count is None and rate and length_s:
            first_s = float((stream.start_time or 0) * time_base) if time_base else 0.0
            last_s = first_s + length_s
            part_s = min(last_s, self._end_s or last_s) - max(first_s, start_s)
            count = max(1, round(part_s * rate))
        width, height = self._size_wh
        if swaps_axes(self._display_matrix):
            width, height = height, width
        return SourceInfo(
            name=self._name,
            kind=SourceKind.VIDEO,
            path=self._path,
            size_wh=(width, height),
            frame_rate=rate,
            time_base=time_base,
            duration_s=length_s,
            frame_count=count,
            start_s=start_s,
            end_s=self._end_s,
            can_seek=self._clock.breaks == 0,
            clock_starts_s=(self._container.start_time or 0) / av.time_base if self._has_timestamps else 0.0,
            # Without timestamps, the average rate gives the times.
            usual_interval_s=usual_interval_s(self._path, self._name, rate) if self._has_timestamps else None,
        )

    def _go_to(self, start_s: float, first: VideoFrame) -> tuple[VideoFrame, int, float]:
        """Return the first frame at or after the start, its index and its time in seconds.

        Counting packets gives the index and the keyframe to seek to, without decoding earlier frames. The
        result of the seek is used only if it is the frame that the packets announced. If packets can't be
        counted or seeking fails, the file is decoded from its beginning.
        """
        first_s = time_s = self._clock.time_s(first, 0)
        if has_reached(time_s, start_s):
            return first, 0, time_s
        length_s = duration_s(self._container, self._stream)
        if self._has_timestamps:
            place = find_start(self._path, self._name, first, start_s, length_s)
            frame = None if place is None else self._frame_at(place)
            if place is not None and frame is not None:
                return frame, place.index, self._clock.restart(frame)
        self._container.close()
        self._open()
        self._clock = self._new_clock()
        for index, frame in enumerate(self._decoded):
            time_s = self._clock.time_s(frame, index)
            if has_reached(time_s, start_s):
                return frame, index, time_s
        # The stated length means nothing where timestamps restart or jump.
        end_s = first_s + length_s if length_s and not self._clock.breaks else time_s
        raise past_the_end(self._name, first_s, time_s, end_s, start_s)

    def _frame_at(self, place: Place) -> VideoFrame | None:
        """Seek to a place and return its frame; None if the seek led elsewhere."""
        try:
            self._container.seek(place.seek_timestamp, stream=self._stream, backward=True, any_frame=False)
        except av.error.FFmpegError:
            return None
        self._begin_decoding()
        for frame in self._decoded:
            if frame.pts is None or frame.pts >= place.pts:
                # In a file with restarts, the same timestamp occurs at several positions.
                is_too_late = (self._first_position or 0) > (place.position or 0)
                return frame if frame.pts == place.pts and not is_too_late else None
        return None

    def _decode(self) -> Iterator[VideoFrame]:
        """Yield frames from the container's current position; count the packets that can't be decoded."""
        packets = self._container.demux(self._stream)
        is_first = True
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError as error:
                self._read_error = reason_of(error)
                if is_out_of_memory(error):
                    # A packet is no larger than its file. If there is memory for that, its size is wrong.
                    if not has_memory_for(self._path.stat().st_size):
                        raise
                    self._read_error = "a packet states an impossible size"
                # The file could be read up to here. The rest is missing or can't be reached.
                self._unreachable = error.errno in UNREACHABLE
                packet = None
            if is_first and packet is not None:
                self._first_position, self._first_dts, is_first = packet.pos, packet.dts, False
            if packet is not None and packet.size == 0:  # the same picture again, as in Theora
                self._repeats |= packet.pts is not None  # if it has no time, it only marks the end
                continue
            try:
                frames = self._stream.decode(packet)
            except av.error.FFmpegError as error:
                if is_out_of_memory(error):
                    raise
                self._damaged_packets += 1
                frames = []
            while frames:  # keep no reference to a frame that was handed out: it may take 50 MB
                yield frames.pop(0)
            if packet is None:
                return

    def _read(self) -> Frame | None:
        decoded_frame, self._first = self._first or self._next_frame(), None
        if decoded_frame is None:
            if self._unreachable:
                reason, self._read_error, self._unreachable = self._read_error, "", False
                raise SourceError(
                    f"{self._name} can't be read any further: {reason}; is its drive still connected?"
                )
            self._note_problems()
            self._note_losses()
            return None
        decoded, time_s = decoded_frame
        frame = self._frame(self._to_bgr(decoded), self._index, time_s, self._name)
        self._index += 1
        return frame

    def _next_frame(self) -> tuple[VideoFrame, float] | None:
        """Decode the next frame of the part; return None at its end."""
        decoded = next(self._decoded, None)
        if decoded is None:
            self._reached_end = True
            return None
        time_s = self._clock.time_s(decoded, self._index)
        if self._end_s is not None and has_reached(time_s, self._end_s):
            return None
        if self._losses is not None:
            self._losses.add(time_s, self._duration_s(decoded))
        return decoded, time_s

    def _duration_s(self, frame: VideoFrame) -> float:
        """Return the display duration that a frame states, in seconds; 0 if it states none."""
        if not (self._has_timestamps and frame.duration and frame.time_base):
            return 0.0
        return float(frame.duration * frame.time_base)

    def _to_bgr(self, frame: VideoFrame) -> np.ndarray:
        """Return the picture, uint8 (H, W, 3), upright, with square pixels, in the size of the first frame.

        A picture whose size changes midway is scaled, because boxes and saved video need one size.
        """
        try:
            bgr = self._to_picture.convert(frame)
        except (av.error.FFmpegError, ValueError) as error:
            raise SourceError(
                f"{self._name}: pixels of the format {frame.format.name} can't be read; convert it to H.264"
            ) from error
        return upright(bgr, self._display_matrix)

    def _note_losses(self) -> None:
        """Note the frames that are missing from the recording."""
        # If timestamps restart, the stated end can't be compared with the running time.
        if self._losses is not None and not self._clock.breaks:
            self.problems += self._losses.problems(
                self._end_s, end_reached=not self._reached_end, repeats=self._repeats
            )
        self._losses = None

    def _note_problems(self) -> None:
        """Note the damage and the breaks in time since the last call."""
        if self._damaged_packets:
            packets = "packet was" if self._damaged_packets == 1 else "packets were"
            self.problems.append(f"{self._name}: {self._damaged_packets} damaged {packets} skipped")
        if self._read_error:
            self.problems.append(f"{self._name} can't be read to its end: {self._read_error}")
        self._damaged_packets, self._read_error = 0, ""
        breaks = self._clock.breaks - self._noted_breaks
        if breaks:
            times = "once" if breaks == 1 else f"{breaks} times"
            self.problems.append(
                f"{self._name}: its timestamps restart or jump {times}; time runs on without a gap"
            )
        self._noted_breaks = self._clock.breaks

    def _release(self) -> None:
        self._note_problems()
        self._first = None
        self._container.close()
