import json
import math

import numpy as np
import pytest
from PIL import Image

from harmonic_tf.evaluation.reports.comparison import (
    comparison_table,
    verdict,
    write_comparison,
)
from harmonic_tf.evaluation.statistics.comparison import METRICS

NAN = [math.nan, math.nan]


def metric(difference, over_pictures, over_trainings=NAN, half_width=math.nan):
    side = {"values": [0.5], "mean": 0.5, "half_width": half_width}
    other = {"values": [0.5 + difference], "mean": 0.5 + difference, "half_width": math.nan}
    return {
        "a": side,
        "b": other,
        "difference": difference,
        "over_pictures": list(over_pictures),
        "over_trainings": list(over_trainings),
    }


@pytest.fixture
def result():
    metrics = {name: metric(0.02, (-0.01, 0.05)) for name in METRICS}
    metrics["AP"] = metric(0.0416, (0.01, 0.07), half_width=0.003)
    metrics["cost"] = metric(math.nan, NAN)
    return {"pictures": 12, "resamples": 1000, "seed": 0, "metrics": metrics}


@pytest.mark.parametrize(
    ("name", "entry", "expected"),
    [
        ("AP", metric(0.1, (0.05, 0.2)), "better"),
        ("AP", metric(-0.1, (-0.2, -0.05)), "worse"),
        ("mean_abs_gap", metric(0.1, (0.05, 0.2)), "worse"),
        ("cost", metric(-0.1, (-0.2, -0.05)), "better"),
        ("AP", metric(0.1, (-0.05, 0.2)), "open"),
        ("AP", metric(0.1, (0.05, 0.2), (-0.1, 0.3)), "open"),  # other trainings may turn it
        ("AP", metric(0.1, (0.05, 0.2), (0.01, 0.19)), "better"),
        ("AP", metric(0.0, (0.0, 0.0)), "open"),
        ("AP", metric(math.nan, NAN), "open"),
    ],
)
def test_a_verdict_needs_every_interval_away_from_0(name, entry, expected):
    assert verdict(name, entry) == expected


def test_table(result):
    lines = comparison_table(result).splitlines()
    assert len(lines) == 1 + len(METRICS)
    cells = [cell.strip() for cell in lines[1].split("  ") if cell.strip()]
    expected = ["AP", "0.500 ± 0.003", "0.542", "+0.042", "+0.010 to +0.070", "-", "better"]
    assert cells == expected
    assert lines[-1].split()[-5:] == ["-", "-", "-", "-", "open"]


def test_files(result, tmp_path):
    write_comparison(str(tmp_path), result, ["runs/a_0", "runs/a_1"], ["runs/b"], "voc:x test")
    found = json.loads((tmp_path / "comparison.json").read_text())
    assert found["a"] == ["runs/a_0", "runs/a_1"] and found["b"] == ["runs/b"]
    assert found["metrics"]["AP"]["difference"] == 0.0416
    assert found["metrics"]["cost"]["difference"] is None
    text = (tmp_path / "comparison.md").read_text()
    for words in (r"runs/a\_0", "voc:x test", "1,000 draws of 12 pictures", "comparison.png"):
        assert words in text
    for line in comparison_table(result).splitlines()[1:]:
        for cell in line.split("  ")[1:]:
            assert cell.strip() in text
    with Image.open(tmp_path / "comparison.png") as picture:
        assert np.asarray(picture).std() > 0
