"""Pictures: bytes from files and from records, turned the way they are to be seen."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from harmonic_tf.backend import tf
from harmonic_tf.data.example import Annotation
from harmonic_tf.data.images import decoding


def annotation(path, **more):
    none = np.zeros(0, bool)
    boxes, classes = np.zeros([0, 4], np.float32), np.zeros(0, np.int32)
    return Annotation(str(path), "p", 8, 6, boxes, classes, none, none, **more)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_upright_as_pillow_does(tmp_path, orientation):
    pixels = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "picture.png"
    Image.fromarray(pixels).save(path, exif=exif)
    with Image.open(path) as opened:
        seen = np.asarray(ImageOps.exif_transpose(opened))
    found = decoding.picture(annotation(path, orientation=orientation))
    np.testing.assert_array_equal(found, seen)


def test_records_are_read_from_where_they_start(tmp_path):
    """Also inside of tf.data, mixed with pictures in files of their own."""
    contents = [tf.io.encode_png(np.full([4, 5, 3], level, np.uint8)).numpy() for level in range(5)]
    file, offsets, end = tmp_path / "shard.tfrecord", [], 0
    with tf.io.TFRecordWriter(str(file)) as writer:
        for content in contents:
            feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[content]))
            features = tf.train.Features(feature={decoding.ENCODED_FIELD: feature})
            record = tf.train.Example(features=features).SerializeToString()
            # Length, its checksum, the record and its checksum: 8 + 4 + n + 4 bytes.
            offsets.append(end)
            end += len(record) + 16
            writer.write(record)
    alone = tmp_path / "alone.png"
    alone.write_bytes(contents[0])
    for content, offset in zip(contents, offsets):
        assert decoding.encoded_picture(annotation(file, record_offset=offset)) == content
    paths, starts = [str(file), str(alone), str(file)], np.array([offsets[3], -1, offsets[1]])
    dataset = tf.data.Dataset.from_tensor_slices((paths, starts)).map(decoding.read)
    assert list(dataset.as_numpy_iterator()) == [contents[3], contents[0], contents[1]]


def test_a_damaged_record_is_an_error(tmp_path):
    file = tmp_path / "shard.tfrecord"
    with tf.io.TFRecordWriter(str(file)) as writer:
        writer.write(bytes(100))
    content = bytearray(file.read_bytes())
    content[50] ^= 1
    file.write_bytes(content)
    with pytest.raises(tf.errors.DataLossError):
        decoding.encoded_picture(annotation(file, record_offset=0))
