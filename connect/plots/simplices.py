"""Networks inside simplices of low loss, against their vertices."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landscape.plots.captions import describe
from landscape.plots.rendering import COLOURS, new_figure
from landscape.storage.quantities import name_of, variable
from landscape.storage.results import Result


def simplex_figure(result: Result) -> Figure:
    """How loss and error are spread inside, with those of the vertices."""
    inside = result.sweeps["inside"]
    quantities = [
        name_of(name, split) for name in ("loss", "error") for split in inside.splits if (name, split) in inside
    ]
    figure = new_figure(1.2 + 2.1 * len(quantities), 3.4)
    panels: Any = figure.subplots(1, len(quantities), squeeze=False)[0]
    for axes, quantity in zip(panels, quantities, strict=True):
        draw_inside(axes, result, quantity)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=7, loc="outside lower center", ncols=3)
    minima, connecting = result.facts["minima"], result.facts["connecting"]
    counts = f"{_counted(minima, 'minimum', 'minima')}, {_counted(connecting, 'connecting point', 'connecting points')}"
    figure.suptitle(f"{describe(result.provenance)}\n{counts}", fontsize=7, color="0.35")
    return figure


def draw_inside(axes: Axes, result: Result, quantity: str) -> list[object]:
    """One quantity, such as "train_loss", of every network inside as a point, and of the vertices as marks."""
    shown = variable(quantity)
    inside, vertices = (shown.quantity.factor * result.sweeps[name][quantity] for name in ("inside", "vertices"))
    aside = np.random.default_rng(0).uniform(-0.25, 0.25, len(inside))
    minima = result.facts["minima"]
    marks: list[object] = []
    marks += axes.plot(aside, inside, "o", color=COLOURS["path"], alpha=0.5, markersize=4, label="inside")
    marks += axes.plot(np.full(minima, 0.5), vertices[:minima], "D", color=COLOURS["straight"], label="minima")
    others = vertices[minima:]
    marks += axes.plot(np.full(len(others), 0.5), others, "s", color="black", label="connecting points")
    axes.set(xticks=[], xlim=(-0.5, 0.75), title=shown.of, ylabel=shown.quantity.label_with_unit)
    if shown.quantity.name == "error":
        axes.set_ylim(bottom=0)
    elif (inside > 0).all() and (vertices > 0).all():
        axes.set_yscale("log")
    axes.grid(alpha=0.25, axis="y")
    return marks


def _counted(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"
