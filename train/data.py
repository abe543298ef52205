"""A FER2013-style folder as batches: `train/<class>/*` and `validation/<class>/*`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Sampler, Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from fer_stream.errors import SourceError
from fer_stream.expressions import EXPRESSIONS
from fer_stream.recognition.preprocessing import InputSpec, cut, network_input, whole_image
from train.augmentation import GENTLE, STRONG, augment, standardize
from train.config import IMAGENET_MEAN, IMAGENET_STD, TrainConfig
from train.folders import check_classes
from train.parallel import Processes

SAMPLED_SIZES = 64  # pictures looked at to learn the folder's resolution


@dataclass(frozen=True)
class Batch:
    """Pictures of a training step.

    Attributes:
        images: float32 (N, 3, size, size), normalised.
        target: float32 (N, 7), what the network is to answer.
        votes: float32 (N, 10), the share of the FER+ votes for each of `votes.VOTED`, or all 0 where a
            picture has none; None where there are no votes at all.
    """

    images: torch.Tensor
    target: torch.Tensor
    votes: torch.Tensor | None = None


class ToNetworkInput:
    """Turns a PIL face crop into the network's input, by the function that streaming uses."""

    def __init__(self, spec: InputSpec) -> None:
        self.spec = spec

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Returns float32 (3, size, size), normalised."""
        bgr = np.asarray(image)[:, :, ::-1]
        return torch.from_numpy(network_input(np.ascontiguousarray(bgr), whole_image(bgr), self.spec))


def open_folder(folder: Path) -> ImageFolder:
    """Opens `folder/<class>/*` for the seven expressions.

    Raises:
        SourceError: The folder is missing, has other classes, or a class without pictures.
    """
    check_classes(folder)
    try:
        return ImageFolder(str(folder), loader=read_rgb)
    except FileNotFoundError as error:
        raise SourceError(f"a class in {folder} has no pictures: {str(error).splitlines()[0]}") from error


def read_rgb(path: str) -> Image.Image:
    """Reads a picture as RGB.

    Raises:
        SourceError: It can't be read, is damaged, or has more than 89 million pixels.
    """
    try:
        if not Path(path).is_file():  # a pipe would be waited for
            raise OSError("not a file")
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return image.convert("RGB")
    except Exception as error:  # Pillow raises many types for a damaged file
        raise SourceError(f"{path} is damaged, huge or not a picture; replace or remove it") from error


def folder_resolution(folder: ImageFolder) -> int:
    """Returns the median shorter side in px of a sample of a folder's pictures."""
    step = max(1, len(folder.samples) // SAMPLED_SIZES)
    sides = []
    for path, _ in folder.samples[::step]:
        sides.append(min(read_rgb(path).size))
    return int(np.median(sides))


def input_spec(config: TrainConfig, native_size: int) -> InputSpec:
    """Returns what the network of a run on pictures of this side in px expects, also in streaming."""
    return InputSpec(
        size=config.input_size,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        grayscale=config.grayscale,
        crop_scale=config.crop_scale,
        native_size=min(native_size, config.input_size),
        standardize=config.standardize,
    )


class ShuffledShares(Sampler[list[int]]):
    """This process's share of each batch of a shuffled epoch.

    Args:
        count: Pictures.
        batch_size: Over all processes.
        generator: What the order is drawn from; seeded alike in every process.
        processes: Of the run.
    """

    def __init__(self, count: int, batch_size: int, generator: torch.Generator, processes: Processes) -> None:
        self._generator, self._processes, self._batch_size = generator, processes, batch_size
        # A share of one picture has no variance, which batch normalisation needs.
        rest = count % batch_size
        self._count = count - rest if rest < 2 * processes.count else count
        self._of = count

    def __len__(self) -> int:
        return math.ceil(self._count / self._batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.randperm(self._of, generator=self._generator)[: self._count].tolist()
        for start in range(0, self._count, self._batch_size):
            yield order[start : start + self._batch_size][self._processes.rank :: self._processes.count]


class LightlyAugmented:
    """Batches with random horizontal flips and rotation, picture by picture: the baseline."""

    def __init__(
        self, folder: ImageFolder, spec: InputSpec, config: TrainConfig, shares: ShuffledShares
    ) -> None:
        folder.transform = transforms.Compose(
            [
                transforms.RandomHorizontalFlip(),
                transforms.RandomRotation(
                    config.rotation_degrees, interpolation=transforms.InterpolationMode.BILINEAR
                ),
                ToNetworkInput(spec),
            ]
        )
        self._loader = DataLoader(
            folder,
            batch_sampler=shares,
            num_workers=config.workers,
            pin_memory=config.device.startswith("cuda"),
        )

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        for images, labels in read_batches(self._loader):
            yield Batch(images, one_hot(labels))


class StronglyAugmented:
    """Batches changed as a whole on the training device, of pictures held in memory: the strong recipe.

    A picture takes its side squared in bytes: FER2013 is 66 MB.

    Attributes:
        gentle: Whether the pictures are changed little (`augmentation.GENTLE`), and the target is nearer to
            the label (`config.gentle_label_share`).

    Args:
        folder: The pictures; those of another size are brought to `spec.native_size`.
        spec: What the network expects.
        config: The run.
        target: float32 (N, 7) of `objective.mixed_target`.
        votes: float32 (N, 10) of `read_votes`, or None.
        shares: Whose pictures make each batch.
        device: Where the batches are made.
    """

    def __init__(
        self,
        folder: ImageFolder,
        spec: InputSpec,
        config: TrainConfig,
        target: torch.Tensor,
        votes: torch.Tensor | None,
        shares: ShuffledShares,
        device: torch.device,
    ) -> None:
        self._pixels = torch.stack([_packed(path, spec) for path, _ in folder.samples])
        nearness = config.gentle_label_share
        self._gentle_target = nearness * one_hot(torch.tensor(folder.targets)) + (1 - nearness) * target
        self._target, self._votes, self._shares, self._device = target, votes, shares, device
        self.gentle = False
        self._size, self._standardize = spec.size, spec.standardize
        self._rotation_degrees = config.rotation_degrees
        self._mean = torch.tensor(spec.mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(spec.std, device=device).view(1, 3, 1, 1)

    def __len__(self) -> int:
        return len(self._shares)

    def __iter__(self) -> Iterator[Batch]:
        for indices in self._shares:
            pixels = self._pixels[indices].to(self._device)
            strength, targets = (GENTLE, self._gentle_target) if self.gentle else (STRONG, self._target)
            images = augment(pixels, self._size, self._rotation_degrees, strength)
            if self._standardize:
                images = standardize(images)
            votes = None if self._votes is None else self._votes[indices]
            yield Batch((images - self._mean) / self._std, targets[indices], votes)


def one_hot(labels: torch.Tensor) -> torch.Tensor:
    """Returns labels as distributions: float32 (N, 7) of int64 (N,)."""
    return torch.nn.functional.one_hot(labels, len(EXPRESSIONS)).float()


def _packed(path: str, spec: InputSpec) -> torch.Tensor:
    """Reads a picture as uint8 (1 or 3, native_size, native_size), channels in RGB order."""
    image = read_rgb(path)
    if spec.grayscale:
        image = image.convert("L")
    pixels = np.asarray(image)
    if pixels.shape[:2] != (spec.native_size, spec.native_size):
        pixels = cut(pixels, whole_image(pixels), spec.native_size)
    pixels = pixels.reshape(spec.native_size, spec.native_size, -1)
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())  # Pillow's pixels can't be written to


def evaluation_loader(
    folder: ImageFolder,
    spec: InputSpec,
    batch_size: int,
    workers: int = 0,
    processes: Processes | None = None,
) -> DataLoader:
    """Returns batches in order, the pictures converted and nothing more.

    Args:
        folder: The pictures; its transform is replaced, also for loaders made of it before.
        spec: What the network expects.
        batch_size: Pictures at once.
        workers: Processes that prepare pictures.
        processes: Of the run, of which this one gets its share of the pictures; None: all.
    """
    processes = processes or Processes()
    folder.transform = ToNetworkInput(spec)
    share = Subset(folder, range(processes.rank, len(folder), processes.count))
    return DataLoader(share, batch_size=batch_size, shuffle=False, num_workers=workers)


def read_batches(loader: DataLoader) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yields a loader's batches: float32 (N, 3, size, size) and int64 (N,).

    Raises:
        SourceError: A picture can't be read.
    """
    try:
        yield from loader
    except SourceError as error:
        # From a worker process the error comes with that process's traceback; the message is its last line.
        message = str(error).strip().splitlines()[-1]
        raise SourceError(message.partition(f"{SourceError.__name__}: ")[2] or message) from error
