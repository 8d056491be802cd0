"""Conversion to TFRecords: the same data, the same bytes, whatever happens on the way."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from harmonic_tf.backend import tf
from harmonic_tf.data.example import DataError
from harmonic_tf.data.images import decoding
from harmonic_tf.data.pipeline.batches import training_batches
from harmonic_tf.data.readers.tfrecord import read_tfrecord
from harmonic_tf.data.records.conversion import convert
from harmonic_tf.data.sources import load

ONE_A_SHARD = 1e-6  # MB


def contents(folder):
    return {path.name: path.read_bytes() for path in pathlib.Path(folder).iterdir()}


@pytest.fixture
def source(voc):
    """Two splits; the class `yak` is only in one of them."""
    voc.write("p3", voc.element("yak", 2, 3, 11, 22, "<difficult>1</difficult>"))
    (voc.images / "p3.jpg").write_bytes((voc.images / "p1.jpg").read_bytes())
    (voc.split.parent / "test.txt").write_text("p3\n")
    return voc


@pytest.mark.parametrize("shard_mb", (100, ONE_A_SHARD))
def test_the_same_data(source, tmp_path, shard_mb):
    spec, folder = f"voc:{source.folder}", str(tmp_path / "out")
    convert(spec, folder, shard_mb=shard_mb)
    for split in ("test", "trainval"):
        before = load(spec, split, class_names=["cat", "dog", "yak"])
        after = read_tfrecord(folder, split)
        assert after.class_names == before.class_names
        assert len(after.annotations) == len(before.annotations)
        for old, new in zip(before.annotations, after.annotations):
            assert (old.image_id, old.width, old.height) == (new.image_id, new.width, new.height)
            for name in ("boxes", "classes", "difficult", "crowd"):
                np.testing.assert_array_equal(getattr(new, name), getattr(old, name))
            np.testing.assert_array_equal(new.extras["truncated"], old.extras["truncated"])
            assert decoding.encoded_picture(new) == decoding.encoded_picture(old)


def test_the_same_batches(source, tmp_path):
    """Training cannot tell the two apart."""
    spec, folder = f"voc:{source.folder}", str(tmp_path / "out")
    convert(spec, folder, ["trainval"])
    streams = [
        training_batches(data, image_size=32, batch_size=2, seed=3).take(3)
        for data in (load(spec, "trainval"), read_tfrecord(folder, "trainval"))
    ]
    for old, new in zip(*streams):
        np.testing.assert_array_equal(new[0], old[0])
        np.testing.assert_array_equal(new[1]["boxes"], old[1]["boxes"])
        np.testing.assert_array_equal(new[1]["classes"], old[1]["classes"])


def test_numbers_as_ids_and_crowds(coco, tmp_path):
    coco.document["annotations"][0].update(iscrowd=1, occlusion=0.25)
    before = coco.read()
    convert(f"coco:{coco.file}", str(tmp_path / "out"))
    after = read_tfrecord(str(tmp_path / "out"), "all")
    assert after.class_names == before.class_names
    for old, new in zip(before.annotations, after.annotations):
        assert old.image_id == new.image_id
        np.testing.assert_array_equal(new.crowd, old.crowd)
        for name, values in old.extras.items():
            np.testing.assert_array_equal(new.extras[name], values)


def test_plain_tensorflow_reads_the_same_boxes(source, tmp_path):
    """As the Object Detection API does: its keys, normalized corners, labels from 1 on."""
    convert(f"voc:{source.folder}", str(tmp_path / "out"))
    corners = [f"image/object/bbox/{name}" for name in ("xmin", "ymin", "xmax", "ymax")]
    features = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/format": tf.io.FixedLenFeature([], tf.string),
        "image/filename": tf.io.FixedLenFeature([], tf.string),
        "image/source_id": tf.io.FixedLenFeature([], tf.string),
        "image/height": tf.io.FixedLenFeature([], tf.int64),
        "image/width": tf.io.FixedLenFeature([], tf.int64),
        "image/object/class/text": tf.io.VarLenFeature(tf.string),
        "image/object/class/label": tf.io.VarLenFeature(tf.int64),
        "image/object/difficult": tf.io.VarLenFeature(tf.int64),
        "image/object/is_crowd": tf.io.VarLenFeature(tf.int64),
        **{corner: tf.io.VarLenFeature(tf.float32) for corner in corners},
    }
    data = load(f"voc:{source.folder}", "trainval")
    files = tf.io.gfile.glob(str(tmp_path / "out" / "trainval-*.tfrecord"))
    for record, annotation in zip(tf.data.TFRecordDataset(files), data.annotations):
        found = tf.io.parse_single_example(record, features)
        width, height = int(found["image/width"]), int(found["image/height"])
        boxes = np.stack([found[corner].values for corner in corners], axis=1)
        np.testing.assert_allclose(boxes * ([width, height] * 2), annotation.boxes, rtol=1e-6)
        texts = [data.class_names[index].encode() for index in annotation.classes]
        assert found["image/object/class/text"].values.numpy().tolist() == texts
        assert found["image/source_id"] == annotation.image_id
        assert found["image/filename"] == os.path.basename(annotation.image_path)
        assert found["image/format"] == b"jpeg"
        assert tf.io.decode_jpeg(found["image/encoded"]).shape == (height, width, 3)


def test_manifest_and_label_map(source, tmp_path):
    source.write("p2", source.element("dog", 1, 1, 5, 5), source.element("cat", 4, 4, 4, 9))
    folder = str(tmp_path / "out")
    convert(f"voc:{source.folder}", folder, shard_mb=ONE_A_SHARD, max_bad_fraction=0.5)
    files = contents(tmp_path / "out")
    manifest = json.loads(files.pop("manifest.json"))
    assert manifest["source"] == "voc:voc"
    assert manifest["class_names"] == ["cat", "dog", "yak"]
    assert b"id: 2\n  name: 'dog'" in files.pop("label_map.pbtxt")
    split = manifest["splits"]["trainval"]
    assert (split["pictures"], split["objects"]) == (2, {"yak": 0, "cat": 1, "dog": 2})
    (skipped,) = split["skipped"]
    assert "p2.xml: object[1]/bndbox" in skipped and "no area" in skipped
    shards = [shard for split in manifest["splits"].values() for shard in split["shards"]]
    assert {shard["file"]: shard["bytes"] for shard in shards} == {
        name: len(content) for name, content in files.items()
    }


def test_one_process_and_two_write_the_same(source, tmp_path):
    for processes in (1, 2):
        folder = str(tmp_path / str(processes))
        convert(f"voc:{source.folder}", folder, shard_mb=ONE_A_SHARD, processes=processes)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


# Dies, as by kill -9, while it writes the second shard.
KILLED = """
import os, signal, sys
from harmonic_tf.data.records import conversion, shards

encode = shards.encode
calls = []

def dying_encode(*arguments):
    calls.append(arguments)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return encode(*arguments)

shards.encode = dying_encode
conversion.convert(sys.argv[1], sys.argv[2], shard_mb=1e-6)
"""


def test_goes_on_after_a_kill(source, tmp_path, source_tree):
    spec, folder = f"voc:{source.folder}", tmp_path / "out"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, spec, str(folder)], cwd=source_tree.top, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert not folder.exists()
    unfinished = tmp_path / "out.unfinished"
    (kept,) = unfinished.glob("[!.]*.tfrecord")  # the one being written has a hidden name
    before = kept.stat()
    assert len(list(unfinished.glob(".*"))) == 1

    convert(spec, str(folder), shard_mb=ONE_A_SHARD)
    after = (folder / kept.name).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not unfinished.exists()
    convert(spec, str(tmp_path / "again"), shard_mb=ONE_A_SHARD)
    assert contents(folder) == contents(tmp_path / "again")


@pytest.mark.parametrize("damage", ("shard", "report", "source"))
def test_what_is_kept_is_checked(source, tmp_path, damage):
    """Shards of an unfinished conversion that are damaged or out of date are written again."""
    spec, folder = f"voc:{source.folder}", tmp_path / "out"
    (source.images / "p3.jpg").unlink()  # the last shard cannot be written
    source.write("p3", source.element("yak", 2, 3, 11, 22), filename="p1.jpg", width=99)
    with pytest.raises(DataError, match="size"):
        splits = ["trainval", "test"]
        convert(spec, str(folder), splits, shard_mb=ONE_A_SHARD, on_bad_example="error")
    source.write("p3", source.element("yak", 2, 3, 11, 22), filename="p1.jpg")
    unfinished = tmp_path / "out.unfinished"
    if damage == "shard":
        (unfinished / "trainval-00000-of-00002.tfrecord").write_bytes(b"half of")
    elif damage == "report":
        (unfinished / "trainval-00000-of-00002.tfrecord.json").write_text("{}")
    else:
        source.write("p1", source.element("cat", 1, 1, 9, 9))
    convert(spec, str(folder), splits, shard_mb=ONE_A_SHARD)
    convert(spec, str(tmp_path / "again"), splits, shard_mb=ONE_A_SHARD)
    assert contents(folder) == contents(tmp_path / "again")


def test_the_folder_is_its_own_or_refused(source, tmp_path):
    spec, folder = f"voc:{source.folder}", tmp_path / "out"
    folder.mkdir()
    first = convert(spec, str(folder))
    written = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert convert(spec, str(folder)) == first
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == written
    with pytest.raises(DataError, match="holds another conversion"):
        convert(spec, str(folder), splits=["test"])
    (folder / "test-00000-of-00001.tfrecord").write_bytes(b"")
    with pytest.raises(DataError, match="checksum = 0 bytes"):
        convert(spec, str(folder))
    with pytest.raises(DataError, match="holds something else"):
        convert(spec, str(source.folder))


def test_turned_pictures_are_stored_upright(source, tmp_path):
    """EXIF says that a person sees 30 x 40; readers of TFRecords do not look at EXIF."""
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    Image.fromarray(pixels).save(source.images / "p3.png", exif=exif)
    box = source.element("yak", 2, 3, 11, 22)
    source.write("p3", box, filename="p3.png", width=30, height=40)
    result = convert(f"voc:{source.folder}", str(tmp_path / "out"), ["test"])
    assert result.splits["test"].turned == 1
    (annotation,) = read_tfrecord(str(tmp_path / "out"), "test").annotations
    assert (annotation.width, annotation.height, annotation.orientation) == (30, 40, 1)
    np.testing.assert_array_equal(decoding.picture(annotation), np.rot90(pixels, -1))


@pytest.mark.parametrize("content", (b"", b"no picture", None))
def test_bad_pictures(source, tmp_path, content):
    path = source.images / "p2.jpg"
    path.write_bytes(path.read_bytes()[:300] if content is None else content)
    spec, folder = f"voc:{source.folder}", str(tmp_path / "out")
    with pytest.raises(DataError, match=r"p2.jpg.*on_bad_example=skip") as caught:
        convert(spec, folder, on_bad_example="error")
    with pytest.raises(DataError, match="max_bad_fraction"):
        convert(spec, folder)
    result = convert(spec, folder, max_bad_fraction=0.5)
    assert result.splits["trainval"].pictures == 1
    (skipped,) = result.splits["trainval"].skipped
    assert caught.value.problem.problem in skipped
    assert len(read_tfrecord(folder, "trainval").annotations) == 1


def test_tfrecords_are_a_source_too(source, tmp_path):
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    convert(f"voc:{source.folder}", first)
    convert(f"tfrecord:{first}", second, shard_mb=ONE_A_SHARD)
    for split in ("test", "trainval"):
        old, new = (read_tfrecord(folder, split).annotations for folder in (first, second))
        assert [a.image_id for a in new] == [a.image_id for a in old]
        for before, after in zip(old, new):
            np.testing.assert_array_equal(after.boxes, before.boxes)
            assert decoding.encoded_picture(after) == decoding.encoded_picture(before)


def test_command(source, tmp_path, capsys, run_command):
    source.write("p2", source.element("dog", 1, 1, 5, 5), source.element("cat", 4, 4, 4, 9))
    folder = str(tmp_path / "out")
    options = ["--split=trainval", "--classes=dog,cat", "--max_bad_fraction=0.5"]
    run_command("convert", f"voc:{source.folder}", f"--out_dir={folder}", *options)
    shown = capsys.readouterr().out
    assert "p2.xml: object[1]/bndbox" in shown and f"tfrecord:{folder}" in shown
    assert read_tfrecord(folder, "trainval").class_names == ("dog", "cat")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["voc:/nowhere", "--out_dir=out", "--split=train"], "nowhere: PATH = "),
        (["voc:x", "--out_dir=out", "--processes=0"], "processes"),
        (["voc:x", "--dataset=voc:y", "--out_dir=out"], "2 are given: voc:x, voc:y"),
        (["--out_dir=out"], "none is given. Name it with --dataset"),
        (["voc:x"], "--out_dir=FOLDER is needed"),
        (["voc:x", "--out_dir=out", "--epochs=1"], "convert has no flag --epochs"),
    ],
)
def test_command_says_what_is_wrong(arguments, words, capsys, run_command):
    run_command("train", "--list_presets")  # defines --epochs
    with pytest.raises(SystemExit):
        run_command("convert", *arguments)
    assert words in capsys.readouterr().err
