"""What is frozen stays to the bit while all the rest is trained."""

import re

import numpy as np
import pytest

from harmonic_tf.backend import keras, keras_cv, layers_in, name_of, tf, value_of
from harmonic_tf.models import FREEZE_CHOICES, JointDetector, freeze, unfreeze
from harmonic_tf.training.fine_tuning import start_from
from tests.models.conftest import TinyRetinaNet, TinyYOLOV8, small_backbone

BOTH = pytest.mark.parametrize("tiny", ["retinanet", "yolov8"], indirect=True)
EXTENTS = [extent for extent in FREEZE_CHOICES if extent != "none"]

# Whose weights are frozen, and whose are not, by name. The finest features of a tiny backbone are
# those of P3.
FROZEN = {"none": r"^$", "stem": r"P3_(conv|bn)", "backbone": r"P[345]_(conv|bn)"}
TRAINED = {"all_but_heads": r"_head", "all_but_last": r"_head/prediction|_head_\d_\w+_3_conv"}
EAGERLY = {"jit_compile": False, "run_eagerly": True}  # traces nothing: the others do
STATISTICS = r"moving_(mean|variance)"


def is_frozen(weight, extent):
    name = name_of(weight)
    if extent in FROZEN:
        return bool(re.search(FROZEN[extent], name))
    return not re.search(TRAINED[extent], name)


def steps(model, tiny, count=2):
    """Trains, and gives what every weight was before."""
    before = [weight.numpy() for weight in model.weights]
    data = tf.data.Dataset.from_tensors(tiny.pictures())
    model.fit(data.repeat(count), verbose=0)
    return before


@pytest.mark.parametrize(
    "tiny, extent, arguments",
    [
        *((name, extent, EAGERLY) for name in ("retinanet", "yolov8") for extent in EXTENTS),
        ("retinanet", "all_but_last", {"jit_compile": "auto"}),
        ("retinanet", "backbone", {"jit_compile": True, "accumulation_steps": 2}),
    ],
    indirect=["tiny"],
)
def test_what_is_frozen_stays_to_the_bit_and_all_else_moves(tiny, extent, arguments):
    model = tiny.model()
    freeze(model, extent)
    model.compile(keras.optimizers.AdamW(0.01), average_decay=0.5, **arguments)
    before = steps(model, tiny)
    assert len(model.trainable_variables) == len(model.weight_update.averages)
    for weight, averaged, old in zip(model.weights, model.averaged_weights(), before):
        stays = np.array_equal(weight.numpy(), old)
        assert stays == is_frozen(weight, extent), name_of(weight)
        if stays:
            np.testing.assert_array_equal(averaged, old)
    statistics = [w for w in model.weights if re.search(STATISTICS, name_of(w))]
    assert any(is_frozen(weight, extent) for weight in statistics)


@pytest.mark.parametrize("family", ["CSPDarkNetBackbone", "YOLOV8Backbone"])
def test_freeze_stem_ends_where_stride_four_is_reached(family):
    """The features of stride 4 depend on what is frozen, and on nothing else that is trained."""
    backbone = small_backbone(getattr(keras_cv.models, family))
    model = TinyRetinaNet.model(backbone=backbone)
    every = list(backbone.trainable_variables)
    features = keras.Model(
        backbone.inputs, backbone.get_layer(backbone.pyramid_level_inputs["P2"]).output
    )
    pictures = tf.random.stateless_uniform((1, 64, 64, 3), [1, 2], 0.0, 255.0)
    with tf.GradientTape() as tape:
        seen = features(pictures)
    assert seen.shape[1:3] == (16, 16)
    named = {name_of(v): v for v in features.trainable_variables}
    sources = [value_of(variable) for variable in named.values()]
    assert all(g is not None for g in tape.gradient(seen, sources))
    freeze(model, "stem")
    trained = {id(variable) for variable in model.trainable_variables}
    frozen = {name_of(v) for v in every if id(v) not in trained}
    assert frozen == set(named) and len(frozen) < len(every)
    for layer in layers_in(backbone):
        if isinstance(layer, keras.layers.BatchNormalization):
            assert layer.trainable == (id(layer.gamma) in trained)


@pytest.mark.parametrize("extent", FREEZE_CHOICES)
@BOTH
def test_freeze_leaves_the_order_of_weights_and_unfreeze_undoes_it(tiny, extent):
    model = tiny.model()
    model.backbone.get_layer("P4_bn").trainable = False  # by hand, and so it stays
    if tiny is TinyRetinaNet:
        model.get_layer("pyramid").lateral["P4"].trainable = False
    order = [id(weight) for weight in model.weights]
    trained = [id(variable) for variable in model.trainable_variables]
    frozen = freeze(model, extent)
    assert [id(weight) for weight in model.weights] == order
    expected = {id(w) for w in model.weights if not is_frozen(w, extent)}
    left = [variable for variable in trained if variable in expected]
    assert sorted(id(variable) for variable in model.trainable_variables) == sorted(left)
    unfreeze(frozen)
    assert [id(variable) for variable in model.trainable_variables] == trained
    assert [id(weight) for weight in model.weights] == order


@BOTH
def test_a_checkpoint_of_a_frozen_training_loads_into_one_that_is_not(tiny, tmp_path):
    model = tiny.model()
    trained = len(model.trainable_variables)
    freeze(model, "all_but_last")
    model.compile(keras.optimizers.SGD(0.01), **EAGERLY)
    steps(model, tiny)
    path = str(tmp_path / "frozen.keras")
    model.save(path)

    whole = tiny.model(seed=1)
    start_from(whole, path, [str(c) for c in range(whole.num_classes)])
    loaded = keras.models.load_model(path, compile=False)
    images, _ = tiny.pictures()
    outputs = model(images, training=False)
    for other in (whole, loaded):
        assert len(other.trainable_variables) == trained
        for own, given in zip(model.weights, other.weights):
            np.testing.assert_array_equal(given.numpy(), own.numpy(), err_msg=name_of(own))
        for name, output in other(images, training=False).items():
            np.testing.assert_allclose(output, outputs[name], atol=1e-5)


def test_weights_of_a_whole_training_start_one_that_is_frozen_already(tmp_path):
    path = str(tmp_path / "whole.keras")
    trained, model = TinyRetinaNet.model(), TinyRetinaNet.model(seed=1)
    trained.save(path)
    freeze(model, "all_but_last")
    start_from(model, path, [str(c) for c in range(model.num_classes)])
    weights = {re.sub(r"^.*harmonic_retinanet[_\d]*/", "", name_of(w)): w for w in trained.weights}
    for weight in model.weights:
        own = weights[re.sub(r"^.*harmonic_retinanet[_\d]*/", "", name_of(weight))]
        np.testing.assert_array_equal(weight.numpy(), own.numpy(), err_msg=name_of(weight))


class Undeclared(type(TinyRetinaNet.model())):
    """A detector that does not say which layers are its heads."""

    head_layers = JointDetector.head_layers
    last_layers = JointDetector.last_layers


def undeclared():
    model = TinyRetinaNet.model()
    object.__setattr__(model, "__class__", Undeclared)
    return model


@pytest.mark.parametrize(
    "extent, method", [("all_but_heads", "head_layers"), ("all_but_last", "last_layers")]
)
def test_freeze_refuses_heads_that_are_not_declared(extent, method):
    model = undeclared()
    with pytest.raises(ValueError, match=rf"Undeclared: freeze = '{extent}'.*{method}\(\)"):
        freeze(model, extent)
    assert model.trainable_variables


def test_a_detector_without_declared_heads_trains_and_its_backbone_freezes():
    model = undeclared()
    freeze(model, "backbone")
    model.compile(keras.optimizers.AdamW(0.01), **EAGERLY)
    for weight, old in zip(model.weights, steps(model, TinyRetinaNet, 1)):
        assert np.array_equal(weight.numpy(), old) == is_frozen(weight, "backbone")


def test_freeze_refuses_what_it_cannot_do():
    model = TinyRetinaNet.model()
    with pytest.raises(ValueError, match=r"freeze = 'heads' must be one of \('none', 'stem'"):
        freeze(model, "heads")
    for layer in model.last_layers():
        layer.trainable = False
    with pytest.raises(ValueError, match="freeze = 'all_but_last' leaves nothing to be trained"):
        freeze(model, "all_but_last")
    assert model.backbone.get_layer("P3_conv").trainable  # nothing was changed
    model.backbone.pyramid_level_inputs = {}
    with pytest.raises(ValueError, match="'stem' needs a backbone with pyramid_level_inputs"):
        freeze(model, "stem")


@pytest.mark.parametrize("tiny", [TinyRetinaNet, TinyYOLOV8])
def test_freeze_knows_all_outputs_by_their_last_layers(tiny):
    """Zeros in the last layers alone make all outputs zero."""
    model = tiny.model()
    for layer in model.last_layers():
        layer.set_weights([np.zeros(weight.shape) for weight in layer.weights])
    for output in model(tiny.pictures()[0], training=False).values():
        np.testing.assert_array_equal(output, np.zeros(output.shape))
