"""Pictures that Pillow decodes pass through everything that pictures pass through."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from harmonic_tf.backend import tf
from harmonic_tf.data.example import Annotation, DataError, DetectionData
from harmonic_tf.data.images import decoding
from harmonic_tf.data.images.checking import check_pictures
from harmonic_tf.data.images.headers import format_of
from harmonic_tf.data.inspection.files import picture_files
from harmonic_tf.data.pipeline.augmentation import Augmentation
from harmonic_tf.data.pipeline.batches import evaluation_batches, training_batches
from harmonic_tf.data.pipeline.cache import build_cache
from harmonic_tf.data.readers.tfrecord import read_tfrecord
from harmonic_tf.data.records.conversion import convert, summary

WIDTH, HEIGHT = 48, 32
FORMATS = {
    "webp": {"format": "WEBP", "lossless": True},
    "tif": {"format": "TIFF", "compression": "tiff_lzw"},
    "png": {"format": "PNG"},
    "bmp": {"format": "BMP"},
}


def image(number):
    """Sixteen colours, so that a palette holds them without loss."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    level = ((x // 12 + y // 8 * 4 + number) % 16 * 16).astype(np.uint8)
    return Image.fromarray(np.stack([level, 255 - level, np.full_like(level, 40 * number)], -1))


def annotation(path):
    none, box = np.zeros(1, bool), np.array([[4, 4, 30, 20]], np.float32)
    number = int(path.stem[1:])
    return Annotation(
        str(path), path.stem, WIDTH, HEIGHT, box, np.array([number % 2], np.int32), none, none
    )


@pytest.fixture
def folder(tmp_path):
    """The same pictures twice: as PNG, and in the formats above."""
    for number, (suffix, options) in enumerate(FORMATS.items()):
        for parent in ("plain", "mixed"):
            (tmp_path / parent).mkdir(exist_ok=True)
        image(number).save(tmp_path / "plain" / f"p{number}.png")
        saved = image(number).quantize(16) if suffix == "bmp" else image(number)
        saved.save(tmp_path / "mixed" / f"p{number}.{suffix}", **options)
    return tmp_path


def data_of(folder, **options):
    annotations = [annotation(path) for path in sorted(folder.iterdir())]
    return check_pictures(DetectionData("mine", ("a", "b"), annotations), **options)


def assert_same(one, other):
    for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(other)):
        np.testing.assert_array_equal(a, b)


def test_pixels(folder):
    data = data_of(folder / "mixed")
    decoders = [annotation.decoder for annotation in data.annotations]
    assert decoders == ["pillow", "pillow", "tensorflow", "pillow"]
    for number, one in enumerate(data.annotations):
        np.testing.assert_array_equal(decoding.picture(one), image(number))
    formats = [file.format for file in picture_files(data.annotations)]
    assert formats == ["WEBP, RGB", "TIFF, RGB", "PNG, RGB", "BMP, P"]


@pytest.mark.parametrize("cache", ("none", "memory", "file"))
def test_training_cannot_tell(folder, cache):
    streams = []
    for name in ("plain", "mixed"):
        data = data_of(folder / name)
        where = str(folder / f"{name}.cache") if cache == "file" else cache
        crop = Augmentation(transforms=("zoom_and_crop",))
        cached = build_cache(data, where)
        batches = training_batches(data, 32, 2, seed=1, augmentation=crop, cache=cached)
        streams.append(list(batches.take(4)))
    assert_same(*streams)


def test_evaluation_cannot_tell(folder):
    both = [list(evaluation_batches(data_of(folder / n), 32, 3)) for n in ("plain", "mixed")]
    assert_same(*both)


def test_a_service_runs_no_python_of_ours(folder):
    with pytest.raises(DataError, match=r"p0.webp.* = decoded by pillow.*by a tf.data service"):
        training_batches(data_of(folder / "mixed"), 32, 2, seed=1, service="localhost:1")


def test_without_such_pictures_there_is_no_python_in_the_graph(folder):
    """Serving and tf.data services run graphs where there is none."""

    def operations(function):
        graph = tf.function(function, autograph=False).get_concrete_function().graph
        functions = [graph._get_function(name).graph for name in graph._functions]
        return {op.type for g in (graph, *functions) for op in g.get_operations()}

    content = (folder / "plain" / "p0.png").read_bytes()
    assert "EagerPyFunc" not in operations(lambda: decoding.decode(content))
    assert "EagerPyFunc" in operations(lambda: decoding.decode(content, None, tf.constant(2)))
    assert decoding.decoder_numbers(data_of(folder / "plain").annotations) is None
    assert decoding.decoder_numbers(data_of(folder / "mixed").annotations).numpy().tolist() == [
        *(2, 2, 0, 2)
    ]


@pytest.fixture
def coco_folder(coco):
    """`a` is a JPEG that is cut off at its very end, `b` a TIFF that is stored turned."""
    pixels = np.zeros([30, 40, 3], np.uint8)
    pixels[5:15, 10:30] = [200, 100, 50]
    target, exif = io.BytesIO(), Image.Exif()
    Image.fromarray(pixels).save(target, "JPEG", quality=95)
    (coco.images / "a.jpg").write_bytes(target.getvalue()[:-2])
    exif[0x0112] = 6
    stored = Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90)
    stored.save(coco.images / "b.tiff", exif=exif)
    coco.document["images"][1]["file_name"] = "b.tiff"
    coco.pixels = pixels
    return coco


def test_conversion(coco_folder, tmp_path):
    coco_folder.read()
    source, folder = f"coco:{coco_folder.file}", str(tmp_path / "out")
    with pytest.raises(DataError, match="does not decode"):
        convert(source, folder, on_bad_example="error")
    result = convert(source, folder, on_bad_example="error", on_truncated="recover")
    (split,) = result.splits.values()
    assert (split.pictures, split.turned, split.recoded) == (2, 1, 2)
    title, row = (line.split() for line in summary(result).splitlines())
    assert row[title.index("recoded")] == "2"
    data = check_pictures(read_tfrecord(folder, "all"))
    assert [a.decoder for a in data.annotations] == ["tensorflow"] * 2
    kinds = [format_of(decoding.encoded_picture(a)) for a in data.annotations]
    assert kinds == ["jpeg", "png"]
    jpeg, png = (decoding.picture(a).astype(int) for a in data.annotations)
    np.testing.assert_array_equal(png, coco_folder.pixels)
    assert np.abs(jpeg - coco_folder.pixels).mean() < 3
    assert convert(source, folder, on_bad_example="error", on_truncated="recover") == result


def test_what_is_cut_off_is_trained_on_as_it_is_recovered(coco_folder):
    data = check_pictures(coco_folder.read(), on_truncated="recover")
    assert [a.decoder for a in data.annotations] == ["recovering", "pillow"]
    plain = {"augmentation": None, "seed": 0, "image_size": 40, "batch_size": 1}
    images = [batch[0][0].numpy() for batch in training_batches(data, **plain).take(2)]
    for found in images:
        assert np.abs(found[:30].astype(int) - coco_folder.pixels).mean() < 3


def test_records_of_others_that_hold_such_pictures(tmp_path, folder):
    content = (folder / "mixed" / "p0.webp").read_bytes()
    features = {
        "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[content])),
        **{
            f"image/object/bbox/{key}": tf.train.Feature(
                float_list=tf.train.FloatList(value=[value])
            )
            for key, value in (("xmin", 0.25), ("ymin", 0.25), ("xmax", 0.5), ("ymax", 0.75))
        },
        "image/object/class/text": tf.train.Feature(
            bytes_list=tf.train.BytesList(value=[b"thing"])
        ),
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    with tf.io.TFRecordWriter(str(tmp_path / "one")) as writer:
        writer.write(example.SerializeToString())
    (found,) = check_pictures(read_tfrecord(str(tmp_path / "one"), "x")).annotations
    assert (found.width, found.height, found.decoder) == (WIDTH, HEIGHT, "pillow")
    np.testing.assert_allclose(found.boxes, [[12, 8, 24, 24]])
    np.testing.assert_array_equal(decoding.picture(found), image(0))
    np.testing.assert_array_equal(
        decoding.picture(dataclasses.replace(found, orientation=3)),
        np.asarray(image(0))[::-1, ::-1],
    )
