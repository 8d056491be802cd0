"""What happens between epochs."""

from __future__ import annotations

from typing import Any

from absl import logging

from harmonic_tf.backend import keras
from harmonic_tf.data.example import DetectionData
from harmonic_tf.evaluation import coco_metrics
from harmonic_tf.training.inference import detect, ground_truth_of
from harmonic_tf.training.run_directory import RunDirectory

SHOWN = ("AP", "AP50", "AP75")


class SaveLast(keras.callbacks.Callback):
    """Keeps the checkpoint `last` up to date, every epoch."""

    def __init__(self, run: RunDirectory):
        super().__init__()
        self.run = run

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves the model."""
        self.run.save_model(self.model, "last")


class Validation(keras.callbacks.Callback):
    """Measures COCO AP on the validation split and keeps the checkpoint `best`.

    Adds `val_AP`, `val_AP50` and `val_AP75` to the epoch's logs, so it must come before callbacks
    that write them.

    Args:
        run: where the checkpoint goes.
        data: the validation split.
        image_size: side of the model's input, pixels.
        batch_size: pictures per step.
        every: epochs between measurements; the last epoch is always measured.
    """

    def __init__(
        self, run: RunDirectory, data: DetectionData, image_size: int, batch_size: int, every: int
    ):
        super().__init__()
        self.run = run
        self.data = data
        self.truth = ground_truth_of(data)
        self.image_size = image_size
        self.batch_size = batch_size
        self.every = every
        self.best = -1.0

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Measures, and saves the model if it is the best so far."""
        last = epoch + 1 == self.params["epochs"]
        if (epoch + 1) % self.every and not last:
            return
        found = detect(self.model, self.data, self.image_size, self.batch_size, progress=False)
        metrics = coco_metrics(self.truth, found)
        if logs is not None:
            logs.update({f"val_{name}": metrics[name] for name in SHOWN})
        line = "  ".join(f"{name} {metrics[name]:.3f}" for name in SHOWN)
        logging.info("Validation after epoch %d: %s", epoch + 1, line)
        if metrics["AP"] > self.best:
            self.best = metrics["AP"]
            self.run.save_model(self.model, "best")
