"""HarmonicRetinaNet: keras-cv's RetinaNet with one loss over both branches."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from harmonic_tf import boxes as box_ops
from harmonic_tf.anchors import AnchorGrid
from harmonic_tf.backend import keras, keras_cv, tf
from harmonic_tf.models.assignment import assign_anchors, label_boxes
from harmonic_tf.models.decoding import DetectionDecoder
from harmonic_tf.models.joint.detector import JointDetector
from harmonic_tf.models.prior import PRIOR
from harmonic_tf.models.pyramid import FeaturePyramid, PredictionHead

# Of smooth L1 in the joint loss. The paper's RetinaNet learns offsets in sides of the anchor; here
# they are divided by 0.1 (centre) and 0.2 (size), which makes smooth L1 5 to 10 times as large.
SMOOTH_L1_WEIGHT = 0.15


@keras.saving.register_keras_serializable(package="harmonic_tf")
class HarmonicRetinaNet(JointDetector, keras_cv.models.RetinaNet):
    """RetinaNet trained by `HarmonicLoss`, through plain `compile` and `fit`.

    Takes pictures as float [B, H, W, 3] with values from 0 to 255, and labels as `{"boxes":
    [B, M, 4], "classes": [B, M]}` padded with -1. `predict` returns detections after NMS.

    Args:
        backbone: a keras-cv backbone; see `harmonic_tf.models.build_backbone`.
        num_classes: number of classes C, > 0.
        bounding_box_format: format of labels and detections, as in keras-cv.
        anchors: the anchor grid, or its config; strides must be those of P3 to P7.
        channels: width of pyramid and heads.
        head_depth: hidden layers per head.
        positive_iou: overlap from which an anchor is positive, in [0, 1].
        negative_iou: overlap below which an anchor is background, in [0, positive_iou].
        prediction_decoder: layer that turns dense boxes and scores into detections; a
            `DetectionDecoder` with its defaults when None.
        name: name of the model.
        cosine_classifier: whether class logits are scaled cosines; see `CosineConv2D`.

    Raises:
        ValueError: for numbers out of their range or a backbone whose pictures do not fit the
            pyramid.

    Source: Lin et al., arXiv 1708.02002; loss of arXiv 2108.10809.
    """

    # The full loss, with smooth L1 on the paper's scale.
    loss_defaults = MappingProxyType({"smooth_l1_weight": SMOOTH_L1_WEIGHT})
    labels_regressed_boxes = True

    def __init__(
        self,
        backbone: keras.Model,
        num_classes: int,
        bounding_box_format: str,
        anchors: AnchorGrid | Mapping[str, Any] | None = None,
        channels: int = 256,
        head_depth: int = 4,
        positive_iou: float = 0.5,
        negative_iou: float = 0.4,
        prediction_decoder: keras.layers.Layer | None = None,
        name: str = "harmonic_retinanet",
        cosine_classifier: bool = False,
    ):
        anchors = anchors or AnchorGrid()
        anchors = anchors if isinstance(anchors, AnchorGrid) else AnchorGrid(**anchors)
        _check_arguments(backbone, num_classes, anchors, positive_iou, negative_iou)

        levels = {level: backbone.pyramid_level_inputs[level] for level in ("P3", "P4", "P5")}
        extractor = keras.Model(
            backbone.inputs, {k: backbone.get_layer(v).output for k, v in levels.items()}
        )
        pyramid = FeaturePyramid(channels, name="pyramid")
        classification_head = PredictionHead(
            anchors.per_cell * num_classes,
            PRIOR,
            channels,
            head_depth,
            cosine_classifier,
            name="classification_head",
        )
        box_head = PredictionHead(anchors.per_cell * 4, None, channels, head_depth, name="box_head")

        images = keras.layers.Input(backbone.input_shape[1:], name="images")
        features = pyramid(extractor(images))

        def over_levels(head: keras.layers.Layer, size: int, output: str) -> Any:
            # In float32, whatever the precision of the layers before.
            flat = keras.layers.Reshape((-1, size), dtype="float32")
            predictions = [flat(head(feature)) for feature in features]
            return keras.layers.Concatenate(axis=1, name=output, dtype="float32")(predictions)

        outputs = {
            "box": over_levels(box_head, 4, "box"),
            "classification": over_levels(classification_head, num_classes, "classification"),
        }
        # Past the constructor of keras-cv's RetinaNet, whose heads and pyramid are not these.
        keras_cv.models.Task.__init__(self, inputs=images, outputs=outputs, name=name)
        self.backbone = backbone
        self.num_classes = num_classes
        self.bounding_box_format = bounding_box_format
        self.anchors = anchors
        self.channels = channels
        self.head_depth = head_depth
        self.cosine_classifier = cosine_classifier
        self.positive_iou = positive_iou
        self.negative_iou = negative_iou
        self._prediction_decoder = prediction_decoder or DetectionDecoder()

    def head_layers(self) -> list[keras.layers.Layer]:
        """The classification and the box head."""
        return [self.get_layer("classification_head"), self.get_layer("box_head")]

    def last_layers(self) -> list[keras.layers.Layer]:
        """The last convolution of each."""
        return [head.prediction for head in self.head_layers()]

    def class_layers(self) -> list[keras.layers.Layer]:
        """The last layer of the classification head."""
        return [self.get_layer("classification_head").prediction]

    def targets(
        self,
        labels: Mapping[str, tf.Tensor],
        predictions: Mapping[str, tf.Tensor],
        height: int,
        width: int,
    ):
        """Assigned class and box of every anchor, by geometry alone: see `HarmonicLoss.terms`.

        And the class of its predicted box, by the same overlaps.
        """
        boxes = box_ops.convert(labels["boxes"], self.bounding_box_format, "xyxy", height, width)
        anchors = tf.constant(self.anchors.boxes(height, width))
        objects = (boxes, labels["classes"], self.positive_iou, self.negative_iou)
        classes, assigned = assign_anchors(anchors, *objects)
        return {
            "classes": classes,
            "boxes": assigned,
            "offsets": box_ops.encode(assigned, anchors),
            "regressed_classes": label_boxes(predictions["boxes"], *objects),
        }

    def dense_predictions(self, outputs: Mapping[str, tf.Tensor], height: int, width: int):
        """Logits, offsets and decoded boxes of every anchor: see `HarmonicLoss.terms`."""
        anchors = tf.constant(self.anchors.boxes(height, width))
        return {
            "logits": outputs["classification"],
            "offsets": outputs["box"],
            "boxes": box_ops.decode(outputs["box"], anchors),
        }

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, serialized."""
        return {
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "num_classes": self.num_classes,
            "bounding_box_format": self.bounding_box_format,
            "anchors": self.anchors.get_config(),
            "channels": self.channels,
            "head_depth": self.head_depth,
            "positive_iou": self.positive_iou,
            "negative_iou": self.negative_iou,
            "prediction_decoder": keras.saving.serialize_keras_object(self._prediction_decoder),
            "name": self.name,
            "cosine_classifier": self.cosine_classifier,
        }


def _check_arguments(backbone, num_classes, anchors, positive_iou, negative_iou) -> None:
    if num_classes < 1:
        raise ValueError(f"HarmonicRetinaNet: num_classes = {num_classes} must be at least 1.")
    if not 0.0 <= negative_iou <= positive_iou <= 1.0:
        raise ValueError(
            f"HarmonicRetinaNet: negative_iou = {negative_iou}, positive_iou = {positive_iou} must "
            "satisfy 0 <= negative_iou <= positive_iou <= 1."
        )
    if anchors.strides != AnchorGrid().strides:
        raise ValueError(
            f"HarmonicRetinaNet: anchors have strides {anchors.strides}, the pyramid's levels P3 "
            f"to P7 have {AnchorGrid().strides}."
        )
    if any(side is not None and side % 32 for side in backbone.input_shape[1:3]):
        raise ValueError(
            f"HarmonicRetinaNet: picture size {backbone.input_shape[1:3]} must be a multiple of "
            "32, the stride of the coarsest backbone level."
        )
