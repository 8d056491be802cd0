"""The rendered scenes: repeatable to the byte, honestly annotated, never over other files."""

import hashlib
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools.coco import COCO

from harmonic_tf.data.example import DataError
from harmonic_tf.data.images.checking import check_pictures
from harmonic_tf.data.scenes import drawing, rendering
from harmonic_tf.data.scenes.outlines import OUTLINES
from harmonic_tf.data.sources import load

SIZE = (64, 80)


def _render(folder, count=3, seed=5, image_size=SIZE):
    return rendering.render(str(folder), count, seed, image_size)


def _hashes(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def _rows(folder, image_id):
    document = json.loads((folder / "annotations.json").read_text())
    return [row for row in document["annotations"] if row["image_id"] == image_id]


def test_same_seed_same_bytes(tmp_path):
    for name, seed in (("one", 5), ("two", 5), ("other", 6)):
        _render(tmp_path / name, seed=seed)
    one, two, other = (_hashes(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert len(one) == 4
    assert not set(one.values()) & set(other.values())


def test_longer_set_starts_with_the_shorter(tmp_path):
    _render(tmp_path / "short", count=2)
    _render(tmp_path / "long", count=4)
    short, long = _hashes(tmp_path / "short"), _hashes(tmp_path / "long")
    for index in (1, 2):
        assert short[f"images/00000{index}.jpg"] == long[f"images/00000{index}.jpg"]
        assert _rows(tmp_path / "short", index) == _rows(tmp_path / "long", index)


def test_file_is_coco_and_loads(tmp_path):
    _render(tmp_path / "train", count=5)
    data = check_pictures(load(f"scenes:{tmp_path}", "train"))
    assert data.class_names == drawing.CLASS_NAMES
    reference = COCO(str(tmp_path / "train" / "annotations.json"))
    assert len(data.annotations) == len(reference.imgs) == 5
    assert sum(len(a.boxes) for a in data.annotations) == len(reference.anns)
    for annotation in data.annotations:
        rows = reference.loadAnns(reference.getAnnIds(imgIds=[annotation.image_id]))
        for key in ("area", "occlusion", "irregularity"):
            np.testing.assert_allclose(annotation.extras[key], [r[key] for r in rows], rtol=1e-6)


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**40),
    index=st.integers(0, 10**6),
    height=st.integers(64, 160),
    width=st.integers(64, 160),
)
def test_annotations_are_honest(seed, index, height, width):
    picture, objects = drawing.draw_scene(seed, index, (height, width))
    assert picture.shape == (height, width, 3) and picture.dtype == np.uint8
    assert 1 <= len(objects) <= 5
    boxes = [(x, y, x + w, y + h) for x, y, w, h in (item.bbox for item in objects)]
    for i, (item, (x1, y1, x2, y2)) in enumerate(zip(objects, boxes)):
        assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
        assert 0 < item.area <= (x2 - x1) * (y2 - y1)
        assert 0 <= item.irregularity < 1
        assert drawing.MIN_VISIBLE <= item.occlusion <= 1
        cut = x1 == 0 or y1 == 0 or x2 == width or y2 == height
        hidden = any(
            min(x2, u2) > max(x1, u1) and min(y2, v2) > max(y1, v1)
            for u1, v1, u2, v2 in boxes[i + 1 :]
        )
        if not cut:  # sizes are 25% to 55% of the shorter side; a pixel for the raster
            side = max(x2 - x1, y2 - y1) / min(height, width)
            assert 0.25 - 1 / min(height, width) < side < 0.55 + 1 / min(height, width)
            assert hidden or item.occlusion == 1


def _disc(hole):
    angle = np.linspace(0, 2 * math.pi, 200)
    rim = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    return lambda rng: (rim, hole * rim if hole else None)


@pytest.fixture
def one_object(monkeypatch):
    """The single object of scene 0 of a seed when its class is drawn with that outline."""

    def draw(outline, seed):
        monkeypatch.setattr(drawing, "OUTLINES", dict.fromkeys(OUTLINES, outline))
        monkeypatch.setattr(drawing, "_OBJECTS", (1, 1))
        return drawing.draw_scene(seed, 0, (160, 160))[1][0]

    return draw


@pytest.mark.parametrize("seed", range(5))
def test_area_and_box_of_discs(one_object, seed):
    disc, ring = one_object(_disc(0), seed), one_object(_disc(0.5), seed)
    assert disc.bbox == ring.bbox
    if disc.occlusion == 1:
        # Half the radius is a quarter of the area.
        assert ring.area == pytest.approx(0.75 * disc.area, rel=0.02)
        # An ellipse with half axes r and r s, however turned, has the area pi r^2 s and a box
        # whose half sides a and b hold a^2 + b^2 = r^2 (1 + s^2); the squeeze s is 0.75 to 1.
        _, _, w, h = disc.bbox
        ratio = disc.area / math.pi / ((w * w + h * h) / 4)  # s / (1 + s^2), growing with s
        assert 0.75 / (1 + 0.75**2) - 0.01 < ratio < 1 / (1 + 1) + 0.01


def _area(polygon):
    x, y = polygon.T
    return abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2


def _convex_area(polygon):
    """Area of the convex hull: half the integral of h^2 - h'^2, h the support function."""
    angle = np.linspace(0, 2 * math.pi, 20_000, endpoint=False)
    support = (polygon @ np.stack([np.cos(angle), np.sin(angle)])).max(axis=0)
    slope = np.gradient(support, angle)
    return 0.5 * np.mean(support**2 - slope**2) * 2 * math.pi


@pytest.mark.parametrize("name", OUTLINES)
def test_outlines_are_irregular(name):
    for seed in range(20):
        rim, hole = OUTLINES[name](np.random.default_rng(seed))
        area = _area(rim) - (0 if hole is None else _area(hole))
        low, high = rim.min(axis=0), rim.max(axis=0)
        assert area < 0.85 * np.prod(high - low)  # no rectangle
        assert area < 0.999 * _convex_area(rim)  # concave or with a hole


def test_all_classes_appear():
    categories = {o.category for i in range(30) for o in drawing.draw_scene(0, i, (64, 64))[1]}
    assert categories == set(range(len(drawing.CLASS_NAMES)))
    assert len(drawing.CLASS_NAMES) >= 5


def test_complete_rendering_is_reused(tmp_path, monkeypatch):
    path = _render(tmp_path / "train")
    before = _hashes(tmp_path)
    monkeypatch.setattr(rendering, "draw_scene", None)  # would fail when called
    assert _render(tmp_path / "train") == path
    assert _hashes(tmp_path) == before


def test_another_process_may_be_faster(tmp_path, monkeypatch):
    write = rendering._write

    def slowly(unfinished, parameters):
        write(unfinished, parameters)
        monkeypatch.setattr(rendering, "_write", write)
        _render(tmp_path / "train")

    monkeypatch.setattr(rendering, "_write", slowly)
    _render(tmp_path / "train")
    assert [path.name for path in tmp_path.iterdir()] == ["train"]


@pytest.mark.parametrize("other", ({"count": 2}, {"seed": 6}, {"image_size": (64, 64)}))
def test_other_rendering_is_refused(tmp_path, other):
    _render(tmp_path / "train")
    before = _hashes(tmp_path)
    with pytest.raises(DataError, match=r"info.parameters = .*Remove it, or name another folder"):
        _render(tmp_path / "train", **other)
    assert _hashes(tmp_path) == before


def test_foreign_folder_is_refused(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "000001.jpg").write_text("holiday")
    with pytest.raises(DataError, match="not a rendering"):
        _render(tmp_path)
    assert (tmp_path / "images" / "000001.jpg").read_text() == "holiday"


def test_incomplete_folder_is_refused(tmp_path):
    _render(tmp_path / "train")
    (tmp_path / "train" / "images" / "000002.jpg").unlink()
    with pytest.raises(DataError, match="lacks pictures"):
        _render(tmp_path / "train")


def test_interruption_leaves_nothing(tmp_path, monkeypatch):
    def draw(seed, index, image_size):
        if index == 1:
            raise KeyboardInterrupt
        return drawing.draw_scene(seed, index, image_size)

    monkeypatch.setattr(rendering, "draw_scene", draw)
    with pytest.raises(KeyboardInterrupt):
        _render(tmp_path / "train")
    assert not list(tmp_path.iterdir())


def test_empty_folder_is_filled(tmp_path):
    _render(tmp_path)
    assert len(_hashes(tmp_path)) == 4


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"folder = .*cannot be written"):
        _render(tmp_path / "file" / "train")


@pytest.mark.parametrize(
    ("field", "value"),
    (
        ("count", 0),
        ("count", 2.5),
        ("seed", -1),
        ("seed", "one"),
        ("image_size", (32, 160)),
        ("image_size", (160, 10_000)),
        ("image_size", (160, 160.5)),
        ("image_size", 160),
    ),
)
def test_nonsense_is_refused(tmp_path, field, value):
    with pytest.raises(DataError, match=f"{field}.*makes no sense"):
        _render(tmp_path / "train", **{field: value})
    assert not list(tmp_path.iterdir())


def test_pictures_are_jpeg_of_the_size(tmp_path):
    _render(tmp_path / "train", count=1)
    with Image.open(tmp_path / "train" / "images" / "000001.jpg") as picture:
        assert picture.format == "JPEG"
        assert picture.size == SIZE[::-1]
