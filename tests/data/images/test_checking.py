"""Every kind of picture that people have is seen as it is, or refused by name."""

import dataclasses
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from harmonic_tf.backend import tf
from harmonic_tf.data.example import Annotation, DataError, DetectionData
from harmonic_tf.data.images import decoding
from harmonic_tf.data.images.checking import MAX_PIXELS, check_pictures, upright_pixels
from harmonic_tf.data.images.headers import read_header

WIDTH, HEIGHT = 48, 32
OBJECT = np.array([6, 4, 22, 16])  # a red object on black, xyxy
ROUNDING = 8  # levels by which JPEG decoders may differ


def smooth(channels=3):
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    planes = [x * 5, y * 7, (x + y) * 3, 255 - x * 5]
    return np.stack(planes[:channels], axis=-1).astype(np.uint8)


def encoded(image, kind, **options):
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def data_of(*annotations):
    return DetectionData("mine", ("thing",), annotations)


def write(path, content, width=WIDTH, height=HEIGHT, **more):
    path.write_bytes(content)
    none = np.zeros(1, bool)
    box = np.array([[1, 1, 9, 9]], np.float32)
    return Annotation(str(path), "p", width, height, box, np.zeros(1, np.int32), none, none, **more)


def checked_pixels(tmp_path, content):
    (annotation,) = check_pictures(data_of(write(tmp_path / "p", content))).annotations
    return decoding.picture(annotation).astype(int)


def problem_of(annotation, **options):
    with pytest.raises(DataError) as caught:
        check_pictures(data_of(annotation), **options)
    assert caught.value.problem.part == "picture"
    return caught.value.problem


RGB = Image.fromarray(smooth())
PALETTE = RGB.quantize(16)
SAVED_ALL = {"save_all": True, "append_images": [RGB.transpose(Image.Transpose.ROTATE_180)]}
TURNED = RGB.transpose(Image.Transpose.ROTATE_180).quantize(16)
ANIMATION = encoded(PALETTE, "GIF", save_all=True, append_images=[TURNED])
DECODED = {
    "JPEG": encoded(RGB, "JPEG", quality=95),
    "progressive": encoded(RGB, "JPEG", quality=95, progressive=True),
    "CMYK": encoded(Image.fromarray(smooth(4), "CMYK"), "JPEG", quality=95),
    "grey JPEG": encoded(RGB.convert("L"), "JPEG", quality=95),
    "several in one JPEG": encoded(RGB, "MPO", quality=95, save_all=True, append_images=[RGB]),
    "PNG": encoded(RGB, "PNG"),
    "grey PNG": encoded(RGB.convert("L"), "PNG"),
    "1 bit": encoded(RGB.convert("1"), "PNG"),
    "palette": encoded(PALETTE, "PNG"),
    "BMP": encoded(RGB, "BMP"),
    "grey BMP": encoded(RGB.convert("L"), "BMP"),
    "palette BMP": encoded(PALETTE, "BMP"),
    "GIF": encoded(PALETTE, "GIF"),
    "WebP": encoded(RGB, "WEBP", quality=95),
    "TIFF": encoded(RGB, "TIFF"),
    "JPEG in TIFF": encoded(RGB, "TIFF", compression="jpeg", quality=95),
    "LZW in TIFF": encoded(RGB, "TIFF", compression="tiff_lzw"),
    "CMYK TIFF": encoded(Image.fromarray(smooth(4), "CMYK"), "TIFF"),
    "grey TIFF": encoded(RGB.convert("L"), "TIFF"),
    "1 bit TIFF": encoded(RGB.convert("1"), "TIFF"),
    "palette TIFF": encoded(PALETTE, "TIFF"),
}


@pytest.mark.parametrize("kind", DECODED)
def test_decoded_as_pillow_does(tmp_path, kind):
    expected = np.asarray(Image.open(io.BytesIO(DECODED[kind])).convert("RGB")).astype(int)
    assert np.abs(checked_pixels(tmp_path, DECODED[kind]) - expected).max() <= ROUNDING


LOSSLESS = {
    "WebP": encoded(RGB, "WEBP", lossless=True),
    "WebP with transparency": encoded(
        Image.fromarray(smooth(4), "RGBA"), "WEBP", lossless=True, exact=True
    ),
    "frames of a WebP": encoded(RGB, "WEBP", lossless=True, **SAVED_ALL),
    "TIFF": encoded(RGB, "TIFF"),
    "TIFF with transparency": encoded(Image.fromarray(smooth(4), "RGBA"), "TIFF"),
    "pages of a TIFF": encoded(RGB, "TIFF", **SAVED_ALL),
}


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_is_as_it_was(tmp_path, kind):
    """The first of several; the colours beneath transparency."""
    header = read_header(io.BytesIO(LOSSLESS[kind]), "p")
    assert header == (WIDTH, HEIGHT, 1, 1, "pillow")
    np.testing.assert_array_equal(checked_pixels(tmp_path, LOSSLESS[kind]), smooth())


def tiff(values, photometric, order="<", bits=16):
    """An uncompressed TIFF of 16 bits a value [H, W, C], by hand: Pillow does not write most."""
    height, width, channels = values.shape
    data = values.astype(f"{order}u2").tobytes()
    tags = {256: width, 257: height, 259: 1, 262: photometric, 277: channels, 278: height}
    rows = [(tag, 3, 1, struct.pack(f"{order}HH", value, 0)) for tag, value in tags.items()]
    end = 8 + 2 + 12 * (len(tags) + 3) + 4
    place = struct.pack(f"{order}I", end) if channels > 1 else struct.pack(f"{order}HH", bits, 0)
    rows.append((258, 3, channels, place))
    rows.append((273, 4, 1, struct.pack(f"{order}I", end + 2 * channels)))
    rows.append((279, 4, 1, struct.pack(f"{order}I", len(data))))
    directory = b"".join(struct.pack(f"{order}HHI", *row[:3]) + row[3] for row in sorted(rows))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    head += struct.pack(f"{order}H", len(rows)) + directory + bytes(4)
    return head + struct.pack(f"{order}{channels}H", *[bits] * channels) + data


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("channels", (1, 3))
def test_16_bit_tiff_keeps_its_upper_bits(tmp_path, channels, order):
    values = np.random.default_rng(0).integers(0, 2**16, (HEIGHT, WIDTH, channels))
    found = checked_pixels(tmp_path, tiff(values, 1 if channels == 1 else 2, order))
    np.testing.assert_array_equal(found, np.broadcast_to(values // 256, found.shape))


def test_white_is_0_in_some_tiffs(tmp_path):
    values = np.random.default_rng(0).integers(0, 2**16, (HEIGHT, WIDTH, 1))
    found = checked_pixels(tmp_path, tiff(values, photometric=0))
    np.testing.assert_array_equal(found, np.broadcast_to(255 - values // 256, found.shape))


@pytest.mark.parametrize("channels", (1, 3))
def test_16_bit_png_keeps_its_upper_bits(tmp_path, channels):
    values = np.random.default_rng(0).integers(0, 2**16, (HEIGHT, WIDTH, channels))
    content = tf.io.encode_png(values.astype(np.uint16)).numpy()
    found = checked_pixels(tmp_path, content)
    assert np.abs(found - values / 257).max() <= 1  # 65,535 = 257 * 255


@pytest.mark.parametrize("kind", ("palette", "RGBA"))
def test_under_transparency_its_own_colour_is_seen(tmp_path, kind):
    if kind == "palette":
        content, expected = encoded(PALETTE, "PNG", transparency=3), PALETTE.convert("RGB")
    else:
        image = Image.fromarray(smooth(4), "RGBA")
        content, expected = encoded(image, "PNG"), image.convert("RGB")
    np.testing.assert_array_equal(checked_pixels(tmp_path, content), np.asarray(expected))


def test_an_animation_is_its_first_frame(tmp_path):
    assert read_header(io.BytesIO(ANIMATION), "p").frames == 2
    found = checked_pixels(tmp_path, ANIMATION)
    np.testing.assert_array_equal(found, PALETTE.convert("RGB"))


def test_a_gif_is_black_where_it_is_transparent(tmp_path):
    indices = np.asarray(PALETTE)
    found = checked_pixels(tmp_path, encoded(PALETTE, "GIF", transparency=3))
    expected = np.where(indices[..., None] == 3, 0, np.asarray(PALETTE.convert("RGB")))
    assert (indices == 3).any()
    np.testing.assert_array_equal(found, expected)


PNG = DECODED["PNG"]
UNUSABLE = {
    "empty": (b"", "picture is empty"),
    "text": (b"<html>404</html>", "format that cannot be read"),
    "AVIF": (b"\0\0\0 ftypavif" + bytes(99), "format that cannot be read"),
    "sound": (b"RIFF\x24\0\0\0WAVEfmt ", "format that cannot be read"),
    "half a WebP": (DECODED["WebP"][: len(DECODED["WebP"]) // 2], "a"),
    "half a TIFF": (DECODED["TIFF"][:-999], "does not decode"),
    "half a compressed TIFF": (DECODED["LZW in TIFF"][:-99], "a"),
    "a TIFF's head": (DECODED["TIFF"][:60], "header is damaged"),
    "heights as TIFF": (
        encoded(Image.fromarray(np.zeros([HEIGHT, WIDTH], np.float32)), "TIFF"),
        "neither 8 nor 16 bits",
    ),
    "JPEG without its end": (DECODED["JPEG"][:-2], "does not decode"),
    "half a JPEG": (DECODED["JPEG"][: len(DECODED["JPEG"]) * 3 // 4], "does not decode"),
    "half a progressive JPEG": (DECODED["progressive"][:-200], "does not decode"),
    "a JPEG's head": (DECODED["JPEG"][:100], "header is damaged"),
    "half a PNG": (PNG[: len(PNG) // 2], "does not decode"),
    "a PNG's head": (PNG[:20], "header is damaged"),
    "half a BMP": (DECODED["BMP"][:-99], "does not decode"),
    "half a GIF": (DECODED["GIF"][: len(DECODED["GIF"]) // 2], "does not decode"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_unusable_pictures(tmp_path, case):
    content, cause = UNUSABLE[case]
    bad, good = write(tmp_path / "bad", content), write(tmp_path / "good", PNG)
    problem = problem_of(bad)
    assert problem.file == str(tmp_path / "bad") and problem.field == "file"
    assert cause in problem.problem and problem.value and problem.remedy
    data = check_pictures(data_of(bad, good), on_bad_example="skip")
    assert [a.image_path for a in data.annotations] == [good.image_path]
    assert [p.problem for p in data.skipped] == [problem.problem]


@pytest.mark.parametrize("kind", ("WebP", "TIFF", "LZW in TIFF", "palette BMP"))
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of what it skips in a TIFF
def test_wherever_it_is_cut_off_or_damaged(tmp_path, kind):
    """A problem or a picture, never another exception."""
    content, rng = DECODED[kind], np.random.default_rng(0)
    for end in {*range(0, 200, 9), *range(0, len(content), len(content) // 9)}:
        damaged = bytearray(content)
        for place in rng.integers(0, min(400, len(content)), 3):
            damaged[place] ^= int(rng.integers(1, 256))
        for bad in (content[:end], bytes(damaged)):
            try:
                check_pictures(data_of(write(tmp_path / "p", bad)))
            except DataError as error:
                assert error.problem.field.startswith("file")


CUT_OFF = {
    "JPEG": 2,
    "progressive": 20,
    "grey JPEG": 40,
    "several in one JPEG": len(DECODED["several in one JPEG"]) // 2 + 20,  # within the first
}


@pytest.mark.parametrize("kind", CUT_OFF)
def test_a_jpeg_that_is_cut_off_is_recovered_if_asked_for(tmp_path, kind):
    whole = DECODED[kind]
    annotation = write(tmp_path / "p", whole[: -CUT_OFF[kind]])
    assert "on_truncated=recover" in problem_of(annotation).remedy
    data = check_pictures(data_of(annotation), on_truncated="recover")
    assert data.notes == {"image is cut off: what decodes is used": 1}
    (found,) = data.annotations
    assert found.decoder == "recovering"
    top = slice(0, HEIGHT // 4)
    expected = np.asarray(Image.open(io.BytesIO(whole)).convert("RGB")).astype(int)
    difference = np.abs(decoding.picture(found).astype(int) - expected)
    assert difference[top].max() <= (64 if kind == "progressive" else ROUNDING)


def test_what_is_missing_of_a_jpeg_is_grey(tmp_path):
    whole = encoded(Image.new("RGB", (64, 640), (255, 255, 255)), "JPEG")
    content = whole[: len(whole) - 150]
    annotation = write(tmp_path / "p", content, 64, 640)
    (found,) = check_pictures(data_of(annotation), on_truncated="recover").annotations
    pixels = decoding.picture(found)
    assert (pixels[:64] == 255).all() and (pixels[-16:] == 128).all()


def test_recovering_changes_nothing_else(tmp_path):
    (found,) = check_pictures(
        data_of(write(tmp_path / "p", DECODED["JPEG"])), on_truncated="recover"
    ).annotations
    assert found.decoder == "tensorflow"
    for bad in (PNG[: len(PNG) // 2], DECODED["TIFF"][:-999], b"", b"\xff\xd8\xff", b"text"):
        annotation = write(tmp_path / "p", bad)
        problem = problem_of(annotation, on_truncated="recover")
        assert "recover" not in problem.remedy
    with pytest.raises(DataError, match="on_truncated = mend: no such choice"):
        check_pictures(data_of(annotation), on_truncated="mend")


def declared_png(width, height):
    """A PNG of next to no bytes that says it is large."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return PNG[:8] + content + PNG[33:]


@pytest.mark.parametrize("side", (2**13 + 1, 60_000, 2**31 - 1))
def test_bombs_are_not_decoded(tmp_path, monkeypatch, recwarn, side):
    monkeypatch.setattr(decoding, "decode", None)
    found = problem_of(write(tmp_path / "p", declared_png(side, 2**13)))
    assert f"{side} x 8192 pixels" in found.value
    assert found.problem == "picture is larger than max_pixels"
    assert str(MAX_PIXELS) in found.remedy and str(side * 2**13) in found.remedy
    assert not [str(w.message) for w in recwarn if "bomb" in str(w.message)]


def test_max_pixels_is_the_most(tmp_path):
    annotation = write(tmp_path / "p", PNG)
    data = check_pictures(data_of(annotation), max_pixels=WIDTH * HEIGHT)
    assert len(data.annotations) == 1
    assert "larger" in problem_of(annotation, max_pixels=WIDTH * HEIGHT - 1).problem


def test_frames_of_a_gif_count(tmp_path):
    annotation = write(tmp_path / "p", ANIMATION)
    assert "2 frame(s)" in problem_of(annotation, max_pixels=2 * WIDTH * HEIGHT - 1).value
    assert check_pictures(data_of(annotation), max_pixels=2 * WIDTH * HEIGHT).annotations


# How the picture has to be stored so that its orientation turns it upright.
STORED = {
    1: (),
    2: (Image.Transpose.FLIP_LEFT_RIGHT,),
    3: (Image.Transpose.ROTATE_180,),
    4: (Image.Transpose.FLIP_TOP_BOTTOM,),
    5: (Image.Transpose.TRANSPOSE,),
    6: (Image.Transpose.ROTATE_90,),
    7: (Image.Transpose.TRANSVERSE,),
    8: (Image.Transpose.ROTATE_270,),
}


def photograph(orientation, kind="JPEG"):
    """A picture that a person sees with its red object in `OBJECT`, and its stored size."""
    pixels = np.zeros([HEIGHT, WIDTH, 3], np.uint8)
    x1, y1, x2, y2 = OBJECT
    pixels[y1:y2, x1:x2] = [255, 0, 0]
    image = Image.fromarray(pixels)
    for step in STORED[orientation]:
        image = image.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, kind, exif=exif), image.size


def red(pixels):
    """The tight box of what is red, xyxy."""
    y, x = np.nonzero((pixels[..., 0] > 127) & (pixels[..., 1] < 100))
    return np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])


@pytest.mark.parametrize("kind", ("JPEG", "PNG", "WEBP", "TIFF"))
@pytest.mark.parametrize("orientation", STORED)
def test_boxes_fit_what_a_person_sees(tmp_path, orientation, kind):
    content, _ = photograph(orientation, kind)
    seen = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    np.testing.assert_allclose(red(seen), OBJECT, atol=1)  # the photograph is what it should be
    (found,) = check_pictures(data_of(write(tmp_path / "p", content))).annotations
    assert found.orientation == orientation
    np.testing.assert_allclose(red(decoding.picture(found)), OBJECT, atol=1)


@pytest.mark.parametrize("kind", ("JPEG", "TIFF"))
@pytest.mark.parametrize("orientation", (5, 6, 7, 8))
def test_annotated_as_stored(tmp_path, orientation, kind):
    content, (width, height) = photograph(orientation, kind)
    assert (width, height) == (HEIGHT, WIDTH)
    (found,) = check_pictures(data_of(write(tmp_path / "p", content, width, height))).annotations
    assert found.orientation == 1
    assert decoding.picture(found).shape == (height, width, 3)


@pytest.mark.parametrize("orientation", STORED)
def test_records_are_taken_as_stored(tmp_path, orientation):
    content, (width, height) = photograph(orientation)
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[content]))
    example = tf.train.Example(features=tf.train.Features(feature={"image/encoded": feature}))
    file = tmp_path / "shard.tfrecord"
    with tf.io.TFRecordWriter(str(file)) as writer:
        writer.write(example.SerializeToString())
    in_record = write(tmp_path / "unused", b"", width, height, record_offset=0)
    in_record = dataclasses.replace(in_record, image_path=str(file))
    (found,) = check_pictures(data_of(in_record)).annotations
    assert found.orientation == 1
    if orientation >= 5:
        upright = dataclasses.replace(in_record, width=height, height=width)
        assert problem_of(upright).field == "record at byte 0 size"


@pytest.mark.parametrize(
    "exif",
    (
        b"junk",
        b"Exif\0\0",
        b"Exif\0\0II*\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0abc\0",
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x09\0\0\0",
    ),
    ids=("no TIFF", "nothing", "cut", "wild", "text", "9"),
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_exif_is_no_orientation(tmp_path, exif):
    content = encoded(RGB, "JPEG", exif=exif)
    (found,) = check_pictures(data_of(write(tmp_path / "p", content))).annotations
    assert found.orientation == 1


@pytest.mark.parametrize("kind", ("JPEG", "PNG", "WEBP", "TIFF"))
@pytest.mark.parametrize("orientation", (1, 3, 6))
def test_a_picture_without_a_data_set_is_seen_as_one_of_a_data_set(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(smooth()), kind, exif=exif)
    size = (WIDTH, HEIGHT) if orientation < 5 else (HEIGHT, WIDTH)
    (annotation,) = check_pictures(data_of(write(tmp_path / "p", content, *size))).annotations
    np.testing.assert_array_equal(upright_pixels(content, "p"), decoding.picture(annotation))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "p.jpg: file = 0 bytes: picture is empty"),
        (b"no picture at all", "picture is of a format that cannot be read. Convert it to JPEG"),
        (declared_png(20_000, 20_000), "20000 x 20000 pixels.* larger than max_pixels. Scale it"),
        (encoded(Image.fromarray(smooth()), "JPEG")[:-100], "picture does not decode. Restore it"),
    ],
)
def test_what_is_no_picture_is_refused(content, words):
    with pytest.raises(DataError, match=words):
        upright_pixels(content, "p.jpg")
