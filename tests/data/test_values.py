"""One rule for the values of all readers: what is unambiguous is read, all else is a problem."""

import decimal
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmonic_tf.data import checks
from harmonic_tf.data.example import DataError

NO_VALUES = (None, "", " ", "x", "1,5", "1 2", "0x1", "1_0", [1], {"a": 1}, (), b"1", 1j)
NO_NUMBERS = (*NO_VALUES, math.nan, math.inf, -math.inf, "NaN", "inf", "-Infinity", True, False)


def refused(read, value):
    with pytest.raises(DataError) as caught:
        read(value, "a.json", "images[3].id")
    problem = caught.value.problem
    assert (problem.file, problem.field) == ("a.json", "images[3].id")
    assert problem.value.removesuffix("...") in repr(value) and problem.remedy


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_no_number(value):
    refused(checks.number, value)
    refused(checks.whole, value)


@pytest.mark.parametrize("value", ("1.5", 1.5, 1e-300, "1e-3", np.float32(0.5)), ids=repr)
def test_no_whole_number(value):
    refused(checks.whole, value)


def test_numbers_beyond_floats():
    assert checks.whole(10**40, "f", "v") == checks.whole("1" + "0" * 40, "f", "v") == 10**40
    refused(checks.number, 10**400)


@pytest.mark.parametrize(
    ("value", "expected"),
    (
        *((1, 1), (1.0, 1), ("1", 1), (" 1.0 ", 1), ("-3", -3), (np.int64(7), 7), ("0", 0)),
        *((2**53 + 1, 2**53 + 1), (str(2**53 + 1), 2**53 + 1)),
        *(("007", "007"), ("1e3", "1e3"), ("2008_000008", "2008_000008"), ("1_0", "1_0")),
        *(("a.jpg", "a.jpg"), ("+1", "+1"), ("1.00", "1.00"), ("-0", "-0"), ("nan", "nan")),
    ),
    ids=repr,
)
def test_identifiers(value, expected):
    found = checks.identifier(value, "f", "v")
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    "value", (None, "", " ", 1.5, math.nan, math.inf, True, False, [1], {}, b"1"), ids=repr
)
def test_no_identifier(value):
    refused(checks.identifier, value)


@pytest.mark.parametrize(
    ("value", "expected"),
    (
        *((0, False), (0.0, False), ("0", False), ("0.0", False), (False, False)),
        *(("false", False), ("False", False), (" FALSE\n", False), (np.int64(0), False)),
        *((1, True), (1.0, True), ("1", True), ("1.0", True), (True, True), ("true", True)),
        *(("True", True), (np.float32(1), True), (np.int64(1), True)),
    ),
    ids=repr,
)
def test_flags(value, expected):
    assert checks.flag(value, "f", "v") is expected


@pytest.mark.parametrize(
    "value", (*NO_VALUES, 2, -1, 0.5, math.nan, "2", "no", "Unspecified", "truefalse"), ids=repr
)
def test_no_flag(value):
    refused(checks.flag, value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_the_same_as_text(value):
    for written in (value, repr(value), f" {value!r}\n"):
        assert checks.number(written, "f", "v") == value


@given(st.integers(-(2**53), 2**53))
def test_a_whole_number_is_the_same_however_it_is_written(value):
    for written in (value, str(value), float(value), f"{value}.0"):
        assert checks.whole(written, "f", "v") == value
        found = checks.identifier(written, "f", "v")
        assert found == value and isinstance(found, int)


@given(st.text())
def test_texts_that_are_equal_as_ids_write_the_same_number(text):
    try:
        found = checks.identifier(text, "f", "v")
    except DataError:
        assert not text.strip()
        return
    assert found == text.strip() or decimal.Decimal(text.strip()) == found
    assert checks.identifier(found, "f", "v") == found


@given(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary())
    | st.lists(st.integers())
)
def test_a_value_is_read_or_a_problem(value):
    for read in (checks.number, checks.whole, checks.identifier, checks.flag):
        try:
            found = read(value, "f", "v")
        except DataError as error:
            assert error.problem.field == "v"
        else:
            assert not isinstance(found, float) or math.isfinite(found)


@given(st.text())
def test_no_text_is_true_because_it_is_there(text):
    if text.strip().lower() not in ("1", "1.0", "true", "0", "0.0", "false"):
        refused(checks.flag, text)
