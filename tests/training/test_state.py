"""States of training on disk: they come back whole, or an older one does, or it is said why not."""

import logging
import os
import pathlib
import shutil

import numpy as np
import pytest

from harmonic_tf.backend import tf
from harmonic_tf.training.state import TrainingState


def variables(model, state):
    """All that a step changes or depends on."""
    update = model.weight_update
    counters = [update.attempted, update.skipped, update.skipped_in_row, update.good_steps]
    optimizer = update.optimizer.variables
    return [
        *model.weights,
        *(optimizer() if callable(optimizer) else optimizer),
        *update.averages,
        *counters,
        update.loss_scale,
        update.checks,
        state.best,
        state.since_best,
    ]


def values(model, state):
    return [variable.numpy() for variable in variables(model, state)]


def fill(model, state, step):
    """Numbers that no fresh model has."""
    rng = np.random.default_rng(step)
    for variable in variables(model, state):
        numbers = rng.integers(2, 100, variable.shape)
        variable.assign(tf.cast(numbers, variable.dtype))
    model.weight_update.attempted.assign(step)


@pytest.fixture(scope="module")
def trained(tiny_detector):
    """A detector to save, over and over."""
    return tiny_detector(seed=0)


@pytest.fixture(scope="module")
def fresh(tiny_detector):
    """Another one, to restore into."""
    return tiny_detector(seed=1)


def saved(folder, model, steps, keep=2):
    """States of these steps, and what each holds."""
    state, held = TrainingState(str(folder), model, keep), {}
    for step in steps:
        fill(model, state, step)
        held[step] = values(model, state)
        state.save()
    return state, held


def assert_equal(left, right):
    assert len(left) == len(right)
    for a, b in zip(left, right):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lamb"])
def test_resume_into_a_fresh_model_gives_every_number_back(tiny_detector, tmp_path, optimizer):
    _, held = saved(tmp_path, tiny_detector(seed=0, optimizer=optimizer), [7])
    model = tiny_detector(seed=1, optimizer=optimizer)
    state = TrainingState(str(tmp_path), model)
    assert state.restore() == state.step == 7
    assert_equal(values(model, state), held[7])


def test_resume_may_change_the_number_of_replicas(tiny_detector, trained, tmp_path):
    _, held = saved(tmp_path, trained, [7])
    strategy = tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )
    with strategy.scope():
        model = tiny_detector(seed=1)
    state = TrainingState(str(tmp_path), model)
    assert state.restore() == 7
    assert_equal(values(model, state), held[7])


def test_only_the_newest_states_are_kept(trained, tmp_path):
    state, _ = saved(tmp_path, trained, [1, 2, 10, 9, 11], keep=3)
    assert state.steps() == [2, 9, 11]  # 10 was left for an earlier 9
    assert sorted(os.listdir(tmp_path)) == ["step-11", "step-2", "step-9"]
    saved(tmp_path, trained, [12], keep=1)
    assert os.listdir(tmp_path) == ["step-12"]


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def empty(path):
    os.truncate(path, 0)


@pytest.mark.parametrize("damage", [flip_a_byte, truncate, empty, os.remove])
@pytest.mark.parametrize("part", ["state.index", "state.data-00000-of-00001"])
def test_resume_passes_over_a_damaged_state(trained, fresh, tmp_path, caplog, damage, part):
    _, held = saved(tmp_path, trained, [3, 5])
    damage(tmp_path / "step-5" / part)
    state = TrainingState(str(tmp_path), fresh)
    with caplog.at_level(logging.WARNING, logger="absl"):
        assert state.restore() == 3
    assert_equal(values(fresh, state), held[3])
    warnings = [record.getMessage() for record in caplog.records if record.name == "absl"]
    assert len(warnings) == 1
    assert str(tmp_path / "step-5") in warnings[0] and "is damaged" in warnings[0]


def test_a_damaged_state_does_not_push_out_good_ones(trained, fresh, tmp_path):
    saved(tmp_path, trained, [3, 5])
    empty(tmp_path / "step-5" / "state.index")
    state = TrainingState(str(tmp_path), fresh, keep=1)
    assert state.restore() == 3
    state.save()
    assert state.steps() == [3]


def test_resume_starts_anew_where_no_state_is_whole(trained, fresh, tmp_path):
    state, _ = saved(tmp_path, trained, [3, 5])
    for step in (3, 5):
        empty(tmp_path / f"step-{step}" / "state.index")
    fill(fresh, state, 1)
    before = values(fresh, state)
    assert TrainingState(str(tmp_path), fresh).restore() == 0
    assert TrainingState(str(tmp_path / "none"), fresh).restore() == 0
    assert_equal(values(fresh, state), before)


@pytest.mark.parametrize("other", [{"channels": 16}, {"optimizer": "sgd"}])
def test_resume_refuses_the_state_of_another_experiment(tiny_detector, trained, tmp_path, other):
    saved(tmp_path, trained, [3])
    state = TrainingState(str(tmp_path), tiny_detector(**other))
    with pytest.raises(ValueError, match=r"step-3.*does not fit.*name another run_dir"):
        state.restore()


def test_resume_refuses_a_state_without_the_averages_it_needs(tiny_detector, trained, tmp_path):
    saved(tmp_path, tiny_detector(average_decay=None), [3])
    with pytest.raises(ValueError, match=r"step-3.*does not fit.*name another run_dir"):
        TrainingState(str(tmp_path), trained).restore()


def half_written(checkpoint, path):
    pathlib.Path(f"{path}.index").write_bytes(b"half")
    raise OSError("disk full")


def not_moved(*_):
    raise OSError("disk full")


@pytest.mark.parametrize(
    "place, name, failure",
    [(tf.train.Checkpoint, "write", half_written), (os, "rename", not_moved)],
)
def test_a_save_that_fails_leaves_older_states_alone(
    trained, tmp_path, monkeypatch, place, name, failure
):
    state, _ = saved(tmp_path, trained, [3, 5], keep=2)
    fill(trained, state, 8)
    with monkeypatch.context() as patch:
        patch.setattr(place, name, failure)
        with pytest.raises(OSError, match="disk full"):
            state.save()
    assert sorted(os.listdir(tmp_path)) == ["step-3", "step-5"]
    assert TrainingState(str(tmp_path), trained).restore() == 5


def test_what_a_kill_left_half_written_is_no_state_and_is_cleared_away(trained, tmp_path):
    (tmp_path / ".unfinished").mkdir()
    (tmp_path / ".unfinished" / "state.index").write_bytes(b"half")
    state, _ = saved(tmp_path, trained, [])
    assert state.steps() == []
    saved(tmp_path, trained, [4])
    assert os.listdir(tmp_path) == ["step-4"]
    files = sorted(os.listdir(tmp_path / "step-4"))
    assert files == ["state.data-00000-of-00001", "state.index"]


def test_what_a_kill_left_half_removed_is_no_state_and_is_cleared_away(
    trained, tmp_path, monkeypatch
):
    saved(tmp_path, trained, [3, 5], keep=2)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # killed before it removes a file
        saved(tmp_path, trained, [8], keep=2)
    assert sorted(os.listdir(tmp_path)) == [".removed", "step-5", "step-8"]
    assert TrainingState(str(tmp_path), trained).steps() == [5, 8]
    assert sorted(os.listdir(tmp_path)) == ["step-5", "step-8"]


def test_a_worker_that_does_not_write_leaves_nothing(trained, tmp_path):
    TrainingState(str(tmp_path / "states"), trained, writes=False).save()
    assert not os.listdir(tmp_path)
