"""Mutations of real files and of options: a line or a result, in bounded time and memory, never a crash.

A worker runs many mutations in one process, so that each takes only tens of milliseconds. If a mutation ends
its worker, the test reports the number and continues with the next one.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from helpers.checkpoints import checkpoint_content
from helpers.extent import amount
from helpers.paths import SAMPLE
from PIL import Image

if TYPE_CHECKING:
    from helpers.faults import Faults

WORKER = Path(__file__).parent / "fuzz_worker.py"
LIMIT_S = 60  # of one mutation, on a machine that may be busy; they take a fraction of a second
MEMORY_BYTES = 2**30

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX to bound the memory")

VIDEOS = {
    "a.mp4": ("libx264", "aac", {"preset": "ultrafast", "g": "12"}),
    "a.mkv": ("libx264", "libopus", {"preset": "veryfast", "g": "12", "bf": "2"}),
    "a.webm": ("libvpx-vp9", "libopus", {"deadline": "realtime", "cpu-used": "8", "g": "12"}),
    "a.avi": ("mpeg4", "libmp3lame", {"g": "12"}),
    "a.ts": ("libx264", "aac", {"preset": "ultrafast", "g": "12"}),
    "a.mov": ("libx265", "aac", {"preset": "ultrafast", "x265-params": "log-level=none"}),
}
PICTURES = ("a.jpg", "a.png", "a.webp", "a.tiff", "a.bmp")


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> Path:
    """The sample's beginning, 24 frames of 320x180 with sound in each container; a picture in each format."""
    folder = tmp_path_factory.mktemp("fuzz")
    with av.open(str(SAMPLE)) as container:
        frames = [
            frame.reformat(320, 180, "yuv420p")
            for _, frame in zip(range(24), container.decode(video=0), strict=False)
        ]
    for name, (video_codec, audio_codec, options) in VIDEOS.items():
        with av.open(str(folder / name), "w") as container:
            video = container.add_stream(video_codec, rate=30, options=options)
            video.width, video.height, video.pix_fmt = 320, 180, "yuv420p"
            audio = container.add_stream(audio_codec, rate=48000, layout="mono")
            packets = []
            for index, frame in enumerate(frames):
                frame.pts, frame.time_base = index, Fraction(1, 30)
                frame.pict_type = av.video.frame.PictureType.NONE
                packets += video.encode(frame)
            packets += video.encode(None)
            for begin in range(0, 38_400, 960):
                tone = (8000 * np.sin(np.arange(begin, begin + 960) * 0.05)).astype(np.int16)
                sound = av.AudioFrame.from_ndarray(tone[None], "s16", "mono")
                sound.sample_rate, sound.pts, sound.time_base = 48000, begin, Fraction(1, 48000)
                packets += audio.encode(sound)
            packets += audio.encode(None)
            for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
                container.mux(packet)
    picture = Image.fromarray(frames[0].to_ndarray(format="rgb24"))
    for name in PICTURES:
        picture.save(folder / name)
    import torch

    torch.save(checkpoint_content(), folder / "w.pt")
    return folder


def problems_of(kind: str, path: Path, count: int, folder: Path, faults: Faults) -> list[str]:
    """Run mutations and return a text for each problem."""
    wrong: list[str] = []
    number = 0
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONFAULTHANDLER": "1"}
    while number < count:
        arguments = [sys.executable, str(WORKER), kind, str(path), str(number), str(count - number)]
        with (
            (folder / "worker.txt").open("wb") as heard,
            subprocess.Popen(
                arguments, cwd=folder, stdout=subprocess.PIPE, stderr=heard, env=environment, bufsize=0
            ) as worker,
        ):
            assert worker.stdout is not None
            ended = None  # why the worker ended early
            while number < count and ended is None:
                ready, _, _ = select.select([worker.stdout], [], [], LIMIT_S)
                line = worker.stdout.readline() if ready else b""
                if not line:
                    ended = "ended its process" if ready else f"took longer than {LIMIT_S} s"
                    continue
                said = json.loads(line)
                number = said["ended"] + 1
                if said["wrong"] is not None:
                    wrong.append(f"mutation {said['ended']}: {said['wrong']}")
                if said["memory"] > MEMORY_BYTES:
                    wrong.append(f"mutation {said['ended']} took {said['memory'] / 2**20:.0f} MB")
                    break  # what it took, a process keeps
            worker.kill()
        if ended is not None:
            heard_text = (folder / "worker.txt").read_text(errors="replace")[-2000:]
            wrong.append(f"mutation {number} {ended} ({worker.returncode}): {heard_text}")
            number += 1
        faults.tried, faults.lost = number, len(wrong)
        assert len(wrong) < 20, "\n".join(wrong)
    return wrong


@pytest.mark.parametrize("name", [*VIDEOS, *PICTURES])
def test_mutated_files(material, tmp_path, faults, name):
    wrong = problems_of("file", material / name, amount(12 if name in VIDEOS else 20, 1000), tmp_path, faults)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("kind", "name"), [("checkpoint", "w.pt"), ("options", "a.jpg"), ("time", "a.jpg")])
def test_mutated_checkpoints_options_and_times(material, tmp_path, faults, kind, name):
    wrong = problems_of(kind, material / name, amount(30, 1000), tmp_path, faults)
    assert not wrong, "\n".join(wrong)


def test_options_of_a_recording(material, tmp_path, faults):
    wrong = problems_of("options", material / "a.avi", amount(30, 1000), tmp_path, faults)
    assert not wrong, "\n".join(wrong)
