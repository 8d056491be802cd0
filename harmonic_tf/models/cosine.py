"""The cosine classifier of few-shot learning, for every place of a picture."""

from __future__ import annotations

from typing import Any

from harmonic_tf.backend import keras, tf

SCALE = 20.0
_LEAST_LENGTH = 1e-5  # of features and kernels: shorter ones count as if they were as long


@keras.saving.register_keras_serializable(package="harmonic_tf")
class CosineConv2D(keras.layers.Conv2D):
    """A convolution that sees the angle between features and kernel alone, not their lengths.

    Its outputs are `SCALE` * cos(kernel, patch) + bias: a class that was learned from many objects
    does not outweigh one of few by the length of its kernel. Computes in float32, whatever the
    precision of the layers before.

    Args:
        filters: number of kernels.
        kernel_size: side of a patch, cells.
        **kwargs: of `keras.layers.Conv2D`: padding, initializers.

    Source: Wang et al., arXiv 2003.06957, section 3, with its scale of 20; the bias, which starts
    class scores at the prior of arXiv 1708.02002, is not theirs.
    """

    def __init__(self, filters: int, kernel_size: int, **kwargs: Any):
        super().__init__(filters, kernel_size, **{**kwargs, "dtype": "float32"})

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Compares every patch with every kernel: [B, h, w, channels] to [B, h, w, filters]."""

        def over_patches(features: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
            return tf.nn.conv2d(features, weights, 1, self.padding.upper())

        kernel = tf.convert_to_tensor(self.kernel)
        directions = kernel / _length(tf.reduce_sum(tf.square(kernel), axis=[0, 1, 2]))
        squares = tf.reduce_sum(tf.square(inputs), axis=-1, keepdims=True)
        lengths = _length(over_patches(squares, tf.ones([*self.kernel_size, 1, 1])))
        return SCALE * over_patches(inputs, directions) / lengths + tf.convert_to_tensor(self.bias)


def _length(squares: tf.Tensor) -> tf.Tensor:
    """The root of summed squares, never so near 0 that its gradient is not finite."""
    return tf.sqrt(tf.maximum(squares, _LEAST_LENGTH**2))
