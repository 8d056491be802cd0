"""Two detectors, or two ways to train one, on the same pictures: which is better, how sure?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harmonic_tf.evaluation.detections import Detections, GroundTruth
from harmonic_tf.evaluation.metrics.average_precision import (
    AveragePrecision,
    mean_average_precision,
)
from harmonic_tf.evaluation.metrics.coco_matching import IOU_THRESHOLDS, match
from harmonic_tf.evaluation.metrics.consistency import CONFIDENT, WELL_PLACED, placement
from harmonic_tf.evaluation.metrics.ranking import oracle_ranked
from harmonic_tf.evaluation.statistics.bootstrap import paired_bootstrap, percentile_interval
from harmonic_tf.evaluation.statistics.intervals import (
    MeanInterval,
    difference_interval,
    mean_interval,
)

METRICS = ("AP", "AP75", "mean_abs_gap", "pearson", "confident_misplaced", "cost")
"""What is compared; `cost` is AP_oracle - AP, what ranking by score instead of IoU costs."""

# Below this variance all values are the same, but for the rounding of float32 scores.
_SPREADLESS = 1e-13


def compare(
    ground_truth: GroundTruth,
    runs_a: Sequence[Detections],
    runs_b: Sequence[Detections],
    resamples: int = 1000,
    seed: int = 0,
    progress: bool = False,
) -> dict:
    """Measures two sides and how sure their difference is.

    Two things make a difference uncertain. Other pictures would give another one: the paired
    bootstrap over pictures tells how far, for these very detectors. Other trainings would, too:
    Student's t tells how far where a side has several, and Welch's where both have.

    Args:
        ground_truth: P pictures.
        runs_a: what each detector of side A found, such as trainings that differ in their seed. A
            side's number is the mean over its detectors.
        runs_b: the same of side B; there may be another number of them.
        resamples: draws of the bootstrap.
        seed: of the bootstrap.
        progress: whether to show a progress bar.

    Returns:
        {"pictures": P, "resamples", "seed", "metrics": {name of `METRICS`: {"a", "b": {"values":
        one per detector, "mean", "half_width": of the 95% interval over trainings}, "difference":
        B - A, "over_pictures", "over_trainings": [lower, upper] end of its 95% interval}}}. NaN
        where a number is not defined, or too few trainings say nothing of their spread.

    Raises:
        ValueError: a side is empty, there is no picture, or see `checks.check`.
    """
    for name, runs in (("runs_a", runs_a), ("runs_b", runs_b)):
        if not runs:
            raise ValueError(f"compare: {name} = {runs!r}: give one at least.")
    a = [PictureWeighted(ground_truth, run) for run in runs_a]
    b = [PictureWeighted(ground_truth, run) for run in runs_b]
    draws = paired_bootstrap(
        lambda weights: _mean(a, weights),
        lambda weights: _mean(b, weights),
        len(ground_truth.image_ids),
        resamples,
        seed,
        progress,
    )
    ones = np.ones(len(ground_truth.image_ids))
    values_a, values_b = (np.array([run(ones) for run in side]).T for side in (a, b))
    metrics = {}
    for name, of_a, of_b, interval in zip(METRICS, values_a, values_b, percentile_interval(draws)):
        metrics[name] = {
            "a": _side(of_a),
            "b": _side(of_b),
            "difference": float(of_b.mean() - of_a.mean()),
            "over_pictures": interval.tolist(),
            "over_trainings": _ends(difference_interval(of_a, of_b)),
        }
    return {
        "pictures": len(ground_truth.image_ids),
        "resamples": resamples,
        "seed": seed,
        "metrics": metrics,
    }


class PictureWeighted:
    """The `METRICS` of a detector as a function of how often each picture counts.

    Args:
        ground_truth: P pictures.
        detections: what was found in them.
    """

    def __init__(self, ground_truth: GroundTruth, detections: Detections):
        oracle = oracle_ranked(ground_truth, detections)
        self._ap, self._oracle_ap = (
            AveragePrecision(ground_truth, ranked, match(ground_truth, ranked))
            for ranked in (detections, oracle)
        )
        ious, counted = placement(ground_truth, detections)
        self._sums = _consistency_sums(
            detections.scores[counted].astype(np.float64),
            ious[counted],
            detections.image_index[counted],
            len(ground_truth.image_ids),
        )

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """The metrics where each picture counts so often.

        Args:
            weights: [P], from 0; a picture of weight 2 counts as if it were there twice, each of
                its detections right beside its copy.

        Returns:
            float64 [S], in the order of `METRICS`.
        """
        precision = self._ap(weights)
        ap = mean_average_precision(precision)
        ap75 = mean_average_precision(precision[np.isclose(IOU_THRESHOLDS, 0.75)])
        cost = mean_average_precision(self._oracle_ap(weights)) - ap
        return np.array([ap, ap75, *_consistency(weights @ self._sums), cost])


def _consistency_sums(
    scores: np.ndarray, ious: np.ndarray, image_index: np.ndarray, pictures: int
) -> np.ndarray:
    """What consistency is made of, added up over the detections of each picture: [P, 9]."""
    # Correlation does not ask where 0 is; near the mean, sums of squares lose no digits.
    x, y = (values - values.sum() / max(values.size, 1) for values in (scores, ious))
    confident = scores >= CONFIDENT
    columns = [
        *(np.ones(len(x)), np.abs(scores - ious), confident, confident & (ious < WELL_PLACED)),
        *(x, y, x * x, y * y, x * y),
    ]
    return np.stack(
        [np.bincount(image_index, column, minlength=pictures) for column in columns], axis=-1
    )


def _consistency(sums: np.ndarray) -> tuple[float, float, float]:
    """Mean gap, Pearson's correlation, share of the confident that are misplaced; [9] added up."""
    count, gap, confident, misplaced, x, y, xx, yy, xy = sums
    if not count:
        return (float("nan"),) * 3
    spread_x, spread_y = xx - x * x / count, yy - y * y / count
    constant = min(spread_x, spread_y) <= _SPREADLESS * count
    pearson = float("nan") if constant else (xy - x * y / count) / np.sqrt(spread_x * spread_y)
    return gap / count, pearson, misplaced / confident if confident else float("nan")


def _mean(runs: Sequence[PictureWeighted], weights: np.ndarray) -> np.ndarray:
    return np.mean([run(weights) for run in runs], axis=0)


def _side(values: np.ndarray) -> dict:
    half_width = mean_interval(values).half_width
    return {"values": values.tolist(), "mean": float(values.mean()), "half_width": half_width}


def _ends(interval: MeanInterval) -> list[float]:
    return [interval.mean - interval.half_width, interval.mean + interval.half_width]
