"""A quantity over a plane: contours, a heat map, and in three dimensions."""

from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LightSource, Normalize
from matplotlib.ticker import LogLocator, MaxNLocator
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from mpl_toolkits.mplot3d.axes3d import Axes3D

from landscape.plots.rendering import MISSING, Look, Scale
from landscape.storage.quantities import variable
from landscape.storage.results import Array, Sweep

_LEVELS, _LINES = 32, 10

FlatStyle = Literal["contour", "filled", "heatmap"]


def shown_values(sweep: Sweep, quantity: str) -> Array:
    """What a picture shows of a quantity, in the unit of its label; NaN where nothing is measured or interpolated."""
    values = sweep[quantity] * variable(quantity).quantity.factor
    return values if np.isfinite(values[~sweep.done]).any() else np.where(sweep.done, values, np.nan)


def draw_contours(
    axes: Axes,
    sweep: Sweep,
    quantity: str,
    *,
    style: FlatStyle = "filled",
    look: Look | None = None,
    scale: Scale | None = None,
    bar: bool = True,
) -> Any:
    """A quantity over a plane: lines, filled contours with lines, or a heat map.

    What is not finite or not measured is hatched grey, what lies above the scale is white. Returns what carries the
    colours.

    Args:
        axes: where to draw.
        sweep: measurements `[iy, ix]`, at least two points each way.
        quantity: which array of the sweep.
        style: the kind.
        look: scale and colours.
        scale: that several pictures share, instead of the look's own.
        bar: whether to add a colour bar.
    """
    look = look or Look()
    values = shown_values(sweep, quantity)
    scale = scale or look.scale_of(values)
    finite = np.ma.masked_invalid(values)
    x, y = sweep.axes["x"], sweep.axes["y"]
    shade_missing(axes)
    above = bool((finite > scale.high).any())
    if style == "heatmap":
        colours: Any = axes.pcolormesh(x, y, finite, norm=scale.norm, cmap=look.colours(), shading="nearest")
    else:
        _contour(axes, x, y, values, style, scale, look, above)
        colours = ScalarMappable(scale.norm, look.colours())
    if bar:
        draw_bar(axes, colours, scale, variable(quantity).label, clipped=above)
    return colours


def _contour(
    axes: Axes, x: Array, y: Array, values: Array, style: FlatStyle, scale: Scale, look: Look, above: bool
) -> None:
    """Contours of the heights, so that colours and lines between two points lie where the logarithm has them."""
    with np.errstate(invalid="ignore"):
        heights = np.ma.masked_invalid(scale.raised(values))
        marked = marked_levels(scale)
        labels = dict(zip(scale.raised(marked), marked, strict=True))
        norm = Normalize(*scale.raised(np.array([scale.low, scale.high])))
        if style == "contour":
            axes.contourf(x, y, np.where(np.isfinite(values), 0.0, np.nan), levels=[-1, 1], colors=["white"])
            coloured: Any = {"norm": norm, "cmap": look.colours(), "linewidths": 1.1}
        else:
            levels = np.linspace(norm.vmin or 0.0, norm.vmax or 0.0, _LEVELS)
            extend: Any = "max" if above else "neither"
            axes.contourf(x, y, heights, levels=levels, norm=norm, cmap=look.colours(), extend=extend)
            coloured = {"colors": "white", "alpha": 0.8, "linewidths": 0.6, "linestyles": "solid"}
        if len(marked):
            lines = axes.contour(x, y, heights, levels=list(labels), **coloured)
            axes.clabel(lines, fmt=lambda height: f"{labels[height]:.3g}", fontsize=6)


def draw_bar(axes: Any, colours: Any, scale: Scale, label: str, *, clipped: bool = False) -> Any:
    """A colour bar with round values beside one or several axes; `clipped` says that values lie above the scale."""
    figure: Any = (axes if isinstance(axes, Axes) else np.ravel(axes)[0]).get_figure()
    bar = figure.colorbar(colours, ax=axes, label=label, extend="max" if clipped else "neither")
    marked = marked_levels(scale)
    bar.set_ticks(list(marked), labels=[f"{value:.3g}" for value in marked])
    bar.minorticks_off()
    return bar


def draw_measured(axes: Axes, sweep: Sweep, colours: ScalarMappable | None = None, quantity: str = "") -> Any:
    """Dots where a surface was measured; in the colours of a quantity where nothing was interpolated between them."""
    y, x = np.nonzero(sweep.done)
    if colours is not None:
        values = colours.to_rgba(shown_values(sweep, quantity)[y, x])
        return axes.scatter(sweep.axes["x"][x], sweep.axes["y"][y], 12, values, edgecolors="0.3", linewidths=0.3)
    return axes.plot(sweep.axes["x"][x], sweep.axes["y"][y], ".", color="black", markersize=1.2, alpha=0.6)[0]


def draw_surface(axes: Axes3D, sweep: Sweep, quantity: str, *, look: Look | None = None) -> Poly3DCollection:
    """The surface `[iy, ix]` in three dimensions; its height is the logarithm where the colours are logarithmic.

    What is not finite is left out; what lies above the scale is cut off flat, in white.
    """
    look = look or Look()
    values = shown_values(sweep, quantity)
    scale = look.scale_of(values)
    values = np.where(np.isfinite(values), values, np.nan)
    x, y = np.meshgrid(sweep.axes["x"], sweep.axes["y"])
    surface = axes.plot_surface(
        x,
        y,
        scale.heights(values),
        facecolors=look.colours()(scale.norm(np.ma.masked_invalid(_of_faces(values, scale)))),
        rcount=120,
        ccount=120,
        linewidth=0,
        lightsource=LightSource(315, 60),
    )
    axes.set(xlabel="x", ylabel="y", zlabel=variable(quantity).label)
    if scale.logarithmic:
        marked = marked_levels(scale)
        axes.set_zticks(np.log10(marked), labels=[f"{value:.3g}" for value in marked])
    axes.view_init(elev=38, azim=-58)
    return surface


def _of_faces(values: Array, scale: Scale) -> Array:
    """The value of each face `[iy - 1, ix - 1]`: the mean of its corners, in the logarithm on a logarithmic scale."""
    heights = np.log(np.maximum(values, scale.low)) if scale.logarithmic else values
    means = (heights[1:, 1:] + heights[1:, :-1] + heights[:-1, 1:] + heights[:-1, :-1]) / 4
    return np.exp(means) if scale.logarithmic else means


def clipping_note(sweep: Sweep, quantity: str, scale: Scale) -> str:
    """What the colours of their own stand for, where they occur."""
    values = shown_values(sweep, quantity)
    finite = values[np.isfinite(values)]
    notes = [f"white: above {scale.high:.3g}"] if (finite > scale.high).any() else []
    notes += [f"darkest: below {scale.low:.3g}"] if (finite < scale.low * (1 - 1e-9)).any() else []
    notes += ["hatched: not finite"] if not np.isfinite(values[sweep.done]).all() else []
    notes += ["hatched: not measured"] if (np.isnan(values) & ~sweep.done).any() else []
    return " · ".join(notes)


def marked_levels(scale: Scale) -> Array:
    """Round values inside a scale, such as 0.1, 0.3, 1, 3 on a logarithmic one."""
    low, high = scale.low, scale.high
    locator = LogLocator(subs=(1.0, 3.0), numticks=30) if scale.logarithmic and high / low > 30 else MaxNLocator(_LINES)
    values = np.asarray(locator.tick_values(low, high))
    return values[(values > low) & (values < high)]


def shade_missing(axes: Axes) -> None:
    """Hatch in grey whatever nothing is drawn over."""
    axes.set_facecolor(MISSING)
    axes.patch.set(hatch="////", edgecolor="0.5")
