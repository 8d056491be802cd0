"""Rotate, shear and translate: pictures and boxes move together, by the map that was asked for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from harmonic_tf.backend import tf
from harmonic_tf.data.pipeline import transforms

SEEDS = st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))
SIDES = st.integers(48, 90)
DTYPES = st.sampled_from(["uint8", "float32"])
few = settings(deadline=None, max_examples=15)

WARPS = [(transforms.rotate, 10.0), (transforms.rotate, 180.0), (transforms.shear, 25.0)]
ALL = [transforms.rotate, transforms.shear, transforms.translate]


def corners_of(boxes):
    left, top, right, bottom = np.asarray(boxes, np.float64).T
    return np.stack([[left, top], [right, top], [left, bottom], [right, bottom]]).transpose(2, 0, 1)


def matrix_of(warp, height, width, seed, degrees):
    """The map that was drawn, measured on two specks to the right of and below the centre."""
    center = np.array([width, height]) / 2
    specks = center + np.array([[20, 0], [0, 20]])
    boxes = tf.constant(np.concatenate([specks - 0.05, specks + 0.05], axis=1), tf.float32)
    moved = warp({"image": tf.zeros([height, width, 3]), "boxes": boxes}, seed, degrees)["boxes"]
    return (corners_of(moved).mean(axis=1) - center).T / 20


@pytest.mark.parametrize("transform", ALL)
@few
@given(SIDES, SIDES, st.integers(0, 6), SEEDS, DTYPES)
def test_nothing_asked_for_is_nothing_done(
    transform, numbered, height, width, objects, seed, dtype
):
    example = numbered.make(height, width, objects, seed, dtype)
    result = transform(example, seed, 0.0)
    np.testing.assert_array_equal(result["image"], example["image"])
    np.testing.assert_allclose(result["boxes"], example["boxes"], atol=1e-4)
    numbered.check(result)


@pytest.mark.parametrize("transform", ALL)
@few
@given(SIDES, SIDES, st.integers(0, 9), SEEDS, DTYPES)
def test_attributes_stay_with_boxes_and_boxes_inside(
    transform, numbered, height, width, objects, seed, dtype
):
    example = numbered.make(height, width, objects, seed, dtype)
    result = transform(example, seed, 0.5 if transform is transforms.translate else 40.0)
    numbered.check(result)
    assert result["image"].shape == example["image"].shape
    assert result["image"].dtype == example["image"].dtype


@few
@given(SIDES, SIDES, SEEDS)
def test_the_maps_are_what_they_are_called(height, width, seed):
    turn = matrix_of(transforms.rotate, height, width, seed, 30.0)
    np.testing.assert_allclose(turn @ turn.T, np.eye(2), atol=1e-5)
    assert np.linalg.det(turn) > 0
    assert abs(np.degrees(np.arctan2(turn[1, 0], turn[0, 0]))) <= 30.001
    slant = matrix_of(transforms.shear, height, width, seed, 30.0)
    np.testing.assert_allclose(np.diag(slant), 1.0, atol=1e-5)
    assert (np.degrees(np.arctan(abs(slant[[0, 1], [1, 0]]))) <= 30.001).all()


@pytest.mark.parametrize("warp", [transforms.rotate, transforms.shear])
def test_angles_are_drawn_all_over_their_range(warp):
    angles = [
        np.degrees(np.arctan(matrix_of(warp, 60, 60, (1, number), 20.0)[1, 0]))
        for number in range(40)
    ]
    assert min(angles) < -15 and max(angles) > 15  # each fails once in 0.875^40 = 1/200 seeds


@pytest.mark.parametrize("warp, degrees", WARPS)
@few
@given(SIDES, SIDES, SEEDS, DTYPES)
def test_pixels_against_pillow(warp, degrees, numbered, height, width, seed, dtype):
    example = numbered.make(height, width, 0, seed, dtype)
    result = warp(example, seed, degrees)["image"].numpy()

    back = np.linalg.inv(matrix_of(warp, height, width, seed, degrees))
    center = np.array([width, height]) / 2
    data = np.concatenate([back, (center - back @ center)[:, None]], axis=1).ravel()
    image = Image.fromarray(example["image"].numpy().astype(np.uint8))
    theirs = np.asarray(
        image.transform((width, height), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)
    )

    y, x = np.mgrid[:height, :width] + 0.5
    source = (np.stack([x, y], axis=-1) - center) @ back.T + center
    inside = np.min([source, [width, height] - source], axis=(0, -1))  # from the nearest edge, px
    assert (inside > 0.6).sum() > 0.3 * height * width
    # Pillow cuts off fractions of a level.
    difference = result.astype(float)[inside > 0.6] - theirs[inside > 0.6]
    assert difference.min() >= -0.6 and difference.max() <= 1.1
    np.testing.assert_allclose(result[inside < -0.6], transforms.PADDING_GREY, atol=1e-3)


@pytest.mark.parametrize("warp, degrees", WARPS)
@few
@given(SIDES, SIDES, SEEDS, st.sampled_from([0.0, 0.3, 0.9]))
def test_boxes_against_numpy(warp, degrees, numbered, height, width, seed, fraction):
    example = numbered.make(height, width, 60, seed)
    result = warp(example, seed, degrees, fraction)
    center = np.array([width, height]) / 2
    matrix = matrix_of(warp, height, width, seed, degrees)
    corners = (corners_of(example["boxes"]) - center) @ matrix.T + center
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    clipped = np.clip(boxes, 0, [width, height] * 2)

    def areas(boxes):
        return np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)

    share = areas(clipped) / areas(boxes)
    clear = (np.abs(share - fraction) > 1e-3) & (share > 1e-3)
    expected = set(np.flatnonzero(clear & (share > fraction)))
    kept = result["classes"].numpy()
    assert expected <= set(kept) <= expected | set(np.flatnonzero(~clear))
    np.testing.assert_allclose(result["boxes"], clipped[kept], atol=2e-3)
    numbered.check(result)


@pytest.mark.parametrize("warp, degrees", WARPS)
@few
@given(SEEDS, st.data())
def test_box_and_rectangle_move_together(warp, degrees, seed, data):
    height, width = data.draw(SIDES), data.draw(SIDES)
    left, top = data.draw(st.integers(0, width - 8)), data.draw(st.integers(0, height - 8))
    right, bottom = (
        data.draw(st.integers(low + 8, side)) for low, side in ((left, width), (top, height))
    )
    image = np.zeros((height, width, 3), np.float32)
    image[top:bottom, left:right, 0] = 255.0  # red on black; the canvas is as red as it is blue
    example = {
        "image": tf.constant(image),
        "boxes": tf.constant([[left, top, right, bottom]], tf.float32),
    }
    result = warp(example, seed, degrees, 0.0)
    red = np.asarray(result["image"][..., 0] - result["image"][..., 2]) / 255.0

    def around(pixels):
        rows, columns = np.nonzero(pixels)
        return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])

    if not len(result["boxes"]):
        assert not (red > 0.5).any()
        return
    box = result["boxes"].numpy()[0]
    if (red > 0.5).any():  # pixels whose centre is red: they reach out by half a pixel at most
        core = around(red > 0.5)
        assert (core[:2] >= box[:2] - 0.51).all() and (core[2:] <= box[2:] + 0.51).all()
    if (box > 0).all() and (box < [width, height, width, height]).all():
        np.testing.assert_allclose(box, around(red > 0.02), atol=1.0)


@few
@given(SIDES, SIDES, SEEDS, st.sampled_from([0.1, 0.6, 1.0]), st.sampled_from([0.0, 0.3]))
def test_translate_against_numpy(numbered, height, width, seed, fraction, least):
    example = numbered.make(height, width, 40, seed)
    y, x = np.mgrid[:height, :width]
    example["image"] = tf.constant(np.stack([y, x, np.full_like(x, 255)], axis=-1), tf.uint8)
    result = transforms.translate(example, seed, fraction, least)
    image = result["image"].numpy()
    numbered.check(result)

    rows, columns = np.nonzero(image[..., 2] == 255)  # what is of the picture
    if not len(rows):  # moved out by all of a side
        assert fraction == 1.0 and (image == transforms.PADDING_GREY).all()
        assert not len(result["boxes"])
        return
    shift_y, shift_x = (
        np.unique(places.astype(int) - image[rows, columns, axis])
        for axis, places in enumerate((rows, columns))
    )
    assert len(shift_y) == len(shift_x) == 1
    shift_y, shift_x = shift_y[0], shift_x[0]
    assert abs(shift_y) <= fraction * height + 0.51 and abs(shift_x) <= fraction * width + 0.51
    assert len(rows) == (height - abs(shift_y)) * (width - abs(shift_x))
    assert (image[image[..., 2] != 255] == transforms.PADDING_GREY).all()

    before = example["boxes"].numpy().astype(np.float64)
    after = np.clip(before + [shift_x, shift_y] * 2, 0, [width, height] * 2)
    share = np.prod(after[:, 2:] - after[:, :2], 1) / np.prod(before[:, 2:] - before[:, :2], 1)
    kept = result["classes"].numpy()
    np.testing.assert_allclose(result["boxes"], after[kept], atol=1e-3)
    assert (share[kept] >= least - 1e-3).all()
    assert set(np.flatnonzero(share > least + 1e-3)) <= set(kept)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("transform", ALL)
def test_same_seed_same_result_in_tf_data(transform, dtype, numbered, assert_same_in_tf_data):
    spec = assert_same_in_tf_data(transform, numbered.make(48, 48, 6, 1, dtype))
    assert spec["image"] == tf.TensorSpec([48, 48, 3], dtype)
    assert spec["boxes"].shape.as_list() == [None, 4]


@pytest.mark.parametrize("transform", ALL)
def test_pictures_of_unknown_size(transform, numbered):
    example = numbered.make(50, 70, 4, 2)
    signature = {
        name: tf.TensorSpec([None, *value.shape[1:]], value.dtype)
        for name, value in example.items()
    }
    signature["image"] = tf.TensorSpec([None, None, 3], tf.uint8)
    traced = tf.function(transform, input_signature=[signature, tf.TensorSpec([2], tf.int64)])
    result = traced(example, tf.constant([3, 4], tf.int64))
    expected = transform(example, (3, 4))
    np.testing.assert_allclose(result["boxes"], expected["boxes"], atol=1e-3)
    assert np.abs(result["image"].numpy() - expected["image"].numpy().astype(int)).max() <= 1
