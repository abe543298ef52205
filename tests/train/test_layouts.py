"""Data folders that people download are recognized, or refused with the layouts that would work."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.training import CONFIG, STRONG, Recorder
from PIL import Image

from fer_stream.errors import SourceError, UsageError
from fer_stream.expressions import EXPRESSIONS
from train.folders import find_layout
from train.loop import train
from train.splits import open_splits
from train.votes import VOTED

# FER2013's numbers.
NUMBERS = {"angry": 0, "disgust": 1, "fear": 2, "happy": 3, "sad": 4, "surprise": 5, "neutral": 6}


def moved(data: Path, root: Path, training: str, validation: str) -> Path:
    for source, target in (("train", training), ("validation", validation)):
        shutil.copytree(data / source, root / target)
    return root


def write_pixels(path: Path, header: tuple[str, ...] = ("emotion", "pixels", "Usage")) -> list[tuple]:
    """Write three rows of each split for each class. Training must not use the last split."""
    random = np.random.default_rng(0)
    rows = []
    for usage in ("Training", "PublicTest", "PrivateTest"):
        for name in EXPRESSIONS:
            for _ in range(3):
                picture = random.integers(0, 256, (48, 48)).astype(np.uint8)
                rows.append((NUMBERS[name], picture, usage))
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(header)
        table.writerows(
            (number, " ".join(map(str, picture.ravel())), usage) for number, picture, usage in rows
        )
    return rows


@pytest.mark.parametrize(
    ("training", "validation"),
    [
        ("images/train", "images/validation"),
        ("Training", "PublicTest"),
        ("train", "test"),
        ("train", "val"),
    ],
)
def test_splits_are_recognised_by_their_folders(data, tmp_path, training, validation):
    root = moved(data, tmp_path / "data", training, validation)
    layout = find_layout(root)
    assert (layout.training, layout.validation) == (root / training, root / validation)
    assert layout.name == f"{training}/ and {validation}/" and layout.votes is None
    splits = open_splits(root, with_votes=True)
    assert (len(splits.training), len(splits.validation)) == (28, 14)


def test_classes_may_begin_with_a_capital(data, tmp_path):
    root = tmp_path / "data"
    for split in ("train", "validation"):
        for name in EXPRESSIONS:
            shutil.copytree(data / split / name, root / split / name.title())
    targets = open_splits(root, with_votes=False).training.targets
    assert targets == [label for label in range(7) for _ in range(4)]


def test_a_run_says_what_was_recognised_and_warns_of_few_pictures(voted_data, tmp_path):
    recorder = Recorder()
    train(voted_data, tmp_path, replace(STRONG, epochs=1), reporter=recorder)
    assert recorder.notes == [
        "recognized train/ and validation/, FER+ votes for 21 training pictures from ferplus-votes.csv",
        "warning: only 28 training pictures, 4 of them angry; expect poor readings "
        "(FER2013 has 28,709 and 436)",
    ]


@pytest.mark.parametrize("header", [("emotion", "pixels", "Usage"), ("emotion", " Usage", " pixels")])
def test_a_table_of_pixels_with_the_votes_beside_it(tmp_path, header):
    name = "fer2013.csv" if header[1] == "pixels" else "icml_face_data.csv"
    rows = write_pixels(tmp_path / name)
    if header[1] != "pixels":
        with (tmp_path / name).open(newline="") as file:
            table = [(row["emotion"], row["Usage"], row["pixels"]) for row in csv.DictReader(file)]
        with (tmp_path / name).open("w", newline="") as file:
            csv.writer(file).writerows([header, *table])
    with (tmp_path / "fer2013new.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["Usage", "Image name", *VOTED])
        for index, (number, _, usage) in enumerate(rows):
            image = f"fer{index:07d}.png" if index % 5 else ""  # those that FER+ advises not to use
            table.writerow([usage, image, *(10 if each == number else 0 for each in range(len(VOTED)))])
    for given in (tmp_path, tmp_path / name):
        splits = open_splits(given, with_votes=True)
        assert splits.name == f"{name} with its pixels" and splits.votes_name == "fer2013new.csv"
        assert (len(splits.training), len(splits.validation)) == (21, 21)
        for offset, split, votes in (
            (0, splits.training, splits.votes),
            (21, splits.validation, splits.validation_votes),
        ):
            for index in range(21):
                number, picture, _ = rows[offset + index]
                assert np.array_equal(np.asarray(split.image(index))[:, :, 0], picture)
                assert NUMBERS[EXPRESSIONS[split.targets[index]]] == number
                assert votes[index].argmax() == number


def test_a_run_on_a_table_of_pixels(tmp_path):
    write_pixels(tmp_path / "fer2013.csv")
    assert train(tmp_path, tmp_path / "run", CONFIG).train_count == 21


@pytest.mark.parametrize(
    "text",
    [
        "",
        "emotion,pixels,Usage\n9,1 2 3,Training\n",
        *(f"emotion,pixels,Usage\n{number},PIXELS,Training\n0,PIXELS,PublicTest\n" for number in (-1, 7)),
        "a,b\n1,2\n",
    ],
)
def test_another_table_is_refused_in_one_line(tmp_path, text):
    (tmp_path / "fer2013.csv").write_text(text.replace("PIXELS", " ".join(["7"] * 48 * 48)))
    with pytest.raises(SourceError, match=r"fer2013\.csv is not FER2013's table") as caught:
        open_splits(tmp_path, with_votes=False)
    assert "\n" not in str(caught.value)


def test_an_unknown_layout_is_refused_with_the_known_ones(data, tmp_path):
    with pytest.raises(SourceError) as caught:
        find_layout(tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    for layout in ("train/<class>/ and validation/<class>/", "images/train", "PublicTest", "fer2013.csv"):
        assert layout in message
    shutil.copytree(data / "train", tmp_path / "train")
    with pytest.raises(SourceError, match="no validation split beside it"):
        find_layout(tmp_path)


def test_votes_that_name_none_of_the_pictures_are_not_used(data, tmp_path):
    root = moved(data, tmp_path / "data", "train", "validation")
    (root / "ferplus-votes.csv").write_text("file," + ",".join(VOTED) + "\nother.png" + ",1" * 10 + "\n")
    splits = open_splits(root, with_votes=True)
    assert splits.votes is None and splits.votes_name == "ferplus-votes.csv"


def test_tiny_pictures_are_refused_with_their_number(data, tmp_path):
    root = moved(data, tmp_path / "data", "train", "validation")
    picture = root / "train" / "fear" / "2.png"
    Image.new("L", (40, 31)).save(picture)
    with pytest.raises(SourceError, match=r"1 of 28 pictures .* smaller than 32 px.*2\.png with 31 px"):
        train(root, tmp_path / "run", CONFIG)


def test_a_batch_larger_than_the_data_is_refused(data, tmp_path):
    with pytest.raises(UsageError, match="a batch of 64 is larger than the 28 training pictures"):
        train(data, tmp_path, replace(CONFIG, batch_size=64))
