"""Command lines of absl flags, read without knowing which flags there are."""

from __future__ import annotations

import difflib
import pathlib
from collections.abc import Iterable, Iterator, Sequence

PRESETS = pathlib.Path(__file__).parent / "presets"

# What no flag file reaches, and other files often do: characters of all, and of a flag's name.
_LONGEST_FILE, _LONGEST_NAME = 20_000, 100


def preset_names() -> list[str]:
    """The names that `--preset` takes."""
    return sorted(path.stem for path in PRESETS.glob("*.cfg"))


def expanded(arguments: Iterable[str], within: Sequence[pathlib.Path] = ()) -> Iterator[str]:
    """A command line with the lines of presets and flag files in their place.

    Args:
        arguments: the command line. `--flagfile=FILE` is read as absl reads it, `--preset=NAME`
            as the flag file of that preset; both may stand in flag files too.
        within: the flag files that these arguments are from, each named by the one before.

    Yields:
        Its arguments, those of files one after the other where the file was named.

    Raises:
        OSError: a flag file cannot be read.
        ValueError: a preset is not known; a flag file names itself, or is no flag file.
    """
    for name, value in _with_files(arguments):
        if name is None:
            yield value
            continue
        path = _preset(value) if name == "preset" else pathlib.Path(value).expanduser()
        if path.resolve() in within:
            raise ValueError(
                f"{within[-1]}: --{name}={value} would read a file that is being read. Remove it."
            )
        yield from expanded(_lines(path), (*within, path.resolve()))


def _lines(path: pathlib.Path) -> list[str]:
    """The arguments in a flag file."""
    text = path.read_text(encoding="utf-8")
    lines = [line.strip() for line in text.splitlines()]
    arguments = [line for line in lines if line and not line.startswith(("#", "//"))]
    longest = max((len(parts(argument)[0] or "") for argument in arguments), default=0)
    if len(text) > _LONGEST_FILE or longest > _LONGEST_NAME:
        raise ValueError(
            f"{path} is no flag file: it has {len(text)} characters, and names of up to {longest}. "
            "A flag file has a --flag=value in each line."
        )
    return arguments


def files_first(arguments: Iterable[str]) -> tuple[list[str], list[str]]:
    """A command line in two parts: what names presets and flag files, and what is typed.

    Args:
        arguments: the command line.
    """
    files, typed = [], []
    for name, value in _with_files(arguments):
        if name is None:
            typed.append(value)
        else:
            files.append(f"--{name}={value}")
    return files, typed


def _with_files(arguments: Iterable[str]) -> Iterator[tuple[str | None, str]]:
    """Each argument: `flagfile` or `preset` with what it names, or None with all of it."""
    arguments = iter(arguments)
    for argument in arguments:
        name, equals, value = parts(argument)
        if name in ("flagfile", "preset"):
            yield name, (value if equals else next(arguments, "")).strip()
        else:
            yield None, argument


def _preset(name: str) -> pathlib.Path:
    names = preset_names()
    if name in names:
        return PRESETS / f"{name}.cfg"
    close = difflib.get_close_matches(name, names)
    hint = f"Did you mean {' or '.join(close)}? " if close else ""
    raise ValueError(f"--preset={name}: no such preset. {hint}They are {', '.join(names)}.")


def value_in(arguments: Sequence[str], name: str) -> str | None:
    """A flag's last value on a command line, None where it is not there.

    Args:
        arguments: the command line, with `--name=value`, `--name value` or `--name` in it.
        name: the flag's name.
    """
    found = None
    for argument, following in zip(arguments, [*arguments[1:], ""]):
        given, equals, value = parts(argument)
        if given == name:
            found = value if equals else following
    return found


def parts(argument: str) -> tuple[str | None, str, str]:
    """Name, equals sign and value of an argument; no name where it is no flag."""
    name, equals, value = argument.partition("=")
    return name.lstrip("-") if argument.startswith("-") else None, equals, value
