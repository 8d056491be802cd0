"""What is said of how long a training takes, by a clock that the tests turn."""

from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harmonic_tf.training.schedule import is_measured
from harmonic_tf.training.time_left import TimeLeft, about, time_left

MINUTE, HOUR, DAY = 60, 3600, 86400
UNITS = {"minute": MINUTE, "hour": HOUR, "day": DAY}


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0, "less than a minute"),
        (59, "less than a minute"),
        (60, "about 1 minute"),
        (14.2 * MINUTE, "about 14 minutes"),
        (33 * MINUTE, "about 35 minutes"),
        (2.1 * HOUR, "about 2 hours"),
        (2.4 * HOUR, "about 2.5 hours"),
        (20.4 * HOUR, "about 20 hours"),
        (2 * DAY, "about 2 days"),
    ],
)
def test_durations_are_said_as_exactly_as_they_are_known(seconds, text):
    assert about(seconds) == text


def seconds_in(text):
    _, number, unit = text.split()
    return float(number) * UNITS[unit.rstrip("s")]


@given(st.floats(MINUTE, 30 * DAY))
@example(1.74 * DAY)  # between a day and a half and two
def test_a_duration_in_words_is_not_off_by_more_than_a_quarter(seconds):
    assert seconds_in(about(seconds)) == pytest.approx(seconds, rel=0.25)
    if seconds > 5 * MINUTE:
        assert seconds_in(about(seconds)) == pytest.approx(seconds, rel=0.13)


@given(st.floats(MINUTE, 30 * DAY), st.floats(MINUTE, 30 * DAY))
def test_a_longer_duration_is_not_said_to_be_shorter(one, other):
    shorter, longer = sorted((one, other))
    assert seconds_in(about(shorter)) <= seconds_in(about(longer))


@pytest.mark.parametrize(
    "arguments, text",
    [
        (
            (430, 1.9, 5, 6.0),
            "about 14 minutes on this machine (430 steps of 1.9 s and 5 measurements)",
        ),
        ((1, 90, 0, 0.0), "about 2 minutes on this machine (1 step of 90 s)"),
        (
            (1200, 0.25, 1, 60.0, 240.0, True),
            "about 10 minutes on this machine (1,200 steps of 0.25 s and 1 measurement), or less "
            "with --patience",
        ),
    ],
)
def test_the_estimate_names_what_it_is_made_of(arguments, text):
    assert time_left(*arguments) == text


TRACED, STEP, MEASURED, PLAIN = 100.0, 2.0, 40.0, 3.0  # seconds


def said(caplog, epochs, steps_per_epoch, eval_every, made=0, measured_steps=0.0):
    """Trains on paper from a step on; gives what is logged, each with the step it is logged at."""
    clock, state, lines = SimpleNamespace(now=7.0), SimpleNamespace(step=made), []
    callback = TimeLeft(
        state,
        epochs,
        steps_per_epoch,
        eval_every,
        measured_steps,
        clock=lambda: clock.now,
    )

    def note():
        lines.extend((state.step, record.getMessage()) for record in caplog.records)
        caplog.clear()

    for epoch in range(made // steps_per_epoch, epochs):
        steps = steps_per_epoch - state.step % steps_per_epoch
        first_epoch = state.step == made
        callback.set_params({"steps": steps, "epochs": epoch + 1})  # as of a part of the training
        callback.on_epoch_begin(epoch)
        for batch in range(steps):
            callback.on_train_batch_begin(batch)
            clock.now += TRACED if state.step == made else STEP
            state.step += 1
            callback.on_train_batch_end(batch)
            note()
        measured = eval_every is not None and is_measured(epoch, epochs, eval_every)
        clock.now += (MEASURED if measured else PLAIN) + TRACED * first_epoch
        callback.on_epoch_end(epoch)
        note()
    return lines


@pytest.fixture
def log(caplog):
    caplog.set_level("INFO", "absl")
    return caplog


def test_time_is_said_after_some_steps_and_after_the_first_measurement_that_is_not_traced(log):
    (at, first), (again, second) = said(log, 20, 50, 1, measured_steps=30)
    assert at == 11  # ten after the one that is traced
    assert first == f"Training takes {time_left(1000 - 11, STEP, 20, 30 * STEP / 3)}."
    assert again == 2 * 50
    assert second == f"What is left takes {time_left(900, STEP, 18, MEASURED)}."


def test_time_of_epochs_without_a_measurement_counts_too(log):
    _, (again, second) = said(log, 20, 50, 4)
    assert again == 4 * 50
    assert second == f"What is left takes {time_left(800, STEP, 4, MEASURED, 12 * PLAIN)}."


def test_time_without_a_validation_split_knows_no_measurements(log):
    (_, first), (again, second) = said(log, 20, 50, None)
    assert first == f"Training takes {time_left(1000 - 11, STEP, 0, 0.0)}."
    assert again == 2 * 50
    assert second == f"What is left takes {time_left(900, STEP, 0, 0.0, 18 * PLAIN)}."


def test_time_after_a_resume_is_of_what_is_left(log):
    (at, first), (again, second) = said(log, 20, 50, 1, made=730)
    assert at == 741
    assert first == f"Training takes {time_left(1000 - 741, STEP, 6, 0.0)}."
    assert again == 800  # the first whole epoch's end
    assert second == f"What is left takes {time_left(200, STEP, 4, MEASURED)}."


def test_time_is_known_where_epochs_are_shorter_than_what_is_timed(log):
    ((at, line),) = said(log, 20, 3, 1)
    assert at == 2 * 3
    assert "(54 steps of 2 s and 18 measurements)" in line


def test_a_training_that_is_over_soon_has_nothing_to_say(log):
    assert said(log, 1, 8, 1) == []
    assert said(log, 20, 50, 1, made=995) == []
