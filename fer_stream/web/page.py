"""`--serve`: the sink behind the live page."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_stream.errors import UsageError, one_line
from fer_stream.sinks.base import Sink
from fer_stream.sinks.captures import Captures
from fer_stream.sinks.real_time import RealTime
from fer_stream.sinks.table import TABLE_COLUMNS, table_rows
from fer_stream.sources import SourceKind
from fer_stream.status import RunStatus
from fer_stream.web.addresses import listen, page_address, token_from_environment
from fer_stream.web.app import RunAccess, make_app, to_json
from fer_stream.web.guard import Guard, own_names
from fer_stream.web.history import History
from fer_stream.web.hub import Hub
from fer_stream.web.server import Server

if TYPE_CHECKING:
    from fer_stream.sinks.base import RunContext
    from fer_stream.sources import SourceInfo
    from fer_stream.status import Recording
    from fer_stream.types import AnalyzedFrame

# No more pictures are drawn for the page, because a recording may run faster than anybody can see.
MOST_PICTURES_PER_S = 30.0
_STATUS_EVERY_S = 0.5
_FACE_COLUMNS = TABLE_COLUMNS[TABLE_COLUMNS.index("face_id") :]


class PageSink(Sink):
    """Shows the run on a web page, and handles its buttons.

    The page's server runs in its own thread. There, a button only queues a request. `write` and `idle` carry
    it out in the pipeline's thread, so that no other thread touches the run.

    Attributes:
        address: The address that opens the page, with its token.
    """

    name = "page"

    def __init__(
        self,
        info: SourceInfo,
        host: str,
        port: int,
        *,
        status: RunStatus,
        folder: Path | str = ".",
        real_time: bool = False,
    ) -> None:
        """Open the page's socket.

        Args:
            info: The source.
            host: The name or address to listen at.
            port: The port; 0 picks a free one.
            status: Status of the run. It also receives a notice for each saved file.
            folder: Folder for the stills and recordings that buttons ask for.
            real_time: Whether to show a recording at its own pace, because there are no other outputs.

        Raises:
            UsageError: The source is a set of pictures, or FER_STREAM_TOKEN can't be used.
            OutputError: The port is taken or not allowed.
        """
        super().__init__()
        if info.kind == SourceKind.IMAGES:
            raise UsageError("--serve shows a video or a camera; pictures are saved with --save")
        token = token_from_environment()
        listening = listen(host, port)
        bound_ip, port = listening.getsockname()[:2]
        self.address = page_address(host, bound_ip, port, token)
        self._info, self._status = info, status
        self._hub = Hub()
        self._history = History(live=info.is_live)
        self._captures = Captures(Path(folder), info, self._note)
        self.problems = self._captures.problems
        self._pace = RealTime() if real_time and not info.is_live else None
        self._actions: deque[tuple[str, Future[str]]] = deque()
        self._lock = threading.Lock()
        self._files: list[Path] = []  # by number; a file keeps its number
        self._still_wanted: Future[str] | None = None
        self._newest: AnalyzedFrame | None = None
        self._context: RunContext | None = None
        self._drawn_s = self._status_sent_s = -math.inf
        self._last_note = ""
        self._state = "starting"
        app = make_app(RunAccess(self._hub, self._history, self._ask, self._file))
        guarded = Guard(app, token=token, port=port, host_names=own_names(host))
        self._server = Server(guarded, listening, self._hub)

    def __enter__(self) -> PageSink:
        """Start serving, so that the page can be opened while the networks load."""
        self._server.start()
        self._send_status()
        return self

    def begin(self, context: RunContext) -> None:
        """Remember the run's context. See `Sink.begin`."""
        self._context, self._status, self._state = context, context.status, "running"
        self._send_status()

    def needs_image(self, analyzed: AnalyzedFrame) -> bool:
        """Return whether anybody is watching, or something is saved. See `Sink.needs_image`."""
        if self._captures.recording or self._still_wanted is not None:
            return True
        now_s = time.monotonic()
        # Allow a little slack, so that all frames are shown if 30 come per second.
        if not self._hub.images.readers or now_s - self._drawn_s < 0.9 / MOST_PICTURES_PER_S:
            return False
        self._drawn_s = now_s
        return True

    def write(self, analyzed: AnalyzedFrame, image_bgr: np.ndarray | None) -> None:
        """Show one frame and handle the buttons. See `Sink.write`."""
        if self._pace is not None and not self.stop_requested:
            self._pace.wait_for(analyzed.frame.time_s, meanwhile=self.idle)
        self._newest = analyzed
        self._history.add(analyzed)
        if self._hub.frames.readers:
            self._hub.frames.put(to_json(frame_event(analyzed)))
        if image_bgr is not None:
            if self._hub.images.readers:
                self._hub.images.put(image_bgr)
            if self._still_wanted is not None:
                reply, self._still_wanted = self._still_wanted, None
                self._captures.save_still(image_bgr)
                self._answer(reply)
            self._captures.write(analyzed, image_bgr)
        self.idle()

    def idle(self) -> None:
        """Handle the buttons, and send the status of the run. See `Sink.idle`."""
        while self._actions:
            name, reply = self._actions.popleft()
            self._act(name, reply)
        if time.monotonic() - self._status_sent_s >= _STATUS_EVERY_S:
            self._send_status()

    def close(self) -> None:
        """Tell the page that the run has ended, and stop serving."""
        if self._state == "ended":
            return
        self._captures.close()
        self._state = "ended"
        for reply in (*(reply for _, reply in self._actions), self._still_wanted):
            if reply is not None:
                _send_reply(reply, "the run has ended")
        self._send_status()
        self._hub.close()
        self._server.stop()

    def outputs(self) -> list[Path]:
        """Return the stills and recordings that buttons asked for."""
        return self._captures.outputs()

    def recordings(self) -> list[Recording]:
        """Return the recording that a button started, if it is running."""
        return self._captures.recordings()

    # Called in the server's thread

    def _ask(self, name: str) -> Future[str]:
        reply: Future[str] = Future()
        self._actions.append((name, reply))
        return reply

    def _file(self, number: int) -> Path | None:
        with self._lock:
            return self._files[number] if 0 <= number < len(self._files) else None

    # Called in the pipeline's thread

    def _act(self, name: str, reply: Future[str]) -> None:
        if name == "stop":
            self.stop_requested = True
            _send_reply(reply, "stopping")
        elif name == "record" and self._newest is not None:
            self._last_note = "recording stopped" if self._captures.recording else "recording"
            self._captures.toggle_recording(self._newest.frame.time_s)
            self._answer(reply)
        elif name == "still" and self._newest is not None:
            shown_bgr = self._hub.images.newest if self._hub.images.readers else None
            if shown_bgr is not None:  # works even while the source sends nothing
                self._captures.save_still(shown_bgr)
                self._answer(reply)
            elif self._still_wanted is None or self._still_wanted.cancelled():
                self._still_wanted = reply  # the next frame is drawn for it
            else:
                _send_reply(reply, "one moment")
        else:
            _send_reply(reply, "wait for the first picture")

    def _answer(self, reply: Future[str]) -> None:
        _send_reply(reply, self._last_note)
        self._send_status()

    def _note(self, text: str) -> None:
        self._last_note = one_line(text)
        self._status.notice(text)

    def _send_status(self) -> None:
        """Send the status of the run. Readers that come later get the newest one."""
        self._status_sent_s = time.monotonic()
        self._hub.status.put(to_json(self._describe()))

    def _describe(self) -> dict[str, Any]:
        status, now_s = self._status, time.monotonic()
        provenance = self._context.provenance if self._context is not None else None
        recording = self._captures.recordings()
        return {
            "state": self._state,
            "source": one_line(Path(self._info.name).name or self._info.name),
            "live": self._info.is_live,
            "duration_s": self._info.duration_s,
            "time_s": round(status.time_s, 3),
            "rate": round(status.frames_per_s(now_s), 1),
            "latency_ms": None if status.latency_s is None else round(1000 * status.latency_s, 1),
            "frames": status.frames,
            "dropped": status.dropped,
            "device": status.device,
            "connected": status.source.connected,
            "message": one_line(status.source.message),
            "unsure_below": provenance.unsure_below if provenance is not None else 0.0,
            "recording_s": round(recording[0].duration_s, 1) if recording else None,
            "is_recording": self._captures.recording,
            "files": self._listed_files(),
        }

    def _listed_files(self) -> list[dict[str, Any]]:
        """Return the run's files so far, without videos that are still being written."""
        paths = self._context.written_files() if self._context is not None else []
        # The status is one frame old, but this sink's own recordings are up to date.
        own = set(self._captures.outputs())
        growing = {recording.path for recording in self._status.recordings} - own
        growing |= {recording.path for recording in self._captures.recordings()}
        listed: list[dict[str, Any]] = []
        with self._lock:
            for path in dict.fromkeys(paths):
                entry: dict[str, Any] = {"name": one_line(path.name), "href": None}
                if path.is_file():
                    if path not in self._files:
                        self._files.append(path)
                    entry["bytes"] = path.stat().st_size
                    if path not in growing:
                        entry["href"] = f"/files/{self._files.index(path)}"
                listed.append(entry)
        return listed


def _send_reply(reply: Future[str], text: str) -> None:
    """Answer a request, unless its sender has left."""
    if reply.set_running_or_notify_cancel():
        reply.set_result(text)


def frame_event(analyzed: AnalyzedFrame) -> dict[str, Any]:
    """Return the event for a frame: its number, its time, and the table's columns for each face."""
    faces = [
        dict(zip(_FACE_COLUMNS, row[-len(_FACE_COLUMNS) :], strict=True))
        for row in table_rows(analyzed)
        if analyzed.faces
    ]
    return {
        "frame": analyzed.frame.index,
        "time_s": round(float(analyzed.frame.time_s), 6),
        "faces": faces,
    }
