"""Make the batches of an epoch: picture by picture (baseline) or as tensors on the device (strong)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler
from torchvision import transforms

from fer_stream.recognition.preprocessing import InputSpec, cut, whole_image
from fer_stream.recognition.torch_input import standardize
from train.augmentation import GENTLE, STRONG, augment, mix_up
from train.config import TrainConfig
from train.data import Pictures, ToNetworkInput, one_hot, read_batches
from train.parallel import Processes
from train.targets import Targets


@dataclass(frozen=True, eq=False)
class Batch:
    """The pictures of a training step.

    Attributes:
        images: float32 (N, 3, size, size), the network's input.
        target: float32 (N, 7), the distribution of FER2013 labels to learn.
        votes: float32 (N, 10), the share of the FER+ votes for each of `votes.VOTED`, all 0 for a picture
            without votes; None if the run has no votes.
        unnormalized: float32 (N, C, size, size) in 0..1, the images before standardizing and normalizing,
            for the teachers; None in the baseline.
    """

    images: torch.Tensor
    target: torch.Tensor
    votes: torch.Tensor | None = None
    unnormalized: torch.Tensor | None = None


class ShuffledShares(Sampler[list[int]]):
    """This process's share of each batch of a shuffled epoch.

    Args:
        count: Number of pictures.
        batch_size: Size of a batch over all processes.
        generator: Source of the order, with the same seed in every process.
        processes: The processes of the run.
        drop_last: Whether to leave out a smaller last batch.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        generator: torch.Generator,
        processes: Processes,
        *,
        drop_last: bool = False,
    ) -> None:
        self._generator, self._processes, self._batch_size = generator, processes, batch_size
        # Batch normalization needs a variance, so no process may get a single picture.
        rest = count % batch_size
        self._count = count - rest if drop_last or rest < 2 * processes.count else count
        self._total = count

    def __len__(self) -> int:
        return math.ceil(self._count / self._batch_size)

    def order(self) -> torch.Tensor:
        """Draw the order of an epoch, int64 (N,), for all processes together."""
        return torch.randperm(self._total, generator=self._generator)[: self._count]

    def __iter__(self) -> Iterator[list[int]]:
        order = self.order().tolist()
        for start in range(0, self._count, self._batch_size):
            yield order[start : start + self._batch_size][self._processes.rank :: self._processes.count]


class PlainBatches:
    """Makes the batches of the baseline: pictures one by one, randomly flipped and rotated."""

    def __init__(
        self,
        pictures: Pictures,
        spec: InputSpec,
        config: TrainConfig,
        shares: ShuffledShares,
        *,
        pin_memory: bool = False,
    ) -> None:
        change = transforms.Compose(
            [
                transforms.RandomHorizontalFlip(),
                transforms.RandomRotation(
                    config.rotation_degrees, interpolation=transforms.InterpolationMode.BILINEAR
                ),
                ToNetworkInput(spec),
            ]
        )
        self._loader = DataLoader(
            pictures.prepared(change), batch_sampler=shares, num_workers=config.workers, pin_memory=pin_memory
        )

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        for images, labels in read_batches(self._loader):
            yield Batch(images, one_hot(labels))


class StrongBatches:
    """Makes the batches of the strong recipe from pictures and targets that lie on the training device.

    A grey pixel takes one byte, and FER2013's training split 66 MB. `make` reads nothing back from the
    device, so a CUDA graph can capture it.

    Args:
        pixels: uint8 (N, C, side, side) from `packed_pixels`.
        targets: The distributions to learn.
        spec: The input that the network expects.
        rotation_degrees: Rotate pictures by up to this much either way.
        device: The training device.
    """

    def __init__(
        self,
        pixels: torch.Tensor,
        targets: Targets,
        spec: InputSpec,
        rotation_degrees: float,
        device: torch.device,
    ) -> None:
        self._pixels, self._targets = pixels.to(device), targets.to(device)
        self._spec, self._rotation_degrees = spec, rotation_degrees

    def make(self, indices: torch.Tensor, share: torch.Tensor, *, gentle: bool) -> Batch:
        """Make a batch.

        Args:
            indices: int64 (N,) on the device, the pictures to take.
            share: float32 () on the device, weight of each picture itself in mixing. Unused if gentle.
            gentle: Whether to use weak augmentation and no mixing.
        """
        targets = self._targets
        strength = GENTLE if gentle else STRONG
        pictures = augment(self._pixels[indices], self._spec.size, self._rotation_degrees, strength)
        target = (targets.gentle_label if gentle else targets.label)[indices]
        votes = None if targets.votes is None else targets.votes[indices]
        if not gentle:
            pictures, target = mix_up(pictures, share), mix_up(target, share)
            votes = None if votes is None else mix_up(votes, share)
        return Batch(normalized(pictures, self._spec), target, votes, pictures)


def normalized(pictures: torch.Tensor, spec: InputSpec) -> torch.Tensor:
    """Turn pictures of the network's size into its input, as `network_input` does in use.

    Args:
        pictures: float (N, C, size, size) in 0..1, C is 1 or 3.
        spec: The input that the network expects.

    Returns:
        float32 (N, 3, size, size), channels last in memory.
    """
    if spec.standardize:
        pictures = standardize(pictures)
    # Use scalars: copying tensors to a GPU would wait for it.
    channels = [
        (pictures[:, channel % pictures.shape[1]] - mean) / std
        for channel, (mean, std) in enumerate(zip(spec.mean, spec.std, strict=True))
    ]
    return torch.stack(channels, dim=1).contiguous(memory_format=torch.channels_last)


def packed_pixels(pictures: Pictures, spec: InputSpec) -> torch.Tensor:
    """Read all pictures at the network's native size.

    Returns:
        uint8 (N, 1 or 3, native_size, native_size), channels in RGB order.

    Raises:
        SourceError: A picture can't be read.
    """
    return torch.stack([_packed(pictures, index, spec) for index in range(len(pictures))])


def _packed(pictures: Pictures, index: int, spec: InputSpec) -> torch.Tensor:
    image = pictures.image(index)
    if spec.grayscale:
        image = image.convert("L")
    pixels = np.asarray(image)
    if pixels.shape[:2] != (spec.native_size, spec.native_size):
        pixels = cut(pixels, whole_image(pixels), spec.native_size)
    pixels = pixels.reshape(spec.native_size, spec.native_size, -1)
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())  # Pillow's pixels are read-only
