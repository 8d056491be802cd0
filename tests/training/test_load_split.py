"""A run's data: what may be bad of it, and where that is listed."""

import csv
import json
import pathlib

import pytest

from harmonic_tf.data.example import DataError
from harmonic_tf.data.scenes import rendering
from harmonic_tf.training.run_directory import RunDirectory
from harmonic_tf.training.settings import DataSettings, SceneSettings
from harmonic_tf.training.splits import Splits, load_split, load_splits, render_scenes

SIDE, COUNT = 64, 8


@pytest.fixture
def folder(tmp_path):
    """Scenes, of which one of eight pictures is cut off."""
    rendering.render(str(tmp_path / "train"), COUNT, seed=0, image_size=(SIDE, SIDE))
    picture = sorted((tmp_path / "train" / rendering.IMAGE_FOLDER).iterdir())[3]
    picture.write_bytes(picture.read_bytes()[:-9])
    return tmp_path


def settings(folder, **changes):
    values = {
        "dataset": f"scenes:{folder}",
        "train_split": "train",
        "val_split": None,
        "test_split": "train",
        "class_names": None,
        "image_size": SIDE,
        "train_sizes": (SIDE,),
        "max_boxes": 100,
        "augmentation": None,
        "cache": "none",
        "service": None,
        "on_bad_example": "skip",
        "max_bad_fraction": 0.5,
        "max_pixels": SIDE * SIDE,
        "on_truncated": "error",
        "scenes": SceneSettings({}, SIDE, 0),
        **changes,
    }
    return DataSettings(**values)


def load(folder, **changes):
    return load_split(settings(folder, **changes), "train", None)


def test_skipped_as_far_as_allowed(folder):
    with pytest.raises(DataError, match="does not decode"):
        load(folder, on_bad_example="error")
    assert len(load(folder).annotations) == COUNT - 1
    assert len(load(folder, max_bad_fraction=1 / COUNT).skipped) == 1
    with pytest.raises(DataError, match=r"bad pictures = 1 of 8 \(1 x picture does not decode\)"):
        load(folder, max_bad_fraction=1 / COUNT - 0.01)


def test_a_split_with_nothing_to_learn_from_is_refused_before_the_others(folder):
    file = folder / "train" / rendering.ANNOTATION_FILE
    document = json.loads(file.read_text())
    for row in document["annotations"]:
        row["iscrowd"] = 1
    file.write_text(json.dumps(document))
    with pytest.raises(DataError, match="0 other objects: nothing to learn from"):
        load_splits(settings(folder))


def test_max_pixels(folder):
    with pytest.raises(DataError, match="is empty"):
        load(folder, max_pixels=SIDE * SIDE - 1)


def test_what_was_skipped_is_listed_in_the_run(folder):
    data = load(folder)
    run = RunDirectory(str(folder))
    run.write_skipped(Splits(data, None, data).skipped)
    with open(run.describe()["skipped"], encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["cause"] for row in rows] == ["picture does not decode"] * 2
    assert pathlib.Path(rows[0]["file"]).parent == folder / "train" / rendering.IMAGE_FOLDER


def test_joined_scenes_are_rendered(tmp_path):
    settings = SceneSettings({"train": 1}, SIDE, 0)
    render_scenes(f"scenes:{tmp_path}/a,voc:x,scenes:{tmp_path}/b", settings)
    assert (tmp_path / "a" / "train").is_dir() and (tmp_path / "b" / "train").is_dir()
