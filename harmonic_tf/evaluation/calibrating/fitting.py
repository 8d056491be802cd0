"""Fits calibrated scores to validation pictures, class by class.

The target of a detection is its IoU with the object that it finds, 0 where it finds none, in the
pairs that LaECE is taken over. So a calibrated score is the IoU to expect.

Source: Kuzucu, Oksuz, Sadeghi and Dokania, "On Calibration of Object Detectors: Pitfalls,
Evaluation and Baselines", ECCV 2024, https://arxiv.org/abs/2405.20459, section 5. Isotonic
regression: Zadrozny and Elkan, KDD 2002; Platt scaling: Platt, 1999; temperature: Guo et al., ICML
2017, https://arxiv.org/abs/1706.04599.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable

import numpy as np

from harmonic_tf.evaluation.calibrating.table import KNOTS, Calibration, with_scores_by
from harmonic_tf.evaluation.detections import Detections, GroundTruth
from harmonic_tf.evaluation.metrics.calibration import (
    PairedClass,
    calibration_and_ap,
    optimal_threshold,
    paired_by_class,
)

POOLED = 100
"""A class's own fit weighs n / (n + POOLED), the fit to all classes together the rest; n are its
detections from its LRP-optimal threshold on. By what 30, 100, 400 scenes say of 300 others."""

# The share of the raw score in a calibrated one. Where a fit is level, and of many scores isotonic
# regression makes one, it keeps them apart.
_RAW_SHARE = 1e-3
_MARGIN = 1e-6  # of scores from 0 and 1, where log odds are infinite
_WEAK = 1e6  # inverse strength of the penalty that keeps the fit of log odds finite
_SHOWN = ("LaECE", "LaACE", "LRP", "AP", "AP50")


def fit_calibration(
    ground_truth: GroundTruth, detections: Detections, method: str, fitted_on: str
) -> Calibration | None:
    """Fits a calibration to what was found in validation pictures.

    The table of a class is the weighted mean of its own fit and that to all classes together, see
    `POOLED`: the fewer its detections, the more it has of the latter.

    Isotonic regression takes all detections. The other methods have one or two numbers to tell a
    whole curve by and take, as the authors do, those from the class's LRP-optimal threshold on.

    Args:
        ground_truth: annotated validation pictures.
        detections: what was found in them, with raw scores.
        method: one of `CALIBRATION_METHODS`.
        fitted_on: name of these pictures.

    Returns:
        The calibration; None where there is no detection that counts.

    Raises:
        ValueError: the method is unknown; or see `checks.check`.
    """
    if method not in CALIBRATION_METHODS:
        raise ValueError(
            f"fit_calibration: method = {method!r} is none of {', '.join(CALIBRATION_METHODS)}. "
            "Choose one."
        )
    classes = paired_by_class(ground_truth, detections)
    shown = [found.shown(optimal_threshold(found)) for found in classes]
    counts = [len(found.scores) for found in shown]
    if not sum(counts):
        return None
    fitted = classes if method == "isotonic" else shown
    fit = _FITS[method]
    of_all = _table_of(fit, fitted)
    table = np.stack(
        [
            (count * _table_of(fit, [found]) + POOLED * of_all) / (count + POOLED)
            if count
            else of_all
            for found, count in zip(fitted, counts)
        ]
    )
    names = ground_truth.class_names
    before, after = (
        {name: errors[name] for name in _SHOWN}
        for errors in (
            calibration_and_ap(ground_truth, detections),
            calibration_and_ap(ground_truth, with_scores_by(table, detections)),
        )
    )
    return Calibration(
        method=method,
        class_names=list(names),
        table=table,
        fitted_on=fitted_on,
        detections=dict(zip(names, counts)),
        before=before,
        after=after,
    )


def _table_of(fit: Callable, classes: Sequence[PairedClass]) -> np.ndarray:
    """Calibrated scores at `KNOTS`, float64, of one fit to all detections of some classes."""
    scores = np.concatenate([found.scores for found in classes])
    ious = np.concatenate([found.ious for found in classes])
    fitted = np.clip(fit(scores, ious), 0, 1)
    return (1 - _RAW_SHARE) * fitted + _RAW_SHARE * KNOTS


def _isotonic(scores: np.ndarray, ious: np.ndarray) -> np.ndarray:
    from sklearn.isotonic import IsotonicRegression

    return IsotonicRegression(out_of_bounds="clip").fit(scores, ious).predict(KNOTS)


def _linear(scores: np.ndarray, ious: np.ndarray) -> np.ndarray:
    from sklearn.linear_model import LinearRegression

    return LinearRegression(positive=True).fit(scores[:, None], ious).predict(KNOTS[:, None])


def _platt(scores: np.ndarray, ious: np.ndarray) -> np.ndarray:
    return _logistic(scores, ious, fit_intercept=True)


def _temperature(scores: np.ndarray, ious: np.ndarray) -> np.ndarray:
    return _logistic(scores, ious, fit_intercept=False)


def _logistic(scores: np.ndarray, ious: np.ndarray, fit_intercept: bool) -> np.ndarray:
    """Of the log odds; each detection is true to the part of its IoU, and false to the rest."""
    from sklearn.linear_model import LogisticRegression

    odds = _log_odds(scores)[:, None]
    true = np.repeat([1, 0], len(scores))
    model = LogisticRegression(C=_WEAK, fit_intercept=fit_intercept, max_iter=1000)
    model.fit(np.concatenate([odds, odds]), true, np.concatenate([ious, 1 - ious]))
    if model.coef_.item() <= 0:  # a higher score means no better box: all get the same
        return np.full_like(KNOTS, ious.mean())
    return model.predict_proba(_log_odds(KNOTS)[:, None])[:, 1]


def _log_odds(scores: np.ndarray) -> np.ndarray:
    inside = np.clip(scores, _MARGIN, 1 - _MARGIN)
    return np.log(inside) - np.log1p(-inside)


_FITS = {
    "isotonic": _isotonic,
    "linear": _linear,
    "platt": _platt,
    "temperature": _temperature,
}

CALIBRATION_METHODS = tuple(_FITS)
"""How calibrated scores are fitted: any curve that does not fall; a straight line; a straight line
of log odds; one that goes through score 0.5."""
