"""Files that are either the old one or the new one, whole, and never half of one."""

from __future__ import annotations

import contextlib
import os
import tempfile
import uuid
from collections.abc import Iterator


@contextlib.contextmanager
def replacing(path: str) -> Iterator[str]:
    """Gives a temporary name in `path`'s folder; on success the file there becomes `path`.

    Args:
        path: file to write; its folder exists.

    Yields:
        The name to write to. It ends as `path` does.

    Raises:
        OSError: the folder is missing or cannot be written to. Then, as after any error inside
            the block, `path` is as it was.
    """
    folder, name = os.path.split(os.path.abspath(path))
    # Not told by the process number: on a folder that hosts share, several may have the same.
    temporary = os.path.join(folder, f".{uuid.uuid4().hex}.{name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)


def make_writable(folder: str, field: str) -> None:
    """Makes a folder, or makes sure that files can be written into it.

    Args:
        folder: the folder.
        field: what the user calls it, for the message.

    Raises:
        OSError: it cannot be made or written to.
    """
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise type(error)(
            f"{folder}: {field} cannot be written to ({error.strerror}). Name a folder that you "
            "may write to."
        ) from error


def write_text(path: str, text: str) -> None:
    """Writes a text file atomically, in UTF-8 with plain newlines.

    Args:
        path: file to write; its folder exists.
        text: the whole content.

    Raises:
        OSError: the folder is missing or cannot be written to.
    """
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as f:
        f.write(text)
