"""Flags that several commands share."""

from __future__ import annotations

from absl import flags, logging

from harmonic_tf.evaluation import Calibration
from harmonic_tf.training.run_directory import RunDirectory

RUN = flags.DEFINE_string(
    "run",
    None,
    "Folder of a training run. Its flags are taken over; those given here win. For demo also "
    "several, comma-separated.",
)
CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    "best",
    "Checkpoint of the run, best or last; a .keras file; or, to measure it, the folder of an "
    "exported version.",
)
CALIBRATED = flags.DEFINE_bool(
    "calibrated",
    True,
    "Calibrate the scores of the run's best checkpoint, where the run has a calibration.",
)
SPLIT = flags.DEFINE_list(
    "split",
    None,
    "Part of the data set; several, comma-separated, where a command takes several. By default all "
    "that there are, and what evaluate measures is the run's --test_split.",
)
OUT_DIR = flags.DEFINE_string(
    "out_dir",
    None,
    "Folder that takes what is written, made if missing. By default inspection for inspect, "
    "runs/ablation for ablate, RUN/evaluation/SPLIT or runs/comparison for evaluate; convert needs "
    "one, and ask draws into it where it is given.",
)
PROCESSES = flags.DEFINE_integer(
    "processes",
    None,
    "Processes side by side: by default as many as are worth starting for convert, 1 for ablate.",
    lower_bound=1,
)
PORT = flags.DEFINE_integer(
    "port",
    None,
    "Where the server listens; 0 takes a free one. By default 8765 for demo, a free one for "
    "data_service.",
    0,
    65535,
)
MODEL_VERSION = flags.DEFINE_integer(
    "model_version",
    None,
    "Version of a served model: by default the one after the highest for export, the one that the "
    "server chooses for ask.",
    lower_bound=1,
)


def calibration(nms: str) -> Calibration | None:
    """The calibration of --run that goes with --checkpoint; None where none does or is to.

    Args:
        nms: what the scores come out of; others than those of the run were not calibrated.

    Raises:
        CalibrationError: its file is damaged.
    """
    if RUN.value is None or not CALIBRATED.value:
        return None
    run = RunDirectory(RUN.value)
    found = run.calibration()
    if found is None:
        return None
    if CHECKPOINT.value != "best":
        logging.info("The calibration of the run is that of its best checkpoint: not used.")
        return None
    if nms != (of_run := run.settings().get("nms")):
        logging.info("The calibration is of scores after --nms=%s: not used after %s.", of_run, nms)
        return None
    return found
