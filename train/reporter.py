"""The interface through which a run reports its progress."""

from __future__ import annotations

from dataclasses import dataclass

from train.config import TrainConfig


@dataclass(frozen=True)
class HistoryRow:
    """A row of the history, for the time between two validations: an epoch, or several short ones.

    Attributes:
        epoch: Number of the last epoch, from 1.
        train_loss: Mean training loss, on augmented pictures.
        train_accuracy: Share of these pictures for which the network's top class is the target's top class.
        validation_loss: Mean cross-entropy on the validation split.
        validation_accuracy: Accuracy on the validation split.
        ferplus_agreement: Share of the validation pictures with a clear FER+ majority on which the FER+
            layer agrees with it; None without such a layer.
        images: Number of training pictures since the last row.
        images_per_s: Training pictures per second.
        duration_s: Seconds since the last row, including validation.
        best: Whether the weights were saved as the best so far.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    ferplus_agreement: float | None
    images: int
    images_per_s: float
    duration_s: float
    best: bool


class Reporter:
    """Receives a run's progress. This class ignores it; the command's subclass shows it."""

    def started(self, config: TrainConfig, origin: str, train_count: int, validation_count: int) -> None:
        """Note that the data and the network are ready."""

    def phase(self, epoch: int, name: str, batches: int) -> None:
        """Note the start of a phase (such as `train`) of an epoch. Epoch 0 is for work outside of epochs."""

    def batch(self, loss: float, accuracy: float, images_per_s: float, done: int = 1) -> None:
        """Note that batches are done, by default one. The figures cover the phase so far."""

    def progress(self, share: float, left_s: float | None) -> None:
        """Note the share of the run that is done and, in a run by the clock, the seconds left."""

    def note(self, text: str) -> None:
        """Pass on a line for the user."""

    def epoch_done(self, row: HistoryRow) -> None:
        """Note that an epoch is done and saved."""
