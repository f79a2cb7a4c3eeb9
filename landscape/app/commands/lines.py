"""Measure the loss along lines."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch

from landscape.app.checkpoints import load_network
from landscape.app.commands.curvatures import (
    CurvatureFigures,
    curvature_figures,
    curvature_metrics,
    curvature_provenance,
)
from landscape.app.commands.pictures import draw
from landscape.app.commands.summaries import at_point, loss_range, wrote
from landscape.app.config import LineConfig
from landscape.app.options import files_in
from landscape.app.setting import Networks, Setting, open_setting
from landscape.errors import ConfigError
from landscape.runtime.progress import Reporter, silent
from landscape.runtime.seeds import unrelated_seeds
from landscape.space.directions import normalise, random_direction, require_length
from landscape.space.slices import Line, Rays, Slice
from landscape.storage.outputs import OutputFiles, Outputs, writing
from landscape.storage.results import Result
from landscape.storage.store import ResultWriter
from landscape.sweeps.driver import sweep
from landscape.sweeps.grid import parse_axis

BETWEEN, AROUND = "-0.5:1.5:401", "-1:1:51"


@dataclass(frozen=True, kw_only=True)
class LineSummary(CurvatureFigures):
    """A measured line: number of points, time, and the range of its finite losses on the first split."""

    points: int
    seconds: float
    min_loss: float
    max_loss: float
    files: Sequence[str]

    def text(self) -> str:
        """The summary in words."""
        return (
            f"{self.points} points in {self.seconds:.0f} s; loss from {self.min_loss:.4g} to {self.max_loss:.4g}\n"
            + self.curvature_text()
            + wrote(self.files)
        )


def line(config: LineConfig, report: Reporter = silent) -> LineSummary:
    """Measure the loss between two checkpoints, or away from one in random directions, write it and draw it.

    Args:
        config: checkpoints, range, directions, policies and files.
        report: told of progress.

    Raises:
        LandscapeError: the subclass says what is wrong; all that can be checked is checked before any computing.
    """
    with writing(
        OutputFiles.beside(config.out),
        read=files_in(config),
        resume=config.output.resume,
        overwrite=config.output.overwrite,
    ) as outputs:
        return _line(config, outputs, report)


def _line(config: LineConfig, outputs: Outputs, report: Reporter) -> LineSummary:
    started = perf_counter()
    out = outputs.at(config.out)
    values = config.range or (BETWEEN if config.b else AROUND)
    t = parse_axis(values, "--range")
    named = {"a": config.a} | ({"b": config.b} if config.b else {})
    checkpoints = {name: load_network(config.checkpoints, path) for name, path in named.items()}
    setting = open_setting(
        config.problem, config.compute, list(checkpoints.values()), trust_code=config.checkpoints.trust_code
    )
    networks = setting.load_all(list(checkpoints.values()))
    statistics = setting.policy(config.checkpoints, networks)
    risk = setting.risk(
        config.compute, statistics, setting.splits(config.split), begun=out if config.output.resume else None
    )
    where, how = _slice(config, setting, networks)
    metrics = curvature_metrics(config.map, config.curvature, risk, config.direction.seed)
    provenance = setting.provenance(
        checkpoints,
        range=values,
        directions=config.directions,
        normalise=how,
        biases=config.direction.biases,
        seed=None if config.b and not config.map.curvature else config.direction.seed,
        **curvature_provenance(config.map, config.curvature, risk),
        batch_norm=statistics.name,
        statistics_batch_size=config.checkpoints.statistics_batch_size,
        split=config.split,
        precision=config.compute.precision,
        trainable=config.problem.trainable,
        **risk.evaluation(),
    )
    facts = {"names": {name: path.stem for name, path in named.items()}}
    begun = Result("line", {}, provenance=provenance, facts=facts)
    writer = ResultWriter(out, begun, resume=config.output.resume)
    writer.note({f"at_{name}": at_point(risk, theta) for name, theta in zip(named, networks.thetas, strict=True)})
    axes = {"t": t} if config.b else {"direction": np.arange(float(config.directions)), "t": t}
    measured = sweep(risk, where, axes, metrics=metrics, writer=writer, report=report)
    outputs.commit()
    low, high = loss_range([measured])
    return LineSummary(
        points=measured.done.size,
        seconds=perf_counter() - started,
        min_loss=low,
        max_loss=high,
        files=[str(config.out), *draw(config.out)],
        **vars(curvature_figures(config.map, [measured])),
    )


def _slice(config: LineConfig, setting: Setting, networks: Networks) -> tuple[Slice, str | None]:
    """The line or the bundle of lines, and how its directions are normalised."""
    if config.b:
        a, b = networks.thetas
        if (a == b).all():
            raise ConfigError(f"{config.a} and {config.b} hold the same weights; no line leads from one to the other.")
        return Line(a, b), None
    theta, how = networks.thetas[0], config.direction.normalise or "filter"
    seeds = unrelated_seeds(config.direction.seed, config.directions)

    def direction(index: int) -> torch.Tensor:
        drawn = normalise(
            random_direction(setting.space, seeds[index]), theta, setting.space, how, biases=config.direction.biases
        )
        return require_length(drawn)

    direction(0)
    return Rays(theta, direction), how
