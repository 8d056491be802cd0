"""A bad request is refused by name, and the next good one is answered as before."""

import binascii
import struct
import zlib

import numpy as np
import pytest
from request_memory import requests

from harmonic_tf.backend import quiet, tf


@pytest.fixture(scope="module")
def served(signatures, serving):
    """The signatures, a good request's pictures and its answer."""
    good = serving.pictures()[:3]
    return signatures, good, signatures["serving_default"](images=tf.constant(good))


def refused(served, signature, **inputs):
    """What a signature says of a request; checks that the model goes on serving."""
    signatures, good, before = served
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        signatures[signature](**inputs)
    after = signatures["serving_default"](images=tf.constant(good))
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)
    return str(error.value)


def png_with_sides(width, height):
    """A PNG that says it is as large as that, of a few bytes."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", binascii.crc32(kind + data))
        for kind, data in chunks
    )


def jpeg_with_sides(serving, width, height):
    """A small JPEG whose header says that it is as large as that."""
    content = bytearray(serving.encoded_as(serving.pixels_of(8, 8, 0), "JPEG"))
    start = content.index(b"\xff\xc0") + 5  # marker, length, precision
    content[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(content)


def gif(serving):
    return serving.encoded_as(serving.pixels_of(8, 8, 0), "GIF")


BAD = {
    "empty": (lambda serving: b"", "{0} has no bytes"),
    "text": (lambda serving: b"no picture at all", "{0} is neither a JPEG nor a PNG"),
    "GIF": (gif, "{0} is neither a JPEG nor a PNG"),
    "start of a PNG": (lambda serving: png_with_sides(9, 9)[:20], "{0} is neither"),
    "start of a JPEG": (lambda serving: b"\xff\xd8\xff\xe0", "{1}_is_damaged"),
    "PNG bomb": (lambda s: png_with_sides(60_000, 50_000), "{0} has 60000 x 50000 pixels"),
    "PNG of 2^62": (lambda s: png_with_sides(2**31 - 1, 2**31 - 1), "x 2147483647 pixels"),
    "PNG of 2^64": (lambda s: png_with_sides(2**32 - 1, 2**32 - 1), "{0} has "),
    "PNG of no width": (lambda s: png_with_sides(0, 50), "{0} has 0 x 50 pixels"),
    "JPEG bomb": (lambda s: jpeg_with_sides(s, 65_000, 64_000), "{0} has 65000 x 64000 pixels"),
    "a pixel too many": (lambda s: png_with_sides(40_001, 1), "this model takes 1 to 40000"),
    "damaged PNG": (lambda s: png_with_sides(9, 9), "{1}_is_damaged"),
    "half a JPEG": (lambda s: half(s.encoded_as(s.pixels_of(90, 90, 0), "JPEG")), "{1}_is_damaged"),
    "half a PNG": (lambda s: half(s.encoded_as(s.pixels_of(90, 90, 0), "PNG")), "{1}_is_damaged"),
}


def half(content):
    return content[: len(content) // 2]


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_picture_is_named(served, serving, kind):
    make, message = BAD[kind]
    good = served[1]
    images = tf.constant([good[0], good[1], make(serving), good[2]])
    assert message.format("images[2]", "images_2") in refused(
        served, "serving_default", images=images
    )


def test_bad_examples(served):
    empty = tf.train.Example().SerializeToString()
    said = refused(served, "tf_example", examples=tf.constant([empty]))
    assert "examples[0] has no bytes" in said
    said = refused(served, "tf_example", examples=tf.constant([empty, b"\xff\xff garbage"]))
    assert "examples[0] has no bytes" in said or "examples_1_is_damaged" in said


@pytest.mark.parametrize("count", [0, 9])
def test_number_of_pictures(served, count):
    said = f"holds {count} pictures, this model takes 1 to 8"
    encoded = tf.constant([served[1][0]] * count, tf.string)
    pixels = tf.zeros([count, 10, 10, 3])
    assert f"images {said}" in refused(served, "serving_default", images=encoded)
    assert f"images {said}" in refused(served, "predict_float_images", images=pixels)
    assert f"examples {said}" in refused(served, "tf_example", examples=encoded)


def test_bad_pixels(served):
    said = refused(served, "predict_images", images=tf.zeros([1, 0, 10, 3], tf.uint8))
    assert "images[0] has 10 x 0 pixels" in said
    said = refused(served, "predict_images", images=tf.zeros([1, 201, 200, 3], tf.uint8))
    assert "images[0] has 200 x 201 pixels, this model takes 1 to 40000" in said
    images = np.zeros([3, 10, 10, 3], np.float32)
    images[1, 5, 5, 1] = np.nan
    said = refused(served, "predict_float_images", images=tf.constant(images))
    assert "images[1] has pixels that are no numbers" in said


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [("score_threshold", 1.5, "1.5"), ("nms_iou", -1.0, "-1"), ("nms_iou", np.nan, "nan")],
)
def test_bad_thresholds(served, name, value, shown):
    thresholds = {"score_threshold": tf.constant(0.5), "nms_iou": tf.constant(0.5)}
    thresholds[name] = tf.constant(value, tf.float32)
    said = refused(served, "serving_thresholds", images=tf.constant(served[1]), **thresholds)
    assert f"{name} is {shown}, it must be in [0, 1]" in said


def test_random_damage_is_refused_or_decoded_and_changes_nothing(served, serving):
    """Thousands of the same, and what they leave in memory: benchmarks/serving.py."""
    signatures, good, before = served
    outcomes = set()
    for request in requests(150, max_batch=8):
        try:
            with quiet():  # the decoders write of what is wrong
                signatures["serving_default"](images=tf.constant(request))
            outcomes.add("answered")
        except tf.errors.InvalidArgumentError as error:
            outcomes.add("refused")
            assert "images" in str(error)
    assert outcomes == {"answered", "refused"}
    after = signatures["serving_default"](images=tf.constant(good))
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)
