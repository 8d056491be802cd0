"""Caches of decoded pictures: what they hold, what they refuse, and that the stream is the same."""

import dataclasses
import os

import numpy as np
import pytest

from harmonic_tf.backend import tf
from harmonic_tf.data.example import DataError
from harmonic_tf.data.images import decoding
from harmonic_tf.data.pipeline import cache as caches
from harmonic_tf.data.pipeline.batches import training_batches
from harmonic_tf.data.pipeline.cache import build_cache, file_cache


@pytest.fixture
def data(coco):
    return coco.read()


@pytest.mark.parametrize("where", ["memory", "file"])
def test_any_part_of_any_picture_is_what_decoding_gives(data, where, tmp_path):
    cache = build_cache(data, str(tmp_path / "cache") if where == "file" else where)
    for number, annotation in enumerate(data.annotations):
        whole = decoding.picture(annotation)
        size = tf.constant(whole.shape[:2])
        for y, x, h, w in [(0, 0, *whole.shape[:2]), (3, 5, 7, 11), (29, 39, 1, 1)]:
            part = cache.part(tf.constant(number, tf.int64), size, tf.constant([y, x, h, w]))
            np.testing.assert_array_equal(part, whole[y : y + h, x : x + w])


def test_the_stream_is_the_same_with_and_without(data, tmp_path):
    """Exactly but for JPEG's outermost columns, which these grey pictures do not have."""
    streams = [
        list(training_batches(data, 64, 2, seed=3, cache=cache).take(4))
        for cache in (None, build_cache(data, "memory"), file_cache(data, str(tmp_path / "c")))
    ]
    for plain, *others in zip(*streams):
        for other in others:
            difference = np.abs(plain[0].numpy().astype(int) - other[0].numpy())
            assert difference.max() <= 8 and difference.mean() < 0.05
            for name in ("boxes", "classes"):
                np.testing.assert_array_equal(plain[1][name], other[1][name])


def test_memory_cache_spreads_over_replicas(data):
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    cache = build_cache(data, "memory")
    batches = strategy.distribute_datasets_from_function(
        lambda context: training_batches(data, 64, 1, seed=3, cache=cache)
    )
    plain = iter(training_batches(data, 64, 1, seed=3, cache=cache))
    for (images, _), _ in zip(batches, range(3)):
        for image in strategy.experimental_local_results(images):
            np.testing.assert_array_equal(image, next(plain)[0])


def test_none_is_none(data):
    assert build_cache(data, "none") is None


def test_what_does_not_fit_is_refused_with_the_figures(data, tmp_path, monkeypatch):
    huge = dataclasses.replace(data.annotations[0], width=10**7, height=10**7)
    vast = dataclasses.replace(data, annotations=[*data.annotations, huge])
    for where in ("memory", str(tmp_path / "cache")):
        with pytest.raises(DataError, match=r"279396\.77 GiB of decoded .* GiB are free"):
            build_cache(vast, where)
    monkeypatch.setattr(caches, "free_memory", lambda: 3 * 40 * 30 * 2 - 1)
    with pytest.raises(DataError, match="do not fit"):
        build_cache(data, "memory")
    monkeypatch.setattr(caches, "free_memory", lambda: 3 * 40 * 30 * 2)
    build_cache(data, "memory")
    assert os.listdir(tmp_path) == ["coco"]


def test_a_file_is_used_again_and_never_when_it_is_stale(data, tmp_path):
    file = tmp_path / "cache"
    file_cache(data, str(file))
    written = file.stat().st_mtime_ns
    assert file.stat().st_size == 64 + 2 * 3 * 40 * 30
    file_cache(data, str(file))
    assert file.stat().st_mtime_ns == written

    fewer = dataclasses.replace(data, annotations=data.annotations[:1])
    with pytest.raises(DataError, match="holds something else than the 1 pictures"):
        file_cache(fewer, str(file))
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    with pytest.raises(DataError, match="Remove it"):
        file_cache(data, str(file))
    file.write_bytes(content)
    file_cache(data, str(file))
    os.utime(data.annotations[0].image_path, ns=(1, 1))
    with pytest.raises(DataError, match="as they are now"):
        file_cache(data, str(file))


def test_a_picture_that_does_not_decode_leaves_no_file(data, tmp_path):
    path = data.annotations[0].image_path
    with open(path, "r+b") as file:
        file.truncate(100)
    with pytest.raises(tf.errors.InvalidArgumentError):
        file_cache(data, str(tmp_path / "cache"))
    wrong = dataclasses.replace(data.annotations[1], width=41)
    with pytest.raises(DataError, match="40 x 30: is annotated as 41 x 30"):
        file_cache(dataclasses.replace(data, annotations=[wrong]), str(tmp_path / "cache"))
    assert os.listdir(tmp_path) == ["coco"]
