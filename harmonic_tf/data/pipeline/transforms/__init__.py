"""What may happen to a picture and its boxes on the way to a model: small pure functions.

Every transform takes an Example (`common.py`) and returns a new one, so that they chain. The
random ones draw everything from a `seed`, an int32 or int64 [2] tensor: same seed, same result, in
whatever order and on however many threads the pictures are worked on.
"""

from harmonic_tf.data.pipeline.transforms.appearance import blur, cutout, jitter_colors
from harmonic_tf.data.pipeline.transforms.common import (
    PADDING_GREY,
    PICTURE_FIELDS,
    Example,
    keep_objects,
)
from harmonic_tf.data.pipeline.transforms.composition import (
    mixup,
    mosaic,
    paste_small_objects,
)
from harmonic_tf.data.pipeline.transforms.framing import (
    draw_window,
    fit,
    letterbox,
    pad_to_square,
    unletterbox_boxes,
    zoom_and_crop,
)
from harmonic_tf.data.pipeline.transforms.geometry import (
    flip_horizontal,
    flip_vertical,
    rotate,
    shear,
    translate,
)

__all__ = [
    "PADDING_GREY",
    "PICTURE_FIELDS",
    "Example",
    "blur",
    "cutout",
    "draw_window",
    "fit",
    "flip_horizontal",
    "flip_vertical",
    "jitter_colors",
    "keep_objects",
    "letterbox",
    "mixup",
    "mosaic",
    "pad_to_square",
    "paste_small_objects",
    "rotate",
    "shear",
    "translate",
    "unletterbox_boxes",
    "zoom_and_crop",
]
