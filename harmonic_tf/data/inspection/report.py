"""The inspection of a data set, written down: lines for the terminal, and Markdown."""

from __future__ import annotations

import collections

import numpy as np

from harmonic_tf.data import checks
from harmonic_tf.data.example import DetectionData, Problem
from harmonic_tf.data.inspection.files import repeated_pictures, shared_pictures
from harmonic_tf.data.inspection.findings import Findings
from harmonic_tf.data.inspection.survey import (
    DUPLICATE_IOU,
    RARE,
    SIZE_LIMITS,
    Survey,
    aspect_ratio,
    size_groups,
    size_of,
)
from harmonic_tf.data.unused import check_something_to_learn, takes_no_part
from harmonic_tf.tables import markdown_table, markdown_text, share

_PERCENTILES = {"least": 0, "5 %": 5, "25 %": 25, "median": 50, "75 %": 75, "95 %": 95, "most": 100}
_PRINTED = 10  # problems and names that go to the terminal; the report has them all
_LISTED_SIZES = 10  # sizes of pictures, most frequent first


def headlines(findings: Findings) -> list[str]:
    """What a person must know, in a few lines of plain text."""
    survey, objects = findings.survey, findings.objects
    parts = ", ".join(f"{name} {len(rows)}" for name, rows in survey.splits.items())
    lines = [
        f"{survey.name}: {_count(len(survey.annotations), 'picture')} ({parts}), "
        f"{_count(len(objects.boxes), 'box', 'boxes')}, "
        f"{_count(len(survey.class_names), 'class', 'classes')}"
    ]
    lines.append(f"Problems: {len(survey.problems)}")
    lines += [f"  {problem}" for problem in survey.problems[:_PRINTED]]
    if len(survey.problems) > _PRINTED:
        lines.append(f"  and {len(survey.problems) - _PRINTED} more in the report")
    lines += _nothing_to_learn(survey)
    lines += [
        f"{split}: {count} x {note}"
        for split, notes in survey.notes.items()
        for note, count in (*notes.items(), *takes_no_part(survey.part(split)).items())
    ]
    lines.append(f"Near-duplicate boxes: {_count(len(findings.duplicates), 'pair')}")
    repeated = repeated_pictures(survey.splits, findings.files)
    if repeated:
        lines.append(f"Pictures that a split holds several times: {len(repeated)}")
    for first, second, count in shared_pictures(survey.splits, findings.files):
        lines.append(f"{first} and {second} share {_count(count, 'picture')}")
    rare = [survey.class_names[i] for i in np.flatnonzero(findings.pictures_per_class <= RARE)]
    if rare:
        more = f" and {len(rare) - _PRINTED} more" if len(rare) > _PRINTED else ""
        named = ", ".join(rare[:_PRINTED])
        lines.append(f"Classes in {RARE} pictures or fewer: {named}{more}")
    groups = np.bincount(size_groups(objects.seen), minlength=len(SIZE_LIMITS))
    shares = (f"{share(n, groups.sum())} {name}" for name, n in zip(SIZE_LIMITS, groups))
    lines.append(f"Boxes at {findings.image_size} px: {', '.join(shares)}")
    return lines + findings.fit.headlines()


def _nothing_to_learn(survey: Survey) -> list[str]:
    """What training would stop with, where there is no object to learn from."""
    problems: list[Problem] = []
    with checks.collecting(problems):
        check_something_to_learn(DetectionData(survey.name, survey.class_names, survey.annotations))
    return [str(problem) for problem in problems]


def report(findings: Findings, pictures: dict[str, str]) -> str:
    """The whole report as Markdown.

    Args:
        findings: what was found out.
        pictures: file of each picture beside the report, by its caption.
    """
    survey = findings.survey
    blocks = [
        f"# {markdown_text(survey.name)}",
        "\n".join(f"- {markdown_text(line)}" for line in headlines(findings)),
        *(f"![{markdown_text(caption)}]({file})" for caption, file in pictures.items()),
        *_problems(survey),
        *_pictures(findings),
        *_classes(findings),
        *_sizes(findings),
        *findings.fit.section(findings.objects, survey.class_names),
        *_near_duplicates(findings),
    ]
    if len(findings.empty_pictures):
        names = (markdown_text(survey.picture_name(row)) for row in findings.empty_pictures)
        blocks += ["## Pictures without objects", "\n".join(f"- {name}" for name in names)]
    return "\n\n".join(blocks) + "\n"


def _problems(survey: Survey) -> list[str]:
    if not survey.problems:
        return ["## Problems", "None."]
    kinds = collections.Counter(problem.problem for problem in survey.problems)
    counts = ", ".join(f"{markdown_text(kind)}: {count}" for kind, count in kinds.most_common())
    rows = [(p.file, p.field, p.value, p.problem, p.remedy) for p in survey.problems]
    header = ["file", "field", "value", "problem", "remedy"]
    return ["## Problems", f"{counts}.", markdown_table(header, rows, names=5)]


def _pictures(findings: Findings) -> list[str]:
    survey, per_picture = findings.survey, findings.boxes_per_picture
    every = {**survey.splits, "all": np.arange(len(survey.annotations))}
    splits = [
        (name, len(rows), per_picture[rows].sum(), np.count_nonzero(per_picture[rows] == 0))
        for name, rows in every.items()
    ]
    shared = shared_pictures(survey.splits, findings.files)
    repeated = repeated_pictures(survey.splits, findings.files)
    formats = collections.Counter(file.format for file in findings.files)
    sizes = collections.Counter((a.width, a.height) for a in survey.annotations)
    shown = [(f"{w} x {h}", count) for (w, h), count in sizes.most_common(_LISTED_SIZES)]
    if len(sizes) > _LISTED_SIZES:
        rest = sum(sizes.values()) - sum(count for _, count in shown)
        shown.append((f"{len(sizes) - _LISTED_SIZES} more sizes", rest))
    turned = sum(a.orientation != 1 for a in survey.annotations)
    blocks = [
        "## Pictures",
        markdown_table(["split", "pictures", "boxes", "pictures without objects"], splits),
    ]
    if shared:
        header = ["split", "shares with", "pictures"]
        blocks.append(markdown_table(header, [(a, b, n) for a, b, n in shared], names=2))
    blocks += [
        markdown_table(["width x height, px", "pictures"], shown),
        markdown_table(["format", "pictures"], formats.most_common()),
    ]
    if repeated:
        lines = (", ".join(markdown_text(survey.picture_name(row)) for row in g) for g in repeated)
        blocks += [
            "The same pictures under several names:",
            "\n".join(f"- {line}" for line in lines),
        ]
    if turned:
        blocks.append(f"{_count(turned, 'picture')} stored turned (EXIF), seen upright.")
    return blocks


def _classes(findings: Findings) -> list[str]:
    survey, objects = findings.survey, findings.objects
    per_split = {
        name: np.bincount(
            objects.classes[np.isin(objects.picture, rows)], minlength=len(survey.class_names)
        )
        for name, rows in survey.splits.items()
    }
    columns = per_split if len(per_split) > 1 else {}
    total, pictures = findings.boxes_per_class, findings.pictures_per_class
    sizes = size_of(objects.seen)
    rows = [
        (
            name,
            total[i],
            share(total[i], total.sum()),
            *(counts[i] for counts in columns.values()),
            pictures[i],
            f"{np.median(sizes[objects.classes == i]):.1f}" if total[i] else "-",
            "rare" if pictures[i] <= RARE else "",
        )
        for i, name in enumerate(survey.class_names)
    ]
    size = f"median size at {findings.image_size} px"
    header = ["class", "boxes", "of all", *columns, "pictures", size, ""]
    note = f"Rare is a class in {RARE} pictures or fewer. Size is the root of a box's area."
    return ["## Classes", note, markdown_table(header, rows)]


def _sizes(findings: Findings) -> list[str]:
    survey, objects = findings.survey, findings.objects
    at = f"at {findings.image_size} px"
    spread = {
        "size, px of the picture": size_of(objects.boxes),
        f"size, px {at}": size_of(objects.seen),
        "width / height": aspect_ratio(objects.boxes),
        "boxes per picture": findings.boxes_per_picture,
    }
    percentiles = [(name, *_percentiles(values)) for name, values in spread.items()]
    grouped = {"of the picture": objects.boxes, at: objects.seen}
    groups = {
        name: np.bincount(size_groups(boxes), minlength=len(SIZE_LIMITS))
        for name, boxes in grouped.items()
    }
    rows = [
        (name, *(f"{n} ({share(n, counts.sum())})" for n in counts))
        for name, counts in groups.items()
    ]
    limits = ", ".join(f"{name} from {low:g} px" for name, low in SIZE_LIMITS.items() if low)
    crowd = sum(int(a.crowd.sum()) for a in survey.annotations)
    difficult = sum(int((a.difficult & ~a.crowd).sum()) for a in survey.annotations)
    return [
        "## Boxes",
        f"Size is the root of the area; {limits}. {difficult} of the boxes are marked difficult; "
        f"{_count(crowd, 'crowd region')} are not counted.",
        markdown_table(["", *_PERCENTILES], percentiles),
        markdown_table(["pixels", *SIZE_LIMITS], rows),
    ]


def _percentiles(values: np.ndarray) -> list[str]:
    """`_PERCENTILES` of the values, in three digits; dashes where there are none."""
    if not len(values):
        return ["-"] * len(_PERCENTILES)
    return [f"{value:.3g}" for value in np.percentile(values, list(_PERCENTILES.values()))]


def _near_duplicates(findings: Findings) -> list[str]:
    if not findings.duplicates:
        return []
    survey = findings.survey
    rows = [
        (
            survey.picture_name(pair.picture),
            survey.class_names[pair.class_index],
            *(pair.first, pair.second, f"{pair.iou:.3f}"),
        )
        for pair in findings.duplicates
    ]
    note = (
        f"Boxes of one class with an IoU above {DUPLICATE_IOU:g}: likely one object, annotated "
        "twice. They are numbered from 0 among the picture's boxes without problems."
    )
    header = ["picture", "class", "box", "box", "IoU"]
    return ["## Near-duplicate boxes", note, markdown_table(header, rows, names=2)]


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one}" if number == 1 else f"{number} {many or one + 's'}"
