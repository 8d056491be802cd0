"""Schedules against the formulas, optimizers against a hand-made step."""

import math

import numpy as np
import pytest

from harmonic_tf.backend import keras, tf
from harmonic_tf.training.optimizers import WarmupSchedule, build_optimizer
from harmonic_tf.training.settings import OptimizerSettings


def settings(**kwargs):
    defaults = {
        "name": "adamw",
        "learning_rate": 0.1,
        "schedule": "constant",
        "warmup_steps": 0,
        "step_epochs": (),
        "weight_decay": 0.0,
        "clip_norm": 0.0,
    }
    return OptimizerSettings(**{**defaults, **kwargs})


def test_cosine_with_warmup():
    schedule = WarmupSchedule(2.0, total_steps=110, warmup_steps=10, schedule="cosine")
    np.testing.assert_allclose(schedule(0), 0.2, rtol=1e-6)
    np.testing.assert_allclose(schedule(9), 2.0, rtol=1e-6)
    for step in (10, 35, 60, 109):
        expected = 2.0 * 0.5 * (1 + math.cos(math.pi * (step - 10) / 100))
        np.testing.assert_allclose(schedule(step), expected, rtol=1e-3)
    np.testing.assert_allclose(schedule(110), 0.0, atol=1e-6)
    np.testing.assert_allclose(schedule(500), 0.0, atol=1e-6)


def test_steps_drop_tenfold():
    schedule = WarmupSchedule(1.0, 100, schedule="step", boundaries=(50, 80))
    rates = [float(schedule(step)) for step in (0, 49, 50, 79, 80, 99)]
    np.testing.assert_allclose(rates, [1, 1, 0.1, 0.1, 0.01, 0.01], rtol=1e-5)


def test_constant_stays_and_unknown_names_are_refused():
    assert float(WarmupSchedule(0.5, 10, schedule="constant")(9)) == 0.5
    with pytest.raises(ValueError, match="'linear' is unknown"):
        WarmupSchedule(0.5, 10, schedule="linear")
    with pytest.raises(ValueError, match="'adagrad' is unknown"):
        build_optimizer(settings(name="adagrad"), 1, 1)


def test_schedule_survives_serialization():
    schedule = WarmupSchedule(0.5, 100, 10, "step", (30, 60))
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert copy.get_config() == schedule.get_config()


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_gradients_are_clipped_by_their_global_norm(name):
    moves = []
    for scale in (1.0, 1000.0):
        variables = [tf.Variable([1.0, 1.0]), tf.Variable([1.0])]
        optimizer = build_optimizer(settings(name=name, clip_norm=1.0), 1, 10)
        optimizer.apply_gradients(
            zip([tf.constant([3.0, 0.0]) * scale, tf.constant([4.0]) * scale], variables)
        )
        moves.append(np.concatenate([v.numpy() for v in variables]))
    np.testing.assert_allclose(*moves, rtol=1e-5)


def test_clipped_sgd_step_by_hand():
    # Gradient (3, 4) has norm 5; clipped to norm 1 it is (0.6, 0.8); the step is 0.1 of it.
    variable = tf.Variable([1.0, 1.0])
    build_optimizer(settings(name="sgd", clip_norm=1.0), 1, 10).apply_gradients(
        [(tf.constant([3.0, 4.0]), variable)]
    )
    np.testing.assert_allclose(variable, [0.94, 0.92], rtol=1e-5)


def test_decay_moves_kernels_and_leaves_shifts_and_scales():
    kernel, bias = tf.Variable([2.0], name="conv/kernel"), tf.Variable([2.0], name="conv/bias")
    gamma = tf.Variable([2.0], name="bn/gamma")
    optimizer = build_optimizer(settings(weight_decay=0.5), 1, 10)
    optimizer.apply_gradients([(tf.zeros([1]), v) for v in (kernel, bias, gamma)])
    np.testing.assert_allclose(kernel, 2.0 - 0.1 * 0.5 * 2.0, rtol=1e-5)
    np.testing.assert_allclose([bias, gamma], 2.0)


def test_step_epochs_become_steps():
    optimizer = build_optimizer(settings(name="sgd", schedule="step", step_epochs=(2,)), 3, 7)
    schedule = keras.saving.deserialize_keras_object(optimizer.get_config()["learning_rate"])
    np.testing.assert_allclose([schedule(13), schedule(14)], [0.1, 0.01], rtol=1e-5)
