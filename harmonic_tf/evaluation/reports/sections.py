"""The metrics of an evaluation as the sections of a report: what stands where, and how to read it.

Any section of the metrics may be missing; any number may be NaN, or None as in `metrics.json`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from harmonic_tf.evaluation.metrics.coco import AP_METRICS, AR_METRICS
from harmonic_tf.evaluation.reports.document import (
    Block,
    Cards,
    Cell,
    Measures,
    Number,
    Section,
    Table,
    leaves,
    pointer,
    pointers,
)

TITLES = {
    "summary": "Summary",
    "accuracy": "Accuracy",
    "consistency": "Do scores mean overlap?",
    "ranking": "What inconsistency costs",
    "suppression": "Does suppression keep the better box?",
    "calibration": "Calibration",
    "groups": "Where it matters",
    "confusion": "What is taken for what",
    "worst": "What to look at first",
    "pictures": "Pictures",
    "classes": "Classes",
    "further": "Further numbers",
}
"""The sections of a report, in order."""

_SUMMARY = {
    ("coco", "AP"): "AP",
    ("coco", "AP75"): "AP75",
    ("ranking", "cost"): "AP lost to ranking",
    ("consistency", "mean_abs_gap"): "Mean |score - IoU|",
    ("calibration", "LaECE"): "LaECE\u2080",
    ("calibration", "LRP"): "LRP error",
}
_COUNTS = ("pictures", "objects", "difficult", "crowd", "detections")
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
    "unconfident_well_placed": (
        "Well placed but unconfident",
        "Share of the detections with an IoU of at least 0.5 whose score is below 0.5: 0 is best.",
    ),
    "detections": ("Detections", "How many these numbers are taken over."),
}
_SUPPRESSION = {
    "suppressed": ("Suppressed boxes", "How many boxes non-maximum suppression removed."),
    "contested": ("Kept boxes with rivals", "How many of the kept boxes removed at least one."),
    "better_suppressed": (
        "The suppressed box was the better one",
        "Share of the kept boxes with rivals of which one rival lay better on the object: 0 is "
        "best.",
    ),
    "iou_lost": (
        "IoU lost by it",
        "How much more of the object that rival had, on average, where one was better: 0 is best.",
    ),
}
_CALIBRATION = {
    "LaECE": (
        "LaECE\u2080",
        "Localization-aware calibration error: how far the mean score of a bin of scores is from "
        "its mean IoU, weighted by the bin's detections, mean over classes: 0 is best.",
    ),
    "LaACE": (
        "LaACE\u2080",
        "The same with a bin for every detection, so that errors of opposite sign cannot cancel "
        "out: 0 is best.",
    ),
    "LRP": (
        "LRP error",
        "Localization recall precision: misplacement, false alarms and misses in one number "
        "between 0, perfect, and 1, nothing found.",
    ),
    "LRP_loc": ("LRP, localization", "Its part of misplacement, over what was found."),
    "LRP_fp": ("LRP, false positives", "Its part of false alarms: 1 - precision."),
    "LRP_fn": ("LRP, false negatives", "Its part of misses: 1 - recall."),
}
_RANKING = {"AP": "AP", "AP_oracle": "AP, oracle", "cost": "cost"}
_CLASSES = {
    "AP": ("coco_per_class", "{}", "AP"),
    "AP50": ("coco_per_class", "{}", "AP50"),
    "AP75": ("coco_per_class", "{}", "AP75"),
    "VOC07": ("voc", "per_class", "{}", "VOC07"),
    "VOC10": ("voc", "per_class", "{}", "VOC10"),
    "threshold": ("calibration", "thresholds", "{}"),
    "threshold, raw": ("before_calibration", "thresholds", "{}"),
}
_GROUPS = {
    "objects": "objects",
    "AP": "AP",
    "AP75": "AP75",
    "AP_oracle": "AP, oracle",
    "cost": "cost",
    "mean_abs_gap": "|score - IoU|",
    "pearson": "Pearson",
    "confident_misplaced": "confident, misplaced",
    "unconfident_well_placed": "well placed, unconfident",
}
GROUP_TITLES = {
    "occlusion": "Occlusion: visible fraction",
    "crowding": "Crowding: highest IoU with another object",
    "irregularity": "Irregularity: empty share of the box",
    "truncated": "Cut off by the picture's edge",
    "difficult": "Marked as difficult",
}
"""What the groups of `metrics["groups"]` are told apart by."""


def report_sections(
    metrics: Mapping, figures: Mapping[str, Sequence[Block]] = MappingProxyType({})
) -> list[Section]:
    """Everything that the metrics hold, with figures, in the order of `TITLES`.

    Args:
        metrics: as `evaluate` returns them, or as `metrics.json` holds them.
        figures: what comes after the numbers of a section, by its key in `TITLES`.

    Returns:
        The sections that there is something to say in. Each number of the metrics stands in one
        of them, those that no other knows in `further`.
    """
    blocks = {
        "summary": _summary(metrics),
        "accuracy": _accuracy(metrics),
        "consistency": _consistency(metrics),
        "suppression": _suppression(metrics),
        "ranking": _ranking(metrics),
        "calibration": _calibration(metrics),
        "groups": _groups(metrics),
        "classes": _classes(metrics),
    }
    known = pointers(block for section in blocks.values() for block in section)
    further = [(leaf.pointer, leaf) for leaf in leaves(metrics) if leaf.pointer not in known]
    blocks["further"] = _table("Others", ["number", "value"], further)
    sections = (
        Section(key, title, [*blocks.get(key, ()), *figures.get(key, ())])
        for key, title in TITLES.items()
    )
    return [section for section in sections if section.blocks]


def _summary(metrics: Mapping) -> list[Block]:
    known = [(label, _cell(metrics, path)) for path, label in _SUMMARY.items()]
    cards = [(label, cell) for label, cell in known if cell]
    present = [name for name in _COUNTS if name in metrics.get("counts", {})]
    counts = [_cell(metrics, ("counts", name)) for name in present]
    return [
        *([Cards(cards)] if cards else []),
        *(_table("What was measured", ["", *present], [["count", *counts]]) if counts else []),
    ]


def _accuracy(metrics: Mapping) -> list[Block]:
    blocks: list[Block] = []
    for title, header in (("AP", AP_METRICS), ("AR", AR_METRICS)):
        cells = [_cell(metrics, ("coco", name)) for name in header]
        blocks += _table(f"COCO {title}", ["COCO", *header], [["all classes", *cells]])
    cells = [_cell(metrics, ("voc", rule)) for rule in ("VOC07", "VOC10")]
    header = ["VOC", "mAP (11 points)", "mAP (all points)"]
    blocks += _table("PASCAL VOC mAP", header, [["all classes", *cells]])
    if blocks:
        blocks.append(
            "AP and AR are those of COCO (AP: mean over IoU 0.50 to 0.95; s, m, l: objects of up "
            "to 32\u00b2, up to 96\u00b2 and more pixels; AR1, AR10, AR100: recall with so many "
            "detections per picture and class), mAP that of PASCAL VOC at IoU 0.50, by the rule of "
            "2007 (11 points, VOC07) and that of 2010 (all points, VOC10). A dash: no object to "
            "ask for."
        )
    return blocks


def _consistency(metrics: Mapping) -> list[Block]:
    columns = {"after NMS": "consistency", "before NMS": "consistency_before_nms"}
    blocks = _measures("Score against IoU", metrics, columns, _CONSISTENCY)
    if blocks:
        text = "IoU is that with the best object of the same class in the picture."
        if "before_calibration" in metrics:
            text += " Scores before NMS are raw ones: it is by them that NMS chooses."
        blocks.append(text)
    return blocks


def _suppression(metrics: Mapping) -> list[Block]:
    columns = {"value": "suppression"}
    return _measures("Non-maximum suppression", metrics, columns, _SUPPRESSION)


def _ranking(metrics: Mapping) -> list[Block]:
    places = {
        "all": ("ranking",),
        **{size: ("ranking", "by_size", size) for size in ("small", "medium", "large")},
        "all, before NMS": ("ranking", "before_nms"),
    }
    rows = [
        [name, *(_cell(metrics, (*place, column)) for column in _RANKING)]
        for name, place in places.items()
    ]
    blocks = _table("AP by rank", ["objects", *_RANKING.values()], rows)
    if blocks:
        blocks.append(
            "AP, oracle is the AP of the very same boxes when they are ranked by their true IoU. "
            "The cost, AP, oracle - AP, is what is lost because scores do not say how well a box "
            "lies: 0 is best. Before NMS the true IoU also decides which box is kept."
        )
    return blocks


def _calibration(metrics: Mapping) -> list[Block]:
    raw = "before_calibration"
    is_calibrated = raw in metrics
    columns = {"value": "calibration"}
    if is_calibrated:
        columns = {"raw scores": raw, "calibrated": "calibration"}
    blocks = _measures("Calibration", metrics, columns, _CALIBRATION)
    if is_calibrated:
        rows = [
            [name, _cell(metrics, (raw, name)), _cell(metrics, ("coco", name))]
            for name in ("AP", "AP50")
        ]
        blocks += _table("AP before and after", ["AP", *columns], rows)
    by = metrics.get("calibrated_by")
    if by:
        blocks.append(
            f"Scores are calibrated: {by['method']}, fitted on {by['fitted_on']}. The order within "
            "a class is that of the raw scores, so AP and LRP stay what they are."
        )
    source = metrics.get("calibration", {}).get("thresholds_from")
    if source:
        blocks.append(
            "Taken over the detections at or above a score threshold per class, listed below under "
            f"Classes: the one at which LRP is least on {source}."
        )
    return blocks


def _groups(metrics: Mapping) -> list[Block]:
    blocks: list[Block] = []
    for kind, groups in metrics.get("groups", {}).items():
        rows = [
            [group["group"], *(_cell(metrics, ("groups", kind, i, column)) for column in _GROUPS)]
            for i, group in enumerate(groups)
        ]
        blocks += _table(GROUP_TITLES.get(kind, kind), [kind, *_GROUPS.values()], rows)
    if blocks:
        blocks.append(
            "Objects outside a group are neither asked for nor punished in it; a detection of "
            "nothing counts against every group, so groups with few objects have lower AP: compare "
            "a group with itself in another run, not with its neighbours."
        )
    return blocks


def _classes(metrics: Mapping) -> list[Block]:
    names = list(metrics.get("coco_per_class", {}))
    rows = [
        [
            name,
            *(
                _cell(metrics, [name if step == "{}" else step for step in path])
                for path in _CLASSES.values()
            ),
        ]
        for name in names
    ]
    ranks = [
        [name, *(_cell(metrics, ("ranking", "per_class", name, column)) for column in _RANKING)]
        for name in names
    ]
    return [
        *_table("Classes", ["class", *_CLASSES], rows),
        *_table("Cost of inconsistency", ["class", *_RANKING.values()], ranks),
    ]


def _measures(
    title: str,
    metrics: Mapping,
    columns: Mapping[str, str],
    descriptions: Mapping[str, tuple[str, str]],
) -> list[Block]:
    """Some numbers of one or more sections of the metrics, those that are there."""
    sections = {label: key for label, key in columns.items() if metrics.get(key)}
    rows = []
    for name, (label, how_to_read) in descriptions.items():
        cells = [_cell(metrics, (key, name)) for key in sections.values()]
        if any(cells):
            rows.append((label, cells, how_to_read))
    return [Measures(title, list(sections), rows)] if rows else []


def _table(title: str, header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> list[Block]:
    """A table without the columns and rows that have no number."""
    rows = [row for row in rows if any(row[1:])]
    if not rows:
        return []
    kept = [0, *(i for i in range(1, len(header)) if any(row[i] for row in rows))]
    return [Table(title, [header[i] for i in kept], [[row[i] for i in kept] for row in rows])]


def _cell(metrics: Mapping, path: Sequence[str | int]) -> Cell:
    """The number at a place in the metrics; an empty text where there is none."""
    value = metrics
    for step in path:
        if isinstance(value, Mapping) and step not in value:
            return ""
        value = value[step]
    return Number(pointer(path), value)
