"""How the pictures of an inspection look: colours, fonts, files."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import matplotlib
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DPI = 100  # one point is 100 / 72 pixels

NAMED = 10
"""With more classes their colours are too much alike: boxes are named."""

# For what DejaVu Sans, matplotlib's own font, has no glyphs, where one of these is installed.
_WIDE_FONTS = ("Noto Sans CJK JP", "Hiragino Sans", "Microsoft YaHei", "Arial Unicode MS")


@contextlib.contextmanager
def fonts() -> Iterator[None]:
    """Fonts for names in any script, as far as they are installed; what is missing is a box."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    family = ["DejaVu Sans", *(name for name in _WIDE_FONTS if name in installed)]
    with matplotlib.rc_context({"font.family": family}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        yield


def save(figure: Figure, path: str, **options) -> None:
    """Writes a figure as PNG; the options are those of `print_figure`."""
    FigureCanvasAgg(figure).print_figure(path, format="png", dpi=DPI, **options)


def shortened(name: str, length: int) -> str:
    """A name of at most so many letters: what is too much is left out in the middle."""
    if len(name) <= length:
        return name
    tail = (length - 1) // 2
    return f"{name[: length - 1 - tail]}\u2026{name[-tail:]}"
