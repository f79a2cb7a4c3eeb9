"""What draws each kind of result: one entry a kind, to which other packages add theirs.

A package names its entries under the entry point group `landscape.figures`, as a mapping like `FIGURES`. They are
loaded when a result of a kind is drawn that is not known here.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from landscape.errors import ConfigError, ResultError
from landscape.storage.results import Result

if TYPE_CHECKING:  # matplotlib is imported where something is drawn
    from matplotlib.figure import Figure

    from landscape.plots.rendering import Look

_GROUP = "landscape.figures"
FLAT_STYLES = ("contour", "filled", "heatmap")
PLANE_STYLES = (*FLAT_STYLES, "3d", "html", "vts")


@dataclass(frozen=True)
class Drawing:
    """How a result is to be drawn; what is None is left to the result.

    Attributes:
        style: pictures to draw, such as "filled,3d"; "all" stands for every kind that the result has.
        quantity: what to draw, such as "test_loss".
        look: scale and colours.
        colour: the attribute that things of a result, such as the minima of a graph, are coloured by.
    """

    style: str | None = None
    quantity: str | None = None
    look: "Look | None" = None
    colour: str | None = None


@dataclass(frozen=True)
class Figures:
    """What draws the results of one kind.

    Attributes:
        function: "module:function", from a result and, where there is a choice, a `Drawing` to a figure, or to figures
            by name, among which may be the bytes of files by their suffix.
        choices: what of "style", "quantity" and "colour" a `Drawing` may set.
        complete: whether it takes complete results alone.
        distances: whether the axes of a plane are distances in weight space, which its provenance need not say.
        stems: what a picture is called after, by the stem of the result's file; by default it is that.
    """

    function: str
    choices: frozenset[str] = frozenset()
    complete: bool = False
    distances: bool = False
    stems: Mapping[str, str] = field(default_factory=dict)

    def draw(self, result: Result, drawing: Drawing) -> "dict[str, Figure | bytes]":
        """The pictures by name.

        Raises:
            ConfigError: the result does not have a style, a quantity or a colour.
            ResultError: nothing is measured yet, or not all that is needed.
        """
        if self.complete and not (result.sweeps and all(sweep.done.all() for sweep in result.measured.values())):
            raise ResultError(f"the {result.kind} is not complete; go on with --resume.")
        module, _, name = self.function.partition(":")
        function: Callable[..., Any] = getattr(importlib.import_module(module), name)
        pictures = function(result, drawing) if self.choices else function(result)
        return pictures if isinstance(pictures, dict) else {"": pictures}


_GRID, _PLANE_CHOICES = "landscape.plots.grids:grid_pictures", frozenset({"style", "quantity"})
FIGURES: Mapping[str, Figures] = {
    "line": Figures(_GRID, _PLANE_CHOICES),
    "surface": Figures(_GRID, _PLANE_CHOICES),
    "trajectory": Figures(_GRID, _PLANE_CHOICES, distances=True),
    "spectrum": Figures("landscape.plots.spectra:spectrum_pictures"),
}


def figures_of(kind: str) -> Figures:
    """What draws results of a kind, here or in another installed package; raises ResultError where nothing does."""
    if kind in FIGURES:
        return FIGURES[kind]
    from importlib.metadata import entry_points

    for point in entry_points(group=_GROUP):
        if kind in (others := point.load()):
            entry: Figures = others[kind]
            return entry
    raise ResultError(f"no installed package draws a result of the kind {kind!r}.")


def choose_styles(asked: str | None, available: Sequence[str], default: Sequence[str]) -> list[Any]:
    """The styles that are named with commas between them, or "all", in the order of those that a result has.

    Raises:
        ConfigError: one is unknown.
    """
    if asked == "all":
        return list(available)
    styles = [part.strip() for part in asked.split(",")] if asked else default
    for style in styles:
        if style not in available:
            raise ConfigError(f"unknown style {style!r}; this result has {', '.join(available)}.")
    return [style for style in available if style in styles]
