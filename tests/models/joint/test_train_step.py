"""One update, whatever it is spread over: replicas, micro-batches, XLA; and steps that must not be.

Batch normalization is frozen where updates are compared, because its statistics are those of the
pictures that happen to be together.
"""

import numpy as np
import pytest

from harmonic_tf.backend import keras, layers_in, tf
from harmonic_tf.losses import HarmonicLoss
from harmonic_tf.training.optimizers import SGDW

PICTURES = 8
EAGERLY = {"jit_compile": False, "run_eagerly": True}  # traces nothing, which is quicker


def mirrored(replicas):
    devices = [f"CPU:{index}" for index in range(replicas)]
    # The default's collective groups are numbered per process: groups of two sizes would clash.
    reduction = tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=reduction)


def freeze_batch_norm(model):
    for layer in layers_in(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


def trained(tiny, labels, strategy=None, steps=2, optimizer=None, images=None, **kwargs):
    """A model after some steps with decay, momentum, clipping and regularization."""
    images = tiny.pictures(PICTURES)[0] if images is None else images
    with (strategy or tf.distribute.get_strategy()).scope():
        model = tiny.model()
        freeze_batch_norm(model)
        kernel = tiny.last_of_class_head(model).kernel
        tiny.penalize(model, lambda: 0.1 * tf.reduce_sum(tf.square(kernel)))
        optimizer = optimizer or SGDW(
            learning_rate=0.05, momentum=0.9, weight_decay=0.1, global_clipnorm=0.5
        )
        model.compile(optimizer, **{"jit_compile": False, **kwargs})
    data = tf.data.Dataset.from_tensors((images, labels)).unbatch().batch(PICTURES, True)
    history = model.fit(data.repeat(steps), verbose=0).history
    return model, {name: values[0] for name, values in history.items()}


def labels_of_half(tiny):
    """All positives in the second half of the batch: of two replicas one has none."""
    _, labels = tiny.pictures(PICTURES)
    labels["classes"][: PICTURES // 2] = -1
    return labels


def assert_same_update(one, other, atol=2e-5):
    for (model, logs), (other_model, other_logs) in [(one, other)]:
        for a, b in zip(model.trainable_variables, other_model.trainable_variables):
            np.testing.assert_allclose(a.numpy(), b.numpy(), atol=atol)
        assert logs.keys() == other_logs.keys()
        for name, value in logs.items():
            np.testing.assert_allclose(value, other_logs[name], rtol=1e-3, err_msg=name)


@pytest.fixture(scope="module")
def reference():
    """One replica, one pass, no graph; made once for each kind of labels."""
    known = {}

    def get(tiny, name, labels):
        key = (tiny.__name__, name)
        if key not in known:
            known[key] = trained(tiny, labels, **EAGERLY)
        return known[key]

    return get


@pytest.mark.parametrize(
    "tiny, replicas, arguments",
    [
        ("retinanet", 4, {"jit_compile": "auto"}),
        ("retinanet", 2, {"jit_compile": True, "accumulation_steps": 2}),
        ("yolov8", 2, {"jit_compile": "auto"}),
        ("faster_rcnn", 2, {"jit_compile": "auto"}),
    ],
    indirect=["tiny"],
)
def test_replicas_share_one_update_however_uneven_the_positives(
    tiny, reference, replicas, arguments
):
    labels = labels_of_half(tiny)
    shared = trained(tiny, labels, mirrored(replicas), **arguments)
    assert_same_update(reference(tiny, "half", labels), shared)


@pytest.mark.parametrize(
    "tiny, batch_loss, jit_compile",
    [
        ("retinanet", "concordance", "auto"),
        ("yolov8", "carl", True),
    ],
    indirect=["tiny"],
)
def test_replicas_share_a_loss_over_the_whole_batch(tiny, batch_loss, jit_compile):
    """What one replica sums by itself, in one program, against the sums of two."""
    labels = labels_of_half(tiny)
    loss = {**tiny.model().loss_defaults, "batch_loss": batch_loss, "correlation_weight": 5.0}
    alone = trained(tiny, labels, loss=HarmonicLoss(**loss), **EAGERLY)
    shared = trained(tiny, labels, mirrored(2), loss=HarmonicLoss(**loss), jit_compile=jit_compile)
    assert_same_update(alone, shared)
    assert ("correlation_loss" in shared[1]) == (batch_loss == "concordance")


def test_replicas_and_micro_batches_share_the_labels_of_regressed_boxes(tiny):
    labels = labels_of_half(tiny)
    loss = {**tiny.model().loss_defaults, "regressed_labels": True}
    alone, shared = (
        trained(tiny, labels, strategy, loss=HarmonicLoss(**loss), **arguments)
        for strategy, arguments in (
            (None, EAGERLY),
            (mirrored(2), {"jit_compile": True, "accumulation_steps": 2}),
        )
    )
    assert_same_update(alone, shared)
    assert shared[1]["regressed_classification_loss"] > 0


def test_a_loss_over_the_batch_is_over_micro_batches_of_all_replicas(tiny):
    """Pictures twice over: every half of them has the correlation of the whole."""
    images, labels = tiny.pictures(PICTURES // 4)
    images = np.concatenate([images] * 4)
    labels = {name: np.concatenate([value] * 4) for name, value in labels.items()}
    loss = HarmonicLoss(**tiny.model().loss_defaults, batch_loss="pearson", correlation_weight=5.0)
    alone, shared = (
        trained(tiny, labels, strategy, images=images, loss=loss, **arguments)
        for strategy, arguments in ((None, EAGERLY), (mirrored(2), {"accumulation_steps": 2}))
    )
    assert_same_update(alone, shared)


def test_replicas_share_one_update_without_any_positive(tiny, reference):
    _, labels = tiny.no_objects(PICTURES)
    shared = trained(tiny, labels, mirrored(2), **EAGERLY)
    assert_same_update(reference(tiny, "none", labels), shared)
    assert shared[1]["loss"] > 0


@pytest.mark.parametrize(
    "tiny, device, arguments",
    [
        ("retinanet", None, {"accumulation_steps": 4}),
        ("retinanet", "CPU:1", {"accumulation_steps": 8, "jit_compile": True}),
        ("yolov8", None, {"accumulation_steps": 4}),
        ("faster_rcnn", None, {"accumulation_steps": 4}),
    ],
    indirect=["tiny"],
)
def test_accumulation_makes_the_update_of_the_whole_batch(tiny, reference, device, arguments):
    labels = labels_of_half(tiny)
    strategy = device and tf.distribute.OneDeviceStrategy(device)
    assert_same_update(
        reference(tiny, "half", labels), trained(tiny, labels, strategy, **arguments)
    )


def test_accumulation_needs_a_batch_that_can_be_cut(tiny):
    with pytest.raises(ValueError, match=r"8 pictures.*multiple of accumulation_steps = 3"):
        trained(tiny, labels_of_half(tiny), accumulation_steps=3)
    with pytest.raises(ValueError, match="accumulation_steps = 0"):
        trained(tiny, labels_of_half(tiny), accumulation_steps=0)


def test_clipping_acts_on_the_gradient_of_all_replicas(tiny):
    model = tiny.model()
    freeze_batch_norm(model)
    before = [variable.numpy() for variable in model.trainable_variables]
    optimizer = keras.optimizers.SGD(1.0, global_clipnorm=0.1)
    labels = tiny.pictures(PICTURES)[1]
    after, logs = trained(tiny, labels, mirrored(2), 1, optimizer, **EAGERLY)
    moved = [a.numpy() - b for a, b in zip(after.trainable_variables, before)]
    assert logs["gradient_norm"] > 0.1
    np.testing.assert_allclose(np.sqrt(sum(np.sum(m**2) for m in moved)), 0.1, rtol=1e-4)


def test_mixed_precision_gives_about_the_update_of_float32(tiny):
    """The formats keep 8 and 11 bits; errors of some layers add up to a few of the last bit."""

    def update(policy):
        keras.mixed_precision.set_global_policy(policy)
        try:
            images, labels = tiny.pictures()
            model = tiny.model()
            freeze_batch_norm(model)
            before = np.concatenate([v.numpy().ravel() for v in model.trainable_variables])
            optimizer = keras.mixed_precision.LossScaleOptimizer(
                keras.optimizers.SGD(1.0), initial_scale=64.0
            )
            model.compile(optimizer, jit_compile=False)
            model.train_on_batch(images, labels)
        finally:
            keras.mixed_precision.set_global_policy("float32")
        assert model.weight_update.skipped == 0
        return np.concatenate([v.numpy().ravel() for v in model.trainable_variables]) - before

    exact = update("float32")
    for policy, tolerance in (("mixed_bfloat16", 0.1), ("mixed_float16", 0.02)):
        error = np.linalg.norm(update(policy) - exact)
        assert error < tolerance * np.linalg.norm(exact), policy


@pytest.fixture
def mixed_float16():
    keras.mixed_precision.set_global_policy("mixed_float16")
    yield
    keras.mixed_precision.set_global_policy("float32")


@pytest.mark.parametrize("replicas, jit_compile", [(1, True), (2, "auto")])
def test_an_overflow_skips_the_step_and_halves_the_loss_scale(
    tiny, mixed_float16, replicas, jit_compile
):
    images, labels = tiny.pictures(2)
    with mirrored(replicas).scope():
        model = tiny.model()
        optimizer = keras.mixed_precision.LossScaleOptimizer(
            keras.optimizers.SGD(0.01, momentum=0.9), initial_scale=1.0, dynamic_growth_steps=2
        )
        model.compile(optimizer, jit_compile=jit_compile)
    update = model.weight_update
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(2, True)

    update.loss_scale.assign(1e30)
    before = [variable.numpy() for variable in model.variables]
    logs = model.fit(data, verbose=0).history
    for old, new in zip(before, model.variables):
        np.testing.assert_array_equal(old, new.numpy())
    np.testing.assert_allclose(update.loss_scale.numpy(), 5e29, rtol=1e-6)
    assert logs["skipped_steps"] == [1.0]
    assert update.optimizer.iterations.numpy() == 0

    update.loss_scale.assign(1.0)
    model.fit(data.repeat(4), verbose=0)
    assert update.optimizer.iterations.numpy() == 4
    assert update.loss_scale.numpy() == 4.0  # doubled after every two good steps
    assert (update.attempted.numpy(), update.skipped.numpy()) == (5, 1)


def test_float16_starts_with_the_loss_scale_of_keras(tiny, mixed_float16):
    model = tiny.model()
    model.compile(keras.optimizers.SGD(0.01))
    assert model.weight_update.loss_scale.numpy() == 2.0**15
    assert isinstance(model.weight_update.optimizer, keras.optimizers.SGD)


def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(tiny):
    model = tiny.model()
    model.compile(keras.optimizers.Adam(1e-3), jit_compile=False, average_decay=0.5)
    images, labels = tiny.pictures()
    good = tf.data.Dataset.from_tensors((images, labels))
    broken = np.array(images)
    broken[0, 3, 3] = np.nan
    bad = tf.data.Dataset.from_tensors((broken, labels))
    model.fit(good, verbose=0)
    update = model.weight_update
    state = [*model.variables, *update.optimizer.variables, *update.averages]
    before = [variable.numpy() for variable in state]

    logs = model.fit(bad.repeat(2).concatenate(good), verbose=0).history
    assert logs["skipped_steps"] == [2.0]
    assert all(np.isfinite(values).all() for values in logs.values())
    assert update.skipped_in_row.numpy() == 0  # the last one was good
    assert model.terms_not_finite() == []

    for variable, value in zip(state, before):
        variable.assign(value)
    model.fit(bad.repeat(2), verbose=0)
    for variable, value in zip(state, before):
        np.testing.assert_array_equal(variable.numpy(), value, err_msg=variable.name)
    assert update.skipped_in_row.numpy() == 2
    assert model.terms_not_finite()

    bias = tiny.last_of_box_head(model).bias
    bias.assign(tf.fill(bias.shape, np.nan))
    model.fit(good, verbose=0)
    assert "localization loss" in model.terms_not_finite()


@pytest.mark.parametrize("replicas", [1, 2])
def test_averages_follow_the_weights(tiny, replicas):
    images, labels = tiny.pictures(2)
    with mirrored(replicas).scope():
        model = tiny.model()
        model.compile(keras.optimizers.SGD(0.01), jit_compile=False, average_decay=0.2)
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(2, True)
    variable = model.trainable_variables[-1]
    expected = variable.numpy().astype(np.float64)
    for step in range(3):
        model.fit(data, verbose=0)
        decay = min(0.2, (1 + step) / (10 + step))  # 0.1, 0.18.., then as asked
        expected = decay * expected + (1 - decay) * variable.numpy()
    averaged = dict(zip((id(w) for w in model.weights), model.averaged_weights()))
    np.testing.assert_allclose(averaged[id(variable)], expected, rtol=1e-5)
    assert not np.allclose(averaged[id(variable)], variable.numpy(), rtol=1e-7)
    for weight in model.non_trainable_variables:
        np.testing.assert_array_equal(averaged[id(weight)], weight.numpy())
    assert len(averaged) == len(model.variables)


def test_without_averaging_the_weights_are_as_trained(tiny):
    model = tiny.model()
    model.compile("sgd", jit_compile=False)
    for averaged, weight in zip(model.averaged_weights(), model.weights):
        np.testing.assert_array_equal(averaged, weight.numpy())
    with pytest.raises(ValueError, match=r"average_decay = 1\.0"):
        model.compile("sgd", average_decay=1.0)
