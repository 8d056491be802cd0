"""Whether --precision=auto picks what trains fastest: whole train steps, in every precision.

python benchmarks/precision.py

For each detector: seconds of a train step in float32 and in the other precisions, all taking turns,
as ratios to float32; what the sample convolutions say that `auto` decides by; and the ratio of its
choice, which must not be above 1 by more than noise. Prints one table; writes JSON beside it when
--json names a file.
"""

from __future__ import annotations

from absl import app, flags
from timing import time_in_turns

from harmonic_tf.anchors import AnchorGrid
from harmonic_tf.backend import keras, tf
from harmonic_tf.evaluation import write_metrics
from harmonic_tf.models import CATALOG, DetectionDecoder, build_backbone
from harmonic_tf.training import precision

_DETECTORS = flags.DEFINE_list(
    "detectors",
    ["retinanet:csp_darknet_tiny", "retinanet:resnet18", "yolov8_xs:yolov8_xs"],
    "Detectors, each with its backbone.",
)
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 128, "Side of the images, pixels.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "Images per step.")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Turns that each takes.")
_JSON = flags.DEFINE_string("json", None, "File to write the numbers to.")

CLASSES = 6


def make_batch(size: int, count: int):
    """Images of noise with three boxes each."""
    images = tf.random.stateless_uniform((count, size, size, 3), seed=(0, 1), maxval=255.0)
    corners = tf.random.stateless_uniform((count, 3, 2), seed=(0, 2), maxval=size / 2)
    sides = tf.random.stateless_uniform((count, 3, 2), (0, 3), size / 8, size / 2)
    classes = tf.random.stateless_uniform((count, 3), (0, 4), 0, CLASSES, tf.int32)
    boxes = tf.concat([corners, corners + sides], -1)
    return images, {"boxes": boxes, "classes": tf.cast(classes, tf.float32)}


def train_step(detector: str, policy: str, batch):
    """A train step as `train` makes it, that has run once."""
    name, backbone = detector.split(":")
    keras.mixed_precision.set_global_policy(policy)
    network = build_backbone(backbone, _IMAGE_SIZE.value)
    model = CATALOG[name].build(network, CLASSES, DetectionDecoder(), anchors=AnchorGrid())
    optimizer = keras.optimizers.SGD(1e-3)
    if policy == "mixed_float16":
        optimizer = keras.mixed_precision.LossScaleOptimizer(optimizer)
    model.compile(optimizer)
    keras.mixed_precision.set_global_policy("float32")
    step = tf.function(model.train_step)
    step(batch)
    return lambda: step(batch)["loss"]


def _row(name: str, seconds: dict[str, float], chosen: str) -> dict[str, float]:
    """Prints a row of the table, and gives its numbers."""
    ratios = {policy: value / seconds["float32"] for policy, value in seconds.items()}
    cells = [f"{seconds['float32'] * 1e3:.1f} ms"]
    cells += [f"x {ratio:.2f}" for policy, ratio in ratios.items() if policy != "float32"]
    cells.append(f"{ratios[chosen]:.2f}")
    print(f"{name:<28}{''.join(f'{cell:>18}' for cell in cells)}", flush=True)
    return {**ratios, "auto": ratios[chosen], "float32_seconds": seconds["float32"]}


def main(_: list[str]) -> None:
    """Measures all, and prints one table, row by row."""
    sample = precision.measure()
    chosen = precision.fastest(sample)
    columns = [*(policy for policy in sample), "auto / float32"]
    print(f"auto picks {chosen}\n\n{'':<28}{''.join(f'{column:>18}' for column in columns)}")
    table = {"sample convolutions": _row("sample convolutions", sample, chosen)}
    batch = make_batch(_IMAGE_SIZE.value, _BATCH_SIZE.value)
    for detector in _DETECTORS.value:
        steps = {policy: train_step(detector, policy, batch) for policy in sample}
        table[detector] = _row(detector, time_in_turns(steps, _ROUNDS.value), chosen)
    if _JSON.value:
        write_metrics(_JSON.value, {"auto": chosen, "ratios": table})


if __name__ == "__main__":
    app.run(main)
