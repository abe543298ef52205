"""The updater: its totals, the moving average, and on a GPU the capture."""

from __future__ import annotations

import pytest
import torch
from helpers.training import STRONG
from torch import nn

from train.architectures import TwoHeaded, new_body
from train.average import MovingAverage
from train.batches import Batch, StrongBatches
from train.config import recipe_config
from train.data import input_spec
from train.optimizers import make_optimizer, trained_parameters
from train.targets import targets_of
from train.updater import CapturedStep, Updater, loss_of


def test_the_totals_are_those_of_the_network_before_each_update():
    torch.manual_seed(0)
    device = torch.device("cpu")
    network = TwoHeaded(new_body("efficientnet_b0"), 10).eval()  # without dropout and batch statistics
    optimizer = make_optimizer(network, STRONG, device)
    updater = Updater(network, trained_parameters(network), optimizer, None, None, STRONG, device)
    batch = Batch(torch.randn(6, 3, 48, 48), torch.eye(7)[[0, 1, 2, 3, 4, 5]], torch.rand(6, 10))
    losses, hits = [], 0
    updater.begin()
    for step in range(2):
        with torch.no_grad():
            outputs = network(batch.images)
            losses.append(float(loss_of(outputs, batch, STRONG.votes_weight)))
            hits += int((outputs[0].argmax(dim=1) == batch.target.argmax(dim=1)).sum())
        updater.set_step(step, 0.001)
        updater.update(batch, gentle=False)
    totals = updater.totals()
    assert totals.loss == pytest.approx(sum(losses) / 2, rel=1e-5)
    assert (totals.hits, totals.count) == (hits, 12) and totals.accuracy == hits / 12
    assert losses[1] < losses[0]


def test_both_layers_learn_and_a_picture_without_votes_adds_nothing_to_the_second():
    outputs = torch.randn(2, 7), torch.randn(2, 10)
    votes = torch.stack([torch.eye(10)[4], torch.zeros(10)])
    target = torch.eye(7)[[1, 2]]
    both = loss_of(outputs, Batch(torch.empty(2, 0), target, votes), 0.5)
    first = nn.functional.cross_entropy(outputs[0], target)
    second = nn.functional.cross_entropy(outputs[1][:1], votes[:1])
    assert float(both) == pytest.approx(float(first + 0.5 * second / 2))
    assert float(loss_of(outputs, Batch(torch.empty(2, 0), target), 0.5)) == pytest.approx(float(first))


def test_the_average_forgets_the_start_soon_and_then_keeps_its_decay():
    network = nn.BatchNorm1d(2)
    average = MovingAverage(network, 0.9)
    nn.init.ones_(network.bias)
    network.running_mean.fill_(3.0)
    average.set_step(0)
    average.update()
    assert average.network.bias.tolist() == pytest.approx([19 / 20] * 2)
    assert average.network.running_mean.tolist() == pytest.approx([3 * 19 / 20] * 2)
    average.set_step(10_000)
    average.update()
    assert average.network.bias.tolist() == pytest.approx([0.9 * 19 / 20 + 0.1] * 2)
    assert not average.network.training and not average.network.bias.requires_grad


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_captured_step_learns_as_the_plain_one_does():
    """The random numbers differ, so the test compares the losses and not the weights."""
    device, size = torch.device("cuda"), 64
    config = recipe_config("strong", {"batch_size": size}, on_gpu=True)
    spec = input_spec(config, 48)
    labels = torch.arange(256) % 7
    pixels = (labels.view(-1, 1, 1, 1) * 30 + torch.randint(0, 40, (256, 1, 48, 48))).to(torch.uint8)
    losses = {}
    for captured in (False, True):
        torch.manual_seed(0)
        network = TwoHeaded(new_body("efficientnet_b0"), 10).to(device)
        network = network.to(memory_format=torch.channels_last).train()
        average, optimizer = MovingAverage(network, 0.9), make_optimizer(network, config, device)
        targets = targets_of(labels, torch.eye(10)[labels], config)
        batches = StrongBatches(pixels, targets, spec, 25.0, device)
        parameters = trained_parameters(network)
        updater = Updater(network, parameters, optimizer, average, None, config, device)

        def work(indices, share, updater=updater, batches=batches):
            updater.update(batches.make(indices, share, gentle=False), gentle=False)

        step = CapturedStep(work, optimizer, size, device) if captured else work
        losses[captured] = []
        for number in range(40):
            updater.begin()
            updater.set_step(number, 0.002)
            step(torch.randperm(256, device=device)[:size], torch.tensor(0.9, device=device))
            losses[captured].append(updater.totals().loss)
    assert losses[True][-1] < 0.9 * losses[True][0]
    assert sum(losses[True][30:]) == pytest.approx(sum(losses[False][30:]), rel=0.25)
