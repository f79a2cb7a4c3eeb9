"""Measure the loss along lines."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from landscape.app.checkpoints import load_network, require_different
from landscape.app.commands.curvatures import (
    CurvatureFigures,
    curvature_figures,
    curvature_metrics,
    curvature_provenance,
    require_found,
)
from landscape.app.commands.pictures import draw_result
from landscape.app.commands.summaries import at_point, label, loss_range, wrote
from landscape.app.config import LineConfig
from landscape.app.memory import curvature_need, line_need
from landscape.app.run import running
from landscape.app.setting import Networks, Setting
from landscape.errors import ConfigError
from landscape.runtime.progress import Reporter, silent
from landscape.runtime.seeds import unrelated_seeds
from landscape.space.directions import normalise, random_direction, require_length
from landscape.space.slices import Line, Rays, Slice
from landscape.storage.outputs import OutputFiles
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
        report: progress reporter.

    Raises:
        LandscapeError: the subclass says what is wrong; all that can be checked is checked before any computing.
    """
    with running(config, report, OutputFiles.beside(config.out)) as run:
        files = {"a": config.a} | ({"b": config.b} if config.b else {})
        checkpoints = {name: load_network(config.checkpoints, file) for name, file in files.items()}
        require_different(*checkpoints.values())
        setting, networks, statistics = run.load(list(checkpoints.values()))
        need = line_need()
        (curvature_need(need, config.curvature.held()) if config.map.curvature else need).require(setting.space)
        line_or_rays, normalisation = _slice(config, setting, networks)
        require_found(config.map, config.curvature, setting, config.split)
        subject = run.subject(setting, statistics, config.split)
        extent = config.range or (BETWEEN if config.b else AROUND)
        provenance = subject.provenance(
            checkpoints,
            range=extent,
            normalise=normalisation,
            seed=None if config.b and not config.map.curvature else config.direction.seed,
            **curvature_provenance(config.map, config.curvature, subject.risk),
        )
        metrics = curvature_metrics(config.map, config.curvature, subject.risk, config.direction.seed)
        writer = subject.writer("line", provenance, {"names": {name: label(file) for name, file in files.items()}})
        ends = zip(files, networks.thetas, strict=True)
        writer.note({f"at_{name}": at_point(subject.risk, theta[:]) for name, theta in ends})
        axes = {} if config.b else {"direction": np.arange(float(config.directions))}
        axes["t"] = parse_axis(extent, "--range")
        measured = sweep(subject.risk, line_or_rays, axes, metrics=metrics, writer=writer, report=report)
        low, high = loss_range([measured])
        figures = vars(curvature_figures(config.map, [measured]))
        return LineSummary(
            points=measured.done.size,
            seconds=run.seconds,
            min_loss=low,
            max_loss=high,
            files=run.finish(draw_result),
            **figures,
        )


def _slice(config: LineConfig, setting: Setting, networks: Networks) -> tuple[Slice, str | None]:
    """The line or the bundle of lines, and how its directions are normalised."""
    if config.b:
        a, b = (theta[:] for theta in networks.thetas)
        if torch.equal(a, b):
            raise ConfigError(f"{config.a} and {config.b} hold the same weights; no line leads from one to the other.")
        return Line(a, b), None
    theta, how = networks.thetas[0][:], config.direction.normalise or "filter"
    seeds = unrelated_seeds(config.direction.seed, config.directions)

    def direction(index: int) -> torch.Tensor:
        scaled = normalise(
            random_direction(setting.space, seeds[index]), theta, setting.space, how, biases=config.direction.biases
        )
        return require_length(scaled)

    direction(0)
    return Rays(theta, direction), how
