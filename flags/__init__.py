"""Command-line flags, one module per area, and the experiment they add up to."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import ModuleType

from absl import app
from absl import flags as absl_flags

from flags import data, export, loss, model, runtime, training
from harmonic_tf.data.example import DataError
from harmonic_tf.evaluation import ResultsError
from harmonic_tf.training.callbacks import NonFiniteError
from harmonic_tf.training.run_directory import RunDirectory
from harmonic_tf.training.settings import Experiment, SettingsError

AREAS = (data, model, loss, training, runtime, export)


def run(
    main: Callable[..., None],
    doc: str,
    run_folder: Callable[[list[str]], str | None] = lambda argv: None,
    takes_arguments: Callable[[], bool] = lambda: False,
) -> None:
    """Runs a script: parses its flags, and says what is wrong with its input in one line.

    Args:
        main: what to do once flags are parsed; gets the arguments that stand without a flag.
        doc: the script's docstring, the head of its `--help`.
        run_folder: gives, for a command line, the run whose flags come before its own, if any.
        takes_arguments: whether arguments may stand without a flag; asked once flags are parsed.
    """

    def parse(argv: list[str]) -> list[str]:
        if {"--help", "-help", "-h"} & set(argv[1:]):
            print(help_text(doc, argv[0]))
            sys.exit(0)
        folder = run_folder(argv)
        if folder is not None:
            argv = with_flags_of_run(argv, folder)
        return app.parse_flags_with_usage(argv)

    def checked_main(argv: list[str]) -> None:
        if len(argv) > 1 and not takes_arguments():
            raise app.UsageError(f"Arguments without a flag are not understood: {argv[1:]}.")
        main(*argv[1:])

    try:
        app.run(checked_main, flags_parser=parse)
    except (DataError, ResultsError, NonFiniteError, SettingsError, OSError) as error:
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
        resume=values.resume,
        data=data.settings(),
        model=model.settings(),
        loss=loss.build(model.settings()),
        optimizer=training.optimizer(),
        epochs=values.epochs,
        batch_size=values.batch_size,
        accumulation_steps=values.accumulation_steps,
        average_decay=values.average_decay,
        max_skipped_steps=values.max_skipped_steps,
        save_every_steps=values.save_every_steps,
        keep_states=values.keep_states,
        eval_every=values.eval_every,
        seed=values.seed,
        strategy=values.strategy,
        precision=values.precision,
        deterministic_ops=values.deterministic_ops,
        jit_compile=runtime.jit_compile(),
        sheet_pictures=values.sheet_pictures,
        export_dir=values.export_dir,
    )


def with_flags_of_run(argv: list[str], folder: str) -> list[str]:
    """The command line with the flags of a run in it: they win over flag files, its own over them.

    Args:
        argv: the command line.
        folder: the run's.

    Raises:
        FileNotFoundError: when there is no run in that folder.
    """
    flagfile = RunDirectory(folder).flags
    if not os.path.isfile(flagfile):
        raise FileNotFoundError(
            f"{flagfile}: no such file, so {folder} is no training run. Give the --run_dir of a "
            "run that train.py has made."
        )
    files = [i for i, argument in enumerate(argv) if argument.lstrip("-").startswith("flagfile=")]
    place = max(files, default=0) + 1
    return [*argv[:place], f"--flagfile={flagfile}", *argv[place:]]


def check_resumable(flagfile_of_run: str) -> None:
    """Makes sure that a run goes on as it began.

    Args:
        flagfile_of_run: text of the flag file that the run wrote when it began.

    Raises:
        app.UsageError: when a flag has another value than then, and it matters.
    """
    of_areas = (flag.name for area in (runtime, export) for flag in _flags_of(area))
    may_change = {"epochs", "eval_every", *of_areas}
    changed = sorted(
        {
            line.lstrip("-").partition("=")[0]
            for line in set(flagfile().splitlines()) ^ set(flagfile_of_run.splitlines())
        }
        - may_change
        - {f"no{name}" for name in may_change}
    )
    if changed:
        raise app.UsageError(
            f"--resume goes on with the flags of the run; --{', --'.join(changed)} differ. Leave "
            "them out, or name another --run_dir."
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
    return [flag for area in AREAS for flag in _flags_of(area)]


def _flags_of(area: ModuleType) -> list[absl_flags.Flag]:
    return absl_flags.FLAGS.flags_by_module_dict()[area.__name__]
