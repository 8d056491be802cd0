"""Writes what `--help` prints: `python -m flags.help`.

The texts are files, so that a question is answered without loading TensorFlow; a test holds them
against the flags.
"""

from __future__ import annotations

import re
import sys
import textwrap

from absl import flags

from .command import COMMANDS, HELP
from .running import load

_WIDTH = 88


def help_text(name: str) -> str:
    """What a command does and which flags it takes.

    Args:
        name: one of `command.COMMANDS`.
    """
    command, doc = load(name)
    usage = f"usage: harmonic-tf {name} [--flag=value ...] {command.arguments}".rstrip()
    blocks = [usage, doc.strip()]
    taken, by_module = set(command.flags), flags.FLAGS.flags_by_module_dict()
    own = {flag: module for module in by_module for flag in (f.name for f in by_module[module])}
    areas = dict.fromkeys(own[flag] for flag in command.flags)
    for area in areas:
        of_area = [flag for flag in by_module[area] if flag.name in taken]
        blocks.append("\n".join([_title(area), *map(_entry, of_area)]))
    blocks.append(
        "\n".join(
            [
                "Files of flags",
                _described(
                    "--preset=NAME", "The flags of an experiment; --list_presets names them."
                ),
                _described("--flagfile=FILE", "The flags in a file, one a line."),
            ]
        )
    )
    return "\n\n".join(blocks) + "\n"


def _title(module: str) -> str:
    doc = sys.modules[module].__doc__.strip().splitlines()[0]
    return "Flags of this command" if ".commands." in module else doc.rstrip(".")


def _entry(flag: flags.Flag) -> str:
    name = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}={_values(flag)}"
    if flag.default is not None:
        default = ",".join(flag.default) if isinstance(flag.default, list) else str(flag.default)
        name += f"  (default: {default})"
    return _described(name, re.sub(r"^<[^>]*>: ", "", flag.help))


def _values(flag: flags.Flag) -> str:
    choices = getattr(flag.parser, "enum_values", None)
    if choices:
        return "|".join(choices)
    return {
        "int": "N",
        "int or auto": "N|auto",
        "float": "X",
        "comma separated list of strings": "A,B",
    }.get(flag.flag_type(), "TEXT")


def _described(name: str, text: str) -> str:
    lines = textwrap.wrap(text, _WIDTH, break_on_hyphens=False)
    return "\n".join([f"  {name}", *(f"      {line}" for line in lines)])


def main() -> None:
    """Writes the text of every command."""
    HELP.mkdir(exist_ok=True)
    for name in COMMANDS:
        (HELP / f"{name}.txt").write_text(help_text(name), encoding="utf-8")


if __name__ == "__main__":
    main()
