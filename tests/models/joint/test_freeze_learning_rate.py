"""The backbone's part of a step: against NumPy, and against two copies of a detector."""

import numpy as np
import pytest

from harmonic_tf.backend import keras, name_of, tf, value_of
from harmonic_tf.models.joint.weight_update import WeightUpdate
from harmonic_tf.training.optimizers import SGD, SGDW, AdamW

EAGERLY = {"jit_compile": False, "run_eagerly": True}  # traces nothing, which is quicker
RATE, DECAY, FACTOR = 0.1, 0.05, 0.25
OPTIMIZERS = {
    "sgd": lambda: SGD(learning_rate=RATE, momentum=0.9, weight_decay=DECAY),
    "sgdw": lambda: SGDW(learning_rate=RATE, momentum=0.9, weight_decay=DECAY),
    "adamw": lambda: AdamW(learning_rate=RATE, weight_decay=DECAY),
}


def strategy_of(replicas):
    if replicas == 1:
        return tf.distribute.get_strategy()
    devices = [f"CPU:{index}" for index in range(replicas)]
    return tf.distribute.MirroredStrategy(devices, tf.distribute.ReductionToOneDevice())


def by_hand(name, weights, gradients, rate):
    """Weights after each step of an optimizer with a constant learning rate, in float64."""
    first, second, after = np.zeros_like(weights), np.zeros_like(weights), []
    for t, gradient in enumerate(gradients, start=1):
        if name == "adamw":
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            step = (first / (1 - 0.9**t)) / (np.sqrt(second / (1 - 0.999**t)) + 1e-7)
            weights = weights - rate * (step + DECAY * weights)
        else:
            first = 0.9 * first + gradient + (DECAY * weights if name == "sgd" else 0.0)
            weights = weights - rate * first - (rate * DECAY * weights if name == "sgdw" else 0.0)
        after.append(weights)
    return after


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_freeze_factor_is_a_learning_rate_of_its_own(name, replicas):
    """Several steps, the third of them not finite, with averages that follow."""
    rng = np.random.default_rng(0)
    start = rng.normal(size=(2, 3, 4))
    gradients = rng.normal(size=(4, 2, 3, 4))
    strategy = strategy_of(replicas)
    with strategy.scope():
        layers = [keras.layers.Dense(4, use_bias=False) for _ in start]
        for layer, value in zip(layers, start):
            layer.build((None, 3))
            layer.set_weights([value])
        variables = [layer.kernel for layer in layers]
        update = WeightUpdate(OPTIMIZERS[name](), variables, 1, 0.1, [FACTOR, 1.0])

    @tf.function
    def step(values, finite):
        strategy.run(lambda: update.apply(values, finite[None]))

    good = [True, True, False, True]
    averages, past = list(start), []
    expected = [
        by_hand(name, value, gradients[good, place], rate)
        for place, (value, rate) in enumerate(zip(start, (RATE * FACTOR, RATE)))
    ]
    for number, finite in enumerate(good):
        step([tf.constant(g, tf.float32) for g in gradients[number]], tf.constant(finite))
        past.append(finite)
        made = sum(past) - 1
        for place, variable in enumerate(variables):
            if finite:
                decay = min(0.1, (1 + made) / (10 + made))
                averages[place] = decay * averages[place] + (1 - decay) * expected[place][made]
            for copy in strategy.experimental_local_results(value_of(variable)):
                np.testing.assert_allclose(copy, expected[place][made], rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(
                update.averages[place].numpy(), averages[place], rtol=1e-4, atol=1e-5
            )
    assert update.skipped.numpy() == 1


def one_step(tiny, name, replicas, factor, **arguments):
    """All weights before and after a step, by name, and which are the backbone's."""
    images, labels = tiny.pictures(2)
    with strategy_of(replicas).scope():
        model = tiny.model()
        optimizer = OPTIMIZERS[name]()
        if keras.mixed_precision.global_policy().name == "mixed_float16":
            optimizer = keras.mixed_precision.LossScaleOptimizer(optimizer, initial_scale=64.0)
        model.compile(optimizer, backbone_learning_rate_factor=factor, **arguments)
    before = [weight.numpy() for weight in model.weights]
    model.fit(tf.data.Dataset.from_tensor_slices((images, labels)).batch(2, True), verbose=0)
    backbone = {id(variable) for variable in model.backbone.trainable_variables}
    slowed = [id(weight) in backbone for weight in model.weights]
    return model, before, [weight.numpy() for weight in model.weights], slowed


@pytest.mark.parametrize(
    "tiny, name, replicas, arguments",
    [
        ("retinanet", "adamw", 1, {"jit_compile": True}),
        ("retinanet", "sgd", 2, EAGERLY),
        ("yolov8", "adamw", 1, EAGERLY),
    ],
    indirect=["tiny"],
)
def test_freeze_factor_shortens_the_steps_of_the_backbone_alone(tiny, name, replicas, arguments):
    model, before, full, slowed = one_step(tiny, name, replicas, 1.0, **arguments)
    _, _, short, _ = one_step(tiny, name, replicas, FACTOR, **arguments)
    for weight, w0, w1, w2, slow in zip(model.weights, before, full, short, slowed):
        expected = w0 + np.float32(FACTOR) * (w1 - w0) if slow else w1
        np.testing.assert_allclose(w2, expected, rtol=1e-6, atol=1e-7, err_msg=name_of(weight))
    assert any(slowed) and not all(slowed)


def test_freeze_factor_of_float16_counts_after_the_loss_scale(tiny):
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model, before, full, slowed = one_step(tiny, "sgd", 1, 1.0, **EAGERLY)
        _, _, short, _ = one_step(tiny, "sgd", 1, FACTOR, **EAGERLY)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert model.weight_update.loss_scale.numpy() == 64 and model.weight_update.skipped == 0
    moved = np.concatenate([(b - a).ravel() for a, b, s in zip(before, full, slowed) if s])
    less = np.concatenate([(b - a).ravel() for a, b, s in zip(before, short, slowed) if s])
    assert np.linalg.norm(moved) > 0
    np.testing.assert_allclose(less, FACTOR * moved, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("factor", [0.0, -1.0, 1.5, float("nan")])
def test_freeze_factor_out_of_its_range_is_refused(tiny, factor):
    with pytest.raises(ValueError, match=r"backbone_learning_rate_factor = .* must be in \(0, 1\]"):
        tiny.model().compile("sgd", backbone_learning_rate_factor=factor)


def test_freeze_factor_is_saved_with_the_model(tiny, tmp_path):
    model = tiny.model()
    model.compile("sgd", backbone_learning_rate_factor=FACTOR)
    assert model.get_compile_config()["backbone_learning_rate_factor"] == FACTOR
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.get_compile_config()["backbone_learning_rate_factor"] == FACTOR
