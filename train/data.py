"""Read labelled pictures, for validation, evaluation and the baseline's training."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.datasets.folder import IMG_EXTENSIONS as EXTENSIONS

from fer_stream.errors import SourceError
from fer_stream.expressions import EXPRESSIONS
from fer_stream.recognition.preprocessing import InputSpec, network_input, whole_image
from fer_stream.system.files import unreadable_kind
from train.config import IMAGENET_MEAN, IMAGENET_STD, TrainConfig
from train.files import cannot_read, read_errors
from train.folders import class_folders
from train.parallel import Processes

SMALLEST_SIDE = 32  # px; an expression can hardly be seen in a smaller picture


class ToNetworkInput:
    """Turns a PIL face crop into the network's input, by the function that streaming uses."""

    def __init__(self, spec: InputSpec) -> None:
        self.spec = spec

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Return float32 (3, size, size), normalized."""
        bgr = np.asarray(image)[:, :, ::-1]
        return torch.from_numpy(network_input(np.ascontiguousarray(bgr), whole_image(bgr), self.spec))


class Pictures(Dataset):
    """Labelled pictures, read one by one.

    Attributes:
        samples: The path and the label of each picture. Pictures without a file have a name as path.
        targets: The labels, as indices into `EXPRESSIONS`.
        root: The folder of the paths.

    Args:
        samples: See the attribute.
        root: See the attribute.
    """

    def __init__(self, samples: Sequence[tuple[str, int]], root: Path) -> None:
        self.samples = list(samples)
        self.targets = [label for _, label in self.samples]
        self.root = root
        self._transform: Callable[[Image.Image], torch.Tensor] | None = None

    def image(self, index: int) -> Image.Image:
        """Read a picture as RGB. Raise a SourceError if it can't be read."""
        return read_rgb(self.samples[index][0])

    def size_wh(self, index: int) -> tuple[int, int]:
        """Return the size of a picture in px. A file is not decoded for that."""
        with _opened(self.samples[index][0]) as image:
            width, height = image.size
        return width, height

    def prepared(self, transform: Callable[[Image.Image], torch.Tensor]) -> Pictures:
        """Return a dataset whose items are the transformed picture and its label."""
        view = copy.copy(self)
        view._transform = transform
        return view

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if self._transform is None:
            raise TypeError("these pictures have no transform; index the result of `prepared`")
        return self._transform(self.image(index)), self.targets[index]


class PixelPictures(Pictures):
    """Labelled pictures in memory.

    Args:
        pixels: uint8 (N, H, W), grey.
        names: The name of each picture, for the votes and for messages.
        labels: The label of each picture.
        root: The file that holds them.
    """

    def __init__(self, pixels: np.ndarray, names: Sequence[str], labels: Sequence[int], root: Path) -> None:
        super().__init__(list(zip(names, labels, strict=True)), root)
        self._pixels = pixels

    def image(self, index: int) -> Image.Image:
        """Return a picture as RGB."""
        return Image.fromarray(self._pixels[index]).convert("RGB")

    def size_wh(self, index: int) -> tuple[int, int]:
        """Return the size of a picture in px."""
        height, width = self._pixels.shape[1:]
        return width, height


def pixel_name(row: int) -> str:
    """Return FER+'s name for the picture in a row of fer2013.csv, counted from 0."""
    return f"fer{row:07d}.png"


def open_folder(folder: Path) -> Pictures:
    """Open `folder/<class>/*` for the seven expressions.

    Raises:
        SourceError: The folder is missing, has other classes, or a class without pictures, or it can't be
            read.
    """
    samples = []
    for name, class_folder in class_folders(folder).items():
        paths = sorted(path for path in _files_in(class_folder) if path.suffix.lower() in EXTENSIONS)
        if not paths:
            raise SourceError(f"{class_folder} has no pictures ({', '.join(EXTENSIONS)})")
        samples += [(str(path), EXPRESSIONS.index(name)) for path in paths]
    return Pictures(samples, folder)


def _files_in(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder and the folders in it. `Path.rglob` would skip those it can't read."""

    def fail(error: OSError) -> None:
        raise cannot_read(error.filename, error) from error

    for parent, _, names in os.walk(folder, onerror=fail):
        yield from (Path(parent, name) for name in names)


def read_rgb(path: str) -> Image.Image:
    """Read a picture as RGB.

    Raises:
        SourceError: The picture can't be read, is damaged, or has more than 89 million pixels.
    """
    with _opened(path) as image:
        return image.convert("RGB")


@contextmanager
def _opened(path: str) -> Iterator[Image.Image]:
    """Open a picture. Turn errors, also those of the block, into a SourceError."""
    damaged = SourceError(f"{path} is damaged, too large, or not a picture; replace or remove it")
    with read_errors(path, damaged):
        if unreadable_kind(Path(path)):  # reading a pipe could wait forever
            raise damaged
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(path)
        with image:
            yield image


def check_sizes(pictures: Pictures) -> int:
    """Check that all pictures are large enough, and return the median of their shorter sides in px.

    Raises:
        SourceError: A picture is smaller than 32 px, or can't be read.
    """
    sides = np.array([min(pictures.size_wh(index)) for index in range(len(pictures))])
    small = np.flatnonzero(sides < SMALLEST_SIDE)
    if len(small):
        first = small[0]
        raise SourceError(
            f"{len(small)} of {len(sides)} pictures in {pictures.root} are smaller than {SMALLEST_SIDE} px, "
            f"such as {pictures.samples[first][0]} with {sides[first]} px; remove them"
        )
    return int(np.median(sides))


def input_spec(config: TrainConfig, native_size: int) -> InputSpec:
    """Return the input that a run's network expects, also in streaming, for pictures of this side in px."""
    return InputSpec(
        size=config.input_size,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        grayscale=config.grayscale,
        crop_scale=config.crop_scale,
        native_size=min(native_size, config.input_size),
        standardize=config.standardize,
    )


def evaluation_loader(
    pictures: Pictures,
    spec: InputSpec,
    batch_size: int,
    workers: int = 0,
    processes: Processes | None = None,
) -> DataLoader:
    """Return a loader of batches in order, without any augmentation.

    Args:
        pictures: The pictures.
        spec: The input that the network expects.
        batch_size: Number of pictures in a batch.
        workers: Number of processes that prepare pictures.
        processes: The processes of the run; each gets its share of the pictures. With None, this process
            gets all.
    """
    processes = processes or Processes()
    share = Subset(
        pictures.prepared(ToNetworkInput(spec)), range(processes.rank, len(pictures), processes.count)
    )
    return DataLoader(share, batch_size=batch_size, shuffle=False, num_workers=workers)


def read_batches(
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield the batches of a loader or a list: float32 (N, 3, size, size) and int64 (N,).

    Raises:
        SourceError: A picture can't be read.
    """
    try:
        yield from batches
    except SourceError as error:
        # An error in a worker process arrives with its traceback. The message is the last line.
        message = str(error).strip().splitlines()[-1]
        raise SourceError(message.partition(f"{SourceError.__name__}: ")[2] or message) from error


def one_hot(labels: torch.Tensor) -> torch.Tensor:
    """Turn labels, int64 (N,), into distributions, float32 (N, 7)."""
    return torch.nn.functional.one_hot(labels, len(EXPRESSIONS)).float()
