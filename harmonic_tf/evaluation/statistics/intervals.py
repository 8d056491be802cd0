"""Means of a few trainings, and how far off they may be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# 97.5% quantile of Student's t for 1 to 30 degrees of freedom. Source: NIST/SEMATECH e-Handbook of
# Statistical Methods, 1.3.6.7.2, https://www.itl.nist.gov/div898/handbook/eda/section3/eda3672.htm
_T_QUANTILES = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


class MeanInterval(NamedTuple):
    """A mean and its 95% interval, mean - half_width to mean + half_width.

    Args:
        mean: NaN of no value.
        half_width: NaN where one value, or none, says nothing about the spread.
        count: of the values.
    """

    mean: float
    half_width: float
    count: int


def mean_interval(values: Sequence[float]) -> MeanInterval:
    """Mean and its 95% interval by Student's t: where the mean of endless such values would be.

    Args:
        values: [n], independent of each other, such as a metric of n trainings that differ in
            their seed, or the differences of n pairs. NaN, a value that is not known, is left out.

    Returns:
        The mean of the n values and the interval's half width.
    """
    known = _known(values)
    if not known.size:
        return MeanInterval(float("nan"), float("nan"), 0)
    half_width = float("nan")
    if known.size > 1:
        half_width = _t_quantile(known.size - 1) * float(np.sqrt(known.var(ddof=1) / known.size))
    return MeanInterval(float(known.mean()), half_width, known.size)


def difference_interval(values_a: Sequence[float], values_b: Sequence[float]) -> MeanInterval:
    """Difference of two means, B - A, and its 95% interval for samples of unequal spread.

    For values that belong together in pairs, `mean_interval` of their differences is narrower.

    Args:
        values_a: [n], independent of each other; NaN is left out.
        values_b: [m], the same.

    Returns:
        The difference, its half width (NaN unless both sides have two values), and the fewer of
        n and m.

    Source: Welch, "The generalization of 'Student's' problem when several different population
        variances are involved", Biometrika 34, 1947. His degrees of freedom are rounded down,
        which makes the interval a little wider.
    """
    a, b = _known(values_a), _known(values_b)
    difference = mean_interval(b).mean - mean_interval(a).mean
    half_width, fewer = float("nan"), min(a.size, b.size)
    if fewer > 1:
        errors = np.array([a.var(ddof=1) / a.size, b.var(ddof=1) / b.size])  # of the means, squared
        total = errors.sum()
        freedom = total**2 / (errors**2 / (a.size - 1, b.size - 1)).sum() if total else 0
        half_width = _t_quantile(max(int(freedom), fewer - 1)) * float(np.sqrt(total))
    return MeanInterval(difference, half_width, fewer)


def _known(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, np.float64)
    return array[~np.isnan(array)]


def _t_quantile(freedom: int) -> float:
    """Beyond 30 degrees of freedom that of 30, which is too large by 4% at most."""
    return _T_QUANTILES[min(freedom, len(_T_QUANTILES)) - 1]
