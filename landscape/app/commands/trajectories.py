"""Project the snapshots of trainings on their principal components."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from landscape.app.checkpoints import load_network
from landscape.app.commands.pictures import draw
from landscape.app.commands.summaries import distinct_names, wrote
from landscape.app.config import TrajectoryConfig
from landscape.app.options import files_in
from landscape.app.setting import open_setting
from landscape.errors import ConfigError
from landscape.runtime.progress import Reporter, silent
from landscape.space.planes import principal_plane
from landscape.space.projections import project
from landscape.storage.checkpoints import CHECKPOINT_SUFFIXES
from landscape.storage.outputs import OutputFiles, Outputs, writing
from landscape.storage.results import Result
from landscape.storage.store import ResultWriter
from landscape.sweeps.driver import sweep
from landscape.sweeps.grid import axes_around, parse_axis


@dataclass(frozen=True)
class TrajectorySummary:
    """Trajectories on a plane.

    Attributes:
        explained: share of the squared distances from the end that lies along each of the two axes.
        snapshots: how many each trajectory has, by name.
        largest_distance: of any snapshot from the plane, over the longest distance of a snapshot from the end.
        points: of the surface below them.
        seconds: that all took.
        files: that were written.
    """

    explained: Sequence[float]
    snapshots: dict[str, int]
    largest_distance: float
    points: int
    seconds: float
    files: Sequence[str]

    def text(self) -> str:
        """The summary in words."""
        counted = ", ".join(f"{name}: {count} snapshots" for name, count in self.snapshots.items())
        return (
            f"{counted}; the axes explain {self.explained[0]:.1%} and {self.explained[1]:.1%}\n"
            f"farthest snapshot from the plane: {self.largest_distance:.1%} of the longest way to the end\n"
            f"{self.points} points of the surface, {self.seconds:.0f} s in all\n" + wrote(self.files)
        )


def trajectory(config: TrajectoryConfig, report: Reporter = silent) -> TrajectorySummary:
    """Project trainings' snapshots on the two principal components of all, measure the loss there, and draw both.

    The plane goes through the last snapshot of the first trajectory.

    Args:
        config: snapshots, ranges, policies and files.
        report: told of progress.

    Raises:
        LandscapeError: the subclass says what is wrong; all that can be checked is checked before any computing.
    """
    groups = _trajectories(config.snapshots)
    read = [*files_in(config), *(path for paths in groups.values() for path in paths)]
    files = OutputFiles.beside(config.out)
    with writing(files, read=read, resume=config.output.resume, overwrite=config.output.overwrite) as outputs:
        return _trajectory(config, groups, outputs, report)


def _trajectory(
    config: TrajectoryConfig, groups: Mapping[str, Sequence[Path]], outputs: Outputs, report: Reporter
) -> TrajectorySummary:
    started = perf_counter()
    out = outputs.at(config.out)
    given = {name: parse_axis(text, f"--{name}") for name in ("y", "x") if (text := getattr(config, name))}
    loaded = [load_network(config.checkpoints, path) for paths in groups.values() for path in paths]
    end = len(next(iter(groups.values()))) - 1
    setting = open_setting(config.problem, config.compute, [loaded[end]], trust_code=config.checkpoints.trust_code)
    order = [end, *(index for index in range(len(loaded)) if index != end)]
    networks = setting.load_all([loaded[index] for index in order])
    statistics = setting.policy(config.checkpoints, networks)
    plane, shares = principal_plane(networks.thetas, setting.space)
    seen = project(plane, networks.thetas)
    place = np.argsort(order)
    edges = np.cumsum([len(paths) for paths in groups.values()])[:-1]
    marks = dict(zip(groups, np.split(seen.coordinates[place], edges), strict=True))
    distances = dict(zip(groups, np.split(seen.distances[place], edges), strict=True))
    longest = max(float(torch.dist(theta, networks.thetas[0])) for theta in networks.thetas)
    risk = setting.risk(
        config.compute, statistics, setting.splits(config.split), begun=out if config.output.resume else None
    )
    provenance = setting.provenance(
        {},
        trajectories=[[name, len(paths)] for name, paths in groups.items()],
        snapshots=[checkpoint.fingerprint for checkpoint in loaded],
        axes="pca",
        x=config.x,
        y=config.y,
        points=config.points,
        batch_norm=statistics.name,
        statistics_batch_size=config.checkpoints.statistics_batch_size,
        split=config.split,
        precision=config.compute.precision,
        trainable=config.problem.trainable,
        **risk.evaluation(),
    )
    facts = {
        "explained": shares.tolist(),
        "distances": {name: found.tolist() for name, found in distances.items()},
        "longest": longest,
    }
    begun = Result("trajectory", {}, marks, provenance, facts)
    writer = ResultWriter(out, begun, resume=config.output.resume)
    axes = axes_around(np.concatenate(list(marks.values())), max(config.points, 2)) | given
    if config.points:
        sweep(risk, plane, axes, writer=writer, report=report)
    else:
        writer.note({}, flush=True)
    outputs.commit()
    return TrajectorySummary(
        explained=shares[:2].tolist(),
        snapshots={name: len(paths) for name, paths in groups.items()},
        largest_distance=float(seen.distances.max()) / longest,
        points=axes["y"].size * axes["x"].size if config.points else 0,
        seconds=perf_counter() - started,
        files=[str(config.out), *draw(config.out)],
    )


def _trajectories(given: Sequence[Path]) -> dict[str, list[Path]]:
    """Snapshots by trajectory: those of each folder in the order of their names, and single files by their folder.

    Raises:
        ConfigError: a folder holds no checkpoint, or there are fewer than three snapshots in all.
    """
    folders: dict[Path, list[Path]] = {}
    for path in given:
        if path.is_dir():
            inside = sorted((p for p in path.iterdir() if p.suffix in CHECKPOINT_SUFFIXES), key=_in_order)
            if not inside:
                raise ConfigError(f"{path} holds no checkpoint; expected files such as epoch_0001.safetensors.")
            if path.absolute() in folders:
                raise ConfigError(f"{path} is named twice, or beside files of its own; each trajectory is a folder.")
            folders[path.absolute()] = inside
        else:
            folders.setdefault(path.absolute().parent, []).append(path)
    if sum(map(len, folders.values())) < 3:
        raise ConfigError("a plane needs at least three snapshots.")
    return dict(zip(distinct_names(list(folders)), folders.values(), strict=True))


def _in_order(path: Path) -> list[tuple[int, str]]:
    """Names in the order of the numbers in them, so that model_10 follows model_9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]
