"""Measure the loss on planes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from landscape.app.checkpoints import load_as, load_network, require_different
from landscape.app.commands.curvatures import (
    CurvatureFigures,
    curvature_figures,
    curvature_metrics,
    curvature_provenance,
    require_found,
    sampled,
)
from landscape.app.commands.pictures import draw_result
from landscape.app.commands.summaries import at_point, distinct_names, loss_range, wrote
from landscape.app.config import EIGENVECTOR_AXES, SurfaceConfig
from landscape.app.memory import Need, curvature_need, surface_need
from landscape.app.options import files_in
from landscape.app.run import running
from landscape.app.setting import Networks, Setting
from landscape.curvature.eigenvectors import eigenvector_axes
from landscape.errors import ConfigError
from landscape.risk.empirical import EmpiricalRisk
from landscape.runtime.progress import Reporter, silent
from landscape.space.axes import Axes, Directions, Principal, Random, Scaling, Through, Towards, View
from landscape.space.direction_files import read_directions, write_directions
from landscape.space.parameters import ParameterSpace
from landscape.space.pieces import Points
from landscape.space.projections import Projection, project
from landscape.space.slices import Plane
from landscape.space.stored import StoredPoint
from landscape.storage.outputs import OutputFiles
from landscape.storage.results import Array, Sweep, interpolated
from landscape.storage.store import ResultWriter
from landscape.sweeps.adaptive import Refined
from landscape.sweeps.driver import sweep
from landscape.sweeps.grid import parse_axis


@dataclass(frozen=True, kw_only=True)
class SurfaceSummary(CurvatureFigures):
    """A measured surface: number of points, time, and the range of the finite losses on the first split.

    `points` counts what was measured; `grid` all points of the grid. `error` is None unless the surface is adaptive:
    then it is the estimated largest error of interpolated points, as a share of the logarithmic range of the loss.
    """

    points: int
    seconds: float
    min_loss: float
    max_loss: float
    files: Sequence[str]
    grid: int
    error: float | None = None

    def text(self) -> str:
        """The summary in words."""
        of_grid = f" of {self.grid}" if self.points != self.grid else ""
        error = "" if self.error is None else f"; interpolated to {self.error:.2%} of the logarithmic range"
        return (
            f"{self.points}{of_grid} points in {self.seconds:.0f} s; "
            f"loss from {self.min_loss:.4g} to {self.max_loss:.4g}{error}\n" + self.curvature_text() + wrote(self.files)
        )


def surface(config: SurfaceConfig, report: Reporter = silent) -> SurfaceSummary:
    """Measure the loss on a plane around a checkpoint or through three, write it and draw it.

    Args:
        config: checkpoints, axes, ranges, normalisation, policies and files.
        report: progress reporter.

    Raises:
        LandscapeError: the subclass says what is wrong; all that can be checked is checked before any computing.
    """
    places = [OutputFiles.beside(config.out), *([OutputFiles.beside(config.save_axes)] if config.save_axes else [])]
    read = [*files_in(config, but=("out", "save_axes")), Path(config.axes)]
    with running(config, report, *places, read=read) as run:
        role, others = ("through", config.through) if config.through else ("towards", config.towards)
        centre, *rest = (load_network(config.checkpoints, path) for path in (config.checkpoint, *others))
        marked = [load_as(config.checkpoints, path) for path in config.project]
        if config.through:
            require_different(centre, *rest)
        setting, networks, statistics = run.load([centre, *rest], bearers=[centre])
        _need(config).require(setting.space)
        traced = [setting.traced(checkpoint) for checkpoint in marked]
        views = _views(config, setting, networks)
        require_found(config.map, config.curvature, setting, config.split, for_axes=not views)
        subject = run.subject(setting, statistics, config.split)
        views = views or {"": _eigenvectors(config, subject.risk, networks.thetas)}
        view = next(iter(views.values()))
        projections = _projections(config, view, networks, traced)
        named = {"centre": centre} | {f"{role} {i}": checkpoint for i, checkpoint in enumerate(rest)}
        named |= {f"project {i}": checkpoint for i, checkpoint in enumerate(marked)}
        settings = {**view.provenance, **curvature_provenance(config.map, config.curvature, subject.risk)}
        settings |= {"seed": config.direction.seed} if config.map.curvature else {}
        facts = {
            "distances": {name: projection.distances.tolist() for name, projection in projections.items()},
            "polylines": [name for name, projection in projections.items() if projection.is_curve],
            **view.facts,
        }
        marks = {name: projection.coordinates for name, projection in projections.items()}
        writer = subject.writer("surface", subject.provenance(named, **settings), facts, marks)
        if config.save_axes:
            _save_axes(run.outputs.at(config.save_axes), config, setting, view.plane)
        writer.note({"at_a": at_point(subject.risk, networks.thetas[0][:])})
        sweeps, error = _measured(config, subject.risk, views, projections, writer, report)
        low, high = loss_range(sweeps)
        return SurfaceSummary(
            points=sum(int(measured.done.sum()) for measured in sweeps),
            seconds=run.seconds,
            min_loss=low,
            max_loss=high,
            files=run.finish(draw_result, config.save_axes),
            grid=sum(measured.done.size for measured in sweeps),
            error=error,
            **vars(curvature_figures(config.map, sweeps)),
        )


def _need(config: SurfaceConfig) -> Need:
    need = surface_need(config.draws)
    searches = config.map.curvature or config.axes in EIGENVECTOR_AXES
    return curvature_need(need, config.curvature.held()) if searches else need


def _views(config: SurfaceConfig, setting: Setting, networks: Networks) -> dict[str, View]:
    """The planes by the names of their sweeps, one for each draw; none for eigenvectors, which are to be found yet."""
    if config.axes in EIGENVECTOR_AXES:
        return {}
    seeds = range(config.direction.seed, config.direction.seed + config.draws)
    thetas: Points = [networks.thetas[0][:], *networks.thetas[1:]]  # the origin is read once, for all draws
    views = [_axes(config, setting.space, seed).view(thetas, setting.space) for seed in seeds]
    return {f"seed {view.seed}" if config.draws > 1 else "": view for view in views}


def _measured(
    config: SurfaceConfig,
    risk: EmpiricalRisk,
    views: Mapping[str, View],
    projections: Mapping[str, Projection],
    writer: ResultWriter,
    report: Reporter,
) -> tuple[list[Sweep], float | None]:
    """Measure the planes; adaptively, also note interpolated surfaces, and return the largest error they may have."""
    ranges = {name: parse_axis(text, f"--{name}") for name in ("y", "x") if (text := getattr(config, name))}
    coordinates = np.concatenate([projection.coordinates for projection in projections.values()])
    grid = next(iter(views.values())).grid(coordinates, config.points) | ranges
    strategy = Refined(config.adaptive, _minima(projections)) if config.adaptive else None
    metrics = curvature_metrics(config.map, config.curvature, risk, config.direction.seed)
    sweeps, errors = [], {}
    for name, view in views.items():
        sweeps.append(
            sweep(
                risk,
                view.plane,
                grid,
                strategy=strategy,
                metrics=metrics,
                writer=writer,
                name=name,
                report=report,
            )
        )
        if strategy:
            whole, errors[name] = strategy.complete(sweeps[-1])
            writer.update(interpolated(name), whole)
            writer.note({"interpolated": {**writer.result.facts.get("interpolated", {}), **errors}}, flush=True)
    return sweeps, max(errors.values()) if errors else None


def _axes(config: SurfaceConfig, space: ParameterSpace, seed: int) -> Axes:
    """The axes that the flags name, but for eigenvectors."""
    how, biases = config.direction.normalise, config.direction.biases
    scaling = Scaling(how, biases) if how else None
    if config.through:
        return Through()
    if config.axes == "random":
        return Random(seed, scaling or Scaling(biases=biases))
    if config.axes == "difference":
        return Towards(seed, scaling)
    if config.axes == "pca":
        return Principal(scaling)
    return Directions(read_directions(Path(config.axes), space))


def _eigenvectors(config: SurfaceConfig, risk: EmpiricalRisk, thetas: Sequence[StoredPoint]) -> View:
    """The plane along eigenvectors that the flags name."""
    axes = eigenvector_axes(
        sampled(config.curvature.samples, risk),
        thetas[0][:],
        risk.space.select(config.curvature.parameters),
        top=EIGENVECTOR_AXES[config.axes],
        tolerance=config.curvature.tolerance,
        most_vectors=config.curvature.vectors,
        seed=config.direction.seed,
    )
    return axes.view(thetas, risk.space)


def _save_axes(file: Path, config: SurfaceConfig, setting: Setting, plane: Plane) -> None:
    """Write the directions; a file that a resumed run wrote before is left as it is.

    Raises:
        ConfigError: a file of that name holds other directions.
    """
    if config.output.resume and file.exists():
        known = read_directions(file, setting.space)
        if not all(torch.equal(a, b) for a, b in zip(known, plane.axes, strict=True)):
            raise ConfigError(f"{file} holds other directions; name another file with --save-axes.")
        return
    write_directions(file, setting.space, plane.axes)


def _minima(projections: Mapping[str, Projection]) -> Array:
    """The coordinates `[n, 2]` of all that is marked but curves."""
    return np.concatenate([projection.coordinates for projection in projections.values() if not projection.is_curve])


def _projections(
    config: SurfaceConfig, view: View, networks: Networks, traced: Sequence[tuple[Points, torch.Tensor | None]]
) -> dict[str, Projection]:
    """Where the networks of the plane, and whatever else is to be marked, lie on it."""
    own = [config.checkpoint, *(() if view.together else (*config.through, *config.towards))]
    projections = [project(view.plane, [theta]) for theta in networks.thetas[: len(own)]]
    projections += [project(view.plane, *each) for each in traced]
    files = [*own, *config.project]
    if view.together:
        files.append(Path("towards"))
        projections.append(project(view.plane, networks.thetas[1:]))
    return dict(zip(distinct_names(files), projections, strict=True))
