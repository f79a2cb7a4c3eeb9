"""All pictures of what was measured over a grid: along lines, over planes, and below trajectories."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from landscape.errors import ConfigError, ResultError
from landscape.plots import figures, interactive
from landscape.plots.captions import describe
from landscape.plots.curvature import is_map
from landscape.plots.paraview import surface_grid
from landscape.plots.registry import FLAT_STYLES, PLANE_STYLES, Drawing, choose_styles
from landscape.plots.rendering import Look
from landscape.storage.quantities import name_of
from landscape.storage.results import Result, Sweep

_CONTENTS = {"html": interactive.surface_page, "vts": surface_grid}


def grid_pictures(result: Result, drawing: Drawing) -> dict[str, Figure | bytes]:
    """The pictures of a result, by style; of a plane whose one side is a single point those of a line.

    Raises:
        ConfigError: the result does not have a style or a quantity.
        ResultError: nothing is measured yet.
    """
    planes = [sweep for sweep in result.measured.values() if set(sweep.dims) == {"y", "x"}]
    if not (result.sweeps or result.kind == "trajectory"):
        raise ResultError("the result holds no measurements to draw.")
    for sweep in result.measured.values():
        figures.require_measured(sweep)
    if planes and min(planes[0].shape) >= 2:
        return _surfaces(result, drawing) if len(planes) == 1 else dict(_panels(result, planes, drawing))
    if drawing.style not in {None, "all", "line"} or drawing.quantity is not None:
        raise ConfigError("the result has pictures of all that it holds; leave out style and quantity.")
    return _lines(result, planes, drawing.look)


def _lines(result: Result, planes: Sequence[Sweep], look: Look | None) -> dict[str, Figure | bytes]:
    """Trajectories without a surface, or lines, which planes of a single row or column are too."""
    if not result.sweeps:
        return {"": figures.trajectory_figure(result)}
    if not planes:
        return {"": figures.line_figure(result, look)}
    line = Result("line", {"": figures.as_lines(planes)}, {}, result.provenance, result.facts)
    fixed = " · ".join(f"{name} = {values[0]:.3g}" for name, values in planes[0].axes.items() if len(values) == 1)
    return {"line": figures.line_figure(line, look, fixed)}


def _panels(result: Result, planes: Sequence[Sweep], drawing: Drawing) -> dict[str, Figure]:
    """Several surfaces side by side."""
    names, quantity = list(result.measured), choose_quantity(drawing.quantity, planes[0])
    return {
        style: figures.panels_figure(
            [result.completed(name) for name in names],
            names,
            [""] * len(names),
            quantity,
            style=style,
            look=drawing.look,
            caption=describe({**result.provenance, "seed": None}, quantity),
            true_shape=figures.shares_unit(result),
        )
        for style in choose_styles(drawing.style, *flat_styles(quantity))
    }


def _surfaces(result: Result, drawing: Drawing) -> dict[str, Figure | bytes]:
    """One surface in the styles that are asked for; files of other formats come last."""
    look, quantity = drawing.look, choose_quantity(drawing.quantity, result.sweep)
    own = ["curvature"] if "ratio" in result.sweep and drawing.quantity is None else []
    flat, usual = flat_styles(quantity)
    available = [*flat, *(style for style in PLANE_STYLES if style not in FLAT_STYLES), *own]
    styles = choose_styles(drawing.style, available, [*usual, "3d", *own] if drawing.quantity is None else usual)
    if drawing.style == "all" and not interactive.has_plotly():
        styles.remove("html")
    images: dict[str, Figure | bytes] = {
        style: figures.curvature_figure(result, look)
        if style == "curvature"
        else figures.plane_figure(result, quantity, style, look)
        for style in styles
        if style not in _CONTENTS
    }
    files = {style: content(result, quantity, look) for style, content in _CONTENTS.items() if style in styles}
    return images | files


def flat_styles(quantity: str) -> tuple[Sequence[str], Sequence[str]]:
    """The flat styles that a quantity has, and what is drawn where none is named; eigenvalues are maps."""
    return (["heatmap"], ["heatmap"]) if is_map(quantity) else (FLAT_STYLES, ["filled"])


def choose_quantity(name: str | None, sweep: Sweep) -> str:
    """The name of the quantity to draw: the one that is asked for, else the loss of the first split, else the first.

    Raises:
        ConfigError: the sweep does not have it.
    """
    available = [each.name for each in sweep.variables]
    if name is None:
        return name_of("loss", sweep.splits[0]) if sweep.splits else available[0]
    if name not in available:
        raise ConfigError(f"the quantity {name!r} is not in the result; it has {', '.join(available)}.")
    return name
