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
    write_report,
)
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


def test_metrics_are_strict_json(scene, ground_truth_of, tmp_path):
    truth, found = scene(12)
    path = tmp_path / "metrics.json"
    metrics = evaluate(truth, found)
    write_metrics(path, metrics)
    loaded = strict(path.read_text())
    assert list(loaded) == ["coco", "coco_per_class", "voc", "consistency", "counts"]
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
    for block in blocks[1:]:
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


def test_report(scene, tmp_path):
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / "report.md"
    write_report(
        path,
        title="Quickstart",
        metrics=evaluate(*scene(12)),
        settings={"learning_rate": "0.0005", "dataset": "scenes:data"},
        pictures=[tmp_path / "run" / "detections.png", tmp_path / "other pictures" / "x.png"],
        skipped=["a.xml: object[3]/bndbox = 1: no area. Mend it."],
        notes=["Trained for 2 epochs."],
    )
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# Quickstart\n\nTrained for 2 epochs.\n")
    assert "](detections.png)" in text and "](../other%20pictures/x.png)" in text
    assert "learning_rate = 0.0005\ndataset = scenes:data" in text
    assert "## Skipped examples (1)\n\n- a.xml: object" in text
    assert str(tmp_path) not in text
    for name in ("AP75", "ARs", "ring", "star", "comb", "Spearman correlation"):
        assert name in text
    assert os.listdir(tmp_path / "run") == ["report.md"]


def test_report_without_extras(scene, tmp_path):
    path = tmp_path / "report.md"
    write_report(path, "Nothing more", evaluate(*scene(12)), settings={})
    text = path.read_text(encoding="utf-8")
    for heading in ("Settings", "Skipped", "Pictures"):
        assert heading not in text
