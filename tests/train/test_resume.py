"""A stopped run resumes as if it had never stopped, but only with its own data and settings."""

from __future__ import annotations

import errno
import shutil
from dataclasses import replace

import pytest
import torch
from helpers.training import CONFIG, STRONG, StopInEpoch, same, weights_of, without_times

from fer_stream.errors import OutputError, UsageError, WeightsError
from fer_stream.recognition.weights import load_checkpoint
from train import setup
from train.architectures import evaluation_network
from train.loop import train
from train.pretrained import initial_body
from train.state import Origin, load_state


def test_a_resumed_run_equals_an_unbroken_one(unbroken, data, tmp_path):
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


def test_another_seed_gives_another_run_and_its_saved_weights_compute_the_same(
    unbroken, data, tmp_path, monkeypatch
):
    models = []

    def remembered(*given, **more):
        models.append(initial_body(*given, **more))
        return models[-1]

    monkeypatch.setattr(setup, "initial_body", remembered)
    result = train(data, tmp_path, replace(CONFIG, epochs=1, seed=1))
    assert result.history[0].train_loss != unbroken[1].history[0].train_loss
    in_memory = models[0][0].eval()
    reloaded = evaluation_network(load_checkpoint(tmp_path / "best-weights.pt"))
    pixels = torch.randn(4, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        assert torch.equal(in_memory(pixels), reloaded.to(memory_format=torch.channels_last)(pixels))


def test_a_run_is_not_written_over_another(unbroken, data):
    output = unbroken[0]
    before = (output / "best-weights.pt").read_bytes()
    with pytest.raises(OutputError, match=r"--resume.*--overwrite"):
        train(data, output, CONFIG)
    with pytest.raises(UsageError, match=r"lr = 0\.001, not 0\.1"):
        train(data, output, replace(CONFIG, lr=0.1), resume=True)
    assert (output / "best-weights.pt").read_bytes() == before


def test_a_run_older_than_a_setting_resumes(unbroken, data, tmp_path):
    output = tmp_path / "run"
    shutil.copytree(unbroken[0], output)
    state = torch.load(output / "last-state.pt", weights_only=True)
    del state["config"]["standardize"], state["config"]["frozen_stages"]
    torch.save(state, output / "last-state.pt")
    assert train(data, output, CONFIG, resume=True).history == unbroken[1].history


def test_other_files_are_not_replaced(data, tmp_path):
    (tmp_path / "metrics.json").write_text("mine")
    with pytest.raises(OutputError, match=r"holds a metrics\.json already; replace it with --overwrite"):
        train(data, tmp_path, CONFIG)
    assert (tmp_path / "metrics.json").read_text() == "mine"


def test_overwrite_removes_the_old_run(unbroken, data, tmp_path):
    output = tmp_path / "run"
    shutil.copytree(unbroken[0], output)
    with pytest.raises(KeyboardInterrupt):
        train(data, output, CONFIG, overwrite=True, reporter=StopInEpoch(1))
    assert list(output.iterdir()) == []


def test_a_missing_or_damaged_state_is_refused(data, tmp_path):
    with pytest.raises(UsageError, match=r"nothing to resume.*; start without --resume$"):
        train(data, tmp_path, CONFIG, resume=True)
    (tmp_path / "last-state.pt").write_bytes(b"PK")
    with pytest.raises(UsageError, match=r"last-state\.pt is damaged"):
        train(data, tmp_path, CONFIG, resume=True)


def test_a_resumed_strong_run_equals_an_unbroken_one(strong_run, voted_data, tmp_path):
    output, result = strong_run
    with pytest.raises(KeyboardInterrupt):
        train(voted_data, tmp_path, STRONG, reporter=StopInEpoch(2))
    resumed = train(voted_data, tmp_path, STRONG, resume=True)
    assert without_times(resumed.history) == without_times(result.history)
    assert same(weights_of(tmp_path), weights_of(output))


def test_a_resumed_run_finds_its_teachers_again(taught, voted_data, tmp_path):
    config, _, result = taught
    teacher = tmp_path / "teacher.pt"
    shutil.copy(config.teachers[0], teacher)
    config = replace(config, teachers=(str(teacher),))
    with pytest.raises(KeyboardInterrupt):
        train(voted_data, tmp_path / "run", config, reporter=StopInEpoch(2))
    unnamed = replace(config, teachers=())
    content = teacher.read_bytes()
    teacher.unlink()
    with pytest.raises(WeightsError, match=r"teacher\.pt"):
        train(voted_data, tmp_path / "run", unnamed, resume=True)
    teacher.write_bytes(content + b"more")
    with pytest.raises(UsageError, match=r"teachers of the run .* have changed"):
        train(voted_data, tmp_path / "run", unnamed, resume=True)
    teacher.write_bytes(content)
    resumed = train(voted_data, tmp_path / "run", unnamed, resume=True)
    assert without_times(resumed.history) == without_times(result.history)


def test_a_resumed_run_keeps_its_initial_weights_and_teachers(taught, voted_data, tmp_path):
    config, _, result = taught
    for epoch in (2, 3):
        with pytest.raises(KeyboardInterrupt):
            resumed = replace(config, pretrained="imagenet", teachers=()) if epoch == 3 else config
            train(voted_data, tmp_path, resumed, resume=epoch == 3, reporter=StopInEpoch(epoch))
    last = train(voted_data, tmp_path, replace(config, pretrained="imagenet", teachers=()), resume=True)
    assert without_times(last.history) == without_times(result.history)
    assert (last.config.pretrained, last.config.teachers) == ("none", config.teachers)


def test_a_resumed_strong_run_cannot_change_its_number_of_epochs(strong_run, voted_data):
    with pytest.raises(UsageError, match="epochs = 3, not 5"):
        train(voted_data, strong_run[0], replace(STRONG, epochs=5), resume=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("origin", None),
        ("origin", {"pictures": 5, "votes": False, "teachers": "", "weights": ""}),
        ("history", 5),
        ("history", [{"a": 1}]),
        ("model", 5),
        ("model", {}),
        ("optimizer", {}),
        ("config", {"lr": torch.zeros(3)}),
        ("best_logits", 5),
        ("epoch", "many"),
    ],
)
def test_a_state_with_a_wrong_field_is_refused(unbroken, data, tmp_path, name, value):
    output = tmp_path / "run"
    shutil.copytree(unbroken[0], output)
    state = torch.load(output / "last-state.pt", weights_only=True)
    torch.save({**state, name: value}, output / "last-state.pt")
    with pytest.raises(UsageError, match=r"last-state\.pt is damaged .*; start again with --overwrite$"):
        train(data, output, CONFIG, resume=True)


@pytest.mark.parametrize(("size", "says"), [("2", None), ("many", "WORLD_SIZE=many"), ("0", "WORLD_SIZE=0")])
def test_a_leftover_world_size_is_ignored_or_refused(unbroken, data, tmp_path, monkeypatch, size, says):
    monkeypatch.setenv("WORLD_SIZE", size)
    monkeypatch.delenv("RANK", raising=False)
    if says is None:
        shutil.copytree(unbroken[0], tmp_path / "run")
        assert train(data, tmp_path / "run", CONFIG, resume=True).history == unbroken[1].history
        return
    with pytest.raises(UsageError, match=says):
        train(data, tmp_path / "run", CONFIG)


def test_a_run_with_a_setting_that_was_removed_is_refused(unbroken, data, tmp_path):
    shutil.copytree(unbroken[0], tmp_path / "run")
    path = tmp_path / "run" / "last-state.pt"
    state = torch.load(path, weights_only=True)
    state["config"]["label_smoothing"] = 0.05
    torch.save(state, path)
    with pytest.raises(UsageError, match=r"label_smoothing = 0\.05, which this version does not know"):
        train(data, tmp_path / "run", CONFIG, resume=True)


def test_a_run_does_not_resume_without_its_votes(strong_run, voted_data, data, tmp_path):
    shutil.copytree(strong_run[0], tmp_path / "run")
    with pytest.raises(UsageError, match=r"had a ferplus-votes\.csv, now there is none"):
        train(data, tmp_path / "run", STRONG, resume=True)


def test_a_state_with_changed_bytes_is_refused(unbroken, data, tmp_path):
    output = tmp_path / "run"
    shutil.copytree(unbroken[0], output)
    content = bytearray((output / "last-state.pt").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 1000] = bytes(1000)
    (output / "last-state.pt").write_bytes(content)
    with pytest.raises(UsageError, match=r"last-state\.pt is damaged"):
        train(data, output, CONFIG, resume=True)


def test_a_run_does_not_resume_without_its_best_weights(unbroken, data, tmp_path):
    output = tmp_path / "run"
    shutil.copytree(unbroken[0], output)
    (output / "best-weights.pt").unlink()
    with pytest.raises(UsageError, match=r"lacks best-weights\.pt"):
        train(data, output, CONFIG, resume=True)


def test_a_run_does_not_resume_with_other_pictures(unbroken, data, tmp_path):
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


def test_an_unreadable_state_is_not_called_damaged(unbroken, data, tmp_path, lock):
    output = tmp_path / "run"
    shutil.copytree(unbroken[0], output)
    lock(output / "last-state.pt")
    with pytest.raises(OutputError, match=r"^can't read .*last-state\.pt: Permission denied$"):
        train(data, output, CONFIG, resume=True)
    lock(output)
    with pytest.raises(OutputError, match=r"^can't read .*last-state\.pt: Permission denied$"):
        load_state(output, CONFIG, Origin("", False, "", ""))


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE])
def test_an_error_of_the_system_does_not_suggest_to_overwrite_the_run(unbroken, data, monkeypatch, number):
    monkeypatch.setattr("zipfile.ZipFile", raising(OSError(number, "no luck")))
    with pytest.raises(OutputError, match=r"^can't read .*last-state\.pt: no luck$"):
        train(data, unbroken[0], CONFIG, resume=True)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
@pytest.mark.parametrize("place", ["torch.load", "train.state.load_optimizer_state"])
def test_a_lack_of_memory_does_not_suggest_to_overwrite_the_run(unbroken, data, monkeypatch, error, place):
    monkeypatch.setattr(place, raising(error))
    with pytest.raises(type(error)):
        train(data, unbroken[0], CONFIG, resume=True)


def raising(error: Exception):
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail
