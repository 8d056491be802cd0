"""What a folder of converted TFRecords says about itself, and whether that is true."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from harmonic_tf.data import checks
from harmonic_tf.data.example import DataError
from harmonic_tf.files import write_text

MANIFEST_FILE = "manifest.json"

VERSION = 1  # of the manifest and of what the records hold
_CHUNK = 2**20  # bytes of a file in memory at a time
_REMEDY = "Restore the folder or convert again"


@dataclasses.dataclass(frozen=True)
class Shard:
    """One TFRecord file.

    Args:
        file: its name within the folder.
        pictures: number of records.
        bytes: size of the file.
        sha256: of the file, hexadecimal.
    """

    file: str
    pictures: int
    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Split:
    """One part of the data set.

    Args:
        pictures: number of pictures.
        objects: number of objects by class name.
        turned: pictures that were encoded again, upright.
        skipped: what was left out, one line each.
        shards: its files, in the order of its pictures.
        recoded: pictures that were encoded again, upright or not, for TensorFlow to decode.
    """

    pictures: int
    objects: Mapping[str, int]
    turned: int
    skipped: Sequence[str]
    shards: Sequence[Shard]
    recoded: int = 0  # in manifests without it


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A whole folder.

    Args:
        source: what was converted, for example `"voc:bccd"`.
        fingerprint: of the arguments and annotations that were converted.
        class_names: one name per class index; labels in the records count from 1.
        splits: by name.
        version: of the format.
    """

    source: str
    fingerprint: str
    class_names: Sequence[str]
    splits: Mapping[str, Split]
    version: int = VERSION


def check_files(manifest: Manifest, files: Sequence[str]) -> list[Split]:
    """Finds the splits that files belong to, of which none may be missing.

    Args:
        manifest: of the folder that holds the files.
        files: paths of shards, at least one.

    Raises:
        DataError: a file is not in the manifest, or another one of its split is missing.
    """
    folder = os.path.dirname(files[0])
    names = {os.path.basename(file) for file in files}
    splits = [s for s in manifest.splits.values() if names & {shard.file for shard in s.shards}]
    expected = {shard.file for split in splits for shard in split.shards}
    for name in sorted(names ^ expected):
        problem = "is missing" if name in expected else "is not in the manifest"
        checks.refuse(os.path.join(folder, name), "shard", name, problem, _REMEDY)
    return splits


def check_shard(shard: Shard, file: str) -> None:
    """Raises DataError if a file is not, byte for byte, the manifest's."""
    found = f"{os.path.getsize(file)} bytes with SHA-256 {file_sha256(file)}"
    written = f"{shard.bytes} bytes with SHA-256 {shard.sha256}"
    if found != written:
        checks.refuse(file, "checksum", found, f"the manifest has {written}", _REMEDY)


def check_counts(
    splits: Sequence[Split], folder: str, pictures: int, objects: Mapping[str, int]
) -> None:
    """Raises DataError if splits hold other numbers of pictures or objects than the manifest says.

    Args:
        splits: what was read.
        folder: where the manifest lies.
        pictures: how many were found.
        objects: how many were found, by class name.
    """
    file = os.path.join(folder, MANIFEST_FILE)
    written = sum(split.pictures for split in splits)
    if pictures != written:
        checks.refuse(file, "pictures", written, f"the shards hold {pictures}", _REMEDY)
    counts: collections.Counter[str] = collections.Counter()
    for split in splits:
        counts.update(split.objects)
    for name in sorted({*counts, *objects}):
        if counts[name] != objects.get(name, 0):
            problem = f"the shards hold {objects.get(name, 0)}"
            checks.refuse(file, f"objects/{name}", counts[name], problem, _REMEDY)


def file_sha256(file: str) -> str:
    """The SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with open(file, "rb") as opened:
        for chunk in iter(lambda: opened.read(_CHUNK), b""):
            digest.update(chunk)
    return digest.hexdigest()


def write_json(path: str, content: Any) -> None:
    """Writes a dataclass or plain values as JSON, atomically."""
    text = json.dumps(content, default=dataclasses.asdict, indent=1, ensure_ascii=False)
    write_text(path, text + "\n")


def read_manifest(folder: str) -> Manifest | None:
    """The manifest of a folder; None where there is none.

    Raises:
        DataError: it cannot be read, or is of another version.
    """
    path = os.path.join(folder, MANIFEST_FILE)
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        if content["version"] != VERSION:
            problem = f"is not version {VERSION} of the format"
            checks.refuse(path, "version", content["version"], problem, "Convert again")
        splits = {}
        for name, split in content.pop("splits").items():
            shards = [Shard(**shard) for shard in split.pop("shards")]
            splits[name] = Split(**split, shards=shards)
        return Manifest(**content, splits=splits)
    except FileNotFoundError:
        return None
    except DataError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        checks.refuse(path, "file", repr(error), "is not a manifest", _REMEDY)
