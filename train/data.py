"""A FER2013-style folder as batches: `train/<class>/*` and `validation/<class>/*`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from fer_stream.errors import SourceError
from fer_stream.preprocessing import InputSpec, network_input, whole_image
from train.config import IMAGENET_MEAN, IMAGENET_STD, TrainConfig
from train.folders import check_classes

SAMPLED_SIZES = 64  # pictures looked at to learn the folder's resolution


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
        SourceError: It can't be read or is damaged.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except Exception as error:  # Pillow raises many types for a damaged file
        raise SourceError(f"{path} is damaged or is not a picture; replace or remove it") from error


def batches_of(loader: DataLoader) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
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


def folder_resolution(folder: ImageFolder) -> int:
    """Returns the median shorter side in px of a sample of a folder's pictures."""
    step = max(1, len(folder.samples) // SAMPLED_SIZES)
    sides = []
    for path, _ in folder.samples[::step]:
        sides.append(min(read_rgb(path).size))
    return int(np.median(sides))


def input_spec(config: TrainConfig, native_size: int) -> InputSpec:
    """Returns what the network of a run expects, as streaming will have to give it."""
    return InputSpec(
        size=config.input_size,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        grayscale=config.grayscale,
        crop_scale=config.crop_scale,
        native_size=min(native_size, config.input_size),
    )


def training_loader(
    folder: ImageFolder, spec: InputSpec, config: TrainConfig, generator: torch.Generator
) -> DataLoader:
    """Returns shuffled batches with random horizontal flips and rotation."""
    folder.transform = transforms.Compose(
        [
            transforms.RandomHorizontalFlip(),
            transforms.RandomRotation(
                config.rotation_degrees, interpolation=transforms.InterpolationMode.BILINEAR
            ),
            ToNetworkInput(spec),
        ]
    )
    return DataLoader(
        folder,
        batch_size=config.batch_size,
        shuffle=True,
        # A last batch of one picture has no variance, which batch normalisation needs.
        drop_last=len(folder) % config.batch_size == 1,
        num_workers=config.workers,
        generator=generator,
        pin_memory=config.device.startswith("cuda"),
    )


def evaluation_loader(folder: ImageFolder, spec: InputSpec, batch_size: int, workers: int = 0) -> DataLoader:
    """Returns batches in order, the pictures converted and nothing more."""
    folder.transform = ToNetworkInput(spec)
    return DataLoader(folder, batch_size=batch_size, shuffle=False, num_workers=workers)
