"""Draw results, from their files alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from landscape.app.commands.summaries import FilesSummary, distinct_names
from landscape.app.config import FLAT_STYLES, PLANE_STYLES, CompareConfig, DrawingOptions, PlotConfig
from landscape.app.options import files_in
from landscape.errors import ConfigError, ResultError
from landscape.runtime.progress import Reporter, silent
from landscape.storage.files import write_atomically
from landscape.storage.outputs import OutputFiles, writing
from landscape.storage.quantities import name_of
from landscape.storage.results import Result, Sweep
from landscape.storage.store import load_result, trusting

if TYPE_CHECKING:  # drawing is imported where it is done, so that commands start fast
    from matplotlib.figure import Figure

    from landscape.plots.rendering import Look


def plot(config: PlotConfig, report: Reporter = silent) -> FilesSummary:
    """Draw a result again, from its file alone.

    Args:
        config: the result's file, and where and how to draw.
        report: told nothing; drawing is quick.

    Raises:
        ResultError: the file is no result that is drawn here, or nothing is measured yet.
        ConfigError: a style or a quantity is none that the result has.
    """
    return FilesSummary(files=draw(config.result, config.drawing, config.out, config.format))


def draw(
    path: Path, options: DrawingOptions | None = None, folder: Path | None = None, format: str = "png"
) -> list[str]:
    """Draw a result file.

    Args:
        path: the file.
        options: styles, quantity and colours.
        folder: for the pictures; by default the file's own.
        format: of the pictures.

    Returns:
        The pictures' names: the result's name, what is drawn, and the format.
    """
    options = options or DrawingOptions()
    result = load_result(path)
    with trusting(path):
        return _drawn(result, path, options, folder, format)


def _drawn(result: Result, path: Path, options: DrawingOptions, folder: Path | None, format: str) -> list[str]:
    from landscape.plots.rendering import save_figures

    folder = folder or path.parent
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out is the file {folder}, expected a folder.")
    if result.kind == "profile":
        raise ResultError(f"{path} holds a profile; draw it with connect plot.")
    if not result.sweeps and result.kind not in {"spectrum", "trajectory"}:
        raise ResultError(f"{path} holds no measurements to draw.")
    planes = [sweep for sweep in result.measured.values() if set(sweep.dims) == {"y", "x"}]
    if result.kind == "spectrum" or not planes or min(planes[0].shape) < 2:
        if options.style not in {None, "all", "line"} or options.quantity is not None:
            raise ConfigError("the result has pictures of all that it holds; leave out --style and --quantity.")
        return save_figures(_plain_pictures(result, planes, options), folder, path.stem, format)
    return _plane_pictures(result, planes, options, folder / path.stem, format)


def _look(options: DrawingOptions) -> "Look":
    from landscape.plots.rendering import Look

    return Look(options.scale, options.low, options.high, options.colour_map)


def _plain_pictures(result: Result, planes: Sequence[Sweep], options: DrawingOptions) -> dict[str, "Figure"]:
    """The pictures of a result that leaves no choice: a spectrum, a trajectory without a surface, or lines."""
    from landscape.plots import figures

    if result.kind == "spectrum":
        ends = {"": figures.spectrum_figure(result)} if "ends" in result.facts else {}
        return ends | ({"layers": figures.layers_figure(result)} if "layers" in result.facts else {})
    if result.kind == "trajectory" and not planes:
        return {"": figures.trajectory_figure(result)}
    for sweep in result.measured.values():
        figures.require_measured(sweep)
    if not planes:
        return {"": figures.line_figure(result, _look(options))}
    line = Result("line", {"": figures.as_lines(planes)}, {}, result.provenance, result.facts)
    fixed = " · ".join(f"{name} = {values[0]:.3g}" for name, values in planes[0].axes.items() if len(values) == 1)
    return {"line": figures.line_figure(line, _look(options), fixed)}


def _plane_pictures(
    result: Result, planes: Sequence[Sweep], options: DrawingOptions, stem: Path, format: str
) -> list[str]:
    """The pictures of one surface in the styles that are asked for, or panels of several; returns the files' names."""
    from landscape.plots import figures
    from landscape.plots.interactive import has_plotly, surface_page
    from landscape.plots.paraview import surface_grid
    from landscape.plots.rendering import save_figures

    look, quantity = _look(options), _quantity(options.quantity, planes[0])
    for sweep in planes:
        figures.require_measured(sweep)
    if len(planes) > 1:
        names = list(result.measured)
        panels = {
            style: figures.panels_figure(
                [result.completed(name) for name in names],
                names,
                [""] * len(names),
                quantity,
                style=style,
                look=look,
                caption=figures.describe({**result.provenance, "seed": None}, quantity),
                true_shape=figures.shares_unit(result),
            )
            for style in options.styles(*_flat_styles(quantity))
        }
        return save_figures(panels, stem.parent, stem.name, format)
    own = ["curvature"] if "ratio" in _quantities(planes[0]) and options.quantity is None else []
    flat, usual = _flat_styles(quantity)
    known = [*flat, *(style for style in PLANE_STYLES if style not in FLAT_STYLES), *own]
    styles = options.styles(known, [*usual, "3d", *own] if options.quantity is None else usual)
    if options.style == "all" and not has_plotly():
        styles.remove("html")
    contents = {"html": surface_page, "vts": surface_grid}
    others = {style: content(result, quantity, look) for style, content in contents.items() if style in styles}
    drawn = {
        style: figures.curvature_figure(result, look)
        if style == "curvature"
        else figures.plane_figure(result, quantity, style, look)
        for style in styles
        if style not in contents
    }
    files = save_figures(drawn, stem.parent, stem.name, format)
    for style, content in others.items():
        file = stem.with_name(f"{stem.name}.{style}")
        write_atomically(file, content)
        files.append(str(file))
    return files


def _flat_styles(quantity: str) -> tuple[Sequence[str], Sequence[str]]:
    """The flat styles that a quantity has, and what is drawn where none is named; eigenvalues are maps."""
    from landscape.plots.curvature import is_map

    return (["heatmap"], ["heatmap"]) if is_map(quantity) else (FLAT_STYLES, ["filled"])


def _quantity(name: str | None, sweep: Sweep) -> str:
    """The quantity to draw: the one that is named, else the loss of the first split, else the first of all."""
    known = _quantities(sweep)
    if name is None:
        return name_of("loss", sweep.splits[0]) if sweep.splits else known[0]
    if name not in known:
        raise ConfigError(f"--quantity {name!r} is not in the result; it has {', '.join(known)}.")
    return name


def _quantities(sweep: Sweep) -> list[str]:
    """The names of what a sweep can show: what was measured, and the errors and signed ratios that follow from it."""
    return [each.name for each in sweep.variables]


def compare(config: CompareConfig, report: Reporter = silent) -> FilesSummary:
    """Draw several surfaces or lines side by side on one common scale, with the test error under each.

    Args:
        config: the results' files, titles and looks.
        report: told nothing; drawing is quick.

    Raises:
        ConfigError, ResultError: a file or a name is wrong, or the results are not of one kind.
    """
    with writing(OutputFiles.beside(config.out), read=files_in(config), overwrite=config.overwrite) as outputs:
        _compare(config, outputs.at(config.out))
        outputs.commit()
    return FilesSummary(files=[str(config.out)])


def _compare(config: CompareConfig, out: Path) -> None:
    from landscape.plots.rendering import save_figures

    results = [load_result(path) for path in config.results]
    with trusting(*config.results):
        figure = _comparison(config, results)
    save_figures({"": figure}, out.parent, out.stem, out.suffix.removeprefix("."))


def _comparison(config: CompareConfig, results: Sequence[Result]) -> "Figure":
    from landscape.plots import figures

    sweeps = [_single(result, path) for result, path in zip(results, config.results, strict=True)]
    flat = {set(sweep.dims) == {"y", "x"} for sweep in sweeps}
    if len(flat) > 1:
        raise ConfigError("lines and surfaces cannot be compared in one figure; name files of one kind.")
    if flat == {False} and (config.drawing.quantity or config.drawing.style):
        raise ConfigError("lines show every loss and accuracy in one style; leave out --quantity and --style.")
    quantity = _quantity(config.drawing.quantity, sweeps[0])
    for path, sweep in zip(config.results, sweeps, strict=True):
        if quantity not in _quantities(sweep):
            raise ConfigError(f"{path} holds no {quantity}; it has {', '.join(_quantities(sweep))}.")
    (style,) = config.drawing.styles(*_flat_styles(quantity))
    return figures.panels_figure(
        sweeps,
        config.labels or distinct_names(config.results),
        [figures.error_note(result) for result in results],
        quantity,
        style=style,
        look=_look(config.drawing),
        columns=config.columns,
        caption=_common(results, None if flat == {False} else quantity),
        true_shape=all(figures.shares_unit(result) for result in results),
    )


def _single(result: Result, path: Path) -> Sweep:
    if result.kind == "profile" or len(result.measured) != 1:
        raise ConfigError(f"{path} holds a {result.kind} of {len(result.measured)} sweeps, expected one to compare.")
    from landscape.plots.figures import as_lines, require_measured

    try:
        sweep = require_measured(result.completed())
    except ResultError as error:
        raise ResultError(f"{path}: {error}") from error
    return as_lines([sweep]) if set(sweep.dims) == {"y", "x"} and min(sweep.shape) < 2 else sweep


def _common(results: Sequence[Result], quantity: str | None) -> str:
    """The settings that all results share."""
    from landscape.plots.curvature import is_map
    from landscape.plots.figures import curvature_note, describe

    first, *others = (result.provenance for result in results)
    shared = {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}
    problems = [result.provenance.get("problem", {}) for result in results]
    common = {key: value for key, value in problems[0].items() if all(p.get(key) == value for p in problems)}
    told = describe({**shared, "problem": common}, quantity).replace("\n", " ")
    note = curvature_note(shared) if quantity and is_map(quantity) else ""
    return " · ".join(filter(None, [told, note]))
