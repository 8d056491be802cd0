"""Whether what is trained on one stack works on the other: checkpoints and SavedModels, both ways.

python benchmarks/stacks.py --other=.venv-home/bin/python

Each of the two Pythons writes every detector, with its answers to some images; the other loads it
and answers again. Prints the largest differences; fails where one is above 1e-4.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from absl import app, flags

from harmonic_tf.anchors import AnchorGrid
from harmonic_tf.backend import keras, tf
from harmonic_tf.export import ServingSettings, export_model
from harmonic_tf.models import CATALOG, DetectionDecoder, build_backbone

_DETECTORS = flags.DEFINE_list(
    "detectors",
    [
        *(f"retinanet:{name}" for name in ("resnet18", "csp_darknet_tiny", "mobilenet_v3_small")),
        *("retinanet:efficientnet_v2_b0", "yolov8_xs:yolov8_xs"),
    ],
    "Detectors, each with its backbone.",
)
_OTHER = flags.DEFINE_string("other", None, "A Python where the other stack is installed.")
_WRITE = flags.DEFINE_string("write", None, "Write into this folder, and nothing else.")
_READ = flags.DEFINE_string("read", None, "Read what is in this folder, and nothing else.")

SIZE, CLASSES, MOST = 64, 3, 1e-4
NAMES = [f"class {number}" for number in range(CLASSES)]


def images() -> np.ndarray:
    """Two images of noise, [2, SIZE, SIZE, 3]."""
    return np.random.default_rng(0).uniform(0, 255, (2, SIZE, SIZE, 3)).astype(np.float32)


def of_checkpoint(model: keras.Model) -> dict[str, np.ndarray]:
    """The network's outputs for the images."""
    return {name: value.numpy() for name, value in model(images(), training=False).items()}


def of_saved_model(folder: str) -> dict[str, np.ndarray]:
    """The detections of the images."""
    signature = tf.saved_model.load(folder).signatures["predict_float_images"]
    answer = signature(images=tf.constant(images()))
    return {name: answer[name].numpy() for name in ("boxes", "scores", "classes")}


def write(folder: pathlib.Path) -> None:
    """Writes every detector with its answers."""
    for number, detector in enumerate(_DETECTORS.value):
        name, backbone = detector.split(":")
        keras.utils.set_random_seed(number)
        decoder = DetectionDecoder(score_threshold=0.0, max_detections=20)
        model = CATALOG[name].build(
            build_backbone(backbone, SIZE), CLASSES, decoder, anchors=AnchorGrid()
        )
        model.save(folder / f"{number}.keras")
        np.savez(folder / f"{number}.keras.npz", **of_checkpoint(model))
        version = export_model(model, NAMES, str(folder / f"{number}"), ServingSettings(SIZE))
        np.savez(folder / f"{number}.npz", **of_saved_model(version))


def read(folder: pathlib.Path) -> bool:
    """Prints how far the answers are from those that were written; whether all are near."""
    near = True
    for number, detector in enumerate(_DETECTORS.value):
        found = {
            "checkpoint": of_checkpoint(
                keras.models.load_model(folder / f"{number}.keras", compile=False)
            ),
            "SavedModel": of_saved_model(str(folder / f"{number}" / "1")),
        }
        for kind, file in (("checkpoint", f"{number}.keras.npz"), ("SavedModel", f"{number}.npz")):
            expected = np.load(folder / file)
            most = max(float(np.abs(found[kind][key] - expected[key]).max()) for key in expected)
            print(f"  {detector:32}{kind:12}{most:.1e}", flush=True)
            near &= most <= MOST
    return near


def main(_) -> None:
    """Both ways, or the half that another process asks for."""
    if _WRITE.value:
        write(pathlib.Path(_WRITE.value))
    elif _READ.value:
        sys.exit(not read(pathlib.Path(_READ.value)))
    else:
        pythons, failed = (sys.executable, _OTHER.value), False
        for writer, reader in (pythons, pythons[::-1]):
            with tempfile.TemporaryDirectory() as folder:
                print(f"{writer} writes, {reader} reads")
                detectors = f"--detectors={','.join(_DETECTORS.value)}"
                subprocess.run([writer, __file__, f"--write={folder}", detectors], check=True)
                done = subprocess.run([reader, __file__, f"--read={folder}", detectors])
                failed |= done.returncode != 0
        sys.exit(failed)


if __name__ == "__main__":
    app.run(main)
