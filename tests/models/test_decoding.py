"""Non-maximum suppression, hard, voted and soft, against plain greedy loops."""

import numpy as np
import pytest

from harmonic_tf.backend import keras, tf
from harmonic_tf.models import NMS_CHOICES, DetectionDecoder, PortableDecoder, decoding


def iou(a, b):
    size = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = np.prod(np.maximum(size, 0))
    return shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared)


def hard(boxes, scores, score_threshold, iou_threshold):
    """Indices and scores of one group's boxes that stay, best first."""
    kept = []
    for i in np.argsort(-scores, kind="stable"):
        if scores[i] <= score_threshold:
            break
        if all(iou(boxes[i], boxes[j]) <= iou_threshold for j, _ in kept):
            kept.append((i, scores[i]))
    return kept


def soft(boxes, scores, score_threshold, limit):
    """Algorithm of figure 2 in arXiv 1704.04503: the best, then all others' scores again."""
    scores, left, kept = np.float64(scores), set(range(len(scores))), []
    while left and len(kept) < limit:
        best = max(left, key=lambda i: (scores[i], -i))
        if scores[best] <= score_threshold:
            break
        left.remove(best)
        kept.append((best, scores[best]))
        for i in left:
            scores[i] *= np.exp(-(iou(boxes[best], boxes[i]) ** 2) / 0.5)
    return kept


def voted(score, box, boxes, weights):
    """Score and box after all boxes have voted, and the box for itself once more."""
    boxes, weights = [*boxes, box], [*weights, score]
    overlaps = [iou(box, other) for other in boxes]
    votes = [w * np.exp(-((1 - u) ** 2) / 0.025) for w, u in zip(weights, overlaps)]
    moved = sum(v * np.float64(other) for v, other in zip(votes, boxes)) / sum(votes)
    same = [(w, u) for w, u in zip(weights, overlaps) if u > 0.5]
    agreement = sum(w * u for w, u in same) / sum(w for w, _ in same)
    return score * np.sqrt(agreement), moved


def all_of_them(scores, score_threshold):
    """Indices and scores of all boxes above the threshold."""
    return [(i, score) for i, score in enumerate(scores) if score > score_threshold]


def by_loops(boxes, scores, nms, class_agnostic, score_threshold, iou_threshold, limit):
    """(score, class, box) rows of one picture, best first."""
    classes = np.argmax(scores, axis=1)
    groups = [np.max(scores, axis=1)] if class_agnostic else scores.T
    rows = []
    for group, own in enumerate(groups):
        if nms in ("hard", "vote"):
            kept = hard(boxes, own, score_threshold, iou_threshold)
        elif nms == "soft":
            kept = soft(boxes, own, score_threshold, limit)
        else:
            kept = all_of_them(own, score_threshold)
        rows += [(s, classes[i] if class_agnostic else group, boxes[i], own) for i, s in kept]
    rows = best_first(rows)[:limit]
    if nms == "vote":
        rows = [(*voted(s, box, boxes, own), c) for s, c, box, own in rows]
        rows = best_first((s, c, box) for s, box, c in rows if s > score_threshold)
    return [row[:3] for row in rows]


def best_first(rows):
    return sorted(rows, key=lambda row: -row[0])


def decoded(decoder, batch, boxes, scores):
    # As in the graphs that are exported: of any number of pictures and boxes, or of known ones.
    boxes_each = None if batch is None else 50
    specs = [tf.TensorSpec([batch, boxes_each, size], tf.float32) for size in (4, 3)]
    return tf.function(decoder, input_signature=specs)(boxes, scores)


@pytest.mark.parametrize("nms", NMS_CHOICES)
@pytest.mark.parametrize("class_agnostic", [False, True])
@pytest.mark.parametrize("iou_threshold, limit", [(0.3, 5), (0.5, 100), (0.8, 200)])
def test_nms_against_a_greedy_loop(nms, class_agnostic, iou_threshold, limit):
    rng = np.random.default_rng(3)
    corner, size = rng.uniform(0, 60, (2, 50, 2)), rng.uniform(10, 40, (2, 50, 2))
    boxes = np.concatenate([corner, corner + size], axis=-1).astype(np.float32)
    scores = rng.uniform(0, 1, (2, 50, 3)).astype(np.float32)
    arguments = (0.2, iou_threshold, limit, nms, class_agnostic)
    found = decoded(DetectionDecoder(*arguments), None, boxes, scores)
    portable = decoded(PortableDecoder(*arguments), 2, boxes, scores)
    for name, value in found.items():
        np.testing.assert_array_equal(portable[name], value)
    for i in range(2):
        expected = by_loops(boxes[i], scores[i], nms, class_agnostic, 0.2, iou_threshold, limit)
        count = int(found["num_detections"][i])
        assert count == len(expected) > 0
        confidence = found["confidence"][i][:count]
        np.testing.assert_allclose(confidence, [row[0] for row in expected], rtol=1e-4)
        np.testing.assert_array_equal(found["classes"][i][:count], [row[1] for row in expected])
        boxes_there = found["boxes"][i][:count]
        np.testing.assert_allclose(boxes_there, [row[2] for row in expected], rtol=1e-4)
        for name in ("boxes", "confidence", "classes"):
            assert np.all(found[name][i][count:].numpy() == -1)


def test_soft_nms_of_two_boxes_by_hand():
    # Equal boxes but for a half: IoU 0.5, so the second score falls by exp(-0.25 / 0.5).
    boxes = np.float32([[[0, 0, 10, 10], [0, 0, 10, 5]]])
    scores = np.float32([[[0.9], [0.8]]])
    found = DetectionDecoder(max_detections=2, nms="soft")(boxes, scores)
    np.testing.assert_allclose(found["confidence"][0], [0.9, 0.8 * np.exp(-0.5)], rtol=1e-5)


def test_a_vote_moves_a_box_between_those_of_its_object():
    # Two boxes of equal scores, shifted by a tenth of their side: IoU 9 / 11. A third is elsewhere.
    # The one that is kept has two votes, as a voter and its own.
    boxes = np.float32([[[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60]]])
    scores = np.float32([[[0.8], [0.8], [0.5]]])
    found = DetectionDecoder(max_detections=3, nms="vote")(boxes, scores)
    shift = np.exp(-((2 / 11) ** 2) / 0.025) / (2 + np.exp(-((2 / 11) ** 2) / 0.025))
    moved = [[shift, 0, 10 + shift, 10], [50, 50, 60, 60]]
    np.testing.assert_allclose(found["boxes"][0][:2], moved, rtol=1e-5, atol=1e-5)
    confidence = [0.8 * np.sqrt((2 + 9 / 11) / 3), 0.5, -1]
    np.testing.assert_allclose(found["confidence"][0], confidence, rtol=1e-5)


def test_what_is_no_voter_stays(monkeypatch):
    # Of three boxes the best alone votes: it keeps the next from moving, and the far one its score.
    monkeypatch.setattr(decoding, "VOTERS", 1)
    boxes = np.float32([[[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60]]])
    found = DetectionDecoder(nms="vote")(boxes, np.float32([[[0.8], [0.7], [0.5]]]))
    np.testing.assert_allclose(found["boxes"][0][:2], boxes[0][[0, 2]], atol=1e-5)
    np.testing.assert_allclose(found["confidence"][0][:2], [0.8, 0.5], rtol=1e-6)


@pytest.mark.parametrize("nms", NMS_CHOICES)
@pytest.mark.parametrize("class_agnostic", [False, True])
def test_nothing_found_is_all_padding(nms, class_agnostic):
    decoder = DetectionDecoder(max_detections=4, nms=nms, class_agnostic=class_agnostic)
    found = decoder(np.zeros((1, 3, 4)), np.zeros((1, 3, 2)))
    assert found["num_detections"].numpy() == [0]
    assert np.all(found["boxes"].numpy() == -1)


def test_no_suppression_by_hand():
    # The same box three times: every pair of box and class above 0.3 stays, best first.
    boxes = np.float32([[[0, 0, 10, 10]] * 3])
    scores = np.float32([[[0.9, 0.4], [0.3, 0.2], [0.1, 0.7]]])
    found = DetectionDecoder(0.3, max_detections=4, nms="none")(boxes, scores)
    np.testing.assert_allclose(found["confidence"][0], [0.9, 0.7, 0.4, -1])
    np.testing.assert_array_equal(found["classes"][0], [0, 1, 1, -1])
    assert found["num_detections"].numpy() == [3]
    # Each box with its best class alone: the second one's best is not above 0.3.
    found = DetectionDecoder(0.3, max_detections=4, nms="none", class_agnostic=True)(boxes, scores)
    np.testing.assert_allclose(found["confidence"][0], [0.9, 0.7, -1, -1])
    np.testing.assert_array_equal(found["classes"][0], [0, 1, -1, -1])


def test_unknown_nms_is_refused():
    with pytest.raises(ValueError, match=r"nms = 'fast' must be one of \('hard', 'vote',"):
        DetectionDecoder(nms="fast")


def test_survives_serialization():
    decoder = DetectionDecoder(0.1, 0.6, 7, "soft", True)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(decoder))
    assert copy.get_config() == decoder.get_config()
    assert (copy.nms, copy.class_agnostic) == ("soft", True)
