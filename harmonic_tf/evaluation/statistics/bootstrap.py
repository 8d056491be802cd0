"""How far a difference of two detectors may be luck of the pictures: the paired bootstrap.

Pictures are drawn with replacement, as many as there are, again and again; both detectors are
measured on the same draw, so that a draw of hard pictures is hard for both.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 6 and 13.
"""

from __future__ import annotations

from typing import Callable

import numpy as np
from tqdm import tqdm

Measure = Callable[[np.ndarray], np.ndarray]
"""From how often each picture counts, int64 [P], to S numbers, float64 [S]."""


def bootstrap(
    measure: Measure, pictures: int, resamples: int = 1000, seed: int = 0, progress: bool = False
) -> np.ndarray:
    """A measurement on pictures drawn with replacement.

    Draws are the same for the same number of pictures, resamples and seed: what two detectors come
    to on them may be subtracted draw by draw.

    Args:
        measure: what is drawn for.
        pictures: P, from 1.
        resamples: R, how many draws, from 1; 1,000 or more for a 95% interval.
        seed: of the draws.
        progress: whether to show a progress bar.

    Returns:
        float64 [R, S].

    Raises:
        ValueError: `pictures` or `resamples` is below 1.
    """
    for name, value in (("pictures", pictures), ("resamples", resamples)):
        if value < 1:
            raise ValueError(f"bootstrap: {name} = {value}: give 1 at least.")
    generator = np.random.default_rng(seed)
    measured = []
    for _ in tqdm(range(resamples), desc="Resampling", unit="draw", disable=not progress):
        drawn = generator.integers(pictures, size=pictures)
        measured.append(measure(np.bincount(drawn, minlength=pictures)))
    return np.array(measured)


def paired_bootstrap(
    measure_a: Measure,
    measure_b: Measure,
    pictures: int,
    resamples: int = 1000,
    seed: int = 0,
    progress: bool = False,
) -> np.ndarray:
    """Differences of two measurements, B - A, on pictures drawn with replacement.

    Args:
        measure_a: measures side A.
        measure_b: measures side B; gets the same draws.
        pictures: see `bootstrap`, as all below.
        resamples: R.
        seed: of the draws.
        progress: whether to show a progress bar.

    Returns:
        float64 [R, S].

    Raises:
        ValueError: `pictures` or `resamples` is below 1.
    """
    return bootstrap(
        lambda weights: measure_b(weights) - measure_a(weights),
        pictures,
        resamples,
        seed,
        progress,
    )


def percentile_interval(samples: np.ndarray, level: float = 0.95) -> np.ndarray:
    """The interval that holds the middle of the samples.

    Args:
        samples: float [R, S]; NaN, a draw on which a number is not defined, is left out.
        level: share of the samples inside, in (0, 1).

    Returns:
        float64 [S, 2], lower and upper end; NaN where no draw defines the number.
    """
    tail = 50 * (1 - level)
    ends = np.full((samples.shape[1], 2), np.nan)
    for column, row in zip(samples.T, ends):
        known = column[~np.isnan(column)]
        if known.size:
            row[:] = np.percentile(known, (tail, 100 - tail))
    return ends
