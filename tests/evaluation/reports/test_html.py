"""The whole report: written once, then read by a parser and, where there is one, by a browser."""

import base64
import html.parser
import io
import json
import os
import pathlib
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from harmonic_tf.evaluation import evaluate, write_metrics, write_reports

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
NAMES = ["ring", "<script>alert(1)</script>", "a/b~c & \"d\" 'e' $f$"]
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(html.parser.HTMLParser):
    """What stands in a page; complains where an element is closed that is not the last opened."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.numbers, self.style = [], [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        assert len(dict(attributes)) == len(attributes), f"{tag} has an attribute twice"
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "data":
            self.numbers.append([dict(attributes), ""])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open and self.open[-1] == "data":
            self.numbers[-1][1] += text
        if self.open and self.open[-1] == "style":
            self.style += text

    def all(self, attribute):
        return [values[attribute] for _, values in self.elements if attribute in values]


def leaves(value, path=""):
    """All numbers of a JSON value by JSON pointer, RFC 6901."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{path}/" + key.replace("~", "~0").replace("/", "~1"))
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from leaves(item, f"{path}/{position}")
    elif not isinstance(value, str):
        yield path, value


def as_seen(value):
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def everything(metrics, rng):
    """The measured ones and any numbers for all that others measure."""

    def some(*names):
        return {name: rng.random() for name in names}

    ranks = ("AP", "AP_oracle", "cost")
    group = {"group": "0.5 to 1 <i>", "objects": 1234, **some(*ranks, "AP75", "mean_abs_gap")}
    return {
        **metrics,
        "consistency_before_nms": metrics["consistency"],
        "suppression": {
            "suppressed": 4321,
            "contested": 7,
            **some("better_suppressed", "iou_lost"),
        },
        "calibration": {
            **some("LaECE", "LaACE", "LRP", "LRP_loc", "LRP_fp", "LRP_fn"),
            "thresholds": {**some(*NAMES[1:]), NAMES[0]: float("nan")},
            "thresholds_from": "other detections",
        },
        "before_calibration": {
            **some("LaECE", "LaACE", "LRP", "LRP_loc", "LRP_fp", "LRP_fn", "AP", "AP50"),
            "thresholds": some(*NAMES),
            "thresholds_from": "other detections",
        },
        "calibrated_by": {"method": "isotonic", "fitted_on": "<val> & more"},
        "ranking": {
            **some(*ranks),
            "per_class": {name: some(*ranks) for name in NAMES},
            "by_size": {size: some(*ranks) for size in ("small", "medium", "large")},
            "before_nms": some(*ranks),
        },
        "groups": {"occlusion": [group, {**group, "AP": float("nan")}], "weather": [group]},
        "of tomorrow": {"numbers": [0.125, {"deep": -3}]},
    }


@pytest.fixture(scope="module")
def report(scene, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    truth, found = scene(12)
    truth.class_names[:] = NAMES
    rng = np.random.default_rng(0)
    metrics = everything(evaluate(truth, found), rng)
    write_metrics(folder / "metrics.json", metrics)
    files = write_reports(
        str(folder),
        title="Results of <run> & more",
        metrics=metrics,
        ground_truth=truth,
        detections=found,
        candidates=found,
        picture=lambda index: rng.integers(0, 255, (200, 300, 3), np.uint8),
        sheet_pictures=[0, 2],
        settings={"learning_rate": "0.0005 <&>"},
        skipped=["a.xml: object[3]/bndbox = 1: no area. Mend it."],
        notes=["Trained for 2 <epochs>."],
    )
    return folder, files


def check_numbers(page, folder):
    shown = {values["data-metric"]: (values["value"], text) for values, text in page.numbers}
    expected = dict(leaves(json.loads((folder / "metrics.json").read_text())))
    assert shown.keys() == expected.keys()
    for place, value in expected.items():
        assert json.loads(shown[place][0]) == value
        assert shown[place][1] == as_seen(value)


def test_files(report):
    folder, files = report
    assert sorted(os.listdir(folder)) == sorted(
        ["metrics.json", *(os.path.basename(file) for file in files)]
    )
    assert {"report.md", "report.html", "detections.png", "score_iou_before_nms.png"} <= set(
        os.listdir(folder)
    )


def test_html_is_well_formed_and_holds_every_number(report):
    folder, _ = report
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert text.startswith('<!DOCTYPE html>\n<html lang="en">')
    page = Page(text)
    check_numbers(page, folder)
    ids = page.all("id")
    assert len(set(ids)) == len(ids)
    targets = [target[1:] for target in page.all("href") if target.startswith("#")]
    assert len(targets) > 10
    assert {*targets, *page.all("aria-labelledby")} <= set(ids)
    for words in (
        "Results of &lt;run&gt; &amp; more",
        "Trained for 2 &lt;epochs&gt;.",
        "0005 &lt;",
    ):
        assert words in text


def test_html_needs_nothing_else(report):
    folder, files = report
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    assert not {"script", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.elements}
    assert not [name for _, values in page.elements for name in values if name.startswith("on")]
    assert all(target.startswith("#") or target == "data:," for target in page.all("href"))
    assert not any(word in page.style for word in ("url(", "@import", "http"))
    pictures = [values for tag, values in page.elements if tag == "img"]
    assert len(pictures) == sum(file.endswith(".png") for file in files) == len(page.all("src"))
    for values in pictures:
        kind, _, content = values["src"].partition(",")
        assert kind == "data:image/png;base64" and len(values["alt"]) > 10
        with Image.open(io.BytesIO(base64.b64decode(content, validate=True))) as picture:
            assert picture.size == (int(values["width"]), int(values["height"]))


def test_markdown_holds_every_number_and_refers_to_the_pictures(report):
    folder, files = report
    text = (folder / "report.md").read_text(encoding="utf-8")
    words = set(text.replace("|", " ").split())
    for _, value in leaves(json.loads((folder / "metrics.json").read_text())):
        assert as_seen(value) in words
    for file in files:
        if file.endswith(".png"):
            assert f"]({os.path.basename(file)})" in text
    assert "learning_rate = 0.0005" in text and "## Skipped examples (1)" in text


def browse(url, tmp_path):
    """The page as the browser has it, and what it says on its console."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command = [BROWSER, *options, f"--user-data-dir={tmp_path}/profile", "--dump-dom", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on PATH to open the report with")
def test_html_opens_in_a_browser(report, tmp_path):
    folder, _ = report
    text, console = browse((folder / "report.html").as_uri(), tmp_path)
    assert console == []
    check_numbers(Page(text), folder)

    # What would be heard of a page that does ask for something, under the same policy.
    outside = '<img src="http://127.0.0.1:9/x.png"></body>'
    bad = pathlib.Path(tmp_path, "bad.html")
    page = (folder / "report.html").read_text(encoding="utf-8")
    bad.write_text(page.replace("</body>", outside), encoding="utf-8")
    assert len(browse(bad.as_uri(), tmp_path)[1]) == 1


def test_of_nothing_there_is_a_report_too(ground_truth_of, detections_of, tmp_path):
    files = write_reports(
        str(tmp_path),
        "Nothing",
        metrics={"coco": {"AP": float("nan")}},
        ground_truth=ground_truth_of([]),
        detections=detections_of([]),
        candidates=None,
        picture=lambda index: pytest.fail("no picture is needed"),
        sheet_pictures=[],
        settings={},
    )
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert [(values["value"], seen) for values, seen in page.numbers] == [("null", "-")] * 2
    for heading in ("Settings", "Skipped", "Pictures", "Where it matters"):
        assert heading not in text
    assert not [file for file in files if "worst" in file or "groups" in file]
