"""The task-contrasting loss as a Keras loss of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harmonic_tf.backend import keras, tf
from harmonic_tf.losses import functional as F


@keras.saving.register_keras_serializable(package="harmonic_tf")
class TaskContrastingLoss(keras.losses.Loss):
    """The task-contrasting loss of positives alone, for a detector with a loss of its own.

    Args:
        margin: difference of score and IoU that costs nothing, in [0, 1].
        reduction: Keras reduction of `__call__`.
        name: name of the loss.

    Source: arXiv 2108.10809, task-contrasting loss.
    """

    def __init__(
        self, margin: float = 0.2, reduction: str = "sum", name: str = "task_contrasting_loss"
    ):
        super().__init__(reduction=reduction, name=name)
        self.margin = margin

    def call(self, y_true: Mapping[str, tf.Tensor], y_pred: tf.Tensor) -> tf.Tensor:
        """Loss per sample.

        Args:
            y_true: `classes` int [...] (>= 0 for positives, anything below counts nowhere) and
                `iou` float [...], the overlap of predicted and true box, in [0, 1].
            y_pred: float [..., C], logits of sigmoid scores.

        Returns:
            Float [...], 0 for samples that are not positive.
        """
        logits = tf.cast(y_pred, tf.float32)
        scores = tf.sigmoid(logits)
        labels = tf.one_hot(y_true["classes"], logits.shape[-1], dtype=logits.dtype)
        score = tf.reduce_sum(labels * scores, axis=-1)
        overlap = tf.cast(y_true["iou"], logits.dtype)
        positive = tf.cast(y_true["classes"] >= 0, logits.dtype)
        return positive * F.task_contrasting_loss(score, overlap, scores, self.margin)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "margin": self.margin}
