"""HarmonicYOLOV8Detector: keras-cv's YOLOv8 with one loss over both branches."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from harmonic_tf import boxes as box_ops
from harmonic_tf.backend import keras, keras_cv, tf
from harmonic_tf.losses import CLASSIFICATION_LOSSES
from harmonic_tf.models.decoding import DetectionDecoder
from harmonic_tf.models.distances import (
    BINS,
    CELLS,
    centers_of,
    decode_distances,
    encode_distances,
    mean_distances,
)
from harmonic_tf.models.joint.detector import JointDetector
from harmonic_tf.models.prior import PRIOR, bias_of
from harmonic_tf.models.task_alignment import assign_cells

# Depth of the pyramid's blocks beside the backbone of the same name; as keras-cv's documentation
# of YOLOV8Detector recommends.
FPN_DEPTHS = {"yolov8_xs": 1, "yolov8_s": 1, "yolov8_m": 2, "yolov8_l": 3, "yolov8_xl": 3}

# Weight of the overlap loss beside a cross entropy of weight 1: 7.5 to 0.5, as in keras-cv.
BOX_GAIN = 15.0

_CLASS_LAYER = "yolo_v8_head_{}_class_3_conv"  # of a level: keras-cv's name of the last layer


@keras.saving.register_keras_serializable(package="harmonic_tf")
class HarmonicYOLOV8Detector(JointDetector, keras_cv.models.YOLOV8Detector):
    """YOLOv8 trained by `HarmonicLoss`, through plain `compile` and `fit`.

    Takes pictures as float [B, H, W, 3] with values from 0 to 255, and labels as `{"boxes":
    [B, M, 4], "classes": [B, M]}` padded with -1. Returns logits; `predict` returns detections
    after NMS. The network is keras-cv's, layer by layer.

    Args:
        backbone: a keras-cv backbone; see `harmonic_tf.models.build_backbone`.
        num_classes: number of classes C, > 0.
        bounding_box_format: format of labels and detections, as in keras-cv.
        fpn_depth: depth of the pyramid's blocks, > 0; `FPN_DEPTHS` has those of the sizes.
        prediction_decoder: layer that turns dense boxes and scores into detections; a
            `DetectionDecoder` with its defaults when None.
        name: name of the model.

    Raises:
        ValueError: for numbers out of their range or a backbone whose pictures do not fit the
            pyramid.

    Source: https://github.com/ultralytics/ultralytics by way of keras-cv; loss of arXiv 2108.10809.
    """

    # The full loss with the cross entropy, which has targets between 0 and 1, boxes weighed as
    # YOLOv8 weighs them: only on one scale do scores not feel that weight, see docs/method.md.
    loss_defaults = MappingProxyType(
        {
            "classification": "cross_entropy",
            "coupling": "unit",
            "smooth_l1_weight": 0.0,
            "iou_weight": BOX_GAIN,
        }
    )
    classification_losses = tuple(name for name, loss in CLASSIFICATION_LOSSES.items() if loss.soft)
    predicts_distributions = True

    def __init__(
        self,
        backbone: keras.Model,
        num_classes: int,
        bounding_box_format: str,
        fpn_depth: int = 2,
        prediction_decoder: keras.layers.Layer | None = None,
        name: str = "harmonic_yolov8_detector",
    ):
        for argument, value in (("num_classes", num_classes), ("fpn_depth", fpn_depth)):
            if value < 1:
                raise ValueError(
                    f"HarmonicYOLOV8Detector: {argument} = {value} must be at least 1."
                )
        if any(side is not None and side % 32 for side in backbone.input_shape[1:3]):
            raise ValueError(
                f"HarmonicYOLOV8Detector: picture size {backbone.input_shape[1:3]} must be a "
                "multiple of 32, the stride of the coarsest level."
            )
        # The network of keras-cv, up to the last convolutions of its heads.
        stock = keras_cv.models.YOLOV8Detector(
            backbone, num_classes, bounding_box_format, fpn_depth=fpn_depth
        )
        levels = range(1, len(CELLS.strides) + 1)
        last_of_box = [stock.get_layer(f"yolo_v8_head_{level}_box_3_conv") for level in levels]
        last_of_class = [stock.get_layer(_CLASS_LAYER.format(level)) for level in levels]
        for layer in last_of_class:
            layer.bias.assign(tf.fill(layer.bias.shape, bias_of(PRIOR)))

        def over_levels(layers: list[keras.layers.Layer], size: int, output: str) -> Any:
            # In float32, whatever the precision of the layers before.
            flat = keras.layers.Reshape((-1, size), dtype="float32")
            predictions = [flat(layer.output) for layer in layers]
            return keras.layers.Concatenate(axis=1, name=output, dtype="float32")(predictions)

        outputs = {
            "boxes": over_levels(last_of_box, 4 * BINS, "box"),
            "classes": over_levels(last_of_class, num_classes, "classification"),
        }
        # Past the constructor of keras-cv's YOLOV8Detector, whose outputs are scores.
        keras_cv.models.Task.__init__(self, inputs=stock.inputs[0], outputs=outputs, name=name)
        self.backbone = backbone
        self.num_classes = num_classes
        self.bounding_box_format = bounding_box_format
        self.fpn_depth = fpn_depth
        self._prediction_decoder = prediction_decoder or DetectionDecoder()

    def head_layers(self) -> list[keras.layers.Layer]:
        """The classification and the box head of every level."""
        return [layer for layer in self.layers if layer.name.startswith("yolo_v8_head_")]

    def last_layers(self) -> list[keras.layers.Layer]:
        """The last convolution of each."""
        return [layer for layer in self.head_layers() if layer.name.endswith("_3_conv")]

    def class_layers(self) -> list[keras.layers.Layer]:
        """The last layer of the class branch of each level."""
        levels = range(1, len(CELLS.strides) + 1)
        return [self.get_layer(_CLASS_LAYER.format(level)) for level in levels]

    def targets(
        self,
        labels: Mapping[str, tf.Tensor],
        predictions: Mapping[str, tf.Tensor],
        height: int,
        width: int,
    ):
        """Assigned class, box and score of every cell: see `HarmonicLoss.terms`."""
        boxes = box_ops.convert(labels["boxes"], self.bounding_box_format, "xyxy", height, width)
        cells = tf.constant(CELLS.boxes(height, width))
        classes, assigned, scores = assign_cells(
            centers_of(cells),
            boxes,
            labels["classes"],
            predictions["boxes"],
            tf.sigmoid(predictions["logits"]),
        )
        return {
            "classes": classes,
            "boxes": assigned,
            "offsets": encode_distances(assigned, cells),
            "scores": scores,
        }

    def dense_predictions(self, outputs: Mapping[str, tf.Tensor], height: int, width: int):
        """Logits, distances and decoded boxes of every cell: see `HarmonicLoss.terms`."""
        cells = tf.constant(CELLS.boxes(height, width))
        bins = tf.reshape(outputs["boxes"], [-1, cells.shape[0], 4, BINS])
        distances = mean_distances(bins)
        return {
            "logits": outputs["classes"],
            "bins": bins,
            "offsets": distances,
            "boxes": decode_distances(distances, cells),
        }

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, serialized."""
        return {
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "num_classes": self.num_classes,
            "bounding_box_format": self.bounding_box_format,
            "fpn_depth": self.fpn_depth,
            "prediction_decoder": keras.saving.serialize_keras_object(self._prediction_decoder),
            "name": self.name,
        }
