"""Project the snapshots of trainings on their principal components."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from landscape.app.checkpoints import load_network
from landscape.app.commands.pictures import draw_result
from landscape.app.commands.summaries import distinct_names, wrote
from landscape.app.config import TrajectoryConfig
from landscape.app.options import files_in
from landscape.app.run import running
from landscape.errors import ConfigError
from landscape.runtime.progress import Reporter, silent
from landscape.space.axes import grid_around, principal_plane
from landscape.space.pieces import Offset, norm
from landscape.space.projections import project
from landscape.storage.folders import checkpoints_in, is_checkpoint_folder
from landscape.storage.outputs import OutputFiles
from landscape.storage.results import Array
from landscape.sweeps.driver import sweep
from landscape.sweeps.grid import parse_axis


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
        report: progress reporter.

    Raises:
        LandscapeError: the subclass says what is wrong; all that can be checked is checked before any computing.
    """
    groups = _trajectories(config.snapshots)
    read = [*files_in(config), *(file for files in groups.values() for file in files)]
    with running(config, report, OutputFiles.beside(config.out), read=read) as run:
        loaded = [load_network(config.checkpoints, file) for files in groups.values() for file in files]
        end = len(next(iter(groups.values()))) - 1
        order = [end, *(index for index in range(len(loaded)) if index != end)]
        setting, networks, statistics = run.load([loaded[index] for index in order], bearers=[loaded[end]])
        plane, shares = principal_plane(networks.thetas, setting.space)
        subject = run.subject(setting, statistics, config.split)
        projection = project(plane, networks.thetas)
        centre = networks.thetas[0][:]
        longest = max(float(norm(Offset(theta, centre))) for theta in networks.thetas)
        marks, distances = (
            _by_trajectory(groups, order, each) for each in (projection.coordinates, projection.distances)
        )
        provenance = subject.provenance(
            {},
            trajectories=[[name, len(files)] for name, files in groups.items()],
            snapshots=[checkpoint.fingerprint for checkpoint in loaded],
            axes="pca",
        )
        facts = {
            "explained": shares.tolist(),
            "distances": {name: each.tolist() for name, each in distances.items()},
            "longest": longest,
        }
        writer = subject.writer("trajectory", provenance, facts, marks)
        ranges = {name: parse_axis(text, f"--{name}") for name in ("y", "x") if (text := getattr(config, name))}
        axes = grid_around(projection.coordinates, max(config.points, 2)) | ranges
        if config.points:
            sweep(subject.risk, plane, axes, writer=writer, report=report)
        else:
            writer.note({}, flush=True)
        return TrajectorySummary(
            explained=shares[:2].tolist(),
            snapshots={name: len(files) for name, files in groups.items()},
            largest_distance=float(projection.distances.max()) / longest,
            points=axes["y"].size * axes["x"].size if config.points else 0,
            seconds=run.seconds,
            files=run.finish(draw_result),
        )


def _by_trajectory(groups: Mapping[str, Sequence[Path]], order: Sequence[int], values: Array) -> dict[str, Array]:
    """Values of the snapshots, which are in an order of their own, by trajectory."""
    edges = np.cumsum([len(files) for files in groups.values()])[:-1]
    return dict(zip(groups, np.split(values[np.argsort(order)], edges), strict=True))


def _trajectories(places: Sequence[Path]) -> dict[str, list[Path]]:
    """Snapshots by trajectory: those of each folder in the order of their names, and single files by their folder.

    Raises:
        ConfigError: a folder holds no checkpoint, or there are fewer than three snapshots in all.
    """
    folders: dict[Path, list[Path]] = {}
    for path in places:
        if path.is_dir() and not is_checkpoint_folder(path):
            inside = sorted(checkpoints_in(path), key=_in_order)
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
