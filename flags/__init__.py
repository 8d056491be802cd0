"""Command-line flags, one module per area, and the experiment they add up to."""

from __future__ import annotations

import sys
from collections.abc import Callable

from absl import app
from absl import flags as absl_flags

from flags import data, loss, model, runtime, training
from harmonic_tf.data.example import DataError
from harmonic_tf.training.settings import Experiment

AREAS = (data, model, loss, training, runtime)


def run(main: Callable[[], None], doc: str) -> None:
    """Runs a script: parses its flags, and says what is wrong with its input in one line.

    Args:
        main: what to do once flags are parsed.
        doc: the script's docstring, the head of its `--help`.
    """

    def parse(argv: list[str]) -> list[str]:
        if {"--help", "-help", "-h"} & set(argv[1:]):
            print(help_text(doc, argv[0]))
            sys.exit(0)
        return app.parse_flags_with_usage(argv)

    def checked_main(argv: list[str]) -> None:
        if len(argv) > 1:
            raise app.UsageError(f"Arguments without a flag are not understood: {argv[1:]}.")
        main()

    try:
        app.run(checked_main, flags_parser=parse)
    except (DataError, OSError) as error:
        sys.exit(f"Error: {error}")


def help_text(doc: str, script: str) -> str:
    """All flags, area by area.

    Args:
        doc: what stands above them.
        script: the script's file, whose own flags come first.
    """
    values = absl_flags.FLAGS
    own = values.flags_by_module_dict().get(script)
    blocks = [doc.strip()]
    if own:
        blocks.append(values.module_help(script).strip())
    for area in AREAS:
        title = area.__doc__.strip().splitlines()[0]
        flags_of_area = values.module_help(area).split("\n", 1)[1]
        blocks.append(f"{title}\n{flags_of_area.rstrip()}")
    blocks.append("--flagfile=FILE reads flags from a file, such as those in flags/presets.")
    return "\n\n".join(blocks)


def experiment() -> Experiment:
    """The experiment that the parsed flags describe.

    Raises:
        app.UsageError: when a combination of values makes no sense.
    """
    try:
        return _experiment()
    except ValueError as error:
        raise app.UsageError(str(error)) from error


def _experiment() -> Experiment:
    values = absl_flags.FLAGS
    return Experiment(
        run_dir=values.run_dir,
        overwrite=values.overwrite,
        data=data.settings(),
        model=model.settings(),
        loss=loss.build(),
        optimizer=training.optimizer(),
        epochs=values.epochs,
        batch_size=values.batch_size,
        eval_every=values.eval_every,
        seed=values.seed,
        precision=values.precision,
        jit_compile=runtime.jit_compile(),
        sheet_pictures=values.sheet_pictures,
    )


def resolved() -> dict[str, str]:
    """Every flag of the product with the value in force, defaults included, by name."""
    return {flag.name: _as_text(flag.value) for flag in _all_flags() if flag.value is not None}


def flagfile() -> str:
    """The same as the text of a file that `--flagfile` reads."""
    return "".join(f"{flag.serialize()}\n" for flag in _all_flags() if flag.value is not None)


def _as_text(value: object) -> str:
    return ",".join(value) if isinstance(value, list) else str(value)


def _all_flags() -> list[absl_flags.Flag]:
    by_module = absl_flags.FLAGS.flags_by_module_dict()
    return [flag for area in AREAS for flag in by_module[area.__name__]]
