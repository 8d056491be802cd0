"""What happens between steps and between epochs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import logging

from harmonic_tf.backend import keras, tf
from harmonic_tf.data.example import DetectionData
from harmonic_tf.evaluation import Detections, GroundTruth, coco_metrics
from harmonic_tf.training.inference import detect, ground_truth_of
from harmonic_tf.training.run_directory import RunDirectory
from harmonic_tf.training.schedule import is_measured
from harmonic_tf.training.state import TrainingState
from harmonic_tf.training.strategy import is_chief, mean_of_hosts

SHOWN = ("AP", "AP50", "AP75")


class NonFiniteError(RuntimeError):
    """Training was stopped because step after step was not finite."""


class UpdateDetector(keras.callbacks.Callback):
    """Gives a detector the weights trained so far, averaged where averaging is on.

    On several hosts it has to run on all of them.

    Args:
        detector: the same network, outside of any strategy.
    """

    def __init__(self, detector: keras.Model):
        super().__init__()
        self.detector = detector

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Copies the weights."""
        self.detector.set_weights(self.model.averaged_weights())


class SaveLast(keras.callbacks.Callback):
    """Keeps the checkpoint `last` up to date, every epoch.

    Args:
        run: where the checkpoint goes.
        detector: what to save, kept up to date by `UpdateDetector`.
    """

    def __init__(self, run: RunDirectory, detector: keras.Model):
        super().__init__()
        self.run = run
        self.detector = detector

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves the detector."""
        self.run.save_model(self.detector, "last")


class Validation(keras.callbacks.Callback):
    """Measures COCO AP on the validation split and keeps the checkpoint `best`.

    Adds `val_AP`, `val_AP50` and `val_AP75` to the epoch's logs, so it must come before callbacks
    that write them.

    Args:
        run: where the checkpoint goes.
        detector: what to save, kept up to date by `UpdateDetector`.
        predict: the detector's `prediction_function`, which is measured.
        state: of training, which keeps the highest AP so far.
        data: the validation split.
        image_size: side of the model's input, pixels.
        batch_size: pictures per step.
        epochs: of the whole training, of which the last is always measured.
        every: epochs between measurements.
        measured: is told of every measurement: epoch, ground truth and detections.
    """

    def __init__(
        self,
        run: RunDirectory,
        detector: keras.Model,
        predict: Callable[[tf.Tensor], Mapping[str, tf.Tensor]],
        state: TrainingState,
        data: DetectionData,
        image_size: int,
        batch_size: int,
        epochs: int,
        every: int,
        measured: Callable[[int, GroundTruth, Detections], None],
    ):
        super().__init__()
        self.run = run
        self.detector = detector
        self.predict = predict
        self.state = state
        self.data = data
        self.truth = ground_truth_of(data)
        self.image_size = image_size
        self.batch_size = batch_size
        self.epochs = epochs
        self.every = every
        self.measured = measured

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Measures, and saves the detector if it is the best so far."""
        if not is_measured(epoch, self.epochs, self.every):
            return
        found = detect(self.predict, self.data, self.image_size, self.batch_size, progress=False)
        metrics = coco_metrics(self.truth, found)
        if logs is not None:
            logs.update({f"val_{name}": metrics[name] for name in SHOWN})
        line = "  ".join(f"{name} {metrics[name]:.3f}" for name in SHOWN)
        logging.info("Validation after epoch %d: %s", epoch + 1, line)
        if metrics["AP"] > self.state.best.numpy():
            self.state.best.assign(metrics["AP"])
            self.state.since_best.assign(0)
            self.run.save_model(self.detector, "best")
        else:
            self.state.since_best.assign_add(1)
        self.measured(epoch, self.truth, found)


class StepTimes(keras.callbacks.Callback):
    """Records what train steps take, epoch by epoch, all but the first step of each.

    The first waits for the data to flow, and in a new process is traced and compiled.

    Args:
        run: where that is recorded.
        state: of training, which knows the steps made.
        clocks: seconds from any start, by the clock and of all processors.
    """

    def __init__(
        self,
        run: RunDirectory,
        state: TrainingState,
        clocks: tuple[Callable[[], float], Callable[[], float]] = (
            time.perf_counter,
            time.process_time,
        ),
    ):
        super().__init__()
        self.run = run
        self.state = state
        self.clocks = clocks
        self._began = (0.0, 0.0)
        self._took = (0.0, 0.0)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the clocks after the first step of an epoch, stops them after its last."""
        if batch == 0:
            self._began = self._now()
        elif batch + 1 == self.params["steps"]:
            self._took = tuple(end - began for began, end in zip(self._began, self._now()))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Records them."""
        timed = self.params["steps"] - 1
        if timed:
            self.run.add_step_times(epoch + 1, timed, *self._took)

    def _now(self) -> tuple[float, float]:
        _ = self.state.step  # waits for the device
        return tuple(clock() for clock in self.clocks)


class StopEarly(keras.callbacks.Callback):
    """Stops training when measurement after measurement brought no better AP.

    On several hosts it has to run on all of them: the chief alone measures, and all stop with it.
    Must come after `Validation`.

    Args:
        state: of training, which counts the measurements since the best.
        patience: measurements in a row without a better AP that are enough, > 0; None never stops.
        strategy: of the run.
    """

    def __init__(
        self, state: TrainingState, patience: int | None, strategy: tf.distribute.Strategy
    ):
        super().__init__()
        self.state = state
        self.patience = patience
        self.strategy = strategy

    def is_over(self) -> bool:
        """Whether there were enough, on all hosts; to be asked on all of them."""
        if self.patience is None:
            return False
        enough = self.state.since_best.numpy() >= self.patience
        return any(mean_of_hosts([enough], self.strategy))

    def reason(self) -> str:
        """What there were enough of, as the host knows it that measures."""
        return (
            f"measurements since the best AP, {self.state.best.numpy():.3f}: "
            f"{self.state.since_best.numpy()} (--patience={self.patience})"
        )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Stops, and says why."""
        if not self.is_over():
            return
        self.model.stop_training = True
        if is_chief(self.strategy):
            logging.info("Stopped early after epoch %d: %s.", epoch + 1, self.reason())


class SaveState(keras.callbacks.Callback):
    """Saves the state of training every epoch, and every so many steps.

    Must come after callbacks that act on an epoch's end, such as `Validation`: the state of an
    epoch's last step says that all of them are done.

    Args:
        state: what to save.
        every_steps: steps between further saves; None saves at the ends of epochs alone.
    """

    def __init__(self, state: TrainingState, every_steps: int | None = None):
        super().__init__()
        self.state = state
        self.every_steps = every_steps

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves where a multiple of `every_steps` is reached within an epoch."""
        ends_epoch = batch + 1 == self.params["steps"]
        if self.every_steps and not ends_epoch and self.state.step % self.every_steps == 0:
            self.state.save()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves."""
        self.state.save()


class StopWhenNotFinite(keras.callbacks.Callback):
    """Stops training when too many steps in a row had a loss or gradient that was not finite.

    Looks every `limit` steps, so that devices need not wait for Python after each; such a row is
    noticed before it is twice as long.

    Args:
        limit: steps in a row that are too many, > 0.
        pictures_of_step: gives the picture files of a step, counted from the start of training.
    """

    def __init__(self, limit: int, pictures_of_step: Callable[[int], Sequence[str]]):
        super().__init__()
        self.limit = limit
        self.pictures_of_step = pictures_of_step
        self.steps = 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks, and raises.

        Raises:
            NonFiniteError: naming the terms of the loss and the pictures of the last step.
        """
        self.steps += 1
        if self.steps % self.limit:
            return
        update = self.model.weight_update
        in_row = int(update.skipped_in_row.numpy())
        if in_row < self.limit:
            return
        step = int(update.attempted.numpy()) - 1
        raise NonFiniteError(
            f"{in_row} steps in a row were not applied, because the "
            f"{' and the '.join(self.model.terms_not_finite())} was not finite. Pictures of the "
            f"last one, step {step}: {', '.join(self.pictures_of_step(step))}. Lower "
            "--learning_rate, lengthen --warmup_steps, or try --precision=float32; if it is "
            "always the same pictures, look at them and their boxes."
        )
