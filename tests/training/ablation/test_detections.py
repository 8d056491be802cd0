"""What the detections of finished runs tell: draws of pictures, calibrated scores."""

import dataclasses
import json
import os
from types import SimpleNamespace

import numpy as np
import pytest

from harmonic_tf.data import sources
from harmonic_tf.data.example import DataError
from harmonic_tf.data.scenes.rendering import render
from harmonic_tf.evaluation import Detections, compare, evaluate
from harmonic_tf.training.ablation import detections as module
from harmonic_tf.training.ablation.detections import HeldOut, complete
from harmonic_tf.training.ablation.results import difference, read_result
from harmonic_tf.training.ablation.rows import BASELINE, ROWS
from harmonic_tf.training.ablation.runs import Run
from harmonic_tf.training.inference import ground_truth_of
from harmonic_tf.training.measuring import Validated, keep, measure_found

RESAMPLES = 50
SETTINGS = SimpleNamespace(test_split="test", val_part="val")


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    for seed, split in enumerate(("val", "test")):
        render(str(folder / split), 12, seed, (64, 64))
    names = sources.load(f"scenes:{folder}", "val").class_names
    return {split: sources.load(f"scenes:{folder}", split, names) for split in ("val", "test")}


@pytest.fixture
def held_out(splits, monkeypatch):
    """The splits; how often each was read is in `reads`."""
    held_out = HeldOut(SETTINGS)
    held_out.reads = []

    def load(settings, split, names):
        held_out.reads.append(split)
        assert names == list(splits[split].class_names)
        return splits[split]

    monkeypatch.setattr(module, "load_split", load)
    monkeypatch.setattr(module, "RESAMPLES", RESAMPLES)
    return held_out


def detected(data, seed):
    """Each object found, somewhat beside itself, with a score that is half its overlap; noise."""
    truth, random = ground_truth_of(data), np.random.default_rng(seed)
    count = len(truth.classes)
    shift = random.uniform(0, 6, (count, 1)).astype(np.float32)
    scores = 0.5 * (1 - shift[:, 0] / 8) + random.uniform(-0.1, 0.1, count)
    return Detections(
        image_index=truth.image_index,
        boxes=truth.boxes + shift,
        classes=np.where(random.uniform(size=count) < 0.1, 0, truth.classes),
        scores=scores.astype(np.float32),
    )


def seed_of(run, split):
    """Of what a run found."""
    return 100 * len(split) + 10 * len(run.row.name) + run.seed


def finished(tmp_path, splits, row, seed):
    """A run as `train` leaves it, but for its weights."""
    run = Run(row, seed, str(tmp_path / row.name / f"seed-{seed}"))
    on_val, on_test = (detected(splits[split], seed_of(run, split)) for split in ("val", "test"))
    val = Validated(splits["val"].name, ground_truth_of(splits["val"]), on_val)
    keep(run.files.evaluation("val"), measure_found(splits["val"], on_val))
    measured = measure_found(splits["test"], on_test, val)
    ranking = {"before_nms": {"cost": 0.25}, **measured.metrics["ranking"]}
    before_nms = {"suppression": {"a": 1}, "consistency_before_nms": {"b": 2}}
    metrics = {**measured.metrics, "ranking": ranking, **before_nms}
    keep(run.folder, dataclasses.replace(measured, metrics=metrics))
    run.files.write_class_names(splits["val"].class_names)
    return run


def test_intervals_over_pictures_are_those_of_a_comparison_of_the_detections(
    tmp_path, splits, held_out
):
    rows = (BASELINE, ROWS["unit"])
    runs = {row: [finished(tmp_path, splits, row, seed) for seed in (0, 1)] for row in rows}
    for run in runs[BASELINE] + runs[ROWS["unit"]]:
        complete(run, None, held_out)
    assert held_out.reads == ["test"]  # once
    results = [read_result(run) for row in rows for run in runs[row]]

    test = splits["test"]
    sides = [[detected(test, seed_of(run, "test")) for run in runs[row]] for row in rows]
    expected = compare(ground_truth_of(test), *sides, resamples=RESAMPLES)["metrics"]
    for name, metric in expected.items():
        found = difference(results, ROWS["unit"], name)
        assert found.over_seeds.mean == pytest.approx(metric["difference"], abs=1e-6)
        np.testing.assert_allclose(found.over_pictures, metric["over_pictures"], atol=1e-5)

    # What is missing of one run is missing of the difference.
    os.remove(runs[BASELINE][1].draws_file)
    results = [read_result(run) for row in rows for run in runs[row]]
    found = difference(results, ROWS["unit"], "AP")
    assert np.isnan(found.over_pictures).all() and found.over_seeds.count == 2


def test_a_calibrated_row_is_the_same_boxes_with_scores_calibrated_on_val(
    tmp_path, splits, held_out
):
    run = finished(tmp_path, splits, ROWS["unit"], 3)
    calibrated = Run(ROWS["unit_calibrated"], 3, str(tmp_path / "unit_calibrated" / "seed-3"))
    complete(run, calibrated, held_out)
    assert calibrated.finished
    raw, metrics = run.metrics(), calibrated.metrics()
    assert metrics["calibrated_by"] == {"method": "isotonic", "fitted_on": splits["val"].name}
    # Isotonic calibration keeps the order but for ties.
    assert metrics["coco"]["AP"] == pytest.approx(raw["coco"]["AP"], abs=0.02)
    assert metrics["ranking"]["AP_oracle"] == pytest.approx(raw["ranking"]["AP_oracle"], abs=1e-6)
    assert metrics["calibration"]["LaECE"] < raw["calibration"]["LaECE"] - 0.1
    assert metrics["before_calibration"]["LaECE"] == raw["calibration"]["LaECE"]
    assert metrics["ranking"]["before_nms"] == {"cost": 0.25}
    assert (metrics["suppression"], metrics["consistency_before_nms"]) == ({"a": 1}, {"b": 2})
    on_val = calibrated.metrics_on("val")
    expected = evaluate(
        ground_truth_of(splits["val"]), detected(splits["val"], seed_of(run, "val"))
    )
    assert on_val["before_calibration"]["LaECE"] == pytest.approx(
        expected["calibration"]["LaECE"], abs=1e-6
    )
    assert set(calibrated.draws()) == set(run.draws())

    # What is there stays.
    before = os.stat(calibrated.draws_file).st_mtime_ns
    complete(run, calibrated, held_out)
    assert os.stat(calibrated.draws_file).st_mtime_ns == before


def test_without_detections_nothing_is_read_or_measured(tmp_path, held_out):
    run = Run(ROWS["unit"], 0, str(tmp_path / "unit" / "seed-0"))
    os.makedirs(run.folder)
    with open(run.files.file("metrics.json"), "w") as file:
        json.dump({"coco": {"AP": 0.5}}, file)
    calibrated = Run(ROWS["unit_calibrated"], 0, str(tmp_path / "unit_calibrated" / "seed-0"))
    complete(run, calibrated, held_out)
    assert not calibrated.finished and held_out.reads == []
    assert read_result(run).draws == {}


def test_where_nothing_is_found_in_val_there_is_no_calibrated_run(
    tmp_path, splits, held_out, monkeypatch
):
    run = finished(tmp_path, splits, ROWS["unit"], 0)
    calibrated = Run(ROWS["unit_calibrated"], 0, str(tmp_path / "unit_calibrated" / "seed-0"))
    with open(os.path.join(run.files.evaluation("val"), "detections.json"), "w") as file:
        file.write("[]")
    complete(run, calibrated, held_out)
    assert not calibrated.finished and run.draws()


def test_data_that_is_not_there_is_the_callers_to_say(tmp_path, splits, held_out, monkeypatch):
    run = finished(tmp_path, splits, BASELINE, 0)

    def refuse(*_):
        raise DataError(SimpleNamespace(__str__=lambda self: "gone"))

    monkeypatch.setattr(module, "load_split", refuse)
    with pytest.raises(DataError):
        complete(run, None, held_out)
    assert not os.path.exists(run.draws_file)
