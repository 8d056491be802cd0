import dataclasses

import numpy as np
import pytest

from harmonic_tf.evaluation import by_group, coco_metrics, consistency, ranking_cost
from harmonic_tf.evaluation.metrics.matching import best_objects

NUMBERS = ["mean_abs_gap", "pearson", "confident_misplaced", "unconfident_well_placed"]
BOX = np.array([0, 0, 10, 10])


def with_extras(truth, **extras):
    extras = {name: np.array(values, np.float32) for name, values in extras.items()}
    return dataclasses.replace(truth, extras=extras)


def side_by_side(ground_truth_of, count):
    return ground_truth_of(
        [(0, BOX + np.array([50 * n, 0] * 2), 0, False, False) for n in range(count)]
    )


def test_groups_are_named_by_their_edges(ground_truth_of, detections_of):
    truth = with_extras(
        side_by_side(ground_truth_of, 6),
        occlusion=[0.1, 0.5, 0.6, 0.75, 1, np.nan],
        irregularity=[0.39, 0.4, 0.59, 0.6, 1, 0],
        truncated=[0, 1, 0, np.nan, 0, 1],
    )
    groups = by_group(truth, detections_of([]))
    counts = {name: {row["group"]: row["objects"] for row in rows} for name, rows in groups.items()}
    assert counts == {
        "occlusion": {"0 to 0.5": 1, "0.5 to 0.75": 2, "0.75 to 1": 1, "1": 1},
        "irregularity": {"0 to 0.4": 2, "0.4 to 0.5": 1, "0.5 to 0.6": 1, "0.6 to 1": 2},
        "truncated": {"no": 3, "yes": 2},
    }
    assert all(row["AP"] == 0 for rows in groups.values() for row in rows)
    assert all(np.isnan(row["mean_abs_gap"]) for rows in groups.values() for row in rows)


def test_hand_worked(ground_truth_of, detections_of):
    truth = with_extras(side_by_side(ground_truth_of, 3), occlusion=[0.6, 1, 1])
    found = detections_of(
        [
            (0, (0, 0, 10, 8), 0, 0.75),  # the hidden one, IoU 0.8
            (0, (50, 0, 60, 10), 0, 0.25),  # a free one, exactly
            (0, (300, 0, 310, 10), 0, 0.5),  # nothing
        ]
    )
    hidden, free = by_group(truth, found)["occlusion"]
    assert (hidden["group"], hidden["objects"]) == ("0.5 to 0.75", 1)
    # Found first at thresholds 0.5 to 0.8, seven of ten.
    assert hidden["AP"] == hidden["AP_oracle"] == pytest.approx(0.7)
    assert (hidden["AP75"], hidden["cost"]) == pytest.approx((1, 0))
    assert hidden["mean_abs_gap"] == pytest.approx(0.05)
    assert (hidden["confident_misplaced"], hidden["unconfident_well_placed"]) == (0, 0)

    assert (free["group"], free["objects"]) == ("1", 2)
    # One of two, 51 recalls of 101. Up to 0.8 the detection of the hidden one does not count, so
    # that one false alarm is before it; above there are two; before the oracle's first, nothing.
    share = 51 / 101
    assert free["AP"] == pytest.approx((7 / 2 + 3 / 3) / 10 * share)
    assert free["AP75"] == pytest.approx(share / 2)
    assert free["AP_oracle"] == pytest.approx(share)
    assert free["cost"] == pytest.approx(free["AP_oracle"] - free["AP"])
    # The false alarm has no object, so no group.
    assert free["mean_abs_gap"] == pytest.approx(0.75)
    assert np.isnan(free["confident_misplaced"])
    assert free["unconfident_well_placed"] == 1


def test_difficult_objects_have_a_group_of_their_own(ground_truth_of, detections_of):
    truth = with_extras(
        ground_truth_of(
            [
                (0, BOX, 0, False, False),
                (0, BOX + 50, 0, True, False),
                (0, BOX + 100, 0, False, True),
            ]
        ),
        occlusion=[1, 0.6, 0.2],
    )
    found = detections_of([(0, BOX, 0, 0.5), (0, (50, 50, 60, 56), 0, 0.75)])
    groups = by_group(truth, found)
    # One group is no split: neither the difficult object nor the crowd region is asked for.
    assert list(groups) == ["difficult"]
    plain, difficult = groups["difficult"]
    # IoU 0.6 with the difficult one: found at three thresholds of ten, a false alarm at the others.
    assert (plain["group"], plain["objects"]) == ("no", 1)
    assert plain["AP"] == pytest.approx((3 + 7 / 2) / 10)
    assert (difficult["group"], difficult["objects"]) == ("yes", 1)
    assert difficult["AP"] == pytest.approx(0.3)
    assert difficult["mean_abs_gap"] == pytest.approx(0.15)


@pytest.mark.parametrize("seed", [3, 7, 12])
def test_parts_agree_with_the_whole(scene, seed):
    """A group that holds nearly everything has the numbers of the whole."""
    truth, found = scene(seed, flags=False)
    occlusion = np.full(len(truth.classes), 0.9)
    far = dataclasses.replace(  # an object more, in a class of which nothing is found
        truth,
        class_names=[*truth.class_names, "moon"],
        image_index=np.append(truth.image_index, 0),
        boxes=np.append(truth.boxes, [[0, 0, 9, 9]], axis=0).astype(np.float32),
        classes=np.append(truth.classes, 3),
        difficult=np.append(truth.difficult, False),
        crowd=np.append(truth.crowd, False),
        extras={"occlusion": np.append(occlusion, 1)},
    )
    most, last = by_group(far, found)["occlusion"]
    assert (most["objects"], last["objects"]) == (len(truth.classes), 1)
    overall, whole = coco_metrics(truth, found), ranking_cost(truth, found)
    assert most["AP"] == pytest.approx(overall["AP"])
    assert most["AP75"] == pytest.approx(overall["AP75"])
    assert most["AP_oracle"] == pytest.approx(whole["AP_oracle"])
    assert last["AP"] == 0

    # Consistency goes without what overlaps no object.
    touching = best_objects(truth, found, ~truth.crowd)[0] > 0
    rows = dataclasses.replace(
        found,
        **{f.name: getattr(found, f.name)[touching] for f in dataclasses.fields(found)},
    )
    expected = consistency(truth, rows)
    assert [most[name] for name in NUMBERS] == pytest.approx(
        [expected[name] for name in NUMBERS], nan_ok=True
    )


def test_of_objects_of_which_nothing_is_known_boxes_alone_tell(scene):
    truth, found = scene(5, flags=False)
    assert list(by_group(truth, found)) == ["crowding"]
    unknown = with_extras(truth, occlusion=np.full(len(truth.classes), np.nan))
    assert list(by_group(unknown, found)) == ["crowding"]


def test_crowding_is_the_highest_overlap_with_another_object_of_the_picture(
    ground_truth_of, detections_of
):
    truth = ground_truth_of(
        [
            (0, (0, 0, 10, 10), 0, False, False),
            (0, (0, 0, 10, 8), 1, False, False),  # IoU 0.8 with the first, whatever its class
            (1, (0, 0, 10, 10), 0, False, False),  # the same box in another picture
            (0, (0, 8, 10, 10), 0, False, False),  # IoU 0.2 with the first
            (1, (0, 0, 10, 10), 0, False, True),  # a crowd region is no object
            (1, (100, 0, 110, 10), 0, False, False),
        ],
        ("a", "b"),
        ("thing", "other"),
    )
    rows = by_group(truth, detections_of([]))["crowding"]
    assert [(row["group"], row["objects"]) for row in rows] == [
        *(("0 to 0.1", 2), ("0.1 to 0.3", 1), ("0.3 to 1", 2)),
    ]
