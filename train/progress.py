"""Print the progress of `fer-train` and its results."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from fer_stream.expressions import EXPRESSIONS, FER2013, FERPLUS
from fer_stream.words import clock_text, counted
from train.clock import TRAINING_COST
from train.config import TrainConfig
from train.evaluation import Evaluation, LayerEvaluation
from train.loop import Result
from train.metrics import Report
from train.reporter import HistoryRow, Reporter

NAMES = {FERPLUS: "the majority of the FER+ annotators", FER2013: "FER2013's own labels"}
# Batches before the length of an epoch is measured, and seconds that are measured.
SKIPPED_BATCHES, MEASURED_S = 5, 8.0
# Lines for the phases outside of epochs, for outputs that can't show a bar.
PHASES = {
    "repeats": "looking for pictures that occur in train/ as well",
    "evaluation": "reading the pictures",
    "mirrored": "reading their mirror images",
}


class TrainingProgress(Reporter):
    """Shows bars for the epochs and their batches in a terminal, or else a plain line per epoch or phase.

    Args:
        console: The console to print to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description:<16}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[counted]:>9}"),
            TextColumn("{task.fields[figures]}"),
            console=console,
            transient=True,
            refresh_per_second=4,
            disable=console.quiet or not console.is_terminal or console.is_dumb_terminal,
        )
        self._run_task = self._bars.add_task("run", counted="", figures="", visible=False)
        self._batches_task = self._bars.add_task("", counted="", figures="", visible=False)
        self._config = TrainConfig()
        self._train_count = self._validation_count = 0
        self._began_s = 0.0
        self._first_epoch = self._epoch = 0
        self._phase, self._batch, self._batches = "", 0, 1
        self._timed_from: tuple[int, float] | None = None
        self._length_said = False

    def __enter__(self) -> TrainingProgress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def started(self, config: TrainConfig, origin: str, train_count: int, validation_count: int) -> None:
        """Print the architecture, the data and the initial weights."""
        self._config, self._train_count, self._validation_count = config, train_count, validation_count
        self._say(
            f"{config.recipe}: {config.architecture} at {config.input_size} px, {train_count} pictures, "
            f"{validation_count} for validation"
        )
        self._say(f"initial weights: {origin}")
        total = 1.0 if config.minutes else config.epochs
        self._bars.update(self._run_task, total=total, visible=True)

    def note(self, text: str) -> None:
        """Print a line that stays."""
        self._say(text)

    def phase(self, epoch: int, name: str, batches: int) -> None:
        """Start a bar of batches. See `Reporter.phase`."""
        if not self._first_epoch:
            self._first_epoch, self._began_s = epoch, time.monotonic()
        self._epoch, self._phase, self._batch, self._batches = epoch, name, 0, batches
        self._timed_from = None
        if not epoch and self._bars.disable:
            self._say(PHASES.get(name, name))
        self._bars.reset(
            self._batches_task, description=name, total=batches, visible=True, counted="", figures=""
        )

    def batch(self, loss: float, accuracy: float, images_per_s: float, done: int = 1) -> None:
        """Move the bars. See `Reporter.batch`."""
        self._batch += done
        self._bars.update(
            self._batches_task,
            completed=self._batch,
            counted=f"{self._batch}/{self._batches}",
            figures=f"loss {loss:.4f}  accuracy {100 * accuracy:.1f} %  {images_per_s:.0f} images/s",
        )
        if self._epoch:
            self._say_length()
            if self._config.minutes is None:
                done_epochs = self._epochs_done()
                self._bars.update(
                    self._run_task,
                    completed=done_epochs,
                    counted=f"{self._epoch}/{self._config.epochs}",
                    figures=f"{clock_text(self._left_s(done_epochs))} left",
                )

    def progress(self, share: float, left_s: float | None) -> None:
        """Move the bar of a run by the clock. See `Reporter.progress`."""
        if left_s is not None:
            self._bars.update(
                self._run_task,
                completed=share,
                counted=f"epoch {self._epoch}",
                figures=f"{clock_text(left_s)} left",
            )

    def epoch_done(self, row: HistoryRow) -> None:
        """Print an epoch's figures in a line that stays."""
        agreement = row.ferplus_agreement
        left = of = ""
        if self._config.minutes is None:
            of = f"/{self._config.epochs}"
            if row.epoch < self._config.epochs:
                left = f"  {clock_text(self._left_s(row.epoch))} left"
        self._say(
            f"epoch {row.epoch:>{len(of) - 1 if of else 1}}{of}"
            f"  train loss {row.train_loss:.4f} accuracy {100 * row.train_accuracy:.1f} %"
            f"  validation loss {row.validation_loss:.4f} accuracy {100 * row.validation_accuracy:.1f} %"
            + ("" if agreement is None else f"  FER+ agreement {100 * agreement:.1f} %")
            + f"  {row.images_per_s:.0f} images/s  {clock_text(row.duration_s)}{left}"
            + ("  saved" if row.best else "")
        )

    def _say_length(self) -> None:
        """Print once, early in the first epoch, how long an epoch takes."""
        if self._length_said or self._phase != "train":
            return
        if self._timed_from is None:  # the first batches prepare and compile
            if self._batch >= SKIPPED_BATCHES:
                self._timed_from = self._batch, time.monotonic()
            return
        batch, began_s = self._timed_from
        measured_s = time.monotonic() - began_s
        if measured_s < MEASURED_S:
            return
        self._length_said = True
        epoch_s = measured_s / (self._batch - batch) * self._batches
        epoch_s *= 1 + self._validation_count / (TRAINING_COST * self._train_count)
        text = f"an epoch takes about {clock_text(epoch_s)}"
        if self._config.minutes is None:
            text += f", {self._config.epochs} epochs {clock_text(epoch_s * self._config.epochs)}"
        else:
            epochs = round(60 * self._config.minutes / epoch_s)
            text += f"; there is time for about {counted(epochs, 'epoch')}"
        self._say(text)

    def _epochs_done(self) -> float:
        """Return the number of finished epochs, plus the share of the current one by its cost."""
        training, validation = TRAINING_COST * self._train_count, self._validation_count
        share = self._batch / self._batches
        done = training * share if self._phase == "train" else training + validation * share
        return self._epoch - 1 + done / (training + validation)

    def _left_s(self, done: float) -> float:
        """Return the seconds until the last epoch ends, at this process's average pace."""
        here = done - (self._first_epoch - 1)
        return (time.monotonic() - self._began_s) / here * (self._config.epochs - done)

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def summarize_run(console: Console, result: Result, files: Sequence[Path]) -> None:
    """Print the results of a run."""
    console.print(
        f"\nbest epoch {result.epoch} of {result.history[-1].epoch}, on the validation split, against "
        f"{NAMES[FER2013]}:",
        highlight=False,
        soft_wrap=True,
    )
    _say_report(console, result.validation, result.untempered, result.temperature)
    if result.ferplus is not None:
        console.print(
            f"the FER+ layer agrees with the majority on {100 * result.ferplus.accuracy:.2f} % of the "
            f"{result.ferplus.count} pictures that have a clear one",
            highlight=False,
            soft_wrap=True,
        )
    if result.unsure_below == 1:
        console.print(
            "warning: at no confidence are enough readings right, so fer-stream will call every face unsure; "
            "with --unsure-below 0 it shows every label",
            highlight=False,
            soft_wrap=True,
        )
    for path in files:
        console.print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)


def summarize_evaluation(console: Console, evaluation: Evaluation) -> None:
    """Print the figures of a checkpoint for each annotation, then all of them side by side."""
    checkpoint = evaluation.checkpoint
    console.print(f"{checkpoint.architecture}, recipe {checkpoint.recipe or 'unknown'}", highlight=False,
                  markup=False)  # fmt: skip
    for annotation, layer in evaluation.layers.items():
        console.print(f"\n{NAMES[annotation]} ({annotation})", highlight=False, style="bold")
        _say_report(console, layer.figures.measured, layer.untempered, layer.temperature)
        _say_reliability(console, annotation, layer)
    console.print()
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    for heading in ("pictures", "accuracy", "macro-F1", "ECE"):
        table.add_column(heading, justify="right", no_wrap=True)
    for annotation, layer in evaluation.layers.items():
        for name, figures in (("all", layer.figures), ("not in train", layer.not_in_train)):
            if figures is not None:
                _add_figures(table, f"{annotation}, {name}", figures.measured)
                _add_figures(table, f"{annotation}, {name}, both views", figures.mirrored)
    console.print(table, highlight=False)
    if evaluation.missing:
        console.print(f"FER+ was not measured: {evaluation.missing}", markup=False, highlight=False,
                      soft_wrap=True)  # fmt: skip


def _say_reliability(console: Console, annotation: str, layer: LayerEvaluation) -> None:
    """Print the accuracy at each confidence."""
    also = ", unclear votes counted as wrong" if annotation == FERPLUS else ""
    below = f"; unsure below {layer.unsure_below:.2f}" if layer.unsure_below else ""
    console.print(f"accuracy by confidence{also}{below}:", highlight=False)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("from", "to", "faces", "accuracy"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in layer.reliability:
        if each.accuracy is not None:
            table.add_row(f"{each.low:.1f}", f"{each.high:.1f}", str(each.count),
                          f"{100 * each.accuracy:.1f} %")  # fmt: skip
    console.print(table, highlight=False)


def _add_figures(table: Table, name: str, measured: Report) -> None:
    shares = (measured.accuracy, measured.macro_f1, measured.ece)
    table.add_row(name, str(measured.count), *(f"{100 * share:.2f} %" for share in shares))


def _say_report(console: Console, measured: Report, untempered: Report, temperature: float) -> None:
    """Print the figures, then for each class its recall and its row of the confusion matrix."""
    figures = Table.grid(padding=(0, 2))
    figures.add_row("pictures", str(measured.count))
    figures.add_row("accuracy", f"{100 * measured.accuracy:.2f} %")
    figures.add_row("macro-F1", f"{100 * measured.macro_f1:.2f} %")
    figures.add_row("loss", f"{measured.loss:.4f}")
    figures.add_row("temperature", f"{temperature:.3f}")
    figures.add_row("ECE", f"{100 * measured.ece:.2f} %, {100 * untempered.ece:.2f} % without temperature")
    console.print(figures, highlight=False)

    console.print("\nfor each label: recall, and number of pictures per prediction:", highlight=False)
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    table.add_column("recall", justify="right")
    for name in EXPRESSIONS:
        table.add_column(name, justify="right", no_wrap=True)
    for index, name in enumerate(EXPRESSIONS):
        recall = measured.recall[index]
        cells = [str(count) for count in measured.confusion[index]]
        table.add_row(
            name,
            "-" if recall != recall else f"{100 * recall:.1f} %",
            *(Text(cell, style="bold" if column == index else "") for column, cell in enumerate(cells)),
        )
    console.print(table, highlight=False)
    console.print()
