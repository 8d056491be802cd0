"""A sheet in pixels onto which pictures, boxes and labels are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patches import Rectangle as RectanglePatch

from harmonic_tf.colors import Color
from harmonic_tf.evaluation.reports.layout import Rectangle, place_label, shortened
from harmonic_tf.files import replacing

_DPI = 100  # one point is 100 / 72 pixels
_FONT = 8.5  # points
_LABEL_HEIGHT = 15  # pixels, for that font
_LABEL_MARGIN = 3  # pixels left and right of the text
_BASELINE = 4  # pixels, from the label's lower edge
_LINE = 2  # points
_DASHES = (0, (4, 4))
_CAPTION_LINE = 17  # pixels
_LEGEND_SIGN = 50  # pixels that a legend's entry takes beside its text
_NAME_LENGTH = 40  # characters in the legend


class Canvas:
    """Draws in pixels, y downwards; layers are pictures, outlines, labels, in this order.

    Args:
        width: pixels.
        height: pixels; the legend comes below.
    """

    def __init__(self, width: float, height: float):
        figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
        self._canvas = FigureCanvasAgg(figure)
        self._axes = figure.add_axes((0, 0, 1, 1))
        self._axes.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
        self._axes.axis("off")
        self._text_widths: dict[str, float] = {}

    def picture(self, pixels: np.ndarray, place: Rectangle) -> None:
        """Draws a picture, uint8 [H, W, 3], scaled to its place."""
        extent = (place.x, place.x + place.width, place.y + place.height, place.y)
        self._axes.imshow(pixels, extent=extent, aspect="auto")

    def solid_box(self, box: Rectangle, color: Color, frame: Rectangle) -> None:
        """Outlines a box in one colour, as far as it is inside the frame."""
        self._outline(box, frame, edgecolor=color, linewidth=_LINE)

    def dashed_box(self, box: Rectangle, frame: Rectangle) -> None:
        """The same in thin black and white dashes, to be seen on any ground."""
        self._outline(box, frame, edgecolor="black", linewidth=_LINE / 2)
        self._outline(box, frame, edgecolor="white", linewidth=_LINE / 2, linestyle=_DASHES)

    def label(
        self,
        text: str,
        box: Rectangle,
        frame: Rectangle,
        taken: Sequence[Rectangle],
        background: Color,
    ) -> Rectangle:
        """Labels a box where there is room, and returns where that was; see `place_label`."""
        size = (self._text_width(text) + 2 * _LABEL_MARGIN, _LABEL_HEIGHT)
        spot = place_label(box, size, frame, taken)
        self._axes.add_patch(
            RectanglePatch((spot.x, spot.y), *size, facecolor=background, linewidth=0, zorder=3)
        )
        self._axes.text(
            spot.x + _LABEL_MARGIN,
            spot.y + _LABEL_HEIGHT - _BASELINE,
            text,
            fontsize=_FONT,
            color="black" if _luminance(background) > 0.5 else "white",
            parse_math=False,
            zorder=4,
        )
        return spot

    def caption(self, lines: Sequence[str], frame: Rectangle) -> None:
        """Writes lines of text below a frame, the first one in bold."""
        for i, line in enumerate(lines):
            self._axes.text(
                frame.x,
                frame.y + frame.height + (i + 1) * _CAPTION_LINE,
                line,
                fontsize=_FONT,
                fontweight="normal" if i else "bold",
                color="0.35" if i else "black",
                parse_math=False,
            )

    def save(self, path: str, dashed: str | None, solid: str, classes: Mapping[str, Color]) -> None:
        """Writes a PNG, atomically.

        Args:
            path: file to write; its folder exists.
            dashed: what the legend says of dashed boxes, None where there are none.
            solid: what it says of solid ones.
            classes: colours to be named there.

        Raises:
            OSError: the folder is missing or cannot be written to.
        """
        black = Line2D([], [], color="black", linewidth=_LINE)
        white = Line2D([], [], color="white", linewidth=_LINE, linestyle=_DASHES)
        entries: list[tuple[str, Artist | tuple[Artist, ...]]] = [
            *([] if dashed is None else [(dashed, (black, white))]),
            (solid, Line2D([], [], color="gray", linewidth=_LINE)),
            *((name, Patch(color=color)) for name, color in classes.items()),
        ]
        names = [shortened(name, _NAME_LENGTH) for name, _ in entries]
        widest = max(self._text_width(name) for name in names) + _LEGEND_SIGN
        columns = int(self._canvas.figure.bbox.width // widest)
        legend = self._canvas.figure.legend(
            [handle for _, handle in entries],
            names,
            loc="upper center",
            bbox_to_anchor=(0.5, 0),
            ncols=max(1, min(len(entries), columns)),
            fontsize=_FONT,
            frameon=False,
        )
        for text in legend.get_texts():
            text.set_parse_math(False)
        with replacing(path) as temporary:
            self._canvas.print_figure(
                temporary, format="png", dpi=_DPI, bbox_inches="tight", pad_inches=0.04
            )

    def _outline(self, box: Rectangle, frame: Rectangle, **style) -> None:
        outline = RectanglePatch((box.x, box.y), box.width, box.height, fill=False, **style)
        self._axes.add_patch(outline)
        outline.set_clip_path(
            RectanglePatch(
                (frame.x - _LINE, frame.y - _LINE),
                frame.width + 2 * _LINE,
                frame.height + 2 * _LINE,
                transform=self._axes.transData,
            )
        )

    def _text_width(self, text: str) -> float:
        if text not in self._text_widths:
            probe = self._axes.text(0, 0, text, fontsize=_FONT, parse_math=False)
            self._text_widths[text] = probe.get_window_extent(self._canvas.get_renderer()).width
            probe.remove()
        return self._text_widths[text]


def _luminance(color: Color) -> float:
    return float(np.dot(color, (0.2126, 0.7152, 0.0722)))  # ITU-R BT.709
