"""A surface to look around on: one HTML file that needs nothing else, neither a network nor another file."""

import importlib.util
from itertools import cycle
from typing import Any

import numpy as np

from landscape.errors import ConfigError
from landscape.plots.captions import describe
from landscape.plots.figures import MARK_COLOURS, require_measured, shares_unit
from landscape.plots.rendering import Look
from landscape.plots.surface import shown_values
from landscape.storage.quantities import variable
from landscape.storage.results import Array, Result, heights_at

_LIFT = 0.01


def has_plotly() -> bool:
    """Whether plotly is installed, which the page needs."""
    return importlib.util.find_spec("plotly") is not None


def surface_page(result: Result, quantity: str, look: Look | None = None) -> bytes:
    """The content of the page: a sweep over a plane, with a quantity as its height, hover values, marks and paths.

    Raises:
        ConfigError: plotly is not installed.
    """
    try:
        import plotly.graph_objects as go
    except ImportError as error:
        raise ConfigError(
            "interactive pictures need plotly: pip install plotly, or mode-connectivity[html]."
        ) from error

    look = look or Look()
    measured, sweep = require_measured(result.sweep), result.completed()
    values = shown_values(sweep, quantity)
    scale = look.scale_of(values)
    heights = scale.heights(np.where(np.isfinite(values), values, np.nan))
    low, high = (float(end) for end in scale.heights(np.array([scale.low, scale.high])))
    x, y = sweep.axes["x"], sweep.axes["y"]
    ticks = np.linspace(low, high, 6)
    shown = [f"{10**tick if scale.logarithmic else tick:.3g}" for tick in ticks]
    figure = go.Figure(
        go.Surface(
            x=x,
            y=y,
            z=heights,
            customdata=_hover_values(sweep.values, values),
            hovertemplate=_hover_text(list(sweep.values), quantity),
            colorscale=look.colour_map if look.colour_map != "gray" else "Greys_r",
            cmin=low,
            cmax=high,
            colorbar={"title": {"text": variable(quantity).label}, "tickvals": ticks, "ticktext": shown},
            contours={"z": {"show": True, "color": "white", "width": 1, "highlightcolor": "white"}},
            name=variable(quantity).label,
        )
    )
    lift = _LIFT * (high - low)
    for (mark, points), colour in zip(result.marks.items(), cycle(MARK_COLOURS), strict=False):
        figure.add_trace(
            go.Scatter3d(
                x=points[:, 0],
                y=points[:, 1],
                z=heights_at(sweep, heights, points) + lift,
                mode="lines" if len(points) > 1 and mark in result.facts.get("polylines", [mark]) else "markers",
                marker={"size": 5, "color": colour},
                line={"width": 6, "color": colour},
                name=mark,
                showlegend=True,
            )
        )
    if not measured.done.all():
        iy, ix = np.nonzero(measured.done)
        dots = {"size": 1.5, "color": "black"}
        figure.add_trace(
            go.Scatter3d(
                x=x[ix], y=y[iy], z=heights[iy, ix] + lift / 2, mode="markers", marker=dots, name="measured points"
            )
        )
    axis = {"tickvals": ticks, "ticktext": shown, "title": {"text": variable(quantity).label}}
    figure.update_layout(
        title={"text": describe(result.provenance, quantity).replace("\n", "<br>"), "font": {"size": 12}},
        scene={
            **_proportions(result, x, y),
            "xaxis": {"title": {"text": "x"}},
            "yaxis": {"title": {"text": "y"}},
            "zaxis": axis,
        },
        legend={"x": 0, "y": 1},
        margin={"l": 0, "r": 0, "b": 0, "t": 60},
    )
    page: str = figure.to_html(include_plotlyjs=True, full_html=True, config={"displaylogo": False, "responsive": True})
    return page.encode()


def _proportions(result: Result, x: Array, y: Array) -> dict[str, Any]:
    """The sides of the box: true to each other where both axes have one unit."""
    sides = np.array([np.ptp(x), np.ptp(y)] if shares_unit(result) else [1.0, 1.0])
    across, up = (sides / sides.max()).tolist()
    return {"aspectmode": "manual", "aspectratio": {"x": across, "y": up, "z": 0.7}}


def _hover_values(arrays: Any, shown: Array) -> Array:
    return np.stack([shown, *arrays.values()], axis=-1)


def _hover_text(names: list[str], quantity: str) -> str:
    rows = [f"{variable(name).label} %{{customdata[{i}]:.4g}}" for i, name in enumerate(names, 1) if name != quantity]
    first = f"{variable(quantity).label} %{{customdata[0]:.4g}}"
    return "<br>".join(["x %{x:.3g}, y %{y:.3g}", first, *rows]) + "<extra></extra>"
