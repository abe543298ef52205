"""Measure what readers of the live page cost the run: latency and memory with many readers and with none.

    python benchmarks/page.py [--seconds 20] [--readers 10] [--rounds 2]

A stream of 30 frames a second (the sample clip over and over, 720p) is analyzed and served. Readers in a
process of their own take the pictures, the events and the page's stream. Rounds without and with readers
alternate.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import multiprocessing
import threading
import time
from fractions import Fraction
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from process_memory import rss_mb

from fer_stream.analyzer import Analyzer
from fer_stream.pipeline import RunOptions, run
from fer_stream.profiling import Profile
from fer_stream.rendering.overlay import Overlay
from fer_stream.sources import Source, SourceInfo, SourceKind, open_source
from fer_stream.status import RunStatus
from fer_stream.types import Frame
from fer_stream.web.page import PageSink

SAMPLE = Path(__file__).parents[1] / "samples" / "two-faces-720p.mp4"
RATE = 30
PATHS = ("/stream.mjpg", "/events", "/live")


class PacedClip(Source):
    """The sample clip over and over, as a live source of 30 frames a second."""

    def __init__(self, pictures: list[np.ndarray], seconds: float) -> None:
        super().__init__(mirror=False)
        height, width = pictures[0].shape[:2]
        self.info = SourceInfo(
            "sample", SourceKind.CAMERA, None, (width, height), Fraction(RATE), None, None, None
        )
        self._pictures = itertools.cycle(pictures)
        self._count = round(seconds * RATE)
        self._index = 0
        self._began_s = 0.0

    def _read(self) -> Frame | None:
        if self._index == self._count:
            return None
        self._began_s = self._began_s or time.monotonic()
        due_s = self._began_s + self._index / RATE
        time.sleep(max(0.0, due_s - time.monotonic()))
        frame = self._frame(next(self._pictures), self._index, self._index / RATE, "sample")
        self._index += 1
        return frame

    def _release(self) -> None:
        pass


def read_all(address: str, readers: int, received: multiprocessing.Queue) -> None:
    """Read with many connections at once until the run ends. Put the number of bytes into `received`."""
    parts = urlsplit(address)
    counts = [0] * readers

    def read(number: int) -> None:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
        # Most take the pictures, which are the expensive part.
        connection.request("GET", f"{PATHS[number % 5 if number % 5 < 3 else 0]}?{parts.query}")
        answer = connection.getresponse()
        while block := answer.read1(1 << 16):
            counts[number] += len(block)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    received.put(sum(counts))


def measure(pictures: list[np.ndarray], analyzer: Analyzer, seconds: float, readers: int) -> dict:
    """Run once and return the figures."""
    profile, status = Profile(), RunStatus()
    received: multiprocessing.Queue = multiprocessing.get_context("spawn").Queue()
    held_mb: list[float] = []

    def note(_analyzed: object, summary: object) -> None:
        if status.frames % RATE == 1:  # the first frame too, for a short run on a busy machine
            held_mb.append(rss_mb())

    with PacedClip(pictures, seconds) as source:
        page = PageSink(source.info, "127.0.0.1", 0, status=status)
        with page:
            reading = multiprocessing.get_context("spawn").Process(
                target=read_all, args=(page.address, readers, received)
            )
            if readers:
                reading.start()
                while page._hub.images.readers < readers // 2:
                    time.sleep(0.05)
            options = RunOptions(profile=profile, status=status, on_frame=note)
            summary = run(source, analyzer, Overlay(), [page], options)
    megabytes = received.get(timeout=20) / 1e6 if readers else 0.0
    if readers:
        reading.join()
    warm_mb = held_mb[min(5, len(held_mb) - 1)]
    return {
        "readers": readers,
        "frames": summary.frames,
        "dropped": summary.dropped,
        "latency_ms": profile.latency_ms(),
        "sent_mb": round(megabytes, 1),
        "grown_mb": round(held_mb[-1] - warm_mb, 1),
    }


def main() -> None:
    """Measure and print one line of JSON per round."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--readers", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    with open_source(SAMPLE) as source:
        pictures = [frame.bgr for frame in source][::2]
    analyzer = Analyzer("cpu")
    measure(pictures, analyzer, 2, 0)  # warms up
    for _ in range(options.rounds):
        for readers in (0, options.readers):
            print(json.dumps(measure(pictures, analyzer, options.seconds, readers)), flush=True)


if __name__ == "__main__":
    main()
