"""Data that comes in one part: cut alike by training, evaluate, inspect and convert."""

import json
import logging

import numpy as np
import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver
from PIL import Image

from flags.experiment import experiment
from harmonic_tf.data import sources
from harmonic_tf.data.example import DataError
from harmonic_tf.training.splits import load_splits

FRAMES = 12  # 0 to 3 of the videos a, b and c
FRACTIONS = ("--val_fraction=0.25", "--test_fraction=0.25")


@pytest.fixture
def file(tmp_path):
    """A COCO file with its pictures beside it."""
    images, annotations = [], []
    for number in range(FRAMES):
        name = f"{'abc'[number // 4]}_{number % 4}.png"
        colour = np.full((32, 32, 3), 20 * number, np.uint8)
        Image.fromarray(colour).save(tmp_path / name)
        images.append({"id": number, "file_name": name, "width": 32, "height": 32})
        annotations.append(
            {"id": number, "image_id": number, "category_id": 1, "bbox": [1, 2, 8 + number, 16]}
        )
    path = tmp_path / "boxes.json"
    categories = [{"id": 1, "name": "cat"}]
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return path


def splits_of(file, *arguments):
    """What a training with these flags learns from, is chosen by and measured on."""
    with flagsaver.flagsaver():
        absl_flags.FLAGS.unparse_flags()
        absl_flags.FLAGS(["train", f"--dataset={file}", *arguments])
        return load_splits(experiment().data)


def ids(data):
    return [a.image_id for a in data.annotations]


def test_training_has_all_parts(file):
    splits = splits_of(file, *FRACTIONS)
    parts = [ids(splits.train), ids(splits.val), ids(splits.test)]
    assert [len(part) for part in parts] == [6, 3, 3]
    assert sorted(parts[0] + parts[1] + parts[2]) == list(range(FRAMES))
    assert splits.test.name == "coco:boxes.json/all/test"
    for seed, same in (("--seed=5", True), ("--split_seed=5", False)):
        assert (ids(splits_of(file, *FRACTIONS, seed).test) == parts[2]) == same


def test_without_a_share_for_validation_the_rest_is_trained_on(file):
    splits = splits_of(file, "--test_fraction=0.25", "--train_split=trainval", "--test_split=t")
    assert splits.val is None
    assert (len(ids(splits.train)), len(ids(splits.test))) == (9, 3)


def test_frames_of_a_video_are_not_cut_apart(file):
    splits = splits_of(file, "--val_fraction=0.3", "--test_fraction=0.3", r"--split_by=(.+)_\d")
    videos = [{number // 4 for number in ids(data)} for data in (splits.train, splits.test)]
    assert [len(found) for found in videos] == [1, 1] and videos[0] != videos[1]


def test_shots_are_drawn_from_what_is_left_of_a_cut(file, caplog):
    whole = splits_of(file, *FRACTIONS)
    with caplog.at_level(logging.INFO, "absl"):
        drawn = splits_of(file, *FRACTIONS, "--shots=2", "--seed=1", "--verbosity=0")
    assert "coco:boxes.json/all/train, 2 shots: 2 pictures, 2 objects" in caplog.text
    assert len(ids(drawn.train)) == 2 and set(ids(drawn.train)) < set(ids(whole.train))
    for part in ("val", "test"):
        assert ids(getattr(drawn, part)) == ids(getattr(whole, part))
    others = [ids(splits_of(file, *FRACTIONS, "--shots=2", f"--seed={n}").train) for n in range(5)]
    assert others[1] == ids(drawn.train) and len(set(map(tuple, others))) > 1
    all_there_are = splits_of(file, *FRACTIONS, "--shots=7").train
    assert sorted(ids(all_there_are)) == ids(whole.train)


def test_without_shares_the_flags_to_give_are_named(file):
    words = "--val_fraction=0.1 --test_fraction=0.2; --split_by=REGEX"
    with pytest.raises(DataError, match=f"test_split = test: the data set has no splits.*{words}"):
        splits_of(file)


def test_evaluate_measures_on_what_training_does(file, tmp_path, run_command):
    expected = ids(splits_of(file, *FRACTIONS).test)
    results = tmp_path / "results.json"
    found = [
        {"image_id": number, "category_id": 1, "bbox": [1, 2, 8 + number, 16], "score": 0.9}
        for number in expected
    ]
    results.write_text(json.dumps(found))
    run_command(
        *("evaluate", f"--detections={results}", f"--dataset={file}", "--split=test"),
        *(f"--out_dir={tmp_path / 'out'}", *FRACTIONS),
    )
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["coco"]["AP"] == pytest.approx(1)


def test_inspect_shows_all_or_the_parts(file, tmp_path, run_command, capsys):
    out = f"--out_dir={tmp_path / 'out'}"
    run_command("inspect", file, out)
    printed = capsys.readouterr().out
    assert printed.startswith(f"{file}: read as coco, splits all\n")
    assert "12 pictures (all 12), 12 boxes" in printed
    run_command("inspect", file, out, *FRACTIONS)
    assert "12 pictures (train 6, val 3, test 3), 12 boxes" in capsys.readouterr().out
    run_command("inspect", file, out, *FRACTIONS, "--split=val")
    assert "3 pictures (val 3), 3 boxes" in capsys.readouterr().out


def test_convert_writes_the_parts(file, tmp_path, run_command):
    run_command("convert", file, f"--out_dir={tmp_path / 'records'}", *FRACTIONS)
    written = sources.load(f"{tmp_path / 'records'}", "test")
    expected = splits_of(file, *FRACTIONS).test
    assert written.name == "tfrecord:records/test"
    assert [a.boxes.tolist() for a in written.annotations] == [
        a.boxes.tolist() for a in expected.annotations
    ]


def test_missing_splits_are_cut_as_fractions_would(file):
    asked = splits_of(file, "--val_split=val", "--missing_splits=cut")
    given = splits_of(file, "--val_fraction=0.1", "--test_fraction=0.2")
    for name in ("train", "val", "test"):
        assert ids(getattr(asked, name)) == ids(getattr(given, name))
