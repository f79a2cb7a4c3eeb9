"""The pictures that belong to a result of `landscape`."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from landscape.errors import ResultError
from landscape.plots.captions import curvature_note, describe, draw_caption
from landscape.plots.curvature import MAPS, draw_eigenvalues, draw_map, draw_map_bar, is_map, map_norm
from landscape.plots.lines import draw_line, shown_losses
from landscape.plots.registry import figures_of
from landscape.plots.rendering import Look, Scale, legend_label, new_figure
from landscape.plots.surface import (
    FlatStyle,
    clipping_note,
    draw_bar,
    draw_contours,
    draw_measured,
    draw_surface,
    shown_values,
)
from landscape.storage.quantities import variable
from landscape.storage.results import Array, Result, Sweep

MARK_COLOURS = ("#D55E00", "#56B4E9", "#E69F00", "#CC79A7", "#F0E442", "#FFFFFF")
_IN_PLANE = 1e-3
_SIDE, _LEAST = 4.3, 2.2


def line_figure(result: Result, look: Look | None = None, note: str = "") -> Figure:
    """Loss and accuracy of a sweep along one axis, a line or a band of lines, with a note above it."""
    sweep = require_measured(result.sweep)
    curved = "max_eig" in sweep
    figure = new_figure(6.2, 6.2 if curved else 3.9)
    axes, *beneath = figure.subplots(2 if curved else 1, sharex=True, squeeze=False)[:, 0]
    if not sweep.splits:
        raise ResultError(f"the result holds {', '.join(sweep.values)}, but no loss to draw along the line.")
    lines = draw_line(axes, sweep, look)
    names_of_lines = [str(line.get_label()) for line in lines]
    figure.legend(lines, names_of_lines, fontsize=7, loc="outside lower center", ncols=min(len(lines), 2))
    names = result.facts.get("names", {})
    between = f"t (0: {names['a']}, 1: {names['b']})" if "b" in names else _along(result)
    axes.set_xlabel("" if beneath else between)
    if beneath:
        draw_eigenvalues(beneath[0], sweep)
        beneath[0].set_xlabel(between)
        note = "\n".join(filter(None, [note, curvature_note(result.provenance)]))
    broken = sum(not np.isfinite(loss) for loss in shown_losses(sweep))
    draw_caption(axes, result.provenance, None, [note, f"{broken} losses are not finite" if broken else ""])
    return figure


def plane_figure(
    result: Result, quantity: str, style: FlatStyle | Literal["3d"] = "filled", look: Look | None = None
) -> Figure:
    """One surface with whatever is marked on it.

    Args:
        result: with a sweep over a plane.
        quantity: what to draw, such as "train_loss" or "test_error".
        style: contour, filled, heatmap or 3d.
        look: scale and colours.
    """
    look = look or Look()
    measured, sweep = require_measured(result.sweep), result.completed()
    if style == "3d":
        figure = new_figure(5.6, 4.8)
        solid: Any = figure.add_subplot(projection="3d", computed_zorder=False)
        draw_surface(solid, sweep, quantity, look=look)
        sides = np.clip([1 / _proportions(result, sweep), _proportions(result, sweep)], None, 1)
        solid.set_box_aspect((*(4 * sides), 3))
        _label_axes(solid, result)
        for axis in (solid.xaxis, solid.yaxis):
            axis.label.set_size(7)
        draw_caption(solid, result.provenance, quantity, _notes(result, quantity, look))
        return figure
    trajectory = result.kind == "trajectory"
    sides = np.array([1.0, _proportions(result, sweep)])
    width, height = _SIDE * sides / max(sides[1], 1.0)
    figure = new_figure(width + (4.2 if trajectory else 1.6), max(_LEAST, height + 0.9))
    beside_it = [width + 1.4, 2.6]
    axes, *beside = figure.subplots(1, 2, width_ratios=beside_it) if trajectory else [figure.add_subplot()]
    figure.set_layout_engine("constrained" if trajectory else "compressed")
    _shape(axes, result)
    if is_map(quantity):
        colours = draw_map(axes, sweep, quantity, look=look)
    else:
        colours = draw_contours(axes, sweep, quantity, style=style, look=look)
    if not measured.done.all():
        unfinished = sweep is measured and result.provenance.get("adaptive")
        draw_measured(axes, measured, colours if unfinished else None, quantity)
    _draw_marks(axes, result)
    for limits, values in ((axes.set_xlim, sweep["x"]), (axes.set_ylim, sweep["y"])):
        limits(values.min(), values.max())
    _label_axes(axes, result)
    notes = [" · ".join(_map_notes(result, sweep))] if is_map(quantity) else _notes(result, quantity, look)
    draw_caption(axes, result.provenance, quantity, notes)
    if beside:
        _draw_distances(beside[0], result)
    return figure


def curvature_figure(result: Result, look: Look | None = None) -> Figure:
    """Four maps of both ends of the Hessian's spectrum: their ratio, that with its sign, and each end."""
    sweep = require_measured(result.sweep)
    look = replace(look or Look(), low=None, high=None)
    figure = new_figure(8.6, 7.0 * min(max(_proportions(result, sweep), 0.5), 1.5))
    for axes, quantity in zip(figure.subplots(2, 2).ravel(), MAPS, strict=True):
        draw_map(axes, sweep, quantity, look=look)
        _shape(axes, result)
        _label_axes(axes, result)
    notes = _map_notes(result, sweep)
    figure.suptitle(f"{describe(result.provenance)}\n{' · '.join(notes)}", fontsize=7, color="0.35")
    return figure


def _map_notes(result: Result, sweep: Sweep) -> list[str]:
    """Whose Hessian it is, and what the lines on its maps are."""
    notes = [curvature_note(result.provenance), f"lines: {sweep.splits[0]} loss" if sweep.splits else ""]
    notes.append("hatched: not finite" if (sweep.done & ~np.isfinite(sweep["max_eig"])).any() else "")
    notes.append("hatched: not measured" if not sweep.done.all() else "")
    return [text for text in notes if text]


def trajectory_figure(result: Result) -> Figure:
    """Trajectories alone, where no surface was measured below them."""
    figure = new_figure(8.4, 4.8)
    axes, beside = figure.subplots(1, 2, width_ratios=[2.0, 1])
    _draw_marks(axes, result, edge="0.4")
    _label_axes(axes, result)
    axes.set_aspect("equal", adjustable="datalim")
    draw_caption(axes, result.provenance, None)
    _draw_distances(beside, result)
    return figure


def panels_figure(
    sweeps: Sequence[Sweep],
    titles: Sequence[str],
    notes: Sequence[str],
    quantity: str,
    *,
    style: FlatStyle = "filled",
    look: Look | None = None,
    columns: int | None = None,
    caption: str = "",
    true_shape: bool = False,
) -> Figure:
    """Surfaces or lines side by side on one common scale.

    Args:
        sweeps: all along one axis, or all over planes.
        titles: above each.
        notes: below each.
        quantity: what to draw of planes.
        style: contour, filled or heatmap, for planes.
        look: scale and colours; its range covers all of them unless it is given.
        columns: panels in a row; by default as makes the figure about square.
        caption: above all.
        true_shape: draw planes in their own proportions, as where `shares_unit` says so, and not as squares.
    """
    look = look or Look()
    columns = min(columns or math.ceil(math.sqrt(len(sweeps))), len(sweeps))
    rows = math.ceil(len(sweeps) / columns)
    flat = set(sweeps[0].dims) == {"y", "x"}
    mapped = flat and is_map(quantity)
    figure = new_figure(2.9 * columns + 0.9, (2.9 if flat else 2.6) * rows + 0.5)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=not flat)
    shown = [require_measured(sweep) for sweep in sweeps]
    drawn_values = [shown_values(s, quantity) if flat else shown_losses(s) for s in shown]
    values = np.concatenate([array.ravel() for array in drawn_values])
    scale = look.scale_of(values)
    norm = map_norm(quantity, values, look) if mapped else None
    colours: Any = None
    lines: list[Line2D] = []
    for axes, sweep, title, note in zip(grid.ravel()[: len(shown)], shown, titles, notes, strict=True):
        if flat:
            if mapped:
                colours = draw_map(axes, sweep, quantity, look=look, norm=norm, bar=False)
            else:
                colours = draw_contours(axes, sweep, quantity, style=style, look=look, scale=scale, bar=False)
            axes.set_box_aspect(None if true_shape else 1)
            axes.set_aspect("equal" if true_shape else "auto")
        else:
            lines = draw_line(axes, sweep, look)
            axes.set_yscale("log" if scale.logarithmic else "linear")
            axes.set_ylim(*_with_margin(scale))
        axes.set_title(title, fontsize=8)
        axes.set_xlabel(note, fontsize=8)
        axes.tick_params(labelsize=6)
    for axes in grid.ravel()[len(sweeps) :]:
        axes.set_visible(False)
    if mapped:
        draw_map_bar(grid, colours, quantity, values)
        caption = " · ".join(filter(None, [caption, f"lines: {shown[0].splits[0]} loss" if shown[0].splits else ""]))
    elif flat:
        clipped = bool((values[np.isfinite(values)] > scale.high).any())
        draw_bar(grid, colours, scale, variable(quantity).label, clipped=clipped)
        notes_on_colours = {clipping_note(sweep, quantity, scale) for sweep in sweeps} - {""}
        caption = " · ".join(filter(None, [caption, *sorted(notes_on_colours)]))
    else:
        names = [str(line.get_label()) for line in lines]
        figure.legend(lines, names, fontsize=7, loc="outside lower center", ncols=min(len(lines), columns))
    figure.suptitle(textwrap.fill(caption, 34 * columns + 10), fontsize=7, color="0.35")
    return figure


def _with_margin(scale: Scale) -> tuple[float, float]:
    """The ends of a scale, a twentieth further apart at each."""
    if scale.logarithmic:
        factor = (scale.high / scale.low) ** 0.05
        return scale.low / factor, scale.high * factor
    step = 0.05 * (scale.high - scale.low)
    return scale.low - step, scale.high + step


def require_measured(sweep: Sweep) -> Sweep:
    """The sweep itself, or a ResultError where there is nothing to draw."""
    if not sweep.done.any():
        raise ResultError("the result holds no measured point yet.")
    return sweep


def _notes(result: Result, quantity: str, look: Look) -> list[str]:
    sweep = result.completed()
    colours = clipping_note(sweep, quantity, look.scale_of(shown_values(sweep, quantity)))
    notes = [colours] if colours else []
    error = result.facts.get("interpolated", {}).get("")
    if error is not None and not sweep.done.all():
        notes.insert(0, f"{int(sweep.done.sum())} of {sweep.done.size} points measured (dots)")
        if variable(quantity).quantity.name == "loss":
            logarithmic = "logarithmic " if (sweep[quantity] > 0).all() else ""
            notes.append(f"interpolated to {error:.1%} of the {logarithmic}range")
    return [" · ".join(notes)]


def _draw_marks(axes: Axes, result: Result, edge: str = "white") -> None:
    """Points, clouds of points and polylines, with their names and how far they lie off the plane."""
    if [len(points) for points in result.marks.values()] == [1]:
        axes.plot(*next(iter(result.marks.values())).T, marker="+", color=edge, markersize=9)
        return
    for (name, points), colour in zip(result.marks.items(), cycle(MARK_COLOURS), strict=False):
        farthest = max(result.facts.get("distances", {}).get(name, [0.0]))
        outside = result.sweeps and not _lies_inside(points, next(iter(result.sweeps.values())))
        label = legend_label(name) + (f" ({farthest:.3g} off the plane)" if farthest > _IN_PLANE else "")
        label += " (outside)" if outside else ""
        if name in result.facts.get("polylines", [name]) and len(points) > 1:
            dots = "." if result.kind == "trajectory" else ""
            axes.plot(*points.T, color="black", linewidth=2.6, alpha=0.6)
            axes.plot(*points.T, color=colour, linewidth=1.4, marker=dots, markersize=5, label=label)
            axes.plot(*points[-1], marker="*", color=colour, markeredgecolor="black", markersize=11)
            continue
        size = 7 if len(points) == 1 else 4
        axes.plot(*points.T, "o", color=colour, markeredgecolor="black", markersize=size, label=label)
        if len(points) == 1:
            place: Any = {"xytext": (6, 6), "textcoords": "offset points", "fontsize": 7, "clip_on": True}
            axes.annotate(name, points[0], color=edge, **place)
    if result.marks:
        axes.legend(fontsize=7, facecolor="0.35", labelcolor="white", framealpha=0.75, frameon=True, loc="best")


def _lies_inside(points: Array, sweep: Sweep) -> bool:
    """Whether any of the points is where something was measured."""
    inside = np.ones(len(points), dtype=bool)
    for column, name in enumerate("xy"):
        inside &= (points[:, column] >= sweep[name].min()) & (points[:, column] <= sweep[name].max())
    return bool(inside.any())


def _label_axes(axes: Axes, result: Result) -> None:
    explained = result.facts.get("explained")
    kind = str(result.provenance.get("axes", ""))
    if explained:
        named = [f"principal component {i + 1} ({explained[i]:.1%})" for i in (0, 1)]
    elif kind.startswith("difference") and result.provenance.get("normalise") == "none":
        reached = list(result.marks)[1:3]
        named = [f"x (1: {reached[0]})", "y (random, filter lengths)" if "random" in kind else f"y (1: {reached[-1]})"]
    elif "eigenvalues" in result.facts:
        named = [f"along the eigenvector of {value:.4g}" for value in result.facts["eigenvalues"]]
    elif result.provenance.get("normalise") == "filter":
        named = ["x (filter lengths)", "y (filter lengths)"]
    elif kind in {"through", "pca"} or figures_of(result.kind).distances:
        named = ["distance in weight space"] * 2
    else:
        named = ["x", "y"]
    axes.set(xlabel=named[0], ylabel=named[1])


def shares_unit(result: Result) -> bool:
    """Whether 1 is as far along one axis of a plane as along the other: both are distances, or both filter lengths."""
    kind = str(result.provenance.get("axes", ""))
    normalise = result.provenance.get("normalise", "none")
    distances = kind in {"through", "pca"} or "eigenvalues" in result.facts or figures_of(result.kind).distances
    return distances or normalise == "filter" or kind == "random"


def _shape(axes: Axes, result: Result) -> None:
    """Give a plane its true proportions where its axes have one unit, else the shape of a square."""
    if shares_unit(result):
        axes.set_aspect("equal")
    else:
        axes.set_box_aspect(1)


def _proportions(result: Result, sweep: Sweep) -> float:
    """The height of a plane's picture over its width."""
    return float(np.ptp(sweep["y"]) / np.ptp(sweep["x"])) if shares_unit(result) else 1.0


def _draw_distances(axes: Axes, result: Result) -> None:
    """How far each snapshot lies from the plane."""
    for (name, distances), colour in zip(result.facts["distances"].items(), cycle(MARK_COLOURS), strict=False):
        axes.plot(distances, marker=".", markersize=4, color=colour, markeredgecolor="0.3", label=legend_label(name))
    axes.set(xlabel="snapshot", ylabel="distance from the plane")
    axes.set_ylim(bottom=0)
    axes.set_title(f"longest way to the end: {result.facts['longest']:.3g}", fontsize=7, color="0.35")
    axes.grid(alpha=0.25)


def _along(result: Result) -> str:
    name = result.sweep.dims[-1]
    return f"{name} (filter lengths)" if result.provenance.get("normalise") == "filter" else name


def as_lines(sweeps: Sequence[Sweep]) -> Sweep:
    """Planes over one grid, one axis of which has a single point, as lines along the other: a bundle of several."""
    name = max(sweeps[0].axes, key=lambda axis: len(sweeps[0].axes[axis]))
    axes = {"direction": np.arange(float(len(sweeps))), name: sweeps[0].axes[name]}
    shape = [len(values) for values in axes.values()]
    values = {q: np.stack([sweep[q] for sweep in sweeps]).reshape(shape) for q in sweeps[0].values}
    return Sweep(axes, values, np.stack([sweep.done for sweep in sweeps]).reshape(shape))
