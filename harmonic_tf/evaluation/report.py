"""All measures of one evaluation, and the files and tables that show them."""

from __future__ import annotations

import json
import math
import os
import urllib.parse
from collections.abc import Mapping, Sequence

import numpy as np

from harmonic_tf.evaluation.coco import AP_METRICS, AR_METRICS, coco_evaluation
from harmonic_tf.evaluation.consistency import consistency
from harmonic_tf.evaluation.detections import Detections, GroundTruth
from harmonic_tf.evaluation.voc import voc_map
from harmonic_tf.files import write_text
from harmonic_tf.tables import markdown_table, markdown_text, number, text_table

_CONSISTENCY = {
    "mean_abs_gap": (
        "Mean |score - IoU|",
        "How far a score is from the overlap it stands for, on average: 0 is best.",
    ),
    "pearson": (
        "Pearson correlation",
        "Whether score and overlap lie on one straight line: 1 is best, 0 means that scores say "
        "nothing about overlap.",
    ),
    "spearman": (
        "Spearman correlation",
        "Whether sorting by score, as non-maximum suppression does, is sorting by overlap: 1 is "
        "best.",
    ),
    "confident_misplaced": (
        "Confident but misplaced",
        "Share of the detections with a score of at least 0.5 whose IoU is below 0.5: 0 is best.",
    ),
}


def evaluate(ground_truth: GroundTruth, detections: Detections) -> dict[str, dict]:
    """Measures detections in every way this package knows.

    Args:
        ground_truth: the annotated pictures.
        detections: what was found in them, after NMS.

    Returns:
        {"coco": see `coco_metrics`, "coco_per_class": {class name: {"AP", "AP50", "AP75"}},
        "voc": see `voc_map`, "consistency": see `consistency`, "counts": {"pictures", "objects",
        "difficult", "crowd", "detections"}}.

    Raises:
        ValueError: see `checks.check`.
    """
    overall, per_class = coco_evaluation(ground_truth, detections)
    return {
        "coco": overall,
        "coco_per_class": per_class,
        "voc": voc_map(ground_truth, detections),
        "consistency": consistency(ground_truth, detections),
        "counts": {
            "pictures": len(ground_truth.image_ids),
            "objects": len(ground_truth.classes),
            "difficult": int(np.count_nonzero(ground_truth.difficult)),
            "crowd": int(np.count_nonzero(ground_truth.crowd)),
            "detections": len(detections.scores),
        },
    }


def write_metrics(path: str, metrics: Mapping) -> None:
    """Writes metrics as strict JSON, NaN as null, atomically.

    Args:
        path: file to write; its folder exists.
        metrics: nested mappings and sequences of numbers and texts.

    Raises:
        ValueError: a number is infinite.
        OSError: the folder is missing or cannot be written to.
    """
    text = json.dumps(_plain(metrics), indent=2, allow_nan=False, ensure_ascii=False)
    write_text(path, text + "\n")


def results_table(metrics: Mapping[str, Mapping]) -> str:
    """The results as aligned plain text, for the terminal.

    Args:
        metrics: as `evaluate` returns them.

    Returns:
        Lines joined by newlines, without one at the end.
    """
    blocks = [
        _counts(metrics),
        *(text_table(row[0], row[1:]) for row in _coco_rows(metrics)),
        text_table(*_voc_rows(metrics)),
        text_table(("Score against IoU", ""), _consistency_rows(metrics)),
        text_table(*_class_rows(metrics)),
    ]
    return "\n\n".join(blocks)


def write_report(
    path: str,
    title: str,
    metrics: Mapping[str, Mapping],
    settings: Mapping[str, str],
    pictures: Sequence[str] = (),
    skipped: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> None:
    """Writes a Markdown report, atomically.

    Args:
        path: the file to write, for example `"runs/quickstart/report.md"`; its folder exists.
        title: first line.
        metrics: as `evaluate` returns them.
        settings: what the results were obtained with, name to value.
        pictures: image files to show, as paths from the working directory or absolute; the report
            refers to them relative to its own folder.
        skipped: one line for each example that was left out because it was bad.
        notes: paragraphs of Markdown to stand above the numbers.

    Raises:
        OSError: the folder is missing or cannot be written to.
    """
    blocks = [
        f"# {markdown_text(title)}",
        *notes,
        "## Results",
        _counts(metrics),
        *(markdown_table(row[0], row[1:]) for row in _coco_rows(metrics)),
        markdown_table(*_voc_rows(metrics)),
        "AP and AR are those of COCO (AP: mean over IoU 0.50 to 0.95; s, m, l: objects of up to "
        "32², up to 96² and more pixels; AR1, AR10, AR100: recall with so many detections per "
        "picture and class), mAP that of PASCAL VOC at IoU 0.50, by the rule of 2007 (11 points, "
        "VOC07) and that of 2010 (all points, VOC10). A dash: no object to ask for.",
        "## Classes",
        markdown_table(*_class_rows(metrics)),
        "## Do scores mean overlap?",
        "\n".join(
            f"- **{label}: {value}.** {how_to_read}"
            for (label, value), (_, how_to_read) in zip(
                _consistency_rows(metrics), _CONSISTENCY.values()
            )
        ),
        f"Taken over {metrics['consistency']['detections']:,} detections; IoU is that with the "
        "best object of the same class in the picture.",
    ]
    if settings:
        lines = [f"{name} = {value}" for name, value in settings.items()]
        blocks += ["## Settings", "\n".join(["```text", *lines, "```"])]
    if skipped:
        blocks += [
            f"## Skipped examples ({len(skipped):,})",
            "\n".join(f"- {markdown_text(line)}" for line in skipped),
        ]
    if pictures:
        blocks += ["## Pictures", *(_embedded(picture, path) for picture in pictures)]
    write_text(path, "\n\n".join(blocks) + "\n")


def _counts(metrics: Mapping[str, Mapping]) -> str:
    return ", ".join(f"{name}: {count:,}" for name, count in metrics["counts"].items())


def _coco_rows(metrics: Mapping[str, Mapping]) -> list[list[list[str]]]:
    """Two tables, of six AP and six AR, each a header and one row."""
    values = metrics["coco"]
    return [
        [["COCO", *names], ["all classes", *(number(values[name]) for name in names)]]
        for names in (AP_METRICS, AR_METRICS)
    ]


def _voc_rows(metrics: Mapping[str, Mapping]):
    values = [number(metrics["voc"][rule]) for rule in ("VOC07", "VOC10")]
    return ["VOC", "mAP (11 points)", "mAP (all points)"], [["all classes", *values]]


def _consistency_rows(metrics: Mapping[str, Mapping]) -> list[list[str]]:
    values = metrics["consistency"]
    return [[label, number(values[name])] for name, (label, _) in _CONSISTENCY.items()]


def _class_rows(metrics: Mapping[str, Mapping]):
    header = ["class", "AP", "AP50", "AP75", "VOC07", "VOC10"]
    rows = []
    for name, coco in metrics["coco_per_class"].items():
        values = {**coco, **metrics["voc"]["per_class"][name]}
        rows.append([name, *(number(values[column]) for column in header[1:])])
    return header, rows


def _embedded(picture: str, report: str) -> str:
    folder = os.path.dirname(os.path.abspath(report))
    relative = os.path.relpath(picture, folder).replace(os.sep, "/")
    name = os.path.splitext(os.path.basename(picture))[0]
    return f"![{markdown_text(name)}]({urllib.parse.quote(relative)})"


def _plain(value):
    """Mappings, sequences and NumPy numbers as JSON knows them; NaN as None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and math.isnan(value):
        return None
    return value
