"""Draws the figures of a report, and says in words what each one shows."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Callable

import numpy as np

from harmonic_tf.evaluation.detections import Detections, GroundTruth
from harmonic_tf.evaluation.metrics.average_precision import precision_recall
from harmonic_tf.evaluation.metrics.calibration import calibration_curve, operating_point
from harmonic_tf.evaluation.metrics.coco_matching import match
from harmonic_tf.evaluation.metrics.confusion import confusion_matrix
from harmonic_tf.evaluation.metrics.consistency import scores_and_ious
from harmonic_tf.evaluation.reports.charts import (
    bars,
    calibration_diagram,
    confusion_matrix_chart,
    precision_recall_curves,
    score_iou_scatter,
)
from harmonic_tf.evaluation.reports.crops import draw_cases
from harmonic_tf.evaluation.reports.document import Block, Picture, Pictures
from harmonic_tf.evaluation.reports.sections import GROUP_TITLES
from harmonic_tf.evaluation.reports.sheet import detection_sheet
from harmonic_tf.evaluation.reports.worst import worst_cases

_CURVES_AT = (0.5, 0.75)  # as AP50 and AP75
_AP_BARS = {"AP": "AP", "AP_oracle": "AP, oracle", "AP75": "AP75"}
_CONSISTENCY_BARS = {
    "mean_abs_gap": "mean |score - IoU|",
    "confident_misplaced": "confident but misplaced",
    "unconfident_well_placed": "well placed but unconfident",
}
_CASES = {
    "false_positives": (
        "False positives",
        "Detections with the highest scores that lie on no object of their class (IoU below 0.1).",
    ),
    "missed": (
        "Misses",
        "The largest objects that no detection with a score of at least 0.5 finds at IoU 0.5, "
        "with the box of their class that overlaps them most.",
    ),
    "misplaced": (
        "Confident but misplaced",
        "Detections with a score of at least 0.5 whose IoU is only 0.1 to 0.5.",
    ),
    "unconfident": (
        "Well placed but unconfident",
        "Detections that lie best of all on their object, with an IoU of at least 0.5, but score "
        "below 0.5.",
    ),
}


def draw_figures(
    folder: str,
    metrics: Mapping[str, Mapping],
    ground_truth: GroundTruth,
    detections: Detections,
    candidates: Detections | None,
    picture: Callable[[int], np.ndarray],
    sheet_pictures: Sequence[int],
    raw: Detections | None = None,
) -> dict[str, list[Block]]:
    """Draws everything a report shows, as PNG files.

    Args:
        folder: where to write; it exists.
        metrics: as `evaluate` returns them.
        ground_truth: the annotated pictures.
        detections: what was found in them, after NMS.
        candidates: the same before NMS, where known.
        picture: gives the picture at a position of `ground_truth.image_ids`, uint8 [H, W, 3].
        sheet_pictures: the positions of the pictures to show whole.
        raw: the detections before their scores were calibrated, if they were.

    Returns:
        What to show in the sections of `report_sections.TITLES`, by key.

    Raises:
        ValueError: see `checks.check`.
        OSError: the folder is missing or cannot be written to.
    """
    return {
        "accuracy": _curves(folder, ground_truth, detections),
        "consistency": _scatters(folder, ground_truth, detections, candidates),
        "calibration": _calibration(folder, metrics, ground_truth, detections, raw),
        "groups": _bars(folder, metrics),
        "confusion": _confusion(folder, ground_truth, detections),
        "worst": _worst(folder, ground_truth, detections, picture),
        "pictures": _sheet(folder, ground_truth, detections, picture, sheet_pictures),
    }


def _curves(folder: str, ground_truth: GroundTruth, detections: Detections) -> list[Block]:
    matches = match(ground_truth, detections, _CURVES_AT)
    wanted = np.unique(ground_truth.classes[matches.wanted])
    panels = {
        f"IoU {threshold:.2f}": {
            ground_truth.class_names[k]: precision_recall(ground_truth, detections, matches, t, k)[
                :2
            ]
            for k in wanted
        }
        for t, threshold in enumerate(_CURVES_AT)
    }
    path = os.path.join(folder, "precision_recall.png")
    precision_recall_curves(path, panels)
    return _shown(
        path,
        "Precision against recall of each class, at IoU 0.50 and 0.75.",
        "Precision against recall of each class, the best precision at that recall or more: AP50 "
        "and AP75 are the areas below. What the right one lacks is misplaced.",
    )


def _scatters(
    folder: str, ground_truth: GroundTruth, detections: Detections, candidates: Detections | None
) -> list[Block]:
    drawn = {"score_iou.png": ("after", detections)}
    if candidates is not None:
        drawn["score_iou_before_nms.png"] = ("before", candidates)
    pictures = []
    for name, (when, found) in drawn.items():
        path = os.path.join(folder, name)
        score_iou_scatter(path, *scores_and_ious(ground_truth, found))
        text = f"Score against IoU of each detection {when} non-maximum suppression."
        pictures.append(
            Picture(path, f"Scatter plot. {text}", f"{text} Consistent ones lie on the diagonal.")
        )
    return [Pictures(pictures)]


def _calibration(
    folder: str,
    metrics: Mapping[str, Mapping],
    ground_truth: GroundTruth,
    detections: Detections,
    raw: Detections | None,
) -> list[Block]:
    drawn = {"calibration.png": ("calibration", detections, "")}
    if raw is not None:
        drawn = {
            "calibration_before.png": ("before_calibration", raw, "Raw scores. "),
            "calibration.png": ("calibration", detections, "Calibrated scores. "),
        }
    pictures = []
    for name, (section, found, which) in drawn.items():
        known = metrics.get(section, {}).get("thresholds", {})
        thresholds = np.array([known.get(k) for k in ground_truth.class_names], np.float64)
        path = os.path.join(folder, name)
        scores, ious = operating_point(ground_truth, found, thresholds)
        calibration_diagram(path, *calibration_curve(scores, ious))
        pictures.append(
            Picture(
                path,
                f"{which}Calibration diagram: mean IoU of the detections in 25 bins of score.",
                f"{which}Mean IoU in 25 bins of score of the detections that LaECE is taken over, "
                "all classes together, IoU 0 for false positives; below, the share of them that a "
                "bin holds. Where scores mean overlap, bars end on the diagonal.",
            )
        )
    return [Pictures(pictures)]


def _bars(folder: str, metrics: Mapping[str, Mapping]) -> list[Block]:
    sizes = metrics.get("ranking", {}).get("by_size", {})
    panels = {"Size of the object": [{"group": size, **row} for size, row in sizes.items()]}
    for kind, groups in metrics.get("groups", {}).items():
        panels[GROUP_TITLES.get(kind, kind)] = groups
    pictures = []
    for name, title, series in (
        ("groups_ap.png", "AP, AP of the oracle ranking and AP75", _AP_BARS),
        ("groups_consistency.png", "Consistency of score and IoU", _CONSISTENCY_BARS),
    ):
        drawn = {panel: _series(groups, series) for panel, groups in panels.items()}
        drawn = {panel: values for panel, values in drawn.items() if values[1]}
        if drawn:
            path = os.path.join(folder, name)
            bars(path, drawn)
            pictures.append(Picture(path, f"Bar chart. {title} by group.", f"{title} by group."))
    return [Pictures([picture]) for picture in pictures]


def _series(
    groups: Sequence[Mapping], series: Mapping[str, str]
) -> tuple[list[str], dict[str, list[float]]]:
    """Names of the groups, with their numbers of objects, and the values of each known series."""
    names = [
        f"{group['group']}" + (f"\n({group['objects']:,})" if "objects" in group else "")
        for group in groups
    ]
    known = {key: label for key, label in series.items() if groups and key in groups[0]}
    return names, {label: [group[key] for group in groups] for key, label in known.items()}


def _confusion(folder: str, ground_truth: GroundTruth, detections: Detections) -> list[Block]:
    path = os.path.join(folder, "confusion.png")
    matrix = confusion_matrix(ground_truth, detections)
    confusion_matrix_chart(path, matrix, ground_truth.class_names)
    return _shown(
        path,
        "Confusion matrix of annotated against found classes, with background.",
        "Objects by their class (rows) and the class they are found as (columns): detections with "
        "a score of at least 0.5 that overlap the object with IoU 0.5 or more, whatever the class. "
        "Last column: missed; last row: detections of nothing.",
    )


def _worst(
    folder: str,
    ground_truth: GroundTruth,
    detections: Detections,
    picture: Callable[[int], np.ndarray],
) -> list[Block]:
    blocks: list[Block] = []
    cases = worst_cases(ground_truth, detections)
    for kind, (title, text) in _CASES.items():
        if cases[kind]:
            path = os.path.join(folder, f"worst_{kind}.png")
            draw_cases(path, cases[kind], picture, ground_truth, detections)
            blocks.append(f"{title}. {text}")
            blocks += _shown(path, f"{title}: crops of the worst ones.")
        else:
            blocks.append(f"{title}: none.")
    return blocks


def _sheet(
    folder: str,
    ground_truth: GroundTruth,
    detections: Detections,
    picture: Callable[[int], np.ndarray],
    positions: Sequence[int],
) -> list[Block]:
    if not len(positions):
        return []
    path = os.path.join(folder, "detections.png")
    detection_sheet(path, {i: picture(i) for i in positions}, ground_truth, detections)
    return _shown(
        path,
        f"{len(positions)} pictures with their objects and detections.",
        "Detections with a score of at least 0.3, and the annotated objects; those with a dark "
        "label were missed.",
    )


def _shown(path: str, alt: str, caption: str = "") -> list[Block]:
    return [Pictures([Picture(path, alt, caption)])]
