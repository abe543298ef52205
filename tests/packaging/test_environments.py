"""The program in environments that lack PyTorch and the extras, libGL, or recent packages."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.checkpoints import INPUT
from helpers.paths import SAMPLE

pytestmark = pytest.mark.slow

EXTRAS_ONLY = ("torch", "torchvision", "timm", "facenet_pytorch", "onnx", "pyarrow", "ray", "fsspec",
               "starlette", "uvicorn", "pyvirtualcam", "hypothesis", "pytest")  # fmt: skip


def test_the_base_environment_has_no_extra(base, tmp_path) -> None:
    code = f"import importlib.util as u; print([n for n in {EXTRAS_ONLY!r} if u.find_spec(n) is not None])"
    assert base.run("python", "-c", code, cwd=tmp_path).stdout.strip() == "[]"


def test_the_base_annotates_a_clip_from_any_directory(base, tmp_path) -> None:
    outputs = ["--save", "out/a.mp4", "--data", "out/a.csv", "--stills", "out/stills"]
    done = base.run("fer-stream", SAMPLE, "--end", "1", *outputs, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["out"]  # and no cache in this home folder
    with (tmp_path / "out" / "a.csv").open(newline="") as file:
        assert {row["face_id"] for row in csv.DictReader(file)} == {"1", "2"}
    done = base.run("fer-stream", SAMPLE, "--end", "1", "--chart", "out/a.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert all((tmp_path / "out" / name).stat().st_size > 10_000 for name in ("a.mp4", "a.png"))


def test_the_base_runs_any_checkpoint_of_the_trainer(base, tmp_path) -> None:
    import timm
    import torch

    from fer_stream.recognition.weights import Checkpoint, load_checkpoint, save_checkpoint
    from train.architectures import arrays_of, evaluation_network

    torch.manual_seed(0)
    model = timm.create_model("efficientnet_b0", num_classes=7)
    save_checkpoint(tmp_path / "w.pt", Checkpoint(arrays_of(model), INPUT), half_precision=True)
    code = """
import pathlib, sys
import numpy as np
from fer_stream.recognition.classifier import Classifier
batch = np.load("batch.npy")
np.save("given.npy", Classifier(weights=pathlib.Path("w.pt")).read(batch))
"""
    batch = np.random.default_rng(0).uniform(-1, 1, (3, 3, 64, 64)).astype(np.float32)
    np.save(tmp_path / "batch.npy", batch)
    done = base.run("python", "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with torch.inference_mode():
        logits = evaluation_network(load_checkpoint(tmp_path / "w.pt"))(torch.from_numpy(batch))
    np.testing.assert_allclose(np.load(tmp_path / "given.npy"), logits.softmax(dim=1).numpy(), atol=1e-4)


MISSING_EXTRAS = [
    ("fer-stream missing.mp4 --data t.parquet", "pyarrow", "parquet"),
    ("fer-stream missing.mp4 --virtual-camera", "pyvirtualcam", "virtual-camera"),
    ("fer-stream missing.mp4 --device cuda", "torch and facenet_pytorch", "cuda"),
    ("fer-stream missing.mp4 --serve 0", "starlette and uvicorn", "web"),
    ("fer-batch missing.mp4 --output out", "ray, fsspec and pyarrow", "batch"),
    ("fer-train missing", "torch, torchvision and timm", "train"),
    ("fer-train evaluate missing.pt missing", "torch, torchvision and timm", "train"),
]


@pytest.mark.parametrize(("command", "packages", "extra"), MISSING_EXTRAS)
def test_a_missing_extra_is_one_line_before_anything_else(base, command, packages, extra, tmp_path) -> None:
    done = base.run(*command.split(), cwd=tmp_path)
    assert done.returncode == 2
    advice = f"in fer-stream's source folder, run: pip install '.[{extra}]'"
    assert done.stderr.endswith(f" needs {packages}; {advice}\n")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_help_and_version_need_no_extra(base, tmp_path) -> None:
    for command in ("fer-stream", "fer-batch", "fer-train"):
        for option in ("--help", "--version"):
            done = base.run(command, option, cwd=tmp_path)
            assert (done.returncode, done.stderr) == (0, "")


WITHOUT_LIBGL = """
set -e
mkdir upper work libraries
mount -t tmpfs none upper
mkdir upper/upper upper/work
mount -t overlay overlay -o lowerdir="$1",upperdir=upper/upper,workdir=upper/work "$1"
rm -f "$1"/libGL.so*
shift
exec "$@"
"""


@pytest.mark.skipif(sys.platform != "linux", reason="hides the library with Linux's mounts")
def test_a_missing_libgl_is_one_line(base, tmp_path) -> None:
    import cv2  # noqa: F401

    loaded = Path("/proc/self/maps").read_text().splitlines()
    found = {Path(line.split()[-1]) for line in loaded if "/libGL.so" in line}
    if not found:
        pytest.skip("this OpenCV does not need libGL")
    folder = found.pop().parent
    hiding = ["unshare", "--mount", "sh", "-c", WITHOUT_LIBGL, "sh", folder]
    if subprocess.run([*hiding, "true"], cwd=tmp_path, check=False, capture_output=True).returncode:
        pytest.skip("hiding a library needs root and overlay mounts")
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    done = subprocess.run(
        [*hiding, base.folder / "bin" / "fer-stream", SAMPLE, "--show"],
        cwd=tmp_path, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("fer-stream: the system library libGL.so.1 is missing; ")
    assert "apt install libgl1" in done.stderr and "opencv-python-headless" in done.stderr
    assert done.stderr.count("\n") == 1


OLD_ONNX_RUNTIME = """
class SessionOptions:
    def __getattr__(self, name):
        if name == "add_external_initializers":
            raise AttributeError(name)
        return lambda *_: None


class OrtValue:
    @staticmethod
    def ortvalue_from_numpy(array):
        return array
"""


def test_a_package_that_is_too_old_is_one_line(new_base_environment: Callable, tmp_path) -> None:
    environment = new_base_environment()
    environment.remove("onnxruntime")
    (environment.site_packages / "onnxruntime.py").write_text(OLD_ONNX_RUNTIME)
    metadata = environment.site_packages / "onnxruntime-1.9.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime\nVersion: 1.9.0\n")
    done = environment.run("fer-stream", SAMPLE, "--data", "t.csv", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("fer-stream: onnxruntime 1.9.0 is too old; ")
    assert "pip install 'onnxruntime>=" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_required_package_that_is_missing_is_one_line(new_base_environment: Callable, tmp_path) -> None:
    environment = new_base_environment()
    environment.remove("av")
    done = environment.run("fer-stream", SAMPLE, "--data", "t.csv", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("fer-stream: av is not installed; install it with: pip install 'av")
    assert done.stderr.count("\n") == 1
