"""Trainings that unfreeze on the way: killed anywhere they end with the same bits."""

import os
import re

import numpy as np
import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver
from hypothesis import given, settings
from hypothesis import strategies as st

from flags.experiment import experiment
from flags.running import UsageError
from harmonic_tf.backend import keras, name_of, tf
from harmonic_tf.training import building, fitting
from harmonic_tf.training.optimizers import SCHEDULES, WarmupSchedule
from harmonic_tf.training.phases import Phase, phases_left
from harmonic_tf.training.run_directory import RunDirectory
from harmonic_tf.training.splits import load_splits
from harmonic_tf.training.state import TrainingState
from tests.tiny import TinyBackbone

EPOCHS, BORDER, STEPS = 4, 2, 3  # the last: of an epoch
TOY = [
    "--scenes_train=6",
    "--scenes_val=1",
    "--scenes_test=1",
    "--scenes_size=64",
    "--val_split=",
    "--image_size=64",
    "--anchor_sizes=8,16,32,64,128",
    "--channels=8",
    "--head_depth=1",
    "--batch_size=2",
    f"--epochs={EPOCHS}",
    "--warmup_steps=2",
    "--average_decay=0.9",
    "--keep_states=20",
    "--save_every_steps=2",
    "--jit_compile=false",
]
FREEZE = ["--freeze=backbone", f"--unfreeze_after={BORDER}", "--backbone_learning_rate_factor=0.5"]


def experiment_of(*arguments):
    """The experiment of a command line; afterwards all flags are as they were."""
    with flagsaver.flagsaver():
        absl_flags.FLAGS.unparse_flags()
        absl_flags.FLAGS(["train", *arguments])
        return experiment()


class KilledError(Exception):
    """Stands in for a signal."""


class Run:
    """A training within this process, and what was seen of it.

    Args:
        data: where the scenes are, or will be.
        folder: the run's.
        patch: pytest's monkeypatch.
    """

    def __init__(self, data, folder, patch):
        self.arguments = [f"--dataset=scenes:{data}", f"--run_dir={folder}", *TOY]
        self.directory = RunDirectory(str(folder))
        self.weights = {}  # step -> name -> value
        self.averaged = []  # step and averaged weights: at each save, and when a phase begins
        self.rates = {}  # step -> rate of the next step
        self._model = None
        patch.setattr(building, "build_backbone", lambda *_, **__: TinyBackbone(8, 64))
        patch.setattr(fitting, "TensorBoard", lambda *_: keras.callbacks.Callback())
        self._patch = patch

    def train(self, *arguments, kill_at=None):
        save, follow = TrainingState.save, TrainingState.follow

        def seen_save(state):
            save(state)
            self._look(state)
            if state.step == kill_at:
                raise KilledError

        def seen_follow(state, model):
            follow(state, model)
            self._model = model
            self.averaged.append((state.step, model.averaged_weights()))

        with self._patch.context() as patch:
            patch.setattr(TrainingState, "save", seen_save)
            patch.setattr(TrainingState, "follow", seen_follow)
            keras.utils.set_random_seed(0)
            settings = experiment_of(*self.arguments, *arguments)
            self.directory.create(resume=settings.resume)
            splits = load_splits(settings.data)
            try:
                fitting.fit(settings, splits, self.directory, tf.distribute.get_strategy())
            except KilledError:
                assert kill_at is not None
            else:
                assert kill_at is None
        return self

    def _look(self, state):
        model, optimizer = self._model, self._model.weight_update.optimizer
        self.weights[state.step] = {name_of(w): w.numpy() for w in model.weights}
        self.averaged.append((state.step, model.averaged_weights()))
        self.rates[state.step] = float(optimizer._learning_rate(optimizer.iterations))

    def state(self, step):
        """All numbers of a state, by name."""
        prefix = os.path.join(self.directory.states, f"step-{step}", "state")
        reader = tf.train.load_checkpoint(prefix)
        names = set(reader.get_variable_to_shape_map()) - {"_CHECKPOINTABLE_OBJECT_GRAPH"}
        return {name: reader.get_tensor(name) for name in names}

    def detector(self):
        """Weights of the detector that was saved for use."""
        model = keras.models.load_model(self.directory.checkpoint("last"), compile=False)
        return [weight.numpy() for weight in model.weights]


@pytest.fixture(scope="module")
def module_patch():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return tmp_path_factory.mktemp("scenes")


@pytest.fixture(scope="module")
def whole(scenes, tmp_path_factory, module_patch):
    """A run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return Run(scenes, folder, module_patch).train(*FREEZE)


def of_backbone(weights):
    return {n: value for n, value in weights.items() if re.search(r"P[345]_(conv|bn)", n)}


def test_unfreeze_moves_what_was_frozen_until_then(whole):
    first, border, last = (of_backbone(whole.weights[n]) for n in (2, 6, 12))
    assert len(first) == 15
    for name, value in first.items():
        np.testing.assert_array_equal(border[name], value, err_msg=name)
        assert not np.array_equal(last[name], value), name
    others = whole.weights[2].keys() - first.keys()
    assert others
    for name in others:
        assert not np.array_equal(whole.weights[2][name], whole.weights[6][name]), name


def test_unfreeze_leaves_the_measured_detector_as_it_was(whole):
    began = [entry for entry in whole.averaged if entry[0] == BORDER * STEPS]
    assert len(began) == 2  # saved, and begun anew
    for before, after in zip(began[0][1], began[1][1]):
        np.testing.assert_array_equal(before, after)


def test_unfreeze_goes_on_with_the_learning_rate(whole):
    schedule = WarmupSchedule(5e-4, EPOCHS * STEPS, warmup_steps=2)
    assert sorted(whole.rates) == [2, 3, 4, 6, 8, 9, 10, 12]
    for step, rate in whole.rates.items():
        assert rate == pytest.approx(float(schedule(step)), rel=1e-6), step


@given(
    schedule=st.sampled_from(SCHEDULES),
    done=st.integers(0, 1000),
    step=st.integers(0, 1000),
    warmup=st.integers(0, 300),
)
@settings(max_examples=30, deadline=None)
def test_unfreeze_shifts_a_schedule_and_changes_nothing_else(schedule, done, step, warmup):
    arguments = (0.1, 900, warmup, schedule, (200, 700))
    shifted = WarmupSchedule(*arguments, steps_done=done)
    assert float(shifted(step)) == float(WarmupSchedule(*arguments)(done + step))
    assert WarmupSchedule.from_config(shifted.get_config()).get_config() == shifted.get_config()


def test_unfreeze_survives_kills_to_the_bit(whole, scenes, tmp_path, monkeypatch):
    """One while frozen, one at the border, one when unfrozen."""
    run = Run(scenes, tmp_path / "run", monkeypatch)
    for kill_at in (4, BORDER * STEPS, 8):
        run.train(*FREEZE, "--resume", kill_at=kill_at)
        assert max(run.weights) == kill_at
    run.train(*FREEZE, "--resume")
    for step in whole.weights:
        resumed, expected = run.state(step), whole.state(step)
        assert resumed.keys() == expected.keys()
        assert any("/optimizer/" in name for name in resumed)
        for name, value in resumed.items():
            np.testing.assert_array_equal(value, expected[name], err_msg=name)
    for ours, wanted in zip(run.detector(), whole.detector()):
        np.testing.assert_array_equal(ours, wanted)
    assert run.rates == whole.rates


def test_freeze_all_but_last_gives_the_detector_every_weight_in_its_place(
    whole, scenes, tmp_path, monkeypatch
):
    """Where the order of weights followed what is frozen, hidden and last layers would swap."""
    start = whole.directory.checkpoint("last")
    run = Run(scenes, tmp_path / "run", monkeypatch)
    run.train("--freeze=all_but_last", f"--start_from={start}", "--epochs=1")
    before, after = whole.detector(), run.detector()
    names = [name_of(w) for w in run._model.weights]
    for name, old, new in zip(names, before, after):
        assert np.array_equal(old, new) == (not re.search("_head/prediction", name)), name
    for value, averaged in zip(after, run.averaged[-1][1]):
        np.testing.assert_array_equal(value, averaged)


def test_unfreeze_divides_a_training_into_phases():
    whole = experiment_of("--dataset=voc:x", "--epochs=9", "--freeze=stem")
    assert phases_left(whole, 10, 0) == phases_left(whole, 10, 77) == [Phase("stem", 0, 9)]
    parted = experiment_of("--dataset=voc:x", "--epochs=9", "--freeze=stem", "--unfreeze_after=2")
    frozen, free = Phase("stem", 0, 2), Phase("none", 2, 9)
    for step, left in ((0, [frozen, free]), (20, [frozen, free]), (21, [free]), (90, [free])):
        assert phases_left(parted, 10, step) == left


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--unfreeze_after=2"], r"--unfreeze_after=2 has nothing to unfreeze.*--freeze"),
        (
            ["--freeze=stem", "--unfreeze_after=12"],
            r"--unfreeze_after=12 must be less than --epochs=12. Lower it, or leave it out",
        ),
        (["--freeze=stem", "--unfreeze_after=0"], "unfreeze_after"),
        (["--freeze=heads"], "all_but_heads"),
        (["--freeze=all_but_heads"], "--freeze=all_but_heads would keep.*--start_from"),
        (["--freeze=all_but_last", "--unfreeze_after=1"], "--start_from"),
        (
            ["--freeze=backbone", "--backbone_learning_rate_factor=0.1"],
            "--backbone_learning_rate_factor=0.1 has no effect where --freeze=backbone",
        ),
        (["--backbone_learning_rate_factor=0"], "backbone_learning_rate_factor"),
        (["--backbone_learning_rate_factor=2"], "backbone_learning_rate_factor"),
    ],
)
def test_freeze_and_what_does_not_go_with_it_is_refused(arguments, words):
    with pytest.raises((absl_flags.Error, UsageError), match=words):
        experiment_of("--dataset=voc:x", *arguments)


def test_freeze_takes_what_makes_sense():
    for arguments in (
        ["--freeze=stem", "--backbone_learning_rate_factor=0.1"],
        ["--freeze=backbone", "--unfreeze_after=11", "--backbone_learning_rate_factor=0.1"],
        ["--freeze=all_but_last", "--start_from=x.keras"],
    ):
        assert experiment_of("--dataset=voc:x", *arguments).freeze == arguments[0].split("=")[1]
