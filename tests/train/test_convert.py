"""A network from another script becomes a checkpoint for both annotations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.checkpoints import save_small_checkpoint
from helpers.tiny_dataset import make_dataset
from helpers.training import write_votes

from fer_stream.expressions import EXPRESSIONS
from fer_stream.recognition.weights import load_checkpoint
from train import convert_teacher
from train.architectures import evaluation_network
from train.convert import main
from train.votes import VOTED_EXPRESSIONS


@pytest.fixture(scope="module")
def agreed_data(tmp_path_factory) -> Path:
    """A folder of pictures for which all ten people voted for the picture's class."""
    root = make_dataset(tmp_path_factory.mktemp("data"))
    votes = {}
    for name, voted in zip(EXPRESSIONS, VOTED_EXPRESSIONS, strict=True):
        for path in sorted((root / "validation" / name).iterdir()):
            path = path.rename(path.with_name(f"{name}-{path.name}"))
            votes[path.name] = {voted: 10}
    write_votes(root, votes)
    return root


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    """A network as the script saves it. Its second layer outputs a different number for each class."""
    import timm

    torch.manual_seed(0)
    state = {f"body.{name}": t for name, t in
             timm.create_model("efficientnet_b0", num_classes=7).state_dict().items()}  # fmt: skip
    state["votes.weight"] = torch.arange(10.0)[:, None].expand(10, 1280) / 1000
    state["votes.bias"] = torch.arange(10.0) / 10
    half = {name: t.half().contiguous() if t.is_floating_point() else t for name, t in state.items()}
    path = tmp_path_factory.mktemp("network") / "student.pt"
    torch.save({"state_dict": half, "stage": {"name": "student", "size": 32}, "epochs": 3.6}, path)
    return path


def test_the_checkpoint_has_the_votes_of_the_seven_classes_in_our_order(
    agreed_data, network, tmp_path, capsys
):
    output = tmp_path / "best-weights.pt"
    assert main([str(network), str(agreed_data), "--output", str(output)]) == 0
    checkpoint = load_checkpoint(output)
    head = checkpoint.head("ferplus")
    # anger, disgust, fear, happiness, neutral, sadness, surprise in FER+'s own order
    expected = [4, 5, 6, 1, 0, 3, 2]
    assert head.bias * 10 == pytest.approx(expected, abs=1e-2)
    assert head.weight[:, 0] * 1000 == pytest.approx(expected, abs=1e-2)
    assert (checkpoint.input.size, checkpoint.input.native_size) == (32, 32)
    assert checkpoint.input.grayscale and checkpoint.input.standardize
    assert checkpoint.epoch == 4 and checkpoint.metrics["validation_ferplus_count"] == 14
    assert {"validation_accuracy", "validation_ferplus_accuracy"} <= checkpoint.metrics.keys()
    assert not any("fer2013" in name for name in checkpoint.metrics)  # named as by fer-train
    assert evaluation_network(checkpoint, ["ferplus"])(torch.zeros(1, 3, 32, 32)).shape == (1, 7)
    said = capsys.readouterr().out
    assert "ferplus: 14 pictures" in said and "fer2013: 14 pictures" in said


def test_converting_a_checkpoint_again_keeps_its_layers(agreed_data, network, tmp_path):
    first, second = tmp_path / "first.pt", tmp_path / "second.pt"
    assert main([str(network), str(agreed_data), "--output", str(first)]) == 0
    assert main([str(first), str(agreed_data), "--output", str(second)]) == 0
    once, twice = load_checkpoint(first), load_checkpoint(second)
    assert np.array_equal(once.head("ferplus").weight, twice.head("ferplus").weight)
    assert once.head("ferplus").temperature == pytest.approx(twice.head("ferplus").temperature, rel=1e-3)
    assert (once.recipe, once.epoch, once.input) == (twice.recipe, twice.epoch, twice.input)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (5, "no FER+ layer"),
        (5, "not a network"),
        (5, "can't be read"),
        (3, "no votes"),
        (3, "no picture has a clear majority"),
        (3, "no folder"),
    ],
)
def test_wrong_input_is_refused_in_one_line(code, words, agreed_data, network, tmp_path, capsys):
    if words == "no FER+ layer":
        network = tmp_path / "old.pt"
        save_small_checkpoint(network)
    elif words == "not a network":
        network = tmp_path / "other.pt"
        torch.save({"state_dict": {}}, network)
    elif words == "can't be read":
        network = tmp_path / "text.pt"
        network.write_text("text")
    elif words == "no votes":
        agreed_data = make_dataset(tmp_path / "data")
    elif words == "no picture has a clear majority":
        agreed_data = make_dataset(tmp_path / "data")
        write_votes(agreed_data, {"another-picture.png": {"anger": 10}})
    else:
        agreed_data = tmp_path
    assert main([str(network), str(agreed_data), "--output", str(tmp_path / "w.pt")]) == code
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1 and not (tmp_path / "w.pt").exists()


@pytest.mark.parametrize("command", [main, convert_teacher.main])
def test_wrong_usage_is_one_line(command, capsys):
    assert command([]) == 2
    said = capsys.readouterr().err
    assert "--output" in said and said.count("\n") == 1
