"""Schedules against the formulas, optimizers against the papers and across strategies."""

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from harmonic_tf.backend import apply_summed, build_optimizer_state, keras, tf
from harmonic_tf.training.optimizers import (
    OPTIMIZERS,
    SGDW,
    AdamW,
    WarmupSchedule,
    build_optimizer,
)
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


# A layer whose name ends like that of a variable; all that is not a kernel is left undecayed.
NAMES = ("beta_gamma/kernel", "conv/bias", "norm/gamma", "norm/beta")
SHAPES = ((3, 3, 2, 4), (4,), (4,), (4,))
STEPS, WARMUP, RATE, DECAY = 6, 2, 0.1, 0.05


def problem(seed=0):
    """Start values and, per step, gradients."""
    rng = np.random.default_rng(seed)
    start = [rng.normal(size=shape) for shape in SHAPES]
    return start, [[rng.normal(size=shape) for shape in SHAPES] for _ in range(STEPS)]


def build(name, **kwargs):
    kwargs = {"learning_rate": RATE, "weight_decay": DECAY, "warmup_steps": WARMUP, **kwargs}
    return build_optimizer(settings(name=name, schedule="cosine", **kwargs), 1, STEPS)


def make_variables(start):
    return [tf.Variable(v, dtype=tf.float32, name=n) for v, n in zip(start, NAMES)]


def move(optimizer, variables, steps):
    """Variables after some steps."""
    for gradients in steps:
        gradients = [tf.constant(g, tf.float32) for g in gradients]
        optimizer.apply_gradients(zip(gradients, variables))
    return [v.numpy() for v in variables]


def rate(t):
    cosine = 0.5 * (1 + math.cos(math.pi * max(t - WARMUP, 0) / (STEPS - WARMUP)))
    return RATE * min((t + 1) / WARMUP, 1) * cosine


def sgdw(w, gradients, decay):
    """Each gradient lives on in all later steps, by 0.9 less in each."""
    for t in range(len(gradients)):
        pushes = [0.9 ** (t - s) * rate(s) * gradients[s] for s in range(t + 1)]
        w = w - rate(t) * decay * w - sum(pushes)
    return w


def sgd(w, gradients, decay):
    """PyTorch's SGD: decay is part of the gradient, and so of the velocity."""
    velocity = np.zeros_like(w)
    for t, gradient in enumerate(gradients):
        velocity = 0.9 * velocity - rate(t) * (gradient + decay * w)
        w = w + velocity
    return w


def adam_direction(gradients):
    """Per step: mean over root mean square, both weighted exponentially and to a total of 1."""
    for t in range(len(gradients)):
        past = np.stack(gradients[: t + 1])
        age = np.arange(t, -1, -1)
        mean = np.average(past, axis=0, weights=0.9**age)
        yield mean / np.sqrt(np.average(past**2, axis=0, weights=0.999**age))


def adamw(w, gradients, decay):
    for t, direction in enumerate(adam_direction(gradients)):
        w = w - rate(t) * (direction + decay * w)
    return w


def lamb(w, gradients, decay):
    """Algorithm 2 of arXiv 1904.00962 with phi(z) = z; plain Adam for what is not decayed."""
    for t, direction in enumerate(adam_direction(gradients)):
        direction = direction + decay * w
        trust = np.linalg.norm(w) / np.linalg.norm(direction) if decay else 1.0
        w = w - rate(t) * trust * direction
    return w


ORACLES = {"sgd": sgd, "sgdw": sgdw, "adamw": adamw, "lamb": lamb}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_update_follows_the_paper(name):
    start, steps = problem()
    ours = move(build(name), make_variables(start), steps)
    for i, got in enumerate(ours):
        decay = DECAY if NAMES[i].endswith("kernel") else 0.0
        expected = ORACLES[name](start[i], [gradients[i] for gradients in steps], decay)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5, err_msg=NAMES[i])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_only_kernels_decay(name):
    start, steps = problem()
    decayed = move(build(name), make_variables(start), steps)
    free = move(build(name, weight_decay=0.0), make_variables(start), steps)
    same = [np.array_equal(*pair) for pair in zip(decayed, free)]
    assert same == [False, True, True, True]


@pytest.mark.parametrize("summed", [True, False])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_gradients_are_clipped_by_their_global_norm(name, summed):
    start, steps = problem()
    steps = [[scale * g for g in gradients] for scale, gradients in zip((9, 0.01, 3), steps)]
    by_hand = []
    for gradients in steps:
        norm = math.sqrt(sum((g**2).sum() for g in gradients))
        by_hand.append([g / max(norm, 1.0) for g in gradients])
    expected = move(build(name), make_variables(start), by_hand)

    optimizer, variables = build(name, clip_norm=1.0), make_variables(start)
    assert optimizer.global_clipnorm == 1.0
    if summed:
        build_optimizer_state(optimizer, variables)
    for gradients in steps:
        gradients = [tf.constant(g, tf.float32) for g in gradients]
        if summed:
            apply_summed(optimizer, gradients, variables)
        else:
            optimizer.apply_gradients(zip(gradients, variables))
    for got, wanted in zip(variables, expected):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_clipped_sgd_step_by_hand():
    # Gradient (3, 4) has norm 5; clipped to norm 1 it is (0.6, 0.8); the step is 0.1 of it.
    variable = tf.Variable([1.0, 1.0])
    build_optimizer(settings(name="sgd", clip_norm=1.0), 1, 10).apply_gradients(
        [(tf.constant([3.0, 4.0]), variable)]
    )
    np.testing.assert_allclose(variable, [0.94, 0.92], rtol=1e-5)


STRATEGIES = {
    "default": tf.distribute.get_strategy,
    "one device": lambda: tf.distribute.OneDeviceStrategy("CPU:1"),
    "mirrored": lambda: tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]),
}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_strategy_makes_the_same_step_or_skips_it(name, strategy):
    start, steps = problem()
    expected = move(build(name, clip_norm=1.0), make_variables(start), steps[:2])
    strategy = STRATEGIES[strategy]()
    with strategy.scope():
        variables, optimizer = make_variables(start), build(name, clip_norm=1.0)
        build_optimizer_state(optimizer, variables)

    @tf.function
    def step(gradients, apply):
        def update():
            apply_summed(optimizer, gradients, variables)

        def update_all(strategy):
            strategy.extended.call_for_each_replica(update)
            return True

        def merged(strategy):
            tf.cond(apply, lambda: update_all(strategy), lambda: False)

        strategy.run(lambda: tf.distribute.get_replica_context().merge_call(merged))

    for gradients, apply in zip((steps[0], steps[2], steps[1]), (True, False, True)):
        step([tf.constant(g, tf.float32) for g in gradients], tf.constant(apply))
    assert optimizer.iterations.numpy() == 2
    for variable, wanted in zip(variables, expected):
        for copy in strategy.experimental_local_results(variable):
            np.testing.assert_allclose(copy, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_float32_weights_of_a_bfloat16_layer_are_moved(name):
    start, steps = problem()
    layer = keras.layers.Conv2D(4, 3, name="beta_gamma", dtype="mixed_bfloat16")
    layer.build((None, None, None, 2))
    layer.set_weights(start[:2])
    expected = move(build(name), make_variables(start)[:2], [g[:2] for g in steps])
    moved = move(build(name), layer.trainable_variables, [g[:2] for g in steps])
    for got, wanted in zip(moved, expected):
        np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_serialized_optimizer_makes_the_same_steps(name):
    start, steps = problem()
    optimizer = build(name, clip_norm=1.0)
    move(optimizer, make_variables(start), steps[:1])  # by now its numbers may be variables
    serialized = json.loads(json.dumps(keras.saving.serialize_keras_object(optimizer)))
    copy = keras.optimizers.deserialize(serialized)
    assert type(copy) is type(optimizer)
    expected = move(build(name, clip_norm=1.0), make_variables(start), steps)
    for got, wanted in zip(move(copy, make_variables(start), steps), expected):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_saved_model_brings_its_optimizer_back(name, tmp_path):
    model = keras.Sequential([keras.layers.Dense(1, input_shape=(2,))])
    model.compile(build(name, clip_norm=1.0), "mse")
    model.train_on_batch(np.ones((1, 2)), np.ones(1))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras").optimizer
    assert type(loaded) is type(model.optimizer)
    for key in ("learning_rate", "weight_decay", "global_clipnorm"):
        assert loaded.get_config()[key] == model.optimizer.get_config()[key]


@pytest.mark.parametrize(
    ("ours", "stock", "kwargs"),
    [
        (AdamW, keras.optimizers.AdamW, {"weight_decay": 0.1, "amsgrad": True}),
        (AdamW, keras.optimizers.AdamW, {"weight_decay": 0.1}),
        (SGDW, keras.optimizers.SGD, {"weight_decay": 0.1, "momentum": 0.9, "nesterov": True}),
    ],
)
@pytest.mark.parametrize("sparse", [True, False])
def test_every_other_setting_and_sparse_gradients_are_as_in_keras(ours, stock, kwargs, sparse):
    moved = []
    for optimizer in (ours(learning_rate=0.1, **kwargs), stock(learning_rate=0.1, **kwargs)):
        table = tf.Variable([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
        for row in (1, 1, 2):
            gradient = tf.IndexedSlices(tf.constant([[0.5, -1.0]]), tf.constant([row]), (3, 2))
            pairs = [(gradient if sparse else tf.convert_to_tensor(gradient), table)]
            optimizer.apply_gradients(pairs)
        moved.append(table.numpy())
    np.testing.assert_allclose(*moved, rtol=1e-5)


PROGRAM = """
import sys
from harmonic_tf.training.optimizers import build_optimizer
from harmonic_tf.training.settings import OptimizerSettings
for name in ("sgd", "sgdw", "adamw", "lamb"):
    assert "tensorflow_addons" not in sys.modules, name
    build_optimizer(OptimizerSettings(name, 0.1, "constant", 0, (), 0.1, 1.0), 1, 1)
"""


def test_tensorflow_addons_comes_late_and_silently(source_tree, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(source_tree.top)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_step_epochs_become_steps():
    optimizer = build_optimizer(settings(name="sgd", schedule="step", step_epochs=(2,)), 3, 7)
    schedule = keras.saving.deserialize_keras_object(optimizer.get_config()["learning_rate"])
    np.testing.assert_allclose([schedule(13), schedule(14)], [0.1, 0.01], rtol=1e-5)
