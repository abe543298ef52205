"""Weights files load as they were saved, and everything that can be wrong with one is a one-line error."""

from __future__ import annotations

import pickle
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.checkpoints import INPUT, refused

from fer_stream.errors import OutputError, WeightsError
from fer_stream.expressions import EXPRESSIONS
from fer_stream.recognition import torch_files
from fer_stream.recognition.classifier import Classifier
from fer_stream.recognition.weights import (
    BUILT_IN_WEIGHTS,
    check_weights_file,
    load_checkpoint,
    save_atomically,
    save_checkpoint,
)
from train.architectures import evaluation_network


def test_a_checkpoint_comes_back_as_it_was_saved(checkpoint, tmp_path):
    path = tmp_path / "best-weights.pt"
    save_checkpoint(path, checkpoint)
    loaded = load_checkpoint(path)
    assert loaded.state_dict.keys() == checkpoint.state_dict.keys()
    for name, array in checkpoint.state_dict.items():
        np.testing.assert_array_equal(loaded.state_dict[name], array)
    assert (loaded.input, loaded.temperature, loaded.recipe) == (INPUT, 1.25, "baseline")
    assert (loaded.epoch, loaded.metrics, loaded.classes) == (3, {"validation_loss": 1.5}, EXPRESSIONS)
    model = evaluation_network(loaded)
    assert not model.training and model(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


def test_half_precision_halves_the_file_and_loads_as_float32(checkpoint, tmp_path):
    save_checkpoint(tmp_path / "full.pt", checkpoint)
    save_checkpoint(tmp_path / "half.pt", checkpoint, half_precision=True)
    assert (tmp_path / "half.pt").stat().st_size < 0.55 * (tmp_path / "full.pt").stat().st_size
    loaded = load_checkpoint(tmp_path / "half.pt")
    for name, array in checkpoint.state_dict.items():
        assert loaded.state_dict[name].dtype == array.dtype
        assert loaded.state_dict[name].shape == array.shape
        np.testing.assert_allclose(loaded.state_dict[name], array, rtol=1e-3, atol=1e-4)


def test_the_small_file_of_these_tests_is_accepted(content, tmp_path):
    torch.save(content, tmp_path / "w.pt")
    assert load_checkpoint(tmp_path / "w.pt").input.size == 64


def test_a_missing_file_is_refused(tmp_path):
    assert "no weights file" in refused(tmp_path / "none.pt")


def test_a_folder_is_refused(tmp_path):
    assert "folder" in refused(tmp_path)


@pytest.mark.parametrize("text", [b"", b"hello\n", b"\x00" * 1000])
def test_a_file_of_something_else_is_refused(text, tmp_path):
    (tmp_path / "w.pt").write_bytes(text)
    assert "not a PyTorch checkpoint" in refused(tmp_path / "w.pt")


def test_a_zip_of_something_else_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    refused(tmp_path / "w.pt")


@pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
def test_a_truncated_file_is_refused(share, content, tmp_path):
    torch.save(content, tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    (tmp_path / "w.pt").write_bytes(whole[: int(share * len(whole))])
    refused(tmp_path / "w.pt")


class Attack:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "run")


def test_code_in_a_pickle_does_not_run(content, tmp_path):
    torch.save({**content, "recipe": Attack(tmp_path / "hacked")}, tmp_path / "w.pt")
    assert "more than weights" in refused(tmp_path / "w.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Attack(tmp_path / "hacked")))
    refused(tmp_path / "plain.pt")
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize("other", [[1, 2, 3], {"weight": torch.ones(2)}, torch.ones(3), "text", None])
def test_a_pytorch_file_of_something_else_is_refused(other, tmp_path):
    torch.save(other, tmp_path / "w.pt")
    assert "not a checkpoint of fer-train" in refused(tmp_path / "w.pt")


@pytest.mark.parametrize(
    "field", ["architecture", "classes", "input_size", "mean", "grayscale", "crop_scale"]
)
def test_a_missing_field_is_named(field, content, tmp_path):
    del content[field]
    torch.save(content, tmp_path / "w.pt")
    assert field in refused(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("format_version", 2, "update fer-stream"),
        ("format_version", 10**600, "000...000"),
        ("format_version", "1", "format version"),
        ("format_version", None, "format version"),
        ("architecture", "resnet18", "resnet18"),
        ("classes", ["cat", "dog"], "cat"),
        ("classes", list(reversed(EXPRESSIONS)), "classes"),
        ("classes", 7, "w.pt"),
        ("input_size", 100_000, "input_size"),
        ("input_size", "64", "input_size"),
        ("input_size", 64.5, "a whole number from 16"),
        ("mean", [0.5, 0.5], "mean"),
        ("mean", [float("nan")] * 3, "mean"),
        ("mean", [True, 0.5, 0.5], "mean"),
        ("std", [0.0, 0.2, 0.2], "std"),
        ("grayscale", torch.ones(2), "w.pt"),
        ("crop_scale", float("inf"), "crop_scale"),
        ("native_size", -1, "native_size"),
        ("temperature", 0.0, "temperature"),
        ("temperature", float("nan"), "temperature"),
        ("metrics", {"validation_loss": 10**400}, "w.pt"),
        ("state_dict", [torch.ones(2)], "state_dict"),
        ("state_dict", {"layer.weight": [1.0]}, "state_dict"),
        ("state_dict", {1: torch.ones(2)}, "state_dict"),
        ("state_dict", {"layer.weight": torch.tensor([1.0, float("nan")])}, "not finite"),
        ("state_dict", {"layer.weight": torch.tensor([float("inf")])}, "not finite"),
        ("state_dict", {"layer.weight": torch.eye(3).to_sparse()}, "w.pt"),
        # Four bytes that claim to be forty gigabytes.
        ("state_dict", {"layer.weight": torch.zeros(1).expand(10**10)}, "too large"),
    ],
)
def test_a_wrong_field_is_refused(field, value, said, content, tmp_path):
    torch.save({**content, field: value}, tmp_path / "w.pt")
    assert said in refused(tmp_path / "w.pt")


def test_a_zip_bomb_is_refused_unread(content, tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "w.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(torch_files.MAX_BYTES + 1))
    assert (tmp_path / "w.pt").stat().st_size < 100_000
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_, **__: pytest.fail("it was read"))
    assert "unpacks to" in refused(tmp_path / "w.pt")


OTHER_NETWORKS = {
    "a missing array": {"classifier.bias": None},
    "an array more": {"extra.weight": np.ones(1, np.float32)},
    "another shape": {"classifier.weight": np.ones((8, 1280), np.float32)},
    "whole numbers": {"classifier.bias": np.ones(7, np.int64)},
}


@pytest.mark.parametrize("changes", OTHER_NETWORKS.values(), ids=list(OTHER_NETWORKS))
def test_weights_of_another_network_are_refused(changes, checkpoint, tmp_path):
    arrays = {
        name: array for name, array in {**checkpoint.state_dict, **changes}.items() if array is not None
    }
    save_checkpoint(tmp_path / "w.pt", replace(checkpoint, state_dict=arrays))
    for load in (check_weights_file, lambda path: Classifier("cpu", weights=path)):
        with pytest.raises(WeightsError, match=r"w\.pt: the weights do not fit") as caught:
            load(tmp_path / "w.pt")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_type_of_float_is_read_as_torch_reads_it(dtype, content, tmp_path):
    tensor = torch.linspace(-70_000, 70_000, 1001).clamp(-60_000, 60_000).to(dtype)
    torch.save({**content, "state_dict": {"w": tensor}}, tmp_path / "w.pt")
    given = load_checkpoint(tmp_path / "w.pt").state_dict["w"]
    assert given.dtype == np.float32
    np.testing.assert_array_equal(given, tensor.float().numpy())


def test_views_are_read_as_torch_reads_them(content, tmp_path):
    base = torch.arange(240.0).reshape(2, 3, 5, 8)
    views = {
        "transposed": base.transpose(1, 3),
        "channels last": base.contiguous(memory_format=torch.channels_last),
        "offset": base[1:, 1:, 2:, 3:],
        "every second": base[..., ::2],
        "expanded": torch.ones(3, 1).expand(3, 4),
        "a number": torch.tensor(7),
        "true and false": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
        "a parameter": torch.nn.Parameter(torch.ones(2)),
        "shares its storage": base,
    }
    torch.save({**content, "state_dict": views}, tmp_path / "w.pt")
    loaded = load_checkpoint(tmp_path / "w.pt").state_dict
    assert loaded.keys() == views.keys()
    for name, view in views.items():
        np.testing.assert_array_equal(loaded[name], view.detach().numpy())


def test_loading_and_checking_need_no_torch(checkpoint, tmp_path):
    save_checkpoint(tmp_path / "w.pt", checkpoint)
    code = (
        "import sys, pathlib, fer_stream.recognition.weights as weights\n"
        "weights.check_weights_file(pathlib.Path(sys.argv[1]))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "w.pt"], check=True)


def test_a_failing_save_leaves_the_old_file_and_nothing_else(content, tmp_path):
    path = tmp_path / "best-weights.pt"
    torch.save(content, path)
    before = path.read_bytes()
    with pytest.raises(Exception, match=r"[Pp]ickle|local object"):
        save_atomically({"tensor": torch.ones(10), "function": lambda: None}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files as POSIX does")
def test_a_full_disk_is_one_line_and_leaves_the_old_file(content, tmp_path):
    import resource

    path = tmp_path / "best-weights.pt"
    torch.save(content, path)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OutputError, match=r"^can't write .*best-weights.pt: [^\n]+$"):
            save_atomically({"tensor": torch.ones(1_000_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_network_whose_output_is_not_finite_is_refused(tmp_path):
    content = torch.load(BUILT_IN_WEIGHTS, weights_only=True)
    for name, tensor in content["state_dict"].items():
        if name.endswith("running_var"):
            content["state_dict"][name] = -torch.ones_like(tensor)
    torch.save(content, tmp_path / "nan.pt")
    with pytest.raises(WeightsError, match="numbers that are not finite"):
        Classifier("cpu", weights=tmp_path / "nan.pt")
