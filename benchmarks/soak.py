"""Run live video from an RTSP server on loopback for an hour, and see whether anything grows.

    python benchmarks/soak.py [--minutes N] [--every SECONDS] [--video PATH]

The whole pipeline runs, with annotated video, table and live page; a client reads the page's /events. Every
two minutes something happens to the server: it stalls, it is restarted, or it comes back with another size
and frame rate. One of its streams also changes size and rate without a break. Each interval prints a row:

- memory: of this process now (RSS)
- threads: Python's own, and all with those of libraries
- files: open file descriptors
- latency: from the arrival of a picture to the last sink
- lag: how far the pictures are behind the server's clock, which each picture shows in its lowest rows. It
  would grow if pictures waited anywhere before they arrive.

The last lines say what stayed flat; the exit code is 1 if anything did not. Needs GStreamer's RTSP server;
see tests/helpers/live_servers.py.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from urllib.parse import urlsplit

import av
import cv2
import numpy as np
from process_memory import rss_mb

from fer_stream.analyzer import Analyzer
from fer_stream.pipeline import RunOptions, Summary, run
from fer_stream.profiling import peak_rss_mb
from fer_stream.rendering.overlay import Overlay
from fer_stream.sinks import TableSink, VideoSink
from fer_stream.sources import Source, open_source
from fer_stream.status import RunStatus
from fer_stream.types import AnalyzedFrame, Frame
from fer_stream.web.page import PageSink

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from helpers.live_servers import RtspServer  # noqa: E402

VIDEO = ROOT.parent / "shared" / "data" / "videos" / "portrait-360p.mp4"
FORMATS = (((640, 360), 24), ((480, 270), 15), ((960, 540), 30))  # width and height in px, frames per second
CLIP_S = 20  # the length of each clip, which the server's videos repeat
ACCIDENT_EVERY_S = 120.0
STALL_S = 4.0  # shorter than the time after which a stream counts as lost, and longer than any buffer
AWAY_S = 12.0
GAP_S = 5.0  # after a longer time without pictures, the server plays from its start again
SETTLED = 0.2  # this share of the run, the memory may still grow


def main() -> int:
    """Run the pipeline and print the table. Return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=60.0, help="seconds between two rows")
    parser.add_argument("--video", type=Path, default=VIDEO)
    options = parser.parse_args()
    duration_s = 60 * options.minutes
    with tempfile.TemporaryDirectory() as folder:
        with ProcessPoolExecutor(1, get_context("spawn")) as other:  # so that their memory is not counted
            videos = other.submit(
                make_videos, options.video, Path(folder), min(duration_s, 900) + 60
            ).result()
        with RtspServer(videos[0]) as server, open_source(server.address) as source:
            status = RunStatus()
            page = PageSink(source.info, "127.0.0.1", 0, status=status, folder=folder)
            sinks = [
                VideoSink(Path(folder, "saved.mp4"), source.info),
                TableSink(Path(folder, "table.jsonl"), source.info),
                page,
            ]
            watch = Watch(source, server, videos, duration_s, options.every)
            with page, Reader(page.address) as reader, watch:
                run_options = RunOptions(status=status, on_frame=watch.frame_done)
                summary = run(source, Analyzer("cpu"), Overlay(), sinks, run_options)
        rows = Path(folder, "table.jsonl").read_bytes().count(b"\n")
        video_mb = Path(folder, "saved.mp4").stat().st_size / 1e6
        print(f"\n{summary.frames} frames in {summary.wall_s:.0f} s, {summary.dropped} dropped, {rows} rows,")
        print(f"{video_mb:.0f} MB of video, {reader.events} events, peak {peak_rss_mb():.0f} MB")
        print("\n".join(summary.problems))
    verdicts = flatness(watch.rows)
    print("\n".join(text for text, _ in verdicts))
    return int(not all(is_flat for _, is_flat in verdicts))


# The server's videos


def make_videos(video: Path, folder: Path, duration_s: float) -> list[Path]:
    """Make a video of each format, and one that changes between all formats."""
    clips = [
        marked_clip(video, folder / f"clip{index}.ts", size_wh, rate)
        for index, (size_wh, rate) in enumerate(FORMATS)
    ]
    turns = [[clip] for clip in clips] + [clips]
    return [joined(turn, folder / f"video{index}.ts", duration_s) for index, turn in enumerate(turns)]


def marked_clip(video: Path, target: Path, size_wh: tuple[int, int], rate: int) -> Path:
    """Encode a clip whose pictures show their time."""
    with av.open(str(video)) as source:
        pictures = [frame.to_ndarray(format="bgr24") for frame in source.decode(video=0)]
    with av.open(str(target), "w") as container:
        stream = container.add_stream(
            "libx264", rate=rate, options={"preset": "veryfast", "bf": "0", "g": str(rate)}
        )
        stream.width, stream.height = size_wh
        stream.pix_fmt = "yuv420p"
        for index, picture in zip(range(CLIP_S * rate), itertools.cycle(pictures), strict=False):
            bgr = cv2.resize(picture, size_wh)
            draw_time(bgr, index / rate)
            frame = av.VideoFrame.from_ndarray(bgr, "bgr24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return target


_BITS = 11  # of a time within a clip, in hundredths of a second


def draw_time(bgr: np.ndarray, time_s: float) -> None:
    """Draw a time as dark and bright fields along the lower edge of a picture."""
    height, width = bgr.shape[:2]
    for bit in range(_BITS):
        left, right = (width * place // _BITS for place in (bit, bit + 1))
        bgr[height * 14 // 15 :, left:right] = 230 * (round(100 * time_s) >> bit & 1)


def time_in(bgr: np.ndarray) -> float:
    """Return the time that a picture shows."""
    height, width = bgr.shape[:2]
    row = bgr[height * 29 // 30]
    bits = [row[(2 * bit + 1) * width // (2 * _BITS)].mean() > 115 for bit in range(_BITS)]
    return sum(bool(is_set) << bit for bit, is_set in enumerate(bits)) / 100


def joined(clips: list[Path], target: Path, duration_s: float) -> Path:
    """Copy the packets of clips one after another, again and again until the target has the given length."""
    with av.open(str(target), "w") as output, av.open(str(clips[0])) as first:
        stream = output.add_stream_from_template(first.streams.video[0])
        packets = [packets_of(clip) for clip in clips]
        for turn in range(int(duration_s / CLIP_S) + 1):
            for ticks, is_keyframe, data in packets[turn % len(clips)]:
                packet = av.Packet(data)
                packet.time_base = Fraction(1, 90_000)
                packet.pts = packet.dts = ticks + turn * CLIP_S * 90_000
                packet.is_keyframe, packet.stream = is_keyframe, stream
                output.mux(packet)
    return target


def packets_of(clip: Path) -> list[tuple[int, bool, bytes]]:
    """Return the time from the first packet, in ticks of 1/90000 s, and the content of each packet."""
    with av.open(str(clip)) as source:
        packets = [packet for packet in source.demux(video=0) if packet.pts is not None]
        return [(packet.pts - packets[0].pts, packet.is_keyframe, bytes(packet)) for packet in packets]


# The measured quantities


@dataclass(frozen=True)
class Row:
    """The figures of one interval."""

    minute: float
    memory_mb: float
    python_threads: int
    threads: int
    files: int
    frames_per_s: float
    dropped: int
    latency_p50_ms: float
    latency_p95_ms: float
    lag_s: float


class Reader:
    """A client that reads the page's events, in a thread of its own.

    Attributes:
        events: Number of events that came.
    """

    def __init__(self, address: str) -> None:
        self.events = 0
        self._place = urlsplit(address)
        self._thread = threading.Thread(target=self._read, daemon=True)

    def _read(self) -> None:
        connection = http.client.HTTPConnection(self._place.netloc, timeout=60)
        token = self._place.query.partition("=")[2]
        connection.request("GET", "/events", headers={"Authorization": f"Bearer {token}"})
        for line in connection.getresponse():
            self.events += line.startswith(b"data: ")
        connection.close()

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(10)


class Watch:
    """Prints a row per interval, causes the server's accidents, and closes the source at the end."""

    def __init__(
        self, source: Source, server: RtspServer, videos: list[Path], duration_s: float, every_s: float
    ) -> None:
        self._source, self._server = source, server
        self._duration_s, self._every_s = duration_s, every_s
        self.rows: list[Row] = []
        self._latency_ms: list[float] = []
        self._last: Frame | None = None
        self._clock = _Clock()
        self._frames = self._missed = 0
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=work) for work in (self._measure, self._cause_accidents)]
        self._accidents = self._all_accidents(videos)

    def frame_done(self, analyzed: AnalyzedFrame, summary: Summary) -> None:
        """Count a frame that went to every sink."""
        frame = analyzed.frame
        self._latency_ms.append(1000 * (time.monotonic() - frame.captured_s))
        if self._last is not None:
            self._missed += frame.index - self._last.index - 1
        self._last = frame
        self._clock.add(frame.time_s, time_in(frame.bgr))
        self._frames = summary.frames

    def __enter__(self) -> Watch:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _measure(self) -> None:
        began_s = time.monotonic()
        print("minute  memory MB  threads (all)  files  frames/s  dropped  latency ms p50  p95  lag s")
        frames = 0
        for interval in range(1, round(self._duration_s / self._every_s) + 1):
            if self._ended.wait(max(0.0, began_s + interval * self._every_s - time.monotonic())):
                return
            latency_ms, self._latency_ms = sorted(self._latency_ms) or [0.0], []
            row = Row(
                minute=interval * self._every_s / 60,
                memory_mb=rss_mb(),
                python_threads=threading.active_count(),
                threads=entries("/proc/self/task"),
                files=entries("/proc/self/fd"),
                frames_per_s=(self._frames - frames) / self._every_s,
                dropped=self._missed,
                latency_p50_ms=statistics.median(latency_ms),
                latency_p95_ms=latency_ms[int(0.95 * len(latency_ms))],
                lag_s=self._clock.lag_s(),
            )
            frames = self._frames
            self.rows.append(row)
            print(
                f"{row.minute:6.1f}  {row.memory_mb:9.1f}  {row.python_threads:7} {row.threads:5}"
                f"  {row.files:5}  {row.frames_per_s:8.1f}  {row.dropped:7}  {row.latency_p50_ms:14.0f}"
                f"  {row.latency_p95_ms:3.0f}  {row.lag_s:5.2f}",
                flush=True,
            )
        self._source.close()

    # Accidents

    def _cause_accidents(self) -> None:
        every_s = min(ACCIDENT_EVERY_S, self._duration_s / 5)
        while not self._ended.wait(every_s):
            next(self._accidents)()

    def _all_accidents(self, videos: list[Path]) -> Iterator[Callable[[], None]]:
        for video in itertools.cycle([*videos[1:], videos[0]]):
            yield self._stall
            yield self._restart
            yield lambda video=video: self._restart(video)

    def _stall(self) -> None:
        print(f"        the server stalls for {STALL_S:.0f} s")
        self._server.stall()
        self._ended.wait(STALL_S)
        self._server.go_on()

    def _restart(self, video: Path | None = None) -> None:
        what = "" if video is None else f" with {video.stem}"
        print(f"        the server is stopped, and started again{what} {AWAY_S:.0f} s later")
        self._server.stop()
        self._ended.wait(AWAY_S)
        self._server.start(video)


class _Clock:
    """Compares the times at which pictures came with the times that they show."""

    def __init__(self) -> None:
        self._last: tuple[float, float] | None = None  # when the last picture came, and its time in the clip
        self._behind_s = 0.0
        self._least_s = 0.0
        self._lags_s: list[float] = []

    def add(self, came_s: float, shown_s: float) -> None:
        """Add a picture."""
        if self._last is None or came_s - self._last[0] > GAP_S:
            self._behind_s = self._least_s = 0.0
        else:
            step_s = (shown_s - self._last[1]) % CLIP_S
            if step_s > CLIP_S / 2:  # a picture that shows an earlier time, or none that can be read
                step_s -= CLIP_S
            self._behind_s += came_s - self._last[0] - step_s
            self._least_s = min(self._least_s, self._behind_s)
        self._last = came_s, shown_s
        self._lags_s.append(self._behind_s - self._least_s)

    def lag_s(self) -> float:
        """Return the median since the last call, from the earliest picture of this connection."""
        lags_s, self._lags_s = self._lags_s, []
        return statistics.median(lags_s or [0.0])


def entries(folder: str) -> int:
    """Return the number of entries of a folder; 0 if there is none."""
    return sum(1 for _ in Path(folder).iterdir()) if Path(folder).is_dir() else 0


# The verdict

# How much more the last third of the settled run may have than its first third.
GROWTH = {
    "memory_mb": (20.0, "MB"),
    "python_threads": (0.0, "threads of Python"),
    "threads": (2.0, "threads"),
    "files": (1.0, "file descriptors"),
    "latency_p50_ms": (50.0, "ms of latency (p50)"),
    "lag_s": (0.5, "s of lag"),
}


def flatness(rows: list[Row]) -> list[tuple[str, bool]]:
    """Return a line for each figure, and whether it stayed flat: medians of the first and last third."""
    settled = rows[int(SETTLED * len(rows)) :]
    third = max(1, len(settled) // 3)
    verdicts = []
    for name, (most, unit) in GROWTH.items():
        first, last = (
            statistics.median(getattr(row, name) for row in part)
            for part in (settled[:third], settled[-third:])
        )
        is_flat = last - first <= most
        word = "flat" if is_flat else "NOT FLAT"
        verdicts.append((f"{word}: {first:.1f} {unit} in the first third, {last:.1f} in the last", is_flat))
    return verdicts


if __name__ == "__main__":
    sys.exit(main())
