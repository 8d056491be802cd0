"""Between steps and epochs: averages, the best checkpoint, states, the emergency stop."""

import json
import os
from types import SimpleNamespace

import numpy as np
import pytest

from harmonic_tf.backend import keras, tf
from harmonic_tf.data.example import Annotation, DetectionData
from harmonic_tf.losses import HarmonicLoss
from harmonic_tf.models.joint.detector import JointDetector, checked_names
from harmonic_tf.models.joint.weight_update import WeightUpdate
from harmonic_tf.training import callbacks
from harmonic_tf.training.callbacks import (
    NonFiniteError,
    SaveState,
    StepTimes,
    StopWhenNotFinite,
    UpdateDetector,
    Validation,
)
from harmonic_tf.training.run_directory import RunDirectory


@pytest.mark.parametrize("average_decay", [None, 0.9])
def test_the_detector_gets_the_averages_where_there_are_some(tiny_detector, average_decay):
    model = tiny_detector(seed=0, average_decay=average_decay)
    detector = tiny_detector(seed=1)
    for average in model.weight_update.averages:
        average.assign(average + 3.0)
    callback = UpdateDetector(detector)
    callback.set_model(model)
    callback.on_epoch_end(0)
    shift = 0.0 if average_decay is None else 3.0
    for trained, used in zip(model.trainable_weights, detector.trainable_weights):
        np.testing.assert_allclose(used, trained + shift, rtol=1e-6)
    for trained, used in zip(model.non_trainable_weights, detector.non_trainable_weights):
        np.testing.assert_array_equal(used, trained)


def one_picture():
    annotation = Annotation(
        image_id="0",
        image_path="0.jpg",
        width=64,
        height=64,
        boxes=np.array([[0, 0, 9, 9]], np.float32),
        classes=np.array([0], np.int32),
        difficult=np.array([False]),
        crowd=np.array([False]),
    )
    return DetectionData("one", ("thing",), (annotation,), ())


def measured_epochs(run, monkeypatch, best, precisions, every=1):
    """Trains through epochs of these AP on paper; gives their logs."""
    model = keras.Sequential([keras.layers.Dense(1, use_bias=False)])
    model.build((None, 1))
    told = []
    state = SimpleNamespace(best=best, since_best=tf.Variable(0))
    validation = Validation(
        *(run, model, None, state, one_picture(), 64, 1, len(precisions), every),
        measured=lambda epoch, truth, found: told.append((epoch, truth.image_ids, found)),
    )
    monkeypatch.setattr(callbacks, "detect", lambda *_, **__: "what was found")
    logs = []
    for epoch, precision in enumerate(precisions):
        metrics = {"AP": precision, "AP50": 0.5, "AP75": 0.5}
        monkeypatch.setattr(callbacks, "coco_metrics", lambda *_, found=metrics: found)
        model.set_weights([np.full((1, 1), epoch + 1.0)])
        logs.append({})
        validation.on_epoch_end(epoch, logs[-1])
    measured = [epoch for epoch, entry in enumerate(logs) if entry]
    assert told == [(epoch, ["0"], "what was found") for epoch in measured]
    return logs


def epoch_of_best(run):
    return keras.models.load_model(run.checkpoint("best")).get_weights()[0].item()


@pytest.fixture
def run(tmp_path):
    run = RunDirectory(str(tmp_path))
    run.create()
    return run


@pytest.mark.parametrize(
    "before, precisions, every, epoch",
    [
        (-1.0, [0.0, 0.0], 1, 1),  # nothing found is still the best so far, once
        (-1.0, [0.1, 0.3, 0.2, 0.3], 1, 2),
        (-1.0, [0.9, 0.1, 0.8, 0.2], 2, 4),  # 2 and 4 are measured
        (-1.0, [0.9, 0.1, 0.2], 2, 3),  # 2, and 3 as the last
        (0.25, [0.1, 0.3, 0.2], 1, 2),
    ],
)
def test_best_is_replaced_by_better_ones_alone(run, monkeypatch, before, precisions, every, epoch):
    best = tf.Variable(before)
    logs = measured_epochs(run, monkeypatch, best, precisions, every)
    assert epoch_of_best(run) == epoch
    assert best.numpy() == pytest.approx(precisions[epoch - 1])
    for number, entry in enumerate(logs, start=1):
        measured = number % every == 0 or number == len(logs)
        assert set(entry) == ({"val_AP", "val_AP50", "val_AP75"} if measured else set())


def test_best_of_before_a_resume_stays_when_nothing_is_better(run, monkeypatch):
    measured_epochs(run, monkeypatch, tf.Variable(0.5), [0.1, 0.5])
    assert not os.path.exists(run.checkpoint("best"))


@pytest.mark.parametrize(
    "every, steps",
    [
        (None, [5, 10]),
        (1, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        (2, [2, 4, 5, 6, 8, 10]),  # 10 once, when all that ends the epoch is done
        (3, [3, 5, 6, 9, 10]),
        (50, [5, 10]),
    ],
)
def test_states_to_resume_from_are_saved_every_n_steps_and_every_epoch(every, steps):
    saved = []
    state = SimpleNamespace(step=0)
    state.save = lambda: saved.append(state.step)
    callback = SaveState(state, every)
    callback.set_params({"steps": 5, "epochs": 2})
    for epoch in range(2):
        for batch in range(5):
            state.step += 1
            callback.on_train_batch_end(batch)
        callback.on_epoch_end(epoch)
    assert saved == steps


CHECKED = checked_names(HarmonicLoss())


class OneWeight:
    """As much of a detector as makes steps."""

    terms_not_finite = JointDetector.terms_not_finite

    def __init__(self):
        optimizer = keras.optimizers.SGD(0.1)
        self.loss = HarmonicLoss()
        self.weight_update = WeightUpdate(optimizer, [tf.Variable(1.0)], len(CHECKED))

    def step(self, failed):
        gradient = tf.constant(np.nan if failed else 1.0)
        self.weight_update.apply([gradient], tf.constant([name not in failed for name in CHECKED]))


def train(limit, steps, steps_per_epoch=1000):
    """Steps given by what of them is not finite; gives how many were made before the stop."""
    callback = StopWhenNotFinite(limit, lambda step: [f"{step}-a.jpg", f"{step}-b.jpg"])
    callback.set_model(OneWeight())
    for number, failed in enumerate(steps):
        callback.model.step(failed)
        callback.on_train_batch_end(number % steps_per_epoch)


GOOD, BAD = (), ("gradient", "localization loss")


def test_too_many_steps_in_a_row_that_are_not_finite_stop_training():
    with pytest.raises(NonFiniteError) as caught:
        train(3, [GOOD, BAD, BAD, BAD, BAD, BAD])
    message = str(caught.value)
    assert message.startswith("5 steps in a row were not applied")  # seen at the sixth step
    assert "the localization loss was not finite" in message  # the gradient only follows it
    assert "step 5: 5-a.jpg, 5-b.jpg." in message
    assert "--learning_rate" in message


def test_several_terms_are_named_and_the_gradient_where_it_stands_alone():
    with pytest.raises(NonFiniteError, match=r"classification loss and the localization loss was"):
        train(1, [(*BAD, "classification loss")])
    with pytest.raises(NonFiniteError, match="because the gradient was"):
        train(1, [("gradient",)])


def test_bad_steps_that_are_not_in_a_row_do_not_stop_training():
    train(3, [BAD, BAD, GOOD] * 5)
    train(2, [BAD, GOOD] * 5)


@pytest.mark.parametrize("steps_per_epoch", [1, 2, 5])
def test_epochs_shorter_than_the_limit_hide_no_bad_steps(steps_per_epoch):
    with pytest.raises(NonFiniteError):
        train(6, [BAD] * 12, steps_per_epoch)


@pytest.mark.parametrize(("steps", "timed"), [(4, 3), (2, 1), (1, 0)])
def test_steps_are_timed_but_for_the_first_of_an_epoch(run, steps, timed):
    """A step takes 2 s and 3 s of the processors, the first of an epoch 100 s of both."""
    now = [0.0, 0.0]
    clocks = (lambda: now[0], lambda: now[1])
    callback = StepTimes(run, SimpleNamespace(step=0), clocks)
    callback.set_params({"steps": steps})
    for epoch in range(2):
        for batch in range(steps):
            now = [now[0] + (2 if batch else 100), now[1] + (3 if batch else 100)]
            callback.on_train_batch_end(batch)
        now = [now[0] + 50, now[1] + 50]  # a measurement
        callback.on_epoch_end(epoch)
    if not timed:
        assert not os.path.exists(run.step_times_file)
        return
    with open(run.step_times_file) as file:
        times = json.load(file)
    took = {"steps": timed, "seconds": 2.0 * timed, "cpu_seconds": 3.0 * timed}
    assert times == [{"epoch": epoch, **took} for epoch in (1, 2)]
