"""How long a training takes, said when its first steps and its first measurement are known."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from absl import logging

from harmonic_tf.backend import keras
from harmonic_tf.training.schedule import is_measured
from harmonic_tf.training.state import TrainingState

_STEPS = 10  # that are timed, after the first, which is traced and compiled
# Of the time of a train step that its forward pass takes: about a third, as the backward pass
# multiplies twice for each multiplication forward.
_FORWARD = 1 / 3
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
# Up to so many seconds: in which unit they are said, and in which steps of it.
_SCALES = (
    (20 * _MINUTE, _MINUTE, "minute", 1),
    (100 * _MINUTE, _MINUTE, "minute", 5),
    (10 * _HOUR, _HOUR, "hour", 0.5),
    (48 * _HOUR, _HOUR, "hour", 1),
    (math.inf, _DAY, "day", 0.5),
)


def about(seconds: float) -> str:
    """A duration in words, as exact as an estimate can be.

    Args:
        seconds: >= 0.
    """
    if seconds < _MINUTE:
        return "less than a minute"
    unit, name, step = next(scale for end, *scale in _SCALES if seconds < end)
    count = max(round(seconds / unit / step), 1) * step
    return f"about {count:g} {name}{'' if count == 1 else 's'}"


def time_left(
    steps: int,
    step_seconds: float,
    measurements: int,
    measurement_seconds: float,
    other_seconds: float = 0.0,
    at_most: bool = False,
) -> str:
    """What to say of what is left of a training.

    Args:
        steps: that are left.
        step_seconds: of each.
        measurements: that are left.
        measurement_seconds: of each.
        other_seconds: of all else.
        at_most: whether training may stop earlier.

    Returns:
        Such as `"about 14 minutes on this machine (430 steps of 1.9 s and 5 measurements)"`.
    """
    total = steps * step_seconds + measurements * measurement_seconds + other_seconds
    parts = [f"{steps:,} step{'' if steps == 1 else 's'} of {step_seconds:.2g} s"]
    if measurements:
        parts.append(f"{measurements} measurement{'' if measurements == 1 else 's'}")
    text = f"{about(total)} on this machine ({' and '.join(parts)})"
    return f"{text}, or less with --patience" if at_most else text


class TimeLeft(keras.callbacks.Callback):
    """Says how long training takes: after the first steps, and once more when more is known.

    What an epoch's end takes is known after one, with a measurement and without; but not
    after the first one of a process, at which the network is traced once more. Has to come last,
    as it times what comes before it.

    Args:
        state: of training, which knows the steps made.
        epochs: of the whole training.
        steps_per_epoch: of a whole epoch.
        eval_every: epochs between measurements; None measures never.
        measured_steps: as many steps as there are batches to measure on.
        at_most: whether training may stop earlier.
        clock: seconds, from any start.
    """

    def __init__(
        self,
        state: TrainingState,
        epochs: int,
        steps_per_epoch: int,
        eval_every: int | None,
        measured_steps: float,
        at_most: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ):
        super().__init__()
        self.state = state
        self.epochs = epochs
        self.steps_per_epoch = steps_per_epoch
        self.eval_every = eval_every
        self.measured_steps = measured_steps
        self.at_most = at_most
        self.clock = clock
        self._timed: list[float] = []
        self._ends: dict[bool, float] = {}  # seconds of an epoch's end, measured or not
        self._first_step = self._first_epoch = True
        self._updated = False
        self._began = self._steps_ended = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the clock of the epoch's steps."""
        self._began = self.clock()

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the clock of a step."""
        self._step_began = self.clock()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Times the step; says how long training takes when it is the last that is needed."""
        ends_epoch = batch + 1 == self.params["steps"]
        if len(self._timed) == _STEPS and not ends_epoch:
            return  # devices need not wait for Python any more
        steps_made = self.state.step  # waits for the device
        self._steps_ended = self.clock()
        if self._first_step:
            self._first_step = False
        elif len(self._timed) < _STEPS:
            self._timed.append(self._steps_ended - self._step_began)
            if len(self._timed) == _STEPS and not self._updated:
                seconds = statistics.median(self._timed)
                guess = self.measured_steps * _FORWARD * seconds
                self._say("Training takes", steps_made, seconds, {True: guess})

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Times the epoch's end; says what is left, once."""
        measured = self._is_measured(epoch)
        self._ends[measured] = self.clock() - self._steps_ended
        known = not self._first_epoch and (measured or self.eval_every is None)
        self._first_epoch = False
        if known and not self._updated and epoch + 1 < self.epochs:
            self._updated = True
            seconds = (self._steps_ended - self._began) / self.params["steps"]
            self._say("What is left takes", self.state.step, seconds, self._ends)

    def _is_measured(self, epoch: int) -> bool:
        return self.eval_every is not None and is_measured(epoch, self.epochs, self.eval_every)

    def _say(self, what: str, made: int, step_seconds: float, ends: Mapping[bool, float]) -> None:
        epochs = range(made // self.steps_per_epoch, self.epochs)
        measurements = sum(map(self._is_measured, epochs))
        logging.info(
            "%s %s.",
            what,
            time_left(
                self.epochs * self.steps_per_epoch - made,
                step_seconds,
                measurements,
                ends.get(True, 0.0),
                (len(epochs) - measurements) * ends.get(False, 0.0),
                self.at_most,
            ),
        )
