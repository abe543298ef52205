"""Teachers in the training step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.training import STRONG

from fer_stream.errors import UsageError, WeightsError
from fer_stream.expressions import EXPRESSIONS
from fer_stream.recognition.weights import load_checkpoint, save_checkpoint
from train.architectures import TwoHeaded, new_body
from train.batches import Batch, StrongBatches, packed_pixels
from train.data import input_spec, open_folder
from train.loop import train
from train.targets import Targets, targets_of
from train.teachers import Answers, Teachers
from train.teachers import taught as with_answers
from train.votes import VOTED


def test_teachers_answer_for_the_mixed_pictures_of_the_batch_in_their_own_size(data):
    """Two architectures have different sizes and normalizations. The answer is the mean of both."""
    torch.manual_seed(0)
    spec = input_spec(STRONG, 48)
    specs = [spec, replace(spec, size=32, standardize=False, mean=(0.5, 0.5, 0.5))]
    networks = [TwoHeaded(new_body("efficientnet_b0"), 7), TwoHeaded(new_body("resnet18_48px"), 0)]
    teachers = Teachers(list(zip(networks, specs, strict=True)), spec, torch.device("cpu"))
    pictures = open_folder(data / "train")
    targets = Targets(torch.eye(7)[torch.tensor(pictures.targets)], torch.eye(7), torch.rand(28, 10))
    batches = StrongBatches(packed_pixels(pictures, spec), targets, spec, 25.0, torch.device("cpu"))
    batch = batches.make(torch.arange(14), torch.tensor(0.6), gentle=False)
    answers = teachers.answer(batch)
    small = torch.nn.functional.interpolate(
        batch.unnormalized, (32, 32), mode="bilinear", align_corners=False, antialias=True
    )
    with torch.no_grad():
        first, votes = networks[0].eval()(batch.images)
        std = torch.tensor(spec.std).view(1, 3, 1, 1)
        second, _ = networks[1].eval()((small.expand(-1, 3, -1, -1) - 0.5) / std)
    expected = (first.softmax(dim=1) + second.softmax(dim=1)) / 2
    assert torch.allclose(answers.label, expected, atol=1e-5)
    assert torch.allclose(answers.ferplus, votes.softmax(dim=1), atol=1e-5)  # the second has no such layer


def test_teachers_share_both_targets_and_leave_the_other_votes_their_share():
    votes = torch.zeros(1, 10)
    votes[0, VOTED.index("happiness")], votes[0, VOTED.index("contempt")] = 0.6, 0.4
    batch = Batch(torch.zeros(1, 3, 8, 8), torch.eye(7)[[3]], votes)
    sad = torch.eye(7)[[EXPRESSIONS.index("sad")]]
    taught_batch = with_answers(batch, Answers(sad, sad), 0.5)
    assert taught_batch.target[0].tolist() == pytest.approx([0, 0, 0, 0.5, 0, 0.5, 0])
    named = dict(zip(VOTED, taught_batch.votes[0].tolist(), strict=True))
    assert {name: share for name, share in named.items() if share} == pytest.approx(
        {"happiness": 0.3, "sadness": 0.3, "contempt": 0.4}
    )
    assert with_answers(batch, Answers(sad, None), 0.5).votes is votes


def test_a_teacher_without_finite_answers_is_named_before_the_first_epoch(taught, voted_data, tmp_path):
    checkpoint, wrong = load_checkpoint(Path(taught[0].teachers[0])), tmp_path / "wrong.pt"
    weights = {name: tensor * 1e30 for name, tensor in checkpoint.state_dict.items()}
    save_checkpoint(wrong, replace(checkpoint, state_dict=weights))
    with pytest.raises(WeightsError, match=r"wrong\.pt"):
        train(voted_data, tmp_path / "run", replace(taught[0], teachers=(str(wrong),)))


def test_a_teacher_changes_the_loss(taught, strong_run):
    losses = [[row.train_loss for row in result.history] for result in (taught[2], strong_run[1])]
    assert losses[0] != losses[1]


def test_a_teacher_that_does_not_fit_is_named(taught, voted_data, tmp_path):
    config, other = taught[0], tmp_path / "other.pt"
    checkpoint = load_checkpoint(Path(config.teachers[0]))
    weights = dict(list(checkpoint.state_dict.items())[:-1])
    save_checkpoint(other, replace(checkpoint, state_dict=weights))
    with pytest.raises(WeightsError, match=r"other\.pt: .*do not fit"):
        train(voted_data, tmp_path / "run", replace(config, teachers=(config.teachers[0], str(other))))


def test_a_run_does_not_resume_with_other_teachers(taught, strong_run, voted_data, tmp_path):
    config, output, _ = taught
    other = tmp_path / "other.pt"
    other.write_bytes(Path(config.teachers[0]).read_bytes() + b"more")
    for run, now, says in (
        (output, replace(config, teachers=(str(other),)), "had other teachers"),
        (strong_run[0], config, "had no teacher"),
    ):
        with pytest.raises(UsageError, match=says):
            train(voted_data, run, now, resume=True)


def test_the_target_mixes_the_label_with_the_expected_labels():
    config = replace(STRONG, expected_share=0.4, gentle_expected_share=0.1)
    labels = torch.tensor([EXPRESSIONS.index("sad")] * 300 + [EXPRESSIONS.index("neutral")] * 100)
    votes = torch.zeros(400, 10)
    votes[:, VOTED.index("neutral")] = 1.0  # three in four of such pictures are labelled sad
    targets = targets_of(labels, votes, config)
    sad = EXPRESSIONS.index("sad")
    assert float(targets.label[0, sad]) == pytest.approx(0.6 + 0.4 * 0.75, abs=0.01)
    assert float(targets.gentle_label[0, sad]) == pytest.approx(0.9 + 0.1 * 0.75, abs=0.01)
    assert targets.votes is votes
    alone = targets_of(labels, None, config)
    assert torch.equal(alone.label, torch.eye(7)[labels]) and alone.votes is None


@pytest.mark.parametrize("name", ["a" * 100_000, "resnet18\n", ""])
def test_an_architecture_that_is_no_name_is_one_short_line(content, tmp_path, name):
    torch.save({**content, "architecture": name}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="holds a network") as caught:
        load_checkpoint(tmp_path / "w.pt", any_architecture=True)
    assert len(str(caught.value)) < 400 + len(str(tmp_path))
