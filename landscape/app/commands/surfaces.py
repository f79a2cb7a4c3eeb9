"""Measure the loss on planes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from landscape.app.checkpoints import load_as, load_network
from landscape.app.commands.curvatures import (
    CurvatureFigures,
    curvature_figures,
    curvature_metrics,
    curvature_provenance,
    sampled,
)
from landscape.app.commands.pictures import draw_result
from landscape.app.commands.summaries import at_point, distinct_names, loss_range, wrote
from landscape.app.config import EIGENVECTOR_AXES, SurfaceConfig
from landscape.app.options import files_in
from landscape.app.setting import Networks, Setting, open_setting
from landscape.curvature.eigenvectors import eigenvector_axes
from landscape.errors import ConfigError
from landscape.risk.empirical import EmpiricalRisk
from landscape.runtime.progress import Reporter, silent
from landscape.space.axes import Axes, Directions, Principal, Random, Scaling, Through, Towards, View
from landscape.space.direction_files import read_directions, write_directions
from landscape.space.projections import Projection, project
from landscape.space.slices import Plane
from landscape.storage.checkpoints import Checkpoint
from landscape.storage.outputs import OutputFiles, Outputs, writing
from landscape.storage.results import Array, Result, Sweep, interpolated
from landscape.storage.store import ResultWriter, begun_batch_size
from landscape.sweeps.adaptive import Refined
from landscape.sweeps.driver import Metric, sweep
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
        report: told of progress.

    Raises:
        LandscapeError: the subclass says what is wrong; all that can be checked is checked before any computing.
    """
    places = [OutputFiles.beside(config.out), *([OutputFiles.beside(config.save_axes)] if config.save_axes else [])]
    read = [*files_in(config, but=("out", "save_axes")), Path(config.axes)]
    with writing(*places, read=read, resume=config.output.resume, overwrite=config.output.overwrite) as outputs:
        return _surface(config, outputs, report)


def _surface(config: SurfaceConfig, outputs: Outputs, report: Reporter) -> SurfaceSummary:
    started = perf_counter()
    out = outputs.at(config.out)
    ranges = {name: parse_axis(text, f"--{name}") for name in ("y", "x") if (text := getattr(config, name))}
    role, others = ("through", config.through) if config.through else ("towards", config.towards)
    centre, *rest = (load_network(config.checkpoints, path) for path in (config.checkpoint, *others))
    marked = [load_as(config.checkpoints, path) for path in config.project]
    setting = open_setting(config.problem, config.compute, [centre], trust_code=config.checkpoints.trust_code)
    networks = setting.load_all([centre, *rest])
    statistics = setting.policy(config.checkpoints, networks)
    risk = setting.risk(
        config.compute,
        statistics,
        setting.splits(config.split),
        begun_batch_size(out) if config.output.resume else None,
    )
    metrics = curvature_metrics(config.map, config.curvature, risk, config.direction.seed)
    seeds = range(config.direction.seed, config.direction.seed + config.draws)
    views = [_axes(config, risk, networks.thetas[0], seed).view(networks.thetas, setting.space) for seed in seeds]
    planes = {f"seed {view.seed}" if config.draws > 1 else "": view.plane for view in views}
    view = views[0]
    projections = _projections(config, view, setting, networks, marked)
    marks = {name: projection.coordinates for name, projection in projections.items()}
    grid = view.grid(np.concatenate(list(marks.values())), config.points) | ranges
    named = {"centre": centre} | {f"{role} {i}": checkpoint for i, checkpoint in enumerate(rest)}
    named |= {f"project {i}": checkpoint for i, checkpoint in enumerate(marked)}
    provenance = setting.provenance(
        named,
        x=config.x,
        y=config.y,
        points=config.points,
        **view.provenance | ({"seed": config.direction.seed} if config.map.curvature else {}),
        biases=config.direction.biases,
        batch_norm=statistics.name,
        statistics_batch_size=config.checkpoints.statistics_batch_size,
        draws=config.draws,
        split=config.split,
        adaptive=config.adaptive,
        **curvature_provenance(config.map, config.curvature, risk),
        precision=config.compute.precision,
        trainable=config.problem.trainable,
        **risk.evaluation(),
    )
    facts = {
        "distances": {name: projection.distances.tolist() for name, projection in projections.items()},
        "polylines": [name for name, projection in projections.items() if projection.is_curve],
        **view.facts,
    }
    writer = ResultWriter(out, Result("surface", {}, marks, provenance, facts), resume=config.output.resume)
    if config.save_axes:
        _save_axes(outputs.at(config.save_axes), config, setting, view.plane)
    writer.note({"at_a": at_point(risk, networks.thetas[0])})
    strategy = Refined(config.adaptive, _minima(projections)) if config.adaptive else None
    measured = [_measure(risk, plane, metrics, grid, strategy, writer, name, report) for name, plane in planes.items()]
    outputs.commit()
    sweeps = [swept for swept, _ in measured]
    low, high = loss_range(sweeps)
    errors = [error for _, error in measured if error is not None]
    saved = [str(config.save_axes)] if config.save_axes else []
    return SurfaceSummary(
        points=sum(int(swept.done.sum()) for swept in sweeps),
        seconds=perf_counter() - started,
        min_loss=low,
        max_loss=high,
        files=[str(config.out), *saved, *draw_result(config.out)],
        grid=sum(swept.done.size for swept in sweeps),
        error=max(errors) if errors else None,
        **vars(curvature_figures(config.map, sweeps)),
    )


def _measure(
    risk: EmpiricalRisk,
    plane: Plane,
    metrics: Mapping[str, Metric],
    grid: Mapping[str, Array],
    strategy: Refined | None,
    writer: ResultWriter,
    name: str,
    report: Reporter,
) -> tuple[Sweep, float | None]:
    """Measure one plane; with a strategy, also note the interpolated surface and the error that it may have."""
    measured = sweep(risk, plane, grid, strategy=strategy, metrics=metrics, writer=writer, name=name, report=report)
    if strategy is None:
        return measured, None
    whole, error = strategy.complete(measured)
    writer.update(interpolated(name), whole)
    writer.note({"interpolated": {**writer.result.facts.get("interpolated", {}), name: error}}, flush=True)
    return measured, error


def _axes(config: SurfaceConfig, risk: EmpiricalRisk, theta: Tensor, seed: int) -> Axes:
    """The axes that the flags name."""
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
    if config.axes in EIGENVECTOR_AXES:
        return eigenvector_axes(
            sampled(config.curvature.samples, risk),
            theta,
            risk.space.select(config.curvature.parameters),
            top=EIGENVECTOR_AXES[config.axes],
            tolerance=config.curvature.tolerance,
            most_vectors=config.curvature.vectors,
            seed=seed,
        )
    return Directions(read_directions(Path(config.axes), risk.space))


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
    config: SurfaceConfig, view: View, setting: Setting, networks: Networks, marked: Sequence[Checkpoint]
) -> dict[str, Projection]:
    """Where the networks of the plane, and whatever else is to be marked, lie on it."""
    own = [config.checkpoint, *(() if view.together else (*config.through, *config.towards))]
    projections = [project(view.plane, theta[None]) for theta in networks.thetas[: len(own)]]
    projections += [project(view.plane, *setting.traced(checkpoint)) for checkpoint in marked]
    files = [*own, *config.project]
    if view.together:
        files.append(Path("towards"))
        projections.append(project(view.plane, networks.thetas[1:]))
    return dict(zip(distinct_names(files), projections, strict=True))
