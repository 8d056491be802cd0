"""Draws single cases from close by: the crop, the boxes, and below in words what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable, NamedTuple

import numpy as np

from harmonic_tf.colors import class_colors
from harmonic_tf.evaluation.detections import Detections, GroundTruth
from harmonic_tf.evaluation.metrics.matching import pairwise_iou
from harmonic_tf.evaluation.reports.canvas import Canvas
from harmonic_tf.evaluation.reports.layout import Rectangle, fitted, shortened, window_around
from harmonic_tf.evaluation.reports.worst import Case

_COLUMNS = 3
_WIDTH, _HEIGHT = 380, 285  # of a crop's frame, pixels
_CAPTION_HEIGHT = 58  # pixels, for three lines
_GAP = 10
_SHADE = (0.25, 0.25, 0.25)  # behind the labels of ground truth
_NAME_LENGTH = 24  # characters of a class's name
_PICTURE_LENGTH = 40  # characters of a picture's name; as many fit below a crop


def draw_cases(
    path: str,
    cases: Sequence[Case],
    picture: Callable[[int], np.ndarray],
    ground_truth: GroundTruth,
    detections: Detections,
) -> None:
    """Draws cases as one PNG, three to a row, atomically.

    The detection of a case is solid, in the colour of its class, with its score; ground truth is
    dashed, and named where the case is about it.

    Args:
        path: file to write; its folder exists.
        cases: what to draw, in this order.
        picture: gives the picture at a position of `ground_truth.image_ids`, uint8 [H, W, 3].
        ground_truth: what the cases were picked from, in pixels of these pictures.
        detections: likewise.

    Raises:
        ValueError: there is no case.
        OSError: the folder is missing or cannot be written to.
    """
    if not cases:
        raise ValueError("draw_cases: cases = []: nothing to draw. Give one at least.")
    rows = -(-len(cases) // _COLUMNS)
    step_x, step_y = _WIDTH + _GAP, _HEIGHT + _CAPTION_HEIGHT + _GAP
    canvas = Canvas(min(len(cases), _COLUMNS) * step_x - _GAP, rows * step_y - _GAP)
    for i, case in enumerate(cases):
        frame = Rectangle(i % _COLUMNS * step_x, i // _COLUMNS * step_y, _WIDTH, _HEIGHT)
        _draw_case(canvas, frame, case, picture(case.picture), ground_truth, detections)
        canvas.caption(_caption(case, ground_truth, detections), frame)
    colors = class_colors(len(ground_truth.class_names))
    seen = sorted({int(detections.classes[c.detection]) for c in cases if c.detection >= 0})
    canvas.save(
        path,
        dashed="ground truth",
        solid="detection",
        classes={ground_truth.class_names[k]: colors[k] for k in seen},
    )


def _draw_case(
    canvas: Canvas,
    frame: Rectangle,
    case: Case,
    pixels: np.ndarray,
    ground_truth: GroundTruth,
    detections: Detections,
) -> None:
    view = _view(case, pixels.shape[:2], frame, ground_truth, detections)
    left, top, right, bottom = view.window
    canvas.picture(pixels[top:bottom, left:right], view.place)
    for row in np.flatnonzero(ground_truth.image_index == case.picture):
        canvas.dashed_box(view.box(ground_truth.boxes[row]), view.place)

    taken: list[Rectangle] = []
    if case.detection >= 0:
        k = detections.classes[case.detection]
        color = class_colors(len(ground_truth.class_names))[k]
        box = view.box(detections.boxes[case.detection])
        canvas.solid_box(box, color, view.place)
        text = f"{_class_name(ground_truth, k)} {detections.scores[case.detection]:.2f}"
        taken.append(canvas.label(text, box, view.place, taken, color))
    row = case.object if case.object >= 0 else _lies_on(case, ground_truth, detections)[0]
    if row >= 0:
        name = _class_name(ground_truth, ground_truth.classes[row])
        canvas.label(name, view.box(ground_truth.boxes[row]), view.place, taken, _SHADE)


class _View(NamedTuple):
    """A part of a picture (left, top, right, bottom, pixels) and where on the sheet it is shown."""

    window: tuple[int, int, int, int]
    place: Rectangle

    def box(self, xyxy: np.ndarray) -> Rectangle:
        """Where a box of the picture is on the sheet; may reach beyond the view."""
        left, top, right, _ = self.window
        scale = self.place.width / (right - left)
        x1, y1, x2, y2 = (float(value) for value in xyxy)
        x, y = self.place.x + (x1 - left) * scale, self.place.y + (y1 - top) * scale
        return Rectangle(x, y, (x2 - x1) * scale, (y2 - y1) * scale)


def _view(
    case: Case,
    size: tuple[int, int],
    frame: Rectangle,
    ground_truth: GroundTruth,
    detections: Detections,
) -> _View:
    """What to show of a picture of so many pixels (height, width), as large as the frame allows."""
    boxes = [
        table.boxes[row]
        for table, row in ((detections, case.detection), (ground_truth, case.object))
        if row >= 0
    ]
    x1, y1 = np.min(boxes, axis=0)[:2].tolist()
    x2, y2 = np.max(boxes, axis=0)[2:].tolist()
    left, top, right, bottom = window_around((x1, y1, x2, y2), size, frame.width / frame.height)
    place = fitted((bottom - top, right - left), frame)
    return _View((left, top, right, bottom), place)


def _caption(case: Case, ground_truth: GroundTruth, detections: Detections) -> list[str]:
    """Class, score and IoU; what more there is to say; which picture it is."""
    picture = f"picture {shortened(str(ground_truth.image_ids[case.picture]), _PICTURE_LENGTH)}"
    if case.detection >= 0:
        numbers = f"score {detections.scores[case.detection]:.2f}, IoU {case.iou:.2f}"
    if case.kind == "missed":
        name = _class_name(ground_truth, ground_truth.classes[case.object])
        best = f"best box: {numbers}" if case.detection >= 0 else "no box of its class on it"
        return [f"{name}: missed", best, picture]
    name = _class_name(ground_truth, detections.classes[case.detection])
    row, iou = _lies_on(case, ground_truth, detections)
    if row == case.object >= 0:
        return [f"{name}: {numbers}", picture]
    if row < 0:
        return [f"{name}: {numbers}", "on nothing that is annotated", picture]
    other = _class_name(ground_truth, ground_truth.classes[row])
    return [f"{name}: {numbers}", f"on {other}, IoU {iou:.2f}", picture]


def _lies_on(case: Case, ground_truth: GroundTruth, detections: Detections) -> tuple[int, float]:
    """The object, of any class, that a detection overlaps most, and how much; -1 for none."""
    if case.detection < 0:
        return -1, 0.0
    rows = np.flatnonzero((ground_truth.image_index == case.picture) & ~ground_truth.crowd)
    boxes = detections.boxes[case.detection : case.detection + 1]
    iou = pairwise_iou(boxes, ground_truth.boxes[rows])[0]
    if not iou.any():
        return -1, 0.0
    return int(rows[iou.argmax()]), float(iou.max())


def _class_name(ground_truth: GroundTruth, k: int) -> str:
    return shortened(ground_truth.class_names[k], _NAME_LENGTH)
