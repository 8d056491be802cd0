"""Flags on what to train and measure on."""

from __future__ import annotations

from absl import flags

from harmonic_tf.data import sources
from harmonic_tf.data.checks import MAX_BAD_FRACTION, ON_BAD_EXAMPLE
from harmonic_tf.data.images.checking import MAX_PIXELS, ON_TRUNCATED
from harmonic_tf.data.partition import TEST, TRAIN, Cut
from harmonic_tf.data.pipeline.augmentation import (
    TRANSFORMS,
    USUAL_TRANSFORMS,
    Augmentation,
)
from harmonic_tf.data.splits import with_missing_cut
from harmonic_tf.training.settings import DataSettings, SceneSettings

from .running import UsageError

CUT = (
    *("train_split", "val_fraction", "test_fraction", "missing_splits"),
    *("split_by", "split_seed"),
)
"""The flags on how a split is cut."""

_DATASET = flags.DEFINE_string(
    "dataset",
    None,
    "Data set: a path, of which the kind is found out, or KIND:PATH. "
    + "; ".join(f"{name}: {kind.help}" for name, kind in sources.KINDS.items())
    + ". Several are joined by commas.",
)
_TRAIN_SPLIT = flags.DEFINE_string(
    "train_split",
    TRAIN,
    "Split to train on; for joined data sets one for all, or one for each, comma-separated.",
)
_VAL_SPLIT = flags.DEFINE_string(
    "val_split",
    None,
    "Split by which the best checkpoint is chosen. Without it the last checkpoint is the best.",
)
_TEST_SPLIT = flags.DEFINE_string("test_split", TEST, "Split whose results are reported.")
_VAL_FRACTION = flags.DEFINE_float(
    "val_fraction",
    0.0,
    "Share of the training split, or of a data set without splits, that is cut off as the split "
    "val. Pictures of equal bytes stay together.",
    0.0,
    1.0,
)
_TEST_FRACTION = flags.DEFINE_float(
    "test_fraction", 0.0, "Share that is cut off as the split test, likewise.", 0.0, 1.0
)
_MISSING_SPLITS = flags.DEFINE_enum(
    "missing_splits",
    "error",
    ("error", "cut"),
    "What to do where the data set has no --val_split or no --test_split: stop with an error, or "
    "cut a tenth or a fifth off the training split.",
)
_SPLIT_BY = flags.DEFINE_string(
    "split_by",
    None,
    "Pictures in whose names the first group of this regular expression, or all of it, finds the "
    "same are not cut apart: (.+)_[0-9]+ keeps the frames of a video together.",
)
_SPLIT_SEED = flags.DEFINE_integer(
    "split_seed", 0, "Seed of the cut; the same for every --seed.", lower_bound=0
)
_CLASSES = flags.DEFINE_list(
    "classes", None, "Class names, comma-separated. By default those that the training split names."
)
_ON_BAD_EXAMPLE = flags.DEFINE_enum(
    "on_bad_example",
    "error",
    ON_BAD_EXAMPLE,
    "What to do with bad data: stop with an error, or skip the bad box or picture and list it.",
)
_MAX_BAD_FRACTION = flags.DEFINE_float(
    "max_bad_fraction",
    MAX_BAD_FRACTION,
    "Most of a split's pictures, or of its objects, that --on_bad_example=skip may leave out.",
    0.0,
    1.0,
)
_MAX_PIXELS = flags.DEFINE_integer(
    "max_pixels",
    MAX_PIXELS,
    "Most pixels a picture may have. Larger ones are bad data and are not decoded.",
    lower_bound=1,
)
_ON_TRUNCATED = flags.DEFINE_enum(
    "on_truncated",
    "error",
    ON_TRUNCATED,
    "What to do with a JPEG that is cut off: take it for bad data, or use what decodes of it.",
)
_IMAGE_SIZE = flags.DEFINE_integer(
    "image_size",
    512,
    "Side of the model's square input in pixels, a multiple of 32. Pictures are scaled to fit and "
    "padded, never stretched.",
    lower_bound=32,
)
_IMAGE_SIZES = flags.DEFINE_list(
    "image_sizes",
    None,
    "Sides of the training pictures, comma-separated multiples of 32: each batch has one of them, "
    "drawn at random. --image_size stays that of the evaluation. By default --image_size alone.",
)
_SHOTS = flags.DEFINE_integer(
    "shots",
    None,
    "Few-shot learning: so many objects of each class are drawn from the training split by --seed, "
    "and nothing else is trained on. See docs/few-shot.md.",
    lower_bound=1,
)
_MAX_BOXES = flags.DEFINE_integer(
    "max_boxes", 100, "Most objects a training picture may have.", lower_bound=1
)

_AUGMENT = flags.DEFINE_bool("augment", True, "Vary pictures in training.")
_AUGMENTATIONS = flags.DEFINE_list(
    "augmentations",
    list(USUAL_TRANSFORMS),
    f"How, and in which order; out of {', '.join(TRANSFORMS)}. zoom_and_crop, the random crop, "
    "comes first if at all; what comes before mosaic or mixup happens to each of their pictures.",
)
_FLIP_PROBABILITY = flags.DEFINE_float(
    "flip_probability", 0.5, "How often a picture is mirrored left to right.", 0.0, 1.0
)
_VERTICAL_FLIP_PROBABILITY = flags.DEFINE_float(
    "vertical_flip_probability",
    0.0,
    "How often a picture is mirrored top to bottom; for pictures that have no upright.",
    0.0,
    1.0,
)
_SCALE_MIN = flags.DEFINE_float("scale_min", 1.0, "Least zoom of the random crop.", 0.1)
_SCALE_MAX = flags.DEFINE_float("scale_max", 1.5, "Greatest zoom of the random crop.", 0.1)
_MIN_AREA_FRACTION = flags.DEFINE_float(
    "min_area_fraction", 0.3, "Objects left with less of their area by a crop go.", 0.0, 1.0
)
_COLOR_JITTER = flags.DEFINE_float(
    "color_jitter",
    1.0,
    "Strength of the random change of brightness, contrast, saturation and hue; 0 is none.",
    0.0,
    4.0,
)

_CACHE = flags.DEFINE_string(
    "cache",
    "none",
    "Where decoded training pictures are kept: none, memory, or a file, made if missing.",
)
_TF_DATA_SERVICE = flags.DEFINE_string(
    "tf_data_service",
    None,
    "HOST:PORT of a tf.data service that makes the training batches; see docs/pipeline.md. The "
    "order of the pictures is then another one in every run.",
)

_SCENES_TRAIN = flags.DEFINE_integer("scenes_train", 1000, "Scenes to render for training.", 1)
_SCENES_VAL = flags.DEFINE_integer("scenes_val", 100, "Scenes to render for validation.", 1)
_SCENES_TEST = flags.DEFINE_integer("scenes_test", 200, "Scenes to render for testing.", 1)
_SCENES_SIZE = flags.DEFINE_integer("scenes_size", 160, "Side of the scenes in pixels.", 64, 2048)
_SCENES_SEED = flags.DEFINE_integer("scenes_seed", 1, "Seed of the scenes.", 0)

flags.register_validator(
    "image_size", lambda size: size % 32 == 0, "--image_size must be a multiple of 32."
)
flags.register_validator(
    "image_sizes",
    lambda sizes: all(
        size.isdigit() and int(size) > 0 and not int(size) % 32 for size in sizes or ()
    ),
    "--image_sizes must be multiples of 32.",
)
flags.register_multi_flags_validator(
    ["val_fraction", "test_fraction"],
    lambda values: values["val_fraction"] + values["test_fraction"] < 1,
    "--val_fraction and --test_fraction must leave something to train on.",
)
flags.register_multi_flags_validator(
    ["val_fraction", "val_split"],
    lambda values: not (values["val_fraction"] and values["val_split"]),
    "Give --val_fraction or --val_split, not both; --val_split= takes that of a preset back.",
)
flags.register_multi_flags_validator(
    ["val_fraction", "test_fraction", "split_by", "missing_splits"],
    lambda values: (
        not values["split_by"]
        or values["val_fraction"]
        or values["test_fraction"]
        or values["missing_splits"] == "cut"
    ),
    "--split_by says how to cut: give --val_fraction or --test_fraction too.",
)
flags.register_multi_flags_validator(
    ["scale_min", "scale_max"],
    lambda values: values["scale_min"] <= values["scale_max"],
    "--scale_min must not be larger than --scale_max.",
)


def dataset(*named: str) -> str:
    """The data set, by its flag or by an argument that stands without one.

    Args:
        *named: such arguments.

    Raises:
        UsageError: none is given, or more than one.
    """
    given = [*named, *([_DATASET.value] if _DATASET.value else [])]
    if len(given) != 1:
        which = f"{len(given)} are given: {', '.join(given)}" if given else "none is given"
        raise UsageError(f"One data set is needed, {which}. Name it with --dataset=PATH.")
    return given[0]


def cut(spec: str) -> Cut:
    """How the parsed flags cut a data set.

    Args:
        spec: the data set.

    Raises:
        DataError: its kind cannot be told.
    """
    given = Cut(
        train_split=_TRAIN_SPLIT.value,
        val_fraction=_VAL_FRACTION.value,
        test_fraction=_TEST_FRACTION.value,
        test_split=_TEST_SPLIT.value,
        by=_SPLIT_BY.value or None,
        seed=_SPLIT_SEED.value,
    )
    if _MISSING_SPLITS.value == "error":
        return given
    return with_missing_cut(spec, _VAL_SPLIT.value or None, given)


def settings(seed: int) -> DataSettings:
    """What the parsed flags say about the data.

    Args:
        seed: of the shots.

    Raises:
        UsageError: no data set is given.
        DataError: its kind cannot be told.
    """
    spec = dataset()
    how = cut(spec)
    return DataSettings(
        dataset=spec,
        train_split=_TRAIN_SPLIT.value,
        val_split=None if how.val_fraction else _VAL_SPLIT.value or None,
        test_split=_TEST_SPLIT.value,
        class_names=_CLASSES.value or None,
        image_size=_IMAGE_SIZE.value,
        train_sizes=tuple(map(int, _IMAGE_SIZES.value or ())) or (_IMAGE_SIZE.value,),
        max_boxes=_MAX_BOXES.value,
        augmentation=_augmentation() if _AUGMENT.value else None,
        cache=_CACHE.value,
        service=_TF_DATA_SERVICE.value or None,
        on_bad_example=_ON_BAD_EXAMPLE.value,
        max_bad_fraction=_MAX_BAD_FRACTION.value,
        max_pixels=_MAX_PIXELS.value,
        on_truncated=_ON_TRUNCATED.value,
        scenes=SceneSettings(
            counts={
                "train": _SCENES_TRAIN.value,
                "val": _SCENES_VAL.value,
                "test": _SCENES_TEST.value,
            },
            size=_SCENES_SIZE.value,
            seed=_SCENES_SEED.value,
        ),
        cut=how,
        shots=_SHOTS.value,
        shots_seed=seed,
    )


def _augmentation() -> Augmentation:
    usual = Augmentation()
    strength = _COLOR_JITTER.value
    return Augmentation(
        flip_probability=_FLIP_PROBABILITY.value,
        vertical_flip_probability=_VERTICAL_FLIP_PROBABILITY.value,
        scale_range=(_SCALE_MIN.value, _SCALE_MAX.value),
        min_area_fraction=_MIN_AREA_FRACTION.value,
        brightness=strength * usual.brightness,
        contrast=strength * usual.contrast,
        saturation=strength * usual.saturation,
        hue=strength * usual.hue,
        transforms=tuple(_AUGMENTATIONS.value),
    )
