"""Figures and their files: one look for all pictures, and no global state of matplotlib."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.colors import Colormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter

from landscape.storage.files import write_atomically
from landscape.storage.results import Array

COLOURS = {"path": "#0072B2", "straight": "#D55E00", "ends": "#000000"}
_STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "svg.hashsalt": "mode-connectivity",
}
_DPI = 160
_LOGARITHMIC_FROM = 10.0
MISSING, CLIPPED = "0.72", "#FFFFFF"


@dataclass(frozen=True)
class Scale:
    """The range of values that colours or heights stand for.

    Attributes:
        low: where it begins; above 0 if it is logarithmic.
        high: where it ends.
        logarithmic: whether equal steps are equal factors.
    """

    low: float
    high: float
    logarithmic: bool

    @property
    def norm(self) -> Normalize:
        """The same for matplotlib."""
        return LogNorm(self.low, self.high) if self.logarithmic else Normalize(self.low, self.high)

    def heights(self, values: Array) -> Array:
        """Values cut to the range, in the logarithm to base 10 if the scale is logarithmic; NaN stays."""
        return self.raised(np.minimum(values, self.high))

    def raised(self, values: Array) -> Array:
        """The same, without an end above."""
        cut = np.maximum(values, self.low)
        return np.log10(cut) if self.logarithmic else cut


@dataclass(frozen=True)
class Look:
    """How values become colours.

    Attributes:
        scale: "auto" is logarithmic where positive values span a factor of ten.
        low: where the colours begin; by default at the least value.
        high: where the colours end; by default at the largest value. What lies above is white.
        colour_map: matplotlib's name of one.
    """

    scale: Literal["auto", "linear", "log"] = "auto"
    low: float | None = None
    high: float | None = None
    colour_map: str = "viridis"

    def scale_of(self, values: Array) -> "Scale":
        """The scale for the finite values of an array of any shape; a logarithmic one begins above zero."""
        finite = values[np.isfinite(values)]
        positive = finite[finite > 0]
        logarithmic = self.scale == "log" and positive.size > 0
        if self.scale == "auto" and positive.size:
            least = self.low if self.low is not None else float(finite.min())
            most = self.high if self.high is not None else float(finite.max())
            logarithmic = least > 0 and most / least >= _LOGARITHMIC_FROM
        shown = positive if logarithmic else finite
        low = self.low if self.low is not None else float(shown.min()) if shown.size else 0.0
        high = self.high if self.high is not None else float(shown.max()) if shown.size else 1.0
        if low >= high and self.low is None and self.high is None:  # a flat surface
            low, high = (low / 1.1, low * 1.1) if logarithmic else (low - 0.5, low + 0.5)
        elif low >= high and self.low is None:  # all lies above what is to be shown
            low = high / 10 if logarithmic else high - 1
        elif low >= high:  # all lies below it
            high = low * 10 if logarithmic else low + 1
        return Scale(low, high, logarithmic)

    def colours(self) -> Colormap:
        """The colour map, with white for what lies above it, and nothing for what is not finite."""
        return matplotlib.colormaps[self.colour_map].with_extremes(over=CLIPPED, bad=(0, 0, 0, 0))


class _LiteralFigure(Figure):
    """A figure whose texts are shown as they are: names are the users', and a `$` in them begins no mathematics."""

    def draw(self, renderer: Any) -> None:
        powers = _labels_of_powers(self)
        for text in self.findobj(Text):
            if isinstance(text, Text) and id(text) not in powers:
                text.set_parse_math(False)
        super().draw(renderer)


def _labels_of_powers(figure: Figure) -> set[int]:
    """The tick labels that matplotlib itself writes as mathematics, such as 10 with an exponent."""
    axes = [axis for panel in figure.axes for axis in panel._axis_map.values()]
    ticks = [
        tick
        for axis in axes
        for formatter, ticks in (
            (axis.get_major_formatter(), axis.get_major_ticks()),
            (axis.get_minor_formatter(), axis.get_minor_ticks()),
        )
        if isinstance(formatter, LogFormatter)
        for tick in ticks
    ]
    return {id(label) for tick in ticks for label in (tick.label1, tick.label2)}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of `width` by `height` inches that belongs to no window, and shows every text as it is."""
    with matplotlib.rc_context(_STYLE):
        return _LiteralFigure(figsize=(width, height), layout="constrained")


def legend_label(name: str) -> str:
    """A name that a legend does not leave out, as it does those that begin with an underscore."""
    return f" {name}" if name.startswith("_") else name


def save_figures(figures: Mapping[str, Figure], folder: Path, stem: str, format: str = "png") -> list[str]:
    """Write figures as `folder/stem_name.format`, or `folder/stem.format` for a name that is empty.

    Returns:
        The files' names, in the figures' order.

    Raises:
        StorageError: a file cannot be written.
    """
    written = []
    for name, figure in figures.items():
        path = folder / f"{stem}{'_' if name else ''}{name}.{format}"
        buffer = io.BytesIO()
        undated = {"Date": None} if format == "svg" else {"CreationDate": None} if format == "pdf" else {}
        with matplotlib.rc_context(_STYLE):
            figure.savefig(buffer, format=format, dpi=_DPI, metadata=undated)
        write_atomically(path, buffer.getvalue())
        written.append(str(path))
    return written
