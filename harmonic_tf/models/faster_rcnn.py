"""HarmonicFasterRCNN: a two-stage detector whose second stage is trained by the joint loss."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from harmonic_tf import boxes as box_ops
from harmonic_tf.anchors import AnchorGrid
from harmonic_tf.backend import keras, tf
from harmonic_tf.losses import BACKGROUND, IGNORED, HarmonicLoss
from harmonic_tf.models.assignment import assign_anchors, match_boxes, padded
from harmonic_tf.models.box_head import BoxHead
from harmonic_tf.models.decoding import DetectionDecoder
from harmonic_tf.models.joint.detector import JointDetector
from harmonic_tf.models.joint.groups import MAIN
from harmonic_tf.models.proposals import (
    ANCHOR_VARIANCE,
    ProposalHead,
    Proposals,
    anchor_levels,
)
from harmonic_tf.models.pyramid import COARSEST, FeaturePyramid
from harmonic_tf.models.roi_align import RoiAlign
from harmonic_tf.models.sampling import random_ranks, sample

# Of the first stage, arXiv 1506.01497, section 3.1: overlaps from which an anchor is positive and
# below which it is background, and anchors sampled per picture, of which half are positive at most.
POSITIVE_ANCHOR_IOU, NEGATIVE_ANCHOR_IOU = 0.7, 0.3
SAMPLED_ANCHORS = 256

# Of the second, arXiv 1504.08083, section 2.3: overlap from which a region has a class, and the
# part of the sampled ones that have one at most.
POSITIVE_ROI_IOU = 0.5
POSITIVE_ROIS = 0.25

RPN = "rpn"
"""Name of the group of samples of the first stage."""

RPN_ANCHORS = AnchorGrid(strides=(4, 8, 16, 32, 64), scales=(1.0,))
"""The paper's: sides of eight strides, one scale."""

# Finest level of the pyramid by the stride of the finest anchors.
_FINEST = {4: 2, 8: 3}


@keras.saving.register_keras_serializable(package="harmonic_tf")
class HarmonicFasterRCNN(JointDetector):
    """Faster R-CNN on a feature pyramid, trained by `HarmonicLoss` through `compile` and `fit`.

    The loss of `compile` is that of the second stage, over sampled regions. The first stage keeps
    its own: cross entropy and smooth L1 of sampled anchors. Each is divided by the number of its
    samples in the global batch.

    Takes pictures as float [B, H, W, 3] with values from 0 to 255, and labels as `{"boxes":
    [B, M, 4], "classes": [B, M]}` padded with -1. `predict` returns detections after NMS.

    Args:
        backbone: a keras-cv backbone; see `harmonic_tf.models.build_backbone`.
        num_classes: number of classes C, > 0.
        bounding_box_format: format of labels and detections, as in keras-cv.
        anchors: the anchor grid, or its config; `RPN_ANCHORS` when None. Its strides say which
            pyramid there is: 4 to 64, P2 to P6; or 8 to 128, P3 to P7, at a quarter of the cost.
        channels: width of pyramid and first stage.
        proposals: regions per picture that the first stage hands on, > 0, and of each level the
            most that it chooses from.
        sampled_rois: how many of them, with the objects themselves, are learned per picture, in
            [1, proposals]; a quarter are positive at most.
        hidden_units: width of the second stage's two hidden layers.
        prediction_decoder: layer that turns boxes and scores into detections; a
            `DetectionDecoder` with its defaults when None.
        name: name of the model.

    Raises:
        ValueError: for numbers out of their range or a backbone that does not fit the pyramid.

    Source: Ren et al., arXiv 1506.01497; pyramid of Lin et al., arXiv 1612.03144; loss of
    arXiv 2108.10809.
    """

    loss_defaults = MappingProxyType({"classification": "softmax_cross_entropy"})
    classification_losses = ("softmax_cross_entropy",)
    further_losses = MappingProxyType(
        {
            RPN: HarmonicLoss(
                classification="cross_entropy",
                smooth_l1_beta=1.0 / 9.0,
                iou_loss=None,
                coupling=None,
                task_contrasting=False,
            )
        }
    )

    quantizable = False

    def __init__(
        self,
        backbone: keras.Model,
        num_classes: int,
        bounding_box_format: str,
        anchors: AnchorGrid | Mapping[str, Any] | None = None,
        channels: int = 256,
        proposals: int = 1000,
        sampled_rois: int = 512,
        hidden_units: int = 1024,
        prediction_decoder: keras.layers.Layer | None = None,
        name: str = "harmonic_faster_rcnn",
    ):
        anchors = anchors or RPN_ANCHORS
        anchors = anchors if isinstance(anchors, AnchorGrid) else AnchorGrid(**anchors)
        _check_arguments(backbone, num_classes, anchors, proposals, sampled_rois)

        finest = _FINEST[anchors.strides[0]]
        names = [f"P{level}" for level in range(finest, COARSEST + 1)]
        extractor = keras.Model(
            backbone.inputs,
            {k: backbone.get_layer(backbone.pyramid_level_inputs[k]).output for k in names},
        )
        images = keras.layers.Input(backbone.input_shape[1:], name="images")
        pyramid = FeaturePyramid(channels, finest, pooled=True, name="pyramid")
        features = pyramid(extractor(images))

        # In float32, whatever the precision of the layers before.
        head = ProposalHead(anchors.per_cell, channels, name="proposal_head")
        flat = {
            size: keras.layers.Reshape((-1, size), dtype="float32", name=f"flat_{size}")
            for size in (1, 4)
        }
        of_levels = [head(feature) for feature in features]
        logits = [flat[1](values) for values, _ in of_levels]
        offsets = [flat[4](values) for _, values in of_levels]
        propose = Proposals(anchors.get_config(), proposals, proposals, name="proposals")
        rois = propose({"images": images, "logits": logits, "offsets": offsets})
        join = {
            output: keras.layers.Concatenate(axis=1, dtype="float32", name=output)
            for output in ("rpn_logits", "rpn_offsets")
        }
        first = {
            "rpn_logits": join["rpn_logits"](logits),
            "rpn_offsets": join["rpn_offsets"](offsets),
            "rois": rois,
        }
        # The coarsest levels are for proposals alone, as in arXiv 1612.03144.
        features = features[: len(names)]
        align = RoiAlign(anchors.strides[: len(names)], name="roi_align")
        box_head = BoxHead(num_classes, hidden_units, name="box_head")
        second = {
            output: keras.layers.Activation("linear", dtype="float32", name=output)
            for output in ("logits", "offsets")
        }

        def classify(features: Any, rois: Any) -> dict[str, Any]:
            values = box_head(align({"features": features, "rois": rois}))
            return {name: layer(value) for (name, layer), value in zip(second.items(), values)}

        super().__init__(inputs=images, outputs={**first, **classify(features, rois)}, name=name)
        # Past Keras's attribute tracking: these are no layers beside those above.
        stages = keras.Model(images, {**first, "features": features}), classify
        object.__setattr__(self, "_stages", stages)
        self.backbone = backbone
        self.num_classes = num_classes
        self.bounding_box_format = bounding_box_format
        self.anchors = anchors
        self.channels = channels
        self.proposals = proposals
        self.sampled_rois = sampled_rois
        self.hidden_units = hidden_units
        self._prediction_decoder = prediction_decoder or DetectionDecoder()

    def head_layers(self) -> list[keras.layers.Layer]:
        """The heads of both stages."""
        return [self.get_layer("proposal_head"), self.get_layer("box_head")]

    def last_layers(self) -> list[keras.layers.Layer]:
        """The last layers of the second stage."""
        return self.get_layer("box_head").last

    def class_layers(self) -> list[keras.layers.Layer]:
        """The layer of the classes; the background has its own."""
        return [self.get_layer("box_head").classes]

    def class_scores(self, logits: tf.Tensor) -> tf.Tensor:
        """Softmax scores without the background's: [B, A, C + 1] to [B, A, C]."""
        return tf.nn.softmax(logits)[..., :-1]

    def labelled_outputs(
        self, images: tf.Tensor, labels: Mapping[str, tf.Tensor], training: bool
    ) -> dict[str, tf.Tensor]:
        """The outputs with sampled regions in place of all; the objects may be among them."""
        find, classify = self._stages
        height, width = images.shape[1:3]
        outputs = find(images, training=training)
        features = outputs.pop("features")
        rois = self._sampled(outputs["rois"], labels, height, width)
        return {**outputs, "rois": rois, **classify(features, rois)}

    def _objects(self, labels, height: int, width: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Boxes, xyxy in pixels, and classes."""
        boxes = box_ops.convert(labels["boxes"], self.bounding_box_format, "xyxy", height, width)
        return boxes, labels["classes"]

    def _ranks(self, labels, count: int) -> tf.Tensor:
        step = self.weight_update.attempted
        return random_ranks(labels["boxes"], labels["classes"], step, count)

    def _sampled(self, proposals, labels, height: int, width: int) -> tf.Tensor:
        """Regions to learn from, [B, sampled_rois, 4]: proposals, and the objects themselves."""
        boxes, classes = self._objects(labels, height, width)
        boxes, classes, real = padded(boxes, classes)
        candidates = tf.concat([proposals, boxes], axis=1)
        found, _ = match_boxes(candidates, boxes, classes, POSITIVE_ROI_IOU, POSITIVE_ROI_IOU)
        there = tf.concat([tf.ones_like(proposals[..., 0], tf.bool), real], axis=1)
        index, _ = sample(
            (found >= 0) & there,
            (found == BACKGROUND) & there,
            self._ranks(labels, tf.shape(candidates)[1]),
            self.sampled_rois,
            int(POSITIVE_ROIS * self.sampled_rois),
            fill=True,
        )
        return tf.stop_gradient(tf.gather(candidates, index, batch_dims=1))

    def _sampled_anchors(self, labels, height: int, width: int) -> dict[str, tf.Tensor]:
        """`y_true` of the first stage, with the sampled `anchors` and their `index` among all."""
        boxes, classes = self._objects(labels, height, width)
        anchors = tf.concat(anchor_levels(self.anchors, height, width), axis=0)
        state, assigned = assign_anchors(
            anchors, boxes, tf.minimum(classes, 0), POSITIVE_ANCHOR_IOU, NEGATIVE_ANCHOR_IOU
        )
        total = anchors.shape[0]
        count = min(SAMPLED_ANCHORS, total)
        index, drawn = sample(
            state >= 0, state == BACKGROUND, self._ranks(labels, total), count, count // 2
        )
        state, assigned = (tf.gather(v, index, batch_dims=1) for v in (state, assigned))
        own = tf.gather(anchors, index)
        return {
            "classes": tf.where(drawn, state, IGNORED),
            "boxes": assigned,
            "offsets": box_ops.encode(assigned, own, ANCHOR_VARIANCE),
            "anchors": own,
            "index": index,
        }

    def sample_groups(
        self,
        labels: Mapping[str, tf.Tensor],
        outputs: Mapping[str, tf.Tensor],
        height: int,
        width: int,
    ):
        """The sampled regions, and the sampled anchors as the group `RPN`."""
        y_true = self._sampled_anchors(labels, height, width)
        logits, offsets = (
            tf.gather(outputs[name], y_true["index"], batch_dims=1)
            for name in ("rpn_logits", "rpn_offsets")
        )
        boxes = box_ops.decode(offsets, y_true["anchors"], ANCHOR_VARIANCE)
        y_pred = {"logits": logits, "offsets": offsets, "boxes": boxes}
        groups = super().sample_groups(labels, outputs, height, width)
        return {**groups, RPN: (y_true, y_pred)}

    def sample_counts(
        self, labels: Mapping[str, tf.Tensor], height: int, width: int
    ) -> dict[str, tf.Tensor]:
        """How many regions and how many anchors are sampled."""
        classes = self._sampled_anchors(labels, height, width)["classes"]
        pictures = tf.cast(tf.shape(classes)[0], tf.float32)
        return {
            MAIN: pictures * self.sampled_rois,
            RPN: tf.reduce_sum(tf.cast(classes != IGNORED, tf.float32)),
        }

    def targets(
        self,
        labels: Mapping[str, tf.Tensor],
        predictions: Mapping[str, tf.Tensor],
        height: int,
        width: int,
    ):
        """Class and box of every region, by its overlap: see `HarmonicLoss.terms`."""
        objects = self._objects(labels, height, width)
        rois = predictions["rois"]
        classes, assigned = match_boxes(rois, *objects, POSITIVE_ROI_IOU, POSITIVE_ROI_IOU)
        return {
            "classes": classes,
            "boxes": assigned,
            "offsets": box_ops.encode(assigned, rois),
        }

    def dense_predictions(self, outputs: Mapping[str, tf.Tensor], height: int, width: int):
        """Logits, offsets and decoded boxes of every region, and the region itself."""
        return {
            "logits": outputs["logits"],
            "offsets": outputs["offsets"],
            "boxes": box_ops.decode(outputs["offsets"], outputs["rois"]),
            "rois": outputs["rois"],
        }

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, serialized."""
        return {
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "num_classes": self.num_classes,
            "bounding_box_format": self.bounding_box_format,
            "anchors": self.anchors.get_config(),
            "channels": self.channels,
            "proposals": self.proposals,
            "sampled_rois": self.sampled_rois,
            "hidden_units": self.hidden_units,
            "prediction_decoder": keras.saving.serialize_keras_object(self._prediction_decoder),
            "name": self.name,
        }


def _check_arguments(backbone, num_classes, anchors, proposals, sampled_rois) -> None:
    where = "HarmonicFasterRCNN"
    if num_classes < 1:
        raise ValueError(f"{where}: num_classes = {num_classes} must be at least 1.")
    if not 1 <= sampled_rois <= proposals:
        raise ValueError(
            f"{where}: sampled_rois = {sampled_rois} must be in [1, proposals = {proposals}]."
        )
    if anchors.strides not in (RPN_ANCHORS.strides, AnchorGrid().strides):
        raise ValueError(
            f"{where}: anchors have strides {anchors.strides}; they must be "
            f"{RPN_ANCHORS.strides}, the pyramid's levels P2 to P6, or {AnchorGrid().strides}, P3 "
            "to P7."
        )
    finest = f"P{_FINEST[anchors.strides[0]]}"
    if finest not in backbone.pyramid_level_inputs:
        raise ValueError(
            f"{where}: anchors begin at the stride {anchors.strides[0]}, the backbone's features "
            f"{finest}, which {type(backbone).__name__} has not. Begin at 8."
        )
    if any(side is not None and side % 32 for side in backbone.input_shape[1:3]):
        raise ValueError(
            f"{where}: picture size {backbone.input_shape[1:3]} must be a multiple of 32, the "
            "stride of the coarsest backbone level."
        )
