"""Files that are either the old one or the new one, whole, and never half of one."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tempfile
import uuid
from collections.abc import Iterator

_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.")

_REMEDIES = {
    errno.ENOSPC: "Make room there, or name a folder on another disk",
    errno.EDQUOT: "Make room there, or name a folder on another disk",
    errno.EROFS: "Name a folder that can be written to",
    errno.EACCES: "Name one that you may use, or change its permissions",
    errno.EPERM: "Name one that you may use, or change its permissions",
    errno.ENOENT: "Check the path",
    errno.ENOTDIR: "Check the path: a part of it is a file",
    errno.EISDIR: "Name a file, not a folder",
    errno.ENAMETOOLONG: "Choose a shorter name",
    errno.EMFILE: "Allow more open files, with `ulimit -n 4096`",
    errno.EIO: "Check the disk",
}


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
        with naming(path, temporary):
            yield temporary
            os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)


def remove_left_behind(folder: str) -> None:
    """Removes the temporary files of `replacing` whose process was killed.

    Args:
        folder: where they lie; nobody else writes there meanwhile. What cannot be removed stays.
    """
    for name in os.listdir(folder):
        if _TEMPORARY.match(name):
            with contextlib.suppress(OSError):
                os.remove(os.path.join(folder, name))


@contextlib.contextmanager
def naming(path: str, temporary: str | None = None) -> Iterator[None]:
    """Lets an error of the operating system that names no file, such as a full disk's, name one.

    Args:
        path: the file or folder that is written to inside the block.
        temporary: a name of its own that the block uses in its place.

    Raises:
        OSError: what went wrong inside the block.
    """
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename in (None, temporary):
            error.filename, error.filename2 = path, None
        raise


def explained(error: OSError) -> str:
    """An error in one line that says which path, what is wrong and what to do.

    Args:
        error: an error of the operating system; one with a text of its own is left as it is.
    """
    if error.errno is None:
        return str(error)
    path = "a file" if error.filename is None else error.filename
    remedy = _REMEDIES.get(error.errno, "Check the path and its disk")
    return f"{path}: {os.strerror(error.errno)}. {remedy}."


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
