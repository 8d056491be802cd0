"""What TensorBoard shows of a training: means, positives, detections, precision over recall."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from tensorboard.plugins.pr_curve import metadata

from harmonic_tf.backend import keras, tf, traced
from harmonic_tf.data.example import DetectionData
from harmonic_tf.data.images.decoding import picture
from harmonic_tf.data.pipeline.batches import training_batches
from harmonic_tf.evaluation import (
    Detections,
    GroundTruth,
    detection_sheet,
    match,
    score_iou_scatter,
)
from harmonic_tf.losses import HarmonicLoss
from harmonic_tf.models import JointDetector
from harmonic_tf.training.inference import detect, ground_truth_of

# Little beside an epoch, yet hundreds of positives.
_SAMPLE_PICTURES = 16
_SAMPLE_BATCH = 8
_SHEET_PICTURES = 8
_CURVE_IOU = 0.5
# TensorBoard asks for scores evenly over [0, 1]; so many is its own default.
_CURVE_SCORES = np.linspace(0.0, 1.0, 201)


class TensorBoard(keras.callbacks.TensorBoard):
    """Logs what a training looks like, every epoch.

    To the epoch's means, which Keras logs, come histograms of what `Positives` gives, its scores
    against its IoUs, and a sheet of detections; with `log_curves`, precision over recall. Must
    come after what adds to the epoch's logs. What was logged is on disk when the epoch ends.

    Args:
        folder: where the event files go.
        positives: what to look at of training pictures.
        sheet: gives a picture of detections, uint8 [H, W, 3].
        held_out: whether that is of the validation split, and not of the training split.
    """

    def __init__(
        self,
        folder: str,
        positives: Positives,
        sheet: Callable[[], np.ndarray],
        held_out: bool,
    ):
        super().__init__(folder, write_graph=False)
        self.positives = positives
        self.sheet = sheet
        self.held_out = held_out

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Logs."""
        super().on_epoch_end(epoch, logs)
        values = self.positives()
        with self._train_writer.as_default(epoch):
            for name, of_positives in values.items():
                tf.summary.histogram(f"positives/{name}", of_positives)
            scatter = _drawn(score_iou_scatter, values["score"], values["IoU"])
            tf.summary.image("positives/score_and_IoU", scatter[None])
        with (self._val_writer if self.held_out else self._train_writer).as_default(epoch):
            tf.summary.image("detections", self.sheet()[None])
        for writer in self._writers.values():
            writer.flush()

    def log_curves(self, epoch: int, ground_truth: GroundTruth, detections: Detections) -> None:
        """Logs precision over recall of each class of the validation split, at IoU 0.5.

        Args:
            epoch: when that was.
            ground_truth: the objects.
            detections: what was found of them.
        """
        description = f"IoU of at least {_CURVE_IOU:g} with an object; true negatives unknown."
        with self._val_writer.as_default(epoch):
            for name, curve in precision_recall_curves(ground_truth, detections).items():
                tf.summary.write(
                    f"precision_recall/{name}",
                    curve,
                    metadata=metadata.create_summary_metadata(name, description, curve.shape[1]),
                )


class Positives:
    """How a detector does at the positives of some training pictures, always the same ones.

    They are the first that training meets, but without augmentation.

    Args:
        detector: the network, outside of any strategy.
        loss: what it is trained with.
        data: the training split.
        image_size: side of the model's input, pixels.
        seed: the one of training.
    """

    def __init__(
        self,
        detector: JointDetector,
        loss: HarmonicLoss,
        data: DetectionData,
        image_size: int,
        seed: int,
    ):
        self.detector = detector
        self.loss = loss
        most = max((len(annotation.boxes) for annotation in data.annotations), default=0)
        pictures = min(_SAMPLE_PICTURES, len(data.annotations))
        size = min(_SAMPLE_BATCH, pictures)
        batches = training_batches(data, image_size, size, seed, most, augmentation=None)
        self._batches = batches.take(pictures // size)
        self._compiled = traced(self._of_batch)

    def __call__(self) -> dict[str, np.ndarray]:
        """What the detector's weights of now give.

        Returns:
            float32 [K] each, of K positives: the factors `b_r` and `b_c`, in [0, 1]; the predicted
            `score` of the true class and the `IoU` of the predicted box with the assigned one.
        """
        parts = [self._compiled(*batch) for batch in self._batches]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _of_batch(self, images: tf.Tensor, labels: Mapping[str, tf.Tensor]):
        height, width = images.shape[1:3]
        labels = {**labels, "classes": tf.cast(labels["classes"], tf.int32)}
        outputs = self.detector(images, training=False)
        y_pred = self.detector.dense_predictions(outputs, height, width)
        y_true = self.detector.targets(labels, y_pred, height, width)
        terms = self.loss.terms(y_true, y_pred)
        score = self.loss.true_scores(y_pred["logits"], y_true["classes"])

        positive = terms["weights"] > 0.0
        weights = tf.boolean_mask(terms["weights"], positive)
        values = {
            name: tf.boolean_mask(terms[term], positive) / weights  # terms come times their weight
            for name, term in (("b_r", "b_r"), ("b_c", "b_c"), ("IoU", "iou"))
        }
        return {**values, "score": tf.boolean_mask(score, positive)}


class FirstPictures:
    """Draws what a detector finds in the first pictures of a split.

    Args:
        predict: the detector's `prediction_function`.
        data: the split.
        image_size: side of the model's input, pixels.
        batch_size: pictures per step.
    """

    def __init__(
        self,
        predict: Callable[[tf.Tensor], Mapping[str, tf.Tensor]],
        data: DetectionData,
        image_size: int,
        batch_size: int,
    ):
        self.predict = predict
        self.data = dataclasses.replace(data, annotations=data.annotations[:_SHEET_PICTURES])
        self.image_size = image_size
        self.batch_size = batch_size

    def __call__(self) -> np.ndarray:
        """Detects and draws: a sheet of `detection_sheet`, uint8 [H, W, 3]."""
        found = detect(self.predict, self.data, self.image_size, self.batch_size, progress=False)
        pictures = {i: picture(a) for i, a in enumerate(self.data.annotations)}
        return _drawn(detection_sheet, pictures, ground_truth_of(self.data), found)


def precision_recall_curves(
    ground_truth: GroundTruth, detections: Detections
) -> dict[str, np.ndarray]:
    """Counts at IoU 0.5 over the detections from a score on, as TensorBoard takes them.

    Args:
        ground_truth: the objects.
        detections: what was found of them.

    Returns:
        By class that has objects: float32 [6, 201], true positives, false positives, true
        negatives (0, as they are unknown), false negatives, precision (0 where nothing is found)
        and recall, at scores of at least 0, 0.005 and so on to 1.
    """
    matches = match(ground_truth, detections, [_CURVE_IOU])
    asked = matches.counted & ~matches.ignored[0]
    right = matches.rows[0] >= 0
    curves = {}
    for k, name in enumerate(ground_truth.class_names):
        wanted = np.sum(matches.wanted & (ground_truth.classes == k))
        if not wanted:
            continue
        mine = asked & (detections.classes == k)
        true = _counts(detections.scores[mine & right])
        false = _counts(detections.scores[mine & ~right])
        precision = true / np.maximum(true + false, 1)
        rows = (true, false, 0 * true, wanted - true, precision, true / wanted)
        curves[name] = np.stack(rows).astype(np.float32)
    return curves


def _counts(scores: np.ndarray) -> np.ndarray:
    """How many scores lie at or above each of `_CURVE_SCORES`."""
    return len(scores) - np.searchsorted(np.sort(scores), _CURVE_SCORES)


def _drawn(draw: Callable[..., None], *arguments: Any) -> np.ndarray:
    """What a function that writes a PNG draws, uint8 [H, W, 3]."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "drawn.png")
        draw(path, *arguments)
        return tf.io.decode_png(tf.io.read_file(path), channels=3).numpy()
