"""How long to train and how often to measure, by the number of pictures."""

from __future__ import annotations

import dataclasses
import math

from absl import logging

from harmonic_tf.training.settings import AUTO, Experiment

LEAST_EPOCHS, MOST_EPOCHS = 12, 300
MEASUREMENTS = 10

# Of the square root of the number of pictures: how often a picture is shown, all in all.
_SHOWN = 960


def epochs_for(pictures: int) -> int:
    """How many epochs suit a training split.

    Few pictures have to be shown more often until the network has learned what they show, and
    give less to learn: neither as many epochs nor as many steps suit sets of all sizes. Steps that
    grow with the square root of the number of pictures lie between the two. With batches of 8,
    120 times that root is 1,200 steps for 100 pictures, 2,400 for 400 and 6,600 for 3,000, which
    are 96, 48 and 18 epochs. From 6,400 pictures on it is the 12 epochs that detectors are trained
    on COCO for. Another batch size changes the number of steps, not how often a picture is shown.

    Args:
        pictures: of the training split, > 0.

    Returns:
        Between `LEAST_EPOCHS` and `MOST_EPOCHS`; never more for more pictures.

    Source: a rule of thumb; 12 epochs of COCO are the "1x schedule" of arXiv 1811.08883.
    """
    return min(max(round(_SHOWN / math.sqrt(pictures)), LEAST_EPOCHS), MOST_EPOCHS)


def eval_every_for(epochs: int) -> int:
    """Epochs between measurements, so that there are about `MEASUREMENTS` of them.

    Args:
        epochs: length of the training, > 0.
    """
    return max(round(epochs / MEASUREMENTS), 1)


def is_measured(epoch: int, epochs: int, eval_every: int) -> bool:
    """Whether the validation split is measured at the end of an epoch: the last one always is.

    Args:
        epoch: from 0 on.
        epochs: length of the training.
        eval_every: epochs between measurements.
    """
    return (epoch + 1) % eval_every == 0 or epoch + 1 == epochs


def with_schedule(experiment: Experiment, pictures: int) -> Experiment:
    """The experiment with numbers where it leaves the schedule to the data; says which.

    Args:
        experiment: what to train.
        pictures: of the training split.
    """
    epochs, eval_every = experiment.epochs, experiment.eval_every
    if epochs == AUTO:
        epochs = epochs_for(pictures)
        logging.info("epochs: %d, for %d pictures.", epochs, pictures)
    if eval_every == AUTO:
        eval_every = eval_every_for(epochs)
        logging.info("eval_every: %d, for %d epochs.", eval_every, epochs)
    return dataclasses.replace(experiment, epochs=epochs, eval_every=eval_every)
