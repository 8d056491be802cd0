"""Trains a detector, measures it on held-out pictures and writes the report.

python train.py --flagfile=flags/presets/quickstart.cfg --run_dir=runs/quickstart
"""

from __future__ import annotations

from absl import logging

import flags
from harmonic_tf.backend import keras
from harmonic_tf.evaluation import results_table
from harmonic_tf.training.experiment import fit, load_splits, measure, report
from harmonic_tf.training.precision import set_precision
from harmonic_tf.training.run_directory import RunDirectory

NEXT_STEPS = """
What to try next
  other pictures   python train.py --flagfile=flags/presets/retinanet_voc.cfg --dataset=voc:PATH
  the baseline     python train.py --flagfile={run}/flags.cfg --noharmonic --notask_contrasting \\
                     --iou_loss=none --run_dir={run}-baseline
  another split    python evaluate.py --run={run} --split=train
  all flags        python train.py --help
"""


def main() -> None:
    """Checks everything, trains, measures, reports."""
    logging.set_verbosity(logging.INFO)
    experiment = flags.experiment()
    keras.utils.set_random_seed(experiment.seed)
    precision = set_precision(experiment.precision)
    logging.info("Precision: %s.", precision)

    run = RunDirectory(experiment.run_dir)
    run.create(experiment.overwrite)
    splits = load_splits(experiment.data)
    run.write_text("flags.cfg", flags.flagfile())
    run.write_version(precision)
    run.write_class_names(splits.train.class_names)

    model = fit(experiment, splits, run)

    metrics, truth, found = measure(
        model, splits.test, experiment.data.image_size, experiment.batch_size
    )
    skipped = [
        f"{split.name}: {problem}"
        for split in (splits.train, splits.val, splits.test)
        if split is not None
        for problem in split.skipped
    ]
    report(
        run,
        splits.test,
        metrics,
        truth,
        found,
        flags.resolved(),
        skipped,
        experiment.sheet_pictures,
    )
    print(f"\nResults on {splits.test.name}\n\n{results_table(metrics)}\n\nIn {run.path}")
    for name, place in run.describe().items():
        print(f"  {name:<12}{place}")
    print(NEXT_STEPS.format(run=run.path))


if __name__ == "__main__":
    flags.run(main, __doc__)
