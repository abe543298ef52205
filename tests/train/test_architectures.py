"""Networks of other architectures: trained, saved, used as teachers, and refused by fer-stream."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.paths import SAMPLE
from helpers.training import STRONG

from fer_stream.errors import UsageError, WeightsError
from fer_stream.recognition.weights import load_checkpoint
from train.architectures import new_body, two_headed_network
from train.config import recipe_config
from train.loop import train
from train.pretrained import initial_body
from train.script_files import read_script_file


@pytest.fixture(scope="module")
def resnet_run(voted_data, tmp_path_factory) -> Path:
    """A run of the ResNet-18 for small pictures."""
    config = recipe_config("strong", {"architecture": "resnet18_48px"}, on_gpu=False)
    output = tmp_path_factory.mktemp("resnet")
    train(voted_data, output, replace(config, epochs=1, batch_size=14, device="cpu"))
    return output


def test_the_small_resnet_keeps_the_resolution_and_has_its_own_settings(resnet_run):
    body = new_body("resnet18_48px")
    with torch.no_grad():
        stem = body.maxpool(body.act1(body.bn1(body.conv1(torch.zeros(1, 3, 48, 48)))))
    assert stem.shape == (1, 64, 48, 48)
    assert sum(parameter.numel() for parameter in body.parameters()) == pytest.approx(11.2e6, rel=0.01)
    config = recipe_config("strong", {"architecture": "resnet18_48px", "lr": 0.05}, on_gpu=True)
    assert (config.optimizer, config.lr, config.input_size) == ("sgd", 0.05, 48)
    state = torch.load(resnet_run / "last-state.pt", weights_only=True)
    assert "momentum_buffer" in state["optimizer"]["state"][0]


def test_fer_stream_refuses_a_checkpoint_of_another_architecture_in_one_line(resnet_run, fer):
    path = resnet_run / "best-weights.pt"
    checkpoint = load_checkpoint(path, any_architecture=True)
    assert checkpoint.architecture == "resnet18_48px" and checkpoint.ferplus.weight.shape == (7, 512)
    said = fer(SAMPLE, "--weights", path, "--data", "o.csv")
    assert said.code == 5 and said.err.count("\n") == 1
    assert "holds a network 'resnet18_48px', not efficientnet_b0" in said.err
    assert not Path("o.csv").exists()
    network = two_headed_network(checkpoint)
    logits, votes = network(torch.zeros(2, 3, 48, 48))
    assert logits.shape == votes.shape == (2, 7)


def test_a_teacher_of_another_architecture_teaches_a_b0(resnet_run, voted_data, tmp_path):
    config = replace(STRONG, epochs=1, teachers=(str(resnet_run / "best-weights.pt"),))
    result = train(voted_data, tmp_path, config)
    assert load_checkpoint(tmp_path / "best-weights.pt").architecture == "efficientnet_b0"
    alone = train(voted_data, tmp_path / "alone", replace(config, teachers=()))
    assert result.history[0].train_loss != alone.history[0].train_loss


@pytest.mark.parametrize("name", ["resnet19", "../efficientnet_b0", ""])
def test_an_unknown_architecture_is_refused_in_one_line(name):
    with pytest.raises(UsageError, match="timm has no network") as caught:
        initial_body("none", name)
    assert "\n" not in str(caught.value)


def test_a_network_without_residual_branches_can_be_trained():
    model, origin = initial_body("none", "vgg11", drop_path=0.1)
    assert model.get_classifier().out_features == 7 and origin == "random weights"


def test_the_teachers_of_the_gpu_script_become_checkpoints(shared_data, tmp_path):
    """The converted ResNet-18 gives the same answers as the forward pass of its script."""
    path = shared_data / "weights" / "teacher-resnet18.pt"
    if not path.is_file():
        pytest.skip("needs ../shared/data/weights")
    checkpoint = read_script_file(path)
    assert checkpoint.architecture == "resnet18_48px" and checkpoint.input.size == 48
    tensors = {
        name: tensor.float() for name, tensor in torch.load(path, weights_only=True)["state_dict"].items()
    }
    images = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits, votes = two_headed_network(checkpoint)(images)
        features = _script_features(images[:, :1], tensors)
    expected = features @ tensors["classifier.weight"].T + tensors["classifier.bias"]
    assert torch.allclose(logits, expected, atol=1e-3)
    happiness = features @ tensors["votes.weight"][1] + tensors["votes.bias"][1]
    assert torch.allclose(votes[:, 3], happiness, atol=1e-3)


def _script_features(images: torch.Tensor, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    def norm(value: torch.Tensor, name: str) -> torch.Tensor:
        names = ("running_mean", "running_var", "weight", "bias")
        return torch.nn.functional.batch_norm(value, *(tensors[f"{name}.{each}"] for each in names))

    convolve = torch.nn.functional.conv2d
    value = norm(convolve(images, tensors["stem.0.weight"], padding=1), "stem.1").relu()
    for block in range(8):
        name, stride = f"body.{block}", 2 if block in (2, 4, 6) else 1
        inner = convolve(value, tensors[f"{name}.c1.weight"], stride=stride, padding=1)
        inner = norm(inner, f"{name}.b1").relu()
        inner = norm(convolve(inner, tensors[f"{name}.c2.weight"], padding=1), f"{name}.b2")
        if stride == 2:
            value = norm(convolve(value, tensors[f"{name}.sc.0.weight"], stride=2), f"{name}.sc.1")
        value = (inner + value).relu()
    return value.mean(dim=(2, 3))


def test_a_file_of_another_script_is_refused(tmp_path):
    torch.save({"state_dict": {"stem.0.weight": torch.ones(2)}, "stage": {}}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match=r"other\.pt is not a network with a layer of FER"):
        read_script_file(tmp_path / "other.pt")
