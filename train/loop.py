"""Run the training: set up, train, validate and save, epoch by epoch."""

from __future__ import annotations

import csv
import io
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fer_stream.errors import UsageError
from fer_stream.expressions import EXPRESSIONS, FER2013, FERPLUS
from fer_stream.recognition.weights import Checkpoint, Head, save_checkpoint
from fer_stream.system.files import replace_text
from train.acceleration import as_trained
from train.architectures import TwoHeaded, arrays_of
from train.batches import ShuffledShares
from train.clock import Clock
from train.config import TrainConfig, check_settings
from train.folders import HISTORY_NAME, WEIGHTS_NAME, check_run_folder, remove_run
from train.metrics import Report, checkpoint_metrics
from train.optimizers import trained_parameters
from train.parallel import Processes, joined_processes, local_device, pick_device
from train.reporter import HistoryRow, Reporter
from train.schedule import schedule_of
from train.setup import Setup, epoch_seed, seed_everything, set_up
from train.state import save_state
from train.steps import make_steps
from train.updater import TrainingTotals, Updater
from train.validation import Measured, Validation
from train.votes import VOTE_INDICES

REPORTED_STEPS_GPU = 20  # steps between two reports, because reading the totals waits for the GPU


@dataclass(frozen=True, eq=False)
class Result:
    """The result of a run.

    Attributes:
        history: A row for each validation.
        config: The settings. A resumed run keeps its original ones.
        epoch: The best epoch on the validation split, from 1.
        temperature: Temperature of the FER2013 layer, fitted on the validation split.
        validation: Figures of that layer on the validation split, with that temperature.
        untempered: The same figures without it.
        ferplus: Figures of the FER+ layer against the FER+ majority, with its temperature; None without
            such a layer.
        unsure_below: Threshold of the layer that fer-stream follows by default; 1: no label can be shown.
        origin: Description of the initial weights.
        train_count: Number of pictures in the training split.
        elapsed_s: Time that the run took.
    """

    history: tuple[HistoryRow, ...]
    config: TrainConfig
    epoch: int
    temperature: float
    validation: Report
    untempered: Report
    ferplus: Report | None
    unsure_below: float
    origin: str
    train_count: int
    elapsed_s: float


def train(
    data: Path,
    output: Path,
    config: TrainConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
    reporter: Reporter | None = None,
    began_s: float | None = None,
) -> Result | None:
    """Train a network and save it whenever it does better on the validation split.

    Under torchrun every process calls this. Only the first one writes files and gets the result.

    Args:
        data: A folder that `folders.find_layout` recognizes, optionally with the FER+ votes.
        output: Folder for best-weights.pt, history.csv and last-state.pt, from which a run resumes.
        config: The settings.
        resume: Continue after the last saved epoch in `output`, as if the run had not stopped.
        overwrite: Replace the run in `output`.
        reporter: Receives the progress.
        began_s: `time.monotonic()` at the start of a run by the clock; None for now.

    Returns:
        The result in the first process; None in the others.

    Raises:
        SourceError: The data can't be used.
        WeightsError: The pretrained weights or a teacher can't be loaded.
        UsageError: The run in `output` has other settings, the settings can't be used together or do not
            fit the pictures, or the loss is no longer finite.
        OutputError: `output` already holds a run, or can't be read or written.
    """
    began_s = time.monotonic() if began_s is None else began_s
    check_settings(config)
    device = local_device(pick_device(config.device))
    with joined_processes(device) as processes:
        reporter = reporter if reporter and processes.is_first else Reporter()
        processes.share_result(lambda: check_run_folder(output, resume=resume, overwrite=overwrite))
        setup = set_up(data, output, config, device, processes, reporter, resume=resume)
        reporter.started(
            setup.config, setup.origin.weights, len(setup.splits.training), len(setup.splits.validation)
        )
        run = _Run(setup, output, device, processes, reporter, began_s)
        if not resume and processes.is_first:
            remove_run(output)
        run.epochs()
        return run.finish() if processes.is_first else None


class _Run:
    """A training run, as one process sees it."""

    def __init__(
        self,
        setup: Setup,
        output: Path,
        device: torch.device,
        processes: Processes,
        reporter: Reporter,
        began_s: float,
    ) -> None:
        self._setup, self._output, self._device = setup, output, device
        self._processes, self._reporter = processes, reporter
        config, splits = setup.config, setup.splits
        self._config, self._state = config, setup.state
        self._schedule = schedule_of(config)
        self._order = torch.Generator()
        shares = ShuffledShares(
            len(splits.training),
            config.batch_size,
            self._order,
            processes,
            drop_last=config.strong_augmentation,
        )
        self._steps = len(shares)
        votes = splits.validation_votes
        self._validation = Validation(
            splits.validation,
            None if votes is None else votes.numpy(),
            setup.spec,
            device,
            config.workers,
            processes,
        )
        self._trained = as_trained(setup.network, config, self._steps, device, processes, reporter)
        self._updater = Updater(
            self._trained,
            trained_parameters(setup.network),
            setup.optimizer,
            setup.average,
            setup.teachers,
            config,
            device,
        )
        self._epoch_steps = make_steps(setup, shares, self._updater, device, processes)
        self._clock = Clock(
            config,
            self._steps,
            len(splits.validation) / len(splits.training),
            self._state.elapsed_s,
            began_s,
            processes,
        )

    def epochs(self) -> None:
        """Train, validate and save, epoch by epoch, until the schedule ends."""
        row_began_s = time.monotonic()
        totals, training_s = TrainingTotals(), 0.0
        epochs_before = self._state.epoch
        while not self._is_over():
            epoch = self._state.epoch + 1
            began_s = time.monotonic()
            seed_everything(self._config.seed, epoch, self._processes.rank)
            self._order.manual_seed(epoch_seed(self._config.seed, epoch))
            self._reporter.phase(epoch, "train", self._steps)
            epoch_totals = self._train_epoch()
            totals += epoch_totals
            training_s += time.monotonic() - began_s
            self._state.epoch = epoch
            if not math.isfinite(epoch_totals.loss):
                raise UsageError(
                    f"the loss is no longer finite in epoch {epoch}; lower --lr (now {self._config.lr:g})"
                )
            if not self._clock.validation_is_due(self._clock.progress(self._state.step)):
                continue
            validation_began_s = time.monotonic()
            measured = self._validate(epoch)
            row = self._row(measured, totals, training_s, time.monotonic() - row_began_s)
            self._state.history.append(row)
            self._save(row, measured)
            self._reporter.epoch_done(row)
            self._clock.validated(time.monotonic() - validation_began_s)
            row_began_s, totals, training_s = time.monotonic(), TrainingTotals(), 0.0
        if self._state.epoch == epochs_before:
            self._reporter.note("the run was already complete: there is nothing left to train")

    def _is_over(self) -> bool:
        if self._config.minutes is None:
            return self._state.epoch >= self._config.epochs
        return bool(self._state.history) and self._clock.progress(self._state.step) >= 1

    def _train_epoch(self) -> TrainingTotals:
        """Train for one pass over the pictures, or until the time is up.

        Returns:
            The totals over all processes.
        """
        self._trained.train()
        self._updater.begin()
        began_s = time.monotonic()
        on_gpu = self._device.type == "cuda"
        reported = 0
        for done, step in enumerate(self._epoch_steps, 1):
            progress = self._clock.progress(self._state.step)
            # A run by the clock makes at least one step.
            if self._config.minutes is not None and progress >= 1 and self._state.step:
                break
            self._updater.set_step(self._state.step, self._schedule.learning_rate(progress))
            step(self._schedule.is_gentle(progress))
            self._state.step += 1
            if not on_gpu or done % REPORTED_STEPS_GPU == 0 or done == self._steps:
                totals = self._updater.totals()
                images_per_s = self._processes.count * totals.count / (time.monotonic() - began_s)
                self._reporter.batch(totals.loss, totals.accuracy, images_per_s, done - reported)
                self._reporter.progress(progress, self._clock.left_s())
                reported = done
        totals = self._updater.totals()
        loss_sum, hits, count = self._processes.sum([totals.loss_sum, totals.hits, totals.count])
        return TrainingTotals(loss_sum, round(hits), round(count))

    def _measured_network(self) -> TwoHeaded:
        """Return the network that is measured and saved."""
        average = self._setup.average
        network: Any = self._setup.network if average is None else average.network
        return network

    def _validate(self, epoch: int) -> Measured:
        self._reporter.phase(epoch, "validation", self._validation.batch_count)
        self._processes.average_buffers(self._setup.network)
        if self._setup.average is not None:
            self._processes.average_buffers(self._setup.average.network)
        return self._validation.measure(self._measured_network(), self._reporter.batch)

    def _row(
        self, measured: Measured, totals: TrainingTotals, training_s: float, duration_s: float
    ) -> HistoryRow:
        return HistoryRow(
            epoch=self._state.epoch,
            train_loss=totals.loss,
            train_accuracy=totals.accuracy,
            validation_loss=measured.fer2013.loss,
            validation_accuracy=measured.fer2013.accuracy,
            ferplus_agreement=None if measured.ferplus is None else measured.ferplus.accuracy,
            images=totals.count,
            images_per_s=max(totals.count, 1) / training_s,
            duration_s=duration_s,
            best=self._is_best(measured),
        )

    def _is_best(self, measured: Measured) -> bool:
        if not np.isfinite(measured.fer2013.loss):
            return False
        best_by, best = self._config.best_by, self._state.best
        agreement = None if measured.ferplus is None else measured.ferplus.accuracy
        score = _score(best_by, measured.fer2013.loss, measured.fer2013.accuracy, agreement)
        return best is None or score > _score(
            best_by, best.validation_loss, best.validation_accuracy, best.ferplus_agreement
        )

    def _save(self, row: HistoryRow, measured: Measured) -> None:
        if row.best:
            logits = [measured.logits]
            if measured.ferplus_logits is not None:
                logits.append(measured.ferplus_logits)
            self._state.best_logits = np.concatenate(logits, axis=1)
        if not self._processes.is_first:
            return
        if row.best:
            save_checkpoint(self._output / WEIGHTS_NAME, self._checkpoint(row, measured))
        self._state.elapsed_s = self._clock.elapsed_s()
        setup = self._setup
        save_state(
            self._output,
            self._config,
            setup.origin,
            self._state,
            setup.network,
            setup.average,
            setup.optimizer,
        )
        write_history(self._output / HISTORY_NAME, self._state.history)

    def _checkpoint(self, row: HistoryRow, measured: Measured) -> Checkpoint:
        """Return the current weights, calibrated on the validation split."""
        network = self._measured_network()
        calibration, fer2013 = self._validation.calibrate(measured, FER2013)
        ferplus = ferplus_report = None
        if measured.ferplus is not None and network.votes_layer is not None:
            ferplus_calibration, ferplus_report = self._validation.calibrate(measured, FERPLUS)
            indices = list(VOTE_INDICES)
            layer = arrays_of(network.votes_layer)
            ferplus = Head(
                layer["weight"][indices],
                layer["bias"][indices],
                ferplus_calibration.temperature,
                ferplus_calibration.unsure_below,
            )
        return Checkpoint(
            state_dict=arrays_of(network.body),
            input=self._setup.spec,
            architecture=self._config.architecture,
            temperature=calibration.temperature,
            unsure_below=calibration.unsure_below,
            ferplus=ferplus,
            recipe=self._config.recipe,
            epoch=row.epoch,
            metrics=checkpoint_metrics(fer2013, ferplus_report),
        )

    def finish(self) -> Result:
        """Return the figures of the best weights."""
        best, logits = self._state.best, self._state.best_logits
        if best is None or logits is None:
            raise UsageError(f"no epoch had a finite validation loss; lower --lr (now {self._config.lr:g})")
        # The run may have stopped after it saved the state and before it wrote the history.
        write_history(self._output / HISTORY_NAME, self._state.history)
        classes = len(EXPRESSIONS)
        measured = self._validation.measure_logits(
            logits[:, :classes], logits[:, classes:] if logits.shape[1] > classes else None
        )
        calibration, validation = self._validation.calibrate(measured, FER2013)
        unsure_below, ferplus = calibration.unsure_below, None
        if measured.ferplus is not None:
            ferplus_calibration, ferplus = self._validation.calibrate(measured, FERPLUS)
            unsure_below = ferplus_calibration.unsure_below
        return Result(
            history=tuple(self._state.history),
            config=self._config,
            epoch=best.epoch,
            temperature=calibration.temperature,
            validation=validation,
            untempered=measured.fer2013,
            ferplus=ferplus,
            unsure_below=unsure_below,
            origin=self._setup.origin.weights,
            train_count=len(self._setup.splits.training),
            elapsed_s=self._clock.elapsed_s(),
        )


def _score(best_by: str, loss: float, accuracy: float, agreement: float | None) -> float:
    """Return a score by which to compare weights. Higher is better."""
    if best_by == "loss":
        return -loss
    return accuracy if best_by == "accuracy" or agreement is None else (accuracy + agreement) / 2


def write_history(path: Path, history: list[HistoryRow]) -> None:
    """Write the history as CSV, with a row for each validation.

    Raises:
        OutputError: The file can't be written.
    """
    text = io.StringIO()
    rows = csv.DictWriter(text, fieldnames=list(HistoryRow.__dataclass_fields__))
    rows.writeheader()
    for row in history:
        rows.writerow({name: f"{v:.6g}" if isinstance(v, float) else v for name, v in asdict(row).items()})
    replace_text(path, text.getvalue())
