"""All that an inspection finds out about a data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from harmonic_tf.anchors import AnchorGrid
from harmonic_tf.data.inspection.files import PictureFile, picture_files
from harmonic_tf.data.inspection.fit import AnchorFit, CellFit
from harmonic_tf.data.inspection.survey import (
    NearDuplicate,
    Objects,
    Survey,
    near_duplicates,
    objects_of,
    survey,
)
from harmonic_tf.data.partition import Cut

_CELL_STRIDES = (8, 16, 32)  # YOLOv8's P3 to P5


class Findings(NamedTuple):
    """All that was found out, ready to be written down.

    Args:
        survey: what was read.
        objects: its objects, at the model's size too.
        image_size: that size, side of the square in pixels.
        fit: how the detector fits them.
        duplicates: boxes that are likely there twice.
        files: the encoded pictures.
    """

    survey: Survey
    objects: Objects
    image_size: int
    fit: AnchorFit | CellFit
    duplicates: Sequence[NearDuplicate]
    files: Sequence[PictureFile]

    @property
    def empty_pictures(self) -> np.ndarray:
        """Int [E], rows of the pictures without any object."""
        return np.flatnonzero(self.boxes_per_picture == 0)

    @property
    def boxes_per_picture(self) -> np.ndarray:
        """Int [P]."""
        return np.bincount(self.objects.picture, minlength=len(self.survey.annotations))

    @property
    def boxes_per_class(self) -> np.ndarray:
        """Int [C]."""
        return np.bincount(self.objects.classes, minlength=len(self.survey.class_names))

    @property
    def pictures_per_class(self) -> np.ndarray:
        """Int [C], how many pictures show each class."""
        count = len(self.survey.class_names)
        shown = np.unique(self.objects.picture * count + self.objects.classes) % count
        return np.bincount(shown, minlength=count)


def inspect(
    spec: str,
    splits: Sequence[str],
    class_names: Sequence[str] | None = None,
    image_size: int = 512,
    grid: AnchorGrid | None = None,
    positive_iou: float = 0.5,
    cut: Cut | None = None,
    on_truncated: str = "error",
) -> Findings:
    """Finds out all that the report says.

    Args:
        spec: see `sources.load`.
        splits: at least one.
        class_names: index by name; by default all that the splits name.
        image_size: side of the square that the model sees, pixels.
        grid: the detector's anchors; None for YOLOv8, which has cells alone.
        positive_iou: overlap from which an anchor learns an object, in [0, 1].
        cut: how one of the splits is cut, if it is.
        on_truncated: what to do about JPEGs that are cut off; see `check_pictures`.

    Raises:
        DataError: nothing of the data can be used.
    """
    surveyed = survey(spec, splits, class_names, cut, on_truncated)
    objects = objects_of(surveyed.annotations, image_size)
    if grid is None:
        fit = CellFit.measure(_CELL_STRIDES, objects, image_size)
    else:
        fit = AnchorFit.measure(grid, objects, image_size, positive_iou)
    return Findings(
        survey=surveyed,
        objects=objects,
        image_size=image_size,
        fit=fit,
        duplicates=list(near_duplicates(surveyed.annotations)),
        files=picture_files(surveyed.annotations),
    )
