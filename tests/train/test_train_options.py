"""`fer-train`'s options: refused values, and the lines that a run prints."""

from __future__ import annotations

import json
import re

import pytest
import torch
from helpers.tiny_dataset import TINY
from helpers.training import fails

from fer_stream.command.reporting import exit_code_of
from fer_stream.version import __version__
from train.cli import _device_memory_in_words, main


@pytest.mark.parametrize(
    "wrong",
    [
        ["--epochs", "0"], ["--epochs", "two"], ["--batch-size", "1"], ["--lr", "0"], ["--lr", "nan"],
        ["--lr", "inf"], ["--lr", "1e300"], ["--lr", "1.5"], ["--minutes", "0"], ["--minutes", "nan"],
        ["--epochs", "3", "--minutes", "5"], ["--lr", "-1"], ["--input-size", "31"], ["--input-size", "513"],
        ["--rotation", "181"], ["--rotation", "-1"], ["--seed", "-1"], ["--recipe", "best"],
        ["--device", "tpu"], ["--workers", "-1"], ["--colour"], ["--resume", "--overwrite"], ["more"],
        ["--output", "other"],
    ],
)  # fmt: skip
def test_a_wrong_option_is_refused_with_a_pointer_to_the_help(wrong, data, tmp_path, capsys):
    code, said = fails([data, "--output", tmp_path / "run", *wrong], capsys)
    assert code == 2 and "see fer-train --help" in said
    assert not (tmp_path / "run").exists()


def test_settings_that_do_not_fit_the_recipe_or_the_data_are_refused(data, tmp_path, capsys):
    output = ["--output", tmp_path / "run"]
    code, said = fails([data, *output, "--minutes", "5"], capsys)
    assert code == 2 and "--recipe strong" in said
    code, said = fails([data, *output, *TINY, "--recipe", "strong", "--architecture", "b0"], capsys)
    assert code == 2 and "timm has no network 'b0'" in said
    code, said = fails([data, *output, *TINY, "--batch-size", "29"], capsys)
    assert code == 2 and "give --batch-size 28 or less" in said
    assert not (tmp_path / "run").exists()


def test_a_run_by_the_clock_prints_its_data_and_the_length_of_an_epoch(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("train.progress.MEASURED_S", 0.0)
    monkeypatch.setattr("train.progress.SKIPPED_BATCHES", 1)
    output = tmp_path / "run"
    arguments = [str(data), "--output", str(output), "--recipe", "strong", "--minutes", "0.1", *TINY]
    assert main([*arguments, "--batch-size", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "recognized train/ and validation/, no FER+ votes beside them"
    assert lines[1].startswith("warning: only 28 training pictures")
    length = next(index for index, line in enumerate(lines) if line.startswith("an epoch takes about"))
    assert re.search(r"there is time for about \d+ epochs?$", lines[length])
    assert length < next(index for index, line in enumerate(lines) if line.startswith("epoch "))
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["ferplus"] is None and metrics["config"]["minutes"] == 0.1
    assert metrics["cost"]["train_images"] > 0


def test_missing_arguments_are_refused(capsys):
    assert fails([], capsys)[0] == 2
    code, said = fails(["evaluate", "weights.pt"], capsys)
    assert code == 2 and "see fer-train evaluate --help" in said


def test_help_and_version(capsys):
    for arguments in (["--help"], ["evaluate", "--help"], ["--version"]):
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert left.value.code == 0
    assert capsys.readouterr().out.endswith(f"fer-train {__version__}\n")


def test_a_network_of_another_input_size_leaves_the_old_run(data, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    for name in ("best-weights.pt", "last-state.pt"):
        (tmp_path / "run" / name).write_bytes(b"old")
    options = ["--output", tmp_path / "run", "--overwrite", "--architecture", "vit_tiny_patch16_224"]
    code = main([str(each) for each in (data, *options, *TINY, "--epochs", "1")])
    said = capsys.readouterr().err
    assert code == 2 and said.count("\n") == 1 and "--input-size" in said
    assert (tmp_path / "run" / "best-weights.pt").read_bytes() == b"old"


def test_too_little_device_memory_names_what_to_lower(capsys):
    def run() -> int:
        with _device_memory_in_words():
            raise torch.OutOfMemoryError("CUDA out of memory")

    assert exit_code_of("fer-train", run) == 1
    assert "--batch-size" in capsys.readouterr().err
