"""What an ablation found: a table of all runs, and a page on rows, differences and groups."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

from harmonic_tf.evaluation.reports.document import (
    Block,
    Document,
    Lines,
    Picture,
    Pictures,
    Section,
    Table,
)
from harmonic_tf.evaluation.reports.html import html
from harmonic_tf.evaluation.reports.markdown import markdown
from harmonic_tf.evaluation.reports.sections import GROUP_TITLES
from harmonic_tf.evaluation.statistics.comparison import METRICS as DRAWN_FOR
from harmonic_tf.evaluation.statistics.intervals import MeanInterval, mean_interval
from harmonic_tf.files import write_text
from harmonic_tf.tables import number, text_table
from harmonic_tf.training.ablation.plots import DRAWN, plot_differences, plot_rows, verdict_of
from harmonic_tf.training.ablation.results import (
    CALIBRATION,
    CONSISTENCY,
    METRICS,
    PRECISION,
    RANKING,
    TIMES,
    Result,
    difference,
    groups_of,
    mean_difference,
    rows_of,
)
from harmonic_tf.training.ablation.rows import BASELINE

_Value = Callable[[Result, Any], float]
_LABELS = {
    "mean_abs_gap": "mean |score - IoU|",
    "pearson": "Pearson",
    "confident_misplaced": "confident, misplaced",
    "unconfident_well_placed": "well placed, unconfident",
    "AP_oracle": "AP_oracle",
    "cost": "AP_oracle - AP",
    "cost_before_nms": "AP_oracle - AP before NMS",
    "seconds": "seconds of a run",
    "step_seconds": "seconds of a step",
    "step_cpu_seconds": "CPU seconds of a step",
}
_TABLES = {
    "Average precision": PRECISION,
    "Consistency": (*CONSISTENCY, *RANKING),
    "Calibration and error": CALIBRATION,
}
_ON_VAL = ("AP", "AP50", "AP75", "cost", "mean_abs_gap", "pearson", "LaECE", "LRP")
_HOW_TO_READ = (
    "Each number is a mean over n trainings that differ in their seed. \u00b1: half of its 95% "
    "interval by Student's t, where the mean of ever more such trainings would lie, on the same "
    "test pictures. A number without \u00b1 is from one training; a dash is not known. AP, AP50, "
    "AP75, AP_oracle and Pearson's correlation are better where they are more, all others where "
    "they are less."
)
_HOW_TO_READ_DIFFERENCES = (
    "Row minus baseline, seed by seed, over the n seeds that both have. \u00b1: half of the 95% "
    "interval over trainings. Over pictures: the 95% interval of these very trainings on other "
    "pictures like these, by 1,000 draws of the test pictures, the same for all runs. Better or "
    "worse is said where 0 is outside of both, or of that over trainings where the other is not "
    "known; of many verdicts some are chance all the same."
)
_HOW_TO_READ_GROUPS = (
    "AP of one kind of objects. A detection of nothing counts against every group: compare a group "
    "with itself under another loss, not with its neighbours."
)
_ABOUT_VAL = (
    "The same checkpoints on the pictures by which they were chosen and, where they are, "
    "calibrated: numbers to choose by, not to report."
)
_ABOUT_TIMES = (
    "Of a run all of it, the start and the measurements too; of a step the mean of all but the "
    "first of each epoch. By the clock both depend on what else the machine did."
)


def write(
    folder: str,
    results: Sequence[Result],
    model: str,
    flags: Sequence[str],
) -> None:
    """Writes ablation.csv, .md, .html and the pictures, each atomically; nothing of no results.

    Args:
        folder: where to; it exists.
        results: finished runs, in the order of the rows.
        model: the detector's name.
        flags: what all runs were trained with, beside the loss and the seed.

    Raises:
        OSError: the folder cannot be written to.
    """
    if not results:
        return
    write_csv(os.path.join(folder, "ablation.csv"), results)
    pictures = {"ablation.png": plot_rows}
    if len(rows_of(results)) > 1:
        pictures["differences.png"] = plot_differences
    for name, draw in pictures.items():
        draw(os.path.join(folder, name), results)
    page = document(folder, results, model, flags)
    write_text(os.path.join(folder, "ablation.md"), markdown(page, folder))
    write_text(os.path.join(folder, "ablation.html"), html(page))


def write_csv(path: str, results: Sequence[Result]) -> None:
    """Writes one line per run, atomically; what is not known is left empty.

    Args:
        path: file to write.
        results: the runs, in the order to write them.
    """
    groups = [(split, name) for split, names in groups_of(results).items() for name in names]
    header = ["row", "seed", *METRICS, *TIMES]
    header += [f"AP of {split} {group}" for split, group in groups]
    header += [f"{name} on val" for name in METRICS]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for result in results:
        values = [result.values[name] for name in (*METRICS, *TIMES)]
        values += [result.groups.get(group, math.nan) for group in groups]
        values += [result.val.get(name, math.nan) for name in METRICS]
        cells = ["" if math.isnan(value) else repr(float(value)) for value in values]
        writer.writerow([result.row.name, result.seed, *cells])
    write_text(path, text.getvalue())


def summary(results: Sequence[Result]) -> str:
    """The rows' means for the terminal.

    Args:
        results: finished runs.
    """
    table = _means("", results, list(DRAWN), _on_test)
    return text_table(table.header, table.rows)


def document(folder: str, results: Sequence[Result], model: str, flags: Sequence[str]) -> Document:
    """The page of an ablation.

    Args:
        folder: that has the pictures.
        results: finished runs.
        model: the detector's name.
        flags: what all runs were trained with, beside the loss and the seed.
    """
    rows = rows_of(results)
    sections = [
        Section("glance", "At a glance", _pictures(folder, len(rows) > 1)),
        *(
            Section(_key(title), title, [_means(f"{title}, test", results, names, _on_test)])
            for title, names in _TABLES.items()
        ),
    ]
    if len(rows) > 1:
        sections.append(
            Section("differences", "Difference to the baseline", _difference_blocks(results))
        )
    if groups := _group_blocks(results):
        sections.append(Section("groups", "Where it matters", [*groups, _HOW_TO_READ_GROUPS]))
    if any(result.val for result in results):
        tables = _means_and_differences("Val", results, _ON_VAL, _on_val)
        sections.append(Section("val", "On the validation split", [*tables, _ABOUT_VAL]))
    sections += [
        Section("times", "Time", [_means("Time", results, TIMES, _on_test), _ABOUT_TIMES]),
        Section("rows", "Rows", [Lines([f"{r.label}: {' '.join(r.flags(model))}" for r in rows])]),
        Section("flags", "Flags of all rows", [Lines(flags)]),
    ]
    return Document(f"Ablation of the loss: {model}", _notes(results), sections)


def _notes(results: Sequence[Result]) -> list[str]:
    per_row = [sum(result.row == row for result in results) for row in rows_of(results)]
    fewest, most = min(per_row), max(per_row)
    notes = [
        f"Losses: {len(per_row)}. Trainings: {len(results)}, "
        f"{most if fewest == most else f'{fewest} to {most}'} of each loss."
    ]
    undrawn = sum(not result.draws for result in results)
    if undrawn:
        notes.append(
            f"Runs without bootstrap.npz: {undrawn}. What they take part in has no interval over "
            "pictures; it is made of a run's detections.json and the data, where both are there."
        )
    return [*notes, _HOW_TO_READ]


def _pictures(folder: str, several_rows: bool) -> list[Block]:
    every = Picture(
        os.path.join(folder, "ablation.png"),
        "Every training, mean and interval of each row",
        "Every training as a point; below it mean and 95% interval of its row. Dashed: the mean "
        "of the baseline.",
    )
    differences = Picture(
        os.path.join(folder, "differences.png"),
        "Difference of each row to the baseline, with its intervals",
        "Row minus baseline, seed by seed.",
    )
    return [Pictures([every]), *([Pictures([differences])] if several_rows else [])]


def _difference_blocks(results: Sequence[Result]) -> list[Block]:
    rows = [row for row in rows_of(results) if row != BASELINE]
    blocks: list[Block] = []
    for name in DRAWN_FOR:
        cells = []
        for row in rows:
            found = difference(results, row, name)
            cells.append(
                [
                    row.label,
                    str(found.over_seeds.count),
                    _cell(found.over_seeds, "+"),
                    _interval(found.over_pictures),
                    verdict_of(name, found),
                ]
            )
        header = ["loss", "n", "row - baseline", "over pictures", "verdict"]
        blocks.append(Table(_label(name), header, cells))
    others = [name for name in METRICS if name not in DRAWN_FOR]
    blocks.append(_differences("Others", results, others, _on_test))
    return [*blocks, _HOW_TO_READ_DIFFERENCES]


def _group_blocks(results: Sequence[Result]) -> list[Block]:
    blocks: list[Block] = []
    for split, groups in groups_of(results).items():
        title = f"AP. {GROUP_TITLES.get(split, split)}"
        keys = [(split, group) for group in groups]
        blocks += _means_and_differences(title, results, keys, _of_group)
    return blocks


def _on_test(result: Result, name: str) -> float:
    return result.values[name]


def _on_val(result: Result, name: str) -> float:
    return result.val.get(name, math.nan)


def _of_group(result: Result, group: tuple[str, str]) -> float:
    return result.groups.get(group, math.nan)


def _means_and_differences(
    title: str, results: Sequence[Result], names: Sequence[Any], value: _Value
) -> list[Block]:
    tables = [_means(title, results, names, value)]
    if len(rows_of(results)) > 1:
        tables.append(_differences(f"{title}: row - baseline", results, names, value))
    return tables


def _means(title: str, results: Sequence[Result], names: Sequence[Any], value: _Value) -> Table:
    """Mean and interval of some numbers of each row; `value` gives the one of a name."""
    cells = []
    for row in rows_of(results):
        own = [result for result in results if result.row == row]
        means = (mean_interval([value(result, name) for result in own]) for name in names)
        cells.append([row.label, str(len(own)), *(_cell(mean, "") for mean in means)])
    return Table(title, ["loss", "n", *map(_label, names)], cells)


def _differences(
    title: str, results: Sequence[Result], names: Sequence[Any], value: _Value
) -> Table:
    """The same of each row minus the baseline, seed by seed; n of the first number."""
    cells = []
    for row in rows_of(results):
        if row == BASELINE:
            continue
        found = [
            mean_difference(results, row, lambda result, name=name: value(result, name))
            for name in names
        ]
        cells.append([row.label, str(found[0].count), *(_cell(each, "+") for each in found)])
    return Table(title, ["loss", "n", *map(_label, names)], cells)


def _label(name: str | tuple[str, str]) -> str:
    return name[1] if isinstance(name, tuple) else _LABELS.get(name, name)


def _key(title: str) -> str:
    return title.lower().replace(" ", "-")


def _cell(value: MeanInterval, sign: str) -> str:
    """Mean and half width as text; `sign` is what stands before a positive mean."""
    text = (sign if value.mean >= 0 else "") + number(value.mean)
    return text if math.isnan(value.half_width) else f"{text} \u00b1 {number(value.half_width)}"


def _interval(ends: tuple[float, float]) -> str:
    if any(map(math.isnan, ends)):
        return "-"
    low, high = (f"{end:+.3f}" for end in ends)
    return f"{low} to {high}"
