"""Runs one command: parses its flags, and says what is wrong with its input in one line."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

from absl import flags, logging

from harmonic_tf.data.example import DataError
from harmonic_tf.evaluation import CalibrationError, ResultsError
from harmonic_tf.files import explained
from harmonic_tf.models import ModelFileError
from harmonic_tf.shell import command, shortened
from harmonic_tf.training.callbacks import NonFiniteError
from harmonic_tf.training.settings import SettingsError

from .command_line import expanded, files_first, parts

# What absl itself defines and every command takes.
_ABSL = ("verbosity", "logger_levels", "stderrthreshold", "undefok")

# Errors whose text is for who runs a command.
_SPOKEN = (
    CalibrationError,
    DataError,
    ModelFileError,
    NonFiniteError,
    ResultsError,
    SettingsError,
)


class UsageError(Exception):
    """The command line makes no sense; the text says what to change."""


@dataclasses.dataclass(frozen=True)
class Command:
    """What a file of `commands/` defines.

    Args:
        main: does it, once flags are parsed; gets the arguments that stand without a flag.
        flags: names of the flags that it takes.
        arguments: what stands without a flag, for the help; none may where it is empty.
        before: flags that come before the typed ones, such as those of a run; gets the command
            line.
    """

    main: Callable[..., None]
    flags: Sequence[str]
    arguments: str = ""
    before: Callable[[Sequence[str]], Sequence[str]] = lambda arguments: ()


def flags_of(*areas: ModuleType) -> list[str]:
    """The names of the flags that some modules define."""
    by_module = flags.FLAGS.flags_by_module_dict()
    return [flag.name for area in areas for flag in by_module[area.__name__]]


def load(name: str) -> tuple[Command, str]:
    """A command and what its file says of it.

    Args:
        name: one of `command.COMMANDS`.
    """
    module = importlib.import_module(f".commands.{name}", __package__)
    return module.COMMAND, module.__doc__


def run(name: str, arguments: Sequence[str], chosen: Command | None = None) -> None:
    """Runs a command.

    Args:
        name: one of `command.COMMANDS`.
        arguments: what stands behind it.
        chosen: what it does; by default what its file says.

    Raises:
        SystemExit: 1 where something went wrong, 2 where the command line makes no sense.
    """
    logging.use_absl_handler()
    logging.set_verbosity(logging.INFO)
    try:
        _run(name, arguments, chosen or load(name)[0])
    except (UsageError, flags.Error) as error:
        _stop(f"{shortened(str(error))}\nSee: {command(name, '--help')}", 2)
    except OSError as error:
        _stop(explained(error))
    except _SPOKEN as error:
        _stop(str(error))


def _run(name: str, arguments: Sequence[str], chosen: Command) -> None:
    files, typed = files_first(arguments)
    _refuse_flags_of_others(name, chosen, typed)
    try:
        from_files = list(expanded(files))
    except ValueError as error:
        raise UsageError(str(error)) from error
    # What is typed wins over a run, and that over files, wherever they stand.
    before = expanded(chosen.before([*from_files, *typed]))
    positional = flags.FLAGS([name, *from_files, *before, *typed])[1:]
    if positional and not chosen.arguments:
        raise UsageError(f"Arguments without a flag are not understood: {' '.join(positional)}.")
    chosen.main(*positional)


def _refuse_flags_of_others(name: str, chosen: Command, arguments: Sequence[str]) -> None:
    """Flags of a file may be of any command; one that is typed has to be of this one."""
    known, own = set(flags.FLAGS), {*chosen.flags, *_ABSL}
    for argument in arguments:
        flag = parts(argument)[0]
        if flag is None or flag in own or flag not in known or flag.removeprefix("no") in own:
            continue
        close = difflib.get_close_matches(flag, chosen.flags, n=1)
        hint = f" Did you mean --{close[0]}?" if close else ""
        raise UsageError(f"{name} has no flag --{flag}.{hint}")


def _stop(text: str, status: int = 1) -> None:
    print(f"Error: {text}", file=sys.stderr)
    sys.exit(status)
