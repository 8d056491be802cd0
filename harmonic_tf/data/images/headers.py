"""What the first bytes of a picture say of it, without decoding it."""

from __future__ import annotations

import struct
from typing import BinaryIO, NamedTuple

from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from harmonic_tf.data import checks
from harmonic_tf.data.example import PILLOW, TENSORFLOW

# Not `Image.open`: it knows formats that nobody has looked at, and has a limit of its own.
_FORMATS = {
    b"\xff\xd8\xff": JpegImageFile,
    b"\x89PNG\r\n\x1a\n": PngImageFile,
    b"GIF8": GifImageFile,
    b"BM": BmpImageFile,
    b"RIFF....WEBP": WebPImageFile,  # the dots are its length
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), TiffImageFile),
}
_SIGNATURE_BYTES = max(map(len, _FORMATS))

DAMAGED = (
    *(OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError),
    *(TypeError, LookupError, ArithmeticError),  # where it takes a wild value for a size or a place
)
"""What Pillow raises where a picture is damaged."""

WIDTH_TAG, HEIGHT_TAG, ORIENTATION_TAG = 0x0100, 0x0101, 0x0112  # TIFF 6.0; CIPA DC-008 (Exif 2.32)
_ORIENTATIONS = range(1, 9)
_OTHER_NUMBERS = ("I", "F")  # Pillow's modes of numbers that may be anything
_TURNED_BY_A_QUARTER = (5, 6, 7, 8)


class Header(NamedTuple):
    """What a picture's header says.

    Args:
        width: of the picture as stored, pixels.
        height: of the picture as stored, pixels.
        orientation: EXIF's number of how the stored picture is turned to be seen upright, 1 to 8;
            1 where the header does not say.
        frames: pictures in the file that are decoded: more than 1 in an animated GIF.
        decoder: which of `DECODERS` it needs.
    """

    width: int
    height: int
    orientation: int
    frames: int
    decoder: str

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height of the picture as a person sees it, pixels."""
        size = self.width, self.height
        return size[::-1] if self.orientation in _TURNED_BY_A_QUARTER else size


def format_of(encoded: bytes) -> str:
    """The format of an encoded picture: `"jpeg"`, `"png"`, `"gif"`, `"bmp"`, `"webp"`, `"tiff"`.

    `""` for others.
    """
    kind = kind_of(encoded)
    return kind.format.lower() if kind else ""


def kind_of(start: bytes) -> type[ImageFile.ImageFile] | None:
    """Pillow's class for pictures that start so; None for those that cannot be read."""
    if start.startswith(b"RIFF"):
        start = b"RIFF...." + start[8:_SIGNATURE_BYTES]
    return next((kind for known, kind in _FORMATS.items() if start.startswith(known)), None)


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
    remedy = "Restore it: a whole JPEG, PNG, GIF, BMP, WebP or TIFF"
    if not signature:
        checks.refuse(file, field, "0 bytes", "picture is empty", remedy)
    kind = kind_of(signature)
    if kind is None:
        problem = "picture is of a format that cannot be read"
        checks.refuse(file, field, f"starts with {signature}", problem, "Convert it to JPEG or PNG")
    picture.seek(0)
    try:
        image = kind(picture)
        header = _tiff_header(image) if kind is TiffImageFile else _header(image)
    except DAMAGED as error:
        checks.refuse(file, field, error, "picture's header is damaged", remedy)
    if header.decoder == PILLOW and image.mode in _OTHER_NUMBERS:
        problem = "picture has neither 8 nor 16 bits a channel"
        checks.refuse(file, field, f"mode {image.mode}", problem, "Convert it to JPEG or PNG")
    return header


def _header(image: ImageFile.ImageFile) -> Header:
    """The header of any picture but a TIFF."""
    animated, in_palette = isinstance(image, GifImageFile), image.mode == "P"
    # TensorFlow would take a BMP's indices for grey levels.
    by_pillow = isinstance(image, WebPImageFile) or (isinstance(image, BmpImageFile) and in_palette)
    return Header(
        *image.size,
        orientation=_orientation(image.info.get("exif", b"")),
        frames=image.n_frames if animated else 1,
        decoder=PILLOW if by_pillow else TENSORFLOW,
    )


def _tiff_header(image: TiffImageFile) -> Header:
    """The header of a TIFF's first page; its tags, because `size` is the upright one at times."""
    width, height = image.tag_v2[WIDTH_TAG], image.tag_v2[HEIGHT_TAG]
    return Header(width, height, tiff_orientation(image), frames=1, decoder=PILLOW)


def tiff_orientation(image: TiffImageFile) -> int:
    """How a TIFF that is not loaded yet is stored, see `Header`."""
    value = image.tag_v2.get(ORIENTATION_TAG)
    return value if value in _ORIENTATIONS else 1


def _orientation(exif: bytes) -> int:
    """The orientation in EXIF data; 1 where they are damaged, as viewers and OpenCV have it."""
    tags = Image.Exif()
    try:
        tags.load(exif)
        value = tags.get(ORIENTATION_TAG)
    except DAMAGED:
        return 1
    return value if value in _ORIENTATIONS else 1
