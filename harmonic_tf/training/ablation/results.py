"""What runs came to: the numbers of their files, and their differences to the baseline's."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from harmonic_tf.evaluation.statistics.bootstrap import percentile_interval
from harmonic_tf.evaluation.statistics.intervals import MeanInterval, mean_interval
from harmonic_tf.training.ablation.rows import BASELINE, ROWS, Row
from harmonic_tf.training.ablation.runs import Run

PRECISION = ("AP", "AP50", "AP75", "APs", "APm", "APl")
CONSISTENCY = ("mean_abs_gap", "pearson", "confident_misplaced", "unconfident_well_placed")
CALIBRATION = ("LaECE", "LRP")
RANKING = ("AP_oracle", "cost", "cost_before_nms")
TIMES = ("seconds", "step_seconds", "step_cpu_seconds")
# Where each metric stands in a metrics.json.
_PLACES = {
    **{name: ("coco", name) for name in PRECISION},
    **{name: ("consistency", name) for name in CONSISTENCY},
    **{name: ("calibration", name) for name in CALIBRATION},
    "AP_oracle": ("ranking", "AP_oracle"),
    "cost": ("ranking", "cost"),
    "cost_before_nms": ("ranking", "before_nms", "cost"),
}
METRICS = tuple(_PLACES)
"""What is told of each run, beside the groups of objects."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What one run came to.

    Args:
        row: its loss.
        seed: its seed.
        values: metric to value on the test split, NaN where its metrics.json does not have it; and
            `TIMES`.
        val: `METRICS` to value on the validation split, of the same checkpoint; empty if not known.
        groups: split of the objects and group, such as `("crowding", "0.3 to 1")`, to AP.
        draws: metric to its values on pictures drawn with replacement, [R] each; empty where these
            are not known.
    """

    row: Row
    seed: int
    values: Mapping[str, float]
    val: Mapping[str, float] = dataclasses.field(default_factory=dict)
    groups: Mapping[tuple[str, str], float] = dataclasses.field(default_factory=dict)
    draws: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Difference:
    """How a row differs from the baseline, over the seeds that both have.

    Args:
        over_seeds: mean difference, half of its 95% interval over trainings, number of seeds.
        over_pictures: lower and upper end of its 95% interval over pictures; NaN if not known.
    """

    over_seeds: MeanInterval
    over_pictures: tuple[float, float]


def read_result(run: Run, val_split: str | None = None) -> Result:
    """Reads what a finished run measured.

    Args:
        run: the run.
        val_split: the part of the data that chose its checkpoint; None where none did.
    """
    metrics, val = run.metrics(), run.metrics_on(val_split) if val_split else None
    groups = {
        (split, row["group"]): _number(row["AP"])
        for split, rows in metrics.get("groups", {}).items()
        for row in rows
    }
    values = {**_numbers(metrics), **dict(zip(TIMES, (run.seconds, *run.step_times())))}
    return Result(run.row, run.seed, values, _numbers(val) if val else {}, groups, run.draws())


def rows_of(results: Sequence[Result]) -> list[Row]:
    """The rows that there are results of, in the order of the ablation."""
    present = {result.row for result in results}
    return [row for row in ROWS.values() if row in present]


def groups_of(results: Sequence[Result]) -> dict[str, list[str]]:
    """The splits of objects that there are results of, and the groups of each."""
    groups: dict[str, list[str]] = {}
    for split, group in dict.fromkeys(key for result in results for key in result.groups):
        groups.setdefault(split, []).append(group)
    return groups


def difference(results: Sequence[Result], row: Row, name: str) -> Difference:
    """How a row differs from the baseline, seed by seed.

    Over seeds by Student's t of the differences. Over pictures by the paired bootstrap: on each
    draw the mean difference of the same seeds.

    Args:
        results: finished runs.
        row: any but the baseline.
        name: of a metric.
    """
    pairs = _pairs(results, row)
    known = [name in one.draws and name in base.draws for one, base in pairs]
    over_pictures = (math.nan, math.nan)
    if known and all(known):
        drawn = np.mean([one.draws[name] - base.draws[name] for one, base in pairs], axis=0)
        ((low, high),) = percentile_interval(drawn[:, None])
        over_pictures = (float(low), float(high))
    over_seeds = mean_difference(results, row, lambda result: result.values[name])
    return Difference(over_seeds, over_pictures)


def mean_difference(
    results: Sequence[Result], row: Row, value: Callable[[Result], float]
) -> MeanInterval:
    """How any number of a row differs from the baseline's over seeds, as in `difference`.

    Args:
        results: finished runs.
        row: any but the baseline.
        value: the number of a run; NaN if not known.
    """
    return mean_interval([value(one) - value(base) for one, base in _pairs(results, row)])


def _pairs(results: Sequence[Result], row: Row) -> list[tuple[Result, Result]]:
    """The runs of a row, each with the baseline's of the same seed, where there is one."""
    baseline = {result.seed: result for result in results if result.row == BASELINE}
    of_row = [result for result in results if result.row == row and result.seed in baseline]
    return [(result, baseline[result.seed]) for result in of_row]


def _numbers(metrics: Mapping) -> dict[str, float]:
    numbers = {}
    for name, place in _PLACES.items():
        value = metrics
        for step in place:
            value = (value or {}).get(step)
        numbers[name] = _number(value)
    return numbers


def _number(value: float | None) -> float:
    return math.nan if value is None else value
