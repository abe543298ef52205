"""The training run, top to bottom: data, network, epochs, checkpoints, resuming."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import time
import warnings
import zipfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.models.efficientnet import EfficientNet
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchvision.datasets import ImageFolder

from fer_stream.errors import UsageError
from fer_stream.expressions import EXPRESSIONS
from fer_stream.recognition.torch_model import arrays_of, load_model
from fer_stream.recognition.weights import Checkpoint, save_atomically, save_checkpoint
from train.config import TrainConfig, check_teachers_are_used
from train.data import (
    LightlyAugmented,
    ShuffledShares,
    StronglyAugmented,
    evaluation_loader,
    folder_resolution,
    input_spec,
    open_folder,
)
from train.folders import (
    HISTORY_NAME,
    STATE_NAME,
    VOTES_NAME,
    WEIGHTS_NAME,
    check_run_folder,
    remove_run,
    write_text_atomically,
)
from train.metrics import Report, fit_temperature, report
from train.objective import Objective, TrainedNetwork, mixed_target
from train.parallel import Processes, joined_processes, local_device, pick_device
from train.prediction import EVALUATION_BATCH, predict
from train.pretrained import create_model
from train.reporter import Epoch, Reporter
from train.schedule import gentle_epochs, learning_rate
from train.teachers import mean_answers
from train.votes import expected_labels, read_votes

COMPILE_PAYS_STEPS = 2000  # compiling takes a minute


@dataclass(frozen=True, eq=False)
class Result:
    """What a run gave.

    Attributes:
        history: A row an epoch.
        config: Of the run; of a resumed one, what it began from is what its start said.
        epoch: The best one on the validation split, from 1.
        temperature: What its logits are divided by, fitted on the validation split.
        validation: Its figures on the validation split, with that temperature.
        untempered: The same without it.
        origin: Where the first weights came from.
        train_count: Pictures of the training split.
    """

    history: tuple[Epoch, ...]
    config: TrainConfig
    epoch: int
    temperature: float
    validation: Report
    untempered: Report
    origin: str
    train_count: int


def train(
    data: Path,
    output: Path,
    config: TrainConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> Result | None:
    """Trains a network and saves it whenever its validation figure improves.

    Under torchrun every process calls this; the first one writes, and gets the result.

    Args:
        data: Holds `train/<class>/` and `validation/<class>/`, and maybe the FER+ votes.
        output: Gets best-weights.pt, history.csv and last-state.pt, the point to resume from.
        config: The run.
        resume: Go on after the last finished epoch in `output`, as if there had been no stop.
        overwrite: Replace the run in `output`.
        reporter: Told of the progress.

    Returns:
        What the run gave; None in any process but the first.

    Raises:
        SourceError: The data can't be used.
        WeightsError: The pretrained weights or a teacher can't be had.
        UsageError: The run in `output` was made with other settings, the recipe has no use for teachers,
            there are fewer pictures than processes, or the loss got out of hand.
        OutputError: `output` holds a run already, or can't be written.
    """
    device = local_device(pick_device(config.device))
    with joined_processes(device) as processes:
        reporter = reporter if reporter and processes.first else Reporter()
        run = _Run(data, output, config, device, processes, reporter)
        run.begin(resume=resume, overwrite=overwrite)
        run.epochs()
        return run.finish() if processes.first else None


class _Run:
    """A run in one process: begin, epochs, finish."""

    def __init__(
        self,
        data: Path,
        output: Path,
        config: TrainConfig,
        device: torch.device,
        processes: Processes,
        reporter: Reporter,
    ) -> None:
        self._data, self._output, self._config = data, output, config
        self._device, self._processes, self._reporter = device, processes, reporter

    def begin(self, *, resume: bool, overwrite: bool) -> None:
        """Opens the data, makes the network or reads the state to go on from."""
        processes, device = self._processes, self._device
        check_teachers_are_used(self._config)
        processes.share_result(lambda: check_run_folder(self._output, resume=resume, overwrite=overwrite))
        if self._config.batch_size < 2 * processes.count:
            raise UsageError(
                f"a batch of {self._config.batch_size} is too small for {processes.count} processes; "
                f"give --batch-size {2 * processes.count} or more"
            )
        training, self._validation = open_folder(self._data / "train"), open_folder(self._data / "validation")
        votes = self._votes_of(training)
        self._votes_given = votes is not None
        self._train_count = len(training)
        self._pictures = _digest(training, self._validation)
        if len(training) < 2 * processes.count or len(self._validation) < processes.count:
            raise UsageError(
                f"{len(training)} pictures for training and {len(self._validation)} for validation are too "
                f"few for {processes.count} processes; start fewer"
            )

        _seed(self._config.seed, 0, 0)
        state = None
        if resume:
            state = processes.share_result(
                lambda: _load_state(self._output, self._config, self._pictures, votes is not None)
            )
            # What a run began from stays what it began from, whatever the command that resumes it says.
            began = {name: state["config"][name] for name in ("pretrained", "teachers")}
            self._config = replace(self._config, **began)
        config = self._config
        body, self._origin = create_model("none" if state else config.pretrained)
        body.drop_rate = config.dropout
        # Weights that begin at random have to be learned.
        if config.pretrained != "none":
            _freeze(body, config.frozen_stages)
        # Channels last makes the depthwise convolutions faster on a CPU, and suits tensor cores.
        with_votes = votes is not None and config.votes_weight > 0
        network = TrainedNetwork(body, with_votes=with_votes).to(device)
        self._network = network.to(memory_format=torch.channels_last)
        self._average = _moving_average(self._network, config.ema_decay)
        self._optimizer = _optimizer(self._network, config)
        self._history: list[Epoch] = []
        if state is not None:
            self._origin, self._history, answers = state["origin"], state["history"], state["answers"]
            try:
                if answers is not None and answers.shape != (len(training), len(EXPRESSIONS)):
                    raise ValueError("answers for other pictures")
                self._network.load_state_dict(state["model"])
                self._optimizer.load_state_dict(state["optimizer"])
                if self._average is not None:
                    self._average.load_state_dict(state["average"])
            except Exception as error:  # torch raises many types for what does not fit
                raise _unreadable(self._output) from error

        self._order = torch.Generator()
        shares = ShuffledShares(len(training), config.batch_size, self._order, processes)
        self._spec = input_spec(config, folder_resolution(training))
        # A run that goes on has the answers in its state: the teachers may be gone or changed since.
        self._answers = state["answers"] if state else self._answers_of_teachers(training)
        self._batches: LightlyAugmented | StronglyAugmented
        if config.strong_augmentation:
            labels = torch.tensor(training.targets)
            expected = None if votes is None else expected_labels(votes, labels)
            target = mixed_target(labels, expected, self._answers, config)
            self._batches = StronglyAugmented(training, self._spec, config, target, votes, shares, device)
        else:
            loader_config = replace(config, device=device.type)
            self._batches = LightlyAugmented(training, self._spec, loader_config, shares)
        self._trained = self._for_training()
        self._reporter.started(config, self._origin, self._train_count, len(self._validation))
        if not resume and processes.first:
            remove_run(self._output)

    def _votes_of(self, training: ImageFolder) -> torch.Tensor | None:
        path = self._data / VOTES_NAME
        wanted = self._config.votes_weight or self._config.expected_share
        return read_votes(path, training) if wanted and path.is_file() else None

    def _answers_of_teachers(self, training: ImageFolder) -> torch.Tensor | None:
        config = self._config
        if not config.teachers:
            return None
        paths = [Path(teacher) for teacher in config.teachers]
        return mean_answers(paths, training, self._device, self._processes, self._reporter, config.workers)

    def _for_training(self) -> nn.Module:
        """Returns the network as the steps call it: compiled, or joined with the other processes'."""
        if self._processes.count > 1:
            ids = [self._device.index] if self._device.type == "cuda" else None
            with warnings.catch_warnings():
                # torch 2.15 has another name for broadcast_buffers, which those before it don't know.
                warnings.simplefilter("ignore", FutureWarning)
                # The running statistics are averaged once an epoch instead of copied in every step.
                return DistributedDataParallel(
                    self._network, device_ids=ids, broadcast_buffers=False, gradient_as_bucket_view=True
                )
        # Of the whole run, not of what is left of it: a resumed run has to compute as the unbroken one does.
        steps = self._config.epochs * len(self._batches)
        pays = self._device.type == "cpu" and steps > COMPILE_PAYS_STEPS
        return _compiled(self._network) if pays else self._network

    def epochs(self) -> None:
        """Trains, validates and saves, epoch by epoch."""
        for epoch in range(len(self._history) + 1, self._config.epochs + 1):
            began_s = time.monotonic()
            # Each epoch draws from seeds of its own, so that a resumed run draws what an unbroken one did.
            _seed(self._config.seed, epoch, self._processes.rank)
            self._order.manual_seed(_epoch_seed(self._config.seed, epoch))

            self._reporter.phase(epoch, "train", len(self._batches))
            train_loss, train_accuracy, images_per_s = self._train_epoch(epoch)
            if not np.isfinite(train_loss):
                raise UsageError(
                    f"the loss is no longer finite in epoch {epoch}; lower --lr (now {self._config.lr:g})"
                )
            logits, labels = self._validate(epoch)
            measured = report(logits, labels)
            row = Epoch(
                epoch=epoch,
                train_loss=train_loss,
                train_accuracy=train_accuracy,
                validation_loss=measured.loss,
                validation_accuracy=measured.accuracy,
                images_per_s=images_per_s,
                duration_s=time.monotonic() - began_s,
                best=self._is_best(measured),
            )
            self._history.append(row)
            if self._processes.first:
                if row.best:
                    self._save_best(row)
                self._save_state()
                write_history(self._output / HISTORY_NAME, self._history)
            self._reporter.epoch_done(row)

    def _train_epoch(self, epoch: int) -> tuple[float, float, float]:
        """Returns the mean loss, the accuracy and the pictures a second of one pass with backpropagation."""
        objective, device = Objective(self._config), self._device
        gentle = epoch > self._config.epochs - gentle_epochs(self._config)
        if isinstance(self._batches, StronglyAugmented):
            self._batches.gentle = gentle
        self._network.train()
        scaler = torch.amp.GradScaler(enabled=device.type == "cuda")
        loss_sum, hits, count = 0.0, 0, 0
        began_s = time.monotonic()
        steps = len(self._batches)
        for step, batch in enumerate(self._batches, (epoch - 1) * steps):
            for group in self._optimizer.param_groups:
                group["lr"] = learning_rate(self._config, step, steps)
            images, targets = objective.prepare(batch, device, mixed=not gentle)
            with torch.autocast(device.type, dtype=torch.float16, enabled=device.type == "cuda"):
                outputs = self._trained_for(len(images))(images)
                loss = objective.loss(outputs, targets)
            self._optimizer.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            scaler.step(self._optimizer)
            scaler.update()
            if self._average is not None:
                self._average.update_parameters(self._network)

            loss_sum += loss.item() * len(images)
            hits += int((outputs[0].argmax(dim=1) == targets[0].argmax(dim=1)).sum())
            count += len(images)
            images_per_s = self._processes.count * count / (time.monotonic() - began_s)
            self._reporter.batch(loss_sum / count, hits / count, images_per_s)
        loss_mean, accuracy = self._processes.mean([loss_sum / count, hits / count])
        return loss_mean, accuracy, images_per_s

    def _trained_for(self, count: int) -> nn.Module:
        # The compiled network is made for one batch size; the last, smaller batch goes the plain way.
        whole = self._processes.count > 1 or count == self._config.batch_size
        return self._trained if whole else self._network

    def _validated(self) -> nn.Module:
        """Returns the network that is measured and saved."""
        network: Any = self._network if self._average is None else self._average.module
        body: nn.Module = network.body
        return body

    def _validate(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        loader = evaluation_loader(
            self._validation, self._spec, EVALUATION_BATCH, self._config.workers, self._processes
        )
        self._reporter.phase(epoch, "validation", len(loader))
        self._processes.average_buffers(self._network)
        if self._average is not None:
            self._processes.average_buffers(self._average)
        logits, labels = predict(self._validated(), loader, self._device, self._reporter.batch)
        return self._processes.in_order(logits), self._processes.in_order(labels)

    def _is_best(self, measured: Report) -> bool:
        before = [row for row in self._history if row.best]
        if not np.isfinite(measured.loss):
            return False
        if self._config.best_by == "accuracy":
            return measured.accuracy > max((row.validation_accuracy for row in before), default=-1.0)
        return measured.loss < min((row.validation_loss for row in before), default=math.inf)

    def _save_best(self, row: Epoch) -> None:
        checkpoint = Checkpoint(
            state_dict=arrays_of(self._validated()),
            input=self._spec,
            recipe=self._config.recipe,
            epoch=row.epoch,
            metrics={
                "validation_accuracy": row.validation_accuracy,
                "validation_loss": row.validation_loss,
            },
        )
        save_checkpoint(self._output / WEIGHTS_NAME, checkpoint)

    def _save_state(self) -> None:
        state = {
            "config": asdict(self._config),
            "pictures": self._pictures,
            "votes": self._votes_given,
            "origin": self._origin,
            "answers": self._answers,
            "model": self._network.state_dict(),
            "average": None if self._average is None else self._average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "history": [asdict(row) for row in self._history],
        }
        save_atomically(state, self._output / STATE_NAME)

    def finish(self) -> Result:
        """Fits the temperature of the best weights and measures them."""
        if not any(row.best for row in self._history):
            raise UsageError(f"no epoch had a finite validation loss; lower --lr (now {self._config.lr:g})")
        # A stop may have come between the state and this.
        write_history(self._output / HISTORY_NAME, self._history)
        checkpoint, measured, untempered = fit_best(
            self._output, self._validation, self._config.workers, self._device
        )
        return Result(
            history=tuple(self._history),
            config=self._config,
            epoch=checkpoint.epoch,
            temperature=checkpoint.temperature,
            validation=measured,
            untempered=untempered,
            origin=self._origin,
            train_count=self._train_count,
        )


def _freeze(body: EfficientNet, stages: int) -> None:
    """Keeps the weights of the first layer and of some stages; their statistics still follow the pictures.

    With 0 stages nothing is kept.
    """
    if stages:
        for part in (body.conv_stem, body.bn1, *body.blocks[:stages]):
            part.requires_grad_(False)


def _optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    if config.weight_decay is None:
        return torch.optim.Adam(network.parameters(), lr=config.lr)
    # Biases and normalisation have one dimension.
    parameters = [each for each in network.parameters() if each.requires_grad]
    decayed = [each for each in parameters if each.ndim > 1]
    others = [each for each in parameters if each.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr)


def _moving_average(network: nn.Module, decay: float | None) -> AveragedModel | None:
    """Returns the exponential moving average of the weights and the running statistics."""
    if decay is None:
        return None
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


def _compiled(model: nn.Module) -> nn.Module:
    """Returns the network with its layers fused, about a fifth faster on a CPU; itself where that fails."""
    torch._dynamo.config.suppress_errors = True  # no C++ compiler on this machine: go on without
    compiled: Any = torch.compile(model, dynamic=False)
    return compiled


def fit_best(
    output: Path, validation: ImageFolder, workers: int, device: torch.device
) -> tuple[Checkpoint, Report, Report]:
    """Fits the temperature of the saved weights on the validation split and saves it with them.

    Returns:
        The checkpoint, and its figures with and without the temperature.
    """
    checkpoint, model = load_model(output / WEIGHTS_NAME)
    model = model.to(device).to(memory_format=torch.channels_last)
    logits, labels = predict(
        model, evaluation_loader(validation, checkpoint.input, EVALUATION_BATCH, workers), device
    )
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


def _digest(*folders: ImageFolder) -> str:
    """Returns what tells pictures by their names; their answers are kept in the order of these."""
    names = [
        [Path(path).relative_to(folder.root).as_posix() for path, _ in folder.samples] for folder in folders
    ]
    return hashlib.sha256(repr(names).encode(errors="surrogateescape")).hexdigest()


def _epoch_seed(seed: int, epoch: int) -> int:
    return seed * 100_003 + epoch


def _seed(seed: int, epoch: int, rank: int) -> None:
    # Augmentation, dropout and the new layers' first weights all draw from torch's generator.
    torch.manual_seed(_epoch_seed(seed, epoch) + rank * 1_000_000_007)
    # Repeatable on CUDA, too: without these cuDNN picks its algorithms anew each run.
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False


def _read_state(path: Path) -> dict:
    """Reads a state, whose settings and history are then as a run makes them; raises anything."""
    with zipfile.ZipFile(path) as archive:
        if archive.testzip():  # torch does not compare the checksums
            raise ValueError("damaged")
    state = torch.load(path, map_location="cpu", weights_only=True)
    # A run from before a setting there was, was made without it.
    state["config"] = asdict(TrainConfig()) | state["config"]
    history = [Epoch(**row) for row in state["history"]]
    numbers = [value for row in history for value in asdict(row).values()]
    if not all(isinstance(value, int | float) for value in numbers):
        raise TypeError("a history without numbers")
    if not all(isinstance(value, int | float | str | tuple | None) for value in state["config"].values()):
        raise TypeError("settings that are none")
    if not isinstance(state["pictures"], str) or not isinstance(state["origin"], str):
        raise TypeError("names that are none")
    if any(row.images_per_s <= 0 for row in history):
        raise ValueError("a speed that is none")
    return {**state, "history": history}


def _unreadable(output: Path) -> UsageError:
    return UsageError(f"{output / STATE_NAME} can't be read; start again with --overwrite")


def _load_state(output: Path, config: TrainConfig, pictures: str, with_votes: bool) -> dict:
    path = output / STATE_NAME
    if not path.is_file():
        raise UsageError(f"nothing to resume in {output}: no {STATE_NAME}; start anew with --overwrite")
    try:
        state = _read_state(path)
    except Exception as error:
        raise _unreadable(output) from error
    before = state["config"]
    # A run may go on elsewhere, and for longer where its course does not depend on its length; what
    # shapes its result must be the same.
    free = {"device", "pretrained", "teachers"}
    if config.warmup_share is None and not config.gentle_share:
        free.add("epochs")
    for name, value in asdict(config).items():
        if name not in free and before[name] != value:
            raise UsageError(
                f"the run in {output} has {name} = {before[name]}, not {value}; resume with the same "
                "options and version, or choose another --output"
            )
    for name, value in before.items():
        if value and name not in asdict(config):
            raise UsageError(
                f"the run in {output} has {name} = {value}, which this version does not know; "
                "choose another --output"
            )
    if state["pictures"] != pictures:
        raise UsageError(f"the pictures are not those of the run in {output}; choose another --output")
    if config.teachers and config.teachers != before["teachers"]:
        had = "other teachers" if before["teachers"] else "no teacher"
        raise UsageError(f"the run in {output} had {had}; leave --teacher out, or choose another --output")
    best = [row.epoch for row in state["history"] if row.best]
    if best and not (output / WEIGHTS_NAME).is_file():
        raise UsageError(
            f"{output} lacks {WEIGHTS_NAME}, the weights after its best epoch ({best[-1]}); "
            "put it back, or start again with --overwrite"
        )
    if state["votes"] != with_votes:
        has, has_not = ("no ", "one") if with_votes else ("a ", "none")
        raise UsageError(
            f"the run in {output} had {has}{VOTES_NAME}, now there is {has_not}; choose another --output"
        )
    return state


def write_history(path: Path, history: list[Epoch]) -> None:
    """Writes the history as CSV, a row an epoch."""
    text = io.StringIO()
    rows = csv.DictWriter(text, fieldnames=list(Epoch.__dataclass_fields__))
    rows.writeheader()
    for row in history:
        rows.writerow({name: f"{v:.6g}" if isinstance(v, float) else v for name, v in asdict(row).items()})
    write_text_atomically(path, text.getvalue())
