"""Measure the speed of the whole pipeline, against its floor and against the obvious way to write it.

    python benchmarks/pipeline.py [--frames N] [--rounds N] [--clips NAME ...]

It prints one table. Each row is a process of its own and gets the same frames:

    floor            decode and encode, and nothing in between
    obvious          MTCNN as shipped on every frame, eager PyTorch on every face, one thread, encode
    obvious, 40 px   the same without faces of 20 to 40 px, which ours does not search for either
    ours             the pipeline with the table, without a video
    ours, saved      the same with the annotated video
    ours, paced      the frames as a live stream of 30 per second, with the table: latency and drops

The clips are the street video and the portrait enlarged to 720p, if ../shared/data exists, and generated
clips with 1, 5 and 20 moving faces. Machines are rarely quiet, so the rows take turns for some rounds, each
row shows its median round, and ratios say more than times.
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
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from fer_stream.analyzer import Analyzer
from fer_stream.pipeline import RunOptions, run
from fer_stream.profiling import Profile, peak_rss_mb
from fer_stream.recognition.weights import BUILT_IN_WEIGHTS, load_checkpoint
from fer_stream.rendering.overlay import Overlay
from fer_stream.sinks import TableSink, VideoSink
from fer_stream.sources import Source, SourceInfo, open_source
from fer_stream.types import AnalyzedFrame, Frame

SHARED_VIDEOS = Path(__file__).parents[2] / "shared" / "data" / "videos"
PACED_FRAMES_PER_S = 30
ROWS = ("floor", "obvious", "obvious, 40 px", "ours", "ours, saved", "ours, paced")


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


def measure(row: str, clip: Path, frames: int, folder: Path) -> dict:
    """Run one row and return its figures."""
    if row.startswith("obvious"):
        return obvious(clip, frames, folder, 40 if row.endswith("40 px") else None)
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


def obvious(clip: Path, frames: int, folder: Path, min_face: int | None) -> dict:
    """Run the pipeline as it is usually written. MTCNN's default smallest face is 20 px."""
    import torch
    from facenet_pytorch import MTCNN

    from train.architectures import build_model

    mtcnn = MTCNN(keep_all=True, **({} if min_face is None else {"min_face_size": min_face}))
    checkpoint = load_checkpoint(BUILT_IN_WEIGHTS)
    model, size = build_model(checkpoint), checkpoint.input.size
    mean, std = torch.tensor(checkpoint.input.mean), torch.tensor(checkpoint.input.std)
    profile, found = Profile(), 0
    with open_source(clip) as source:
        sink = VideoSink(folder / "out.mp4", replace(source.info, path=None), overwrite=True)
        began_s, began_cpu_s, count = time.perf_counter(), time.process_time(), 0
        for frame in source:
            began_frame_s = time.perf_counter()
            boxes, _ = mtcnn.detect(cv2.cvtColor(frame.bgr, cv2.COLOR_BGR2RGB))
            image = frame.bgr.copy()
            for x1, y1, x2, y2 in [] if boxes is None else boxes.astype(int).clip(0):
                crop = cv2.resize(frame.bgr[y1:y2, x1:x2], (size, size))
                gray = torch.from_numpy(cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY)).float() / 255
                with torch.no_grad():
                    probabilities = model(((gray[..., None] - mean) / std).permute(2, 0, 1)[None]).softmax(1)
                label = checkpoint.classes[int(probabilities.argmax())]
                cv2.rectangle(image, (x1, y1), (x2, y2), (0, 255, 0), 2)
                cv2.putText(image, label, (x1, y1 - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (0, 255, 0), 2)
                found += 1
            sink.write(AnalyzedFrame(frame, ()), image)
            profile.add_latency(time.perf_counter() - began_frame_s)
            count += 1
            if count == frames:
                break
        sink.close()
    return {
        "frames": count,
        "seconds": time.perf_counter() - began_s,
        "cpu_s": time.process_time() - began_cpu_s,
        "faces": found,
        "dropped": 0,
        "rss_mb": peak_rss_mb(),
        "latency_ms": profile.latency_ms(),
    }


def make_clip(path: Path, faces: int, frames: int) -> None:
    """Make a 720p clip of a portrait pasted several times, each copy on a small circle of its own."""
    from matplotlib import cbook

    with cbook.get_sample_data("grace_hopper.jpg") as file:
        portrait = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_COLOR)
    head = portrait[20:300, 120:400]
    side = {1: 380, 5: 230, 20: 150}[faces]
    head = cv2.resize(head, (side, side), interpolation=cv2.INTER_AREA)
    columns = {1: 1, 5: 3, 20: 6}[faces]
    rows = -(-faces // columns)
    info = SourceInfo("made", "camera", None, (1280, 720), Fraction(30), Fraction(1, 30), None, None)
    with VideoSink(path, info, overwrite=True) as sink:
        for index in range(frames):
            bgr = np.full((720, 1280, 3), (90, 80, 70), np.uint8)
            for face in range(faces):
                angle = index / 20 + face
                x = (face % columns + 0.5) * 1280 / columns - side / 2 + 20 * np.cos(angle)
                y = (face // columns + 0.5) * 720 / rows - side / 2 + 12 * np.sin(angle)
                x, y = int(np.clip(x, 0, 1280 - side)), int(np.clip(y, 0, 720 - side))
                bgr[y : y + side, x : x + side] = head
            sink.write(AnalyzedFrame(Frame(bgr, index, index / 30), ()), bgr)


def enlarge(source_path: Path, path: Path, frames: int) -> None:
    """Enlarge a clip to 720p."""
    with open_source(source_path) as source:
        info = replace(source.info, path=None)
        with VideoSink(path, info, overwrite=True) as sink:
            for frame in source:
                bgr = cv2.resize(frame.bgr, (1280, 720), interpolation=cv2.INTER_CUBIC)
                sink.write(AnalyzedFrame(replace(frame, bgr=bgr), ()), bgr)
                if frame.index + 1 == frames:
                    break


def prepare(folder: Path, frames: int, names: list[str]) -> dict[str, Path]:
    """Make the requested clips, as far as possible. Return their paths by name."""
    clips = {}
    for name in names:
        path = folder / f"{name}.mp4"
        if name.startswith("made-"):
            make_clip(path, int(name.removeprefix("made-")), frames)
        elif not SHARED_VIDEOS.is_dir():
            print(f"left out: {name}, which needs {SHARED_VIDEOS}")
            continue
        elif name == "portrait-720p":
            enlarge(SHARED_VIDEOS / "portrait-360p.mp4", path, frames)
        else:
            path = SHARED_VIDEOS / f"{name}.mp4"
        clips[name] = path
    return clips


def main() -> None:
    """Run all rows on all clips and print the table."""
    names = ["portrait-720p", "street-1080p", "made-1", "made-5", "made-20"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--frames", type=int, default=100, help="of each clip (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--clips", nargs="+", choices=names, default=names)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--stages", action="store_true", help="print the mean time of each stage, too")
    parser.add_argument("--row", nargs=3, help=argparse.SUPPRESS)  # row, clip, folder: one process
    options = parser.parse_args()
    if options.row:
        row, clip, folder = options.row
        print(json.dumps(measure(row, Path(clip), options.frames, Path(folder))))
        return
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
                done = subprocess.run(
                    [*command, "--row", row, str(clip), folder], capture_output=True, text=True, check=True
                )
                rounds[row].append(json.loads(done.stdout))
            print_rows(name, rounds, stages=options.stages)


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
