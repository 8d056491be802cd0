"""Pipelines: what is in a batch, in which order, and that nothing but the seed decides it."""

import collections
import dataclasses
import itertools

import numpy as np
import pytest
from PIL import Image

from harmonic_tf.backend import tf
from harmonic_tf.data.example import Annotation, DataError, DetectionData
from harmonic_tf.data.pipeline.batches import (
    Augmentation,
    evaluation_batches,
    training_batches,
)
from harmonic_tf.data.pipeline.transforms import unletterbox_boxes

SIZE = 64


def annotation(path, width, height, boxes, crowd=None):
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    return Annotation(
        image_path=str(path),
        image_id=path.stem,
        width=width,
        height=height,
        boxes=boxes,
        classes=np.arange(len(boxes), dtype=np.int32),
        difficult=np.arange(len(boxes)) % 2 == 1,
        crowd=np.zeros(len(boxes), bool) if crowd is None else np.array(crowd),
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Seven pictures of seven grey levels: 20, 40, ..., 140, with 0 to 6 objects each."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    annotations = []
    for number, (mode, suffix) in enumerate(
        [("RGB", "jpg"), ("L", "jpg"), ("RGB", "png"), ("L", "png"), ("RGBA", "png")]
        + [("RGB", "jpg")] * 2
    ):
        width, height = 60 + 10 * number, 90 - 10 * number
        level = 20 * (number + 1)
        color = {"L": level, "RGB": (level,) * 3, "RGBA": (level,) * 3 + (255,)}[mode]
        path = folder / f"picture_{number}.{suffix}"
        Image.new(mode, (width, height), color).save(path)
        corners = np.sort(rng.uniform(0, [width, height], (number, 2, 2)), axis=1)
        annotations.append(annotation(path, width, height, corners))
    return DetectionData("seven", [str(number) for number in range(7)], annotations)


def which(images):
    """Number of each picture, told by its grey level."""
    return [round(float(image[1, 1, 0]) / 20) - 1 for image in np.asarray(images)]


def stream(dataset, batches, threads=None):
    if threads:
        options = tf.data.Options()
        options.threading.private_threadpool_size = threads
        options.threading.max_intra_op_parallelism = threads
        dataset = dataset.with_options(options)
    return [
        tuple(np.asarray(tensor) for tensor in (images, labels["boxes"], labels["classes"]))
        for images, labels in dataset.take(batches)
    ]


def assert_same(one, other):
    for batch, same in zip(one, other):
        for tensor, again in zip(batch, same):
            np.testing.assert_array_equal(tensor, again)


def test_shapes_and_types_are_static(data):
    images, labels = training_batches(data, SIZE, 4, seed=0, max_boxes=9).element_spec
    assert images == tf.TensorSpec([4, SIZE, SIZE, 3], tf.uint8)
    assert labels == {
        "boxes": tf.TensorSpec([4, 9, 4], tf.float32),
        "classes": tf.TensorSpec([4, 9], tf.float32),
    }
    assert evaluation_batches(data, SIZE, 4).element_spec == {
        "images": tf.TensorSpec([4, SIZE, SIZE, 3], tf.float32),
        "index": tf.TensorSpec([4], tf.int64),
        "source_size": tf.TensorSpec([4, 2], tf.int32),
    }


def test_the_stream_depends_on_the_seed_alone(data):
    one = stream(training_batches(data, SIZE, 4, seed=5), 6, threads=1)
    four = stream(training_batches(data, SIZE, 4, seed=5), 6, threads=4)
    other = stream(training_batches(data, SIZE, 4, seed=6), 6)
    assert_same(one, four)
    assert not all(np.array_equal(a[0], b[0]) for a, b in zip(one, other))


def test_the_same_dataset_read_twice_gives_the_same(data):
    dataset = training_batches(data, SIZE, 2, seed=5)
    assert_same(stream(dataset, 5), stream(dataset, 5))


@pytest.mark.parametrize("start", [1, 3, 8])
def test_start_batch_leaves_out_the_batches_before(data, start):
    whole = stream(training_batches(data, SIZE, 3, seed=1), start + 3)
    rest = stream(training_batches(data, SIZE, 3, seed=1, start_batch=start), 3)
    assert_same(whole[start:], rest)


@pytest.mark.parametrize("start", [0, 4])
def test_shards_together_are_the_stream(data, start):
    whole = stream(training_batches(data, SIZE, 2, seed=1, start_batch=start), 6)
    shards = [
        stream(training_batches(data, SIZE, 2, seed=1, start_batch=start, shard=(index, 2)), 3)
        for index in range(2)
    ]
    together = [batch for pair in zip(*shards) for batch in pair]
    assert_same(whole, together)


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_every_epoch_holds_every_picture_once_in_an_order_of_its_own(data, batch_size):
    batches = training_batches(data, SIZE, batch_size, seed=2, augmentation=None)
    seen = itertools.chain.from_iterable(
        which(images) for images, _, _ in stream(batches, -(-28 // batch_size))
    )
    epochs = [tuple(itertools.islice(seen, 7)) for _ in range(4)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len(set(epochs)) == 4


def test_augmentation_differs_between_epochs(data):
    one = dataclasses.replace(data, annotations=data.annotations[5:6])
    ((images, _, _),) = stream(training_batches(one, SIZE, 6, seed=0), 1)
    assert len({image.tobytes() for image in images}) == 6


def test_targets_are_the_letterboxed_annotations_padded_by_minus_one(data):
    for images, boxes, classes in stream(
        training_batches(data, SIZE, 7, seed=3, max_boxes=8, augmentation=None), 1
    ):
        for place, number in enumerate(which(images)):
            source = data.annotations[number]
            count = len(source.boxes)
            assert number == count  # the object-free picture is among them
            back = unletterbox_boxes(boxes[place, :count], source.height, source.width, SIZE)
            np.testing.assert_allclose(back, source.boxes, atol=1e-3)
            np.testing.assert_array_equal(classes[place, :count], np.arange(count))
            assert (boxes[place, count:] == -1).all() and (classes[place, count:] == -1).all()


def test_augmented_targets_are_inside_the_picture(data):
    varied = Augmentation(scale_range=(0.5, 2.0))
    batches = stream(training_batches(data, SIZE, 7, seed=4, augmentation=varied), 5)
    kept = collections.Counter()
    for images, boxes, classes in batches:
        assert images.min() >= 0 and images.max() <= 255
        valid = classes >= 0
        kept.update(valid.ravel().tolist())
        assert (boxes[~valid] == -1).all()
        inside = boxes[valid]
        assert (inside >= 0).all() and (inside <= SIZE * (1 + 1e-6)).all()
        assert (inside[:, 2:] > inside[:, :2]).all()
    assert 0 < kept[True] <= 5 * sum(range(7))


def test_crowds_are_no_targets_and_take_no_room(data):
    source = data.annotations[4]
    crowded = dataclasses.replace(source, crowd=np.array([True, False, True, False]))
    one = dataclasses.replace(data, annotations=[crowded])
    ((_, boxes, classes),) = stream(
        training_batches(one, SIZE, 1, seed=0, max_boxes=2, augmentation=None), 1
    )
    np.testing.assert_array_equal(classes, [[1, 3]])
    back = unletterbox_boxes(boxes[0], source.height, source.width, SIZE)
    np.testing.assert_allclose(back, source.boxes[[1, 3]], atol=1e-3)


def test_pictures_without_any_object_go_through(data):
    empty = dataclasses.replace(data, annotations=data.annotations[:1])
    ((images, boxes, classes),) = stream(training_batches(empty, SIZE, 3, seed=0, max_boxes=5), 1)
    assert images.shape == (3, SIZE, SIZE, 3)
    assert (boxes == -1).all() and (classes == -1).all()


def test_too_many_objects_is_an_error_that_names_picture_and_remedy(data):
    with pytest.raises(DataError) as error:
        training_batches(data, SIZE, 2, seed=0, max_boxes=4)
    message = str(error.value)
    assert "picture_6.jpg" in message and "max_boxes" in message and "raise" in message
    training_batches(data, SIZE, 2, seed=0, max_boxes=6)


def test_no_picture_is_an_error(data):
    empty = dataclasses.replace(data, annotations=[])
    for make in (
        lambda: training_batches(empty, SIZE, 2, seed=0),
        lambda: evaluation_batches(empty, SIZE, 2),
    ):
        with pytest.raises(DataError, match="seven: annotations = 0 pictures"):
            make()


@pytest.mark.parametrize("batch_size", [1, 3, 7, 10])
def test_evaluation_sees_every_picture_once_in_order(data, batch_size):
    index, pictures, sizes = [], [], []
    for batch in evaluation_batches(data, SIZE, batch_size):
        assert batch["images"].shape == (batch_size, SIZE, SIZE, 3)
        index += batch["index"].numpy().tolist()
        pictures += which(batch["images"])
        sizes += batch["source_size"].numpy().tolist()
    padding = -7 % batch_size
    assert index == list(range(7)) + [-1] * padding
    assert pictures == list(range(7)) + [6] * padding
    assert sizes[:7] == [[a.height, a.width] for a in data.annotations]


@pytest.mark.parametrize(
    "wrong",
    [
        {"flip_probability": 1.5},
        {"scale_range": (0.0, 1.0)},
        {"scale_range": (1.5, 1.0)},
        {"min_area_fraction": -0.1},
        {"brightness": 300.0},
        {"contrast": float("nan")},
        {"saturation": 2.0},
        {"hue": 181.0},
    ],
)
def test_augmentation_out_of_range_is_an_error_that_names_the_field(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        Augmentation(**wrong)
