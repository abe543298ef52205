"""The training run on generated pictures: its files, and when it saves them."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from helpers.tiny_dataset import TRAIN_COUNT, VALIDATION_COUNT
from helpers.training import CONFIG

from fer_stream.errors import UsageError
from fer_stream.expressions import EXPRESSIONS
from fer_stream.recognition.weights import load_checkpoint
from train.config import IMAGENET_MEAN, IMAGENET_STD
from train.evaluation import evaluate
from train.loop import train
from train.reporter import Reporter
from train.validation import Validation


def test_the_checkpoint_holds_all_that_is_needed_to_use_it(unbroken):
    output, result, _ = unbroken
    content = torch.load(output / "best-weights.pt", weights_only=True)
    assert set(content) == {
        "state_dict", "architecture", "classes", "input_size", "mean", "std", "grayscale", "crop_scale",
        "native_size", "standardize", "temperature", "unsure_below", "recipe", "epoch", "metrics",
        "format_version",
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


def test_the_history_has_a_row_for_each_epoch(unbroken):
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
    assert unbroken[2].events == expected


def test_weights_are_saved_only_when_the_validation_loss_improves(data, tmp_path, monkeypatch):
    losses = iter([3.0, 3.5, 2.5, 2.5])
    measure = Validation.measure

    def with_loss(self, *given):
        measured = measure(self, *given)
        return replace(measured, fer2013=replace(measured.fer2013, loss=next(losses)))

    monkeypatch.setattr(Validation, "measure", with_loss)
    saved_epochs = []

    class Watch(Reporter):
        def epoch_done(self, row):
            saved_epochs.append(load_checkpoint(tmp_path / "best-weights.pt").epoch)

    result = train(data, tmp_path, replace(CONFIG, epochs=4, batch_size=28), reporter=Watch())
    assert saved_epochs == [1, 1, 3, 3]
    assert [row.best for row in result.history] == [True, False, True, False]
    assert result.epoch == 3


def test_a_loss_that_is_not_finite_ends_the_run_with_a_remedy(data, tmp_path):
    with pytest.raises(UsageError, match="lower --lr"):
        train(data, tmp_path, replace(CONFIG, lr=1e30))


@pytest.mark.slow
def test_two_processes_of_torchrun_train_one_network(data, tmp_path):
    batch = 11  # so that the two shares of a batch differ
    steps = -(-TRAIN_COUNT // batch)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "train", str(data),
        "--epochs", "1", "--batch-size", str(batch), "--input-size", "32", "--pretrained", "none",
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
    assert state["history"][0]["images"] == TRAIN_COUNT
    # As many steps as one process makes: the batch is the same, not one for each process.
    assert {int(each["step"]) for each in state["optimizer"]["state"].values()} == {steps}
    evaluation = evaluate(tmp_path / "run" / "best-weights.pt", data / "validation", device="cpu")
    measured = evaluation.layers["fer2013"]
    with (tmp_path / "run" / "history.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    assert float(row["validation_loss"]) == pytest.approx(measured.untempered.loss, rel=1e-3)
    assert measured.figures.measured.count == VALIDATION_COUNT
