"""Serves a local web page to try detectors on pictures.

harmonic-tf demo --run=runs/quickstart
harmonic-tf demo --run=runs/A,runs/B
harmonic-tf demo --run=runs/A --export=models/scenes/1 --port=0

The page shows boxes, what their scores mean, and which precision and recall the run had on its
validation split at the threshold that is set. It needs pip install 'harmonic_tf[demo]', loads
nothing from elsewhere, and keeps no pictures. See docs/demo.md.
"""

from __future__ import annotations

from collections.abc import Sequence

from absl import flags

from harmonic_tf.demo.detectors import Detector, detector_of_export, detector_of_run
from harmonic_tf.demo.page import build_server, check_installed, listen, url
from harmonic_tf.shell import command
from harmonic_tf.training.settings import SettingsError

from .. import common, data  # noqa: F401  (defines --max_pixels)
from .. import experiment as experiments
from ..command_line import parts
from ..running import Command, UsageError

PORT = 8765
"""Where the page is served, unless --port says otherwise."""

_EXPORT = flags.DEFINE_list(
    "export",
    None,
    "Folders of exported versions, such as models/NAME/1, beside the runs or instead of them.",
)
_HOST = flags.DEFINE_string(
    "host",
    "127.0.0.1",
    "Address that the page is served on: by default for this machine alone. On another, such as "
    "0.0.0.0, whoever reaches it can use it.",
)


def main() -> None:
    """Loads the detectors, then answers until Ctrl-C."""
    runs = common.RUN.value.split(",") if common.RUN.value else []
    exports, max_pixels = _EXPORT.value or [], flags.FLAGS.max_pixels
    port = PORT if common.PORT.value is None else common.PORT.value
    if not runs and not exports:
        raise UsageError("--run=DIR of a training run, or --export=models/NAME/1, is needed.")
    try:
        check_installed()
        with listen(_HOST.value, port) as listening:  # before anything is loaded
            detectors = [*map(_of_run, runs), *map(detector_of_export, exports)]
            print(f"{url(listening)}\nCtrl-C ends it.", flush=True)
            build_server(detectors, max_pixels, listening).run()
    except ImportError as error:
        raise SettingsError(str(error)) from error


def _of_run(folder: str) -> Detector:
    return detector_of_run(folder, experiments.experiment_of_run(folder).data)


def refuse_repeated_runs(arguments: Sequence[str]) -> Sequence[str]:
    """No flags: each run has its own. Of a flag that is given twice, the last alone would count."""
    for name in ("run", "export"):
        if [parts(argument)[0] for argument in arguments].count(name) > 1:
            raise UsageError(f"Several are joined by commas: {command('demo', f'--{name}=A,B')}")
    return ()


COMMAND = Command(
    main, ["run", "export", "host", "port", "max_pixels"], before=refuse_repeated_runs
)
