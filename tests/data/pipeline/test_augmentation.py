"""Chains of transforms in the pipeline: chosen, ordered, with partners, at several sizes."""

import numpy as np
import pytest

from harmonic_tf.backend import tf
from harmonic_tf.data.example import Annotation, DataError, DetectionData
from harmonic_tf.data.pipeline import transforms
from harmonic_tf.data.pipeline.augmentation import TRANSFORMS, Augmentation
from harmonic_tf.data.pipeline.batches import training_batches

SIZE, COUNT = 64, 6


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Six pictures of six grey levels: 30, 60, ..., 180; object i of picture n has the class n."""
    folder = tmp_path_factory.mktemp("pictures")
    annotations = []
    for number in range(COUNT):
        path = folder / f"{number}.png"
        level = np.full([48, 64, 3], 30 * (number + 1), np.uint8)
        path.write_bytes(tf.io.encode_png(level).numpy())
        boxes = np.array([[0, 0, 64, 48], [16, 12, 48, 36]], np.float32)
        classes, none = np.full(2, number), np.zeros(2, bool)
        annotations.append(Annotation(str(path), number, 64, 48, boxes, classes, none, none))
    return DetectionData("six", [str(number) for number in range(COUNT)], annotations)


def batches_of(data, *chain, count=3, **options):
    options = {"image_size": SIZE, "batch_size": 2, "seed": 1, "max_boxes": 120, **options}
    augmentation = Augmentation(transforms=chain)
    return list(training_batches(data, augmentation=augmentation, **options).take(count))


def assert_same(one, other):
    for (images, labels), (images_again, labels_again) in zip(one, other):
        np.testing.assert_array_equal(images, images_again)
        for name, value in labels.items():
            np.testing.assert_array_equal(value, labels_again[name])


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_name_runs_and_repeats(data, name):
    chain = (name,) if name == "zoom_and_crop" else ("zoom_and_crop", name)
    once = batches_of(data, *chain)
    assert_same(once[1:], batches_of(data, *chain, start_batch=1, count=2))
    for images, labels in once:
        assert images.shape == (2, SIZE, SIZE, 3) and images.dtype == tf.uint8
        valid = labels["classes"].numpy() >= 0
        boxes = labels["boxes"].numpy()
        assert valid.any() and (boxes[~valid] == -1).all()
        assert (boxes[valid] >= 0).all() and (boxes[valid] <= SIZE + 1e-3).all()


def test_functions_run_in_their_order(data):
    def brighter(example, seed):
        return {**example, "image": example["image"] + 10.0}

    def doubled(example, seed):
        return {**example, "image": example["image"] * 2.0}

    def levels(*chain):
        ((images, labels),) = batches_of(data, *chain, batch_size=COUNT, count=1)
        return images[:, 20, 20, 0].numpy(), 30 * (labels["classes"][:, 0].numpy() + 1)

    found, source = levels(brighter, doubled)
    np.testing.assert_array_equal(found, np.minimum((source + 10) * 2, 255))
    found, source = levels(doubled, brighter)
    np.testing.assert_array_equal(found, np.minimum(source * 2 + 10, 255))


def test_what_comes_before_a_mosaic_happens_to_its_pictures(data):
    sizes = []

    def look(example, seed):
        sizes.append(tuple(example["image"].shape))
        return transforms.flip_vertical(example, seed, 1.0)

    ((images, labels),) = batches_of(data, look, "mosaic", look, batch_size=4, count=1)
    assert len(sizes) == 4 + 1 and sizes[-1] == (SIZE, SIZE, 3)
    for image, classes in zip(images.numpy(), labels["classes"].numpy()):
        shown = set(np.unique(image)) - {transforms.PADDING_GREY}
        labelled = {30 * (int(number) + 1) for number in classes[classes >= 0]}
        assert len(shown) > 1 and labelled <= shown


def test_first_picture_of_a_mosaic_is_the_one_whose_turn_it_is(data):
    """Partners are drawn; but over an epoch each picture has its own turn."""
    seen = []

    def remember(example, seed):
        return {**example, "classes": example["classes"]}

    for _, labels in batches_of(data, remember, "mixup", batch_size=1, count=COUNT):
        seen.append(int(labels["classes"][0, 0]))
    assert sorted(seen) == list(range(COUNT))


def test_partners_differ_from_picture_to_picture_and_between_epochs(data):
    partners = {
        (int(labels["classes"][0, 0]), int(labels["classes"][0, 2]))
        for _, labels in batches_of(data, "mixup", batch_size=1, count=4 * COUNT)
    }
    assert len(partners) > 2 * COUNT


def test_several_sizes_one_per_batch(data):
    options = {"image_size": (32, 64, 96), "count": 12}
    batches = batches_of(data, "zoom_and_crop", "flip_horizontal", **options)
    sides = [images.shape[1] for images, _ in batches]
    assert set(sides) == {32, 64, 96}
    assert all(images.shape == (2, side, side, 3) for side, (images, _) in zip(sides, batches))
    assert all((labels["boxes"] <= side).numpy().all() for side, (_, labels) in zip(sides, batches))
    rest = batches_of(
        data, "zoom_and_crop", "flip_horizontal", **{**options, "count": 4}, start_batch=5
    )
    assert_same(batches[5:9], rest)
    spec = training_batches(data, (32, 64), 2, seed=0).element_spec[0]
    assert spec.shape.as_list() == [2, None, None, 3]
    # A stream of one size is what a list of that size gives.
    assert_same(batches_of(data, "blur"), batches_of(data, "blur", image_size=(SIZE,)))


def test_the_batches_of_a_step_have_one_size(data):
    sides = [
        images.shape[1]
        for images, _ in batches_of(data, image_size=(32, 64, 96), replicas=2, count=16)
    ]
    assert sides[::2] == sides[1::2] and len(set(sides)) > 1


def test_room_is_asked_for_what_a_picture_may_come_to_have(data):
    for chain, most in [
        (("mosaic",), 8),
        (("mixup",), 4),
        (("mixup", "mosaic"), 16),
        (("paste_small_objects",), 8),
        (("paste_small_objects", "mixup"), 16),
    ]:
        with pytest.raises(DataError, match=f"raise max_boxes to {most},"):
            batches_of(data, *chain, max_boxes=most - 1)
        batches_of(data, *chain, max_boxes=most, count=1)


@pytest.mark.parametrize(
    "chain, message",
    [
        (("mosaik",), "'mosaik' is unknown. Choose out of zoom_and_crop, flip_horizontal"),
        (("flip_horizontal", "zoom_and_crop"), "may only be the first"),
        (("zoom_and_crop", "zoom_and_crop"), "may only be the first, and only once"),
    ],
)
def test_chains_that_make_no_sense(chain, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(transforms=chain)
