"""Networks in ONNX Runtime agree with PyTorch, and the committed files are the tool's output."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.paths import ROOT

from fer_stream.detection.detector import Detector
from fer_stream.expressions import ANNOTATIONS
from fer_stream.inference.network import Network
from fer_stream.inference.onnx_runtime import DATA, OnnxNetwork
from fer_stream.recognition.classifier import Classifier
from fer_stream.recognition.weights import BUILT_IN_WEIGHTS, load_checkpoint

if TYPE_CHECKING:
    from torch import nn

AGREEMENT = 1e-4


def assert_agrees(network: Network, module: nn.Module, batch: np.ndarray) -> None:
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


@pytest.mark.parametrize("labels", ANNOTATIONS)
def test_the_expression_network_agrees_with_torch(labels: str) -> None:
    from train.architectures import evaluation_network

    model = evaluation_network(load_checkpoint(BUILT_IN_WEIGHTS), [labels])
    network = Classifier(labels=labels)._network
    for batch, size in ((1, 64), (5, 64), (1, 112), (17, 48), (3, 97)):
        assert_agrees(network, model, images(batch, 3, size, size))


def test_a_large_batch_runs_in_parts() -> None:
    arrays = load_checkpoint(BUILT_IN_WEIGHTS).network_arrays()
    whole, parts = (
        OnnxNetwork(DATA / "efficientnet_b0.onnx", arrays, max_batch=max_batch) for max_batch in (0, 2)
    )
    batch = images(5, 3, 48, 48)
    np.testing.assert_allclose(whole(batch)[0], parts(batch)[0], atol=1e-5)


def test_a_network_keeps_its_weights_after_the_arrays_are_gone() -> None:
    checkpoint = load_checkpoint(BUILT_IN_WEIGHTS)
    network = OnnxNetwork(checkpoint.graph_path, checkpoint.network_arrays())
    batch = images(2, 3, 48, 48)
    before = network(batch)[0]
    zeros = {name: np.zeros_like(array) for name, array in checkpoint.state_dict.items()}
    other = OnnxNetwork(checkpoint.graph_path, replace(checkpoint, state_dict=zeros).network_arrays())
    del checkpoint
    assert not np.allclose(other(batch)[0], before)
    np.testing.assert_array_equal(network(batch)[0], before)


@pytest.mark.slow
def test_the_export_tool_makes_the_committed_networks(tmp_path: Path) -> None:
    import onnx

    tool = ROOT / "tools" / "export_networks.py"
    subprocess.run([sys.executable, tool, "--output", tmp_path], check=True, capture_output=True)
    made = sorted(path.name for path in tmp_path.iterdir())
    assert made == ["efficientnet_b0.json", "efficientnet_b0.onnx", "onet.onnx", "pnet.onnx", "rnet.onnx"]
    assert (tmp_path / made[0]).read_text() == (DATA / made[0]).read_text()
    for name in made[1:]:
        # Versions of PyTorch may choose other names and attributes; operations and weights stay.
        ours, theirs = (
            onnx.load(folder / name, load_external_data=False).graph for folder in (DATA, tmp_path)
        )
        assert [node.op_type for node in ours.node] == [node.op_type for node in theirs.node]
        for one, other in zip(ours.initializer, theirs.initializer, strict=True):
            assert list(one.dims) == list(other.dims)
            if one.data_location == onnx.TensorProto.EXTERNAL:
                assert one.name == other.name
            else:
                np.testing.assert_allclose(*map(onnx.numpy_helper.to_array, (one, other)), rtol=1e-6)


def test_a_start_needs_no_torch_and_writes_nothing(tmp_path: Path) -> None:
    code = """
import sys
import numpy as np
from fer_stream.analyzer import Analyzer
assert Analyzer("cpu").analyze(np.zeros((120, 160, 3), np.uint8)) == ()
slow = {"torch", "torchvision", "timm", "facenet_pytorch", "onnx", "matplotlib", "pyarrow"} & set(sys.modules)
assert not slow, slow
"""
    homes = ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA", "APPDATA")
    environment = {**os.environ, **dict.fromkeys(homes, str(tmp_path))}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert list(tmp_path.iterdir()) == []
