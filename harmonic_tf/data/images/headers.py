"""What the first bytes of a picture say of it, without decoding it."""

from __future__ import annotations

import struct
from typing import BinaryIO, NamedTuple

from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from harmonic_tf.data import checks

# Not `Image.open`: it knows formats that TensorFlow does not decode, and has a limit of its own.
_FORMATS = {
    b"\xff\xd8\xff": JpegImageFile,
    b"\x89PNG\r\n\x1a\n": PngImageFile,
    b"GIF8": GifImageFile,
    b"BM": BmpImageFile,
}
_SIGNATURE_BYTES = max(map(len, _FORMATS))
_ORIENTATION_TAG = 0x0112  # CIPA DC-008 (Exif 2.32)
_TURNED_BY_A_QUARTER = (5, 6, 7, 8)


class Header(NamedTuple):
    """What a picture's header says.

    Args:
        width: of the picture as stored, pixels.
        height: of the picture as stored, pixels.
        orientation: EXIF's number of how the stored picture is turned to be seen upright, 1 to 8;
            1 where the header does not say.
        frames: pictures in the file: more than 1 in an animated GIF.
    """

    width: int
    height: int
    orientation: int
    frames: int

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height of the picture as a person sees it, pixels."""
        size = self.width, self.height
        return size[::-1] if self.orientation in _TURNED_BY_A_QUARTER else size


def format_of(encoded: bytes) -> str:
    """The format of an encoded picture: `"jpeg"`, `"png"`, `"gif"`, `"bmp"`, or `""` for others."""
    kinds = (kind for start, kind in _FORMATS.items() if encoded.startswith(start))
    return next((kind.format.lower() for kind in kinds), "")


def read_header(picture: BinaryIO, file: str, field: str = "file") -> Header:
    """Reads a picture's header.

    Args:
        picture: the encoded picture, open for reading at its first byte.
        file: the file that it lies in, for messages.
        field: where in the file, for messages.

    Returns:
        The header.

    Raises:
        DataError: the picture has no bytes, is of a format that cannot be read, or its header is
            damaged.
    """
    signature = picture.read(_SIGNATURE_BYTES)
    remedy = "Restore it: a whole JPEG, PNG, GIF or BMP"
    if not signature:
        checks.refuse(file, field, "0 bytes", "picture is empty", remedy)
    kinds = [kind for start, kind in _FORMATS.items() if signature.startswith(start)]
    if not kinds:
        problem = "picture is of a format that cannot be read"
        checks.refuse(file, field, f"starts with {signature}", problem, "Convert it to JPEG or PNG")
    picture.seek(0)
    try:
        image = kinds[0](picture)
        frames = image.n_frames if kinds[0] is GifImageFile else 1
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        checks.refuse(file, field, error, "picture's header is damaged", remedy)
    if kinds[0] is BmpImageFile and image.mode == "P":
        problem = "palette of a BMP cannot be read"  # its indices would be taken for grey levels
        checks.refuse(file, field, image.mode, problem, "Convert it to JPEG or PNG")
    return Header(*image.size, _orientation(image.info.get("exif", b"")), frames)


def _orientation(exif: bytes) -> int:
    """The orientation in EXIF data; 1 where they are damaged, as viewers and OpenCV have it."""
    tags = Image.Exif()
    try:
        tags.load(exif)
        value = tags.get(_ORIENTATION_TAG)
    except (OSError, ValueError, SyntaxError, EOFError, struct.error):
        return 1
    return value if value in range(1, 9) else 1
