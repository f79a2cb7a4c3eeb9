"""A quantity along a line or along a bundle of lines."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from landscape.plots.rendering import COLOURS, Look, legend_label
from landscape.storage.quantities import name_of, variable
from landscape.storage.results import Array, Sweep, quartiles

_STYLES = ("-", "--", ":", "-.")


def draw_line(axes: Axes, sweep: Sweep, look: Look | None = None) -> list[Line2D]:
    """The loss of every split along a line, with the accuracy on a second axis.

    Along a bundle of lines, `[n, it]`, they become a band of median and quartiles with each draw thin in it. Returns
    the lines of the losses and accuracies, without the thin ones.
    """
    look = look or Look()
    name = list(sweep.axes)[-1]
    t = sweep.axes[name]
    lines = []
    scale = look.scale_of(shown_losses(sweep))
    second: Any = None
    for split, style in zip(sweep.splits, _STYLES, strict=False):
        loss, accuracy = name_of("loss", split), name_of("accuracy", split)
        lines += draw_quantity(axes, sweep, loss, style, COLOURS["path"], variable(loss).label)
        if accuracy in sweep:
            second = second or axes.twinx()
            shown = 100 * _measured(sweep, accuracy)
            lines += _draw(second, t, shown, style, COLOURS["straight"], variable(accuracy).label)
    if scale.logarithmic:
        axes.set_yscale("log")
    if look.low is not None or look.high is not None:
        axes.set_ylim(look.low, look.high)
    axes.set_xlabel(name)
    axes.set_ylabel("loss", color=COLOURS["path"])
    axes.margins(x=0)
    if len(t) > 1:
        axes.set_xlim(t.min(), t.max())
    axes.grid(alpha=0.25)
    if second is not None:
        second.set_ylabel("accuracy (%)", color=COLOURS["straight"])
        second.set_ylim(-2, 102)
        second.spines["right"].set_visible(True)
    return lines


def draw_quantity(axes: Axes, sweep: Sweep, quantity: str, style: str, colour: str, label: str) -> list[Line2D]:
    """One quantity along a line `[it]`, or as a band along a bundle of lines `[n, it]`."""
    return _draw(axes, sweep[sweep.dims[-1]], _measured(sweep, quantity), style, colour, label)


def shown_losses(sweep: Sweep) -> Array:
    """Every loss that is measured, of all splits `[n]`."""
    return np.concatenate([sweep["loss", split][sweep.done] for split in sweep.splits])


def _measured(sweep: Sweep, quantity: str) -> Array:
    """A quantity where it is measured; of a bundle only the lines that are whole, if there is one."""
    whole = sweep.done.all(axis=-1)
    if sweep.done.ndim > 1 and whole.any():
        return sweep[quantity][whole]
    return np.where(sweep.done, sweep[quantity], np.nan)


def _draw(axes: Axes, t: Array, values: Array, style: str, colour: str, label: str) -> list[Line2D]:
    marker, label = "." if len(t) < 30 else None, legend_label(label)
    if values.ndim == 1 or len(values) == 1:
        return list(axes.plot(t, values.reshape(len(t)), style, color=colour, label=label, marker=marker))
    low, middle, high = (np.where(np.isfinite(part), part, np.nan) for part in quartiles(values))
    axes.fill_between(t, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(t, values.T, style, color=colour, linewidth=0.5, alpha=0.5)
    return list(axes.plot(t, middle, style, color=colour, linewidth=1.8, label=f"{label}, median and quartiles"))
