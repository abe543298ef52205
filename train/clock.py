"""Measure the progress of a run, by its steps or by the clock."""

from __future__ import annotations

import time

from train.config import TrainConfig
from train.parallel import Processes

VALIDATION_SHARE = 1 / 40  # in a run by the clock, at least this share of it lies between two validations
FINISHING_S = 3.0  # to write charts and files at the end, without the last validation
# A training picture, with its backward pass, costs about as much as this many validation pictures.
TRAINING_COST = 3
MEASURED_FROM_STEP = 3  # the first steps include compilation


class Clock:
    """The progress of a run, from 0 to 1.

    Args:
        config: The settings, with the number of epochs or minutes.
        steps_per_epoch: Number of training steps in an epoch.
        validation_share: Number of validation pictures per training picture.
        elapsed_s: Time that the run took before this process resumed it.
        began_s: `time.monotonic()` when this process began.
        processes: The processes of the run, which follow the first one's clock.
    """

    def __init__(
        self,
        config: TrainConfig,
        steps_per_epoch: int,
        validation_share: float,
        elapsed_s: float,
        began_s: float,
        processes: Processes,
    ) -> None:
        self._minutes, self._epochs, self._steps = config.minutes, config.epochs, steps_per_epoch
        self._before_s, self._began_s = elapsed_s, began_s
        self._processes = processes
        self._validation_s: float | None = None
        self._validation_steps = steps_per_epoch * validation_share / TRAINING_COST
        self._calls, self._measured_from_s = 0, 0.0
        self._last_validation_s = self.elapsed_s()

    def elapsed_s(self) -> float:
        """Return the time that the run has taken."""
        return self._before_s + time.monotonic() - self._began_s

    def progress(self, step: int) -> float:
        """Return how far the run is, from 0 to 1, before the step with this number, counted from 0.

        In a run by the clock every process must call this equally often, because the first process's answer
        is broadcast. The calls are counted to estimate how long a step takes.
        """
        if self._minutes is None:
            return min(1.0, step / (self._epochs * self._steps))
        elapsed_s = self.elapsed_s()
        if self._calls == MEASURED_FROM_STEP:
            self._measured_from_s = elapsed_s
        self._calls += 1
        share = min(1.0, elapsed_s / self._training_s(self._minutes, elapsed_s))
        return self._processes.from_first(share)

    def left_s(self) -> float | None:
        """Return the time left in a run by the clock; None in one by epochs."""
        return None if self._minutes is None else max(0.0, 60 * self._minutes - self.elapsed_s())

    def validation_is_due(self, progress: float) -> bool:
        """Return whether to validate after an epoch that ends now. Runs by epochs validate after each."""
        if self._minutes is None or progress >= 1:
            return True
        since_s = self.elapsed_s() - self._last_validation_s
        return bool(self._processes.from_first(float(since_s >= 60 * self._minutes * VALIDATION_SHARE)))

    def validated(self, duration_s: float) -> None:
        """Note how long a validation and saving took. The last one has to fit into the time of the run."""
        self._validation_s = duration_s
        self._last_validation_s = self.elapsed_s()

    def _training_s(self, minutes: float, elapsed_s: float) -> float:
        """Return when the training steps of a run by the clock have to end.

        Until a validation has shown how long it takes, it is estimated from the training steps.
        """
        validation_s = self._validation_s
        if validation_s is None:
            measured = self._calls - 1 - MEASURED_FROM_STEP
            step_s = (elapsed_s - self._measured_from_s) / measured if measured > 0 else 0.0
            validation_s = step_s * self._validation_steps
        return max(60 * minutes - validation_s - FINISHING_S, 0.5 * 60 * minutes)
