import dataclasses

import numpy as np
import pytest

from harmonic_tf.evaluation import coco_metrics, consistency, evaluate, voc_map


def broken(table, field, row, value):
    values = getattr(table, field).copy()
    values[row] = value
    return dataclasses.replace(table, **{field: values})


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("classes", -1, r"Detections.classes\[2\] = -1: .* 3 class names .*padding"),
        ("classes", 3, r"Detections.classes\[2\] = 3"),
        ("image_index", 4, r"Detections.image_index\[2\] = 4"),
        ("scores", np.nan, r"Detections.scores\[2\] = nan"),
        ("scores", 3.5, r"Detections.scores\[2\] = 3.5: .*not logits"),
        ("boxes", np.inf, r"Detections.boxes\[2\] = .*not finite"),
    ],
)
@pytest.mark.parametrize("measure", [coco_metrics, voc_map, consistency, evaluate])
def test_bad_detections(scene, measure, field, value, message):
    truth, found = scene(12)
    with pytest.raises(ValueError, match=message):
        measure(truth, broken(found, field, 2, value))


def test_bad_ground_truth(scene):
    truth, found = scene(12)
    with pytest.raises(ValueError, match=r"GroundTruth.classes\[0\] = 7"):
        evaluate(broken(truth, "classes", 0, 7), found)
    with pytest.raises(ValueError, match=r"GroundTruth.crowd = array of shape \(1,\)"):
        evaluate(dataclasses.replace(truth, crowd=truth.crowd[:1]), found)
    with pytest.raises(ValueError, match=r"GroundTruth.extras\['area'\] = array of shape \(1,\)"):
        evaluate(dataclasses.replace(truth, extras={"area": np.ones(1)}), found)
    with pytest.raises(ValueError, match="image_ids = 9: stands there more than once"):
        evaluate(dataclasses.replace(truth, image_ids=[9, 4, 9, 1]), found)
    with pytest.raises(ValueError, match="class_names = 'a'"):
        evaluate(dataclasses.replace(truth, class_names=["a", "a", "b"]), found)
