"""Pictures that TensorFlow does not decode, in Python: WebP, TIFF, BMP with a palette."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from harmonic_tf.backend import tf
from harmonic_tf.data.images import headers

_BITS_TAG, _PHOTOMETRIC_TAG = 0x0102, 0x0106  # TIFF 6.0
_WHITE_IS_ZERO = 0

# Pillow turns a TIFF upright when it loads it; this turns it back, by orientation.
_AS_STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def decode(encoded: tf.Tensor) -> np.ndarray:
    """Decodes a picture as it is stored: the first of several, the colours beneath transparency.

    Args:
        encoded: string scalar, not symbolic.

    Returns:
        uint8 [H, W, 3]; of 16 bits the upper 8.

    Raises:
        tf.errors.DataLossError: it does not decode.
    """
    content = encoded.numpy()
    try:
        image = headers.kind_of(content)(io.BytesIO(content))
        stored = _tiff(image) if isinstance(image, TiffImageFile) else image
        return np.asarray(stored.convert("RGB"))
    except headers.DAMAGED as error:
        raise tf.errors.DataLossError(None, None, str(error)) from error


def _tiff(image: TiffImageFile) -> ImageFile.ImageFile | Image.Image:
    """A TIFF's first page as stored, of 8 bits a channel."""
    orientation = headers.tiff_orientation(image)
    bits = image.tag_v2.get(_BITS_TAG, (1,))[0]
    inverted = image.tag_v2.get(_PHOTOMETRIC_TAG) == _WHITE_IS_ZERO
    image.load()
    stored = image.transpose(_AS_STORED[orientation]) if orientation in _AS_STORED else image
    if not stored.mode.startswith("I;16"):
        return stored
    levels = (np.asarray(stored) >> (bits - 8)).astype(np.uint8)
    return Image.fromarray(255 - levels if inverted else levels)
