"""Measure the speed of the whole pipeline, against its floor and against other ways to do the same.

    python benchmarks/pipeline.py [--frames N] [--rounds N] [--clips NAME ...] [--fer-python PYTHON]

It prints one table. Each row is a process of its own and gets the same frames:

    floor            decode and encode, and nothing in between
    fer              the package `fer` with its default detector (Haar cascades), without a video
    obvious          MTCNN as shipped on every frame, eager PyTorch on every face, one thread, encode
    obvious, 40 px   the same without faces of 20 to 40 px, which ours does not search for either
    ours             the pipeline with the table, without a video
    ours, saved      the same with the annotated video
    ours, paced      the frames as a live stream of 30 per second, with the table: latency and drops

The clips are the street video and the portrait enlarged to 720p and to 4K, if ../shared/data exists, and
generated clips with 1, 5 and 20 moving faces. Machines are rarely quiet, so the rows take turns for some
rounds, each row shows its median round, and ratios say more than times.

Below the table are the checks: the time from the start of the command to the first frame, the recall against
MTCNN on every frame of the street, the labels of the street against those of reading every frame, and the
growth of memory over 20,000 frames.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import peers
from clips import NAMES, SHARED_VIDEOS, prepare

from fer_stream.analyzer import Analyzer
from fer_stream.pipeline import RunOptions, run
from fer_stream.profiling import Profile, peak_rss_mb
from fer_stream.rendering.overlay import Overlay
from fer_stream.sinks import TableSink, VideoSink
from fer_stream.sources import Source, open_source
from fer_stream.types import AnalyzedFrame, Frame

HERE = Path(__file__).parent
SAMPLE = HERE.parent / "samples" / "two-faces-720p.mp4"
PACED_FRAMES_PER_S = 30
ROWS = ("floor", "fer", "obvious", "obvious, 40 px", "ours", "ours, saved", "ours, paced")
CHECKS = ("first frame", "recall", "readings", "memory")


class Part(Source):
    """The first frames of another source, as a live stream of 30 per second if `paced`."""

    def __init__(self, source: Source, frames: int, *, paced: bool = False) -> None:
        super().__init__(mirror=False)
        self._frames = self._take(source, frames, paced)
        self._source = source
        self.info = replace(source.info, kind="camera" if paced else "video", path=None)

    def _take(self, source: Source, frames: int, paced: bool) -> Iterator[Frame]:
        if not paced:
            yield from itertools.islice(source, frames)
            return
        ready = list(itertools.islice(source, frames))
        began_s = time.monotonic()
        for index, frame in enumerate(ready):
            time_s = index / PACED_FRAMES_PER_S
            time.sleep(max(0.0, began_s + time_s - time.monotonic()))
            yield replace(frame, time_s=time_s, captured_s=time.monotonic())

    def _read(self) -> Frame | None:
        return next(self._frames, None)

    def _release(self) -> None:
        self._source.close()


class Nothing:
    """Stands in for the analyzer and the overlay in the row `floor`."""

    crop_scale = 1.0

    def analyze_frames(self, frames, kind):
        """Pass the frames on without faces."""
        for frame in frames:
            yield AnalyzedFrame(frame, ())

    def annotate(self, analyzed):
        """Return the frame's own picture."""
        return analyzed.frame.bgr


class Faces:
    """Counts the faces of all frames."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, analyzed, summary) -> None:
        """Add the faces of a frame."""
        self.count += len(analyzed.faces)


def measure(row: str, clip: Path, frames: int, folder: Path, fer_python: Path) -> dict:
    """Run one row and return its figures."""
    if row == "fer":
        return peers.fer(clip, frames, fer_python)
    if row.startswith("obvious"):
        return peers.obvious(clip, frames, folder, 40 if row.endswith("40 px") else None)
    paced = row == "ours, paced"
    profile, faces = Profile(), Faces()
    floor = row == "floor"
    analyzer = Nothing() if floor else Analyzer("cpu", profile=profile)
    if paced:  # warm up: a camera's first frames come before the measurement
        with open_source(clip) as source:
            analyzer.analyze(next(iter(source)).bgr)
    with open_source(clip) as opened, Part(opened, frames, paced=paced) as source:
        sinks = [] if floor else [TableSink(folder / "table.csv", source.info, overwrite=True)]
        if row in ("floor", "ours, saved"):
            sinks.append(VideoSink(folder / "out.mp4", source.info, overwrite=True))
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        summary = run(
            source,
            analyzer,
            Nothing() if floor else Overlay(),
            sinks,
            RunOptions(profile=profile, on_frame=faces),
        )
    return {
        "frames": summary.frames,
        "seconds": time.perf_counter() - began_s,
        "cpu_s": time.process_time() - began_cpu_s,
        "faces": faces.count,
        "dropped": summary.dropped,
        "rss_mb": peak_rss_mb(),
        "latency_ms": profile.latency_ms(),
        "stages_ms": {name: stage["mean"] for name, stage in profile.stages_ms().items()},
    }


def main() -> None:
    """Run all rows on all clips, then the checks, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--frames", type=int, default=100, help="of each clip (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--clips", nargs="*", choices=NAMES, default=list(NAMES))
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--checks", nargs="*", choices=CHECKS, default=list(CHECKS))
    parser.add_argument(
        "--fer-python", type=Path, default=Path(sys.executable), help="a Python that has the package fer"
    )
    parser.add_argument("--stages", action="store_true", help="print the mean time of each stage, too")
    parser.add_argument("--row", nargs=3, help=argparse.SUPPRESS)  # row, clip, folder: one process
    options = parser.parse_args()
    if options.row:
        row, clip, folder = options.row
        print(json.dumps(measure(row, Path(clip), options.frames, Path(folder), options.fer_python)))
        return
    if not peers.has_fer(options.fer_python):
        print(f"left out: fer, which {options.fer_python} can't import; see --fer-python")
        options.rows = [row for row in options.rows if row != "fer"]
    print(f"{os.cpu_count()} cores, {options.frames} frames a clip, the median of {options.rounds} rounds")
    print(
        f"{'clip':<15}{'':<15}{'frames/s':>9}{'of floor':>9}{'faster':>8}{'cpu ms':>8}"
        f"{'p50 ms':>8}{'p95 ms':>8}{'dropped':>8}{'MB':>6}{'faces':>7}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, clip in prepare(Path(folder), options.frames, options.clips).items():
            rounds: dict[str, list[dict]] = {row: [] for row in options.rows}
            for _, row in itertools.product(range(options.rounds), options.rows):
                command = [sys.executable, __file__, "--frames", str(options.frames)]
                command += ["--fer-python", str(options.fer_python), "--row", row, str(clip), folder]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                rounds[row].append(json.loads(done.stdout))
            print_rows(name, rounds, stages=options.stages)
    for check in options.checks:
        print(f"{check}: {run_check(check, options.rounds)}", flush=True)


def run_check(check: str, rounds: int) -> str:
    """Run one of `CHECKS` in another process and return its last lines."""
    if check == "first frame":
        return ", ".join(f"{seconds:.2f} s" for seconds in sorted(first_frame_s() for _ in range(rounds)))
    if check in ("recall", "readings") and not SHARED_VIDEOS.is_dir():
        return f"left out, it needs {SHARED_VIDEOS}"
    street = SHARED_VIDEOS / "street-1080p.mp4"
    arguments = {
        "recall": [HERE / "detection.py", street],
        "readings": [HERE / "readings.py", street],
        "memory": [HERE / "memory.py"],
    }[check]
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    lines = (done.stdout or done.stderr).splitlines()
    return "\n    ".join(["", *lines[-2:]])


def first_frame_s() -> float:
    """Return the time from the start of the command to the first frame of the sample in the table."""
    with tempfile.TemporaryDirectory() as folder:
        table, profile = Path(folder, "table.csv"), Path(folder, "profile.json")
        command = [sys.executable, "-m", "fer_stream", SAMPLE, "--end", "0.5", "--quiet"]
        subprocess.run([*command, "--data", table, "--profile", profile], check=True)
        return json.loads(profile.read_text())["first_frame_s"]


def print_rows(clip: str, rounds: dict[str, list[dict]], *, stages: bool) -> None:
    """Print the median round of each row of a clip."""
    middle = {
        row: sorted(each, key=lambda got: got["seconds"])[len(each) // 2] for row, each in rounds.items()
    }
    per_frame = {row: got["seconds"] / got["frames"] for row, got in middle.items()}
    floor, slow = per_frame.get("floor"), per_frame.get("obvious")
    for row, got in middle.items():
        seconds, paced = per_frame[row], row == "ours, paced"
        print(
            f"{clip:<15}{row:<15}{1 / seconds:>9.1f}"
            f"{'' if paced or not floor else f'{seconds / floor:.2f}':>9}"
            f"{'' if paced or not slow else f'{slow / seconds:.1f}x':>8}"
            f"{1000 * got['cpu_s'] / got['frames']:>8.1f}"
            f"{got['latency_ms']['p50']:>8.1f}{got['latency_ms']['p95']:>8.1f}{got['dropped']:>8}"
            f"{got['rss_mb']:>6.0f}{got['faces']:>7}",
            flush=True,
        )
        if stages and "stages_ms" in got:
            print("    " + ", ".join(f"{stage} {ms:.1f}" for stage, ms in got["stages_ms"].items()))


if __name__ == "__main__":
    main()
