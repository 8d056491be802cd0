"""Epochs and measurements by the number of pictures."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmonic_tf.training.schedule import (
    LEAST_EPOCHS,
    MEASUREMENTS,
    MOST_EPOCHS,
    epochs_for,
    eval_every_for,
    is_measured,
    with_schedule,
)
from harmonic_tf.training.settings import AUTO

COUNTS = st.integers(1, 10**6)


def steps(pictures, batch_size=8):
    return epochs_for(pictures) * math.ceil(pictures / batch_size)


@given(COUNTS)
def test_auto_epochs_stay_within_their_bounds(pictures):
    assert LEAST_EPOCHS <= epochs_for(pictures) <= MOST_EPOCHS


@given(COUNTS, COUNTS)
def test_more_pictures_have_no_more_auto_epochs_and_no_fewer_steps(one, other):
    fewer, more = sorted((one, other))
    assert epochs_for(fewer) >= epochs_for(more)
    # Up to what rounding to whole epochs takes.
    assert steps(fewer, 1) <= steps(more, 1) + more


@given(st.integers(40, 1500))
def test_four_times_the_pictures_have_half_the_auto_epochs_and_twice_the_steps(pictures):
    assert epochs_for(4 * pictures) == pytest.approx(epochs_for(pictures) / 2, abs=0.76)
    assert steps(4 * pictures, 1) == pytest.approx(2 * steps(pictures, 1), abs=3.1 * pictures)


@pytest.mark.parametrize(
    "pictures, expected", [(100, 1200), (400, 2400), (1600, 4800), (3000, 6573)]
)
def test_auto_epochs_make_about_so_many_steps_of_eight(pictures, expected):
    assert steps(pictures) == pytest.approx(expected, rel=0.05)


def test_large_sets_have_the_epochs_of_coco_and_tiny_ones_do_not_go_on_for_ever():
    assert epochs_for(118_287) == LEAST_EPOCHS == 12
    assert epochs_for(1) == MOST_EPOCHS


@given(st.integers(1, 1000))
def test_auto_measures_about_ten_times_and_at_most_every_epoch(epochs):
    every = eval_every_for(epochs)
    count = sum(is_measured(epoch, epochs, every) for epoch in range(epochs))
    assert min(epochs, 7) <= count <= 1.5 * MEASUREMENTS
    assert is_measured(epochs - 1, epochs, every)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """As much of an experiment as has one."""

    epochs: int | str
    eval_every: int | str


@pytest.mark.parametrize(
    "asked, epochs, eval_every",
    [
        ((AUTO, AUTO), 48, 5),
        ((AUTO, 2), 48, 2),
        ((30, AUTO), 30, 3),
        ((30, 2), 30, 2),
    ],
)
def test_auto_schedule_is_resolved_where_it_is_asked_for(caplog, asked, epochs, eval_every):
    with caplog.at_level("INFO", "absl"):
        chosen = with_schedule(Schedule(*asked), 400)
    assert chosen == Schedule(epochs, eval_every)
    assert ("epochs: 48, for 400 pictures." in caplog.text) == (asked[0] == AUTO)
    assert ("eval_every: " in caplog.text) == (asked[1] == AUTO)
