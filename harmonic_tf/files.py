"""Files that are either the old one or the new one, whole, and never half of one."""

from __future__ import annotations

import contextlib
import os
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
