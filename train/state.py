"""Save and load `last-state.pt`: everything that a run needs to continue as if it had never stopped."""

from __future__ import annotations

import hashlib
import zipfile
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fer_stream.errors import OutputError, UsageError
from fer_stream.recognition.weights import save_atomically
from train.architectures import TwoHeaded
from train.average import MovingAverage
from train.config import TrainConfig
from train.data import Pictures
from train.files import read_errors
from train.folders import STATE_NAME, VOTES_NAME, WEIGHTS_NAME, check_resumable
from train.optimizers import load_optimizer_state
from train.reporter import HistoryRow


@dataclass
class RunState:
    """The state of a run, apart from its network, moving average and optimizer.

    Attributes:
        epoch: Number of finished passes over the training pictures.
        step: Number of finished training steps.
        elapsed_s: Time that the run has taken, including the time before it was resumed.
        history: The rows so far.
        best_logits: The answers of the best weights for the validation split, float32 (N, 7), or (N, 14)
            with those of the FER+ layer; None before the first row.
    """

    epoch: int = 0
    step: int = 0
    elapsed_s: float = 0.0
    history: list[HistoryRow] = field(default_factory=list)
    best_logits: np.ndarray | None = None

    @property
    def best(self) -> HistoryRow | None:
        """The row with the best weights, or None before the first one."""
        return next((row for row in reversed(self.history) if row.best), None)


@dataclass(frozen=True)
class Origin:
    """The things that a run was made from; a resumed run has to be made from the same.

    Attributes:
        pictures: A digest of the names of the pictures, in order.
        votes: Whether there were FER+ votes.
        teachers: A digest of the teachers' files; empty without teachers.
        weights: A description of the initial weights.
    """

    pictures: str
    votes: bool
    teachers: str
    weights: str


@dataclass(frozen=True, eq=False)
class SavedState:
    """The content of `last-state.pt`.

    Attributes:
        config: The settings of the run.
        origin: The things that the run was made from.
        run: The state of the run, apart from `tensors`.
        tensors: States of the network, the average and the optimizer.
    """

    config: dict[str, Any]
    origin: Origin
    run: RunState
    tensors: dict[str, Any]


def save_state(
    output: Path,
    config: TrainConfig,
    origin: Origin,
    run: RunState,
    network: TwoHeaded,
    average: MovingAverage | None,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Save the state of a run. If the program is killed, the file is the old one or the new one."""
    best = run.best_logits
    content = {
        "config": asdict(config),
        "origin": asdict(origin),
        "epoch": run.epoch,
        "step": run.step,
        "elapsed_s": run.elapsed_s,
        "history": [asdict(row) for row in run.history],
        "best_logits": None if best is None else torch.from_numpy(best),
        "model": network.state_dict(),
        "average": None if average is None else average.network.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    save_atomically(content, output / STATE_NAME)


def restore(
    saved: SavedState,
    output: Path,
    network: TwoHeaded,
    average: MovingAverage | None,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
) -> None:
    """Load a saved state into a network, its average and its optimizer.

    Raises:
        UsageError: The state does not fit them.
    """
    with _state_errors(output):  # torch raises many types for a state that does not fit
        network.load_state_dict(saved.tensors["model"])
        load_optimizer_state(optimizer, saved.tensors["optimizer"], device)
        if average is not None:
            average.network.load_state_dict(saved.tensors["average"])


def load_state(output: Path, config: TrainConfig, origin: Origin) -> SavedState:
    """Read the state to resume from, and check that it fits what the user asks for.

    Args:
        output: The folder of the run.
        config: The settings that the user asks for now.
        origin: The pictures, votes and teachers of this call. Without teachers, its `teachers` is empty.

    Raises:
        UsageError: There is no state, it is damaged, or the run has other settings, pictures or teachers.
        OutputError: The system can't read the state.
    """
    check_resumable(output)
    with _state_errors(output):
        saved = _read(output / STATE_NAME)
    _check_settings(output, config, saved.config)
    before = saved.origin
    if before.pictures != origin.pictures:
        raise UsageError(f"the pictures are not those of the run in {output}; choose another --output")
    if config.teachers and origin.teachers != before.teachers:
        had = "other teachers" if before.teachers else "no teacher"
        raise UsageError(f"the run in {output} had {had}; leave --teacher out, or choose another --output")
    best = saved.run.best
    if best is not None and not (output / WEIGHTS_NAME).is_file():
        raise UsageError(
            f"{output} lacks {WEIGHTS_NAME}, the weights after its best epoch ({best.epoch}); "
            "put it back, or start again with --overwrite"
        )
    if before.votes != origin.votes:
        has, has_not = ("no ", "one") if origin.votes else ("a ", "none")
        raise UsageError(
            f"the run in {output} had {has}{VOTES_NAME}, now there is {has_not}; choose another --output"
        )
    return saved


def resumed_config(config: TrainConfig, saved: SavedState) -> TrainConfig:
    """Return the settings for a resumed run, which keeps its original ones."""
    return replace(
        config,
        pretrained=saved.config["pretrained"],
        teachers=config.teachers or tuple(saved.config["teachers"]),
    )


def pictures_digest(*splits: Pictures) -> str:
    """Return a digest of the pictures' names, in order."""
    names = [[_relative(path, split.root) for path, _ in split.samples] for split in splits]
    return hashlib.sha256(repr(names).encode(errors="surrogateescape")).hexdigest()


def _relative(path: str, root: Path) -> str:
    return Path(path).relative_to(root).as_posix() if Path(path).is_relative_to(root) else path


def _read(path: Path) -> SavedState:
    """Read a state and check its fields. A damaged file may raise any error."""
    with zipfile.ZipFile(path) as archive:
        if archive.testzip():  # torch does not compare the checksums
            raise ValueError("damaged")
    content = torch.load(path, map_location="cpu", weights_only=True)
    # If a setting is newer than the run, the run used its default.
    config = asdict(TrainConfig()) | content["config"]
    if not all(isinstance(value, int | float | str | tuple | None) for value in config.values()):
        raise TypeError("a setting of an unknown type")
    history = [HistoryRow(**row) for row in content["history"]]
    numbers = [value for row in history for value in asdict(row).values()]
    if not all(isinstance(value, int | float | None) for value in numbers):
        raise TypeError("a history without numbers")
    if any(row.images_per_s <= 0 for row in history):
        raise ValueError("a history with a speed of 0")
    origin = Origin(**content["origin"])
    if not isinstance(origin.pictures, str) or not isinstance(origin.weights, str):
        raise TypeError("an origin that is not text")
    best = content["best_logits"]
    run = RunState(
        epoch=int(content["epoch"]),
        step=int(content["step"]),
        elapsed_s=float(content["elapsed_s"]),
        history=history,
        best_logits=None if best is None else best.numpy(),
    )
    return SavedState(
        config, origin, run, {name: content[name] for name in ("model", "average", "optimizer")}
    )


def _check_settings(output: Path, config: TrainConfig, before: dict[str, Any]) -> None:
    """Raise a UsageError if settings that shape the result have changed."""
    free = {"device", "pretrained", "teachers", "workers"}
    if config.warmup_share is None and not config.gentle_share:
        free.add("epochs")  # without a schedule, more epochs only make the run longer
    for name, value in asdict(config).items():
        if name not in free and before[name] != value:
            raise UsageError(
                f"the run in {output} has {name} = {before[name]}, not {value}; resume with the same "
                "options, device and version, or choose another --output"
            )
    for name, value in before.items():
        if value and name not in asdict(config):
            raise UsageError(
                f"the run in {output} has {name} = {value}, which this version does not know; "
                "choose another --output"
            )


def _state_errors(output: Path) -> AbstractContextManager[None]:
    path = output / STATE_NAME
    damaged = UsageError(f"{path} is damaged or of another version; start again with --overwrite")
    return read_errors(path, damaged, OutputError)
