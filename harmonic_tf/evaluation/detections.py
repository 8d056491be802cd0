"""The data types of the evaluation layer: ground truth and detections as plain NumPy arrays.

Any detector can be measured: fill a `Detections` and a `GroundTruth` and call the functions of
this package. Boxes are xyxy in absolute pixels of the source pictures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Union

import numpy as np

ImageId = Union[int, str]


@dataclasses.dataclass(frozen=True)
class GroundTruth:
    """Annotated objects of P pictures, one row an object.

    Args:
        image_ids: the P pictures' ids, each once; objects point to them by position.
        class_names: the C classes' names.
        image_index: int64 [N], which picture each object is in, 0 <= index < P.
        boxes: float32 [N, 4], xyxy, pixels of the source picture.
        classes: int64 [N], 0 <= class < C.
        difficult: bool [N], ignored by VOC evaluation: neither asked for nor punished.
        crowd: bool [N], COCO crowd regions.
        extras: further numbers per object by name, float32 [N], NaN where unknown: `area` of the
            object itself, pixels^2 (its box where unknown); `occlusion`, the visible fraction, 1
            is fully visible; `irregularity`, 1 - area / box area; `truncated`, 0 or 1.
    """

    image_ids: Sequence[ImageId]
    class_names: Sequence[str]
    image_index: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    difficult: np.ndarray
    crowd: np.ndarray
    extras: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Detections:
    """What a detector found in the pictures of a `GroundTruth`, one row a detection, after NMS.

    Args:
        image_index: int64 [D], position in `GroundTruth.image_ids`.
        boxes: float32 [D, 4], xyxy, pixels of the source picture.
        scores: float32 [D], in [0, 1].
        classes: int64 [D].
    """

    image_index: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray

    def take(self, rows: np.ndarray) -> Detections:
        """Some of the rows.

        Args:
            rows: bool [D], or int [K] in the order wanted.
        """
        fields = (field.name for field in dataclasses.fields(self))
        return Detections(*(getattr(self, name)[rows] for name in fields))
