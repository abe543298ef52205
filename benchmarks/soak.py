"""Run live video from an RTSP server on loopback for minutes, to see what hours would do.

    python benchmarks/soak.py [--minutes N] [--video PATH]

The whole pipeline runs, with annotated video and table. The server plays a video in real time, stalls once
and is restarted once. Each interval prints a row: memory, threads, latency from capture to the last sink, and
how far the stream lags behind its own clock, which would grow if frames waited anywhere before they arrive.
Needs GStreamer's RTSP server; see tests/helpers/live_servers.py.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from fer_stream.analyzer import Analyzer
from fer_stream.pipeline import RunOptions, Summary, run
from fer_stream.profiling import peak_rss_mb
from fer_stream.rendering.overlay import Overlay
from fer_stream.sinks import TableSink, VideoSink
from fer_stream.sources import Source, open_source
from fer_stream.types import AnalyzedFrame, Frame

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from helpers.live_servers import RtspServer, long_video  # noqa: E402

VIDEO = ROOT.parent / "shared" / "data" / "videos" / "portrait-360p.mp4"
INTERVAL_S = 30.0
STALL_S = 4.0  # shorter than the time after which a stream counts as lost, and longer than any buffer
AWAY_S = 12.0
GAP_S = 8.0


def main() -> None:
    """Run the pipeline and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--video", type=Path, default=VIDEO)
    options = parser.parse_args()
    duration_s = 60 * options.minutes
    with tempfile.TemporaryDirectory() as folder:
        video = long_video(options.video, Path(folder, "long.mp4"), duration_s + 60)
        with RtspServer(video) as server, open_source(server.address) as source:
            sinks = [
                VideoSink(Path(folder, "saved.mp4"), source.info),
                TableSink(Path(folder, "table.jsonl"), source.info),
            ]
            watch = Watch(source, server, duration_s)
            with watch:
                summary = run(
                    source, Analyzer("cpu"), Overlay(), sinks, RunOptions(on_frame=watch.frame_done)
                )
        print(f"\n{summary.frames} frames in {summary.wall_s:.0f} s, {summary.dropped} dropped")
        print("\n".join(summary.problems))


class Watch:
    """Prints a row per interval, causes the server's accidents, and closes the source at the end."""

    def __init__(self, source: Source, server: RtspServer, duration_s: float) -> None:
        self._source, self._server, self._duration_s = source, server, duration_s
        self._latency_ms: list[float] = []
        self._last: Frame | None = None
        self._lag_s = 0.0
        self._frames = self._missed = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def frame_done(self, analyzed: AnalyzedFrame, summary: Summary) -> None:
        """Count a frame that went to every sink."""
        frame = analyzed.frame
        self._latency_ms.append(1000 * (time.monotonic() - frame.captured_s))
        if self._last is not None:
            step, step_s = frame.index - self._last.index, frame.time_s - self._last.time_s
            self._missed += step - 1
            if step_s < GAP_S:  # otherwise the stream was away
                self._lag_s += step_s - step / float(self._source.info.frame_rate or 25)
        self._last = frame
        self._frames = summary.frames

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _work(self) -> None:
        began_s = time.monotonic()
        print("minute  memory MB  threads  native  frames/s  dropped  latency ms p50 p95  lag s")
        accidents = [(0.3, self._stall), (0.6, self._restart)]
        frames = 0
        for interval in range(1, round(self._duration_s / INTERVAL_S) + 1):
            if accidents and (interval - 1) * INTERVAL_S >= accidents[0][0] * self._duration_s:
                accidents.pop(0)[1]()
            if self._ended.wait(max(0.0, began_s + interval * INTERVAL_S - time.monotonic())):
                return
            latency_ms, self._latency_ms = sorted(self._latency_ms) or [0.0], []
            rate = (self._frames - frames) / INTERVAL_S
            print(
                f"{interval * INTERVAL_S / 60:6.1f}  {memory_mb():9.1f}  {threading.active_count():7}"
                f"  {native_threads():6}  {rate:8.1f}  {self._missed:7}"
                f"  {statistics.median(latency_ms):14.0f} {latency_ms[int(0.95 * len(latency_ms))]:3.0f}"
                f"  {self._lag_s:5.2f}",
                flush=True,
            )
            frames = self._frames
        self._source.close()

    def _stall(self) -> None:
        print(f"        the server stalls for {STALL_S:.0f} s")
        self._server.stall()
        self._ended.wait(STALL_S)
        self._server.go_on()

    def _restart(self) -> None:
        print(f"        the server is stopped and started again {AWAY_S:.0f} s later")
        self._server.stop()
        self._ended.wait(AWAY_S)
        self._server.start()


def memory_mb() -> float:
    """Return the current memory of the process in MB, or its peak if the system does not say."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return peak_rss_mb()
    import resource

    return int(pages) * resource.getpagesize() / 2**20


def native_threads() -> int:
    """Return the number of threads, including those of libraries; 0 if the system does not say."""
    tasks = Path("/proc/self/task")
    return sum(1 for _ in tasks.iterdir()) if tasks.is_dir() else 0


if __name__ == "__main__":
    main()
