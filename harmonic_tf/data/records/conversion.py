"""Writes any data set as TFRecord files with the keys of the Object Detection API.

The folder then holds `SPLIT-00000-of-00008.tfrecord`, ..., `label_map.pbtxt` and `manifest.json`,
and is read as `tfrecord:FOLDER`. It appears when all of it is written. A conversion that was
stopped, by whatever, goes on when it is started again.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import multiprocessing
import os
import threading
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from absl import logging
from tqdm import tqdm

from harmonic_tf.backend import tf
from harmonic_tf.data import checks
from harmonic_tf.data.example import DataError, DetectionData, Problem
from harmonic_tf.data.images.checking import MAX_PIXELS
from harmonic_tf.data.partition import Cut
from harmonic_tf.data.readers.tfrecord import LABEL_MAP_FILE, write_label_map
from harmonic_tf.data.records import manifest, shards
from harmonic_tf.data.splits import Parts, find_splits

_MEGABYTE = 10**6
SHARD_MB = 100.0  # the least that https://www.tensorflow.org/tutorials/load_data/tfrecord advises
_PICTURES_PER_PROCESS = 5000  # what one writes while another one starts: 500 a second, for 10 s
_UNFINISHED_SUFFIX = ".unfinished"
_SHOWN = 5  # of the problems that were skipped; all are in the manifest


def convert(
    source: str,
    folder: str,
    splits: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    shard_mb: float = SHARD_MB,
    processes: int | None = None,
    on_bad_example: str = "skip",
    max_pixels: int = MAX_PIXELS,
    max_bad_fraction: float = checks.MAX_BAD_FRACTION,
    cut: Cut | None = None,
    on_truncated: str = "error",
) -> manifest.Manifest:
    """Converts a data set; the same arguments give the same bytes, whatever the processes.

    Args:
        source: the data set; see `harmonic_tf.data.sources.load`.
        folder: where to; made here. One that holds this very conversion is left as it is.
        splits: what to convert, by default all that `find_splits` finds.
        class_names: index by name; by default those of all splits, in their order.
        shard_mb: size of the pictures in a shard, MB (10^6 bytes), > 0.
        processes: how many write at the same time, >= 1. By default one a core, but one for
            every 5000 pictures at most: a process takes seconds to start.
        on_bad_example: "skip" leaves out the smallest bad part, a box or a picture, and lists it
            in the manifest; "error" raises the first problem.
        max_pixels: most pixels that a picture may have; see `check_pictures`.
        max_bad_fraction: most that may be skipped, in [0, 1]; see `checks.check_bad_fraction`.
        cut: how one of the splits is cut, if it is.
        on_truncated: what to do about JPEGs that are cut off; see `check_pictures`.

    Returns:
        What was written.

    Raises:
        DataError: something is wrong with the arguments or the data, or the folder holds something
            else or cannot be written.
    """
    if shard_mb <= 0 or (processes is not None and processes < 1):
        value, remedy = f"{shard_mb:g} MB, {processes} processes", "Give positive numbers"
        checks.refuse(folder, "shard_mb, processes", value, "makes no sense", remedy)
    folder = os.path.abspath(folder)
    cut = cut or Cut()
    parts = Parts(source, on_bad_example, cut)
    data = {split: parts.load(split, class_names) for split in splits or find_splits(source, cut)}
    for part in data.values():
        checks.check_bad_fraction(part, max_bad_fraction)
    names, data = _with_shared_classes(data)
    shard_bytes = max(1, int(shard_mb * _MEGABYTE))
    unfinished = folder + _UNFINISHED_SUFFIX
    tasks = {
        split: shards.make_tasks(
            unfinished,
            split,
            part.annotations,
            names,
            shard_bytes,
            skip=on_bad_example == "skip",
            max_pixels=max_pixels,
            on_truncated=on_truncated,
        )
        for split, part in data.items()
    }
    fingerprint = _fingerprint(tasks)
    for name, part in data.items():
        for note, count in part.notes.items():
            logging.info("%s: %d x %s.", name, count, note)
    existing = _existing(folder, fingerprint)
    if existing is not None:
        return existing
    try:
        os.makedirs(unfinished, exist_ok=True)
        written = _write(tasks, processes)
        data = {split: _without_skipped(part, written[split]) for split, part in data.items()}
        for part in data.values():
            checks.check_bad_fraction(part, max_bad_fraction)
        result = manifest.Manifest(
            source=_source_name(data),
            fingerprint=fingerprint,
            class_names=names,
            splits={split: _split(part, written[split]) for split, part in data.items()},
        )
        write_label_map(os.path.join(unfinished, LABEL_MAP_FILE), names)
        manifest.write_json(os.path.join(unfinished, manifest.MANIFEST_FILE), result)
        _remove_all_but(result, unfinished)
        os.replace(unfinished, folder)
    except (OSError, tf.errors.OpError) as error:
        remedy = "Name a folder that you may write to, on a disk with room, and start again"
        checks.refuse(folder, "folder", error, "cannot be written", remedy)
    return result


def _with_shared_classes(
    data: Mapping[str, DetectionData],
) -> tuple[list[str], dict[str, DetectionData]]:
    """The classes of all splits, and the splits with the indices of those."""
    names = list(dict.fromkeys(name for part in data.values() for name in part.class_names))
    shared = {}
    for split, part in data.items():
        indices = np.array([names.index(name) for name in part.class_names], np.int32)
        annotations = [
            dataclasses.replace(annotation, classes=indices[annotation.classes])
            for annotation in part.annotations
        ]
        shared[split] = dataclasses.replace(part, class_names=names, annotations=annotations)
    return names, shared


def _fingerprint(tasks: Mapping[str, Sequence[shards.Task]]) -> str:
    """A digest of a whole conversion."""
    rows = [(os.path.basename(t.path), t.fingerprint) for split in tasks.values() for t in split]
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def _source_name(data: Mapping[str, DetectionData]) -> str:
    """What the source is called, without a split."""
    split, part = next(iter(data.items()))
    return part.name.removesuffix(f"/{split}")


def _existing(folder: str, fingerprint: str) -> manifest.Manifest | None:
    """The manifest of a folder that holds this very conversion; None if the folder is free."""
    if not os.path.exists(folder) or (os.path.isdir(folder) and not os.listdir(folder)):
        return None
    found = manifest.read_manifest(folder)
    if found is None or found.fingerprint != fingerprint:
        problem = "holds something else" if found is None else "holds another conversion"
        checks.refuse(folder, "folder", folder, problem, "Remove it, or name another folder")
    for split in found.splits.values():
        paths = [os.path.join(folder, shard.file) for shard in split.shards]
        manifest.check_files(found, paths)
        for shard, path in zip(split.shards, paths):
            manifest.check_shard(shard, path)
    return found


def _write(
    tasks: Mapping[str, Sequence[shards.Task]], processes: int | None
) -> dict[str, list[shards.Written]]:
    """Writes the shards that are not there yet; gives all, by split and in order.

    Raises:
        DataError: the first problem, where bad pictures are not to be skipped.
    """
    everything = [task for split in tasks.values() for task in split]
    done: dict[str, shards.Written] = {}
    total = sum(len(task.annotations) for task in everything)
    with tqdm(total=total, desc="Converting", unit="picture", delay=1) as progress:
        for task in everything:
            found = shards.finished(task)
            if found is not None:
                done[task.path] = found
                progress.update(len(task.annotations))
        left = [task for task in everything if task.path not in done]
        if processes is None:
            waiting = sum(len(task.annotations) for task in left)
            processes = max(1, min(os.cpu_count() or 1, waiting // _PICTURES_PER_PROCESS))
        for task, result in zip(left, _results(left, processes)):
            if isinstance(result, Problem):
                remedy = f"{result.remedy}, or leave it out with on_bad_example=skip"
                raise DataError(dataclasses.replace(result, remedy=remedy))
            done[task.path] = result
            progress.update(len(task.annotations))
    return {split: [done[task.path] for task in part] for split, part in tasks.items()}


def _results(tasks: Sequence[shards.Task], processes: int) -> Iterator[shards.Written | Problem]:
    """The results of the tasks, in order."""
    if processes == 1:
        yield from map(shards.write, tasks)
        return
    # Not forked: TensorFlow's threads do not live on in a fork.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(
        processes, mp_context=context, initializer=_end_with_parent
    ) as pool:
        yield from pool.map(shards.write, tasks)


def _end_with_parent() -> None:
    """Makes this process end when its parent is gone, killed for example."""

    def wait():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _without_skipped(data: DetectionData, written: Sequence[shards.Written]) -> DetectionData:
    """A split with what was skipped while it was written."""
    problems = [problem for part in written for problem in part.problems]
    kept = data.annotations[len(problems) :]  # for their number
    return dataclasses.replace(data, annotations=kept, skipped=[*data.skipped, *problems])


def _split(data: DetectionData, written: Sequence[shards.Written]) -> manifest.Split:
    """A split's entry in the manifest."""
    return manifest.Split(
        pictures=sum(part.shard.pictures for part in written),
        objects={name: sum(part.objects[name] for part in written) for name in data.class_names},
        turned=sum(part.turned for part in written),
        recoded=sum(part.recoded for part in written),
        skipped=[str(problem) for problem in data.skipped],
        shards=[part.shard for part in written],
    )


def _remove_all_but(result: manifest.Manifest, folder: str) -> None:
    """Removes what a conversion that went wrong or was stopped has left behind."""
    files = {shard.file for split in result.splits.values() for shard in split.shards}
    for name in set(os.listdir(folder)) - files - {manifest.MANIFEST_FILE, LABEL_MAP_FILE}:
        os.remove(os.path.join(folder, name))


def summary(result: manifest.Manifest) -> str:
    """A table of what was converted and what was not, for people."""
    titles = ("split", "pictures", "objects", "shards", "MB", "turned", "recoded", "skipped")
    lines = [f"{titles[0]:<24}" + "".join(f"{title:>10}" for title in titles[1:])]
    for name, split in result.splits.items():
        megabytes = sum(shard.bytes for shard in split.shards) / _MEGABYTE
        numbers = [split.pictures, sum(split.objects.values()), len(split.shards)]
        numbers += [f"{megabytes:.1f}", split.turned, split.recoded, len(split.skipped)]
        lines.append(f"{name:<24}" + "".join(f"{number:>10}" for number in numbers))
    skipped = list(
        dict.fromkeys(line for split in result.splits.values() for line in split.skipped)
    )
    if skipped:
        lines.append(f"\nSkipped {len(skipped)}, all listed in {manifest.MANIFEST_FILE}:")
        lines += skipped[:_SHOWN]
    return "\n".join(lines)
