"""Measure what a GPU gains over the CPU of the same machine, in at most two minutes.

    python benchmarks/gpu.py [--device cuda] [--frames N] [--clips ...] [--skip ...] [--archive] [--json PATH]

    decode       the decoder alone, on the CPU and on the GPU's own decoder (NVDEC)
    table        `fer-stream CLIP --data`, frames a second from the first frame to the last
    saved        the same with `--save`
    first frame  from the start of the command until the first frame's row is written
    agreement    rows of the device's table with the same expression as those of the CPU, and how much the
                 probabilities differ
    two at once  two commands on one device
    archive      with `--archive`, half a minute more: `fer-batch` with four workers on one device, without
                 their start; it needs Ray
    crops        faces a second through the expression network, from the host's memory and on the device
    training     pictures a second of `fer-train` in its last epoch, on made pictures of 48 px

The clips are the street (1080p), the portrait, also enlarged to 720p and to 1080p, and the selfie. They are
encoded again, playing forwards and backwards in turn: in a short clip, one-time work would hide how fast a
GPU is. Each row runs once, in a process of its own: compare rows of one run only. `--device cpu` runs all of
it without a GPU.
"""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from fer_stream.expressions import EXPRESSIONS
from fer_stream.sinks import VideoSink
from fer_stream.sources import open_source
from fer_stream.types import AnalyzedFrame, Frame

VIDEOS = Path(__file__).parents[2] / "shared" / "data" / "videos"
PACKAGES = ("torch", "torchvision", "timm", "av", "onnxruntime", "opencv-python", "opencv-python-headless")
CLIPS = {
    "street-1080p": ("street-1080p.mp4", None),
    "portrait-720p": ("portrait-360p.mp4", (1280, 720)),
    "portrait-1080p": ("portrait-360p.mp4", (1920, 1080)),
    "portrait-360p": ("portrait-360p.mp4", None),
    "selfie-360p": ("selfie-360p.mp4", None),
}
MOST_ORIGINALS = 150  # frames of a clip that are held in memory to make a longer one
PARTS = ("two-at-once", "crops", "training")
ARCHIVE_WORKERS, ARCHIVE_CLIPS = 4, 8
BATCH_SIZES = (8, 64, 1024)
COMMAND_LIMIT_S = 60  # one command that hangs must not take the time of all others


def versions(device: str) -> dict[str, object]:
    """Return what the figures depend on."""
    import av
    import torch

    known = {}
    for package in PACKAGES:
        try:
            known[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") else None
    return {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "gpu": gpu,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "hardware decoders": av.codec.hwaccel.hwdevices_available(),
        **known,
    }


def looped(video: Path, path: Path, size_wh: tuple[int, int] | None, frames: int) -> Path:
    """Make a clip that plays the beginning of another one forwards and backwards in turn.

    Args:
        video: The other clip.
        path: The clip to make.
        size_wh: Its size in px; None for the other clip's.
        frames: Its number of frames.
    """
    with open_source(video) as source:
        originals = list(itertools.islice(source, min(frames, MOST_ORIGINALS)))
        info = replace(source.info, path=None, size_wh=size_wh or source.info.size_wh)
    order = itertools.cycle([*range(len(originals)), *range(len(originals) - 2, 0, -1)])
    with VideoSink(path, info, overwrite=True) as sink:
        for index, original in zip(range(frames), order, strict=False):
            bgr = originals[original].bgr
            if size_wh is not None:
                bgr = cv2.resize(bgr, size_wh, interpolation=cv2.INTER_CUBIC)
            time_s = index / float(info.frame_rate or 25)
            sink.write(AnalyzedFrame(Frame(bgr, index, time_s), ()), bgr)
    return path


def decode_fps(clip: Path, *, nvdec: bool) -> float:
    """Return frames a second of the decoder alone."""
    import av
    from av.codec.hwaccel import HWAccel

    accel = HWAccel("cuda", is_hw_owned=True, allow_software_fallback=False) if nvdec else None
    with av.open(str(clip), hwaccel=accel) as container:
        stream = container.streams.video[0]
        if not nvdec:
            stream.thread_type = "AUTO"
        decoded = container.decode(stream)
        next(decoded)  # opens the decoder
        began_s, count = time.perf_counter(), sum(1 for _ in decoded)
        return count / (time.perf_counter() - began_s)


def fer_stream(clip: Path, device: str, folder: Path, *, save: bool) -> dict:
    """Run the command; return its profile with the path of its table, or the error that it ended in."""
    stem = f"{clip.stem}-{device.replace(':', '')}-{threading.get_ident()}"
    table, profile = folder / f"{stem}.csv", folder / f"{stem}.json"
    command = [sys.executable, "-m", "fer_stream", clip, "--device", device, "--quiet", "--overwrite"]
    command += ["--data", table, "--profile", profile]
    command += ["--save", folder / f"{stem}.mp4"] if save else []
    began_s = time.monotonic()
    error = run(command)
    if error:
        return {"error": error}
    return {
        **json.loads(profile.read_text()),
        "command_s": time.monotonic() - began_s,
        "table": table,
    }


def run(command: list[object]) -> str:
    """Run a command, and return the last line of its error; nothing if it succeeds."""
    try:
        done = subprocess.run(
            list(map(str, command)), check=False, capture_output=True, text=True, timeout=COMMAND_LIMIT_S
        )
    except subprocess.TimeoutExpired:
        return f"not done after {COMMAND_LIMIT_S} s"
    return (done.stderr.strip().splitlines() or ["no message"])[-1] if done.returncode else ""


def agreement(one: Path, other: Path) -> dict[str, float]:
    """Compare two tables row by row, matched by frame and face."""

    def rows(path: Path) -> dict[tuple[str, str], tuple[str, np.ndarray]]:
        with path.open(newline="") as file:
            return {
                (row["frame"], row["face_id"]): (
                    row["expression"],
                    np.array([float(row[name]) for name in EXPRESSIONS]),
                )
                for row in csv.DictReader(file)
                if row["face_id"]
            }

    ours, theirs = rows(one), rows(other)
    both = ours.keys() & theirs.keys()
    differences = [float(np.abs(ours[key][1] - theirs[key][1]).max()) for key in both]
    same = sum(ours[key][0] == theirs[key][0] for key in both)
    return {
        "rows": len(ours.keys() | theirs.keys()),
        "same_expression": same,
        "share": same / max(1, len(ours.keys() | theirs.keys())),
        "median_difference": statistics.median(differences) if differences else 0.0,
        "largest_difference": max(differences, default=0.0),
    }


class DeviceMemory:
    """Notes the most memory of the GPU that is in use while it is entered, by all programs together."""

    def __init__(self, device: str) -> None:
        self.before_mb, self.most_mb = 0.0, 0.0
        self._device, self._left = device, threading.Event()

    def _used_mb(self) -> float:
        import torch

        free, total = torch.cuda.mem_get_info(self._device)
        return (total - free) / 2**20

    def __enter__(self) -> DeviceMemory:
        if self._device.startswith("cuda"):
            self.before_mb = self._used_mb()
            self._thread = threading.Thread(target=self._watch)
            self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._left.wait(0.05):
            self.most_mb = max(self.most_mb, self._used_mb() - self.before_mb)

    def __exit__(self, *_: object) -> None:
        self._left.set()
        if self._device.startswith("cuda"):
            self._thread.join()


def two_at_once(clip: Path, device: str, folder: Path) -> dict[str, float]:
    """Run two commands side by side on one device; return the frames a second of both together."""
    done: list[dict] = []

    def one() -> None:
        done.append(fer_stream(clip, device, folder, save=False))

    threads = [threading.Thread(target=one) for _ in range(2)]
    with DeviceMemory(device) as memory:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return {
        "fps": sum(each.get("fps", 0.0) for each in done),
        "device_mb": memory.most_mb,
        "errors": sum("error" in each for each in done),
    }


def archive(clip: Path, device: str, folder: Path) -> dict[str, float] | str:
    """Run `fer-batch` on copies of a clip, and estimate the frames a second of all workers together.

    Each worker loads its networks during its first clip. So the slowest clips, one for each worker, are left
    out, and the mean rate of the others is multiplied by the number of workers.
    """
    import pyarrow.parquet as pq

    (folder / "archive").mkdir()
    for index in range(ARCHIVE_CLIPS):
        shutil.copy(clip, folder / "archive" / f"{index}.mp4")
    command = [sys.executable, "-m", "fer_stream.batch", folder / "archive", "--output", folder / "results"]
    command += ["--workers", ARCHIVE_WORKERS, "--device", device, "--quiet"]
    command += ["--gpu-share", 1 / ARCHIVE_WORKERS] if device != "cpu" else []
    began_s = time.monotonic()
    with DeviceMemory(device) as memory:
        error = run(command)
    if error:
        return error
    manifest = pq.read_table(folder / "results" / "manifest.parquet").to_pylist()
    rates = sorted(each["frames"] / each["seconds"] for each in manifest)
    return {
        "fps": ARCHIVE_WORKERS * statistics.mean(rates[ARCHIVE_WORKERS:]),
        "command_s": time.monotonic() - began_s,
        "device_mb": memory.most_mb,
    }


def crops_per_s(device: str, sizes: tuple[int, ...], seconds: float) -> dict[int, dict[str, float]]:
    """Return faces a second through the expression network for batches of each size."""
    from fer_stream.recognition import classifier
    from fer_stream.recognition.preprocessing import native_side

    figures: dict[int, dict[str, float]] = {}
    for size in sizes:
        classifier.CUDA_SIZES = (size,)
        faces = classifier.Classifier(device if device != "cpu" else "cpu:0")
        side = native_side(faces.input)
        crops = np.random.default_rng(size).integers(0, 256, (size, side, side), np.uint8)
        from_host = repeated(lambda faces=faces, crops=crops: faces._network(crops), seconds)
        on_device = faces._network.seconds_on_device(crops, seconds)
        figures[size] = {"host": size / from_host, "device": size / on_device}
    return figures


def repeated(do, seconds: float) -> float:
    """Return the median time of a call, repeated for about some seconds."""
    times: list[float] = []
    while sum(times) < seconds:
        began_s = time.perf_counter()
        do()
        times.append(time.perf_counter() - began_s)
    return statistics.median(times)


def training_pictures_per_s(device: str, folder: Path, pictures: int) -> float | str:
    """Return pictures a second of the last of two epochs of `fer-train`, with the pictures made for it."""
    random = np.random.default_rng(0)
    for split, count in (("train", pictures), ("validation", 2 * len(EXPRESSIONS))):
        for name in EXPRESSIONS:
            (folder / "made" / split / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            grey = cv2.resize(random.integers(0, 256, (12, 12), np.uint8), (48, 48))
            name = EXPRESSIONS[index % len(EXPRESSIONS)]
            cv2.imwrite(str(folder / "made" / split / name / f"{index}.png"), grey)
    command = [sys.executable, "-m", "train", folder / "made", "--output", folder / "run", "--epochs", "2"]
    command += ["--recipe", "strong", "--input-size", "112", "--pretrained", "none"]
    command += ["--batch-size", min(256, pictures)]
    command += ["--device", device, "--quiet", "--overwrite"]
    error = run(command)
    if error:
        return error
    with (folder / "run" / "history.csv").open(newline="") as file:
        return float(list(csv.DictReader(file))[-1]["images_per_s"])


def make_clips(options: argparse.Namespace, folder: Path) -> dict[str, Path]:
    """Return the clips that are asked for by name."""
    return {
        name: looped(options.videos / video, folder / f"{name}.mp4", size_wh, options.frames)
        for name, (video, size_wh) in CLIPS.items()
        if name in options.clips
    }


def measure(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Run everything, and print each figure as soon as it is measured."""
    device = options.device
    result: dict[str, object] = {"versions": versions(device)}
    print(", ".join(f"{name} {value}" for name, value in versions(device).items()), flush=True)
    clips = make_clips(options, folder)

    print(f"\n{'decode, frames/s':<26}{'CPU':>10}{'NVDEC':>10}")
    decode: dict[str, dict[str, float | str]] = {}
    for name, clip in clips.items():
        decode[name] = {"cpu": decode_fps(clip, nvdec=False)}
        if device != "cpu":
            try:
                decode[name]["nvdec"] = decode_fps(clip, nvdec=True)
            except Exception as error:  # a build of FFmpeg or a card without this decoder
                decode[name]["nvdec"] = f"{type(error).__name__}: {error}"
        print(
            f"{name:<26}{number(decode[name]['cpu']):>10}{number(decode[name].get('nvdec')):>10}", flush=True
        )
    result["decode_fps"] = decode

    devices = ["cpu", device] if device != "cpu" else ["cpu"]
    print(
        f"\n{'frames/s':<26}{'device':<8}{'table':>8}{'saved':>8}{'first s':>9}{'find ms':>8}{'read ms':>9}"
    )
    rates: dict[str, dict] = {}
    agreements: dict[str, dict] = {}
    for name, clip in clips.items():
        tables = []
        for each in devices:
            table = fer_stream(clip, each, folder, save=False)
            saved = {} if "360p" in name else fer_stream(clip, each, folder, save=True)
            rates[f"{name} {each}"] = {"table": table, "saved": saved}
            stages = {stage: times["mean"] for stage, times in table.get("stages_ms", {}).items()}
            print(
                f"{name:<26}{each:<8}{number(table.get('fps', table.get('error'))):>8}"
                f"{number(saved.get('fps', saved.get('error'))):>8}{number(table.get('first_frame_s')):>9}"
                f"{number(stages.get('detect')):>8}{number(stages.get('classify')):>9}",
                flush=True,
            )
            tables.append(table.get("table"))
        if len(tables) == 2 and all(tables):
            agreements[name] = agreement(*tables)
    result["rates"], result["agreement"] = rates, agreements
    for each in devices:  # the first command of all also reads the packages from the disk
        first = [
            one["table"].get("first_frame_s") for name, one in rates.items() if name.endswith(f" {each}")
        ]
        times = sorted(time_s for time_s in first if time_s is not None)
        if times:
            print(f"first frame on {each}: {times[0]:.2f} s to {times[-1]:.2f} s after the start", flush=True)
    if agreements:
        print(f"\n{'agreement with the CPU':<26}{'rows':>8}{'same':>8}{'%':>8}{'median':>9}{'largest':>9}")
    for name, figures in agreements.items():
        print(
            f"{name:<26}{figures['rows']:>8}{figures['same_expression']:>8}{100 * figures['share']:>8.2f}"
            f"{figures['median_difference']:>9.4f}{figures['largest_difference']:>9.4f}",
            flush=True,
        )

    if "two-at-once" not in options.skip:
        pair = two_at_once(next(iter(clips.values())), device, folder)
        result["two_at_once"] = pair
        print(f"\ntwo at once: {pair['fps']:.0f} frames/s together, {pair['device_mb']:.0f} MB of the device")

    if options.archive:
        together = archive(next(iter(clips.values())), device, folder)
        result["archive"] = together
        if isinstance(together, dict):
            print(
                f"archive, {ARCHIVE_WORKERS} workers: {together['fps']:.0f} frames/s together, "
                f"{together['command_s']:.0f} s in all, {together['device_mb']:.0f} MB of the device"
            )
        else:
            print(f"archive: {together}")

    if "crops" not in options.skip:
        sizes = BATCH_SIZES if device != "cpu" else (1, 2)
        result["crops_per_s"] = crops_per_s(device, sizes, 0.5 if device != "cpu" else 0.05)
        print(f"\n{'crops/s':<26}" + "".join(f"{size:>10}" for size in sizes))
        for where in ("host", "device"):
            figures = result["crops_per_s"].values()
            print(f"from the {where:<17}" + "".join(f"{each[where]:>10.0f}" for each in figures), flush=True)

    if "training" not in options.skip:
        pictures = 8192 if device != "cpu" else 14
        result["training_pictures_per_s"] = training_pictures_per_s(device, folder, pictures)
        print(f"\ntraining, pictures/s: {number(result['training_pictures_per_s'])}")
    return result


def number(value: object) -> str:
    """Return a figure in few digits; the words of an error cut short."""
    if isinstance(value, (int, float)):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.2f}"
    return "" if value is None else str(value)[:40]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu (default: %(default)s)")
    parser.add_argument("--archive", action="store_true", help="also run fer-batch")
    parser.add_argument("--frames", type=int, default=120, help="of each clip (default: %(default)s)")
    parser.add_argument("--videos", type=Path, default=VIDEOS, help="folder of the videos")
    parser.add_argument("--clips", nargs="+", choices=CLIPS, default=CLIPS, help="(default: all)")
    parser.add_argument("--skip", nargs="+", choices=PARTS, default=(), help="leave these out")
    parser.add_argument("--json", type=Path, help="write all figures here")
    options = parser.parse_args()
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(options, Path(folder))
    result["seconds"] = time.monotonic() - began_s
    print(f"{result['seconds']:.0f} s")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2, default=str) + "\n")


if __name__ == "__main__":
    main()
