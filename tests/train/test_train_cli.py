"""`fer-train`: files, figures, one-line errors and exit codes."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
import torch
from helpers.paths import ROOT
from helpers.tiny_dataset import TINY, TRAIN_COUNT, VALIDATION_COUNT
from helpers.training import fails, write_votes

from fer_stream.expressions import EXPRESSIONS
from fer_stream.recognition.weights import Head, load_checkpoint, save_checkpoint
from train.cli import main


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    """The output folder of a finished run of two epochs."""
    output = tmp_path_factory.mktemp("run")
    assert main([str(data), "--output", str(output), "--epochs", "2", "--quiet", *TINY]) == 0
    return output


def test_a_run_writes_its_files(run):
    assert {path.name for path in run.iterdir()} == {
        "best-weights.pt", "last-state.pt", "history.csv", "curves.png", "confusion-matrix.png",
        "metrics.json",
    }  # fmt: skip
    for name in ("curves.png", "confusion-matrix.png"):
        picture = cv2.imread(str(run / name))
        assert picture.shape[1] > 1000 and picture.std() > 10
    with (run / "history.csv").open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]


def test_the_metrics_hold_the_figures_and_the_cost(run):
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["count"] == VALIDATION_COUNT and 0 <= metrics["accuracy"] <= 1
    assert list(metrics["recall"]) == list(EXPRESSIONS)
    assert sum(map(sum, metrics["confusion_matrix"])) == VALIDATION_COUNT
    assert metrics["recipe"] == "baseline" and metrics["epoch"] in (1, 2)
    assert metrics["temperature"] > 0 and 0 <= metrics["ece_before_temperature"] <= 1
    assert metrics["config"]["input_size"] == 32 and metrics["config"]["lr"] == 0.001
    assert metrics["images"] == {"train": TRAIN_COUNT, "validation": VALIDATION_COUNT}
    assert metrics["cost"]["epochs"] == 2 and metrics["cost"]["train_images_per_s"] > 0
    assert metrics["cost"]["duration_s"] > 0


def test_an_evaluation_agrees_with_the_run(run, data, tmp_path, capsys):
    path = tmp_path / "evaluation.json"
    weights, folder = run / "best-weights.pt", data / "validation"
    assert main(["evaluate", str(weights), str(folder), "--json", str(path), "--device", "cpu"]) == 0
    measured, metrics = json.loads(path.read_text()), json.loads((run / "metrics.json").read_text())
    assert list(measured) == ["fer2013"]  # no FER+ layer
    measured = measured["fer2013"]
    same = {"count", "loss", "accuracy", "macro_f1", "ece", "recall", "confusion_matrix", "temperature"}
    assert {name: measured[name] for name in same} == {name: metrics[name] for name in same}
    assert measured["mirrored"]["count"] == measured["not_in_train"]["count"] == VALIDATION_COUNT
    assert set(measured["mirrored"]["recall"]) == set(EXPRESSIONS)
    assert sum(each["count"] for each in measured["reliability"]) == VALIDATION_COUNT
    said = capsys.readouterr().out
    assert "FER+ was not measured: the weights have no FER+ layer" in said
    assert f"{100 * metrics['accuracy']:.2f} %" in said and f"{100 * metrics['macro_f1']:.2f} %" in said
    assert all(name in said for name in EXPRESSIONS)


@pytest.fixture(scope="module")
def voted(data, tmp_path_factory) -> Path:
    """The data with votes, and with the class in each picture's name."""
    root = tmp_path_factory.mktemp("voted") / "data"
    shutil.copytree(data, root)
    votes = {}
    for name in EXPRESSIONS:
        for number in range(2):
            path = root / "validation" / name / f"{number}.png"
            path.rename(path.with_name(f"{name}{number}.png"))
        votes[f"{name}0.png"] = {"happiness": 10}
        votes[f"{name}1.png"] = {"happiness": 5, "surprise": 5}  # a tie
    write_votes(root, votes)
    return root


@pytest.fixture(scope="module")
def both(run, tmp_path_factory) -> Path:
    """Weights with a FER+ layer that always sees happiness."""
    checkpoint = load_checkpoint(run / "best-weights.pt")
    head = Head(torch.zeros(7, 1280), torch.where(torch.arange(7) == 3, 4.0, 0.0), 2.0, 0.4)
    path = tmp_path_factory.mktemp("both") / "best-weights.pt"
    save_checkpoint(path, replace(checkpoint, ferplus=head))
    return path


def test_both_annotations_are_measured_unless_labels_names_one(both, voted, tmp_path, capsys):
    found = {}
    for labels in (None, "ferplus", "fer2013"):
        path = tmp_path / f"{labels}.json"
        chosen = [] if labels is None else ["--labels", labels]
        assert main(["evaluate", str(both), str(voted / "validation"), "--json", str(path), *chosen]) == 0
        found[labels] = json.loads(path.read_text())
        said = capsys.readouterr().out
        assert ("FER+ annotators" in said, "own labels" in said) == (labels != "fer2013", labels != "ferplus")
        assert "not measured" not in said and max(map(len, said.splitlines())) <= 80
    assert set(found[None]) == {"ferplus", "fer2013"}
    for labels in ("ferplus", "fer2013"):
        assert list(found[labels]) == [labels]
        assert found[labels][labels]["confusion_matrix"] == found[None][labels]["confusion_matrix"]
    ferplus, fer2013 = found[None]["ferplus"], found[None]["fer2013"]
    assert ferplus["count"] == 7 and ferplus["accuracy"] == 1 and ferplus["recall"]["happy"] == 1
    assert ferplus["recall"]["sad"] is None
    confidence = math.exp(2) / (math.exp(2) + 6)
    assert ferplus["ece"] == pytest.approx(1 - confidence, abs=1e-6)
    assert ferplus["mirrored"]["accuracy"] == 1 and ferplus["not_in_train"]["count"] == 7
    assert (ferplus["temperature"], ferplus["unsure_below"]) == (2.0, 0.4)
    # The ties count as wrong here.
    (row,) = [each for each in ferplus["reliability"] if each["count"]]
    assert row == {"from": 0.5, "to": 0.6, "count": 14, "accuracy": 0.5}
    assert fer2013["count"] == VALIDATION_COUNT and "mirrored" in fer2013["not_in_train"]
    assert {"count", "accuracy", "macro_f1", "ece", "recall", "mirrored"} <= set(fer2013) & set(ferplus)


def test_labels_that_cannot_be_measured_are_refused_before_torch_loads(
    run, both, data, voted, capsys, monkeypatch
):
    monkeypatch.setattr("train.cli.prepare_process", lambda: pytest.fail("it went on"))
    code, said = fails(
        ["evaluate", run / "best-weights.pt", voted / "validation", "--labels", "ferplus"], capsys
    )
    assert code == 5 and "no FER+ layer" in said
    code, said = fails(["evaluate", both, data / "validation", "--labels", "ferplus"], capsys)
    assert code == 3 and "no FER+ votes at" in said
    assert fails(["evaluate", both, data / "validation", "--labels", "raf-db"], capsys)[0] == 2


def test_the_current_folder_has_votes_and_a_training_split_beside_it(both, voted, tmp_path, monkeypatch):
    measured = []
    for folder, given in (("validation", "."), ("validation/sad", ".."), (".", "validation")):
        monkeypatch.chdir(voted / folder)
        path = tmp_path / "evaluation.json"
        assert main(["evaluate", str(both), given, "--json", str(path), "--quiet"]) == 0
        measured.append(json.loads(path.read_text()))
    assert set(measured[0]) == {"fer2013", "ferplus"} and "not_in_train" in measured[0]["ferplus"]
    assert measured[0] == measured[1] == measured[2]
    monkeypatch.chdir(voted / "validation")
    assert main(["evaluate", str(both), ".", "--labels", "ferplus", "--quiet"]) == 0


def test_votes_that_are_not_needed_are_not_read(run, both, voted, tmp_path, capsys):
    shutil.copytree(voted, tmp_path / "data")
    (tmp_path / "data" / "ferplus-votes.csv").write_text("junk\n")
    folder = tmp_path / "data" / "validation"
    assert main(["evaluate", str(both), str(folder), "--labels", "fer2013", "--quiet"]) == 0
    assert main(["evaluate", str(run / "best-weights.pt"), str(folder), "--quiet"]) == 0
    assert fails(["evaluate", both, folder, "--quiet"], capsys)[0] == 3


def test_votes_on_other_pictures_are_reported(both, voted, tmp_path, capsys):
    shutil.copytree(voted, tmp_path / "data")
    votes = tmp_path / "data" / "ferplus-votes.csv"
    votes.write_text(votes.read_text().replace(".png", ".jpg"))
    folder = tmp_path / "data" / "validation"
    assert main(["evaluate", str(both), str(folder)]) == 0
    assert "FER+ was not measured: no picture has a clear majority" in capsys.readouterr().out
    code, said = fails(["evaluate", both, folder, "--labels", "ferplus"], capsys)
    assert code == 3 and "no picture has a clear majority" in said


def test_without_a_terminal_each_epoch_is_a_line(data, tmp_path, capsys):
    assert main([str(data), "--output", str(tmp_path / "new" / "run"), "--epochs", "1", *TINY]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    epochs = [line for line in lines if line.startswith("epoch ")]
    assert len(epochs) == 1 and epochs[0].startswith("epoch 1/1  train loss") and "images/s" in epochs[0]
    assert "\x1b" not in captured.out and captured.err == ""
    assert "best epoch 1 of 1" in captured.out
    written = {Path(line.removeprefix("wrote ")).name for line in lines if line.startswith("wrote ")}
    assert written == {
        "best-weights.pt", "history.csv", "curves.png", "confusion-matrix.png", "metrics.json",
    }  # fmt: skip


def test_missing_data_and_missing_classes_are_refused(data, tmp_path, capsys):
    assert fails([tmp_path / "none"], capsys)[0] == 3
    lacking = tmp_path / "lacking"
    shutil.copytree(data, lacking)
    shutil.rmtree(lacking / "validation" / "fear")
    code, said = fails([lacking, "--output", tmp_path / "run"], capsys)
    assert code == 3 and "validation" in said and "fear" in said
    (lacking / "validation" / "fear").mkdir()  # there, and empty
    code, said = fails([lacking, "--output", tmp_path / "run", *TINY], capsys)
    assert code == 3 and "no pictures" in said


def test_a_damaged_picture_is_named(data, tmp_path, capsys):
    damaged = tmp_path / "damaged"
    shutil.copytree(data, damaged)
    picture = damaged / "validation" / "sad" / "1.png"
    picture.write_bytes(b"not a picture")
    code, said = fails([damaged, "--output", tmp_path / "run", "--epochs", "1", "--quiet", *TINY], capsys)
    assert code == 3 and str(picture) in said


def test_an_output_among_the_pictures_is_refused(data, capsys):
    for output in (data / "train" / "out", data / "validation" / "happy"):
        files = {*data.rglob("*")}
        code, said = fails([data, "--output", output], capsys)
        assert code == 4 and f"can't write into {output}: the pictures are in " in said
        assert {*data.rglob("*")} == files


def test_an_output_that_holds_a_run_or_is_a_file_is_refused(run, data, tmp_path, capsys):
    before = (run / "best-weights.pt").read_bytes()
    code, said = fails([data, "--output", run], capsys)
    assert code == 4 and "--resume" in said and "--overwrite" in said
    assert (run / "best-weights.pt").read_bytes() == before
    (tmp_path / "file").write_text("")
    assert fails([data, "--output", tmp_path / "file"], capsys)[0] == 4
    assert fails([data, "--output", tmp_path / "file" / "run"], capsys)[0] == 4


def test_resume_needs_a_state_and_the_same_settings(run, data, tmp_path, capsys):
    code, said = fails([data, "--output", tmp_path / "none", "--resume"], capsys)
    assert code == 2 and "nothing to resume" in said and not (tmp_path / "none").exists()
    code, said = fails([data, "--output", run, "--resume", *TINY, "--seed", "5"], capsys)
    assert code == 2 and "seed" in said


def test_a_finished_run_that_is_resumed_says_that_nothing_is_left(run, data, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run")
    command = [str(data), "--output", str(tmp_path / "run"), *TINY, "--resume"]
    assert main([*command, "--epochs", "2"]) == 0
    assert "nothing left to train" in capsys.readouterr().out
    assert main([*command, "--epochs", "3"]) == 0
    assert "nothing left to train" not in capsys.readouterr().out


def test_weights_that_never_show_a_label_are_announced(data, voted_data, tmp_path, capsys):
    strong = ["--recipe", "strong", "--epochs", "1", *TINY]
    for folder, announced in ((data, False), (voted_data, True)):  # without votes there is no threshold
        assert main([str(folder), "--output", str(tmp_path / folder.name), *strong]) == 0
        assert ("every face unsure" in capsys.readouterr().out) == announced


def test_wrong_weights_are_refused(run, data, tmp_path, capsys):
    code, said = fails([data, "--output", tmp_path / "run", "--pretrained", tmp_path / "none.pt"], capsys)
    assert code == 5 and "none.pt" in said
    (tmp_path / "text.pt").write_text("hello")
    assert fails(["evaluate", tmp_path / "text.pt", data / "validation"], capsys)[0] == 5
    assert fails(["evaluate", tmp_path / "none.pt", data / "validation"], capsys)[0] == 5


def test_wrong_teachers_are_refused(run, data, tmp_path, capsys):
    teacher, output = ["--teacher", run / "best-weights.pt"], ["--output", tmp_path / "run"]
    code, said = fails([data, *output, *teacher], capsys)
    assert code == 2 and "--recipe strong" in said
    code, said = fails(
        [data, *output, *teacher, "--recipe", "strong", "--teacher", tmp_path / "no.pt"], capsys
    )
    assert code == 5 and "no.pt" in said
    code, said = fails([data, *output, "--recipe", "strong", "--teacher=--"], capsys)
    assert code == 2 and "--teacher" in said
    assert not (tmp_path / "run").exists()


def test_a_run_with_a_teacher_resumes_without_naming_it(run, data, tmp_path):
    strong = [str(data), "--output", str(tmp_path), "--epochs", "1", "--quiet", "--recipe", "strong", *TINY]
    assert main([*strong, "--teacher", str(run / "best-weights.pt")]) == 0
    assert json.loads((tmp_path / "metrics.json").read_text())["config"]["teachers"] == [
        str(run / "best-weights.pt")
    ]
    assert main([*strong, "--resume"]) == 0


@pytest.mark.parametrize("option", ["--teacher", "--pretrained"])
def test_overwrite_refuses_to_remove_the_teacher_or_the_initial_weights(run, data, tmp_path, capsys, option):
    output = tmp_path / "run"
    shutil.copytree(run, output)
    code, said = fails(
        [data, "--recipe", "strong", "--output", output, "--overwrite", option, output / "best-weights.pt"],
        capsys,
    )
    assert code == 2 and "--overwrite" in said and (output / "best-weights.pt").exists()


@pytest.mark.parametrize("rank", ["x", "", "5", "9" * 5000])
def test_wrong_variables_of_torchrun_are_refused(data, tmp_path, capsys, monkeypatch, rank):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)
    code, said = fails([data, "--output", tmp_path / "run", *TINY], capsys)
    assert code == 2 and "RANK=" in said
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    code, said = fails([data, "--output", tmp_path / "run", *TINY], capsys)
    assert code == 2 and "MASTER_ADDR" in said


def test_a_pipe_is_refused_as_weights(data, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.pt")
    code, said = fails(["evaluate", tmp_path / "pipe.pt", data / "validation"], capsys)
    assert code == 5 and "not a file" in said


def test_an_evaluation_refuses_a_wrong_folder_or_output(run, data, tmp_path, capsys):
    weights = run / "best-weights.pt"
    code, said = fails(["evaluate", weights, data], capsys)
    assert code == 3 and "train, validation" in said
    before = weights.read_bytes()
    assert fails(["evaluate", weights, data / "validation", "--json", tmp_path], capsys)[0] == 2
    code, said = fails(["evaluate", weights, data / "validation", "--json", weights], capsys)
    assert code == 2 and said.endswith("best-weights.pt: its name should end in .json\n")
    (tmp_path / "file").write_text("")
    code, _ = fails(
        ["evaluate", weights, data / "validation", "--json", tmp_path / "file" / "e.json"], capsys
    )
    assert code == 4 and weights.read_bytes() == before


def evaluated(arguments, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "train", "evaluate", *map(str, arguments)],
        cwd=ROOT, stderr=subprocess.PIPE, text=True, timeout=60, check=False, **options,
    )  # fmt: skip


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_evaluation_whose_figures_are_lost_fails(run, data, tmp_path):
    path = tmp_path / "evaluation.json"
    arguments = [run / "best-weights.pt", data / "validation", "--json", path]
    with Path("/dev/full").open("w") as full:
        done = evaluated(arguments, stdout=full)
    assert done.returncode == 4
    assert done.stderr == "fer-train: can't write to standard output: No space left on device\n"
    assert list(json.loads(path.read_text())) == ["fer2013"]
    path.unlink()
    with Path("/dev/full").open("w") as full:
        done = evaluated([*arguments, "--quiet"], stdout=full)
    assert (done.returncode, done.stderr) == (0, "") and path.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")
def test_an_evaluation_whose_reader_goes_away_succeeds(run, data, tmp_path):
    path = tmp_path / "evaluation.json"
    reader, writer = os.pipe()
    os.close(reader)
    done = evaluated([run / "best-weights.pt", data / "validation", "--json", path], stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "") and path.exists()


def test_mistakes_are_found_before_torch_loads(data, run, tmp_path):
    script = """
import sys
from train.cli import main
data, run, new = sys.argv[1:]
codes = [main(arguments) for arguments in (
    [data, "--epochs", "0"],
    [data + "/none"],
    [data, "--output", run],
    [data, "--output", new, "--pretrained", "none.pt"],
    [data, "--output", new, "--teacher", run + "/best-weights.pt"],
    [data, "--output", new, "--recipe", "strong", "--teacher", "none.pt"],
    ["evaluate", "none.pt", data],
    ["evaluate", run + "/best-weights.pt", data],
)]
assert codes == [2, 3, 4, 5, 2, 5, 5, 3], codes
assert "torch" not in sys.modules and "matplotlib" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(data), str(run), str(tmp_path / "new")],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == 8 and done.stdout == ""


def test_a_name_of_thousands_of_characters_is_no_folder(unbroken, capsys):
    for arguments in (["x" * 5000], ["evaluate", unbroken[0] / "best-weights.pt", "x" * 5000]):
        code, said = fails(arguments, capsys)
        assert code == 3 and "can't read x" in said


def test_an_overwriting_run_stopped_in_its_first_epoch_has_to_start_again(
    run, data, tmp_path, capsys, monkeypatch
):
    output = tmp_path / "run"
    shutil.copytree(run, output)

    def stopped(*_, **__):
        (output / "last-state.pt").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr("train.loop.train", stopped)
    code, said = fails([data, "--output", output, "--overwrite", *TINY], capsys)
    assert code == 130 and "start again" in said and "--overwrite" in said
