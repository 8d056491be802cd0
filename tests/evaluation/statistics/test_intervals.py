import math

import numpy as np
import pytest

from harmonic_tf.evaluation.statistics.intervals import (
    _T_QUANTILES,
    difference_interval,
    mean_interval,
)


def t_density(t, freedom):
    log = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)
    return np.exp(log) / math.sqrt(freedom * math.pi) * (1 + t**2 / freedom) ** (-(freedom + 1) / 2)


def test_quantiles_are_those_of_students_t():
    for freedom, quantile in enumerate(_T_QUANTILES, start=1):
        t = np.linspace(0, quantile, 20001)
        density = t_density(t, freedom)
        inside = (density[:-1] + density[1:]).sum() / 2 * (t[1] - t[0])
        rounding = 0.0005 * density[-1]  # the table has three digits
        assert 0.5 + inside == pytest.approx(0.975, abs=rounding), freedom


def test_hand_worked_mean():
    # 1, 2, 6: mean 3, deviations -2, -1, 3, variance 14 / 2 = 7, of the mean 7 / 3.
    mean, half_width, count = mean_interval([1, math.nan, 2, 6])
    assert (mean, count) == (3, 3)
    assert half_width == pytest.approx(4.303 * math.sqrt(7 / 3))


def test_too_few_values_have_no_interval():
    assert mean_interval([5])[0] == 5
    assert math.isnan(mean_interval([5]).half_width)
    assert math.isnan(mean_interval([math.nan]).mean) and mean_interval([]).count == 0
    assert math.isnan(difference_interval([1, 2], [3]).half_width)
    assert difference_interval([1, 2], [3]).mean == 1.5


def test_hand_worked_difference():
    # Equal spread and number: Welch's degrees of freedom are n + m - 2 = 4.
    mean, half_width, count = difference_interval([1, 2, 3], [11, 12, 13])
    assert (mean, count) == (10, 3)
    assert half_width == pytest.approx(2.776 * math.sqrt(1 / 3 + 1 / 3))
    # All the spread on one side: that side's degrees of freedom alone.
    assert difference_interval([5, 5, 5, 5, 5], [1, 2, 3]).half_width == pytest.approx(
        4.303 * math.sqrt(1 / 3)
    )
    assert difference_interval([5, 5], [7, 7]) == (2, 0, 2)


@pytest.mark.parametrize("sizes", [(3, 3), (4, 7)])
def test_intervals_hold_the_truth_in_19_of_20_cases(sizes):
    rng = np.random.default_rng(0)
    hits_mean = hits_difference = 0
    for _ in range(1000):
        a, b = rng.normal(1, 1, sizes[0]), rng.normal(3, 2, sizes[1])
        hits_mean += abs(mean_interval(a).mean - 1) <= mean_interval(a).half_width
        difference = difference_interval(a, b)
        hits_difference += abs(difference.mean - 2) <= difference.half_width
    assert 930 <= hits_mean <= 970
    assert 930 <= hits_difference <= 990
