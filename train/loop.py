"""The training run, top to bottom: data, network, phases, checkpoints, resuming."""

from __future__ import annotations

import csv
import io
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from fer_stream.errors import UsageError
from fer_stream.preprocessing import InputSpec
from fer_stream.weights import Checkpoint, load_checkpoint, save_atomically, save_checkpoint
from train.config import TrainConfig
from train.data import (
    batches_of,
    evaluation_loader,
    folder_resolution,
    input_spec,
    open_folder,
    training_loader,
)
from train.folders import (
    HISTORY_NAME,
    STATE_NAME,
    WEIGHTS_NAME,
    check_run_folder,
    remove_run,
    write_text_atomically,
)
from train.metrics import Report, fit_temperature, report
from train.pretrained import create_model

EVALUATION_BATCH = 256
COMPILE_PAYS_STEPS = 2000  # compiling takes a minute


@dataclass(frozen=True)
class Epoch:
    """One row of the history.

    Attributes:
        epoch: From 1.
        train_loss: Mean cross-entropy over the epoch, of the augmented pictures.
        train_accuracy: The same pictures.
        validation_loss: Mean cross-entropy.
        validation_accuracy: The same pictures.
        images_per_s: Training pictures a second.
        duration_s: Of the whole epoch, validation included.
        best: Whether its weights were saved.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    images_per_s: float
    duration_s: float
    best: bool


class Reporter:
    """What a run says while it goes. This one says nothing; the command's shows progress."""

    def started(self, config: TrainConfig, origin: str, train_count: int, validation_count: int) -> None:
        """The data and the network are there."""

    def phase(self, epoch: int, name: str, batches: int) -> None:
        """A phase (`train` or `validation`) of an epoch begins."""

    def batch(self, loss: float, accuracy: float, images_per_s: float) -> None:
        """A batch is done; the figures are of the phase so far."""

    def epoch_done(self, row: Epoch) -> None:
        """An epoch is done and saved."""


@dataclass(frozen=True, eq=False)
class Result:
    """What a run gave.

    Attributes:
        history: A row an epoch.
        weights_path: The checkpoint of the epoch with the least validation loss.
        epoch: That epoch, from 1.
        temperature: What its logits are divided by, fitted on the validation split.
        validation: Its figures on the validation split, with that temperature.
        untempered: The same without it.
        origin: Where the first weights came from.
        train_count: Pictures of the training split.
    """

    history: tuple[Epoch, ...]
    weights_path: Path
    epoch: int
    temperature: float
    validation: Report
    untempered: Report
    origin: str
    train_count: int


def pick_device(name: str) -> torch.device:
    """Returns the device that `auto`, `cpu`, `cuda` or `cuda:N` means.

    Raises:
        UsageError: No such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"no device {name!r}; use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"no CUDA device {name}; PyTorch sees {torch.cuda.device_count()}; use --device cpu")
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"no device {name!r}; use auto, cpu, cuda or cuda:N")
    return device


def train(
    data: Path,
    output: Path,
    config: TrainConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> Result:
    """Trains a network and saves it whenever the validation loss improves.

    Args:
        data: Holds `train/<class>/` and `validation/<class>/`.
        output: Gets best-weights.pt, history.csv and last-state.pt, the point to resume from.
        config: The run.
        resume: Go on after the last finished epoch in `output`, as if there had been no stop.
        overwrite: Replace the run in `output`.
        reporter: Told of the progress.

    Raises:
        SourceError: The data can't be used.
        WeightsError: The pretrained weights can't be had.
        UsageError: The run in `output` was made with other settings, or the loss got out of hand.
        OutputError: `output` holds a run already, or can't be written.
    """
    reporter = reporter or Reporter()
    check_run_folder(output, resume=resume, overwrite=overwrite)
    device = pick_device(config.device)
    training, validation = open_folder(data / "train"), open_folder(data / "validation")
    counts = (len(training), len(validation))
    spec = input_spec(config, folder_resolution(training))

    _seed(config.seed, 0)
    if resume:
        state = _load_state(output, config, counts)
        model = create_model("none")[0]
        origin = state.get("origin", state["config"]["pretrained"])
        model.load_state_dict(state["model"])
        history = [Epoch(**row) for row in state["history"]]
    else:
        model, origin = create_model(config.pretrained)
        state, history = None, []
    # Channels last makes the depthwise convolutions 1.6 times as fast on a CPU, and suits tensor cores.
    model = model.to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr)
    if state is not None:
        optimizer.load_state_dict(state["optimizer"])
    criterion = nn.CrossEntropyLoss()
    # Of the whole run, not of what is left of it: a resumed run has to compute as the unbroken one does.
    steps = config.epochs * (len(training) // config.batch_size)
    fast_model = _compiled(model) if device.type == "cpu" and steps > COMPILE_PAYS_STEPS else model

    generator = torch.Generator()
    train_batches = training_loader(training, spec, replace(config, device=device.type), generator)
    validation_batches = evaluation_loader(validation, spec, EVALUATION_BATCH, config.workers)
    reporter.started(config, origin, len(training), len(validation))

    if not resume:
        remove_run(output)
    best_loss = min((row.validation_loss for row in history if row.best), default=float("inf"))
    for epoch in range(len(history) + 1, config.epochs + 1):
        began_s = time.monotonic()
        # Each epoch draws from a seed of its own, so that a resumed run draws what an unbroken one did.
        _seed(config.seed, epoch)
        generator.manual_seed(_epoch_seed(config.seed, epoch))

        reporter.phase(epoch, "train", len(train_batches))
        train_loss, train_accuracy, images_per_s = _train_epoch(
            model, fast_model, train_batches, optimizer, criterion, device, reporter
        )
        if not np.isfinite(train_loss):
            raise UsageError(f"the loss is no longer finite in epoch {epoch}; lower --lr (now {config.lr:g})")
        reporter.phase(epoch, "validation", len(validation_batches))
        logits, labels = predict(model, validation_batches, device, reporter)
        measured = report(logits, labels)
        best = measured.loss < best_loss
        if best:
            best_loss = measured.loss
            save_checkpoint(output / WEIGHTS_NAME, _checkpoint(model, spec, config, epoch, measured))
        history.append(
            Epoch(
                epoch=epoch,
                train_loss=train_loss,
                train_accuracy=train_accuracy,
                validation_loss=measured.loss,
                validation_accuracy=measured.accuracy,
                images_per_s=images_per_s,
                duration_s=time.monotonic() - began_s,
                best=best,
            )
        )
        _save_state(output, config, counts, origin, model, optimizer, history)
        write_history(output / HISTORY_NAME, history)
        reporter.epoch_done(history[-1])

    if not any(row.best for row in history):
        raise UsageError(f"no epoch had a finite validation loss; lower --lr (now {config.lr:g})")
    write_history(output / HISTORY_NAME, history)  # a stop may have come between the state and this
    checkpoint, measured, untempered = _fit_best(output, validation_batches, device)
    return Result(
        history=tuple(history),
        weights_path=output / WEIGHTS_NAME,
        epoch=checkpoint.epoch,
        temperature=checkpoint.temperature,
        validation=measured,
        untempered=untempered,
        origin=origin,
        train_count=len(training),
    )


def _compiled(model: nn.Module) -> nn.Module:
    """Returns the network with its layers fused, about a fifth faster on a CPU; itself where that fails."""
    torch._dynamo.config.suppress_errors = True  # no C++ compiler on this machine: go on without
    compiled: Any = torch.compile(model, dynamic=False)
    return compiled


def _train_epoch(
    model: nn.Module,
    fast_model: nn.Module,
    batches: DataLoader,
    optimizer: torch.optim.Optimizer,
    criterion: nn.Module,
    device: torch.device,
    reporter: Reporter,
) -> tuple[float, float, float]:
    """Returns the mean loss, the accuracy and the pictures a second of one pass with backpropagation."""
    model.train()
    scaler = torch.amp.GradScaler(enabled=device.type == "cuda")
    loss_sum, hits, count = 0.0, 0, 0
    began_s = time.monotonic()
    for images, labels in batches_of(batches):
        images = images.to(device, memory_format=torch.channels_last, non_blocking=True)
        labels = labels.to(device, non_blocking=True)
        with torch.autocast(device.type, dtype=torch.float16, enabled=device.type == "cuda"):
            # The compiled network is made for one batch size; the last, smaller batch goes the plain way.
            logits = (fast_model if len(labels) == batches.batch_size else model)(images)
            loss = criterion(logits, labels)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

        loss_sum += loss.item() * len(labels)
        hits += int((logits.argmax(dim=1) == labels).sum())
        count += len(labels)
        reporter.batch(loss_sum / count, hits / count, count / (time.monotonic() - began_s))
    return loss_sum / count, hits / count, count / (time.monotonic() - began_s)


def predict(
    model: nn.Module, batches: DataLoader, device: torch.device, reporter: Reporter | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns float32 logits (N, 7) and int labels (N,) of every picture, in order."""
    model.eval()
    all_logits, all_labels, loss_sum, hits, count = [], [], 0.0, 0, 0
    began_s = time.monotonic()
    with torch.no_grad():
        for images, labels in batches_of(batches):
            images = images.to(device, memory_format=torch.channels_last)
            logits = model(images).float().cpu()
            loss_sum += float(nn.functional.cross_entropy(logits, labels, reduction="sum"))
            hits += int((logits.argmax(dim=1) == labels).sum())
            count += len(labels)
            all_logits.append(logits.numpy())
            all_labels.append(labels.numpy())
            if reporter:
                reporter.batch(loss_sum / count, hits / count, count / (time.monotonic() - began_s))
    return np.concatenate(all_logits), np.concatenate(all_labels)


def _fit_best(output: Path, batches: DataLoader, device: torch.device) -> tuple[Checkpoint, Report, Report]:
    """Fits the temperature of the saved weights on the validation split and saves it with them.

    Returns:
        The checkpoint, and its figures with and without the temperature.
    """
    checkpoint = load_checkpoint(output / WEIGHTS_NAME)
    model = checkpoint.build_model().to(device).to(memory_format=torch.channels_last)
    logits, labels = predict(model, batches, device)
    temperature = fit_temperature(logits, labels)
    measured = report(logits, labels, temperature)
    metrics = {
        "validation_count": float(measured.count),
        "validation_accuracy": measured.accuracy,
        "validation_macro_f1": measured.macro_f1,
        "validation_loss": measured.loss,
        "validation_ece": measured.ece,
    }
    checkpoint = replace(checkpoint, temperature=temperature, metrics=metrics)
    save_checkpoint(output / WEIGHTS_NAME, checkpoint)
    return checkpoint, measured, report(logits, labels)


def _checkpoint(
    model: nn.Module, spec: InputSpec, config: TrainConfig, epoch: int, measured: Report
) -> Checkpoint:
    return Checkpoint(
        state_dict=model.state_dict(),
        input=spec,
        recipe=config.recipe,
        epoch=epoch,
        metrics={"validation_accuracy": measured.accuracy, "validation_loss": measured.loss},
    )


def _epoch_seed(seed: int, epoch: int) -> int:
    return seed * 100_003 + epoch


def _seed(seed: int, epoch: int) -> None:
    # Flips, rotations, dropout and the new layer's first weights all draw from torch's generator.
    torch.manual_seed(_epoch_seed(seed, epoch))
    # Repeatable on CUDA, too: without these cuDNN picks its algorithms anew each run.
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False


def _save_state(
    output: Path,
    config: TrainConfig,
    counts: tuple[int, int],
    origin: str,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    history: list[Epoch],
) -> None:
    state = {
        "config": asdict(config),
        "counts": list(counts),
        "origin": origin,
        "epoch": len(history),
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": [asdict(row) for row in history],
    }
    save_atomically(state, output / STATE_NAME)


def _load_state(output: Path, config: TrainConfig, counts: tuple[int, int]) -> dict:
    path = output / STATE_NAME
    if not path.is_file():
        raise UsageError(f"nothing to resume in {output}: no {STATE_NAME}; start without --resume")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        before = state["config"]
    except Exception as error:
        raise UsageError(f"{path} can't be read; start again with --overwrite") from error
    # A run may go on for longer, elsewhere; what shapes its result must be the same.
    free = {"epochs", "device", "pretrained"}
    for name, value in asdict(config).items():
        if name not in free and before.get(name) != value:
            raise UsageError(
                f"the run in {output} has {name} = {before.get(name)}, not {value}; "
                "resume with the same options or choose another --output"
            )
    if tuple(state.get("counts", counts)) != counts:
        raise UsageError(f"the pictures are not those of the run in {output}; choose another --output")
    return state


def write_history(path: Path, history: list[Epoch]) -> None:
    """Writes the history as CSV, a row an epoch."""
    text = io.StringIO()
    rows = csv.DictWriter(text, fieldnames=list(Epoch.__dataclass_fields__))
    rows.writeheader()
    for row in history:
        rows.writerow({name: f"{v:.6g}" if isinstance(v, float) else v for name, v in asdict(row).items()})
    write_text_atomically(path, text.getvalue())
