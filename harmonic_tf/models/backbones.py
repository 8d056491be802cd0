"""Backbones by name, built from keras-cv's constructors without any download."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from harmonic_tf.backend import keras, keras_cv


def _resnet(family: str, block_type: str, blocks: list[int]) -> Callable[..., keras.Model]:
    def build(**kwargs: Any) -> keras.Model:
        return getattr(keras_cv.models, family)(
            stackwise_filters=[64, 128, 256, 512],
            stackwise_blocks=blocks,
            stackwise_strides=[1, 2, 2, 2],
            block_type=block_type,
            **kwargs,
        )

    return build


def _csp_darknet(channels: list[int], depth: list[int]) -> Callable[..., keras.Model]:
    def build(**kwargs: Any) -> keras.Model:
        return keras_cv.models.CSPDarkNetBackbone(
            stackwise_channels=channels, stackwise_depth=depth, **kwargs
        )

    return build


def _yolov8(channels: list[int], depth: list[int]) -> Callable[..., keras.Model]:
    """Sizes as in keras-cv's presets yolo_v8_*_backbone."""

    def build(**kwargs: Any) -> keras.Model:
        return keras_cv.models.YOLOV8Backbone(
            stackwise_channels=channels, stackwise_depth=depth, **kwargs
        )

    return build


def _mobilenet_v3_small(**kwargs: Any) -> keras.Model:
    """ArXiv 1905.02244, table 2."""
    return keras_cv.models.MobileNetV3Backbone(
        stackwise_expansion=[1, 72 / 16, 88 / 24, 4, 6, 6, 3, 3, 6, 6, 6],
        stackwise_filters=[16, 24, 24, 40, 40, 40, 48, 48, 96, 96, 96],
        stackwise_kernel_size=[3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 5],
        stackwise_stride=[2, 2, 1, 2, 1, 1, 1, 1, 2, 1, 1],
        stackwise_se_ratio=[0.25, None, None] + [0.25] * 8,
        stackwise_activation=["relu"] * 3 + ["hard_swish"] * 8,
        **kwargs,
    )


def _efficientnet_v2_b0(**kwargs: Any) -> keras.Model:
    """ArXiv 2104.00298 and the authors' released configuration."""
    return keras_cv.models.EfficientNetV2Backbone(
        width_coefficient=1.0,
        depth_coefficient=1.0,
        stackwise_kernel_sizes=[3] * 6,
        stackwise_num_repeats=[1, 2, 2, 3, 5, 8],
        stackwise_input_filters=[32, 16, 32, 48, 96, 112],
        stackwise_output_filters=[16, 32, 48, 96, 112, 192],
        stackwise_expansion_ratios=[1, 4, 4, 4, 6, 6],
        stackwise_squeeze_and_excite_ratios=[0.0, 0.0, 0.0, 0.25, 0.25, 0.25],
        stackwise_strides=[1, 2, 2, 2, 1, 2],
        stackwise_conv_types=["fused"] * 3 + ["unfused"] * 3,
        **kwargs,
    )


_BUILDERS: dict[str, Callable[..., keras.Model]] = {
    "resnet18": _resnet("ResNetBackbone", "basic_block", [2, 2, 2, 2]),
    "resnet34": _resnet("ResNetBackbone", "basic_block", [3, 4, 6, 3]),
    "resnet50": _resnet("ResNetBackbone", "block", [3, 4, 6, 3]),
    "resnet101": _resnet("ResNetBackbone", "block", [3, 4, 23, 3]),
    "resnet18_v2": _resnet("ResNetV2Backbone", "basic_block", [2, 2, 2, 2]),
    "resnet50_v2": _resnet("ResNetV2Backbone", "block", [3, 4, 6, 3]),
    "mobilenet_v3_small": _mobilenet_v3_small,
    "csp_darknet_tiny": _csp_darknet([48, 96, 192, 384], [1, 3, 3, 1]),
    "csp_darknet_s": _csp_darknet([64, 128, 256, 512], [1, 3, 3, 1]),
    "efficientnet_v2_b0": _efficientnet_v2_b0,
    "yolov8_xs": _yolov8([32, 64, 128, 256], [1, 2, 2, 1]),
    "yolov8_s": _yolov8([64, 128, 256, 512], [1, 2, 2, 1]),
    "yolov8_m": _yolov8([96, 192, 384, 576], [2, 4, 4, 2]),
    "yolov8_l": _yolov8([128, 256, 512, 512], [3, 6, 6, 3]),
    "yolov8_xl": _yolov8([160, 320, 640, 640], [3, 6, 6, 3]),
}

BACKBONES = tuple(sorted(_BUILDERS))


def build_backbone(
    name: str, image_size: int | None = None, weights: str | None = None
) -> keras.Model:
    """Builds a backbone that takes pictures with values from 0 to 255.

    Args:
        name: one of `BACKBONES`, or `"preset:NAME"` for a keras-cv preset, which is downloaded.
        image_size: height and width of the pictures, pixels; None leaves them open.
        weights: file of weights saved from the same backbone, or None for random ones.

    Returns:
        A keras-cv backbone with `pyramid_level_inputs` P3 to P5.

    Raises:
        ValueError: for a name that is not known or weights that do not fit.
        FileNotFoundError: when the file of weights is missing.
    """
    if name.startswith("preset:"):
        backbone = keras_cv.models.Backbone.from_preset(name[len("preset:") :])
    elif name in _BUILDERS:
        shape = (image_size, image_size, 3)
        backbone = _BUILDERS[name](include_rescaling=True, input_shape=shape)
    else:
        raise ValueError(
            f"Backbone {name!r} is unknown. Choose one of {', '.join(BACKBONES)}, or "
            "'preset:NAME' for a keras-cv preset (needs a network)."
        )
    if weights is not None:
        if not os.path.exists(weights):
            raise FileNotFoundError(
                f"Backbone weights {weights!r}: no such file. Give the path of a weights file "
                f"saved from the backbone {name!r}."
            )
        try:
            backbone.load_weights(weights)
        except (ValueError, OSError) as error:
            raise ValueError(
                f"Backbone weights {weights!r} do not fit the backbone {name!r}: {error}"
            ) from error
    return backbone
