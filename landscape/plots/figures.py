"""The pictures that belong to a result of `landscape`."""

import textwrap
from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from landscape.errors import ResultError
from landscape.plots.rendering import COLOURS, new_figure
from landscape.plots.surface import draw_contours, draw_surface, is_logarithmic
from landscape.results import Result


def surface_figures(result: Result) -> Mapping[str, Figure]:
    """The pictures of a surface by name: contours and 3-D, or a line where one axis has a single point.

    Raises:
        ResultError: nothing is measured.
    """
    sweep = result.sweep
    if not sweep.done.any():
        raise ResultError("the surface holds no measured point; go on with --resume.")
    split = sweep.splits[0]
    quantity, label = f"{split}_loss", f"{split} loss"
    if min(sweep.done.shape) < 2:
        return {"line": _line(result, quantity, label)}
    flat = new_figure(5.6, 4.8)
    axes = flat.add_subplot()
    draw_contours(axes, sweep, quantity, label)
    for name, points in result.marks.items():
        axes.plot(*points.T, marker="+", color="white", markersize=9, label=name)
    axes.set(xlabel="x (filter lengths)" if result.provenance.get("normalise") == "filter" else "x", ylabel="y")
    axes.set_title(describe(result.provenance), fontsize=7, color="0.35")
    solid = new_figure(5.6, 4.8)
    spatial: Any = solid.add_subplot(projection="3d", computed_zorder=False)
    draw_surface(spatial, sweep, quantity, label)
    spatial.set_title(describe(result.provenance), fontsize=7, color="0.35")
    return {"contour": flat, "3d": solid}


def _line(result: Result, quantity: str, label: str) -> Figure:
    sweep = result.sweep
    name = max(sweep.axes, key=lambda axis: len(sweep.axes[axis]))
    figure = new_figure(5.6, 3.6)
    axes = figure.add_subplot()
    axes.plot(sweep.axes[name], sweep.values[quantity].ravel(), color=COLOURS["path"], marker=".")
    axes.set(xlabel=name, ylabel=label)
    if is_logarithmic(sweep.values[quantity]):
        axes.set_yscale("log")
    axes.set_title(describe(result.provenance), fontsize=7, color="0.35")
    return figure


def describe(provenance: Mapping[str, Any]) -> str:
    """The settings that every picture states, in one or two lines."""
    problem = provenance.get("problem", {})
    told = [f"{problem['model'].rpartition('/')[2]} on {problem['data'].rpartition('/')[2]}"] if problem else []
    names = {"split": "", "normalise": "normalised by ", "batch_norm": "batch norm ", "seed": "seed ", "precision": ""}
    told += [f"{prefix}{provenance[key]}" for key, prefix in names.items() if key in provenance]
    return "\n".join(textwrap.wrap(" · ".join(told), 84))
