"""Evaluate a checkpoint on a folder of labelled pictures."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace

import pytest
import torch
from helpers.tiny_dataset import VALIDATION_COUNT
from helpers.training import write_votes
from PIL import Image
from rich.console import Console

from fer_stream.errors import SourceError
from fer_stream.expressions import EXPRESSIONS
from fer_stream.recognition.weights import load_checkpoint, save_checkpoint
from train.architectures import evaluation_network
from train.data import evaluation_loader, open_folder
from train.evaluation import evaluate
from train.progress import summarize_evaluation


def test_an_evaluation_agrees_with_the_run_that_made_the_weights(unbroken, data):
    output, result, _ = unbroken
    evaluation = evaluate(output / "best-weights.pt", data / "validation", device="cpu")
    layer = evaluation.layers["fer2013"]
    for measured, expected in (
        (layer.figures.measured, result.validation),
        (layer.untempered, result.untempered),
    ):
        assert measured.confusion.tolist() == expected.confusion.tolist()
        assert measured.loss == pytest.approx(expected.loss) and measured.ece == pytest.approx(expected.ece)
    best = result.history[result.epoch - 1]
    assert layer.untempered.loss == pytest.approx(best.validation_loss, rel=1e-4)
    assert layer.figures.measured.loss <= layer.untempered.loss


def test_an_evaluation_covers_mirror_images_repeats_and_votes(unbroken, data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    validation = tmp_path / "data" / "validation"
    for name in ("angry", "happy", "sad"):  # three of the fourteen are in the training split, too
        shutil.copy(tmp_path / "data" / "train" / name / "1.png", validation / name / "1.png")
    tie = {"happiness": 5, "surprise": 5}
    write_votes(tmp_path / "data", {"0.png": {"surprise": 9, "contempt": 1}, "1.png": tie})
    weights = tmp_path / "both.pt"  # whose FER+ layer is the FER2013 layer again
    checkpoint = load_checkpoint(unbroken[0] / "best-weights.pt")
    save_checkpoint(weights, replace(checkpoint, ferplus=checkpoint.head("fer2013")))
    evaluation = evaluate(weights, validation, device="cpu")
    said = io.StringIO()
    summarize_evaluation(Console(file=said, width=80), evaluation)  # the width of what is no terminal
    assert "not in train, both views" in said.getvalue() and "…" not in said.getvalue()
    figures, unseen = evaluation.layers["fer2013"].figures, evaluation.layers["fer2013"].not_in_train
    assert (figures.measured.count, unseen.measured.count) == (14, 11)
    assert unseen.measured.confusion.sum(axis=1).tolist() == [1, 2, 2, 1, 2, 1, 2]
    ferplus = evaluation.layers["ferplus"].figures
    assert ferplus.measured.count == 7  # the 0.png of each class
    model = evaluation_network(load_checkpoint(unbroken[0] / "best-weights.pt"))
    loader = evaluation_loader(open_folder(validation), evaluation.checkpoint.input, 14)
    pixels, labels = next(iter(loader))
    with torch.no_grad():
        straight, averaged = model(pixels), (model(pixels) + model(pixels.flip(-1))) / 2
    said_surprise = straight[::2].argmax(dim=1) == EXPRESSIONS.index("surprise")
    assert ferplus.measured.accuracy == pytest.approx(float(said_surprise.float().mean()))
    assert figures.mirrored.accuracy == pytest.approx(float((averaged.argmax(1) == labels).float().mean()))


def test_an_unrelated_train_folder_is_ignored(unbroken, data, tmp_path):
    shutil.copytree(data / "validation", tmp_path / "faces")
    (tmp_path / "train").mkdir()
    evaluation = evaluate(unbroken[0] / "best-weights.pt", tmp_path / "faces", device="cpu")
    layer = evaluation.layers["fer2013"]
    assert layer.not_in_train is None and layer.figures.measured.count == VALIDATION_COUNT


def test_pictures_that_are_too_small_to_show_an_expression_are_refused(unbroken, data, tmp_path):
    shutil.copytree(data / "validation", tmp_path / "validation")
    Image.new("L", (1, 1)).save(tmp_path / "validation" / "happy" / "0.png")
    with pytest.raises(SourceError, match=r"1 of 14 pictures .* smaller than 32 px, such as .*happy.*0.png"):
        evaluate(unbroken[0] / "best-weights.pt", tmp_path / "validation", device="cpu")
