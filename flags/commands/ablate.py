"""Trains a detector with every part of the loss in and out, over several seeds.

harmonic-tf ablate --preset=quickstart --seeds=0,1,2

Each row is a loss; each row is trained once per seed:

  baseline          the detector's own loss
  uncoupled         Harmonic IoU alone: the full box loss, no coupling
  harmonic          + Harmonic: classification and localization loss weigh each other
  task_contrasting  + Harmonic + task-contrasting
  iou               + Harmonic + IoU loss
  hiou              + Harmonic + Harmonic IoU loss
  full              Harmonic, task-contrasting and Harmonic IoU: what train does by default

and, where --rows names them, other forms of the coupling and other losses for the same aim:

  paper             full, coupled by the paper's formula
  unit              full, coupled on one scale
  unit_calibrated   the runs of unit, measured with scores calibrated on the validation split
  qfl               the baseline with the quality focal loss: scores learn the IoU
  vfl               the baseline with the varifocal loss: the same, weighed by it
  correlation       the baseline + 1 - the concordance of scores and IoUs
  carl              the baseline, box losses weighed by the score (CARL)
  iou_balanced      the baseline, losses of positives weighed by the IoU
  consistent        the baseline + the labels of regressed boxes (RetinaNet)

RetinaNet's own box loss is smooth L1, of weight 1 in the baseline and of --smooth_l1_weight in the
other rows, where the overlap losses are added to it. YOLOv8's own is CIoU (weight 15): baseline,
harmonic and task_contrasting keep it. In the others an overlap loss takes its place: coupled as in
the paper with the paper's weights (smooth L1 + 1.5 of it), else of the weight 15 as well.

All rows get their first seed, then all their second: whenever it stops, the table is balanced. A
command that was stopped goes on where it was when it is started again; rows and seeds can be added
that way. What it leaves in --out_dir, written anew after every run:

  ablation.html        one page, to read and to look at: means and 95% intervals, differences to the
                       baseline over seeds and over pictures, kinds of objects, validation, time
  ablation.md          the same, with ablation.png and differences.png
  ablation.csv         one line per run: row, seed, all metrics, seconds
  ROW/seed-N/          the run, as train leaves it, and bootstrap.npz, what it comes to on 1,000
                       draws of the test pictures
  ROW/seed-N.log       what it printed; ROW/seed-N.seconds how long it took
  flags.txt            what all runs were given: an ablation has one such set
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from absl import flags
from absl.testing import flagsaver

from harmonic_tf.shell import command
from harmonic_tf.training.ablation.ablate import ablate, summary
from harmonic_tf.training.ablation.pace import in_words
from harmonic_tf.training.ablation.rows import ABLATION, ROWS, Row
from harmonic_tf.training.calibrating import reason_against
from harmonic_tf.training.fitting import check_patience
from harmonic_tf.training.settings import AUTO, DataSettings, SettingsError

from .. import common, loss, model
from .. import experiment as experiments
from ..running import Command, UsageError, flags_of

_ROWS = flags.DEFINE_list(
    "rows", [row.name for row in ABLATION], f"Losses, out of {', '.join(ROWS)}."
)
_LIST_ROWS = flags.DEFINE_bool("list_rows", False, "Print the losses with their flags, and end.")
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of each row.")
_HOURS = flags.DEFINE_float(
    "hours",
    None,
    "Time budget: no run is begun that would end later, as runs before it took; what is begun is "
    "finished. The same command goes on with what is left. By default there is no end.",
    lower_bound=0,
)

# What the ablation sets for each run.
_OF_EACH_RUN = ("run_dir", "seed", "resume", "overwrite", "export_dir")
_TRAIN = (sys.executable, "-m", __package__.partition(".")[0], "train")


def main() -> None:
    """Trains, says how far it is, and prints the table."""
    if _LIST_ROWS.value:
        for row in ROWS.values():
            print(f"{row.name:18}{row.label}\n{'':18}{' '.join(row.flags(flags.FLAGS.model))}")
        return
    if unknown := [name for name in _ROWS.value if name not in ROWS]:
        raise UsageError(f"--rows: {unknown[0]!r} is none of {', '.join(ROWS)}.")
    if not all(seed.isdigit() for seed in _SEEDS.value):
        raise UsageError("--seeds must be whole numbers, comma-separated, such as 0,1,2.")
    rows = [row for row in ROWS.values() if row.name in _ROWS.value]
    experiment = experiments.experiment()
    check_patience(experiment)
    for row in rows:
        _check(row, rows, experiment.data)
    if experiment.batch_size == AUTO:
        raise UsageError("--batch_size=auto may differ from run to run: give a number.")
    folder = common.OUT_DIR.value or os.path.join("runs", "ablation")
    # Ended by `kill`, it takes its children with it, as it does when interrupted.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ablate: ended; start it again to go on."))
    try:
        outcome = ablate(
            experiments.given(but=_OF_EACH_RUN),
            rows,
            list(dict.fromkeys(map(int, _SEEDS.value))),
            folder,
            flags.FLAGS.model,
            experiment.data,
            _TRAIN,
            common.PROCESSES.value or 1,
            _HOURS.value,
            lambda line: print(line, flush=True),
        )
    except KeyboardInterrupt:
        sys.exit("ablate: interrupted; start it again to go on.")
    print(f"\n{summary(folder)}\n\nIn {folder}: ablation.html, ablation.md, .csv and .png")
    if outcome.left:
        time_left = in_words(outcome.seconds_left)
        print(
            f"\nThe time is up: {len(outcome.left)} runs are left, {time_left} as it looks. The "
            f"same command goes on:\n  {command(*sys.argv[1:])}"
        )
    if outcome.failed:
        names = "; ".join(run.name for run in outcome.failed)
        raise SettingsError(
            f"{len(outcome.failed)} runs failed ({names}). Start it again to go on."
        )


def _check(row: Row, rows: Sequence[Row], data: DataSettings) -> None:
    """Makes sure that a row can be trained, with its flags in the place of what is given.

    Raises:
        UsageError: it cannot.
    """
    if row.calibrates and ROWS[row.calibrates] not in rows:
        raise UsageError(
            f"--rows={row.name} measures the runs of {row.calibrates}: name that row too."
        )
    if row.calibrates and (reason := reason_against(data)):
        raise UsageError(f"--rows={row.name}: scores cannot be calibrated: {reason}.")
    if row.calibrates and flags.FLAGS["calibration"].present:
        raise UsageError(f"--rows={row.name} calibrates raw scores: leave --calibration out.")
    saved = flagsaver.save_flag_values()
    try:
        flags.FLAGS(["train", *row.flags(flags.FLAGS.model)])
        loss.build(model.settings())
    except (flags.Error, ValueError) as error:
        remedy = f"Leave {row.name} out of --rows, or change what it cannot be trained with."
        raise UsageError(f"--rows={row.name}: {error} {remedy}") from error
    finally:
        flagsaver.restore_flag_values(saved)


COMMAND = Command(
    main,
    [
        *("rows", "list_rows", "seeds", "hours", "processes", "out_dir"),
        *(name for name in flags_of(*experiments.AREAS) if name not in _OF_EACH_RUN),
    ],
)
