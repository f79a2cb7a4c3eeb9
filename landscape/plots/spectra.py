"""The Hessian's spectrum at a point."""

import numpy as np
from matplotlib.figure import Figure

from landscape.plots.captions import describe, draw_caption
from landscape.plots.rendering import COLOURS, new_figure
from landscape.storage.results import Result

_FAINTEST = 1e-8


def spectrum_pictures(result: Result) -> dict[str, Figure]:
    """All pictures of a spectrum, by name: its ends with the density, and each layer's own, as far as it has them."""
    ends = {"": spectrum_figure(result)} if "ends" in result.facts else {}
    return ends | ({"layers": layers_figure(result)} if "layers" in result.facts else {})


def spectrum_figure(result: Result) -> Figure:
    """The density of eigenvalues on a logarithmic scale, with the ends of the spectrum, or the ends alone."""
    figure = new_figure(6.2, 3.6)
    axes = figure.add_subplot()
    ends = result.facts["ends"]
    state = "converged" if ends["converged"] else "not converged"
    note = ""
    if "density" in result.sweeps:
        sweep = result.sweeps["density"]
        axes.semilogy(sweep["eigenvalue"], sweep["density"], color=COLOURS["path"])
        axes.set_ylim(bottom=_FAINTEST * sweep["density"].max())
        axes.set_ylabel("density")
        note = f"Gaussian width {result.facts['density']['width']:.3g}"
    else:
        axes.set_yticks([])
    for name, values in (("largest", ends["top"]), ("smallest", ends["bottom"])):
        colour = COLOURS["straight" if name == "largest" else "ends"]
        axes.plot(values, [0.03] * len(values), "|", color=colour, markersize=16, label=f"{name}, {state}",
                  transform=axes.get_xaxis_transform())  # fmt: skip
    axes.set_xlabel("eigenvalue")
    axes.legend(fontsize=7)
    draw_caption(axes, result.provenance, None, [f"{_matrix(result)} of {result.provenance['parameters']}", note])
    return figure


def _matrix(result: Result) -> str:
    return {"gauss_newton": "Gauss-Newton matrix"}.get(result.provenance.get("matrix", ""), "Hessian")


def layers_figure(result: Result) -> Figure:
    """The largest eigenvalue and the trace of each tensor's own block."""
    blocks = result.facts["layers"]["blocks"]
    figure = new_figure(6.8, 1.3 + 0.22 * len(blocks))
    left, right = figure.subplots(1, 2, sharey=True)
    rows = np.arange(len(blocks))
    left.barh(rows, [block["top"] for block in blocks.values()], color=COLOURS["path"])
    right.barh(rows, [block["trace"] for block in blocks.values()], color=COLOURS["path"],
               xerr=[block["trace_error"] for block in blocks.values()])  # fmt: skip
    left.set_yticks(rows, list(blocks), fontsize=6)
    left.invert_yaxis()
    left.set_xlabel("largest eigenvalue")
    right.set_xlabel("trace, with standard error")
    figure.suptitle(describe(result.provenance), fontsize=7, color="0.35")
    return figure
