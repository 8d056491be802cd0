r"""Trains keras-cv's YOLOV8Detector as it ships, on the data and schedule of an experiment.

python benchmarks/stock_yolov8.py --preset=yolov8_bccd_baseline \
    --dataset=voc:PATH --run_dir=runs/bccd-stock

The detector, its loss and its train step are keras-cv's, in float32, the only precision in which
it trains. Backbone, batches, optimizer, schedule, weight averaging, thresholds and evaluation are
those that the flags describe, so that its report stands beside that of `train` with the same flags.
"""

from __future__ import annotations

import statistics
import sys
import time

import checkout  # noqa: F401 (before flags)
from absl import logging

from flags import experiment as experiments
from flags import running
from harmonic_tf.backend import keras, keras_cv, tf
from harmonic_tf.data.pipeline.batches import training_batches
from harmonic_tf.evaluation import results_table
from harmonic_tf.models import FPN_DEPTHS, build_backbone
from harmonic_tf.training.measuring import measure_predictions, report, validated
from harmonic_tf.training.optimizers import WarmupSchedule
from harmonic_tf.training.run_directory import RunDirectory
from harmonic_tf.training.settings import DecoderSettings, Experiment
from harmonic_tf.training.splits import load_splits


class EpochSeconds(keras.callbacks.Callback):
    """Keeps how long each epoch took."""

    def __init__(self):
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs=None) -> None:
        """Starts the clock."""
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        """Stops the clock."""
        self.seconds.append(time.perf_counter() - self._start)


def build_stock(experiment: Experiment, num_classes: int) -> keras.Model:
    """keras-cv's detector of the experiment's size, not compiled."""
    name, decoder = experiment.model.name, experiment.model.decoder
    return keras_cv.models.YOLOV8Detector(
        build_backbone(name, experiment.data.image_size),
        num_classes,
        bounding_box_format="xyxy",
        fpn_depth=FPN_DEPTHS[name],
        prediction_decoder=build_decoder(decoder),
    )


def build_decoder(settings: DecoderSettings) -> keras.layers.Layer:
    """keras-cv's class-wise NMS with the experiment's thresholds."""
    return keras_cv.layers.MultiClassNonMaxSuppression(
        "xyxy",
        from_logits=False,
        iou_threshold=settings.iou_threshold,
        confidence_threshold=settings.score_threshold,
        max_detections=settings.max_detections,
        max_detections_per_class=settings.max_detections,
    )


def build_adamw(experiment: Experiment, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Keras's AdamW with the experiment's schedule, decay, clipping and averages."""
    settings = experiment.optimizer
    schedule = WarmupSchedule(
        settings.learning_rate,
        experiment.epochs * steps_per_epoch,
        settings.warmup_steps,
        settings.schedule,
    )
    optimizer = keras.optimizers.AdamW(
        schedule,
        weight_decay=settings.weight_decay,
        global_clipnorm=settings.clip_norm or None,
        use_ema=experiment.average_decay is not None,
        ema_momentum=experiment.average_decay or 0.0,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def main() -> None:
    """Trains, measures and reports."""
    logging.set_verbosity(logging.INFO)
    experiment = experiments.experiment()
    keras.utils.set_random_seed(experiment.seed)
    run = RunDirectory(experiment.run_dir)
    run.create(experiment.overwrite)
    splits = load_splits(experiment.data)
    data, size = experiment.data, experiment.data.image_size
    steps_per_epoch = -(-len(splits.train.annotations) // experiment.batch_size)

    model = build_stock(experiment, len(splits.train.class_names))
    model.compile(
        box_loss="ciou",
        classification_loss="binary_crossentropy",
        optimizer=build_adamw(experiment, steps_per_epoch),
        jit_compile=False,
    )
    timing = EpochSeconds()
    batches = training_batches(
        splits.train,
        size,
        experiment.batch_size,
        experiment.seed,
        data.max_boxes,
        data.augmentation,
    )
    model.fit(
        batches,
        epochs=experiment.epochs,
        steps_per_epoch=steps_per_epoch,
        callbacks=[timing],
        verbose=2,
    )
    run.save_model(model, "best")

    predict = tf.function(model.predict_step)
    val = validated(predict, splits.val, size, experiment.batch_size)
    measurement = measure_predictions(predict, splits.test, size, experiment.batch_size, val)
    skipped = [f"{s.name}: {p}" for s in (splits.train, splits.test) for p in s.skipped]
    values = {"detector": "keras_cv.models.YOLOV8Detector", **experiments.resolved()}
    settings = {name: experiments.as_text(value) for name, value in values.items()}
    report(run, measurement, settings, skipped, experiment.sheet_pictures)
    print(f"\n{results_table(measurement.metrics)}")
    print(f"\nMedian epoch: {statistics.median(timing.seconds):.1f} s")


if __name__ == "__main__":
    command = running.Command(main, running.flags_of(*experiments.AREAS))
    running.run("train", sys.argv[1:], command)
