"""Pictures that are decoded in part, and small, against the same ones decoded whole."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from harmonic_tf.backend import tf
from harmonic_tf.data.example import Annotation, DetectionData
from harmonic_tf.data.images import decoding
from harmonic_tf.data.pipeline import transforms
from harmonic_tf.data.pipeline.reading import Reader

few = settings(deadline=None, max_examples=25)
WIDTH, HEIGHT = 203, 149


def smooth_picture(width, height):
    """A picture without sharp edges, so that ways to resample it hardly differ."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    waves = [np.sin(x / 37), np.cos(y / 33), np.sin((x + y) / 43)]
    return np.uint8(128 + 100 * np.stack(waves, axis=-1))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """One picture four times: as JPEG with full and with half colours, as PNG, and turned."""
    folder, pixels = tmp_path_factory.mktemp("framing"), smooth_picture(WIDTH, HEIGHT)
    rng = np.random.default_rng(0)
    boxes = np.sort(rng.uniform(0, [[[WIDTH, HEIGHT]]], (40, 2, 2)), axis=1).reshape(-1, 4)
    annotation = Annotation(
        "", "p", WIDTH, HEIGHT, boxes.astype(np.float32), np.arange(40), *np.zeros((2, 40), bool)
    )
    annotations = []
    for name, turned, options in [
        ("full.jpg", 1, {"quality": 95, "subsampling": 0}),
        ("half.jpg", 1, {"quality": 95, "subsampling": 2}),
        ("picture.png", 1, {}),
        ("turned.jpg", 6, {"quality": 95, "subsampling": 0}),
    ]:
        stored = np.rot90(pixels) if turned == 6 else pixels
        Image.fromarray(stored).save(folder / name, **options)
        annotations.append(
            dataclasses.replace(annotation, image_path=str(folder / name), orientation=turned)
        )
    return DetectionData("framing", [str(i) for i in range(40)], annotations)


def one_by_one(data, picture, size, seed, scale_range):
    """The same by the pure functions, on a picture that is decoded whole."""
    example = Reader(data).whole(picture)
    if seed is not None:
        example = transforms.zoom_and_crop(example, seed, scale_range, 0.3)
    return transforms.letterbox(example, size)


@pytest.mark.parametrize("picture", range(4))
@few
@given(
    st.tuples(st.integers(0, 2**31), st.integers(0, 2**31)),
    st.sampled_from([(1.0, 1.5), (0.6, 1.25), (1.0, 1.0), (2.0, 3.0)]),
    st.sampled_from([180, 203, 256]),
)
def test_decoded_in_part_as_decoded_whole(data, picture, seed, scale_range, size):
    framed = Reader(data).framed(picture, size, seed, scale_range, 0.3)
    framed = transforms.pad_to_square(framed, size)
    expected = one_by_one(data, picture, size, seed, scale_range)
    np.testing.assert_array_equal(framed["classes"], expected["classes"])
    np.testing.assert_allclose(framed["boxes"], expected["boxes"], atol=1e-3)
    difference = np.abs(framed["image"] - expected["image"])
    assert difference.max() < 8 and difference.mean() < 0.3


@pytest.mark.parametrize("picture", range(4))
@pytest.mark.parametrize("size", [37, 64, 100])
def test_decoded_small_as_shrunk_after(data, picture, size):
    """A picture shown at less than half its size: DCT against averages of areas, boxes exact."""
    framed = Reader(data).framed(picture, size)
    framed = transforms.pad_to_square(framed, size)
    expected = one_by_one(data, picture, size, None, None)
    np.testing.assert_allclose(framed["boxes"], expected["boxes"], atol=1e-3)
    # The last row or column may show some pixels of the edge twice: no more than 1 px off.
    difference = np.abs(framed["image"] - expected["image"])
    assert np.percentile(difference, 95) < 8 and difference.mean() < 3


@pytest.mark.parametrize("picture", range(4))
def test_boxes_stay_on_what_they_show_when_decoded_small(tmp_path, picture):
    """A bright rectangle's box, seen through random windows at less than half their size."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[40:104, 56:152] = 255
    Image.fromarray(pixels).save(tmp_path / "p.jpg", quality=95)
    box = np.array([[56, 40, 152, 104]], np.float32)
    none = np.zeros(1, bool)
    annotation = Annotation(
        str(tmp_path / "p.jpg"), "p", WIDTH, HEIGHT, box, np.zeros(1, int), none, none
    )
    reader = Reader(DetectionData("one", ["a"], [annotation]))
    for number in range(10):
        example = reader.framed(0, 48, (picture, number), (0.7, 1.3), 0.0)
        bright = example["image"].numpy().mean(axis=-1) > 200
        rows, columns = np.nonzero(bright)
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(example["boxes"].numpy()[0], found, atol=1.5)


def test_jpeg_in_part_differs_from_whole_in_its_outermost_columns_alone(data):
    rng = np.random.default_rng(1)
    for number, exact in ((0, True), (1, False)):
        encoded = tf.io.read_file(data.annotations[number].image_path)
        whole = decoding.decode(encoded).numpy().astype(int)
        for _ in range(20):
            y, x = rng.integers(0, HEIGHT - 8), rng.integers(0, WIDTH - 8)
            h, w = rng.integers(4, HEIGHT - y + 1), rng.integers(4, WIDTH - x + 1)
            image, divisor = decoding.decode_part(encoded, tf.constant([y, x, h, w], tf.int32))
            difference = np.abs(image.numpy() - whole[y : y + h, x : x + w])
            assert divisor == 1 and difference[:, 1:-1].max() == 0
            assert difference.max() <= (0 if exact else 8)
