"""What was left out: counted per cause, listed, and never more than was allowed."""

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonic_tf.data import checks
from harmonic_tf.data.example import Annotation, DataError, DetectionData, Problem
from harmonic_tf.data.images.checking import check_pictures


def problem(cause, part="object", value="7"):
    return Problem("some.json", "rows[1]", value, cause, "Mend it", part)


def data_with(pictures, objects, skipped):
    """A data set of that many pictures, all objects in the first."""

    def annotation(count):
        none = np.zeros(count, bool)
        boxes, classes = np.ones([count, 4], np.float32), np.zeros(count, np.int32)
        return Annotation("a.jpg", 1, 9, 9, boxes, classes, none, none)

    counts = [objects] + [0] * (pictures - 1)
    return DetectionData("mine", ("cat",), [annotation(count) for count in counts], skipped)


def test_causes_are_counted_the_most_frequent_first():
    causes = ["no area", "outside", "no area", "no area", "outside", "no class"]
    found = checks.count_by_cause(map(problem, causes))
    assert found == {"no area": 3, "outside": 2, "no class": 1}
    assert list(found) == ["no area", "outside", "no class"]


@settings(deadline=None, max_examples=50)
@given(
    st.integers(1, 30),
    st.integers(0, 30),
    st.integers(0, 10),
    st.integers(0, 10),
    st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]),
)
def test_bad_fraction(pictures, objects, bad_pictures, bad_objects, most):
    """Neither of the pictures nor of the objects may more be bad, whatever the other."""
    skipped = [problem("empty", "picture")] * bad_pictures + [problem("no area")] * bad_objects
    data = data_with(pictures, objects, skipped)
    allowed = all(
        sum(np.arange(kept + bad) < bad) <= most * (kept + bad)
        for kept, bad in ((pictures, bad_pictures), (objects, bad_objects))
    )
    if allowed:
        checks.check_bad_fraction(data, most)
    else:
        with pytest.raises(DataError, match=f"more than max_bad_fraction = {most:g} of all"):
            checks.check_bad_fraction(data, most)


def test_too_much_is_told_by_cause():
    skipped = [problem("outside"), problem("no area"), problem("no area", value="0 x 0")]
    with pytest.raises(DataError) as caught:
        checks.check_bad_fraction(data_with(5, 7, skipped), 0.1)
    found = caught.value.problem
    assert (found.file, found.field) == ("mine", "bad objects")
    assert found.value == "3 of 10 (2 x no area; 1 x outside)"
    assert str(skipped[0]) in found.remedy


def test_what_a_problem_costs(coco):
    """A box, or a picture, also one that turns out to be bad only when it is decoded."""
    coco.document["annotations"][0]["bbox"] = [0, 0, 0, 0]
    coco.document["images"].append({**coco.document["images"][1], "id": 8, "width": 0})
    (coco.images / "a.jpg").write_bytes(b"")
    data = check_pictures(coco.read(on_bad_example="skip"), on_bad_example="skip")
    assert [p.part for p in data.skipped] == ["picture", "object", "picture"]


def test_listed_as_written(tmp_path):
    path = tmp_path / "skipped.csv"
    problems = [
        problem("no area", value='a "quoted", long\nvalue'),
        problem("leer, Größe 0", "picture"),
    ]
    checks.write_skipped(str(path), [])
    assert path.read_text().count("\n") == 1
    checks.write_skipped(str(path), problems)
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [
        Problem(r["file"], r["field"], r["value"], r["cause"], r["remedy"], r["left out"])
        for r in rows
    ] == problems
    assert [file.name for file in tmp_path.iterdir()] == ["skipped.csv"]


def test_the_list_is_whole_or_the_old_one(tmp_path):
    path = tmp_path / "skipped.csv"
    path.write_text("old")

    def broken():
        yield problem("no area")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        checks.write_skipped(str(path), broken())
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["skipped.csv"]


def test_causes_do_not_vary_with_what_they_are_about(voc):
    """Two files that cannot be read, for different reasons, count as one cause."""
    for image_id in ("p3", "p4", "p5"):
        voc.write(image_id, voc.element("cat", 1, 1, 9, 9), filename="p1.jpg")
    voc.split.write_text("p1\np2\np3\np4\n")
    (voc.annotations / "p3.xml").unlink()
    (voc.annotations / "p4.xml").unlink()
    (voc.annotations / "p4.xml").mkdir()
    data = voc.read(on_bad_example="skip")
    assert list(checks.count_by_cause(data.skipped).values()) == [2]


@pytest.mark.parametrize(
    ("said", "ends"),
    (("No entry.", "No entry."), ("no", "no."), ("why? ", "why?"), ("e.g.", "e.g.")),
)
def test_messages_that_quote_another_end_once(said, ends):
    """The message of a parser, say, or of another problem."""
    inner = Problem("a.json", "rows[1]", "7", said, said)
    assert str(inner) == f"a.json: rows[1] = 7: {ends} {ends}"
    outer = Problem("b.json", "all", "9", "many are bad", f"The first: {inner}")
    assert str(outer) == f"b.json: all = 9: many are bad. The first: {inner}"
