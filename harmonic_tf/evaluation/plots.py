"""Pictures of what a detector does: a sheet of detections, and scores against overlaps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle as RectanglePatch

from harmonic_tf.colors import Color, class_colors
from harmonic_tf.evaluation.canvas import Canvas
from harmonic_tf.evaluation.consistency import CONFIDENT, WELL_PLACED
from harmonic_tf.evaluation.detections import Detections, GroundTruth
from harmonic_tf.evaluation.layout import Rectangle, justified_rows
from harmonic_tf.evaluation.matching import pairwise_iou
from harmonic_tf.files import replacing

_SHEET_WIDTH = 1600  # pixels: four pictures of 400, or one screen
_MAX_ROW_HEIGHT = 640
_GAP = 8
_SHADE = (0.25, 0.25, 0.25)  # behind the labels of ground truth
_BINS = np.linspace(0, 1, 41)


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
        ground_truth: the objects, in pixels of these pictures.
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
        dashed="ground truth (named where missed)",
        solid=f"detection, score \u2265 {min_score:g}",
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
    names = ground_truth.class_names
    found_classes = detections.classes[found].tolist()
    object_classes = ground_truth.classes[objects].tolist()
    object_boxes = [_placed(ground_truth.boxes[row], scale, place) for row in objects]
    found_boxes = [_placed(detections.boxes[row], scale, place) for row in found]
    for box, k in zip(found_boxes[::-1], found_classes[::-1]):
        canvas.solid_box(box, colors[k])
    for box in object_boxes:
        canvas.dashed_box(box)

    taken: list[Rectangle] = []
    for box, k, score in zip(found_boxes, found_classes, detections.scores[found]):
        taken.append(canvas.label(f"{names[k]} {score:.2f}", box, place, taken, colors[k]))
    iou = pairwise_iou(ground_truth.boxes[objects], detections.boxes[found])
    same_class = np.equal.outer(ground_truth.classes[objects], detections.classes[found])
    missed = ~(same_class & (iou >= WELL_PLACED)).any(axis=1)
    for box, k, is_missed in zip(object_boxes, object_classes, missed):
        if is_missed:
            taken.append(canvas.label(names[k], box, place, taken, _SHADE))


def score_iou_scatter(path: str, scores: np.ndarray, ious: np.ndarray) -> None:
    """Plots each detection's score against its overlap, with both distributions, atomically.

    A consistent detector lies along the diagonal; what is confident but misplaced is shaded.

    Args:
        path: PNG file to write; its folder exists.
        scores: [K], in [0, 1].
        ious: [K], in [0, 1].

    Raises:
        OSError: the folder is missing or cannot be written to.
    """
    figure = Figure(figsize=(6, 6), dpi=100, layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=(5, 1), height_ratios=(1, 5))
    axes = figure.add_subplot(grid[1, 0])
    above = figure.add_subplot(grid[0, 0], sharex=axes)
    beside = figure.add_subplot(grid[1, 1], sharey=axes)

    axes.add_patch(
        RectanglePatch((CONFIDENT, 0), 1 - CONFIDENT, WELL_PLACED, color="tab:red", alpha=0.08)
    )
    axes.text(0.98, 0.02, "confident but misplaced", color="tab:red", ha="right", va="bottom")
    axes.plot((0, 1), (0, 1), color="gray", linewidth=1, linestyle="--")
    # The more points, the fainter each: several thousand still show where most of them lie.
    alpha = float(np.clip(1000 / max(len(scores), 1), 0.15, 0.7))
    axes.scatter(scores, ious, s=10, alpha=alpha, linewidths=0, color="tab:blue")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="score", ylabel="IoU with the object")

    # Logarithmic: most detections have a score and an IoU near 0 and would hide the others.
    counts = [np.histogram(values, _BINS)[0] for values in (scores, ious)]
    limits = (0.5, 2 * max(10, *counts[0], *counts[1]))
    above.stairs(counts[0], _BINS, baseline=limits[0], fill=True, color="tab:blue")
    beside.stairs(
        counts[1], _BINS, baseline=limits[0], fill=True, color="tab:blue", orientation="horizontal"
    )
    above.set(yscale="log", ylim=limits, ylabel="count")
    beside.set(xscale="log", xlim=limits, xlabel="count")
    above.tick_params(labelbottom=False)
    beside.tick_params(labelleft=False)
    for margin in (above, beside):
        margin.spines[["top", "right"]].set_visible(False)
    with replacing(path) as temporary:
        FigureCanvasAgg(figure).print_figure(temporary, format="png")


def _placed(xyxy: np.ndarray, scale: float, place: Rectangle) -> Rectangle:
    """A box of a picture on the sheet, as far as it is inside the picture."""
    left, right = np.clip(xyxy[::2] * scale, 0, place.width).tolist()
    top, bottom = np.clip(xyxy[1::2] * scale, 0, place.height).tolist()
    return Rectangle(place.x + left, place.y + top, right - left, bottom - top)
