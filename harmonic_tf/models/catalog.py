"""The detectors by name, and all that the rest of the product asks of one: a row each."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from harmonic_tf.anchors import AnchorGrid
from harmonic_tf.backend import keras
from harmonic_tf.losses import HarmonicLoss
from harmonic_tf.models.faster_rcnn import RPN_ANCHORS, HarmonicFasterRCNN
from harmonic_tf.models.joint.detector import JointDetector
from harmonic_tf.models.retinanet import HarmonicRetinaNet
from harmonic_tf.models.yolov8 import BOX_GAIN, FPN_DEPTHS, HarmonicYOLOV8Detector


@dataclasses.dataclass(frozen=True)
class CatalogEntry:
    """What it takes to build and to train a detector.

    Args:
        detector: its class.
        backbone: name of the backbone that it has where none is asked for.
        choices: arguments of the class that are for the user to choose.
        fixed: arguments of the class that make it this one.
        box_loss: arguments of `HarmonicLoss` that give the detector's own box loss.
        baseline: further ones that give, without coupling, its own loss.
        paper: those that give, with the paper's coupling, the paper's box loss.
        normalizes: whether its pyramid normalizes the backbone's features.
        anchors: where it has anchors, the usual ones.
    """

    detector: type[JointDetector]
    backbone: str
    choices: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    box_loss: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    baseline: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    paper: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    normalizes: bool = False
    anchors: AnchorGrid = dataclasses.field(default_factory=AnchorGrid)

    @property
    def has_anchors(self) -> bool:
        """Whether its predictions start from anchors; they start from cells otherwise."""
        return "anchors" in self.choices

    def build(
        self,
        backbone: keras.Model,
        num_classes: int,
        prediction_decoder: keras.layers.Layer,
        **choices: Any,
    ) -> JointDetector:
        """Builds the detector, untrained, with boxes as xyxy.

        Args:
            backbone: a keras-cv backbone.
            num_classes: number of classes, > 0.
            prediction_decoder: layer that turns dense boxes and scores into detections.
            **choices: arguments of detectors; those that are not this one's are left alone.

        Raises:
            ValueError: see the class.
        """
        own = {name: value for name, value in choices.items() if name in self.choices}
        return self.detector(
            backbone,
            num_classes,
            bounding_box_format="xyxy",
            prediction_decoder=prediction_decoder,
            **self.fixed,
            **own,
        )

    def loss(self, **given: Any) -> HarmonicLoss:
        """The detector's default loss, with some of its arguments given.

        Args:
            **given: arguments of `HarmonicLoss`.

        Raises:
            ValueError: the detector cannot be trained by it.
        """
        loss = HarmonicLoss(**{**self.detector.loss_defaults, **given})
        self.detector.check_loss(loss)
        return loss


CATALOG: dict[str, CatalogEntry] = {
    "retinanet": CatalogEntry(
        HarmonicRetinaNet,
        backbone="resnet50",
        choices=(
            *("anchors", "channels", "head_depth", "cosine_classifier"),
            *("positive_iou", "negative_iou"),
        ),
        box_loss={"iou_loss": None},
        baseline={"smooth_l1_weight": 1.0},  # Lin et al.'s
    ),
    "faster_rcnn": CatalogEntry(
        HarmonicFasterRCNN,
        backbone="resnet50",
        choices=("anchors", "channels", "proposals", "sampled_rois", "hidden_units"),
        box_loss={"iou_loss": None},
        anchors=RPN_ANCHORS,
    ),
    **{
        name: CatalogEntry(
            HarmonicYOLOV8Detector,
            backbone=name,
            fixed={"fpn_depth": depth},
            box_loss={"smooth_l1_weight": 0.0, "iou_loss": "ciou", "iou_weight": BOX_GAIN},
            paper={"smooth_l1_weight": 1.0, "iou_weight": 1.5},
            normalizes=True,
        )
        for name, depth in FPN_DEPTHS.items()
    },
}
