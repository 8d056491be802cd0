"""Swish with a gradient in one pass.

TensorFlow writes the gradient of swish as six operations that each visit every activation, in
bfloat16 with a slow sigmoid among them; XLA makes one loop of them.
"""

from __future__ import annotations

import functools

from harmonic_tf.backend import keras, layers_in, tf, traced


@tf.custom_gradient
def fused_swish(features: tf.Tensor):
    """Swish (SiLU), whose gradient is compiled by XLA and computed in float32.

    Args:
        features: any shape and floating-point type.

    Returns:
        `features * sigmoid(features)`, of the same shape and type.

    Source: Ramachandran et al., arXiv 1710.05941.
    """
    return features * tf.sigmoid(features), lambda upstream: _swish_gradient(features, upstream)


@functools.partial(traced, jit_compile=True)
def _swish_gradient(features: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    x, gradient = tf.cast(features, tf.float32), tf.cast(upstream, tf.float32)
    gate = tf.sigmoid(x)
    return tf.cast(gradient * gate * (1.0 + x * (1.0 - gate)), features.dtype)


def choose_swish(model: keras.Model, fused: bool) -> None:
    """Sets which swish the activation layers of a model compute; their values are the same.

    Args:
        model: the model, nested ones included.
        fused: whether it is `fused_swish`, or Keras's.
    """
    both = {True: fused_swish, False: keras.activations.swish}
    for layer in layers_in(model):
        if isinstance(layer, keras.layers.Activation) and layer.activation in both.values():
            layer.activation = both[fused]
