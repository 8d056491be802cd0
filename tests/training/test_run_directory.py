"""The folder of a run: made, refused, never half-written."""

import json
import os
import pathlib
import stat

import numpy as np
import pytest

import harmonic_tf
from harmonic_tf.backend import keras
from harmonic_tf.training.ablation.rows import Row
from harmonic_tf.training.ablation.runs import Run
from harmonic_tf.training.run_directory import RunDirectory
from harmonic_tf.training.settings import SettingsError


@pytest.fixture
def run(tmp_path):
    run = RunDirectory(str(tmp_path / "run"))
    run.create()
    return run


def small_model(value=1.0):
    return keras.Sequential(
        [keras.layers.Dense(1, kernel_initializer=keras.initializers.Constant(value))]
    )


def test_an_earlier_run_is_not_overwritten_unasked(run):
    run.write_settings({"epochs": 1}, "--epochs=1\n")
    with pytest.raises(FileExistsError, match=r"already holds a run.*--overwrite"):
        RunDirectory(run.path).create()
    RunDirectory(run.path).create(overwrite=True)


def test_logs_of_an_earlier_run_do_not_mix_with_the_new_ones(run):
    os.makedirs(run.logs)
    run.write_settings({}, "")
    run.create(overwrite=True)
    assert not os.path.exists(run.logs)


def test_step_times_add_up_over_the_starts_of_a_run_and_not_beyond_it(run):
    run.add_step_times(1, 9, 18.0, 30.0)
    RunDirectory(run.path).create(resume=True)
    run.add_step_times(2, 9, 17.0, 29.0)
    times = json.loads(pathlib.Path(run.step_times_file).read_text())
    assert [entry["epoch"] for entry in times] == [1, 2]
    assert times[1] == {"epoch": 2, "steps": 9, "seconds": 17.0, "cpu_seconds": 29.0}
    RunDirectory(run.path).create(overwrite=True)
    assert not os.path.exists(run.step_times_file)


def test_a_run_that_is_overwritten_is_not_taken_for_a_finished_one(run):
    run.write_settings({}, "")
    run.write_text("metrics.json", "{}")
    run.create(resume=True)
    assert os.path.isfile(run.metrics_file)
    run.create(overwrite=True)
    assert not os.path.exists(run.metrics_file)


def test_what_a_kill_left_half_written_is_cleared_away(run):
    left = [pathlib.Path(run.path, *names, f".{'0f' * 16}.x") for names in ([], ["checkpoints"])]
    for path in left:
        path.write_text("half")
    run.create(resume=True)
    assert not any(path.exists() for path in left)


def test_a_file_in_the_way_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file.*cannot be written to.*Name a folder"):
        RunDirectory(str(tmp_path / "file")).create()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_explained(tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(PermissionError, match="cannot be written to"):
        RunDirectory(str(folder / "run")).create()


def test_texts_and_names_come_back(run):
    run.write_class_names(["cat", "Käfer"])
    assert run.class_names() == ["cat", "Käfer"]
    run.write_version("float32")
    with open(run.file("version.json"), encoding="utf-8") as file:
        versions = json.load(file)
    assert versions["harmonic_tf"] == harmonic_tf.__version__
    assert versions["precision"] == "float32"
    assert sorted(os.listdir(run.path)) == ["checkpoints", "classes.json", "version.json"]


def test_a_checkpoint_is_replaced_whole(run, monkeypatch):
    model = small_model(1.0)
    model.build((None, 1))
    run.save_model(model, "last")
    broken = small_model(2.0)
    broken.build((None, 1))

    def half_written(path, *_, **__):
        with open(path, "w") as file:
            file.write("half")
        raise OSError("disk full")

    monkeypatch.setattr(broken, "save", half_written)
    with pytest.raises(OSError, match="disk full"):
        run.save_model(broken, "last")
    run.copy_checkpoint("last", "best")
    assert sorted(os.listdir(run.file("checkpoints"))) == ["best.keras", "last.keras"]
    for name in ("last", "best"):
        assert keras.models.load_model(run.checkpoint(name)).get_weights()[0] == 1.0


def an_entry(**instead):
    return {"epoch": 1, "steps": 2, "seconds": 3.0, "cpu_seconds": 4.0, **instead}


@pytest.mark.parametrize("content", ("", "[", "nothing", "[" * 100_000, "null", "3"))
@pytest.mark.parametrize(
    ("name", "read"),
    (
        ("experiment.json", RunDirectory.settings),
        ("classes.json", RunDirectory.class_names),
        ("step_times.json", RunDirectory.step_times),
    ),
)
def test_damaged_files_are_named(run, name, read, content):
    pathlib.Path(run.file(name)).write_text(content)
    with pytest.raises(SettingsError, match=rf"{name}.*(is not JSON|holds a).*Mend it"):
        read(run)


@pytest.mark.parametrize(
    ("name", "read", "content"),
    (
        ("experiment.json", RunDirectory.settings, {"model": {"name": "a"}}),
        ("experiment.json", RunDirectory.settings, {"anchor_ratios": [["1"]]}),
        ("experiment.json", RunDirectory.settings, {"anchor_ratios": ["0.5", 1]}),
        ("classes.json", RunDirectory.class_names, ["cat", 3]),
        ("step_times.json", RunDirectory.step_times, [3]),
        ("step_times.json", RunDirectory.step_times, [{"epoch": 1}]),
        ("step_times.json", RunDirectory.step_times, [an_entry(seconds="1")]),
        ("step_times.json", RunDirectory.step_times, [an_entry(steps=float("nan"))]),
    ),
)
def test_values_of_another_type_are_named(run, name, read, content):
    pathlib.Path(run.file(name)).write_text(json.dumps(content))
    with pytest.raises(SettingsError, match=rf"{name}: .*Mend it"):
        read(run)


def test_damaged_draws_are_named(run):
    trained = Run(Row("a", "a", None, False, None), 0, run.path)
    np.savez_compressed(trained.draws_file, AP=np.arange(3, dtype=np.float32))
    np.testing.assert_array_equal(trained.draws()["AP"], np.arange(3))
    whole = pathlib.Path(trained.draws_file).read_bytes()
    np.savez_compressed(trained.draws_file, AP=np.zeros(2**25, np.float32))  # 128 MiB of zeros
    bomb = pathlib.Path(trained.draws_file).read_bytes()
    np.savez_compressed(trained.draws_file, AP=np.array([print], object))
    pickled = pathlib.Path(trained.draws_file).read_bytes()
    for content in (b"", whole[:-30], bomb, pickled):
        pathlib.Path(trained.draws_file).write_bytes(content)
        with pytest.raises(SettingsError, match=r"bootstrap\.npz is damaged .*Remove it"):
            trained.draws()
