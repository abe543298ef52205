"""Data and weights that the system can't read are not called damaged, missing or empty."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.training import fails, write_votes
from PIL import Image

from fer_stream.errors import SourceError, WeightsError
from train.data import open_folder, read_rgb
from train.files import read_errors
from train.folders import check_votes, find_layout
from train.pretrained import initial_body
from train.splits import open_splits


@pytest.fixture
def copied(data, tmp_path) -> Path:
    """A copy of the data, with votes."""
    root = tmp_path / "data"
    shutil.copytree(data, root)
    write_votes(root, {"0.png": {"happiness": 10}})
    return root


def denied(path: Path) -> str:
    return f"can't read {path}: Permission denied"


def test_an_unreadable_picture(copied, lock):
    path = copied / "validation" / "sad" / "1.png"
    pictures = open_folder(copied / "validation")
    lock(path)
    index = [name for name, _ in pictures.samples].index(str(path))
    for read in (pictures.image, pictures.size_wh):
        with pytest.raises(SourceError) as caught:
            read(index)
        assert str(caught.value) == denied(path)
    lock(path.parent)
    with pytest.raises(SourceError) as caught:
        read_rgb(str(path))
    assert str(caught.value) == denied(path)


@pytest.mark.parametrize("name", ["sad", "sad/more"])
def test_an_unreadable_folder_of_pictures(copied, lock, name):
    folder = copied / "train" / name
    folder.mkdir(exist_ok=True)
    lock(folder)
    with pytest.raises(SourceError) as caught:
        open_folder(copied / "train")
    assert str(caught.value) == denied(folder)


def test_pictures_in_nested_folders_are_found(copied):
    more = copied / "train" / "sad" / "more"
    more.mkdir()
    Image.fromarray(np.zeros((48, 48), np.uint8)).save(more / "5.PNG")
    (more / "notes.txt").write_text("not a picture")
    found = [path for path, _ in open_folder(copied / "train").samples if "/sad/" in Path(path).as_posix()]
    assert [Path(path).name for path in found] == ["0.png", "1.png", "2.png", "3.png", "5.PNG"]


@pytest.mark.parametrize("name", ["ferplus-votes.csv", "fer2013.csv"])
def test_an_unreadable_table(copied, lock, name):
    table = copied / name
    if name == "fer2013.csv":
        shutil.rmtree(copied / "train")
        table.write_text("emotion,pixels,Usage\n")
    lock(table)
    with pytest.raises(SourceError) as caught:
        open_splits(copied, with_votes=True)
    assert str(caught.value) == denied(table)


@pytest.mark.parametrize("locked", [".", "train"])
def test_an_unreadable_data_folder(copied, lock, capsys, locked):
    lock(copied / locked)
    code, said = fails([copied], capsys)
    assert code == 3 and said == f"fer-train: {denied(copied / 'train')}\n"


def test_votes_in_a_folder_that_cannot_be_entered(copied, lock):
    lock(copied)
    with pytest.raises(SourceError) as caught:
        check_votes(copied / "validation", "ferplus")
    assert str(caught.value) == denied(copied / "ferplus-votes.csv")
    with pytest.raises(SourceError, match="Permission denied"):
        find_layout(copied / "fer2013.csv")


def test_unreadable_initial_weights(data, tmp_path, lock, capsys):
    folder = tmp_path / "weights"
    folder.mkdir()
    weights = folder / "b0.pth"
    torch.save({"conv_stem.weight": torch.zeros(1)}, weights)
    for path in (weights, folder):
        lock(path)
        code, said = fails([data, "--output", tmp_path / "run", "--pretrained", weights], capsys)
        assert code == 5 and said == f"fer-train: {denied(weights)}\n"


def test_initial_weights_on_a_failing_disk(tmp_path, monkeypatch):
    weights = tmp_path / "b0.pth"
    torch.save({"conv_stem.weight": torch.zeros(1)}, weights)

    def fail(_: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("train.pretrained.load_torch_file", fail)
    with pytest.raises(WeightsError, match=r"^can't read .*b0\.pth: Input/output error$"):
        initial_body(str(weights))


@pytest.mark.parametrize("error", [OSError("truncated"), OSError(22, "Invalid argument"), ValueError()])
def test_other_errors_mean_damage(error):
    damaged = SourceError("picture is damaged")
    with pytest.raises(SourceError) as caught, read_errors("picture", damaged):
        raise error
    assert caught.value is damaged and caught.value.__cause__ is error


@pytest.mark.parametrize("error", [MemoryError(), OSError(12, "Cannot allocate memory"), WeightsError("old")])
def test_a_lack_of_memory_and_known_errors_pass(error):
    with pytest.raises(type(error)) as caught, read_errors("picture", SourceError("picture is damaged")):
        raise error
    assert caught.value is error
