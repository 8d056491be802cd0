"""Training: from an experiment and its data to checkpoints, on any number of devices and hosts."""

from __future__ import annotations

import sys

from absl import logging

from harmonic_tf.backend import keras, tf
from harmonic_tf.data.example import DetectionData
from harmonic_tf.data.pipeline.batches import pictures_of_batch, training_batches
from harmonic_tf.data.pipeline.cache import Cache, build_cache
from harmonic_tf.models import freeze, unfreeze
from harmonic_tf.training.building import build_model
from harmonic_tf.training.callbacks import (
    SaveLast,
    SaveState,
    StepTimes,
    StopEarly,
    StopWhenNotFinite,
    UpdateDetector,
    Validation,
)
from harmonic_tf.training.fine_tuning import start_from
from harmonic_tf.training.inference import prediction_function
from harmonic_tf.training.phases import begin, phases_left
from harmonic_tf.training.run_directory import RunDirectory
from harmonic_tf.training.settings import Experiment, SettingsError
from harmonic_tf.training.splits import Splits
from harmonic_tf.training.state import TrainingState, newest_state
from harmonic_tf.training.strategy import check_batch_size, is_chief
from harmonic_tf.training.tensorboard import FirstPictures, Positives, TensorBoard
from harmonic_tf.training.time_left import TimeLeft


def fit(
    experiment: Experiment, splits: Splits, run: RunDirectory, strategy: tf.distribute.Strategy
) -> None:
    """Trains, and leaves the checkpoints `last` and `best` in the run.

    `best` is the one with the highest AP on the validation split; without such a split it is the
    last. Where the experiment asks to resume, training goes on from the run's newest state, unless
    it had stopped early.

    Args:
        experiment: what to train, and how; with numbers where there may be `AUTO`.
        splits: the data.
        run: where logs, states and checkpoints go; only the chief's are kept.
        strategy: over which devices and hosts to spread.

    Raises:
        SettingsError: when the batch cannot be spread evenly, there is nothing to be patient by, or
            a state or checkpoint does not fit.
        NonFiniteError: when too many steps in a row are not finite.
    """
    check_patience(experiment)
    check_batch_size(strategy, experiment.batch_size, experiment.accumulation_steps)
    class_count, image_size = len(splits.train.class_names), experiment.data.image_size
    steps_per_epoch = -(-len(splits.train.annotations) // experiment.batch_size)
    sizes = experiment.data.train_sizes
    step = newest_state(run.states) if experiment.resume else 0
    phases = phases_left(experiment, steps_per_epoch, step)
    with strategy.scope():
        # Of several sizes the network learns with its input's sides left open.
        model = build_model(experiment.model, class_count, sizes[0] if len(sizes) == 1 else None)
        if experiment.model.start_from is not None:
            transfer = start_from(model, experiment.model.start_from, splits.train.class_names)
            logging.info("%s", transfer)
        frozen = freeze(model, phases[0].freeze)
        begin(model, phases[0], experiment, steps_per_epoch)
    chief = is_chief(strategy)
    state = TrainingState(run.states, model, experiment.keep_states, writes=chief)
    if step:
        state.restore(step)
        logging.info("Going on after step %d, epoch %d.", step, step // steps_per_epoch + 1)

    # The same network outside of the strategy: what is measured and saved for use.
    detector = build_model(experiment.model, class_count, image_size)
    callbacks = [UpdateDetector(detector)]
    if chief:
        callbacks += _chief_callbacks(experiment, splits, run, detector, state)
    stop_early = StopEarly(state, experiment.patience, strategy)
    callbacks += [
        stop_early,
        SaveState(state, experiment.save_every_steps),
        StopWhenNotFinite(
            experiment.max_skipped_steps,
            lambda step: _pictures_of_step(experiment, splits.train, step),
        ),
    ]
    if chief:
        callbacks.append(_time_left(experiment, splits, state, strategy, steps_per_epoch))
    cache = build_cache(splits.train, experiment.data.cache)
    if step and stop_early.is_over():
        logging.info("Training does not go on, it had stopped early: %s.", stop_early.reason())
    for phase in phases:
        if phase is not phases[0] and not stop_early.is_over():
            unfreeze(frozen)
            with strategy.scope():
                begin(model, phase, experiment, steps_per_epoch)
            state.follow(model)
        for first, last, steps in _spans(state.step, steps_per_epoch, phase.end):
            if stop_early.is_over():
                break
            model.fit(
                _distributed_batches(experiment, splits.train, cache, strategy, state.step),
                initial_epoch=first,
                epochs=last,
                steps_per_epoch=steps,
                callbacks=callbacks,
                verbose=1 if chief and sys.stdout.isatty() else 2 * chief,
            )
    if chief and splits.val is None:
        run.copy_checkpoint("last", "best")


def check_patience(experiment: Experiment) -> None:
    """Makes sure that training which may stop early has something to tell it by.

    Args:
        experiment: what to train.

    Raises:
        SettingsError: it has not.
    """
    if experiment.patience is not None and experiment.data.val_part is None:
        raise SettingsError(
            f"patience = {experiment.patience} goes by the AP on the validation split, and there "
            "is none. Give --val_split or --val_fraction too, or leave --patience out."
        )


def _chief_callbacks(
    experiment: Experiment,
    splits: Splits,
    run: RunDirectory,
    detector: keras.Model,
    state: TrainingState,
) -> list[keras.callbacks.Callback]:
    """What one process does for all between epochs."""
    image_size, batch_size = experiment.data.image_size, experiment.batch_size
    predict = prediction_function(detector)
    held_out = splits.val is not None
    board = TensorBoard(
        run.logs,
        Positives(detector, experiment.loss, splits.train, image_size, experiment.seed),
        FirstPictures(predict, splits.val if held_out else splits.train, image_size, batch_size),
        held_out,
    )
    callbacks: list[keras.callbacks.Callback] = [StepTimes(run, state), SaveLast(run, detector)]
    if held_out:
        callbacks.append(
            Validation(
                run,
                detector,
                predict,
                state,
                splits.val,
                image_size,
                batch_size,
                experiment.epochs,
                experiment.eval_every,
                board.log_curves,
            )
        )
    return [*callbacks, board]


def _time_left(
    experiment: Experiment,
    splits: Splits,
    state: TrainingState,
    strategy: tf.distribute.Strategy,
    steps_per_epoch: int,
) -> TimeLeft:
    """What says how long training takes."""
    measured = len(splits.val.annotations) if splits.val is not None else 0
    replicas = strategy.num_replicas_in_sync  # one of them measures
    return TimeLeft(
        state,
        experiment.epochs,
        steps_per_epoch,
        experiment.eval_every if splits.val is not None else None,
        measured_steps=measured * replicas / experiment.batch_size,
        at_most=experiment.patience is not None,
    )


def _pictures_of_step(experiment: Experiment, data: DetectionData, step: int) -> list[str]:
    """The picture files of a step's batch, as far as they are known here."""
    if experiment.data.service is not None:
        return ["not known here, as a tf.data service made the batch"]
    return pictures_of_batch(data, experiment.batch_size, experiment.seed, step)


def _spans(step: int, steps_per_epoch: int, epochs: int) -> list[tuple[int, int, int]]:
    """What is left of a training: (first epoch, epoch to stop before, steps per epoch)."""
    epoch, done = divmod(step, steps_per_epoch)
    spans = [(epoch + bool(done), epochs, steps_per_epoch)]
    if done:
        spans.insert(0, (epoch, epoch + 1, steps_per_epoch - done))
    return [span for span in spans if span[0] < span[1]]


def _distributed_batches(
    experiment: Experiment,
    data: DetectionData,
    cache: Cache | None,
    strategy: tf.distribute.Strategy,
    step: int,
) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """The batches from a step on: every host reads only what its own replicas take."""
    replicas = strategy.num_replicas_in_sync

    def batches_of_host(context: tf.distribute.InputContext) -> tf.data.Dataset:
        batches = training_batches(
            data,
            experiment.data.train_sizes,
            experiment.batch_size // replicas,
            experiment.seed,
            experiment.data.max_boxes,
            experiment.data.augmentation,
            start_batch=step * replicas,
            shard=(context.input_pipeline_id, context.num_input_pipelines),
            replicas=replicas,
            cache=cache,
            service=experiment.data.service,
        )
        # Said to be endless, batches keep their static shape on several hosts, which else ask each
        # other before every step whether there is one more.
        endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
        return batches.apply(endless)

    return strategy.distribute_datasets_from_function(batches_of_host)
