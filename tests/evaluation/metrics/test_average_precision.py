import dataclasses

import numpy as np
import pytest

from harmonic_tf.evaluation import (
    AREA_RANGES,
    AveragePrecision,
    average_precision,
    coco_evaluation,
    match,
    precision_recall,
)


def repeated(table, weights):
    """Rows of the pictures, each picture as often as its weight says, copies side by side."""
    firsts = np.cumsum(weights) - weights
    rows, pictures = [], []
    for row, picture in enumerate(table.image_index):
        for copy in range(weights[picture]):
            rows.append(row)
            pictures.append(firsts[picture] + copy)
    columns = {
        field.name: getattr(table, field.name)[rows]
        for field in dataclasses.fields(table)
        if isinstance(getattr(table, field.name), np.ndarray)
    }
    return dataclasses.replace(table, **{**columns, "image_index": np.array(pictures, np.int64)})


@pytest.mark.parametrize("area_range", [None, AREA_RANGES["medium"]])
@pytest.mark.parametrize("seed", range(6))
def test_a_weight_repeats_a_picture(scene, seed, area_range):
    truth, found = scene(seed, image_ids=tuple(range(6)))
    precision = AveragePrecision(truth, found, match(truth, found, area_range=area_range))
    rng = np.random.default_rng(seed)
    for _ in range(4):
        weights = rng.integers(0, 4, len(truth.image_ids))
        more_truth = dataclasses.replace(
            repeated(truth, weights), image_ids=list(range(weights.sum()))
        )
        more_found = repeated(found, weights)
        matches = match(more_truth, more_found, area_range=area_range)
        expected = average_precision(more_truth, more_found, matches)
        np.testing.assert_allclose(precision(weights), expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(precision(), precision(np.ones(len(truth.image_ids))))


@pytest.mark.parametrize("seed", range(6))
def test_means_are_the_numbers_of_coco(scene, seed):
    truth, found = scene(seed, tied_scores=True)
    overall, per_class = coco_evaluation(truth, found)

    def close(value, expected):
        assert value == pytest.approx(expected, abs=1e-12, nan_ok=True)

    precision = average_precision(truth, found, match(truth, found))
    close(np.nanmean(precision), overall["AP"])
    close(np.nanmean(precision[0]), overall["AP50"])
    close(np.nanmean(precision[5]), overall["AP75"])
    for column, values in zip(precision.T, per_class.values()):
        close(column.mean(), values["AP"])
        close(column[5], values["AP75"])
    for name, key in (("small", "APs"), ("medium", "APm"), ("large", "APl")):
        of_size = match(truth, found, area_range=AREA_RANGES[name])
        known = average_precision(truth, found, of_size)
        known = known[~np.isnan(known)]
        close(known.mean() if known.size else np.nan, overall[key])


def test_hand_worked_curve(ground_truth_of, detections_of):
    box, other, nowhere = (0, 0, 10, 10), (20, 0, 30, 10), (50, 50, 60, 60)
    truth = ground_truth_of(
        [(0, box, 0, False, False), (0, other, 0, True, False), (1, box, 0, False, False)],
        image_ids=["p", "q"],
        class_names=["ring", "star"],
    )
    found = detections_of(
        [
            (1, box, 0, 0.25),
            (0, nowhere, 0, 0.75),
            (0, other, 0, 0.5),  # difficult: not on the curve
            (0, box, 0, 1),
            (0, box, 1, 1),
        ]
    )
    matches = match(truth, found)
    recall, precision, scores = precision_recall(truth, found, matches, 0, 0)
    assert scores.tolist() == [1, 0.75, 0.25]
    np.testing.assert_allclose(recall, [1 / 2, 1 / 2, 1])
    np.testing.assert_allclose(precision, [1, 1 / 2, 2 / 3])
    # Precision 1 at recalls 0 to 0.5, 51 points; 2/3 at the 50 others.
    by_class = average_precision(truth, found, matches)
    np.testing.assert_allclose(by_class[:, 0], (51 + 50 * 2 / 3) / 101)
    # No star is there to be found.
    assert np.isnan(by_class[:, 1]).all()
    assert [len(values) for values in precision_recall(truth, found, matches, 0, 1)] == [0, 0, 0]
    # Only picture q, three times: nothing stands before its one detection.
    np.testing.assert_allclose(average_precision(truth, found, matches, [0, 3])[:, 0], 1)
    # Picture q once, p twice: 2 true, 2 false, 1 true of 3: up to 2/3 precision 1, then 3/5.
    np.testing.assert_allclose(
        average_precision(truth, found, matches, [2, 1])[:, 0], (67 + 34 * 3 / 5) / 101
    )


def test_nothing_found_is_zero(scene, detections_of):
    truth, _ = scene(12, flags=False)
    nothing = detections_of([])
    precision = average_precision(truth, nothing, match(truth, nothing))
    assert set(precision[~np.isnan(precision)]) == {0}
