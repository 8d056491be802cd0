import numpy as np
import pytest

from harmonic_tf.evaluation.statistics.bootstrap import paired_bootstrap, percentile_interval


def weighted_mean(values):
    return lambda weights: np.array([weights @ values / weights.sum()])


def test_draws_are_as_many_pictures_as_there_are_and_the_same_for_both():
    seen_a, seen_b = [], []

    def measure(seen):
        def keep(weights):
            seen.append(weights)
            return np.zeros(1)

        return keep

    differences = paired_bootstrap(measure(seen_a), measure(seen_b), pictures=7, resamples=20)
    assert differences.shape == (20, 1)
    np.testing.assert_array_equal(seen_a, seen_b)
    assert {weights.sum() for weights in seen_a} == {7}
    assert len({tuple(weights) for weights in seen_a}) == 20


def test_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    truth, hits, sets = 0.3, 0, 200
    for i in range(sets):
        hard = rng.normal(0, 5, 60)  # what the two sides share
        a = hard + rng.normal(0, 1, 60)
        b = hard + truth + rng.normal(0, 1, 60)
        draws = paired_bootstrap(weighted_mean(a), weighted_mean(b), 60, resamples=300, seed=i)
        ((low, high),) = percentile_interval(draws)
        hits += low <= truth <= high
    assert 0.90 * sets <= hits <= 0.99 * sets


def test_its_width_is_that_of_the_normal_approximation():
    rng = np.random.default_rng(2)
    a, b = rng.normal(0, 1, (2, 400))
    draws = paired_bootstrap(weighted_mean(a), weighted_mean(b), 400, resamples=2000)
    ((low, high),) = percentile_interval(draws)
    assert high - low == pytest.approx(2 * 1.96 * (b - a).std() / 20, rel=0.1)
    assert (low + high) / 2 == pytest.approx((b - a).mean(), abs=0.1 * (high - low))


def test_the_seed_decides():
    a, b = weighted_mean(np.arange(9.0)), weighted_mean(np.arange(9.0) ** 2)
    one, same, other = (paired_bootstrap(a, b, 9, 50, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_percentiles_by_hand():
    samples = np.stack([np.arange(101.0), np.full(101, np.nan)], axis=-1)
    samples[7, 0] = np.nan  # a draw on which the number is not defined
    ends = percentile_interval(samples, level=0.5)
    known = np.delete(np.arange(101.0), 7)
    assert ends[0].tolist() == [np.quantile(known, 0.25), np.quantile(known, 0.75)]
    assert np.isnan(ends[1]).all()


@pytest.mark.parametrize(("pictures", "resamples", "name"), [(0, 5, "pictures"), (5, 0, "resamp")])
def test_nothing_to_draw_is_refused(pictures, resamples, name):
    with pytest.raises(ValueError, match=name):
        paired_bootstrap(np.sum, np.sum, pictures, resamples)
