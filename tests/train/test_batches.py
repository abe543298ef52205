"""The batches of a training epoch."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace

import pytest
import torch
from helpers.tiny_dataset import make_dataset
from helpers.training import CONFIG, STRONG
from PIL import Image

from fer_stream.errors import SourceError
from fer_stream.recognition.preprocessing import STANDARD_MEAN
from fer_stream.recognition.torch_input import standardize
from train import augmentation
from train.augmentation import augment
from train.batches import PlainBatches, ShuffledShares, StrongBatches, packed_pixels
from train.data import (
    Pictures,
    ToNetworkInput,
    evaluation_loader,
    input_spec,
    one_hot,
    open_folder,
)
from train.loop import train
from train.parallel import Processes
from train.targets import Targets

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_picture_is_named(workers, tmp_path):
    root = make_dataset(tmp_path / "data")
    broken = root / "train" / "happy" / "0.png"
    broken.write_bytes(broken.read_bytes()[:200])
    folder = open_folder(root / "train")
    folder = Pictures([sample for sample in folder.samples if "happy" in sample[0]], folder.root)
    spec = input_spec(CONFIG, 48)
    shares = ShuffledShares(len(folder), 14, torch.Generator(), Processes())
    with pytest.raises(SourceError) as caught:
        list(PlainBatches(folder, spec, replace(CONFIG, workers=workers), shares))
    assert str(broken) in str(caught.value) and "\n" not in str(caught.value)


def test_training_pictures_are_flipped_and_rotated_and_validation_ones_are_not(data):
    spec, pictures = input_spec(CONFIG, 48), open_folder(data / "train")
    one = Pictures(pictures.samples[:1] * 2, pictures.root)
    shares = ShuffledShares(2, 2, torch.Generator(), Processes())
    seen = [next(iter(PlainBatches(one, spec, CONFIG, shares))).images for _ in range(5)]
    assert not all(torch.equal(images[0], images[1]) for images in seen)
    plain = next(iter(evaluation_loader(one, spec, 2)))[0]
    assert torch.equal(plain[0], plain[1]) and torch.equal(plain[0], ToNetworkInput(spec)(one.image(0)))


@pytest.mark.parametrize(("count", "steps"), [(15, 1), (16, 2), (28, 2)])
def test_no_batch_of_a_single_picture(count, steps, data):
    pictures, shares = open_folder(data / "train"), ShuffledShares(count, 14, torch.Generator(), Processes())
    batches = PlainBatches(pictures, input_spec(CONFIG, 48), CONFIG, shares)
    sizes = [len(batch.target) for batch in batches]
    assert len(sizes) == len(batches) == steps and min(sizes) > 1
    whole = ShuffledShares(count, 14, torch.Generator(), Processes(), drop_last=True)
    assert [len(share) for share in whole] == [14] * (count // 14)


def test_the_processes_share_each_batch_of_one_order():
    def shares(rank, count):
        generator = torch.Generator().manual_seed(5)
        return list(ShuffledShares(30, 8, generator, Processes(rank, count)))

    whole, halves = shares(0, 1), (shares(0, 2), shares(1, 2))
    assert sorted(index for batch in whole for index in batch) == list(range(30))
    for batch, first, second in zip(whole, *halves, strict=True):
        assert (batch[::2], batch[1::2]) == (first, second)
    # The last of 33 pictures would be a process's only one.
    assert [len(share) for share in ShuffledShares(33, 8, torch.Generator(), Processes(1, 2))] == [4] * 4


@posix
@pytest.mark.parametrize("what", ["pipe", "huge"])
def test_a_file_that_is_not_a_picture_is_refused_in_one_line(data, tmp_path, what):
    shutil.copytree(data, tmp_path / "data")
    picture = tmp_path / "data" / "train" / "angry" / "0.png"
    picture.unlink()
    if what == "pipe":
        os.mkfifo(picture)
    else:
        Image.new("1", (10_000, 10_000)).save(picture)
    with pytest.raises(SourceError, match=r"0\.png is damaged, too large, or not a picture"):
        train(tmp_path / "data", tmp_path / "run", CONFIG)


def test_strong_augmentation_keeps_a_face_a_face(data):
    torch.manual_seed(0)
    # A bright disc on a dark ground: it has to stay near the middle and brighter than the corners.
    rows, columns = torch.meshgrid(torch.arange(48), torch.arange(48), indexing="ij")
    disc = ((rows - 23.5) ** 2 + (columns - 23.5) ** 2 < 14**2) * 150 + 50
    images = augment(disc.to(torch.uint8).expand(200, 1, 48, 48), 64, 20)
    assert images.shape == (200, 1, 64, 64) and images.dtype == torch.float32
    assert float(images.min()) >= 0 and float(images.max()) <= 1
    assert torch.allclose(standardize(images).mean(dim=(1, 2, 3)), torch.tensor(STANDARD_MEAN), atol=1e-4)
    middle, corner = images[:, 0, 24:40, 24:40].mean(dim=(1, 2)), images[:, 0, :6, :6].mean(dim=(1, 2))
    assert ((middle > corner).float().mean() > 0.9) and (images.std(dim=0).mean() > 0.02)


@pytest.mark.parametrize("grayscale", [True, False])
def test_without_augmentation_strong_batches_match_validation(data, monkeypatch, grayscale):
    monkeypatch.setattr("train.batches.augment", lambda pixels, *_: pixels.float() / 255)
    pictures, spec = open_folder(data / "train"), input_spec(replace(STRONG, grayscale=grayscale), 48)
    target = one_hot(torch.tensor(pictures.targets))
    targets = Targets(target, target, None)
    batches = StrongBatches(packed_pixels(pictures, spec), targets, spec, 25.0, torch.device("cpu"))
    indices = torch.tensor([5, 20, 3])
    batch = batches.make(indices, torch.tensor(1.0), gentle=False)
    prepared = pictures.prepared(ToNetworkInput(spec))
    seen = torch.stack([prepared[index][0] for index in indices.tolist()])
    assert torch.allclose(batch.images, seen, atol=1e-5)
    assert torch.equal(batch.target, target[indices])


def test_gentle_batches_stay_near_the_pictures_and_are_not_mixed(data):
    pictures, spec = open_folder(data / "train"), input_spec(STRONG, 48)
    label = one_hot(torch.tensor(pictures.targets))
    targets = Targets(label, label.roll(1, dims=1), None)
    batches = StrongBatches(packed_pixels(pictures, spec), targets, spec, 25.0, torch.device("cpu"))
    indices, share = torch.arange(len(pictures)), torch.tensor(0.6)
    prepared = pictures.prepared(ToNetworkInput(spec))
    seen = torch.stack([prepared[index][0] for index in range(len(pictures))])
    off = {}
    for gentle in (False, True):
        torch.manual_seed(0)
        batch = batches.make(indices, share, gentle=gentle)
        nearest = torch.minimum((batch.images - seen).abs(), (batch.images.flip(-1) - seen).abs())
        off[gentle] = float(nearest.mean())
        assert torch.equal(batch.target, targets.gentle_label) == gentle
    assert torch.allclose(
        batches.make(indices, share, gentle=False).target, label.roll(1, 0).lerp(label, 0.6)
    )
    assert 0 < off[True] < 0.75 * off[False]


def test_lower_resolution_takes_detail_from_its_share_of_the_pictures():
    torch.manual_seed(0)
    images = torch.rand(400, 1, 48, 48)
    lowered = augmentation._lower_resolution(images, 0.25)
    kept = (lowered == images).flatten(1).all(dim=1)
    assert 0.7 < float(kept.float().mean()) < 0.8
    # Reducing and enlarging is what torch's own resizing does, and keeps the mean of a picture.
    assert torch.allclose(lowered.mean(dim=(1, 2, 3)), images.mean(dim=(1, 2, 3)), atol=0.02)
    matrices = augmentation._resolutions(48, torch.device("cpu"))
    small = torch.nn.functional.interpolate(images[:2], (14, 14), mode="bilinear", antialias=True)
    expected = torch.nn.functional.interpolate(small, (48, 48), mode="bilinear", align_corners=False)
    assert torch.allclose(matrices[0] @ images[:2] @ matrices[0].T, expected, atol=1e-5)
    assert (lowered[~kept].std(dim=(1, 2, 3)) < images[~kept].std(dim=(1, 2, 3))).all()
