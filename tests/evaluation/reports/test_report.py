import json
import os
import pathlib

import numpy as np
import pytest

from harmonic_tf.evaluation import (
    coco_evaluation,
    consistency,
    evaluate,
    results_table,
    voc_map,
    write_metrics,
)
from harmonic_tf.evaluation.reports.document import (
    Document,
    Items,
    Lines,
    Number,
    Picture,
    Pictures,
    Section,
    pointer,
)
from harmonic_tf.evaluation.reports.markdown import markdown
from harmonic_tf.evaluation.reports.sections import report_sections
from harmonic_tf.files import replacing
from harmonic_tf.tables import markdown_table, text_table


def strict(text):
    def refuse(constant):
        raise AssertionError(constant)

    return json.loads(text, parse_constant=refuse)


def test_evaluate_is_all_of_them(scene):
    truth, found = scene(12)
    metrics = evaluate(truth, found)
    overall, per_class = coco_evaluation(truth, found)
    np.testing.assert_equal(metrics["coco"], overall)
    np.testing.assert_equal(metrics["coco_per_class"], per_class)
    np.testing.assert_equal(metrics["voc"], voc_map(truth, found))
    np.testing.assert_equal(metrics["consistency"], consistency(truth, found))
    assert metrics["counts"] == {
        "pictures": 4,
        "objects": len(truth.classes),
        "difficult": truth.difficult.sum(),
        "crowd": truth.crowd.sum(),
        "detections": len(found.scores),
    }


def test_candidates_that_nms_leaves_as_they_are(scene):
    truth, found = scene(12)
    thresholds = np.full(len(truth.class_names), 0.25)
    metrics = evaluate(truth, found, thresholds, candidates=found, nms_iou=1.0)
    assert metrics["suppression"]["suppressed"] == 0
    np.testing.assert_equal(metrics["consistency_before_nms"], metrics["consistency"])
    ranking = metrics["ranking"]
    np.testing.assert_equal(
        ranking["before_nms"], {key: ranking[key] for key in ranking["before_nms"]}
    )
    assert set(metrics["calibration"]["thresholds"].values()) == {0.25}
    alone = evaluate(truth, found)
    assert set(metrics) - set(alone) == {"consistency_before_nms", "suppression"}
    assert "before_nms" not in alone["ranking"]


def test_metrics_are_strict_json(scene, ground_truth_of, tmp_path):
    truth, found = scene(12)
    path = tmp_path / "metrics.json"
    metrics = evaluate(truth, found)
    write_metrics(path, metrics)
    loaded = strict(path.read_text())
    assert list(loaded) == list(metrics)
    assert loaded["voc"]["VOC07"] == metrics["voc"]["VOC07"]

    empty = ground_truth_of([], truth.image_ids, truth.class_names)
    write_metrics(path, {**evaluate(empty, found), "more": [np.float32("nan"), np.int64(3)]})
    loaded = strict(path.read_text())
    assert set(loaded["coco"].values()) == {None}
    assert loaded["more"] == [None, 3]
    assert os.listdir(tmp_path) == ["metrics.json"]
    with pytest.raises(ValueError):
        write_metrics(path, {"a": float("inf")})


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "report.md"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(str(path)) as temporary:
        pathlib.Path(temporary).write_text("half of the n")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.md"]


def test_results_table_is_aligned_and_complete(scene):
    metrics = evaluate(*scene(12))
    blocks = results_table(metrics).split("\n\n")
    for block in blocks:
        assert len({len(line) for line in block.splitlines()[-2:]}) == 1
    words = results_table(metrics).split()
    for name in metrics["coco"]:
        assert name in words
    for value in [*metrics["coco"].values(), metrics["voc"]["VOC07"], metrics["voc"]["VOC10"]]:
        assert ("-" if np.isnan(value) else f"{value:.3f}") in words
    for name in ("mean_abs_gap", "pearson", "spearman", "confident_misplaced"):
        assert f"{metrics['consistency'][name]:.3f}" in words
    for name in metrics["coco_per_class"]:
        assert name in words


def test_tables():
    rows = [["a|b", "1"], ["c", "20"]]
    assert text_table(["name", "n"], rows) == "name   n\na|b    1\nc     20"
    assert markdown_table(["name", "n"], rows).splitlines() == [
        "| name | n |",
        "| :-- | --: |",
        "| a\\|b | 1 |",
        "| c | 20 |",
    ]


def test_a_number_looks_the_same_everywhere():
    shown = {0.12345: "0.123", 1234: "1,234", 2.0: "2.000", np.int64(7): "7", None: "-"}
    for value, text in shown.items():
        assert str(Number("/x", value)) == text
    assert str(Number("/x", float("nan"))) == "-"
    assert [Number("/x", value).exact for value in (0.1, 3, None, np.float32("nan"))] == [
        *("0.1", "3", "null", "null")
    ]
    assert pointer(("a/b", 0, "~c")) == "/a~1b/0/~0c"


def test_each_number_stands_in_some_section():
    metrics = {
        "coco": {"AP": 0.5, "unheard of": 0.25},
        "groups": {"weather": [{"group": "rain", "AP": 0.1, "drops": 3}]},
        "later": [{"x": 1.5}, None],
    }
    sections = {section.key: section for section in report_sections(metrics)}
    assert list(sections) == ["summary", "accuracy", "groups", "further"]
    (others,) = sections["further"].blocks
    assert [row[0] for row in others.rows] == [
        "/coco/unheard of",
        "/groups/weather/0/drops",
        "/later/0/x",
        "/later/1",
    ]
    (groups, _) = sections["groups"].blocks
    assert (groups.title, list(groups.header)) == ("weather", ["weather", "AP"])
    assert report_sections({}) == []


def test_markdown(scene, tmp_path):
    figures = {"worst": [Pictures([Picture(str(tmp_path / "my crops" / "x.png"), "a_b", "Look.")])]}
    sections = report_sections(evaluate(*scene(12)), figures)
    sections.append(Section("settings", "Settings", [Lines(["rate = 0.5", "data = x"])]))
    sections.append(Section("skipped", "Skipped", [Items(["a.xml: <object> is no box"])]))
    text = markdown(Document("Quick*start", ["Trained for 2 epochs."], sections), tmp_path)
    assert text.startswith("# Quick\\*start\n\nTrained for 2 epochs.\n\n## Summary\n")
    assert "![a\\_b](my%20crops/x.png)\n\nLook." in text
    assert "```text\nrate = 0.5\ndata = x\n```" in text
    assert "- a.xml: \\<object\\> is no box" in text
    assert str(tmp_path) not in text
    for name in ("AP75", "ARs", "ring", "star", "comb", "Spearman correlation"):
        assert name in text
