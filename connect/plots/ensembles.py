"""What each further member brings to an ensemble."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from landscape.plots.captions import describe
from landscape.plots.rendering import COLOURS, new_figure
from landscape.storage.quantities import QUANTITIES
from landscape.storage.results import Result, Sweep

_PANELS = ("error", "nll", "calibration_error")
_REFERENCES = {
    "ensemble of the ends": ("#009E73", "--"),
    "weight average of the members": ("#CC79A7", "-."),
    "weight average of the ends": ("#E69F00", ":"),
}
_FAR = 3.0


def ensemble_figure(result: Result) -> Figure:
    """Error, likelihood and calibration against the number of members, with the other ways of averaging."""
    figure = new_figure(9.0, 3.6)
    panels = figure.subplots(1, len(_PANELS))
    for axes, quantity in zip(panels, _PANELS, strict=True):
        draw_members(axes, result, quantity)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=7, loc="outside lower center", ncols=3)
    note = f"{describe(result.provenance)}\n{result.facts['split']} split · two members differ on "
    note += f"{result.facts['diversity']:.2%} of the examples, the two ends on {result.facts['diversity_of_ends']:.2%}"
    figure.suptitle(note, fontsize=7, color="0.35")
    return figure


def draw_members(axes: Axes, result: Result, quantity: str) -> list[object]:
    """The error, "nll" or "calibration_error" as members join, of each member alone, and of the other averages.

    Averages that are far worse than everything else are named at the edge and not drawn.
    """
    sweep, shown = result.sweeps["members"], QUANTITIES[quantity]
    count = sweep["count"]
    together, alone = (shown.factor * sweep[quantity, of] for of in ("", "member"))
    lines: list[object] = []
    lines += axes.plot(count, together, "o-", color=COLOURS["path"], label="ensemble of the members so far")
    lines += axes.plot(count, alone, "x", color="0.45", label="the member that joins, alone")
    worst = _FAR * max(together.max(), alone.max())
    beyond = []
    for name, (colour, style) in _REFERENCES.items():
        value = shown.factor * float(Sweep({}, result.facts["scores"][name], np.array(True))[quantity])
        if value > worst:
            beyond.append(f"{name}: {value:.3g}")
        height = value if value <= worst else float("nan")
        lines += axes.plot(count[[0, -1]], np.full(2, height), style, color=colour, label=name)
    if beyond:
        axes.set_title("\n".join(beyond), fontsize=7, color="0.35")
    axes.set(xlabel="members", ylabel=shown.label_with_unit, ylim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    return lines
