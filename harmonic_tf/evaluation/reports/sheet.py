"""Sheets of pictures with what is in them and what was found."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from harmonic_tf.colors import Color, class_colors
from harmonic_tf.evaluation.detections import Detections, GroundTruth
from harmonic_tf.evaluation.metrics.consistency import WELL_PLACED
from harmonic_tf.evaluation.metrics.matching import pairwise_iou
from harmonic_tf.evaluation.reports.canvas import Canvas
from harmonic_tf.evaluation.reports.layout import Rectangle, justified_rows, shortened

_SHEET_WIDTH = 1600  # pixels: four pictures of 400, or one screen
_MAX_ROW_HEIGHT = 640
_GAP = 8
_NAME_LENGTH = 24  # characters of a class's name in a label
_SHADE = (0.25, 0.25, 0.25)  # behind the labels of ground truth


def detection_sheet(
    path: str,
    pictures: Mapping[int, np.ndarray],
    ground_truth: GroundTruth,
    detections: Detections,
    min_score: float = 0.3,
    columns: int = 4,
) -> None:
    """Draws pictures with what is in them and what was found, as one PNG, atomically.

    A detection is solid in the colour of its class, with class and score. Ground truth is dashed
    in black and white, with its class where no drawn detection of that class lies on it already
    (IoU at least 0.5): what has a dark label was missed.

    Args:
        path: file to write; its folder exists.
        pictures: uint8 [H, W, 3] of any size, by position in `ground_truth.image_ids`; drawn in
            this order. Twelve make a sheet of 4 x 3.
        ground_truth: the objects, in pixels of these pictures; there may be none.
        detections: what was found.
        min_score: detections below are not drawn.
        columns: pictures per row.

    Raises:
        ValueError: there is no picture.
        OSError: the folder is missing or cannot be written to.
    """
    if not pictures:
        raise ValueError("detection_sheet: pictures = {}: nothing to draw. Give one at least.")
    sizes = [picture.shape[:2] for picture in pictures.values()]
    places = justified_rows(sizes, columns, _SHEET_WIDTH, _GAP, _MAX_ROW_HEIGHT)
    canvas = Canvas(
        width=max(place.x + place.width for place in places),
        height=places[-1].y + places[-1].height,
    )
    names = ground_truth.class_names
    colors = class_colors(len(names))
    by_score = np.argsort(-detections.scores, kind="stable")
    drawn = by_score[detections.scores[by_score] >= min_score]

    seen = set()
    for (index, picture), place in zip(pictures.items(), places):
        objects = np.flatnonzero(ground_truth.image_index == index)
        found = drawn[detections.image_index[drawn] == index]
        canvas.picture(picture, place)
        scale = place.width / picture.shape[1]
        _draw_objects(canvas, place, scale, ground_truth, objects, detections, found, colors)
        seen.update(detections.classes[found].tolist())

    canvas.save(
        path,
        dashed="ground truth (named where missed)" if len(ground_truth.classes) else None,
        solid=f"detection, score \u2265 {min_score:g}" if min_score > 0.0 else "detection",
        classes={names[k]: colors[k] for k in sorted(seen)},
    )


def _draw_objects(
    canvas: Canvas,
    place: Rectangle,
    scale: float,
    ground_truth: GroundTruth,
    objects: np.ndarray,
    detections: Detections,
    found: np.ndarray,
    colors: list[Color],
) -> None:
    """Draws the objects and detections, given by their rows, of one picture."""
    names = [shortened(name, _NAME_LENGTH) for name in ground_truth.class_names]
    found_classes = detections.classes[found].tolist()
    object_classes = ground_truth.classes[objects].tolist()
    object_boxes = [_placed(ground_truth.boxes[row], scale, place) for row in objects]
    found_boxes = [_placed(detections.boxes[row], scale, place) for row in found]
    for box, k in zip(found_boxes[::-1], found_classes[::-1]):
        canvas.solid_box(box, colors[k], place)
    for box in object_boxes:
        canvas.dashed_box(box, place)

    taken: list[Rectangle] = []
    for box, k, score in zip(found_boxes, found_classes, detections.scores[found]):
        taken.append(canvas.label(f"{names[k]} {score:.2f}", box, place, taken, colors[k]))
    iou = pairwise_iou(ground_truth.boxes[objects], detections.boxes[found])
    same_class = np.equal.outer(ground_truth.classes[objects], detections.classes[found])
    missed = ~(same_class & (iou >= WELL_PLACED)).any(axis=1)
    for box, k, is_missed in zip(object_boxes, object_classes, missed):
        if is_missed:
            taken.append(canvas.label(names[k], box, place, taken, _SHADE))


def _placed(xyxy: np.ndarray, scale: float, place: Rectangle) -> Rectangle:
    """A box of a picture on the sheet, as far as it is inside the picture."""
    left, right = np.clip(xyxy[::2] * scale, 0, place.width).tolist()
    top, bottom = np.clip(xyxy[1::2] * scale, 0, place.height).tolist()
    return Rectangle(place.x + left, place.y + top, right - left, bottom - top)
