"""Transforms: boxes stay on their objects, attributes stay with their boxes, seeds decide all."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonic_tf.backend import tf
from harmonic_tf.data.pipeline import transforms

SEEDS = st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))
SIDES = st.integers(24, 100)
few = settings(deadline=None, max_examples=25)


def random_example(height, width, objects, seed):
    """An Example whose every per-object value can be told from its class, a serial number.

    The picture says of each pixel where it is (y, x) and, by 255, that it is none of the padding.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    corners = np.sort(rng.uniform(0, [[[width, height]]], (objects, 2, 2)), axis=1)
    serial = np.arange(objects)
    return {
        "image": tf.constant(np.stack([y, x, np.full_like(x, 255)], axis=-1), tf.uint8),
        "boxes": tf.constant(corners.reshape(-1, 4), tf.float32),
        "classes": tf.constant(serial, tf.int32),
        "difficult": tf.constant(serial % 2 == 1),
        "crowd": tf.constant(serial % 3 == 2),
        "occlusion": tf.constant(serial / 10, tf.float32),
    }


def assert_aligned(example):
    serial = example["classes"].numpy()
    assert example["boxes"].shape == (len(serial), 4)
    np.testing.assert_array_equal(example["difficult"], serial % 2 == 1)
    np.testing.assert_array_equal(example["crowd"], serial % 3 == 2)
    np.testing.assert_allclose(example["occlusion"], serial / 10, atol=1e-6)


def painted(height, width, box):
    """A blue picture with one red rectangle, and the box around it."""
    left, top, right, bottom = box
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 2] = 255
    image[top:bottom, left:right] = [255, 0, 0]
    return {
        "image": tf.constant(image),
        "boxes": tf.constant([box], tf.float32),
        "classes": tf.constant([0]),
    }


def red_box(image):
    """Bounding box of the red pixels, or None: found in the picture alone."""
    image = np.asarray(image, np.float32)
    rows, columns = np.nonzero(image[..., 0] > image[..., 2] + 1)  # + 1: grey but for rounding
    if not len(rows):
        return None
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@st.composite
def painted_examples(draw):
    height, width = draw(SIDES), draw(SIDES)
    left, top = draw(st.integers(0, width - 8)), draw(st.integers(0, height - 8))
    right, bottom = draw(st.integers(left + 8, width)), draw(st.integers(top + 8, height))
    return painted(height, width, [left, top, right, bottom])


def test_keep_objects_filters_all_but_what_belongs_to_the_picture():
    example = random_example(30, 40, 7, 0)
    example["image_id"] = tf.constant("seven")
    keep = tf.constant([True, False, True, True, False, False, True])
    kept = transforms.keep_objects(example, keep)
    np.testing.assert_array_equal(kept["classes"], [0, 2, 3, 6])
    np.testing.assert_array_equal(kept["boxes"], example["boxes"].numpy()[[0, 2, 3, 6]])
    assert_aligned(kept)
    assert kept["image_id"].numpy() == b"seven"
    assert kept["image"].shape == (30, 40, 3)


# Each flip with the axis of the picture that it turns round.
FLIPS = [(transforms.flip_horizontal, 1), (transforms.flip_vertical, 0)]


@pytest.mark.parametrize("flip, axis", FLIPS)
@few
@given(SIDES, SIDES, st.integers(0, 6), SEEDS)
def test_flipping_twice_is_the_identity(flip, axis, height, width, objects, seed):
    example = random_example(height, width, objects, seed[0])
    once = flip(example, seed, probability=1.0)
    twice = flip(once, seed, probability=1.0)
    np.testing.assert_array_equal(twice["image"], example["image"])
    np.testing.assert_allclose(twice["boxes"], example["boxes"], atol=1e-4)
    np.testing.assert_array_equal(once["image"], np.flip(example["image"], axis))
    assert_aligned(twice)


@pytest.mark.parametrize("flip, axis", FLIPS)
@few
@given(painted_examples(), SEEDS)
def test_flipped_box_is_where_the_rectangle_is(flip, axis, example, seed):
    flipped = flip(example, seed, probability=1.0)
    np.testing.assert_array_equal(flipped["boxes"].numpy(), [red_box(flipped["image"])])


@pytest.mark.parametrize("flip, axis", FLIPS)
def test_flip_happens_as_often_as_asked(flip, axis):
    example = random_example(8, 24, 1, 0)
    flips = [
        not np.array_equal(
            flip(example, (3, number), probability=0.25)["image"],
            example["image"],
        )
        for number in range(400)
    ]
    # 400 draws of p = 0.25: mean 100, standard deviation sqrt(400 * 0.25 * 0.75) = 8.7; 4 of those.
    assert 65 <= sum(flips) <= 135


@few
@given(
    SIDES,
    SIDES,
    SEEDS,
    st.sampled_from([(1.0, 1.5), (0.8, 1.25), (0.4, 0.9), (2.0, 4.0), (1.0, 1.0)]),
    st.sampled_from([0.0, 0.3, 0.9]),
)
def test_crop_against_numpy(height, width, seed, scale_range, fraction):
    example = random_example(height, width, 500, seed[1])
    result = transforms.zoom_and_crop(example, seed, scale_range, fraction)
    image = result["image"].numpy()

    # Where the window was, read off its first pixel that is one of the picture.
    rows, columns = np.nonzero(image[..., 2] == 255)
    first = image[rows[0], columns[0]].astype(int)
    y, x = first[0] - rows[0], first[1] - columns[0]
    window_height, window_width = image.shape[:2]
    for window, side in ((window_height, height), (window_width, width)):
        assert side / scale_range[1] - 0.51 <= window <= side / scale_range[0] + 0.51
    np.testing.assert_array_equal(image[rows, columns, 0], rows + y)
    np.testing.assert_array_equal(image[rows, columns, 1], columns + x)
    assert (image[image[..., 2] != 255] == transforms.PADDING_GREY).all()
    assert len(rows) == min(window_height, height) * min(window_width, width)

    before = example["boxes"].numpy().astype(np.float64)
    limit = [window_width, window_height] * 2
    after = np.clip(before - [x, y, x, y], 0, limit)
    share = np.prod(after[:, 2:] - after[:, :2], axis=1) / np.prod(
        before[:, 2:] - before[:, :2], axis=1
    )
    clear = (np.abs(share - fraction) > 1e-3) & (np.abs(share) > 1e-3)
    expected = np.flatnonzero(clear & (share > fraction))
    kept = result["classes"].numpy()
    assert set(expected) <= set(kept) <= set(expected) | set(np.flatnonzero(~clear))
    np.testing.assert_allclose(result["boxes"], after[kept], atol=1e-3)
    assert_aligned(result)


@few
@given(painted_examples(), SEEDS, st.sampled_from([(1.0, 1.5), (0.5, 1.2), (3.0, 3.0)]))
def test_cropped_box_is_where_the_rectangle_is(example, seed, scale_range):
    # A quarter is exact in binary, and so is the rule: an object that keeps just that stays.
    cropped = transforms.zoom_and_crop(example, seed, scale_range, min_area_fraction=0.25)
    if len(cropped["boxes"]):
        np.testing.assert_array_equal(cropped["boxes"].numpy(), [red_box(cropped["image"])])
    else:
        red = (example["image"].numpy()[..., 0] == 255).sum()
        seen = red_box(cropped["image"])
        assert seen is None or (seen[2] - seen[0]) * (seen[3] - seen[1]) < 0.25 * red


@few
@given(painted_examples(), st.sampled_from([16, 32, 75, 160]))
def test_letterboxed_box_is_where_the_rectangle_is(example, size):
    boxed = transforms.letterbox(example, size)
    assert boxed["image"].shape == (size, size, 3)
    assert boxed["image"].dtype == tf.float32
    # A pixel is red if more than half of it is: an edge of the box is off by half a pixel at most.
    box = boxed["boxes"].numpy()[0]
    if (box[2:] - box[:2]).min() >= 2:
        np.testing.assert_allclose(box, red_box(boxed["image"]), atol=0.55)


def test_letterbox_by_hand():
    # 40 x 100 into 50: the longer side halves, so 20 x 50 of picture over 30 rows of grey.
    example = painted(40, 100, [10, 20, 60, 40])
    boxed = transforms.letterbox(example, 50)
    np.testing.assert_allclose(boxed["boxes"], [[5, 10, 30, 20]])
    image = boxed["image"].numpy()
    np.testing.assert_array_equal(image[20:], np.full((30, 50, 3), 114, np.float32))
    np.testing.assert_allclose(image[10:20, 5:30], np.broadcast_to([255, 0, 0], (10, 25, 3)))
    np.testing.assert_allclose(image[:10], np.broadcast_to([0, 0, 255], (10, 50, 3)))


def test_letterbox_does_not_alias():
    # Every fourth row white: reduced to a quarter, all that is left is the mean, 255 / 4. (Points
    # between the second and the third of four rows would all be black.)
    image = np.zeros((64, 64, 3), np.uint8)
    image[::4] = 255
    example = {"image": tf.constant(image), "boxes": tf.zeros([0, 4])}
    np.testing.assert_allclose(transforms.letterbox(example, 16)["image"], 63.75)


@few
@given(st.integers(1, 1500), st.integers(1, 1500), st.sampled_from([32, 256, 511]), SEEDS)
def test_unletterbox_is_the_inverse_of_letterbox(height, width, size, seed):
    corners = np.random.default_rng(seed).uniform(0, [width, height] * 2, (5, 4))
    example = {
        "image": tf.zeros([height, width, 3], tf.uint8),
        "boxes": tf.constant(corners, tf.float32),
    }
    boxes = transforms.letterbox(example, size)["boxes"]
    assert np.min(boxes) >= 0 and np.max(boxes) <= size * (1 + 1e-6)
    back = transforms.unletterbox_boxes(boxes, height, width, size)
    np.testing.assert_allclose(back, corners, atol=1e-3)


def test_unletterbox_takes_batches():
    # 100 x 200 into 50 is a quarter, 25 x 10 into 50 is the double.
    boxes = np.array([[[1, 2, 3, 4], [0, 0, 50, 25]], [[2, 4, 6, 8], [0, 0, 20, 50]]], np.float32)
    sizes = np.array([[100, 200], [25, 10]])
    back = transforms.unletterbox_boxes(boxes, sizes[:, :1], sizes[:, 1:], 50)
    expected = [[[4, 8, 12, 16], [0, 0, 200, 100]], [[1, 2, 3, 4], [0, 0, 10, 25]]]
    np.testing.assert_allclose(back, expected, rtol=1e-6)


NO_JITTER = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}


def jittered(image, seed, **ranges):
    example = {"image": tf.constant(image), "boxes": tf.zeros([0, 4])}
    result = transforms.jitter_colors(example, seed, **{**NO_JITTER, **ranges})["image"]
    assert result.shape == image.shape and result.dtype == tf.float32
    return result.numpy().astype(np.float64)


@few
@given(SEEDS)
def test_brightness_and_contrast(seed):
    image = np.random.default_rng(seed).integers(60, 196, (9, 7, 3)).astype(np.uint8)
    np.testing.assert_allclose(jittered(image, seed), image, atol=1e-3)

    shift = jittered(image, seed, brightness=40.0) - image
    np.testing.assert_allclose(shift, shift.mean(), atol=1e-3)
    assert abs(shift.mean()) <= 40

    by = (jittered(image, seed, contrast=0.5) - 114) / np.where(image == 114, np.nan, image - 114.0)
    np.testing.assert_allclose(by[np.isfinite(by)], np.nanmean(by), atol=1e-3)
    assert 0.5 <= np.nanmean(by) <= 1.5


@few
@given(SEEDS)
def test_saturation_and_hue_in_the_color_space_of_tensorflow(seed):
    # Small chroma around middle grey, so that nothing is clipped.
    image = np.random.default_rng(seed).integers(100, 156, (9, 7, 3)).astype(np.uint8)
    result = jittered(image, seed, saturation=0.5, hue=30.0)
    before = tf.image.rgb_to_yiq(image.astype(np.float64)).numpy()
    after = tf.image.rgb_to_yiq(result).numpy()
    np.testing.assert_allclose(after[..., 0], before[..., 0], atol=0.02)
    # As complex numbers, all chromas are multiplied by the same factor.
    chroma_before, chroma_after = (yiq[..., 1] + 1j * yiq[..., 2] for yiq in (before, after))
    factor = np.vdot(chroma_before, chroma_after) / np.vdot(chroma_before, chroma_before)
    np.testing.assert_allclose(chroma_after, factor * chroma_before, atol=0.05)
    assert 0.49 <= abs(factor) <= 1.51
    assert abs(np.degrees(np.angle(factor))) <= 30.1


@few
@given(SEEDS)
def test_colors_stay_in_range_and_differ_by_seed(seed):
    image = np.random.default_rng(seed).integers(0, 256, (9, 7, 3)).astype(np.uint8)
    strong = {"brightness": 255.0, "contrast": 1.0, "saturation": 1.0, "hue": 180.0}
    result = jittered(image, seed, **strong)
    assert result.min() >= 0 and result.max() <= 255
    np.testing.assert_array_equal(result, jittered(image, seed, **strong))
    weak = {"brightness": 10.0}
    other = (seed[0], seed[1] + 1)
    assert not np.array_equal(jittered(image, seed, **weak), jittered(image, other, **weak))


def chain(example, seed):
    zoom, flip, color = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
    example = transforms.zoom_and_crop(example, zoom, (0.7, 1.6))
    example = transforms.flip_horizontal(example, flip)
    return transforms.jitter_colors(transforms.letterbox(example, 48), color)


@few
@given(painted_examples(), SEEDS)
def test_the_whole_chain_keeps_box_and_rectangle_together(example, seed):
    result = chain(example, seed)
    for box in result["boxes"].numpy():
        if (box[2:] - box[:2]).min() >= 2:
            # Enlarged up to 3.2 times here, blurred edges move a little as their colours change.
            np.testing.assert_allclose(box, red_box(result["image"]), atol=1.5)


@few
@given(SIDES, SIDES, st.integers(0, 8), SEEDS)
def test_the_whole_chain_keeps_attributes_aligned(height, width, objects, seed):
    result = chain(random_example(height, width, objects, seed[0]), seed)
    assert_aligned(result)
    assert result["image"].shape == (48, 48, 3)
    boxes = result["boxes"].numpy()
    assert (boxes >= 0).all() and (boxes <= 48 * (1 + 1e-6)).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()


@pytest.mark.parametrize(
    "transform",
    [
        transforms.flip_horizontal,
        transforms.flip_vertical,
        transforms.zoom_and_crop,
        transforms.jitter_colors,
    ],
)
def test_same_seed_same_result_in_a_graph_too(transform):
    example = random_example(50, 60, 5, 1)
    for seed in (tf.constant([4, 5]), tf.constant([2**40, 7], tf.int64)):
        once, again = transform(example, seed), tf.function(transform)(example, seed)
        for name in once:
            np.testing.assert_allclose(
                np.asarray(once[name]), np.asarray(again[name]), atol=1e-4, err_msg=name
            )
