"""Draw results, from their files alone."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from landscape.commands.summaries import FilesSummary
from landscape.config import CompareConfig, DrawingOptions, PlotConfig
from landscape.errors import ConfigError, ResultError
from landscape.files import refuse_existing, write_atomically
from landscape.progress import Reporter, silent
from landscape.results import Result, Sweep
from landscape.store import load_result

_FORMATS = (".png", ".pdf", ".svg")
_DEFAULT = "filled,3d"
_PANELS = ("contour", "filled", "heatmap")


def plot(config: PlotConfig, report: Reporter = silent) -> FilesSummary:
    """Draw a result again, from its file alone.

    Args:
        config: the result's file, and where and how to draw.
        report: told nothing; drawing is quick.

    Raises:
        ResultError: the file is no result that is drawn here, or nothing is measured yet.
        ConfigError: a style or a quantity is none that the result has.
    """
    return FilesSummary(files=draw(config.result, config, config.out))


def draw(path: Path, options: DrawingOptions | None = None, folder: Path | None = None) -> list[str]:
    """Draw a result file.

    Args:
        path: the file.
        options: styles, scale and format.
        folder: for the pictures; by default the file's own.

    Returns:
        The pictures' names: the result's name, what is drawn, and the format.
    """
    from landscape.plots import figures
    from landscape.plots.rendering import Look, save_figures

    options = options or DrawingOptions()
    result = load_result(path)
    look = Look(options.scale, options.low, options.high, options.colour_map)
    folder = folder or path.parent
    if result.kind == "profile":
        raise ResultError(f"{path} holds a profile; draw it with connect plot.")
    flat = [sweep for sweep in result.measured.values() if set(sweep.dims) == {"y", "x"}]
    if result.kind == "trajectory" and not flat:
        found = {"": figures.trajectory_figure(result)}
        return save_figures(found, folder, path.stem, options.format)
    for sweep in result.measured.values():
        figures.require_measured(sweep)
    if not flat:
        _require_no_styles(options)
        return save_figures({"": figures.line_figure(result, look)}, folder, path.stem, options.format)
    if min(flat[0].shape) < 2:
        _require_no_styles(options)
        line = Result("line", {"": figures.one_line(flat[0])}, {}, result.provenance, result.facts)
        return save_figures({"line": figures.line_figure(line, look)}, folder, path.stem, options.format)
    quantity = _quantity(options.quantity, flat[0])
    styles = _styles(options.style, several=len(flat) > 1)
    if len(flat) > 1:
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
            )
            for style in styles
        }
        return save_figures(panels, folder, path.stem, options.format)
    drawn = {s: figures.plane_figure(result, quantity, s, look) for s in styles if s in figures.PLANE_STYLES}
    files = save_figures(drawn, folder, path.stem, options.format)
    for style, content in _other_files(result, quantity, look).items():
        if style in styles:
            file = folder / f"{path.stem}.{style}"
            write_atomically(file, content())
            files.append(str(file))
    return files


def _other_files(result: Result, quantity: str, look: object) -> Mapping[str, Callable[[], bytes]]:
    """Pictures that are no figures, by style."""
    from landscape.plots.interactive import surface_page
    from landscape.plots.paraview import surface_grid

    return {
        "html": lambda: surface_page(result, quantity, look),  # type: ignore[arg-type]
        "vts": lambda: surface_grid(result, quantity, look),  # type: ignore[arg-type]
    }


def _styles(text: str | None, *, several: bool) -> list[str]:
    known = [*_PANELS] if several else [*_PANELS, "3d", "html", "vts"]
    if text == "all":
        return known
    styles = (text or ("filled" if several else _DEFAULT)).split(",")
    for style in styles:
        if style not in known:
            raise ConfigError(f"--style {style!r} is none that this result has; it has {', '.join(known)}, all.")
    return styles


def _require_no_styles(options: DrawingOptions) -> None:
    if options.style not in {None, "all", "line"}:
        raise ConfigError(f"--style is {options.style!r}, but the result is a line, which has one style.")


def _quantity(name: str | None, sweep: Sweep) -> str:
    """The quantity to draw: the one that is named, else the loss of the first split."""
    losses = [quantity for quantity in sweep.values if quantity.endswith("_loss")]
    if name is None and losses:
        return losses[0]
    known = [*sweep.values, *(q.removesuffix("_accuracy") + "_error" for q in sweep.values if q.endswith("_accuracy"))]
    if name is None or name not in known:
        raise ConfigError(f"--quantity {name!r} is not in the result; it has {', '.join(known)}.")
    return name


def compare(config: CompareConfig, report: Reporter = silent) -> FilesSummary:
    """Draw several surfaces or lines side by side on one common scale, with the test error under each.

    Args:
        config: the results' files, titles and looks.
        report: told nothing; drawing is quick.

    Raises:
        ConfigError, ResultError: a file or a name is wrong, or the results are not of one kind.
    """
    from landscape.plots import figures
    from landscape.plots.rendering import Look, save_figures

    if config.out.suffix not in _FORMATS:
        raise ConfigError(f"--out is {config.out}, expected a name that ends in {', '.join(_FORMATS)}.")
    if config.labels and len(config.labels) != len(config.results):
        raise ConfigError(f"there are {len(config.results)} results, but {len(config.labels)} --labels.")
    if config.columns is not None and config.columns < 1:
        raise ConfigError(f"--columns is {config.columns}, expected at least 1.")
    refuse_existing(config.out, config.overwrite)
    results = {path: load_result(path) for path in config.results}
    sweeps = [_single(result, path) for path, result in results.items()]
    kinds = {len(sweep.shape) if "y" in sweep.axes else 1 for sweep in sweeps}
    if len(kinds) > 1:
        raise ConfigError("lines and surfaces cannot be compared in one figure; name files of one kind.")
    quantity = _quantity(config.quantity, sweeps[0])
    for path, sweep in zip(results, sweeps, strict=True):
        try:
            sweep[quantity]
        except KeyError as error:
            raise ConfigError(f"{path}: {error.args[0]}; choose another --quantity.") from None
    (style,) = _one(_styles(config.style or "filled", several=True))
    figure = figures.panels_figure(
        sweeps,
        config.labels or [path.stem for path in results],
        [figures.centre_note(result) for result in results.values()],
        quantity,
        style=style,
        look=Look(config.scale, config.low, config.high, config.colour_map),
        columns=config.columns,
        caption=_common(list(results.values()), quantity),
    )
    name = config.out.suffix.removeprefix(".")
    return FilesSummary(files=save_figures({"": figure}, config.out.parent, config.out.stem, name))


def _one(styles: Sequence[str]) -> Sequence[str]:
    if len(styles) != 1:
        raise ConfigError(f"one figure has one style; choose one of {', '.join(styles)}.")
    return styles


def _single(result: Result, path: Path) -> Sweep:
    if result.kind == "profile" or len(result.measured) != 1:
        raise ConfigError(f"{path} holds a {result.kind} of {len(result.measured)} sweeps, expected one to compare.")
    return result.completed()


def _common(results: Sequence[Result], quantity: str) -> str:
    """The settings that all results share."""
    from landscape.plots.figures import describe

    first, *others = (result.provenance for result in results)
    shared = {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}
    problems = [result.provenance.get("problem", {}) for result in results]
    common = {key: value for key, value in problems[0].items() if all(p.get(key) == value for p in problems)}
    return describe({**shared, "problem": common}, quantity).replace("\n", " ")
