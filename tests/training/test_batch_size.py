"""The batch size that fits into memory, by an estimate and by memory that the tests make up."""

import math
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonic_tf.backend import keras, tf
from harmonic_tf.data.example import DetectionData
from harmonic_tf.training import batch_size
from harmonic_tf.training.batch_size import (
    LARGEST,
    StepMemory,
    candidates,
    largest_fitting,
    picture_bytes,
    replica_memory,
    step_memory,
    with_batch_size,
)
from harmonic_tf.training.settings import AUTO, SettingsError
from harmonic_tf.training.strategy import build_strategy, check_batch_size

ONE = build_strategy("one_device")
GIB = 2**30


@given(st.integers(1, 10**6), st.integers(1, 64))
def test_auto_batch_sizes_can_be_shared_and_leave_some_steps(pictures, parts):
    sizes = candidates(pictures, parts)
    assert sizes[0] == parts and sizes == sorted(set(sizes))
    for size in sizes:
        check_batch_size(SimpleNamespace(num_replicas_in_sync=parts), size, 1)
        assert math.log2(size // parts) % 1 == 0
    for size in sizes[1:]:
        assert size <= LARGEST and 4 * size <= pictures
    assert 2 * sizes[-1] > min(LARGEST, pictures // 4)


@pytest.mark.parametrize(
    "pictures, parts, sizes",
    [
        (1000, 1, [1, 2, 4, 8, 16]),
        (40, 1, [1, 2, 4, 8]),
        (3, 1, [1]),
        (1000, 2, [2, 4, 8, 16]),
        (1000, 3, [3, 6, 12]),
        (1000, 32, [32]),
    ],
)
def test_auto_batch_size_chooses_from(pictures, parts, sizes):
    assert candidates(pictures, parts) == sizes


@settings(deadline=None)
@given(st.floats(0.01, 10), st.floats(0.01, 2), st.floats(0, 100), st.sampled_from([1, 2, 4]))
def test_auto_batch_size_is_the_largest_that_fits(fixed, per_picture, free, parts):
    memory, sizes = StepMemory(fixed * GIB, per_picture * GIB), candidates(1000, parts)
    fitting = [
        size for size in sizes if fixed + size / parts * per_picture <= batch_size._SHARE * free
    ]
    try:
        assert largest_fitting(sizes, parts, memory, free * GIB, ONE) == max(fitting)
    except SettingsError:
        assert not fitting


def test_too_little_memory_is_an_error_with_estimate_and_remedies():
    with pytest.raises(SettingsError) as caught:
        largest_fitting([1, 2], 1, StepMemory(3 * GIB, 0.5 * GIB), 4 * GIB, ONE)
    message = str(caught.value)
    assert "a step of 1 picture takes about 3.5 GiB, and of the 4.0 GiB" in message
    for remedy in ("--image_size", "--backbone", "--batch_size as a number"):
        assert remedy in message


def test_micro_batches_are_what_has_to_fit_for_auto_batch_size():
    memory = StepMemory(GIB, GIB)
    free = 5 * GIB / batch_size._SHARE  # of 4 pictures
    assert largest_fitting(candidates(1000, 1), 1, memory, free, ONE) == 4
    assert largest_fitting(candidates(1000, 2), 2, memory, free, ONE) == 8
    assert largest_fitting(candidates(1000, 4), 4, memory, free, ONE) == 16


def test_the_estimate_counts_outputs_of_operations_and_copies_of_weights(tiny_detector):
    model = tiny_detector(channels=8)
    side, anchors, classes = 64, 9, 3
    backbone = 8 * sum((side // stride) ** 2 for stride in (8, 16, 32))
    cells = [(side // stride) ** 2 for stride in (8, 16, 32, 64, 64)]  # of P7 there is one, too
    pyramid = 8 * (2 * sum(cells[:3]) + sum(cells[3:]))  # lateral and smooth; coarse
    heads = anchors * (4 + classes) * sum(cells)
    convolved, gated = backbone + pyramid + heads, backbone
    taken = batch_size._TAKEN
    assert taken["Conv2D"] >= 1 and taken["Sigmoid"] >= 1
    expected = 4 * (taken["Conv2D"] * convolved + taken["Sigmoid"] * gated)
    assert picture_bytes(model, side) == pytest.approx(expected)

    numbers = sum(weight.numpy().size for weight in model.weights)
    memory = {name: step_memory(model, side, name) for name in ("sgd", "adamw")}
    assert memory["adamw"].fixed - memory["sgd"].fixed == 4 * numbers
    averaged = step_memory(model, side, "sgd", averaged=True)
    assert averaged.fixed == memory["adamw"].fixed
    assert memory["sgd"].of(3) - memory["sgd"].of(1) == 2 * memory["sgd"].per_picture


def test_half_as_wide_numbers_take_half_the_room(tiny_detector):
    wide = picture_bytes(tiny_detector(), 64)
    try:
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
        assert wide / 2 <= picture_bytes(tiny_detector(), 64) < 0.6 * wide
    finally:
        keras.mixed_precision.set_global_policy("float32")


def experiment(**given):
    usual = {
        "batch_size": AUTO,
        "model": None,
        "data": SimpleNamespace(train_sizes=(64, 96)),
        "optimizer": SimpleNamespace(name="adamw"),
        "average_decay": None,
        "accumulation_steps": 1,
    }
    return SimpleNamespace(**{**usual, **given})


@pytest.mark.parametrize("strategy, size", [("one_device", 8), ("mirrored", 16)])
def test_auto_batch_size_is_chosen_by_the_memory_that_is_free(monkeypatch, caplog, strategy, size):
    asked = []
    monkeypatch.setattr(batch_size, "build_model", lambda *arguments: asked.append(arguments))
    monkeypatch.setattr(batch_size, "step_memory", lambda *_: StepMemory(GIB, GIB))
    monkeypatch.setattr(batch_size, "replica_memory", lambda _: 12 * GIB)
    monkeypatch.setattr(batch_size.dataclasses, "replace", lambda _, **changed: changed)
    data = DetectionData("some", ("a", "b"), [None] * 100, ())
    with caplog.at_level("INFO", "absl"):
        chosen = with_batch_size(experiment(), data, build_strategy(strategy))
    assert chosen == {"batch_size": size}
    assert asked == [(None, 2, 96)]  # as the largest pictures need it
    assert f"batch_size: {size}; a step takes about" in caplog.text
    given = experiment(batch_size=5)
    assert with_batch_size(given, data, build_strategy(strategy)) is given


def test_replicas_of_one_machine_share_its_memory(monkeypatch):
    monkeypatch.setattr(batch_size, "free_memory", lambda: 8 * GIB)
    assert replica_memory(ONE) == 8 * GIB
    assert replica_memory(build_strategy("mirrored")) == 2 * GIB


def test_a_gpu_has_what_tensorflow_may_take_of_it(monkeypatch):
    def device(kind, size):
        return SimpleNamespace(device_type=kind, memory_limit_bytes=size)

    devices = [device("CPU", 1), device("GPU", 9 * GIB), device("GPU", 7 * GIB)]
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [kind])
    monkeypatch.setattr(tf.compat.v1.Session, "list_devices", lambda self: devices)
    assert replica_memory(ONE) == 7 * GIB


def test_looking_at_memory_changes_no_initial_weights(tiny_detector):
    expected = tiny_detector(seed=3).get_weights()
    step_memory(tiny_detector(seed=5), 64, "adamw")
    for weight, again in zip(expected, tiny_detector(seed=3).get_weights()):
        assert (weight == again).all()
