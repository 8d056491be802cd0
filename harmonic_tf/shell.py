"""Commands as they can be pasted into a shell, wherever the product is installed; texts for it."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import sysconfig

PROGRAM = "harmonic-tf"


def command(*words: str) -> str:
    """A command of this product, quoted where a shell would take words apart.

    Args:
        *words: the command and what follows it, such as `"evaluate", "--run=my run"`.

    Returns:
        One line, for example `harmonic-tf evaluate --run='my run'`.
    """
    return " ".join([_program(), *map(quoted, words)])


def quoted(word: str) -> str:
    """A word as a shell takes it; of `--name=value` only the value is quoted.

    Args:
        word: any text.
    """
    name, equals, value = word.partition("=")
    if equals and name.startswith("-"):
        return f"{name}={shlex.quote(value)}"
    return shlex.quote(word)


def shortened(text: str, longest: int = 1000) -> str:
    """A text without its middle, where that is long: nobody reads it all.

    Args:
        text: any, such as a value out of a damaged file.
        longest: from how many characters on it is cut.
    """
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]}...{text[-half:]}"


def _program() -> str:
    """How a shell finds the program of the installation that is running."""
    installed = os.path.join(sysconfig.get_path("scripts"), PROGRAM)
    found = shutil.which(PROGRAM)
    if found is not None and (
        not os.path.exists(installed) or os.path.realpath(found) == os.path.realpath(installed)
    ):
        return PROGRAM
    if os.path.exists(installed):
        here = os.path.relpath(installed)
        return shlex.quote(installed if here.startswith(os.pardir) else here)
    return f"{shlex.quote(sys.executable)} -m flags"  # a checkout that nothing was installed from
