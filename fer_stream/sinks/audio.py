"""Copy the sound of a recording into the annotated video while the video is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import av.error
from av.bitstream import BitStreamFilterContext

from fer_stream.errors import reason_of
from fer_stream.sources.container import MEDIA_ERRORS, may_be_joined, open_container, pick_video_stream
from fer_stream.sources.timestamps import sound_in_running_time

# Codecs that players of these files understand. Sound in another codec is encoded again. None means all
# codecs.
COPIED_CODECS: dict[str, frozenset[str] | None] = {
    ".mp4": frozenset({"aac", "mp3", "mp3float", "ac3", "eac3", "alac", "flac", "opus", "libopus"}),
    ".mkv": None,
    ".webm": frozenset({"opus", "libopus", "vorbis", "libvorbis"}),
}
ENCODERS = {".mp4": "aac", ".mkv": "aac", ".webm": "libopus"}


@dataclass
class _Track:
    """One audio stream.

    Attributes:
        source: The stream that is read.
        output: The stream that is written.
        copied: Whether packets are copied. Otherwise they are decoded and encoded again.
        headers: Filter that removes the header of every packet; None if packets have none.
        last_dts: Decoding time of the last written packet, in its own time base.
    """

    source: av.audio.stream.AudioStream
    output: av.audio.stream.AudioStream
    copied: bool
    headers: BitStreamFilterContext | None = None
    last_dts: int | None = None


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
        self._output: av.container.OutputContainer | None = None
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
        self._output, self._offset_s, self._cut = output, offset_s, cut
        for stream in self._input.streams.audio:
            try:
                self._tracks[stream.index] = self._add_stream(output, stream)
            except MEDIA_ERRORS as error:
                self._problem(f"an audio track can't be saved ({reason_of(error)}); saved without it")
        if not self._tracks:
            return
        sources = [track.source for track in self._tracks.values()]
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
                    self._mux_packet(track, packet)
                except MEDIA_ERRORS as error:
                    self._drop(track, error)
            self._advance_one()

    def finish(self) -> None:
        """Flush the encoders."""
        for track in list(self._tracks.values()):
            if track.copied or self._output is None:
                continue
            try:
                self._mux_encoded(track, None)
            except MEDIA_ERRORS as error:
                self._drop(track, error)

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
        copied_codecs = COPIED_CODECS[self._extension]
        copied = copied_codecs is None or context.name in copied_codecs
        if copied:
            added = output.add_stream_from_template(stream)
        else:
            name = ENCODERS[self._extension]
            rates = av.codec.Codec(name, "w").audio_rates or [48000]
            rate = context.sample_rate if context.sample_rate in rates else 48000
            layout = "mono" if context.channels == 1 else "stereo"
            encoded = output.add_stream(name, rate=rate, layout=layout)
            assert isinstance(encoded, av.audio.stream.AudioStream)
            added = encoded
        if language := stream.metadata.get("language"):
            added.metadata["language"] = language
        headers = None
        if copied and context.name == "aac" and not context.extradata:
            # In a transport stream, every AAC packet has a header that other containers store once.
            headers = BitStreamFilterContext("aac_adtstoasc", stream)
        return _Track(stream, added, copied, headers)

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

    def _mux_packet(self, track: _Track, packet: av.Packet) -> None:
        """Mux one packet, copied or encoded again, with the times of the output."""
        if not track.copied:
            for frame in self._decoded(packet):
                if frame.pts is not None and frame.time_base is not None:
                    frame.pts -= round(self._offset_s / frame.time_base)
                self._mux_encoded(track, frame)
            return
        assert packet.pts is not None and packet.time_base is not None and self._output is not None
        shift = round(self._offset_s / packet.time_base)
        packet.pts -= shift
        packet.dts = packet.pts if packet.dts is None else packet.dts - shift
        if track.last_dts is not None and packet.dts <= track.last_dts:
            self._problem("the times of the sound go back in places; left out there")
            return
        track.last_dts = packet.dts
        for ready in [packet] if track.headers is None else track.headers.filter(packet):
            ready.stream = track.output
            self._output.mux(ready)

    def _decoded(self, packet: av.Packet) -> list[av.AudioFrame]:
        """Return the frames of one packet; empty if it is damaged."""
        try:
            return cast(list[av.AudioFrame], packet.decode())
        except av.error.InvalidDataError:
            self._problem(f"the sound of {self._path} is damaged in places; left out there")
            return []

    def _mux_encoded(self, track: _Track, frame: av.AudioFrame | None) -> None:
        """Encode and mux a frame, or flush the encoder if it is None. The encoder resamples by itself."""
        assert self._output is not None
        for packet in track.output.encode(frame):
            self._output.mux(packet)

    def _drop(self, track: _Track, error: Exception) -> None:
        """Stop writing a track, and note why."""
        self._tracks.pop(track.source.index, None)
        self._problem(f"an audio track ends early: {reason_of(error)}")

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
