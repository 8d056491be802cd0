"""Which commands there are. Help and lists are given without loading TensorFlow."""

from __future__ import annotations

import importlib
import pathlib
import sys
from collections.abc import Sequence

from .command_line import PRESETS, preset_names

COMMANDS = {
    "train": "trains a detector, measures it and writes the report",
    "evaluate": "measures a detector on any split; compares runs",
    "calibrate": "makes the scores of a trained detector mean overlap, by its validation split",
    "inspect": "says what there is to know about a data set before training",
    "convert": "writes any data set as TFRecord files",
    "export": "writes a trained detector for TensorFlow Serving, TensorFlow Lite or ONNX",
    "demo": "serves a local web page to try detectors on pictures",
    "ask": "asks a served model what is in images",
    "ablate": "trains with every part of the loss in and out, over several seeds",
    "data_service": "starts a server of a tf.data service, which makes batches for trainers",
}
HELP = pathlib.Path(__file__).parent / "help"

_HELP_FLAGS = {"--help", "-help", "-h", "--helpfull", "--helpshort"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command that a command line names.

    Args:
        arguments: what stands behind the program's name; by default that of the process.

    Raises:
        SystemExit: 1 where something went wrong, 2 where the command line makes no sense.
    """
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in _HELP_FLAGS or name == "help":
        print(overview())
    elif name == "--version":
        print(_version())
    elif "--list_presets" in (name, *rest):
        print(list_of_presets())
    elif name not in COMMANDS:
        print(f"Error: {name!r} is no command.\n\n{overview()}", file=sys.stderr)
        sys.exit(2)
    elif _HELP_FLAGS.intersection(rest):
        print((HELP / f"{name}.txt").read_text(encoding="utf-8"), end="")
    else:
        importlib.import_module(".running", __package__).run(name, rest)


def overview() -> str:
    """The commands, a line each."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "harmonic-tf: object detectors whose scores mean overlap",
            "",
            "usage: harmonic-tf COMMAND [--flag=value ...]",
            "",
            *lines,
            "",
            "harmonic-tf COMMAND --help explains the flags of a command; --list_presets names the",
            "experiments that --preset knows, and --version says which version this is.",
        ]
    )


def list_of_presets() -> str:
    """The presets, a line each: the first of their files."""
    names = preset_names()
    width = max(map(len, names))
    lines = []
    for name in names:
        first = (PRESETS / f"{name}.cfg").read_text(encoding="utf-8").partition("\n")[0]
        lines.append(f"{name:<{width}}  {first.lstrip('# ')}")
    return "\n".join(lines)


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("harmonic_tf")
    except metadata.PackageNotFoundError:
        return "harmonic_tf is not installed: this is a checkout"
