"""The Hessian's extreme eigenvalues: over a plane with contours of the loss, and along a line."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize, SymLogNorm
from matplotlib.lines import Line2D

from landscape.plots.lines import draw_quantity
from landscape.plots.rendering import COLOURS, Look
from landscape.plots.surface import marked_levels, shade_missing, shown_values
from landscape.storage.quantities import variable
from landscape.storage.results import Array, Sweep

MAPS = ("ratio", "signed_ratio", "max_eig", "min_eig")
_LOGARITHMIC_FROM, _FAINTEST = 10.0, 1e-3
_DIVERGING = "PuOr_r"


def is_map(quantity: str) -> bool:
    """Whether a quantity is an eigenvalue or a ratio of two, also of the second sample."""
    return variable(quantity).quantity.name in MAPS


def map_norm(quantity: str, values: Array, look: Look | None = None) -> Normalize:
    """How values of any shape become colours on one scale: between the ends of the look, else the quantity's limits.

    Without either, what may be negative lies around zero.
    """
    look = look or Look()
    own = variable(quantity).quantity
    finite = values[np.isfinite(values)]
    least, most = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    largest = max(abs(least), abs(most)) or 1.0
    positive = own.scale == "log" and least > 0
    low, high = own.limits or ((least, most) if positive else (-largest, largest))
    if look.low is not None or look.high is not None:
        low, high = _limits(look, low, high)
    if own.scale == "linear":
        return Normalize(low, high)
    if positive and low > 0 and high / low < _LOGARITHMIC_FROM:
        return Normalize(low / 1.1, high * 1.1) if low == high else Normalize(low, high)
    if positive and low > 0:
        return LogNorm(low, high)
    return SymLogNorm(_FAINTEST * max(abs(low), abs(high)), vmin=low, vmax=high)


def _limits(look: Look, low: float, high: float) -> tuple[float, float]:
    """The ends that are given, and the others moved where they would not lie beyond them."""
    span = high - low or 1.0
    if look.low is not None and look.high is not None:
        return look.low, look.high
    if look.low is not None:
        return look.low, max(high, look.low + span) if look.low >= high else high
    end = look.high if look.high is not None else high
    return (end - span if end <= low else low), end


def draw_map(
    axes: Axes,
    sweep: Sweep,
    quantity: str,
    *,
    look: Look | None = None,
    norm: Normalize | None = None,
    bar: bool = True,
) -> Any:
    """An eigenvalue or a ratio of two (see `MAPS`) as a heat map, with contours of the loss on it.

    What is not finite or not measured is hatched grey; what lies beyond the scale has its last colour. Returns what
    carries the colours.

    Args:
        axes: where to draw.
        sweep: measurements `[iy, ix]`, at least two points each way.
        quantity: such as "ratio".
        look: colours.
        norm: that several pictures share, instead of the quantity's own.
        bar: whether to add a colour bar.
    """
    look = look or Look()
    values = shown_values(sweep, quantity)
    norm = norm or map_norm(quantity, values, look)
    x, y = sweep["x"], sweep["y"]
    shade_missing(axes)
    colours = _DIVERGING if (norm.vmin or 0) < 0 else look.colour_map
    image = axes.pcolormesh(x, y, np.ma.masked_invalid(values), norm=norm, cmap=colours, shading="nearest")
    _draw_loss(axes, sweep)
    if bar:
        draw_map_bar(axes, image, quantity, values)
    return image


def draw_map_bar(axes: Any, image: ScalarMappable, quantity: str, values: Array) -> Any:
    """The colour bar of a map beside axes, of which there may be several, with points where values lie beyond it."""
    figure = np.ravel(np.asarray(axes, dtype=object))[0].get_figure()
    finite = values[np.isfinite(values)]
    above, below = bool((finite > image.norm.vmax).any()), bool((finite < image.norm.vmin).any())
    extend = {(True, True): "both", (True, False): "max", (False, True): "min"}.get((above, below), "neither")
    bar = figure.colorbar(image, ax=axes, label=variable(quantity).label, extend=extend)
    if isinstance(image.norm, SymLogNorm):
        low, high = image.norm.vmin or 0.0, image.norm.vmax or 0.0
        most = max(-low, high)
        decades = 10.0 ** (np.floor(np.log10(most)) + np.arange(-2, 1))
        ticks = np.concatenate([-decades[::-1], [0], decades])
        ticks = ticks[(ticks >= low) & (ticks <= high)]
        bar.set_ticks(list(ticks), labels=[f"{tick:g}" for tick in ticks])
        bar.minorticks_off()
    return bar


def _draw_loss(axes: Axes, sweep: Sweep) -> None:
    """Contours of the loss of the first split."""
    if not sweep.splits:
        return
    loss = np.where(sweep.done, sweep["loss", sweep.splits[0]], np.nan)
    levels = marked_levels(Look().scale_of(loss))
    if len(levels):
        with np.errstate(invalid="ignore"):
            lines = axes.contour(
                sweep["x"], sweep["y"], np.ma.masked_invalid(loss), levels=levels, colors="black", linewidths=0.7
            )
        axes.clabel(lines, fmt=lambda value: f"{value:.3g}", fontsize=6)


def draw_eigenvalues(axes: Axes, sweep: Sweep, *, colour: str | None = None, name: str = "") -> list[Line2D]:
    """The largest and the smallest eigenvalue along a line, and the trace with its standard error, where known.

    Several sweeps, `[it]` or along a bundle `[n, it]`, may share the axes: each has a name for the legend then, and one
    colour for all its lines.
    """
    t = sweep[sweep.dims[-1]]
    own = {"max_eig": COLOURS["straight"], "min_eig": COLOURS["path"], "trace": COLOURS["ends"]}
    shared = {"max_eig": "-", "min_eig": "--", "trace": ":"}
    lines = []
    measured = [quantity for quantity in own if quantity in sweep]
    for quantity in measured:
        line_colour, style = (colour, shared[quantity]) if colour else (own[quantity], "-")
        label = ", ".join(filter(None, [name, variable(quantity).label]))
        lines += draw_quantity(axes, sweep, quantity, style, line_colour, label)
    if "trace" in measured and sweep.done.ndim == 1:
        trace, error = sweep["trace"], sweep["trace_error"]
        axes.fill_between(t, trace - error, trace + error, color=colour or own["trace"], alpha=0.15, linewidth=0)
    sizes = np.abs(np.concatenate([line.get_ydata() for line in axes.get_lines()]).astype(float))
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    if sizes.size and sizes.max() > _LOGARITHMIC_FROM * sizes.min():
        axes.set_yscale("symlog", linthresh=max(float(np.quantile(sizes, 0.1)), _FAINTEST * float(sizes.max())))
    axes.axhline(0, color="0.6", linewidth=0.6)
    axes.set_ylabel("curvature")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=6 if colour else 7, ncols=2 if colour else 1)
    return lines
