"""Non-maximum suppression against a plain greedy loop."""

import numpy as np
import pytest

from harmonic_tf.backend import keras
from harmonic_tf.models import DetectionDecoder


def greedy(boxes, scores, score_threshold, iou_threshold, limit):
    """Class-wise NMS: (score, class, box) rows, best first."""
    kept = []
    for c in range(scores.shape[1]):
        chosen = []
        for i in np.argsort(-scores[:, c], kind="stable"):
            if scores[i, c] <= score_threshold:
                continue
            a = boxes[i]
            for j in chosen:
                b = boxes[j]
                size = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
                shared = np.prod(np.maximum(size, 0))
                if shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared) > (
                    iou_threshold
                ):
                    break
            else:
                chosen.append(i)
        kept += [(scores[i, c], c, tuple(boxes[i])) for i in chosen]
    return sorted(kept, key=lambda row: -row[0])[:limit]


@pytest.mark.parametrize("iou_threshold", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("limit", [5, 100])
def test_against_a_greedy_loop(iou_threshold, limit):
    rng = np.random.default_rng(3)
    corner, size = rng.uniform(0, 60, (2, 50, 2)), rng.uniform(10, 40, (2, 50, 2))
    boxes = np.concatenate([corner, corner + size], axis=-1).astype(np.float32)
    scores = rng.uniform(0, 1, (2, 50, 3)).astype(np.float32)
    found = DetectionDecoder(0.2, iou_threshold, limit)(boxes, scores)
    for i in range(2):
        expected = greedy(boxes[i], scores[i], 0.2, iou_threshold, limit)
        count = int(found["num_detections"][i])
        assert count == len(expected)
        np.testing.assert_allclose(found["confidence"][i][:count], [row[0] for row in expected])
        np.testing.assert_array_equal(found["classes"][i][:count], [row[1] for row in expected])
        np.testing.assert_allclose(found["boxes"][i][:count], [row[2] for row in expected])
        for name in ("boxes", "confidence", "classes"):
            assert np.all(found[name][i][count:].numpy() == -1)


def test_nothing_found_is_all_padding():
    found = DetectionDecoder(max_detections=4)(np.zeros((1, 3, 4)), np.zeros((1, 3, 2)))
    assert found["num_detections"].numpy() == [0]
    assert np.all(found["boxes"].numpy() == -1)


def test_survives_serialization():
    decoder = DetectionDecoder(0.1, 0.6, 7)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(decoder))
    assert copy.get_config() == decoder.get_config()
