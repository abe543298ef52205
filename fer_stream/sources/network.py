"""Network streams (RTSP, HTTP with MJPEG or HLS, ...) through OpenCV's FFmpeg."""

from __future__ import annotations

import re

import cv2

from fer_stream.errors import SourceError
from fer_stream.sources.addresses import with_lower_scheme, without_password
from fer_stream.sources.base import SourceKind
from fer_stream.sources.feeds import Connection, Feed
from fer_stream.sources.opencv import Capture
from fer_stream.sources.playlist import names_master_playlists
from fer_stream.sources.web import Served, is_web_address

# A camera on a slow link needs seconds to answer. Nobody should wait longer than this for an error.
_OPEN_TIMEOUT_MS = 10_000
# FFmpeg can't go on after a read has timed out, so the stream is reopened.
_READ_TIMEOUT_MS = 5_000
# FFmpeg decodes H.264 and H.265 with one frame per thread, and each thread after the first adds a frame of
# delay. Two threads keep up with 4K.
_DECODER_THREADS = 2

_PARAMETERS = (
    *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_TIMEOUT_MS),
    *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, _READ_TIMEOUT_MS),
    *(cv2.CAP_PROP_N_THREADS, _DECODER_THREADS),
)


class NetworkStream(Feed):
    """The address of a stream. RTSP runs over TCP, or over UDP if the server supports nothing else.

    Args:
        address: The address, with its user and password.
        served: What it serves.
    """

    kind = SourceKind.NETWORK
    first_picture_s = 10.0  # there is no picture before a keyframe, and many encoders send one every 10 s

    def __init__(self, address: str, served: Served = Served.STREAM) -> None:
        self.name = without_password(address)
        self._address = with_lower_scheme(address)
        # Not urlsplit, which raises on a text that only looks like IPv6. FFmpeg reports what can't be opened.
        place = re.split("[?#]", address.lower())[0]
        self._is_http = is_web_address(place)
        self._is_hls = self._is_http and (served == Served.PLAYLIST or place.endswith(".m3u8"))
        self._is_file = served == Served.FILE and not self._is_hls

    def open(self) -> Connection:
        """Connect. See `Feed.open`."""
        if self._is_hls and names_master_playlists(self._address):
            raise SourceError(
                f"{self.name} is a playlist of playlists of playlists, which FFmpeg can't follow; "
                "give the address of one of its streams"
            )
        capture = Capture.open(self._address, cv2.CAP_FFMPEG, _PARAMETERS)
        if capture is None:
            raise SourceError(
                f"{self.name} can't be opened: check that the address is right, that the device answers, "
                "and that it needs no other user or password"
            )
        # Over HTTP, a file arrives as fast as the connection allows, and HLS arrives in pieces of a few
        # seconds.
        frame_count = capture.frame_count if self._is_http else None
        is_recording = self._is_file or frame_count is not None
        return Connection(capture, self._is_hls or is_recording, is_recording, frame_count)

    def no_picture_help(self) -> str:
        """Return advice. See `Feed.no_picture_help`."""
        if not self._is_file:
            return "check that it sends video, with a keyframe every few seconds"
        # FFmpeg can't read an index at the end of a file from a server without range requests.
        return (
            "check that it is a video; if it is, download it first, "
            "because its server may not support range requests"
        )


class Pacer:
    """Paces a stream whose pictures arrive faster than they should be shown."""

    LONGEST_S = 10.0  # a longer wait means that the clock was reset, as between a film and an advertisement

    def __init__(self) -> None:
        self._offset_s: float | None = None

    def wait_s(self, position_s: float, now_s: float) -> float:
        """Return how many seconds to hold a picture back; 0 if it is late.

        Args:
            position_s: Presentation time of the picture.
            now_s: Current time, such as `time.monotonic()`.
        """
        if self._offset_s is None:
            self._offset_s = now_s - position_s
        wait_s = position_s + self._offset_s - now_s
        if abs(wait_s) > self.LONGEST_S:
            self._offset_s = now_s - position_s
            return 0.0
        return max(0.0, wait_s)
