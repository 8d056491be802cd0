"""Blur and cutout: against NumPy and Pillow, and what they leave of objects."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from harmonic_tf.backend import tf
from harmonic_tf.data.pipeline import transforms

SEEDS = st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))
SIDES = st.integers(24, 80)
DTYPES = st.sampled_from(["uint8", "float32"])
few = settings(deadline=None, max_examples=20)


def blurred_spot(seed, max_sigma, side=41):
    """What becomes of one pixel of light in the middle of a dark picture."""
    image = np.zeros((side, side, 3), np.float32)
    image[side // 2, side // 2] = 1.0
    example = {"image": tf.constant(image), "boxes": tf.zeros([0, 4])}
    return transforms.blur(example, seed, 1.0, max_sigma)["image"].numpy().astype(np.float64)


@few
@given(SEEDS, st.floats(0.5, 3.3))  # so that no kernel reaches over the edges
def test_a_spot_becomes_a_gaussian(seed, max_sigma):
    spot = blurred_spot(seed, max_sigma)
    np.testing.assert_allclose(spot.sum(axis=(0, 1)), 1.0, rtol=1e-4)
    np.testing.assert_allclose(spot[..., 0], spot[..., 1])
    y, x = np.mgrid[-20:21, -20:21]
    if spot[20, 21, 0] < 1e-30:
        return  # as good as no blur
    # The fall from the middle to its neighbour is exp(-1 / (2 sigma^2)).
    sigma = math.sqrt(-0.5 / math.log(spot[20, 21, 0] / spot[20, 20, 0]))
    assert 0.0 < sigma <= max_sigma * 1.001
    reach = math.ceil(3 * max_sigma)
    gaussian = np.exp(-(x**2 + y**2) / (2 * sigma**2)) * (np.maximum(abs(x), abs(y)) <= reach)
    np.testing.assert_allclose(spot[..., 0], gaussian / gaussian.sum(), atol=1e-5)


def test_sigmas_are_drawn_all_over_their_range():
    centers = [blurred_spot((5, number), 2.0)[20, 20, 0] for number in range(40)]
    # At sigma = 2 the middle keeps 1 / (2 pi sigma^2) = 0.04; at 0.25 nearly all of it.
    assert min(centers) < 0.05 and max(centers) > 0.9


def test_blur_against_pillow():
    # Pillow approximates the Gaussian by boxes, so in the middle of smooth noise, within 2 %.
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    image = np.asarray(Image.fromarray(noise).filter(ImageFilter.GaussianBlur(2.0)))
    example = {"image": tf.constant(image), "boxes": tf.zeros([0, 4])}
    spot = blurred_spot((1, 2), 3.0)[20, 20:22, 0]
    sigma = math.sqrt(-0.5 / math.log(spot[1] / spot[0]))
    ours = transforms.blur(example, (1, 2), 1.0, 3.0)["image"].numpy()
    theirs = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma)))
    difference = ours.astype(float) - theirs
    assert np.abs(difference[10:-10, 10:-10]).max() <= 0.02 * 255
    assert abs(difference.mean()) < 0.5


@few
@given(st.integers(1, 30), st.integers(1, 30), SEEDS, DTYPES, st.integers(0, 255))
def test_an_even_picture_of_any_size_stays_as_it_is(height, width, seed, dtype, level):
    image = tf.cast(tf.fill([height, width, 3], level), dtype)
    blurred = transforms.blur({"image": image, "boxes": tf.zeros([0, 4])}, seed, 1.0, 2.0)["image"]
    np.testing.assert_allclose(blurred, image, atol=1e-3)


@few
@given(SIDES, SIDES, st.integers(0, 6), SEEDS, DTYPES)
def test_blur_leaves_objects_alone(numbered, height, width, objects, seed, dtype):
    example = numbered.make(height, width, objects, seed, dtype)
    never = transforms.blur(example, seed, 0.0)
    np.testing.assert_array_equal(never["image"], example["image"])
    result = transforms.blur(example, seed, 1.0)
    assert result["image"].dtype == example["image"].dtype
    for name in set(example) - {"image"}:
        np.testing.assert_array_equal(result[name], example[name])


def test_blur_happens_as_often_as_asked(numbered):
    example = numbered.make(24, 24, 0, 0, "float32")
    blurs = [
        not np.array_equal(transforms.blur(example, (3, number), 0.25)["image"], example["image"])
        for number in range(200)
    ]
    # 200 draws of p = 0.25: mean 50, standard deviation 6.1; 4 of those.
    assert 26 <= sum(blurs) <= 74


@few
@given(SIDES, SIDES, SEEDS, DTYPES, st.integers(1, 5), st.sampled_from([0.0, 0.3, 0.9]))
def test_cutout_against_numpy(numbered, height, width, seed, dtype, count, least):
    example = numbered.make(height, width, 40, seed, dtype)
    example["boxes"] = tf.round(example["boxes"])  # whole pixels can be counted
    area = np.prod(example["boxes"].numpy()[:, 2:] - example["boxes"].numpy()[:, :2], axis=1)
    example = transforms.keep_objects(example, area > 0)
    # On a picture without any grey, all that is grey afterwards is hidden.
    grey = example["image"] == tf.cast(transforms.PADDING_GREY, dtype)
    example["image"] = tf.where(grey, tf.cast(0, dtype), example["image"])
    result = transforms.cutout(example, seed, count, 0.4, least)
    hidden = (result["image"].numpy() == transforms.PADDING_GREY).all(axis=-1)
    np.testing.assert_array_equal(
        result["image"].numpy()[~hidden], example["image"].numpy()[~hidden]
    )
    assert hidden.sum() <= count * round(0.4 * min(height, width)) ** 2

    kept = []
    for serial, box in zip(example["classes"].numpy(), example["boxes"].numpy().astype(int)):
        in_sight = 1 - hidden[box[1] : box[3], box[0] : box[2]].mean()
        if in_sight > 0 and in_sight >= least - 1e-9:
            kept.append(serial)
        if abs(in_sight - least) < 1e-5 and least > 0:
            return  # the same share on both sides of the rule: rounding decides
    np.testing.assert_array_equal(result["classes"], kept)
    np.testing.assert_array_equal(
        result["boxes"], example["boxes"].numpy()[np.isin(example["classes"], kept)]
    )
    numbered.check(result)


@few
@given(SEEDS)
def test_one_square_hides_the_share_of_a_box_that_it_covers(numbered, seed):
    example = numbered.make(60, 60, 200, seed)
    example["image"] = tf.zeros_like(example["image"])
    result = transforms.cutout(example, seed, 1, 0.5, 0.4)
    rows, columns = np.nonzero(result["image"].numpy()[..., 0])
    left, top, right, bottom = example["boxes"].numpy().T.astype(np.float64)
    across = np.minimum(right, columns.max() + 1) - np.maximum(left, columns.min())
    down = np.minimum(bottom, rows.max() + 1) - np.maximum(top, rows.min())
    covered = np.maximum(across, 0) * np.maximum(down, 0) / ((right - left) * (bottom - top))
    kept = set(result["classes"].numpy())
    assert set(np.flatnonzero(covered < 0.599)) <= kept <= set(np.flatnonzero(covered < 0.601))


def test_no_square_is_no_change(numbered):
    example = numbered.make(30, 40, 5, 0)
    for result in (transforms.cutout(example, (1, 2), 0), transforms.cutout(example, (1, 2), 3, 0)):
        for name, value in example.items():
            np.testing.assert_array_equal(result[name], value, err_msg=name)


def test_cutout_reaches_every_corner(numbered):
    example = numbered.make(30, 40, 0, 0, "float32")
    changed = np.zeros((30, 40), bool)
    for number in range(150):
        result = transforms.cutout(example, (2, number), 2, 0.3)
        changed |= (result["image"] != example["image"]).numpy().any(axis=-1)
    assert changed.all()


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("transform", [transforms.blur, transforms.cutout])
def test_same_seed_same_result_in_tf_data(transform, dtype, numbered, assert_same_in_tf_data):
    for objects in (0, 6):
        spec = assert_same_in_tf_data(transform, numbered.make(48, 48, objects, 1, dtype))
        assert spec["image"] == tf.TensorSpec([48, 48, 3], dtype)
