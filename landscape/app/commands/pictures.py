"""Draw results, from their files alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from landscape.app.commands.summaries import FilesSummary, distinct_names
from landscape.app.config import CompareConfig, DrawingOptions, PlotConfig
from landscape.app.options import files_in
from landscape.errors import ConfigError, ResultError
from landscape.plots.registry import Drawing, choose_styles, figures_of
from landscape.runtime.progress import Reporter, silent
from landscape.storage.files import write_atomically
from landscape.storage.outputs import OutputFiles, writing
from landscape.storage.results import Result, Sweep
from landscape.storage.store import load_result, trusting

if TYPE_CHECKING:  # drawing is imported where it is done, so that commands start fast
    from matplotlib.figure import Figure

    from landscape.plots.rendering import Look


def plot(config: PlotConfig, report: Reporter = silent) -> FilesSummary:
    """Draw a result of any kind again, from its file alone.

    Args:
        config: the result's file, and where and how to draw.
        report: not used; drawing is quick.

    Raises:
        ResultError: the file is not a result that is drawn, or not enough is measured yet.
        ConfigError: the result does not have a style, a quantity or a colour.
    """
    drawing = Drawing(config.drawing.style, config.drawing.quantity, _look(config.drawing), config.colour)
    return FilesSummary(files=draw_result(config.result, drawing, config.out, config.format))


def draw_result(
    path: Path, drawing: Drawing | None = None, folder: Path | None = None, format: str = "png"
) -> list[str]:
    """Draw a result file.

    Args:
        path: the file.
        drawing: styles, quantity and colours.
        folder: for the pictures; by default the file's own.
        format: of the pictures.

    Returns:
        The pictures' names: the result's name, what is drawn, and the format.

    Raises:
        ResultError: the file is not a result that is drawn, or not enough is measured yet.
        ConfigError: the result does not have a style, a quantity or a colour.
    """
    drawing, folder = drawing or Drawing(), folder or path.parent
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out is the file {folder}, expected a folder.")
    result = load_result(path)
    with trusting(path):
        try:
            entry = figures_of(result.kind)
            for choice in ("style", "quantity", "colour"):
                if getattr(drawing, choice) not in {None, "all"} and choice not in entry.choices:
                    raise ConfigError(f"{path} holds a {result.kind}, which has no choice of --{choice}; leave it out.")
            return _save(entry.draw(result, drawing), folder, entry.stems.get(path.stem, path.stem), format)
        except ResultError as error:
            raise ResultError(f"{path}: {error}") from error


def _look(options: DrawingOptions) -> "Look":
    from landscape.plots.rendering import Look

    return Look(options.scale, options.low, options.high, options.colour_map)


def _save(pictures: "dict[str, Figure | bytes]", folder: Path, stem: str, format: str) -> list[str]:
    """Write pictures, and other files by their suffix; returns the files' names."""
    from landscape.plots.rendering import save_figures

    contents = {folder / f"{stem}.{name}": content for name, content in pictures.items() if isinstance(content, bytes)}
    figures = {name: figure for name, figure in pictures.items() if not isinstance(figure, bytes)}
    files = save_figures(figures, folder, stem, format)
    for file, content in contents.items():
        write_atomically(file, content)
    return [*files, *map(str, contents)]


def compare(config: CompareConfig, report: Reporter = silent) -> FilesSummary:
    """Draw several surfaces or lines side by side on one common scale, with the test error under each.

    Args:
        config: the results' files, titles and looks.
        report: not used; drawing is quick.

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
    from landscape.plots.captions import error_note
    from landscape.plots.grids import choose_quantity, flat_styles

    sweeps = [_single(result, path) for result, path in zip(results, config.results, strict=True)]
    flat = {set(sweep.dims) == {"y", "x"} for sweep in sweeps}
    if len(flat) > 1:
        raise ConfigError("lines and surfaces cannot be compared in one figure; name files of one kind.")
    if flat == {False} and (config.drawing.quantity or config.drawing.style):
        raise ConfigError("lines show every loss and accuracy in one style; leave out --quantity and --style.")
    quantity = choose_quantity(config.drawing.quantity, sweeps[0])
    for path, sweep in zip(config.results, sweeps, strict=True):
        if quantity not in sweep:
            raise ConfigError(f"{path} holds no {quantity}; it has {', '.join(each.name for each in sweep.variables)}.")
    (style,) = choose_styles(config.drawing.style, *flat_styles(quantity))
    return figures.panels_figure(
        sweeps,
        config.labels or distinct_names(config.results),
        [error_note(result) for result in results],
        quantity,
        style=style,
        look=_look(config.drawing),
        columns=config.columns,
        caption=_common(results, None if flat == {False} else quantity),
        true_shape=all(figures.shares_unit(result) for result in results),
    )


def _single(result: Result, path: Path) -> Sweep:
    if list(result.measured) != [""]:
        raise ConfigError(f"{path} holds a {result.kind} of {len(result.measured)} sweeps, expected one to compare.")
    from landscape.plots.figures import as_lines, require_measured

    try:
        sweep = require_measured(result.completed())
    except ResultError as error:
        raise ResultError(f"{path}: {error}") from error
    return as_lines([sweep]) if set(sweep.dims) == {"y", "x"} and min(sweep.shape) < 2 else sweep


def _common(results: Sequence[Result], quantity: str | None) -> str:
    """The settings that all results share."""
    from landscape.plots.captions import curvature_note, describe
    from landscape.plots.curvature import is_map

    first, *others = (result.provenance for result in results)
    shared = {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}
    problems = [result.provenance.get("problem", {}) for result in results]
    common = {key: value for key, value in problems[0].items() if all(p.get(key) == value for p in problems)}
    settings = describe({**shared, "problem": common}, quantity).replace("\n", " ")
    note = curvature_note(shared) if quantity and is_map(quantity) else ""
    return " · ".join(filter(None, [settings, note]))
