"""The strong recipe: two last layers, a moving average, a gentle end."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers.training import STRONG, Recorder

from fer_stream.recognition.weights import load_checkpoint
from train import setup
from train.architectures import TwoHeaded
from train.batches import StrongBatches
from train.evaluation import evaluate
from train.loop import train
from train.optimizers import make_optimizer
from train.pretrained import initial_body
from train.validation import Validation
from train.votes import VOTE_INDICES


def test_the_strong_recipe_saves_both_layers_of_the_averaged_network(strong_run):
    output, result = strong_run
    checkpoint = load_checkpoint(output / "best-weights.pt")
    assert (checkpoint.recipe, checkpoint.input.size, checkpoint.input.standardize) == ("strong", 48, True)
    state = torch.load(output / "last-state.pt", weights_only=True)
    average, live = state["average"], state["model"]
    assert not torch.equal(average["votes_layer.weight"], live["votes_layer.weight"])
    assert checkpoint.ferplus is not None and checkpoint.ferplus.weight.shape == (7, 1280)
    assert checkpoint.epoch == result.epoch and checkpoint.temperature == result.temperature


def test_the_saved_weights_are_those_of_the_average(voted_data, tmp_path):
    train(voted_data, tmp_path, replace(STRONG, epochs=1))  # the only epoch is the best
    checkpoint = load_checkpoint(tmp_path / "best-weights.pt")
    average = torch.load(tmp_path / "last-state.pt", weights_only=True)["average"]
    indices, last = list(VOTE_INDICES), average["body.classifier.weight"]
    assert checkpoint.ferplus.weight.tolist() == average["votes_layer.weight"][indices].tolist()
    assert checkpoint.ferplus.bias.tolist() == average["votes_layer.bias"][indices].tolist()
    assert checkpoint.state_dict["classifier.weight"].tolist() == last.tolist()


def test_a_strong_run_is_measured_on_both_annotations_as_the_evaluation_does(strong_run, voted_data):
    output, result = strong_run
    layers = evaluate(output / "best-weights.pt", voted_data / "validation", device="cpu").layers
    for measured, expected in (
        (layers["fer2013"].figures.measured, result.validation),
        (layers["ferplus"].figures.measured, result.ferplus),
    ):
        assert measured.confusion.tolist() == expected.confusion.tolist()
        assert measured.loss == pytest.approx(expected.loss) and measured.ece == pytest.approx(expected.ece)
    row = result.history[result.epoch - 1]
    assert row.ferplus_agreement == result.ferplus.accuracy


def test_without_votes_a_strong_run_learns_fer2013_alone(data, tmp_path):
    recorder = Recorder()
    result = train(data, tmp_path, replace(STRONG, epochs=1), reporter=recorder)
    checkpoint = load_checkpoint(tmp_path / "best-weights.pt")
    assert checkpoint.ferplus is None and checkpoint.unsure_below == 0 and result.ferplus is None
    assert result.history[0].ferplus_agreement is None
    assert recorder.notes[0] == "recognized train/ and validation/, no FER+ votes beside them"


def test_best_by_decides_which_weights_are_kept(voted_data, tmp_path, monkeypatch):
    figures = [(0.5, 0.6), (0.52, 0.55), (0.48, 0.7)]  # FER2013 accuracy and FER+ agreement
    measure = Validation.measure
    kept = {}
    for best_by in ("both", "accuracy"):
        left = iter(figures)

        def with_figures(self, *given, left=left):
            measured, (accuracy, agreement) = measure(self, *given), next(left)
            return replace(
                measured,
                fer2013=replace(measured.fer2013, accuracy=accuracy),
                ferplus=replace(measured.ferplus, accuracy=agreement),
            )

        monkeypatch.setattr(Validation, "measure", with_figures)
        config = replace(STRONG, best_by=best_by, batch_size=28, input_size=32)
        kept[best_by] = train(voted_data, tmp_path / best_by, config).epoch
    assert kept == {"both": 3, "accuracy": 2}


def test_a_finished_run_by_the_clock_resumes_without_another_epoch(voted_data, tmp_path):
    config = replace(STRONG, minutes=0.02)
    result = train(voted_data, tmp_path, config)
    state = torch.load(tmp_path / "last-state.pt", weights_only=True)
    assert 0 < state["elapsed_s"] <= result.elapsed_s and state["epoch"] == result.history[-1].epoch
    again = train(voted_data, tmp_path, config, resume=True)
    assert again.history == result.history


def test_the_last_epochs_are_gentle(voted_data, tmp_path, monkeypatch):
    made = []
    make = StrongBatches.make

    def noted(self, indices, share, *, gentle):
        made.append(gentle)
        return make(self, indices, share, gentle=gentle)

    monkeypatch.setattr(StrongBatches, "make", noted)
    train(voted_data, tmp_path, STRONG)
    steps = len(made) // 3
    assert made == [False] * 2 * steps + [True] * steps


def test_frozen_stages_keep_their_weights_and_the_others_learn():
    network = TwoHeaded(initial_body("none")[0], 10)
    torch.manual_seed(0)
    setup.freeze(network.body, 2)
    images, weights = torch.randn(4, 3, 32, 32), {n: w.clone() for n, w in network.named_parameters()}
    optimizer = make_optimizer(network, STRONG, torch.device("cpu"))
    network(images)[0].square().sum().backward()
    optimizer.step()
    changed = {name for name, weight in network.named_parameters() if not torch.equal(weight, weights[name])}
    frozen = ("body.conv_stem", "body.bn1", "body.blocks.0", "body.blocks.1")
    assert {name for name in weights if name.startswith(frozen)}.isdisjoint(changed)
    assert {name for name in weights if name.startswith("body.blocks.2")} <= changed
