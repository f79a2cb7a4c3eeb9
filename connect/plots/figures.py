"""The pictures of a path: the profile along it, and the plane that it lies in."""

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from connect.measures.barriers import doubt
from connect.measures.ways import WAYS, along
from landscape.plots.curvature import draw_eigenvalues
from landscape.plots.figures import curvature_note, describe
from landscape.plots.rendering import COLOURS, new_figure
from landscape.plots.surface import draw_contours, draw_measured
from landscape.storage.results import Result

_PLANE_WIDTH, _LEAST_HEIGHT = 4.6, 0.7
_IN_PLANE = 1e-3
_NAMES = {"path": "learned path", "straight": "straight line"}


def profile_figure(result: Result) -> Figure:
    """Along the path and the straight line: loss, error, how many predictions differ from the ends', and curvature.

    Args:
        result: of kind "profile".
    """
    path = along(result, "path")
    has_error = any(f"{split}_accuracy" in path.values for split in path.splits)
    rows: list[Callable[[Axes], object]] = [lambda axes: _draw_losses(axes, result)]
    if has_error:
        rows.append(lambda axes: draw_profile(axes, result, "error"))
    if "disagreement_a" in path.values:
        rows.append(lambda axes: draw_disagreement(axes, result))
    if "max_eig" in path.values:
        rows.append(lambda axes: draw_curvature(axes, result))
    figure = new_figure(5.6, 1.6 + 1.8 * len(rows))
    panels = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
    for axes, draw in zip(panels, rows, strict=True):
        draw(axes)
        axes.grid(alpha=0.25)
    noted = [describe(result.provenance), curvature_note(result.provenance), *_barrier_notes(result)]
    panels[0].set_title("\n".join(filter(None, noted)), fontsize=7, color="0.35")
    panels[-1].set_xlabel("t")
    panels[-1].set_xlim(0, 1)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=7, loc="outside lower center", ncols=2)
    return figure


def _draw_losses(axes: Axes, result: Result) -> None:
    draw_profile(axes, result, "loss")
    ways = [along(result, way) for way in WAYS]
    if all((measured[f"{split}_loss"] > 0).all() for measured in ways for split in measured.splits):
        axes.set_yscale("log")
    for way in WAYS:
        known, measured = result.facts.get(way), along(result, way)
        if known:
            loss = measured[f"{known['split']}_loss"]
            at = np.argmin(np.abs(measured["t"] - known["t_max"]))
            axes.plot(measured["t"][at], loss[at], "v", color=COLOURS[way], markersize=6, clip_on=False)


def _barrier_notes(result: Result) -> list[str]:
    """The barriers with their intervals, what those cover, and where that is not promised."""
    told = []
    for way, name in _NAMES.items():
        known = result.facts.get(way)
        if not known or not np.isfinite(known["barrier"]):
            continue
        low, high, carriers = (known.get(key, np.nan) for key in ("barrier_low", "barrier_high", "barrier_carriers"))
        note = f"barrier of the {name} {known['barrier']:.3g}"
        if np.isnan(low):
            note += " (what other examples would say is not known)"
        elif np.isfinite(carriers) or low < known["barrier"]:
            note += f" (95 % of second samples: {low:.3g} to {high:.3g})"
        told.append(note)
        if doubt(carriers):
            told.append(f"not promised: {doubt(carriers)} the interval of the {name}")
    return told


def draw_profile(axes: Axes, result: Result, quantity: str) -> list[object]:
    """One quantity along both ways; the training split is solid, the others are dashed.

    Args:
        axes: where to draw.
        result: of kind "profile".
        quantity: "loss", or "error" in per cent.

    Returns:
        The lines.
    """
    lines: list[object] = []
    for way, name in _NAMES.items():
        measured = along(result, way)
        for split in measured.splits:
            values = measured.values[f"{split}_{'loss' if quantity == 'loss' else 'accuracy'}"]
            shown = values if quantity == "loss" else 100 * (1 - values)
            style = "-" if split == measured.splits[0] else "--"
            lines += axes.plot(measured.axes["t"], shown, style, color=COLOURS[way], label=f"{name}, {split}")
    axes.set_ylabel("loss" if quantity == "loss" else "error (%)")
    return lines


def draw_disagreement(axes: Axes, result: Result) -> list[object]:
    """The share of predictions that differ from those of either end: from A solid, from B dotted.

    Args:
        axes: where to draw.
        result: of kind "profile", of networks that classify.

    Returns:
        The lines.
    """
    lines: list[object] = []
    for way, name in _NAMES.items():
        measured = along(result, way)
        for end, style in (("a", "-"), ("b", ":")):
            shown = 100 * measured[f"disagreement_{end}"]
            label = f"{name}, from {end.upper()}"
            lines += axes.plot(measured["t"], shown, style, color=COLOURS[way], label=label)
    axes.set_ylabel("predictions that\ndiffer (%)")
    axes.legend(fontsize=7, loc="upper left")
    return lines


def draw_curvature(axes: Axes, result: Result) -> list[object]:
    """The Hessian's ends and trace along both ways: solid, dashed and dotted, in the ways' colours.

    Args:
        axes: where to draw.
        result: of kind "profile", measured with curvature.

    Returns:
        The lines.
    """
    return [
        line
        for way, name in _NAMES.items()
        for line in draw_eigenvalues(axes, result.sweeps[way], colour=COLOURS[way], name=name)
    ]


def plane_figure(result: Result) -> Figure:
    """Contours of the loss over a plane, with both ways on it, and dots where the grid was measured.

    The plane goes through the control points where there are three. Of more, the figure shows the projections, and says
    how far the path and the farthest control point lie off the plane.

    Args:
        result: of kind "plane".
    """
    shown, split = result.completed(), result.sweep.splits[0]
    x, y = shown["x"], shown["y"]
    width = float(x[-1] - x[0])
    height = _PLANE_WIDTH * float(y[-1] - y[0]) / width
    figure = new_figure(_PLANE_WIDTH + 1.6, max(_LEAST_HEIGHT, height) + 1.4)
    figure.set_layout_engine("compressed")
    axes = figure.add_subplot()
    draw_contours(axes, shown, f"{split}_loss", f"{split} loss")
    draw_measured(axes, result.sweep)
    for way, name in _NAMES.items():
        label = f"{name}, projected" if way == "path" and _path_distance(result) else name
        axes.plot(*result.marks[way].T, color="white", linewidth=3.5)
        axes.plot(*result.marks[way].T, color=COLOURS[way], linewidth=2, label=label)
    axes.plot(*result.marks["control points"].T, "s", color="white", markeredgecolor="black", label="control points")
    for end in ("a", "b"):
        axes.plot(*result.marks[end].T, "o", color="white", markeredgecolor="black", markersize=8)
        letter = axes.annotate(end.upper(), result.marks[end][0], xytext=(7, 7), textcoords="offset points")
        letter.set(color="white", path_effects=[withStroke(linewidth=2, foreground="0.2")])
    axes.set(xlabel="distance in weight space", ylabel="distance in weight space", aspect="equal")
    axes.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    axes.set_title("\n".join([describe(result.provenance), *_plane_notes(result)]), fontsize=7, color="0.35")
    figure.legend(*axes.get_legend_handles_labels(), fontsize=7, loc="outside lower center", ncols=3)
    return figure


def _plane_notes(result: Result) -> list[str]:
    """What of a plane was measured, and how far from it lies what is drawn on it."""
    noted = []
    if result.completed() is not result.sweep:
        noted.append(f"measured at {result.sweep.done.size} points (dots) and along both lines, interpolated between")
    off = result.facts["largest_distance_from_plane"]
    if off > _IN_PLANE * float(np.ptp(result["x"])):
        noted.append(f"control points up to {off:.2g} off the plane")
    if off := _path_distance(result):
        share = off / float(np.linalg.norm(result.marks["b"] - result.marks["a"]))
        noted.append(
            f"the path up to {off:.2g} off it, {share:.0%} of the distance from A to B: "
            "the colours are the plane's, not the path's"
        )
    return noted


def _path_distance(result: Result) -> float:
    """How far the path goes from the plane; 0 where it lies in it."""
    off = float(result.facts.get("path_distance_from_plane", 0.0))
    return off if off > _IN_PLANE * float(np.ptp(result["x"])) else 0.0
