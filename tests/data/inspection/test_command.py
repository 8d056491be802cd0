"""`harmonic-tf inspect`: what it prints, writes and refuses."""

import json
import os

import pytest
from PIL import Image

FILES = ["classes.png", "inspection.md", "sheet.png", "sizes.png"]


@pytest.fixture
def run(tmp_path, capsys, run_command):
    def run(*arguments):
        out = tmp_path / "out"
        run_command("inspect", *arguments, f"--out_dir={out}")
        return capsys.readouterr().out, (out / "inspection.md").read_text(encoding="utf-8"), out

    return run


def test_problems_are_named_on_screen_and_in_the_report(voc, run):
    voc.write("p1", voc.element("cat", 2, 3, 11, 22), voc.element("dog", 7, 9, 7, 9))
    printed, report, out = run(f"voc:{voc.folder}")
    assert "2 pictures (trainval 2), 2 boxes, 2 classes" in printed
    assert "Problems: 1" in printed
    assert "p1.xml: object[1]/bndbox = xmin=7 ymin=9 xmax=7 ymax=9: box has no area" in printed
    assert r"| object\[1\]/bndbox |" in report
    assert "--anchor_sizes=32,64,128,256,512 --anchor_scales=1,1.26,1.587" in report
    assert sorted(os.listdir(out)) == FILES


def test_pictures_are_whole(voc, run):
    _, report, out = run(f"voc:{voc.folder}", "--image_size=64")
    for name in ("sheet.png", "sizes.png", "classes.png"):
        assert f"({name})" in report
        with Image.open(out / name) as picture:
            picture.load()
            assert picture.format == "PNG"
            # Two pictures of 320 px, with a gap between and a margin around; or ten inches.
            assert 640 < picture.width < 680 if name == "sheet.png" else picture.width == 1000


def test_it_can_be_run_again_in_the_same_folder(voc, run):
    first = run(f"voc:{voc.folder}")
    second = run(f"voc:{voc.folder}")
    assert first[1] == second[1]
    assert sorted(os.listdir(second[2])) == FILES


def test_many_odd_class_names(coco, run):
    names = ["a|b", "$x$", "собака", "犬", "[link](x)", "y" * 80]
    names += [f"class {i}" for i in range(len(names), 120)]
    coco.document["categories"] += [{"id": 100 + i, "name": n} for i, n in enumerate(names)]
    coco.document["annotations"] += [
        {"id": 50 + i, "image_id": 3, "category_id": 100 + i, "bbox": [i % 30, i % 20, 9, 9]}
        for i in range(len(names))
    ]
    coco.file.write_text(json.dumps(coco.document))
    printed, report, _ = run(f"coco:{coco.file}")
    assert "122 classes" in printed
    for shown in (r"| a\|b |", r"| \$x\$ |", "| 犬 |", r"| \[link\](x) |"):
        assert shown in report


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("model, converted", [("retinanet", False), ("yolov8_s", True)])
def test_nothing_but_crowd_regions(coco, run, run_command, tmp_path, model, converted):
    for row in coco.document["annotations"]:
        row["iscrowd"] = 1
    coco.file.write_text(json.dumps(coco.document))
    spec = f"coco:{coco.file}"
    if converted:
        run_command("convert", spec, f"--out_dir={tmp_path / 'records'}")
        spec = f"tfrecord:{tmp_path / 'records'}"
    printed, report, out = run(spec, f"--model={model}")
    assert "2 pictures" in printed and "0 boxes, 2 classes" in printed
    assert "3 crowd regions, 0 other objects: nothing to learn from" in printed
    assert "3 x crowd region: not trained on" in printed
    assert ("- of the boxes" if model == "yolov8_s" else "- of the boxes at IoU") in printed
    assert "| size, px of the picture | - | - | - | - | - | - | - |" in report
    assert "| boxes per picture | 0 | 0 | 0 | 0 | 0 | 0 | 0 |" in report
    assert sorted(os.listdir(out)) == FILES


def test_yolov8_has_cells(voc, run):
    voc.write("p1", voc.element("cat", 2, 3, 11, 22), voc.element("dog", 6, 10, 9, 11))
    printed, report, _ = run(f"voc:{voc.folder}", "--model=yolov8_s", "--image_size=64")
    assert "66.7 % of the boxes hold the centre of a cell (strides 8, 16, 32), 1 none" in printed
    assert "## Cells" in report and "## Anchors" not in report


def test_split_classes_and_anchors_can_be_chosen(voc, run):
    voc.split.with_name("val.txt").write_text("p2\n")
    printed, _, _ = run(
        *(f"--dataset=voc:{voc.folder}", "--split=val", "--classes=dog,cat", "--image_size=64"),
        *("--anchor_sizes=5,9,20,50,60", "--anchor_scales=1", "--anchor_ratios=1,2"),
        "--positive_iou=0.6",
    )
    assert "1 picture (val 1), 1 box, 2 classes" in printed
    assert "--anchor_sizes=5,9,20,50,60 --anchor_scales=1 --anchor_ratios=1,2" in printed
    assert "IoU \u2265 0.6" in printed
    assert "Classes in 10 pictures or fewer: dog, cat" in printed


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["voc:nowhere"], "no split is found"),
        (["voc:nowhere", "--split=val"], "is missing"),
        (["birds:x"], "no such kind"),
        (["voc:x", "--anchor_sizes=8,16"], "five numbers"),
        (["voc:x", "--anchor_scales=a"], "anchor_scales"),
        (["voc:x", "--anchor_ratios=0"], "positive"),
        (["voc:x", "--image_size=0"], "image_size"),
        (["voc:x", "--positive_iou=2"], "positive_iou"),
        (["voc:x", "--model=ssd"], "model"),
        ([], "One data set is needed"),
    ],
)
def test_what_cannot_be_read_is_said(arguments, words, tmp_path, capsys, run_command):
    with pytest.raises(SystemExit):
        run_command("inspect", *arguments, f"--out_dir={tmp_path / 'out'}")
    assert words in capsys.readouterr().err
    assert not os.listdir(tmp_path)
