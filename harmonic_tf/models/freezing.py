"""What of a detector is not trained, so that it keeps what it has learned elsewhere.

A frozen layer goes on as it is: no gradient is computed for its weights, and batch normalization
neither changes its running statistics nor normalizes by others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harmonic_tf.backend import keras, layers_in
from harmonic_tf.models.joint.detector import JointDetector, backbone_of

FREEZE_CHOICES = ("none", "stem", "backbone", "all_but_heads", "all_but_last")

_STEM = "P2"  # features of stride 4


def freeze(model: JointDetector, extent: str) -> list[tuple[keras.layers.Layer, bool]]:
    """Keeps a part of a detector from being trained. To be called before `compile`.

    Layers that are frozen already stay so. A saved detector does not know what was frozen.

    Args:
        model: the detector.
        extent: one of `FREEZE_CHOICES`: nothing; the backbone up to its features of stride 4, or
            the finest it has; all of the backbone; all but the prediction heads; all but the last
            layers of these, as Wang et al. tune a detector to few images of new classes.

    Returns:
        The layers of that part, and whether each was trained before: what `unfreeze` takes.

    Raises:
        ValueError: the detector does not say what its backbone or its heads are, its backbone not
            where its stem ends, or nothing is left to be trained.

    Source: Wang et al., "Frustratingly Simple Few-Shot Object Detection", arXiv 2003.06957.
    """
    before = [(layer, layer.trainable) for layer in _part(model, extent)]
    for layer, _ in before:
        layer.trainable = False
    if not model.trainable_variables:
        unfreeze(before)
        raise ValueError(
            f"{type(model).__name__}: freeze = {extent!r} leaves nothing to be trained. Freeze "
            "less of it."
        )
    return before


def unfreeze(frozen: Iterable[tuple[keras.layers.Layer, bool]]) -> None:
    """Undoes a `freeze`. To be followed by `compile`.

    Args:
        frozen: what `freeze` returned.
    """
    # A layer passes what it is set to on to the layers inside: those that stay frozen come last.
    for layer, trainable in sorted(frozen, key=lambda entry: not entry[1]):
        layer.trainable = trainable


def _part(model: JointDetector, extent: str) -> list[keras.layers.Layer]:
    if extent == "none":
        return []
    if extent == "stem":
        return _with_weights(_stem(model))
    if extent == "backbone":
        return _with_weights(backbone_of(model))
    if extent in FREEZE_CHOICES:
        trained = _ids(_trained_layers(model, extent))
        # What holds a trained layer stays as it is, or it would freeze what it holds.
        return [layer for layer in _with_weights(model) if trained.isdisjoint(_ids([layer]))]
    raise ValueError(f"freeze = {extent!r} must be one of {FREEZE_CHOICES}.")


def _stem(model: JointDetector) -> keras.Model:
    backbone = backbone_of(model)
    levels = getattr(backbone, "pyramid_level_inputs", None)
    if not levels:
        raise ValueError(
            f"{type(model).__name__}: freeze = 'stem' needs a backbone with pyramid_level_inputs, "
            f"which {type(backbone).__name__} has not. Freeze 'backbone' or 'none'."
        )
    level = _STEM if _STEM in levels else min(levels, key=lambda name: int(name[1:]))
    return keras.Model(backbone.inputs, backbone.get_layer(levels[level]).output)


def _trained_layers(model: JointDetector, extent: str) -> Sequence[keras.layers.Layer]:
    method = {"all_but_heads": model.head_layers, "all_but_last": model.last_layers}[extent]
    layers = method()
    if not layers:
        raise ValueError(
            f"{type(model).__name__}: freeze = {extent!r} needs to know which layers these are. "
            f"Define its {method.__name__}(), or freeze 'backbone', 'stem' or 'none'."
        )
    return layers


def _with_weights(model: keras.Model) -> list[keras.layers.Layer]:
    """Layers with weights: no models, whose configurations would say that they are frozen."""
    return [
        layer for layer in layers_in(model) if layer.weights and not isinstance(layer, keras.Model)
    ]


def _ids(layers: Iterable[keras.layers.Layer]) -> set[int]:
    """Of layers and those inside of them."""
    return {id(inner) for layer in layers for inner in (layer, *layers_in(layer))}
