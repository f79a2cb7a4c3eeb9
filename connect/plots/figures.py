"""The pictures of a path: the profile along it, and the plane that it lies in."""

import textwrap
from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from connect.measures.barriers import doubt
from connect.measures.summaries import PATHS, PathSummary, measured_path
from connect.measures.training import Training
from landscape.plots.captions import curvature_note, describe
from landscape.plots.curvature import draw_eigenvalues
from landscape.plots.grids import grid_pictures
from landscape.plots.registry import Drawing
from landscape.plots.rendering import COLOURS, Look, new_figure
from landscape.plots.surface import draw_contours, draw_measured
from landscape.storage.quantities import QUANTITIES, name_of
from landscape.storage.results import Result

_PLANE_WIDTH, _LEAST_HEIGHT = 4.6, 0.7
_IN_PLANE, _LABEL_WIDTH, _LOGARITHMIC_FROM = 1e-3, 16, 10.0
_NAMES = {"path": "learned path", "straight": "straight line"}


def profile_figure(result: Result) -> Figure:
    """Along the path and the straight line: loss, error, how many predictions differ from the ends', and curvature.

    Below them are the losses of the epochs in which the path was trained, where they are known.
    """
    path = measured_path(result, "path")
    rows: list[Callable[[Axes], object]] = [lambda axes: _draw_losses(axes, result)]
    if any(("error", split) in path for split in path.splits):
        rows.append(lambda axes: draw_profile(axes, result, "error"))
    if ("disagreement", "a") in path:
        rows.append(lambda axes: draw_disagreement(axes, result))
    if "max_eig" in path:
        rows.append(lambda axes: draw_curvature(axes, result))
    training = Training.from_flat(result.facts.get("training"))
    heights = [1.8] * len(rows) + [1.2] * (training is not None)
    figure = new_figure(5.6, 1.6 + sum(heights))
    panels = list(figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0])
    if training:
        *panels, beneath = panels
        draw_training(beneath, training)
    for axes, draw in zip(panels, rows, strict=True):
        axes.sharex(panels[0])
        axes.tick_params(labelbottom=axes is panels[-1])
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
    measured = {name: measured_path(result, name) for name in PATHS}
    if all((each["loss", split] > 0).all() for each in measured.values() for split in each.splits):
        axes.set_yscale("log")
    for name, each in measured.items():
        if name in result.facts:
            summary = PathSummary.from_flat(result.facts[name])
            at = np.argmin(np.abs(each["t"] - summary.t_max))
            loss = each["loss", summary.split]
            axes.plot(each["t"][at], loss[at], "v", color=COLOURS[name], markersize=6, clip_on=False)


def _barrier_notes(result: Result) -> list[str]:
    """The barriers with their intervals, what those cover, and where that is not promised."""
    notes = []
    for name, words in _NAMES.items():
        barrier = PathSummary.from_flat(result.facts.get(name, {})).barrier
        if not np.isfinite(barrier.value):
            continue
        note = f"barrier of the {words} {barrier.value:.3g}"
        if np.isnan(barrier.low):
            note += " (what other examples would say is not known)"
        elif np.isfinite(barrier.carriers) or barrier.low < barrier.value:
            note += f" (95 % of second samples: {barrier.low:.3g} to {barrier.high:.3g})"
        notes.append(note)
        if doubt(barrier.carriers):
            notes.append(f"not promised: {doubt(barrier.carriers)} the interval of the {words}")
    return notes


def draw_profile(axes: Axes, result: Result, quantity: str) -> list[object]:
    """The "loss" or "error" along both paths; the training split is solid, the others are dashed."""
    lines: list[object] = []
    for name, words in _NAMES.items():
        measured = measured_path(result, name)
        for split in measured.splits:
            shown = QUANTITIES[quantity].factor * measured[quantity, split]
            style = "-" if split == measured.splits[0] else "--"
            lines += axes.plot(measured["t"], shown, style, color=COLOURS[name], label=f"{words}, {split}")
    axes.set_ylabel(QUANTITIES[quantity].label_with_unit)
    return lines


def draw_disagreement(axes: Axes, result: Result) -> list[object]:
    """The share of predictions that differ from those of either end: from A solid, from B dotted."""
    lines: list[object] = []
    quantity = QUANTITIES["disagreement"]
    for name, words in _NAMES.items():
        measured = measured_path(result, name)
        for end, style in (("a", "-"), ("b", ":")):
            shown = quantity.factor * measured["disagreement", end]
            label = f"{words}, from {end.upper()}"
            lines += axes.plot(measured["t"], shown, style, color=COLOURS[name], label=label)
    axes.set_ylabel(textwrap.fill(quantity.label_with_unit, _LABEL_WIDTH))
    axes.legend(fontsize=7, loc="upper left")
    return lines


def draw_training(axes: Axes, training: Training) -> list[object]:
    """The mean loss of each epoch of a training."""
    losses = training.losses
    lines: list[object] = list(
        axes.plot(np.arange(1, len(losses) + 1), losses, ".-", color=COLOURS["path"], markersize=3)
    )
    known = losses[np.isfinite(losses)]
    if known.size and known.min() > 0 and known.max() > _LOGARITHMIC_FROM * known.min():
        axes.set_yscale("log")
    axes.set(xlabel="epoch of the path's training", ylabel="mean loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    return lines


def draw_curvature(axes: Axes, result: Result) -> list[object]:
    """The Hessian's ends and trace along both paths: solid, dashed and dotted, in the paths' colours."""
    return [
        line
        for name, words in _NAMES.items()
        for line in draw_eigenvalues(axes, result.sweeps[name], colour=COLOURS[name], name=words)
    ]


def plane_pictures(result: Result, drawing: Drawing) -> dict[str, Figure | bytes]:
    """The plane with the paths on it; as any other surface where a style or a quantity is asked for.

    Raises:
        ConfigError: the result does not have a style or a quantity.
    """
    if drawing.style is None and drawing.quantity is None:
        return {"": plane_figure(result, drawing.look)}
    return grid_pictures(result, drawing)


def plane_figure(result: Result, look: Look | None = None) -> Figure:
    """Contours of the loss over a plane, with both paths on it, and dots where the grid was measured.

    The plane goes through the control points where there are three. Of more, the figure shows the projections, and says
    how far the path and the farthest control point lie off the plane.
    """
    shown, split = result.completed(), result.sweep.splits[0]
    x, y = shown["x"], shown["y"]
    width = float(x[-1] - x[0])
    height = _PLANE_WIDTH * float(y[-1] - y[0]) / width
    figure = new_figure(_PLANE_WIDTH + 1.6, max(_LEAST_HEIGHT, height) + 1.4)
    figure.set_layout_engine("compressed")
    axes = figure.add_subplot()
    draw_contours(axes, shown, name_of("loss", split), look=look)
    draw_measured(axes, result.sweep)
    for name, words in _NAMES.items():
        label = f"{words}, projected" if name == "path" and _path_distance(result) else words
        axes.plot(*result.marks[name].T, color="white", linewidth=3.5)
        axes.plot(*result.marks[name].T, color=COLOURS[name], linewidth=2, label=label)
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
