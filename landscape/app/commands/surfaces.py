"""Measure the loss on planes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

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
from landscape.curvature.lanczos import lanczos
from landscape.curvature.restriction import Restriction
from landscape.errors import ConfigError
from landscape.risk.empirical import EmpiricalRisk
from landscape.runtime.progress import Reporter, silent
from landscape.space.direction_files import read_directions, write_directions
from landscape.space.parameters import ParameterSpace
from landscape.space.planes import Scaling, plane_towards, principal_plane, random_plane
from landscape.space.projections import Projection, project
from landscape.space.slices import Plane
from landscape.storage.checkpoints import Checkpoint, fingerprint_tensors
from landscape.storage.outputs import OutputFiles, Outputs, writing
from landscape.storage.results import Array, Result, Sweep, interpolated
from landscape.storage.store import ResultWriter, begun_batch_size
from landscape.sweeps.adaptive import Refined
from landscape.sweeps.driver import Metric, sweep
from landscape.sweeps.grid import axes_around, parse_axis


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
    given = {name: parse_axis(text, f"--{name}") for name in ("y", "x") if (text := getattr(config, name))}
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
    planes, eigenvalues = _planes(config, setting, risk, networks)
    plane = next(iter(planes.values()))
    projections = _projections(config, plane, setting, networks, marked)
    marks = {name: found.coordinates for name, found in projections.items()}
    axes = _grid(config, given, np.concatenate(list(marks.values())))
    named = {"centre": centre} | {f"{role} {i}": checkpoint for i, checkpoint in enumerate(rest)}
    named |= {f"project {i}": checkpoint for i, checkpoint in enumerate(marked)}
    provenance = setting.provenance(
        named,
        x=config.x,
        y=config.y,
        points=config.points,
        **_axes_provenance(config, plane),
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
        "distances": {name: found.distances.tolist() for name, found in projections.items()},
        "polylines": [name for name, found in projections.items() if found.is_curve],
        **eigenvalues,
    }
    writer = ResultWriter(out, Result("surface", {}, marks, provenance, facts), resume=config.output.resume)
    if config.save_axes:
        _save_axes(outputs.at(config.save_axes), config, setting, plane)
    writer.note({"at_a": at_point(risk, networks.thetas[0])})
    strategy = Refined(config.adaptive, _minima(projections)) if config.adaptive else None
    measured = [_measure(risk, drawn, metrics, axes, strategy, writer, name, report) for name, drawn in planes.items()]
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
    axes: Mapping[str, Array],
    strategy: Refined | None,
    writer: ResultWriter,
    name: str,
    report: Reporter,
) -> tuple[Sweep, float | None]:
    """Measure one plane; with a strategy, also note the interpolated surface and the error that it may have."""
    measured = sweep(risk, plane, axes, strategy=strategy, metrics=metrics, writer=writer, name=name, report=report)
    if strategy is None:
        return measured, None
    whole, error = strategy.complete(measured)
    writer.update(interpolated(name), whole)
    writer.note({"interpolated": {**writer.result.facts.get("interpolated", {}), name: error}}, flush=True)
    return measured, error


def _scaling(config: SurfaceConfig) -> Scaling | None:
    """What the flags say of scaling; None where they leave it to the axes."""
    if config.direction.normalise is None and (config.axes != "random" or not config.direction.biases):
        return None
    return Scaling(config.direction.normalise or "filter", config.direction.biases)


def _planes(
    config: SurfaceConfig, setting: Setting, risk: EmpiricalRisk, networks: Networks
) -> tuple[dict[str, Plane], dict[str, Any]]:
    """The planes by the names of their sweeps, and the eigenvalues that axes along eigenvectors belong to."""
    theta, space, scaling = networks.thetas[0], setting.space, _scaling(config)
    if config.draws > 1:
        seeds = range(config.direction.seed, config.direction.seed + config.draws)
        return {f"seed {seed}": random_plane(theta, space, seed, scaling) for seed in seeds}, {}
    if config.axes in EIGENVECTOR_AXES:
        directions, values = _eigenvectors(config, risk, theta)
        return {"": Plane(theta, *directions)}, {"eigenvalues": values}
    return {"": _plane(config, space, networks.thetas, scaling)}, {}


def _plane(config: SurfaceConfig, space: ParameterSpace, thetas: torch.Tensor, scaling: Scaling | None) -> Plane:
    if config.through:
        return Plane.through(*thetas)
    if config.axes == "random":
        return random_plane(thetas[0], space, config.direction.seed, scaling)
    if config.axes == "difference":
        return plane_towards(thetas, space, config.direction.seed, scaling)
    if config.axes == "pca":
        return principal_plane(thetas, space, scaling)[0]
    return Plane(thetas[0], *read_directions(Path(config.axes), space))


def _eigenvectors(
    config: SurfaceConfig, risk: EmpiricalRisk, theta: torch.Tensor
) -> tuple[tuple[torch.Tensor, torch.Tensor], list[float]]:
    """Two unit eigenvectors of the Hessian at the centre, of the two largest eigenvalues or of both ends, and these."""
    restriction = Restriction(risk.space.select(config.curvature.parameters))
    start = restriction.random(torch.Generator().manual_seed(config.direction.seed), theta)
    top = 2 if config.axes == "top-eigenvectors" else 1
    with sampled(config.curvature.samples, risk).at(theta) as here:
        found = lanczos(
            restriction.block(here.hessian(restriction.chosen)),
            start,
            top=top,
            bottom=2 - top,
            tolerance=config.curvature.tolerance,
            most_vectors=config.curvature.vectors,
        )
    values = torch.cat([found.top, found.bottom])
    if len(values) < 2:
        raise ConfigError(
            f"--axes {config.axes}: --parameters {config.curvature.parameters} are fewer than two numbers."
        )
    if not found.converged:
        raise ConfigError(
            f"--axes {config.axes}: the eigenvectors were not found to --tolerance {config.curvature.tolerance} in "
            f"{found.products} products; name a larger one."
        )
    x, y = restriction.extend(torch.cat([found.top_vectors, found.bottom_vectors]))
    return (x, y), values.tolist()


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


def _axes_provenance(config: SurfaceConfig, plane: Plane) -> dict[str, Any]:
    """What the axes follow from, as files and figures state it."""
    scaling = _scaling(config)
    drawn = not config.through and (config.axes == "random" or len(config.towards) == 1)
    known = config.axes in {"random", "difference", "pca"}
    named = config.axes if known or config.axes in EIGENVECTOR_AXES else "from a file"
    named = "difference, random" if len(config.towards) == 1 else named
    return {
        "axes": "through" if config.through else named,
        "axes_fingerprint": None if known else fingerprint_tensors(dict(zip("xy", plane.axes, strict=True))),
        "normalise": scaling.how if scaling else "filter" if config.axes == "random" and drawn else "none",
        "seed": config.direction.seed if drawn or config.map.curvature or config.axes in EIGENVECTOR_AXES else None,
    }


def _grid(config: SurfaceConfig, given: dict[str, Array], known: Array) -> dict[str, Array]:
    """The axes: as given, else -1 to 1 where that is the weights' own length, else around what is marked `[n, 2]`."""
    around_one = config.axes not in ("pca", "difference") and not config.through
    if around_one:
        own = parse_axis(f"-1:1:{config.points}", "--points")
        return {"y": own, "x": own} | given
    if len(config.towards) == 1:  # the second axis is random
        known = np.concatenate([known, [[0.0, -0.5], [0.0, 0.5]]])
    return axes_around(known, config.points) | given


def _minima(projections: Mapping[str, Projection]) -> Array:
    """The coordinates `[n, 2]` of all that is marked but curves."""
    return np.concatenate([found.coordinates for found in projections.values() if not found.is_curve])


def _projections(
    config: SurfaceConfig, plane: Plane, setting: Setting, networks: Networks, marked: Sequence[Checkpoint]
) -> dict[str, Projection]:
    """Where the checkpoints of the plane, and whatever else is to be marked, lie on it."""
    own = [config.checkpoint, *config.through, *(config.towards if config.axes == "difference" else ())]
    found = [project(plane, theta[None]) for theta in networks.thetas[: len(own)]]
    found += [project(plane, *setting.traced(checkpoint)) for checkpoint in marked]
    files = [*own, *config.project]
    if config.axes == "pca":
        files.append(Path("towards"))
        found.append(project(plane, networks.thetas[1:]))
    return dict(zip(distinct_names(files), found, strict=True))
