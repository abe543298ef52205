"""Turn a recording's timestamps into times that keep rising, across restarts and jumps.

Timestamps restart where transport streams or Matroska files were joined byte by byte (`cat a.ts b.ts`),
and they jump where a recorder split its files by day. Both are breaks: the next frame follows one frame
interval after the last one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction

import av
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from fer_stream.sources.container import frame_rate

FALLBACK_RATE = Fraction(25)  # FFmpeg's assumption for a stream that states no rate

# A step back of at least this many seconds is a restart. A smaller one is jitter in the timestamps.
SHORTEST_RESTART_S = 0.5
# A step ahead of more than this many seconds is a jump, unless the recording has made such steps before.
LONGEST_STEP_S = 60.0
# No step counts as a jump before this many steps, because a recording may have only a few frames a minute.
USUAL_STEPS = 3
MUCH_LONGER = 3  # a jump is also longer than the longest step so far, by this factor

# Sound packets that wait for the video to reach the same break: a second of sound has 30 to 50.
_MOST_WAITING = 500


class BreakFinder:
    """Finds breaks in one stream's timestamps, in ticks of its time base.

    Attributes:
        breaks: Number of breaks so far.
        shift: Ticks to add to a timestamp to get the running time.
    """

    def __init__(self, time_base: Fraction, interval: int) -> None:
        """Start to look, before the first timestamp.

        Args:
            time_base: Seconds per tick.
            interval: Ticks from one frame or packet to the next.
        """
        self.breaks = 0
        self.shift = 0
        self._interval = interval
        self._back = max(1, round(SHORTEST_RESTART_S / time_base))
        self._ahead = round(LONGEST_STEP_S / time_base)
        self._last: int | None = None
        self._steps = 0
        self._longest_step = 0

    def running_time(self, timestamp: int) -> int:
        """Return the running time of the next timestamp, which may step back by less than a restart."""
        if self._last is not None:
            step = timestamp - self._last
            is_jump = self._steps >= USUAL_STEPS and step > max(self._ahead, MUCH_LONGER * self._longest_step)
            if step <= -self._back or is_jump:
                self.breaks += 1
                self.shift += self._interval - step
            else:
                self._steps += 1
                self._longest_step = max(self._longest_step, step)
        self._last = timestamp
        return timestamp + self.shift


class Clock:
    """Turns the timestamps of decoded frames into times that rise strictly.

    Attributes:
        breaks: Number of restarts and jumps so far.
    """

    def __init__(
        self, stream: VideoStream, *, has_timestamps: bool, delay: int | None, may_break: bool
    ) -> None:
        """Start the clock, before the first frame.

        Args:
            stream: The stream, for its rate and time base.
            has_timestamps: Whether frames carry presentation times. If they don't and `delay` is None, times
                follow from the index and the rate.
            delay: How much later than its time a frame is decoded; see `container.decoding_delay`.
            may_break: Whether the timestamps may restart or jump; see `container.may_be_joined`.
        """
        self._may_break = may_break
        self._delay = delay
        self._rate = frame_rate(stream) or FALLBACK_RATE
        self._time_base = stream.time_base if has_timestamps or delay is not None else None
        self._last: int | None = None
        self._finder: BreakFinder | None = None
        if self._time_base is not None:
            self._interval = max(1, round(1 / (self._rate * self._time_base)))
            self._finder = BreakFinder(self._time_base, self._interval)

    @property
    def breaks(self) -> int:
        """Number of restarts and jumps so far."""
        return 0 if self._finder is None else self._finder.breaks

    def time_s(self, frame: VideoFrame, index: int) -> float:
        """Return a frame's time in seconds. Frames come in order."""
        if self._time_base is None or self._finder is None:
            return float(index / self._rate)
        timestamp = frame.pts
        if self._delay is not None:
            timestamp = None if frame.dts is None else frame.dts - self._delay
        if timestamp is not None:
            rising = self._finder.running_time(timestamp) if self._may_break else timestamp
        else:
            assert self._last is not None  # the first frame has a timestamp
            rising = self._last + self._interval
        if self._last is not None:
            rising = max(rising, self._last + 1)
        self._last = rising
        return float(rising * self._time_base)

    def restart(self, frame: VideoFrame) -> float:
        """Return the time of the first frame after a seek, and forget what came before."""
        self._last = None
        if self._finder is not None and self._time_base is not None:
            self._finder = BreakFinder(self._time_base, self._interval)
        return self.time_s(frame, 0)


def sound_in_running_time(
    packets: Iterable[av.Packet], video: VideoStream, audio_indices: Iterable[int]
) -> Iterator[av.Packet]:
    """Yield the sound packets of joined recordings with their times shifted as the video's are.

    A break in the sound gets the shift of the same break in the video, so that both stay together. Where
    the video has no such break, the sound runs on by itself.

    Args:
        packets: Packets of the video and of the sound, in the order of the file.
        video: The video stream.
        audio_indices: The indices of the sound streams.
    """
    time_base = video.time_base or Fraction(1, 90_000)
    interval = max(1, round(1 / ((frame_rate(video) or FALLBACK_RATE) * time_base)))
    video_finder = BreakFinder(time_base, interval)
    shifts_s = [Fraction(0)]  # the video's shift after each break
    finders: dict[int, BreakFinder] = {}
    waiting: deque[tuple[av.Packet, int]] = deque()  # with the number of breaks before the packet
    wanted = set(audio_indices)

    def shifted(packet: av.Packet, breaks: int) -> av.Packet:
        shift = finders[packet.stream.index].shift
        if breaks < len(shifts_s):
            shift = round(shifts_s[breaks] / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts + shift
        packet.dts = None if packet.dts is None else packet.dts + shift
        return packet

    for packet in packets:
        index = packet.stream.index
        if index == video.index and packet.dts is not None:
            video_finder.running_time(packet.dts)
            if video_finder.breaks == len(shifts_s):
                shifts_s.append(video_finder.shift * time_base)
        elif index in wanted and packet.pts is not None and packet.size:
            if index not in finders:
                finders[index] = BreakFinder(packet.time_base, packet.duration or 1)
            finders[index].running_time(packet.pts)
            waiting.append((packet, finders[index].breaks))
        while waiting and (waiting[0][1] < len(shifts_s) or len(waiting) > _MOST_WAITING):
            yield shifted(*waiting.popleft())
    while waiting:
        yield shifted(*waiting.popleft())
