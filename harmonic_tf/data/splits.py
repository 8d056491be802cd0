"""Which splits a data set has, for commands that go through all of them."""

from __future__ import annotations

from harmonic_tf.data import checks, sources

_USUAL_ORDER = ("train", "trainval", "val", "valid", "validation", "test")


def find_splits(spec: str) -> list[str]:
    """Names the splits of a data set, as `load` takes them.

    Args:
        spec: kind and path as `load` takes them, several joined by commas: then the splits that
            all of them have.

    Returns:
        At least one name, `train`, `val` and `test` first. They may share pictures: VOC's
        `trainval` is `train` and `val`.

    Raises:
        DataError: the spec cannot be read, or no split is found.
    """
    per_source = [sources.splits_of(part) for part in sources.parts(spec)]
    common = [name for name in per_source[0] if all(name in names for names in per_source)]
    if not common:
        found = "; ".join(", ".join(names) or "none" for names in per_source)
        checks.refuse(spec, "splits", found, "no split is found", "Check the path, name a split")
    return sorted(set(common), key=_usual_place)


def _usual_place(split: str) -> tuple[str, int, str]:
    year, _, name = split.rpartition("_")  # 2007_train
    place = _USUAL_ORDER.index(name) if name in _USUAL_ORDER else len(_USUAL_ORDER)
    return year, place, split
