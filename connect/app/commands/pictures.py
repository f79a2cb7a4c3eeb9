"""Draw results of `connect` again."""

from collections.abc import Callable
from pathlib import Path as FilePath
from typing import Any

from connect.app.config import PlotConfig
from connect.minima.graph import MinimaGraph
from landscape.app.commands.summaries import FilesSummary
from landscape.errors import ResultError
from landscape.plots.rendering import save_figures
from landscape.runtime.progress import Reporter, silent
from landscape.storage.results import Result
from landscape.storage.store import load_result, trusting

_FIT = ("profile.h5", "plane.h5")


def plot(config: PlotConfig, report: Reporter = silent) -> FilesSummary:
    """Draw a profile, a plane, an ensemble, simplices or a graph of minima again, from the result's file alone.

    Args:
        config: the result's file, and where and how to draw.
        report: told nothing; drawing is quick.

    Raises:
        ResultError: the file is none of them, or not complete.
    """
    return FilesSummary(files=draw_result(config.result, config.out, config.format, config.colour))


def draw_result(
    file: FilePath, folder: FilePath | None = None, format: str = "png", colour: str | None = None
) -> list[str]:
    """Draw a result's pictures.

    Args:
        file: the result.
        folder: where to put them; by default beside the file.
        format: png, pdf or svg.
        colour: attribute that the minima of a graph are coloured by.

    Returns:
        The pictures' files.

    Raises:
        ResultError: there is nothing to draw in it, or it is not complete.
    """
    result = load_result(file)
    with trusting(file):
        return _drawn(result, file, folder or file.parent, format, colour)


def _drawn(result: Result, file: FilePath, folder: FilePath, format: str, colour: str | None) -> list[str]:
    from connect.plots.ensembles import ensemble_figure
    from connect.plots.figures import plane_figure, profile_figure
    from connect.plots.graphs import graph_figures
    from connect.plots.simplices import simplex_figure

    draw: dict[str, tuple[Callable[[Result], Any], str]] = {
        "profile": (profile_figure, "path"),
        "plane": (plane_figure, "plane"),
        "ensemble": (ensemble_figure, "ensemble"),
        "simplex": (simplex_figure, "simplex"),
    }
    if result.kind == "graph":
        return save_figures(graph_figures(MinimaGraph.from_result(result), colour), folder, file.stem, format)
    if colour is not None:
        raise ResultError(f"--colour is for a graph of minima, but {file} holds a {result.kind}.")
    if result.kind not in draw:
        raise ResultError(f"{file} holds a {result.kind}; draw it with landscape plot.")
    if not result.sweeps or not all(measured.done.all() for measured in result.measured.values()):
        raise ResultError(f"{file} is not complete; go on with connect … --resume.")
    figure, stem = draw[result.kind]
    if file.name not in _FIT:  # the pictures of a fit have names of their own
        stem = file.stem
    return save_figures({"": figure(result)}, folder, stem, format)
