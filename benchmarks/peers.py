"""Other ways to do the same, which `pipeline.py` measures beside ours: the obvious pipeline, and `fer`."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import cv2

from fer_stream.profiling import Profile, peak_rss_mb
from fer_stream.recognition.weights import BUILT_IN_WEIGHTS, load_checkpoint
from fer_stream.sinks import VideoSink
from fer_stream.sources import open_source
from fer_stream.types import AnalyzedFrame

# fer needs packages that ours does not, so it runs in an interpreter of its own.
FER_PROGRAM = """
import json, resource, sys, time
import cv2
from fer.fer import FER

capture, frames, faces, detector = cv2.VideoCapture(sys.argv[1]), 0, 0, FER()
detector.detect_emotions(capture.read()[1])  # loads and compiles
capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
began_s, began_cpu_s, times_ms = time.perf_counter(), time.process_time(), []
while frames < int(sys.argv[2]):
    began_frame_s = time.perf_counter()
    there, image = capture.read()
    if not there:
        break
    faces += len(detector.detect_emotions(image))
    frames += 1
    times_ms.append(1000 * (time.perf_counter() - began_frame_s))
times_ms.sort()
print(json.dumps({
    "frames": frames, "seconds": time.perf_counter() - began_s, "cpu_s": time.process_time() - began_cpu_s,
    "faces": faces, "dropped": 0, "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    "latency_ms": {"p50": times_ms[len(times_ms) // 2], "p95": times_ms[int(0.95 * len(times_ms))]},
}))
"""


def has_fer(python: Path) -> bool:
    """Return whether the package `fer` is installed for an interpreter."""
    return subprocess.run([python, "-c", "import fer"], capture_output=True, check=False).returncode == 0


def fer(clip: Path, frames: int, python: Path) -> dict:
    """Run fer's analysis of a video with its default detector, without saving anything."""
    done = subprocess.run(
        [python, "-c", FER_PROGRAM, clip, str(frames)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def obvious(clip: Path, frames: int, folder: Path, min_face: int | None) -> dict:
    """Run the pipeline as it is usually written. MTCNN's default smallest face is 20 px."""
    import torch
    from facenet_pytorch import MTCNN

    from train.architectures import evaluation_network

    mtcnn = MTCNN(keep_all=True, **({} if min_face is None else {"min_face_size": min_face}))
    checkpoint = load_checkpoint(BUILT_IN_WEIGHTS)
    model, size = evaluation_network(checkpoint), checkpoint.input.size
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
