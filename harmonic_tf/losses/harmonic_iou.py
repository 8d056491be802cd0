"""The Harmonic IoU loss as a Keras loss of its own."""

from __future__ import annotations

from typing import Any

from harmonic_tf import boxes as box_ops
from harmonic_tf.backend import keras, tf
from harmonic_tf.losses import functional as F


@keras.saving.register_keras_serializable(package="harmonic_tf")
class HarmonicIoULoss(keras.losses.Loss):
    """The Harmonic IoU loss of boxes: a `box_loss` for keras-cv detectors that predict boxes.

    For `keras_cv.models.YOLOV8Detector.compile(box_loss=HarmonicIoULoss(reduction="sum"), ...)`
    and the like. keras-cv's own RetinaNet hands encoded offsets to its `box_loss`, which have no
    overlap: use `harmonic_tf.models.HarmonicRetinaNet` with `HarmonicLoss` there.

    Args:
        gamma: exponent g in [0, 1].
        bounding_box_format: format of the boxes, as in keras-cv; absolute ones only.
        reduction: Keras reduction of `__call__`.
        name: name of the loss.

    Raises:
        ValueError: when gamma is outside [0, 1] or the format is a relative one.

    Source: arXiv 2108.10809, Harmonic IoU loss.
    """

    def __init__(
        self,
        gamma: float = 0.8,
        bounding_box_format: str = "xyxy",
        reduction: str = "sum",
        name: str = "harmonic_iou_loss",
    ):
        super().__init__(reduction=reduction, name=name)
        if bounding_box_format.lower().startswith("rel_"):
            raise ValueError(
                f"HarmonicIoULoss: bounding_box_format = {bounding_box_format!r} is relative to a "
                "picture that a loss does not see. Choose an absolute one, such as 'xyxy'."
            )
        self.gamma = F.check_iou_gamma(gamma)
        self.bounding_box_format = bounding_box_format

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Loss per box.

        Args:
            y_true: float [..., 4], true boxes in `bounding_box_format`.
            y_pred: float [..., 4], predicted boxes, pair by pair.

        Returns:
            Float32 [...] in [0, 1].
        """
        truth, prediction = (
            box_ops.convert(tf.cast(b, tf.float32), self.bounding_box_format, "xyxy", 0, 0)
            for b in (y_true, y_pred)
        )
        return F.harmonic_iou_loss(box_ops.iou(truth, prediction), self.gamma)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "gamma": self.gamma,
            "bounding_box_format": self.bounding_box_format,
        }
