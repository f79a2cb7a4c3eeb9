"""A loss over a plane, as contours and in three dimensions."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LightSource, LogNorm, Normalize
from matplotlib.contour import QuadContourSet
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from mpl_toolkits.mplot3d.axes3d import Axes3D

from landscape.results import Array, Sweep

_LOGARITHMIC_FROM = 10.0
_LEVELS = 32
_LINES = 10
_COLOUR_MAP = "viridis"
_MISSING = "0.82"


def is_logarithmic(losses: Array) -> bool:
    """Whether finite losses span so much that only their logarithm shows the valleys."""
    finite = losses[np.isfinite(losses)]
    return bool(finite.size and finite.min() > 0 and finite.max() / finite.min() >= _LOGARITHMIC_FROM)


def draw_contours(axes: Axes, sweep: Sweep, quantity: str, label: str) -> QuadContourSet:
    """Filled contours with lines and a colour bar; what is not finite or not measured stays grey.

    Args:
        axes: where to draw.
        sweep: measurements `[iy, ix]`, at least two points each way.
        quantity: which array of the sweep.
        label: of the colour bar.

    Returns:
        The filled contours.
    """
    values = np.ma.masked_invalid(np.where(sweep.done, sweep.values[quantity], np.nan))
    x, y = sweep.axes["x"], sweep.axes["y"]
    logarithmic = is_logarithmic(sweep.values[quantity])
    levels, norm = _levels(values, logarithmic)
    axes.set_facecolor(_MISSING)
    filled = axes.contourf(x, y, values, levels=levels, norm=norm, cmap=_COLOUR_MAP)
    marked = _round_values(levels[0], levels[-1], logarithmic)
    lines = axes.contour(x, y, values, levels=marked, colors="white", linewidths=0.6, alpha=0.8)
    axes.clabel(lines, fmt=lambda value: f"{value:.3g}", fontsize=6)
    figure = axes.get_figure()
    if figure is not None:
        bar = figure.colorbar(filled, ax=axes, label=label)
        bar.set_ticks(list(marked), labels=[f"{value:.3g}" for value in marked])
        bar.minorticks_off()
    return filled


def draw_surface(axes: Axes3D, sweep: Sweep, quantity: str, label: str) -> Poly3DCollection:
    """The surface in three dimensions; its height is the logarithm where the losses span a factor of ten.

    Args:
        axes: three-dimensional axes.
        sweep: measurements `[iy, ix]`, at least two points each way.
        quantity: which array of the sweep.
        label: of the height.

    Returns:
        The surface.
    """
    values = np.where(sweep.done & np.isfinite(sweep.values[quantity]), sweep.values[quantity], np.nan)
    logarithmic = is_logarithmic(values)
    heights = np.log10(values) if logarithmic else values
    x, y = np.meshgrid(sweep.axes["x"], sweep.axes["y"])
    finite = heights[np.isfinite(heights)]
    norm = Normalize(finite.min(), finite.max()) if finite.size else Normalize(0, 1)
    colours = ScalarMappable(norm, _COLOUR_MAP).to_rgba(np.nan_to_num(heights, nan=float(norm.vmin or 0)))
    drawn = axes.plot_surface(
        x, y, heights, facecolors=colours, rcount=120, ccount=120, linewidth=0, lightsource=LightSource(315, 60)
    )
    axes.set(xlabel="x", ylabel="y", zlabel=label)
    if logarithmic:
        axes.zaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{10**value:.2g}"))
    axes.view_init(elev=38, azim=-58)
    return drawn


def _levels(values: np.ma.MaskedArray, logarithmic: bool) -> tuple[Array, Normalize]:
    low, high = (float(values.min()), float(values.max())) if values.count() else (0.0, 1.0)
    if logarithmic:
        return np.geomspace(low, high, _LEVELS), LogNorm(low, high)
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, _LEVELS), Normalize(low, high)


def _round_values(low: float, high: float, logarithmic: bool) -> Array:
    """Round numbers inside the range, such as 0.1, 0.3, 1, 3 on a logarithmic scale."""
    locator = LogLocator(subs=(1.0, 3.0), numticks=30) if logarithmic else MaxNLocator(_LINES)
    values = np.asarray(locator.tick_values(low, high))
    return values[(values > low) & (values < high)]
