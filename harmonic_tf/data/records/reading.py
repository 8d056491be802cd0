"""The records of a TFRecord file: where each starts, and its bytes, with checksums.

A record is its length (8 bytes, little-endian), the length's checksum (4), the bytes, and their
checksum (4). A wrong checksum of bytes costs one record; a wrong length costs all that follows.

Source: the format, https://www.tensorflow.org/tutorials/load_data/tfrecord.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np

from harmonic_tf.backend import plain, tf
from harmonic_tf.data import checks
from harmonic_tf.data.example import Problem

_HEADER = struct.Struct("<QI")  # length and its checksum
_FOOTER_SIZE = 4
_GZIP = b"\x1f\x8b"
_CASTAGNOLI = 0x82F63B78  # the polynomial of CRC-32C, reversed: RFC 3720, appendix B.4
_MASK = 0xA282EAD8  # added to a rotated checksum: see the format


def record_offsets(file: str) -> tuple[list[int], list[Problem]]:
    """Finds the records of a TFRecord file from their lengths alone.

    Args:
        file: an uncompressed TFRecord file.

    Returns:
        The byte at which each whole record starts, ascending; and at most one problem: why there
        is no going on behind the last of them.

    Raises:
        DataError: the file cannot be read, or is compressed.
    """
    offsets: list[int] = []
    problems: list[Problem] = []
    try:
        with open(file, "rb", buffering=0) as opened:
            if opened.read(len(_GZIP)) == _GZIP:
                problem = "is compressed, so that no picture can be read on its own"
                remedy = f"Write it out: gunzip < {file} > NEW"
                checks.refuse(file, "file", "GZIP", problem, remedy)
            with checks.collecting(problems, checks.PICTURE):
                offsets.extend(_walk(opened, file))
    except OSError as error:
        problem, remedy = f"cannot be read ({error.strerror})", "Restore the shard"
        checks.refuse(file, "file", file, problem, remedy)
    return offsets, problems


def _walk(opened: BinaryIO, file: str) -> Iterator[int]:
    """Steps from record to record; raises DataError where there is no going on."""
    size = os.fstat(opened.fileno()).st_size
    offset = 0
    while offset < size:
        opened.seek(offset)
        header = opened.read(_HEADER.size)
        whole = len(header) == _HEADER.size
        length, checksum = _HEADER.unpack(header) if whole else (0, 0)
        rest = f"{size - offset} bytes to the end of the file"
        if whole and checksum != _masked_crc32c(header[:8]):
            problem = "the length of a record has a wrong checksum; all from there on is lost"
            remedy = "Restore the shard: an uncompressed TFRecord file"
            checks.refuse(file, f"byte {offset}", rest, problem, remedy)
        end = offset + _HEADER.size + length + _FOOTER_SIZE
        if end > size:
            problem, remedy = "the file ends within a record", "Restore the shard"
            checks.refuse(file, f"byte {offset}", rest, problem, remedy)
        yield offset
        offset = end


def record_size(file: str, offset: int) -> int:
    """Bytes of one record's content.

    Args:
        file: an uncompressed TFRecord file.
        offset: where the record starts, as `record_offsets` finds it.

    Raises:
        OSError: the file cannot be read.
    """
    with open(file, "rb") as opened:
        opened.seek(offset)
        return _HEADER.unpack(opened.read(_HEADER.size))[0]


def _masked_crc32c(content: bytes) -> int:
    """The format's checksum of a few bytes."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (_CASTAGNOLI if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + _MASK) & 0xFFFFFFFF


def read_records(file: str, offsets: Sequence[int]) -> Iterator[bytes | None]:
    """Reads records and checks their checksums, several ahead at a time.

    Args:
        file: an uncompressed TFRecord file.
        offsets: where the records start, as `record_offsets` finds them.

    Yields:
        The bytes of each record, or None where they do not fit their checksum.
    """

    def read(index, offset):
        return index, read_record(file, offset)

    records = (
        tf.data.Dataset.from_tensor_slices(np.array(offsets, np.int64).reshape(-1))
        .enumerate()
        .map(plain(read), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .ignore_errors()
        .prefetch(tf.data.AUTOTUNE)
    )
    position = 0
    for index, content in records.as_numpy_iterator():
        yield from [None] * (index - position)
        yield content
        position = index + 1
    yield from [None] * (len(offsets) - position)


def read_record(file: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    """Reads one record wherever it starts, inside of tf.data as well as on its own.

    Args:
        file: string scalar, an uncompressed TFRecord file.
        offset: int64 scalar, the byte at which the record starts.

    Returns:
        String scalar, the record's bytes.

    Raises:
        tf.errors.OpError: the file cannot be read, or the bytes do not fit their checksum.
    """
    spec = {"output_types": [tf.string], "output_shapes": [[]]}
    records = tf.raw_ops.TFRecordDatasetV2(
        filenames=[file],
        compression_type="",
        buffer_size=tf.constant(0, tf.int64),  # nothing behind the record is needed
        byte_offsets=tf.reshape(offset, [1]),
    )
    first = tf.raw_ops.TakeDataset(input_dataset=records, count=tf.constant(1, tf.int64), **spec)
    return tf.raw_ops.DatasetToSingleElement(dataset=first, **spec)[0]
