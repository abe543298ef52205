"""Copy the sound of a recording into the annotated video while the video is written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import cast

import av
import av.error
from av.audio.resampler import AudioResampler
from av.bitstream import BitStreamFilterContext

from fer_stream.errors import reason_of
from fer_stream.sources.container import MEDIA_ERRORS, may_be_joined, open_container, pick_video_stream
from fer_stream.sources.timestamps import sound_in_running_time
from fer_stream.words import duration_text

# Codecs that players of these files understand. Sound in another codec is encoded again. None means every
# codec that the file can hold.
COPIED_CODECS: dict[str, frozenset[str] | None] = {
    ".mp4": frozenset({"aac", "mp3", "mp3float", "ac3", "eac3", "alac", "flac", "opus", "libopus"}),
    ".mkv": None,
    ".webm": frozenset({"opus", "libopus", "vorbis", "libvorbis"}),
}
ENCODERS = {".mp4": "aac", ".mkv": "aac", ".webm": "libopus"}


# How far sound may stray from the times of the source. People notice sound that is 45 ms early or 125 ms
# late. In a DVD's files, AC-3 has times that are 32 ms late for one frame.
STRAYS_FAR_S = Fraction(100, 1000)  # this is corrected at once
STRAYS_A_LITTLE_S = Fraction(20, 1000)  # this is corrected if it lasts
LASTING_S = Fraction(500, 1000)


class _SampleClock:
    """Lets each frame start where the last one ended, unless the times of the source stray too far from that.

    So times that jitter, go back, or are coarser than the samples do no harm.
    """

    def __init__(self) -> None:
        self.end_s: Fraction | None = None  # of the sound so far
        self._strays_for_s = Fraction(0)
        self._catches_up = False

    def place(self, time_s: Fraction, duration_s: Fraction) -> Fraction | None:
        """Return the start of the next frame in seconds; None to leave it out because the sound is late."""
        start_s = time_s if self.end_s is None else self.end_s
        stray_s = time_s - start_s
        if abs(stray_s) > STRAYS_A_LITTLE_S:
            self._strays_for_s += duration_s
        else:
            self._strays_for_s, self._catches_up = Fraction(0), False
        if abs(stray_s) > STRAYS_FAR_S or self._strays_for_s > LASTING_S:
            self._strays_for_s, self._catches_up = Fraction(0), True
        if self._catches_up:
            if stray_s < 0:
                return None
            start_s, self._catches_up = time_s, False
        self.end_s = start_s + duration_s
        return start_s


@dataclass
class _Track(ABC):
    """Writes one audio stream of the recording.

    Attributes:
        stream: The stream that is written.
        output: The file that it belongs to.
        offset_s: Time in the source that is 0 in the output.
        problem: Called with a sentence about sound that is left out.
    """

    stream: av.audio.stream.AudioStream
    output: av.container.OutputContainer
    offset_s: Fraction
    problem: Callable[[str], None]

    @abstractmethod
    def write(self, packet: av.Packet) -> None:
        """Write the sound of one packet, which has a time."""

    @abstractmethod
    def finish(self) -> None:
        """Write the rest of the sound, at the end."""


@dataclass
class _CopiedTrack(_Track):
    """Copies packets.

    Attributes:
        headers: Filter that removes the header of every packet; None if packets have none.
    """

    headers: BitStreamFilterContext | None
    _next_pts: int | None = field(default=None, init=False)
    _goes_back: bool = field(default=False, init=False)

    def write(self, packet: av.Packet) -> None:
        """Write one packet. If its time goes back a little, it gets the earliest one that is free."""
        assert packet.pts is not None and packet.time_base is not None
        pts = packet.pts - round(self.offset_s / packet.time_base)
        if self._next_pts is not None:
            back_s = (self._next_pts - pts) * packet.time_base
            self._goes_back = back_s > (0 if self._goes_back else STRAYS_FAR_S)
            if self._goes_back:
                self.problem("the times of the sound go back in places; left out there")
                return
            pts = max(pts, self._next_pts)
        # Short packets have equal times in Matroska, which counts milliseconds. MP4 takes no equal times.
        tick_s = self.stream.time_base if self.output.format.name == "mp4" else None
        self._next_pts = pts + (ceil(tick_s / packet.time_base) if tick_s else 0)
        packet.pts = packet.dts = pts
        for ready in [packet] if self.headers is None else self.headers.filter(packet):
            ready.stream = self.stream
            self.output.mux(ready)

    def finish(self) -> None:
        """Do nothing: no packet waits."""


@dataclass
class _EncodedTrack(_Track):
    """Decodes packets, and encodes the sound again."""

    _clock: _SampleClock = field(default_factory=_SampleClock, init=False)
    _shape: tuple[str, str, int] | None = field(default=None, init=False)
    _converters: dict[tuple[str, str, int], AudioResampler] = field(default_factory=dict, init=False)

    def write(self, packet: av.Packet) -> None:
        """Decode one packet, and encode its sound."""
        try:
            frames = cast(list[av.AudioFrame], packet.decode())
        except av.error.InvalidDataError:
            self.problem("the sound is damaged in places; left out there")
            return
        assert packet.pts is not None and packet.time_base is not None
        for frame in frames:
            if frame.pts is not None and frame.time_base is not None:
                time_s = frame.pts * frame.time_base - self.offset_s
            elif self._clock.end_s is not None:
                time_s = self._clock.end_s
            else:
                time_s = packet.pts * packet.time_base - self.offset_s
            rate = frame.sample_rate
            start_s = self._clock.place(time_s, Fraction(frame.samples, rate))
            if start_s is not None:
                frame.pts, frame.time_base = round(start_s * rate), Fraction(1, rate)
                for alike in self._like_the_first(frame):
                    self._encode(alike)
            elif self._clock.end_s is not None and time_s < self._clock.end_s - STRAYS_FAR_S:
                self.problem("the times of the sound go back in places; left out there")

    def finish(self) -> None:
        """Flush the encoder."""
        self._encode(None)

    def _like_the_first(self, frame: av.AudioFrame) -> list[av.AudioFrame]:
        """Return a frame in the shape of the first one: TV changes between stereo and more channels."""
        shape = frame.format.name, frame.layout.name, frame.sample_rate
        self._shape = self._shape or shape
        if shape == self._shape:
            return [frame]
        if shape not in self._converters:
            self._converters[shape] = AudioResampler(*self._shape)
        return self._converters[shape].resample(frame)

    def _encode(self, frame: av.AudioFrame | None) -> None:
        """Encode and mux a frame, or flush the encoder if it is None. The encoder resamples by itself."""
        for packet in self.stream.encode(frame):
            self.output.mux(packet)


class AudioTracks:
    """Reads the audio streams of a recording a second time, and muxes them as the video advances.

    It holds one packet at a time, or a few hundred if the recording may be joined; see
    `sound_in_running_time`. Damage may end a track, but never the video. It is noted in `problems`.
    """

    def __init__(self, path: Path, extension: str, problems: list[str]) -> None:
        """Open the recording.

        Args:
            path: The recording.
            extension: Extension of the output, which decides which codecs are copied.
            problems: The list to which problems are added.
        """
        self._extension = extension
        self._problems = problems
        self._path = path
        self._tracks: dict[int, _Track] = {}
        self._packets: Iterator[av.Packet] = iter(())
        self._next: av.Packet | None = None
        self._offset_s, self._cut = Fraction(0), False
        self._input: av.container.InputContainer | None = None
        try:
            self._input = open_container(path)
        except (*MEDIA_ERRORS, OSError) as error:
            self._problem(f"the sound of {path} can't be read ({reason_of(error)}); saved without it")

    def add_streams(
        self, output: av.container.OutputContainer, offset_s: Fraction, *, cut: bool, can_seek: bool
    ) -> None:
        """Add the audio streams to an output whose header is not written yet.

        Args:
            output: The output.
            offset_s: Time in the source that is 0 in the output.
            cut: Whether to leave out the sound before `offset_s`.
            can_seek: See `SourceInfo.can_seek`.
        """
        if self._input is None:
            return
        self._offset_s, self._cut = offset_s, cut
        for stream in self._input.streams.audio:
            try:
                self._tracks[stream.index] = self._add_stream(output, stream)
            except MEDIA_ERRORS as error:
                self._problem(f"an audio track can't be saved ({reason_of(error)}); saved without it")
        if not self._tracks:
            return
        sources = [stream for stream in self._input.streams.audio if stream.index in self._tracks]
        if cut and can_seek:
            try:
                time_base = sources[0].time_base or Fraction(1, av.time_base)
                self._input.seek(int(offset_s / time_base), stream=sources[0])
            except MEDIA_ERRORS:
                pass  # seeking failed, so the file is read from its start
        video = pick_video_stream(self._input) if may_be_joined(self._input) else None
        if video is None:
            self._packets = self._input.demux(*sources)
        else:
            packets = self._input.demux(video, *sources)
            self._packets = sound_in_running_time(packets, video, list(self._tracks))
        self._advance_one()

    def advance(self, until_s: Fraction | None) -> None:
        """Mux all sound up to a time of the output, or to the end if `until_s` is None.

        Raises:
            OSError: The output can't be written. Damaged sound raises nothing.
        """
        while self._next is not None:
            packet = self._next
            assert packet.pts is not None and packet.time_base is not None
            time_s = packet.pts * packet.time_base - self._offset_s
            if until_s is not None and time_s >= until_s:
                return
            track = self._tracks.get(packet.stream.index)
            if track is not None and not (self._cut and time_s < 0):
                try:
                    track.write(packet)
                except MEDIA_ERRORS:
                    del self._tracks[packet.stream.index]
                    saved = duration_text(max(0.0, float(time_s)))
                    self._problem(f"an audio track can't be saved beyond {saved}")
            self._advance_one()

    def finish(self) -> None:
        """Flush the encoders."""
        for track in self._tracks.values():
            try:
                track.finish()
            except MEDIA_ERRORS:
                self._problem("the last moment of an audio track can't be saved")

    def close(self) -> None:
        """Close the recording."""
        self._next, self._packets, self._tracks = None, iter(()), {}
        if self._input is not None:
            self._input.close()
            self._input = None

    def _add_stream(
        self, output: av.container.OutputContainer, stream: av.audio.stream.AudioStream
    ) -> _Track:
        """Add an output stream for one audio stream."""
        context = stream.codec_context
        if context is None or not context.sample_rate:
            raise ValueError("its codec is unknown")
        track = self._copied(output, stream) or self._encoded(output, stream)
        if language := stream.metadata.get("language"):
            track.stream.metadata["language"] = language
        return track

    def _copied(
        self, output: av.container.OutputContainer, stream: av.audio.stream.AudioStream
    ) -> _CopiedTrack | None:
        """Return a track that copies packets; None if the output doesn't take this codec."""
        context = stream.codec_context
        copied_codecs = COPIED_CODECS[self._extension]
        if copied_codecs is not None and context.name not in copied_codecs:
            return None
        try:
            copy = output.add_stream_from_template(stream)
        except ValueError:
            return None
        headers = None
        if context.name == "aac" and not context.extradata:
            # In a transport stream, every AAC packet has a header that other containers store once.
            headers = BitStreamFilterContext("aac_adtstoasc", stream)
        return _CopiedTrack(copy, output, self._offset_s, self._problem, headers)

    def _encoded(
        self, output: av.container.OutputContainer, stream: av.audio.stream.AudioStream
    ) -> _EncodedTrack:
        """Return a track that encodes the sound again."""
        context = stream.codec_context
        name = ENCODERS[self._extension]
        rates = av.codec.Codec(name, "w").audio_rates or [48000]
        rate = context.sample_rate if context.sample_rate in rates else 48000
        layout = "mono" if context.channels == 1 else "stereo"
        encoded = output.add_stream(name, rate=rate, layout=layout)
        assert isinstance(encoded, av.audio.stream.AudioStream)
        return _EncodedTrack(encoded, output, self._offset_s, self._problem)

    def _advance_one(self) -> None:
        """Read up to the next packet that has a time."""
        self._next = None
        try:
            while (packet := next(self._packets, None)) is not None:
                if packet.pts is not None and packet.size:
                    self._next = packet
                    return
        except MEDIA_ERRORS as error:
            self._problem(f"the sound of {self._path} is damaged ({reason_of(error)}); saved up to there")

    def _problem(self, text: str) -> None:
        """Note a problem, but each one only once."""
        if text not in self._problems:
            self._problems.append(text)


def goes_on_after(path: Path, time_s: Fraction) -> bool:
    """Return whether a recording's video goes on after a time."""
    try:
        with open_container(path) as container:
            stream = pick_video_stream(container)
            if stream is None:
                return False
            time_base = stream.time_base or Fraction(1, av.time_base)
            after = int(time_s / time_base)
            container.seek(after, stream=stream)
            # An empty packet repeats the picture before.
            times = (packet.pts for packet in container.demux(stream) if packet.size)
            return any(pts is not None and pts > after + 1 for pts in times)
    except (*MEDIA_ERRORS, OSError):
        return False
