"""Networks: exported ones agree with torch, and the cache helps but is never needed."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.own_cache import cache_environment

from fer_stream.analyzer import Analyzer
from fer_stream.detection.detector import Detector
from fer_stream.inference import onnx_runtime
from fer_stream.inference.network import Network
from fer_stream.inference.onnx_runtime import ModuleSpec, cache_folder, load_network

AGREEMENT = 1e-4


def assert_agrees(network: Network, module, batch: np.ndarray) -> None:
    import torch

    with torch.inference_mode():
        expected = module(torch.from_numpy(batch))
    expected = expected if isinstance(expected, tuple) else (expected,)
    given = network(batch)
    assert len(given) == len(expected)
    for one, other in zip(given, expected, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other.numpy(), atol=AGREEMENT, rtol=AGREEMENT)


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize("size_hw", [(12, 12), (13, 40), (64, 96), (217, 120)])
@pytest.mark.parametrize("batch", [1, 3])
def test_p_net_agrees_with_torch(detector: Detector, size_hw: tuple[int, int], batch: int) -> None:
    from facenet_pytorch.models.mtcnn import PNet

    assert_agrees(detector._cascade._p_net, PNet().eval(), images(batch, 3, *size_hw))


@pytest.mark.parametrize("batch", [1, 2, 17])
def test_r_net_and_o_net_agree_with_torch(detector: Detector, batch: int) -> None:
    from facenet_pytorch.models.mtcnn import ONet, RNet

    assert_agrees(detector._cascade._r_net, RNet().eval(), images(batch, 3, 24, 24))
    assert_agrees(detector._cascade._o_net, ONet().eval(), images(batch, 3, 48, 48))


def test_the_expression_network_agrees_with_torch(analyzer: Analyzer) -> None:
    from fer_stream.recognition.weights import BUILT_IN_WEIGHTS, load_checkpoint

    model = load_checkpoint(BUILT_IN_WEIGHTS).build_model(analyzer._classifier.labels)
    for batch, size in ((1, 64), (5, 64), (2, 48), (1, 112)):
        assert_agrees(analyzer._classifier._network, model, images(batch, 3, size, size))


# The cache, by a network that is exported in no time.


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in cache_environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    return cache_folder()


@pytest.fixture
def builds() -> list[str]:
    """The names of the networks that were built, in order."""
    return []


@pytest.fixture
def small_spec(builds: list[str]) -> ModuleSpec:
    def build():
        import torch

        torch.manual_seed(3)
        builds.append("small")
        return torch.nn.Conv2d(3, 2, 3).eval(), {"temperature": 1.25}

    return ModuleSpec("small", ("weights one",), build, (1, 3, 8, 8))


def answer(spec: ModuleSpec) -> np.ndarray:
    network, stored = load_network(spec, threads=1)
    assert stored == {"temperature": 1.25}
    return network(np.ones((2, 3, 8, 8), np.float32))[0]


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_network_is_built_once(cache: Path, small_spec: ModuleSpec, builds: list[str]) -> None:
    first, second = answer(small_spec), answer(small_spec)
    np.testing.assert_array_equal(first, second)
    assert builds == ["small"]
    (name,) = files_in(cache)
    assert name.startswith("small-")
    assert name.endswith(".onnx")


def test_other_weights_make_another_file(cache: Path, small_spec: ModuleSpec, builds: list[str]) -> None:
    answer(small_spec)
    answer(dataclasses.replace(small_spec, key=("weights two",)))
    assert builds == ["small", "small"]
    assert len(files_in(cache)) == 2


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[:-100],
    "cut in the header": lambda content: content[:20],
    "flipped bit": lambda content: content[:-50] + bytes([content[-50] ^ 1]) + content[-49:],
    "no JSON": lambda content: b"model\n" + content.partition(b"\n")[2],
    "other JSON": lambda content: b'["a list"]\n' + content.partition(b"\n")[2],
    "other fields": lambda content: b"{}\n" + content.partition(b"\n")[2],
    "binary header": lambda content: b"\xff\xfe\x00\n" + content.partition(b"\n")[2],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))
def test_a_damaged_file_is_made_again(
    cache: Path, small_spec: ModuleSpec, builds: list[str], damage: Callable[[bytes], bytes]
) -> None:
    before = answer(small_spec)
    (name,) = files_in(cache)
    sound = (cache / name).read_bytes()
    (cache / name).write_bytes(damage(sound))
    np.testing.assert_array_equal(answer(small_spec), before)
    assert len(builds) == 2
    assert (cache / name).read_bytes() == sound
    answer(small_spec)
    assert len(builds) == 2
    assert files_in(cache) == [name]


def test_a_file_that_onnx_runtime_refuses_is_made_again(
    cache: Path, small_spec: ModuleSpec, builds: list[str]
) -> None:
    before = answer(small_spec)
    (name,) = files_in(cache)
    onnx_runtime._write_cache(cache / name, b"whole, but no model", {"temperature": 1.25})
    np.testing.assert_array_equal(answer(small_spec), before)
    assert len(builds) == 2


def test_where_no_cache_can_be_written_the_network_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_spec: ModuleSpec, builds: list[str]
) -> None:
    a_file = tmp_path / "file"
    a_file.write_text("not a folder")
    for name, value in cache_environment(a_file).items():
        monkeypatch.setenv(name, value)
    assert answer(small_spec).shape == (2, 2, 6, 6)
    assert answer(small_spec).shape == (2, 2, 6, 6)
    assert len(builds) == 2
    assert a_file.read_text() == "not a folder"


def test_a_failed_write_leaves_nothing_behind(
    cache: Path, small_spec: ModuleSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert answer(small_spec).shape == (2, 2, 6, 6)
    assert files_in(cache) == []


def environment(folder: Path) -> dict[str, str]:
    import os

    return {**os.environ, **cache_environment(folder)}


def test_two_processes_may_export_at_once(tmp_path: Path) -> None:
    code = """
import hashlib, numpy as np
from fer_stream.detection.mtcnn import load_mtcnn
answers = load_mtcnn("RNet", 1)(np.full((2, 3, 24, 24), 0.25, np.float32))
print(hashlib.sha256(b"".join(answer.tobytes() for answer in answers)).hexdigest())
"""
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code], env=environment(tmp_path), stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    answers = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert answers[0] == answers[1]
    (name,) = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert name.startswith("rnet-")
    assert name.endswith(".onnx")


def test_a_second_start_needs_no_torch_and_leaves_nothing(
    analyzer: Analyzer, cache_home: Path, tmp_path: Path
) -> None:
    warm = cache_folder()  # filled by the session's analyzer
    copy = tmp_path / warm.relative_to(cache_home)
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(warm, copy)
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    code = """
import sys
import numpy as np
from fer_stream.analyzer import Analyzer
assert Analyzer("cpu").analyze(np.zeros((120, 160, 3), np.uint8)) == ()
slow = {"torch", "torchvision", "timm", "facenet_pytorch", "onnx", "matplotlib"} & set(sys.modules)
assert not slow, slow
"""
    subprocess.run([sys.executable, "-c", code], env=environment(tmp_path), check=True)
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == before
