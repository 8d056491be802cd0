"""What an experiment is: every choice, by area, as plain values."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from harmonic_tf.anchors import AnchorGrid
from harmonic_tf.data.partition import VAL, Cut
from harmonic_tf.data.pipeline.augmentation import Augmentation
from harmonic_tf.losses import HarmonicLoss
from harmonic_tf.models import CATALOG

# The detectors by name; YOLOv8 by size.
MODELS = tuple(CATALOG)

# What of `FREEZE_CHOICES` keeps layers from being trained that are no part of a backbone.
_MORE_THAN_BACKBONE = ("all_but_heads", "all_but_last")

AUTO = "auto"
"""In place of a number: it is chosen by the data and the machine, see `training.schedule` and
`training.batch_size`."""


class SettingsError(ValueError):
    """Choices that do not fit each other, the machine or the run; the text says what to change."""


@dataclasses.dataclass(frozen=True)
class SceneSettings:
    """How many scenes to render where `scenes:PATH` holds none yet.

    Args:
        counts: pictures per split, by split name.
        size: side of the square pictures, pixels.
        seed: seed of the first split; further splits take the next ones.
    """

    counts: dict[str, int]
    size: int
    seed: int


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """What to train and measure on.

    Args:
        dataset: a path or `"KIND:PATH"`, see `harmonic_tf.data.sources.load`.
        train_split: split to train on.
        val_split: split that chooses the best checkpoint, or None to keep the last.
        test_split: split that is reported.
        class_names: index by name; None takes the classes of the training split.
        image_size: side of the model's square input, pixels.
        train_sizes: sides of the training pictures, pixels: each batch has one of them.
        max_boxes: room for objects per picture.
        augmentation: how pictures are varied in training; None leaves them as they are.
        cache: where decoded training pictures are kept, see
            `harmonic_tf.data.pipeline.cache.build_cache`.
        service: `"HOST:PORT"` of a tf.data service that makes the training batches, or None.
        on_bad_example: `"error"` or `"skip"`.
        max_bad_fraction: most of the pictures or of the objects that may be skipped, in [0, 1].
        max_pixels: most pixels of a picture.
        on_truncated: `"error"` or `"recover"`, about JPEGs that are cut off.
        scenes: what to render where a `scenes:` data set is missing.
        cut: how the training split is cut, if it is.
        shots: objects of each class that are drawn from the training split; None takes all.
        shots_seed: of that draw.
    """

    dataset: str
    train_split: str
    val_split: str | None
    test_split: str
    class_names: Sequence[str] | None
    image_size: int
    train_sizes: Sequence[int]
    max_boxes: int
    augmentation: Augmentation | None
    cache: str
    service: str | None
    on_bad_example: str
    max_bad_fraction: float
    max_pixels: int
    on_truncated: str
    scenes: SceneSettings
    cut: Cut = dataclasses.field(default_factory=Cut)
    shots: int | None = None
    shots_seed: int = 0

    @property
    def val_part(self) -> str | None:
        """The part that chooses the best checkpoint, a split or cut off."""
        return self.val_split or (VAL if self.cut.val_fraction else None)


@dataclasses.dataclass(frozen=True)
class DecoderSettings:
    """Which predictions become detections: see `harmonic_tf.models.DetectionDecoder`."""

    score_threshold: float
    iou_threshold: float
    max_detections: int
    nms: str
    class_agnostic: bool


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    """The network: see the detectors of `harmonic_tf.models` and `build_backbone`.

    Args:
        name: one of `MODELS`.
        backbone: name of the backbone; None takes the detector's own.
        backbone_weights: what the backbone starts from, see `build_backbone`; None for random ones.
        start_from: checkpoint of a trained detector to start all of it from, or None.
        anchors: RetinaNet's or Faster R-CNN's.
        fit_anchors: whether others, as many, are fitted to the objects of the training split.
        channels: RetinaNet's or Faster R-CNN's.
        head_depth: RetinaNet's.
        cosine_classifier: RetinaNet's.
        positive_iou: RetinaNet's.
        negative_iou: RetinaNet's.
        freeze_batch_norm: whether the backbone's batch normalization stays as it is.
        decoder: which predictions become detections.
        proposals: Faster R-CNN's.
        sampled_rois: Faster R-CNN's.
        hidden_units: Faster R-CNN's.
    """

    name: str
    backbone: str | None
    backbone_weights: str | None
    start_from: str | None
    anchors: AnchorGrid
    fit_anchors: bool
    channels: int
    head_depth: int
    cosine_classifier: bool
    positive_iou: float
    negative_iou: float
    freeze_batch_norm: bool
    decoder: DecoderSettings
    proposals: int = 1000
    sampled_rois: int = 512
    hidden_units: int = 1024


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """How weights move: see `harmonic_tf.training.optimizers`."""

    name: str
    learning_rate: float
    schedule: str
    warmup_steps: int
    step_epochs: Sequence[int]
    weight_decay: float
    clip_norm: float


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One training run.

    Args:
        run_dir: folder that takes everything the run leaves behind.
        overwrite: whether `run_dir` may already hold a run that is replaced.
        resume: whether a run that `run_dir` holds goes on from its last state.
        data: what to train and measure on.
        model: the network.
        loss: the joint loss.
        optimizer: how weights move.
        epochs: passes over the training split; or `AUTO`.
        freeze: what is not trained, see `harmonic_tf.models.freeze`.
        unfreeze_after: epochs after which all is trained, but for batch normalization that the
            model's settings freeze; None for never.
        backbone_learning_rate_factor: see `compile` of the models.
        batch_size: pictures per update, over all replicas; or `AUTO`.
        accumulation_steps: micro-batches that each replica's part of a batch is cut into.
        average_decay: decay of the weights' moving averages, None for none.
        max_skipped_steps: steps in a row that may be not finite.
        save_every_steps: steps between saved states, beside one every epoch; None for none.
        keep_states: how many states are kept.
        eval_every: epochs between measurements on the validation split; or `AUTO`.
        patience: measurements in a row without a better AP after which training stops; None trains
            all epochs.
        calibration: how scores are calibrated after training, one of
            `harmonic_tf.evaluation.CALIBRATION_METHODS`, or `"none"`.
        seed: of initial weights, order, augmentation and shots.
        strategy: see `harmonic_tf.training.strategy`.
        precision: see `harmonic_tf.training.precision`.
        deterministic_ops: whether every operation has to give the same bits every time.
        jit_compile: see `compile` of the models.
        sheet_pictures: pictures on the sheet of detections.
        export_dir: folder of a served model that gets the detector as its next version, or None.
    """

    run_dir: str
    overwrite: bool
    resume: bool
    data: DataSettings
    model: ModelSettings
    loss: HarmonicLoss
    optimizer: OptimizerSettings
    epochs: int | str
    freeze: str
    unfreeze_after: int | None
    backbone_learning_rate_factor: float
    batch_size: int | str
    accumulation_steps: int
    average_decay: float | None
    max_skipped_steps: int
    save_every_steps: int | None
    keep_states: int
    eval_every: int | str
    patience: int | None
    calibration: str
    seed: int
    strategy: str
    precision: str
    deterministic_ops: bool
    jit_compile: bool | str
    sheet_pictures: int
    export_dir: str | None

    def __post_init__(self):
        frozen, border, factor = (
            f"--freeze={self.freeze}",
            f"--unfreeze_after={self.unfreeze_after}",
            f"--backbone_learning_rate_factor={self.backbone_learning_rate_factor}",
        )
        if self.freeze in _MORE_THAN_BACKBONE and self.model.start_from is None:
            raise SettingsError(
                f"{frozen} would keep the random weights between backbone and heads. Name a "
                "trained detector by --start_from, or freeze less, as --freeze=backbone does."
            )
        if self.unfreeze_after is None:
            no_backbone = self.freeze in ("backbone", *_MORE_THAN_BACKBONE)
            if no_backbone and self.backbone_learning_rate_factor != 1.0:
                raise SettingsError(
                    f"{factor} has no effect where {frozen} keeps the backbone as it is. Leave one "
                    "out, or give --unfreeze_after."
                )
            return
        if self.freeze == "none":
            raise SettingsError(
                f"{border} has nothing to unfreeze. Say by --freeze what is not trained until "
                "then, or leave it out."
            )
        if self.epochs != AUTO and self.unfreeze_after >= self.epochs:
            raise SettingsError(
                f"{border} must be less than --epochs={self.epochs}. Lower it, or leave it out to "
                f"keep {frozen} to the end."
            )
