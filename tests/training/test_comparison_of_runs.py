"""evaluate.py --compare: two runs by the detections in their folders."""

import json
import os
import pathlib

import numpy as np
import pytest

from flags.commands import evaluate
from harmonic_tf.evaluation import Detections, ResultsError
from harmonic_tf.evaluation.coco_results import write_detections
from harmonic_tf.training import comparison
from harmonic_tf.training.comparison import compare_runs
from harmonic_tf.training.inference import ground_truth_of
from harmonic_tf.training.run_directory import RunDirectory
from harmonic_tf.training.settings import DataSettings, SceneSettings, SettingsError
from harmonic_tf.training.splits import load_split, render_scenes
from tests import processes

PICTURES = 6
SCENES = {"scenes_train": 1, "scenes_val": 4, "scenes_test": PICTURES, "scenes_size": 64}


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    made = DataSettings(
        dataset=f"scenes:{tmp_path_factory.mktemp('data')}",
        train_split="train",
        val_split=None,
        test_split="test",
        class_names=None,
        image_size=64,
        train_sizes=(64,),
        max_boxes=100,
        augmentation=None,
        cache="none",
        service=None,
        on_bad_example="error",
        max_bad_fraction=0.0,
        max_pixels=64 * 64,
        on_truncated="error",
        scenes=SceneSettings({"train": 1, "val": 4, "test": PICTURES}, 64, 1),
    )
    render_scenes(made.dataset, made.scenes)
    return made


@pytest.fixture
def make_run(settings, tmp_path):
    """Makes a run's folder, whose detections are the objects themselves, moved by some pixels."""

    def make(name, shift=0.0, split="test", file="detections.json", **flags):
        data = load_split(settings, split, None)
        truth = ground_truth_of(data)
        folder = tmp_path / name
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / "classes.json").write_text(json.dumps(list(data.class_names)))
        flags = {"dataset": settings.dataset, "test_split": "test", **SCENES, **flags}
        RunDirectory(str(folder)).write_settings(flags, "")
        scores = np.linspace(0.5, 1, len(truth.classes), dtype=np.float32)
        boxes = truth.boxes + np.float32(shift)
        found = Detections(truth.image_index, boxes, scores, truth.classes)
        write_detections(str(folder / file), truth, found)
        return str(folder)

    return make


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    def compare(*arguments, **options):
        return original(*arguments, **{**options, "resamples": 20, "progress": False})

    original = comparison.compare
    monkeypatch.setattr(comparison, "compare", compare)


def written(folder):
    return json.loads((folder / "comparison.json").read_text())


def test_test_split_by_default(make_run, settings, tmp_path):
    a, b = make_run("a", shift=4), make_run("b")
    table = compare_runs([a, b], settings, None, str(tmp_path / "out"))
    found = written(tmp_path / "out")
    assert found["pictures"] == PICTURES and found["a"] == [a] and found["b"] == [b]
    assert found["metrics"]["AP"]["b"]["mean"] == pytest.approx(1)
    assert found["metrics"]["AP"]["difference"] > 0.3
    assert "better" in table
    for kind in ("md", "png"):
        assert (tmp_path / "out" / f"comparison.{kind}").stat().st_size > 0


def test_several_seeds_a_side(make_run, settings, tmp_path):
    a = ",".join([make_run("a0", shift=4), make_run("a1", shift=3)])
    compare_runs([a, make_run("b")], settings, None, str(tmp_path))
    values = written(tmp_path)["metrics"]["AP"]["a"]["values"]
    assert len(values) == 2 and values[0] < values[1]


def test_another_split(make_run, settings, tmp_path):
    file = "evaluation/val/detections.json"
    runs = [make_run(name, split="val", file=file, test_split=name) for name in "ab"]
    compare_runs(runs, settings, "val", str(tmp_path))
    assert written(tmp_path)["pictures"] == 4


def test_detections_that_evaluate_left_stand_in_for_missing_ones(make_run, settings, tmp_path):
    a = make_run("a", file="evaluation/test/detections.json")
    compare_runs([a, a], settings, None, str(tmp_path))
    assert written(tmp_path)["metrics"]["AP"]["difference"] == 0


@pytest.mark.parametrize(("split", "more"), [(None, ""), ("val", " --split=val")])
def test_missing_detections_say_how_to_make_them(make_run, settings, tmp_path, split, more):
    a, b = make_run("a"), make_run("b", file="other.json")
    with pytest.raises(FileNotFoundError, match=rf"harmonic-tf evaluate --run=\S+{more}$"):
        compare_runs([b, a], settings, split, str(tmp_path))


def test_runs_on_other_data_are_refused(make_run, settings, tmp_path):
    a = make_run("a")
    other_split, other_data = make_run("b", test_split="val"), make_run("c", dataset="voc:x")
    for b, words in ((other_split, "--test_split = val.* has test"), (other_data, "--dataset")):
        with pytest.raises(SettingsError, match=words):
            compare_runs([a, b], settings, None, str(tmp_path))
    classes = make_run("d")
    pathlib.Path(classes, "classes.json").write_text('["thing"]')
    with pytest.raises(SettingsError, match=r"d: classes = thing, but \S+a has"):
        compare_runs([a, classes], settings, None, str(tmp_path))


def test_damaged_detections_are_named(make_run, settings, tmp_path):
    a = make_run("a")
    pathlib.Path(a, "detections.json").write_text('[{"image_id": 99}]')
    with pytest.raises(ResultsError, match=r"detections\.json"):
        compare_runs([a, a], settings, None, str(tmp_path))


@pytest.mark.parametrize("sides", [[], ["a"], ["a", "b", "c"]])
def test_two_sides_are_needed(settings, tmp_path, sides):
    with pytest.raises(SettingsError, match=f"{len(sides)} runs are given, 2 are needed"):
        compare_runs(sides, settings, None, str(tmp_path))


def test_the_command_takes_the_data_from_the_flags_of_a(make_run, tmp_path):
    a, b = make_run("a", shift=2), make_run("b")
    done = processes.run("evaluate", "--compare", a, b, f"--out_dir={tmp_path}/out")
    assert done.returncode == 0, done
    assert "over pictures" in done.stdout and "comparison.md" in done.stdout
    assert written(tmp_path / "out")["resamples"] == 1000


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--run=r --split=val", "r"),
        ("--compare a b", "a"),
        ("--compare a0,a1 b0 --split val", "a0"),
        ("--split=val --compare --out_dir=x a b", "a"),
        ("--dataset=voc:x --checkpoint=c.keras", None),
    ],
)
def test_whose_flags_are_taken(line, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("r", "a", "a0"):
        os.mkdir(name)
        RunDirectory(name).write_settings({"test_split": name}, "")
    flags = evaluate.flags_of_measured_run(line.split())
    assert list(flags) == ([f"--test_split={expected}"] if expected else [])


def test_no_side_at_all_is_explained():
    with pytest.raises(SettingsError, match="2 are needed"):
        evaluate.flags_of_measured_run(["--compare", "--split=val"])
