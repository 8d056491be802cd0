"""Mosaic, mixup and pasted objects: where pixels come from, and that their objects come along."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonic_tf.backend import tf
from harmonic_tf.data.pipeline import transforms

SEEDS = st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))
SIDES = st.integers(20, 90)
DTYPES = st.sampled_from(["uint8", "float32"])
few = settings(deadline=None, max_examples=12)
GREY = transforms.PADDING_GREY


def located(example, mark):
    """The Example with a picture that says of each pixel where it is (y, x), and whose."""
    height, width = example["image"].shape[:2]
    y, x = np.mgrid[:height, :width]
    image = np.stack([y, x, np.full_like(x, mark)], axis=-1)
    return {**example, "image": tf.constant(image, example["image"].dtype)}


def serial(example, start):
    """The Example with other serial numbers; a multiple of 6 keeps what `numbered` checks."""
    return {
        **example,
        "classes": example["classes"] + start,
        "occlusion": example["occlusion"] + start / 10,
    }


@few
@given(st.lists(st.tuples(SIDES, SIDES, st.integers(0, 12)), min_size=4, max_size=4), SEEDS, DTYPES)
def test_mosaic_against_numpy(numbered, shapes, seed, dtype):
    size, marks, per_picture = 64, [200, 210, 220, 230], 60
    examples = [
        serial(located(numbered.make(*shape, seed[0] + i, dtype), marks[i]), i * per_picture)
        for i, shape in enumerate(shapes)
    ]
    result = transforms.mosaic(examples, seed, size)
    numbered.check(result)
    image = result["image"].numpy().astype(int)
    assert image.shape == (size, size, 3) and result["image"].dtype == dtype

    bounds, kept = [], result["classes"].numpy()
    for i, example in enumerate(examples):
        rows, columns = np.nonzero(image[..., 2] == marks[i])
        bounds.append([rows.min(), rows.max(), columns.min(), columns.max()])
        shift = np.unique(np.stack([rows, columns]) - image[rows, columns, :2].T, axis=1)
        assert shift.shape == (2, 1)  # every pixel of a picture is moved alike
        # What of it is seen is a rectangle.
        assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        mine = kept[(kept >= i * per_picture) & (kept < (i + 1) * per_picture)] - i * per_picture
        moved = example["boxes"].numpy() + shift[::-1, 0].tolist() * 2
        # Of the picture, only what is in its quadrant: pixels beyond it do not exist anyway.
        seen = [columns.min(), rows.min()] * 2, [columns.max() + 1, rows.max() + 1] * 2
        clipped = np.clip(moved, *seen)
        boxes = result["boxes"].numpy()[np.isin(kept, mine + i * per_picture)]
        np.testing.assert_allclose(boxes, clipped[mine], atol=1e-3)
        share = np.prod(clipped[:, 2:] - clipped[:, :2], 1) / np.prod(
            moved[:, 2:] - moved[:, :2], 1
        )
        assert set(np.flatnonzero(share > 0.301)) <= set(mine) <= set(np.flatnonzero(share > 0.299))
    assert (image[~np.isin(image[..., 2], marks)] == GREY).all()
    (_, a_low, _, a_right), (_, b_low, b_left, _), (c_top, _, _, c_right), (d_top, _, d_left, _) = (
        bounds
    )
    assert max(a_low, b_low) < min(c_top, d_top) and max(a_right, c_right) < min(b_left, d_left)


def test_mosaic_of_large_pictures_has_no_grey_and_a_centre_that_moves(numbered):
    examples = [located(numbered.make(70, 80, 0, i), 200 + i) for i in range(4)]
    centers = []
    for number in range(60):
        marks = transforms.mosaic(examples, (1, number), 60)["image"].numpy()[..., 2]
        assert set(np.unique(marks)) == {200, 201, 202, 203}
        centers.append([(marks[:, 0] == 200).sum(), (marks[0] == 200).sum()])
    low, high = np.min(centers, axis=0), np.max(centers, axis=0)
    assert (low >= 12).all() and (high <= 48).all()  # 0.2 and 0.8 of the side
    assert (low <= 16).all() and (high >= 44).all()


@few
@given(st.integers(0, 5), st.integers(0, 5), SEEDS, DTYPES, st.sampled_from([0.5, 1.5, 8.0]))
def test_mixup_against_numpy(numbered, first_count, second_count, seed, dtype, alpha):
    first = numbered.make(30, 40, first_count, seed, dtype)
    second = serial(numbered.make(30, 40, second_count, seed[0] + 1, dtype), 60)
    result = transforms.mixup(first, second, seed, alpha)
    numbered.check(result)
    one, other = (example["image"].numpy().astype(np.float64) for example in (first, second))
    mixed = result["image"].numpy()
    floats = (
        {"image": tf.cast(e["image"], tf.float32), "boxes": e["boxes"]} for e in (first, second)
    )
    exact = transforms.mixup(*floats, seed, alpha)["image"].numpy()
    ratio = np.vdot(exact - other, one - other) / np.vdot(one - other, one - other)
    assert -1e-3 <= ratio <= 1 + 1e-3
    tolerance = 0.6 if dtype == "uint8" else 1e-2
    np.testing.assert_allclose(mixed, ratio * one + (1 - ratio) * other, atol=tolerance)
    assert result["image"].dtype == dtype
    for name in ("boxes", "classes"):
        both = np.concatenate([first[name], second[name]])
        np.testing.assert_array_equal(result[name], both)


@pytest.mark.parametrize("alpha", [0.5, 1.5])
def test_mixup_draws_from_the_beta_distribution(alpha):
    one, other = (
        {"image": tf.fill([1, 1, 3], level), "boxes": tf.zeros([0, 4])} for level in (1.0, 0.0)
    )
    mix = tf.function(lambda seed: transforms.mixup(one, other, seed, alpha)["image"][0, 0, 0])
    ratios = np.sort([mix(tf.constant([4, number])).numpy() for number in range(500)])
    reference = np.sort(np.random.default_rng(0).beta(alpha, alpha, 100_000))
    # Kolmogorov and Smirnov's distance: 1.95 / sqrt(500) is exceeded in 1 of 1000 samples.
    distribution = np.searchsorted(reference, ratios) / len(reference)
    assert np.abs(distribution - np.arange(1, 501) / 500).max() < 1.95 / np.sqrt(500)


def overlaps(a, b):
    low, high = np.maximum(a[:, None, :2], b[:, :2]), np.minimum(a[:, None, 2:], b[:, 2:])
    return (high > low).all(axis=-1)


@few
@given(st.integers(24, 140), st.integers(24, 140), st.integers(0, 9), SEEDS, DTYPES)
def test_pasted_objects_are_copies_at_free_places(numbered, height, width, objects, seed, dtype):
    example = numbered.make(height, width, objects, seed, dtype)
    boxes = example["boxes"].numpy()
    corner = boxes[:, :2]
    # Most objects 2 to 22 px; the rest as they come.
    boxes[:7, 2:] = np.minimum(corner + 2 + (boxes[:, 2:] - corner) % 20, [width, height])[:7]
    example["boxes"] = tf.constant(boxes)
    result = transforms.paste_small_objects(example, seed, 400.0, 2)
    numbered.check(result)
    assert result["image"].dtype == dtype and result["image"].shape == (height, width, 3)
    for name in set(example) - {"image"}:
        np.testing.assert_array_equal(result[name][:objects], example[name])

    pasted, sources = result["boxes"].numpy()[objects:], result["classes"].numpy()[objects:]
    np.testing.assert_array_equal(pasted, np.round(pasted))
    origins = boxes[sources]
    assert (np.prod(origins[:, 2:] - origins[:, :2], axis=1) < 400.0).all()
    assert not example["crowd"].numpy()[sources].any()
    assert np.bincount(sources, minlength=1).max() <= 2
    sizes, before = pasted[:, 2:] - pasted[:, :2], origins[:, 2:] - origins[:, :2]
    assert (sizes >= np.maximum(0.8 * before - 0.51, 1)).all()
    assert (sizes <= np.maximum(1.2 * before + 0.51, 1)).all()
    assert (pasted[:, :2] >= 5).all() and (pasted[:, 2:] <= [width - 5, height - 5]).all()
    assert not overlaps(pasted, boxes).any()
    np.testing.assert_array_equal(overlaps(pasted, pasted), np.eye(len(pasted), dtype=bool))

    outside = np.ones((height, width), bool)
    for left, top, right, bottom in pasted.astype(int):
        outside[top:bottom, left:right] = False
    np.testing.assert_array_equal(
        result["image"].numpy()[outside], example["image"].numpy()[outside]
    )


@pytest.mark.parametrize("flip", [0.0, 1.0])
@few
@given(SEEDS, st.floats(3.0, 30.0), st.floats(3.0, 30.0))
def test_pasted_pixels_are_what_the_box_holds(flip, seed, box_width, box_height):
    # The picture says where its pixels are, so a copy must say where its own come from.
    y, x = np.mgrid[:160, :160].astype(np.float32) + 0.5
    box = np.array([20.3, 40.6, 20.3 + box_width, 40.6 + box_height], np.float32)
    example = {
        "image": tf.constant(np.stack([y, x, np.zeros_like(x)], axis=-1)),
        "boxes": tf.constant(box[None]),
        "classes": tf.constant([3]),
    }
    result = transforms.paste_small_objects(example, seed, 1000.0, 4, flip)
    image = result["image"].numpy()
    for left, top, right, bottom in result["boxes"].numpy()[1:].astype(int):
        across = (np.arange(right - left) + 0.5) / (right - left)
        if flip:
            across = across[::-1]
        down = (np.arange(bottom - top) + 0.5) / (bottom - top)
        patch = image[top:bottom, left:right]
        expected_x, expected_y = box[0] + box_width * across, box[1] + box_height * down
        np.testing.assert_allclose(patch[..., 1], np.tile(expected_x, (bottom - top, 1)), atol=1e-3)
        np.testing.assert_allclose(
            patch[..., 0].T, np.tile(expected_y, (right - left, 1)), atol=1e-3
        )


def test_each_small_object_is_pasted_as_often_as_asked_where_there_is_room(numbered):
    example = numbered.make(300, 300, 3, 0, crowds=False)
    example["boxes"] = tf.constant([[5, 5, 15, 20], [40, 5, 60, 25], [0, 100, 80, 180]], tf.float32)
    result = transforms.paste_small_objects(example, (1, 2), copies=4)
    np.testing.assert_array_equal(np.bincount(result["classes"].numpy()), [5, 5, 1])
    sizes = (result["boxes"][3:, 2:] - result["boxes"][3:, :2]).numpy()
    assert len(np.unique(sizes, axis=0)) > 2


def test_nothing_is_pasted_where_nothing_may_be(numbered):
    small = numbered.make(60, 60, 1, 0, crowds=False)
    small["boxes"] = tf.constant([[10, 10, 20, 20]], tf.float32)
    crowd = {**small, "crowd": tf.constant([True])}
    full = numbered.make(60, 60, 2, 0, crowds=False)
    full["boxes"] = tf.constant([[10, 10, 20, 20], [0, 0, 60, 60]], tf.float32)
    padded = {**small, "image": tf.fill([60, 60, 3], tf.constant(GREY, tf.uint8))}
    tiny = {**small, "image": small["image"][:21, :21]}
    for example in (crowd, full, padded, tiny):
        result = transforms.paste_small_objects(example, (1, 2))
        for name, value in example.items():
            np.testing.assert_array_equal(result[name], value, err_msg=name)


@pytest.mark.parametrize("degrees", [0.0, 40.0])
def test_nothing_is_pasted_into_the_padding(numbered, degrees):
    example = numbered.make(60, 160, 2, 3, crowds=False)
    example["boxes"] = tf.constant([[70, 20, 78, 30], [90, 30, 102, 38]], tf.float32)
    example["image"] = tf.zeros_like(example["image"])  # so that all that is grey is padding
    example = transforms.rotate(transforms.letterbox(example, 160), (5, 6), degrees)
    padding = (np.abs(example["image"].numpy() - GREY) < 0.5).all(axis=-1)
    for number in range(5):
        result = transforms.paste_small_objects(example, (1, number), copies=10)
        pasted = result["boxes"].numpy()[2:].astype(int)
        assert len(pasted) > 4
        assert not any(padding[top:bottom, left:right].any() for left, top, right, bottom in pasted)


def compositions(numbered, dtype, objects):
    """Each transform of this module as a function of (example, seed)."""
    others = [numbered.make(48, 48, objects, number, dtype) for number in range(3)]
    return [
        lambda example, seed: transforms.mosaic([example, *others], seed, 48),
        lambda example, seed: transforms.mixup(example, others[0], seed),
        transforms.paste_small_objects,
    ]


@pytest.mark.parametrize("dtype, objects", [("uint8", 6), ("float32", 0)])
def test_same_seed_same_result_in_tf_data(dtype, objects, numbered, assert_same_in_tf_data):
    example = numbered.make(48, 48, objects, 5, dtype)
    example["boxes"] *= 0.3  # which leaves room for copies
    assert len(transforms.paste_small_objects(example, (7, 1))["boxes"]) > objects or not objects
    for transform in compositions(numbered, dtype, objects):
        spec = assert_same_in_tf_data(transform, example)
        assert spec["image"] == tf.TensorSpec([48, 48, 3], dtype)
        assert spec["boxes"].shape.as_list() in ([None, 4], [2 * objects, 4])


def test_what_belongs_to_the_picture_is_the_first_ones(numbered):
    examples = [
        {**numbered.make(48, 48, 2, number), "image_id": tf.constant(number)} for number in range(4)
    ]
    assert transforms.mosaic(examples, (1, 2), 32)["image_id"].numpy() == 0
    assert transforms.mixup(examples[2], examples[3], (1, 2))["image_id"].numpy() == 2
    assert transforms.paste_small_objects(examples[3], (1, 2))["image_id"].numpy() == 3


def test_pictures_of_unknown_size(numbered):
    example = numbered.make(50, 70, 4, 2)
    example["boxes"] *= 0.3  # which leaves room for copies
    unknown = {
        name: tf.TensorSpec([None, *value.shape[1:]], value.dtype)
        for name, value in example.items()
    }
    unknown["image"] = tf.TensorSpec([None, None, 3], tf.uint8)
    for transform in compositions(numbered, "uint8", 3)[::2]:  # mixup's two are of one size
        traced = tf.function(transform, input_signature=[unknown, tf.TensorSpec([2], tf.int64)])
        result, expected = (
            traced(example, tf.constant([3, 4], tf.int64)),
            transform(example, (3, 4)),
        )
        for name, value in expected.items():
            np.testing.assert_allclose(
                np.asarray(result[name], float), np.asarray(value, float), atol=1.0, err_msg=name
            )
