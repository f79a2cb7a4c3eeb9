"""The plane that a path lies in, or nearly: the loss there, and where the path is on it.

A picture of a plane is looked at along the path, so the losses that were measured along the path and the straight line
are put among those of the grid, and what lies between is interpolated on a finer one.
"""

import math
import pathlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from connect.measures.summaries import PATHS, measured_path
from connect.paths.path import Path, straight_line
from landscape.errors import ConfigError
from landscape.risk.network import NetworkSurface
from landscape.runtime.progress import Reporter, silent
from landscape.space.directions import random_direction
from landscape.space.pieces import norm
from landscape.space.projections import Projection, project
from landscape.space.slices import Plane
from landscape.storage.results import Array, Result, Sweep, interpolated
from landscape.storage.store import ResultWriter
from landscape.sweeps.driver import sweep
from landscape.sweeps.interpolation import finer

DIMENSIONS = 2
_MARGIN, _LEAST_MARGIN = 0.2, 0.12
_FINE = 160  # steps along the longer side of a picture, at least
_TRACED = 201
_IN_PLANE = 1e-3


def measure_plane(
    path: Path,
    risk: NetworkSurface,
    measured: Result,
    file: pathlib.Path,
    *,
    points: int,
    provenance: Mapping[str, Any],
    resume: bool = False,
    report: Reporter = silent,
) -> None:
    """Measure the loss on the plane of a path, and write it with both paths on it.

    The result's sweep "" holds the grid, "interpolated" a finer grid that also knows what was measured along both
    paths. Of a path that does not lie in the plane a further sweep "path" holds the plane's own heights under it.

    Args:
        path: the path.
        risk: the loss.
        measured: the path's profile; the plane is that of its first split.
        file: the result to write, .h5.
        points: of the grid along the longer side of the frame, at least 2.
        provenance: what the measurements follow from.
        resume: go on from what the file holds.
        report: progress reporter; a unit is a point.

    Raises:
        ProvenanceError: the file to resume was measured under other settings.
        Interrupted: a signal came; what was measured is on disk.
    """
    plane = plane_of(path, risk)
    split = measured_path(measured, "path").splits[0]
    trace = _trace(plane, path, np.linspace(0, 1, _TRACED))
    farthest = float(trace.distances.max())
    controls = project(plane, path.points)
    marks = {
        "a": controls.coordinates[:1],
        "b": controls.coordinates[-1:],
        "control points": controls.coordinates[1:-1],
        "path": trace.coordinates,
        "straight": controls.coordinates[[0, -1]],
    }
    facts = {
        "largest_distance_from_plane": float(controls.distances.max()),
        "path_distance_from_plane": farthest,
        "polylines": ["path", "straight"],
    }
    writer = ResultWriter(
        file, Result("plane", {}, marks, {**provenance, "plane_points": points, "split": split}, facts), resume=resume
    )
    axes = frame(np.concatenate([marks["path"], controls.coordinates]), points)
    on_split = risk.select(splits=[split])
    grid = sweep(on_split, plane, axes, writer=writer, report=report)
    beside = [_in_plane(plane, path, measured, name) for name in PATHS]
    if farthest > _IN_PLANE * path.distance():
        beside.append(_under(plane, path, on_split, points, writer, report))
    coordinates = np.concatenate([places for places, _ in beside])
    values = {name: np.concatenate([_quantity(along, name) for _, along in beside]) for name in grid.values}
    steps = max(2, math.ceil(_FINE / (points - 1)))
    writer.update(interpolated(""), finer(grid, steps, coordinates, values), flush=True)


def plane_of(path: Path, risk: NetworkSurface) -> Plane:
    """The plane through the control points when there are three, else through the ends and the path's middle.

    Through a straight path goes a plane in a random direction of the risk's space.
    """
    a, b = path.points[0], path.points[-1]
    third = path.points[1] if len(path.points) == 3 else path(0.5)
    with suppress(ConfigError):
        return Plane.through(a, b, third)
    across, aside = b - a, random_direction(risk.space, seed=0)
    aside.mul_(norm(across) / norm(aside)).add_(a).sub_(a)  # as if the plane went through a third point there
    return Plane.spanned(a, across, aside)


def frame(points: Array, count: int) -> dict[str, Array]:
    """Axes of a plane that follow points closely: each side with a margin of its own, none too narrow to be seen.

    Args:
        points: coordinates (x, y) `[n, 2]`, not all the same.
        count: points along the longer side, at least 2; along the shorter one at least half as many.

    Returns:
        Values of "y" and of "x".
    """
    low, high = points.min(axis=0), points.max(axis=0)
    own = high - low
    margin = np.maximum(_MARGIN * own, _LEAST_MARGIN * own.max())
    sides = own + 2 * margin
    counts = np.maximum(np.ceil((count - 1) * sides / sides.max() - 1e-9) + 1, max(2, (count + 1) // 2)).astype(int)
    ends = zip(low - margin, high + margin, counts, strict=True)
    x, y = (np.linspace(float(first), float(last), number) for first, last, number in ends)
    return {"y": y, "x": x}


def _trace(plane: Plane, path: Path, t: Array) -> Projection:
    """The path's points at t on the plane, with their distances from it."""
    return project(plane, path.points, path.curve.coefficients(torch.from_numpy(t)))


def _in_plane(plane: Plane, path: Path, measured: Result, name: str) -> tuple[Array, Sweep]:
    """What the profile holds of the points of one path that lie in the plane, the two ends first."""
    along = measured_path(measured, name)
    place = _trace(plane, path if name == "path" else straight_line(path), along["t"])
    inside = np.flatnonzero(place.distances <= _IN_PLANE * path.distance())
    order = [*inside[[0, -1]], *inside[1:-1]] if len(inside) > 1 else inside
    values = {quantity: array[order] for quantity, array in along.values.items()}
    return place.coordinates[order], Sweep({"t": along["t"][order]}, values, along.done[order])


def _under(
    plane: Plane, path: Path, risk: NetworkSurface, count: int, writer: ResultWriter, report: Reporter
) -> tuple[Array, Sweep]:
    """The plane's own heights at the projection of a path that does not lie in it."""
    t = np.linspace(0, 1, count)
    places = _trace(plane, path, t).coordinates

    def shadow(t: float) -> torch.Tensor:
        x, y = _trace(plane, path, np.array([t])).coordinates[0]
        return plane(x=float(x), y=float(y))

    return places, sweep(risk, shadow, {"t": t}, writer=writer, name="path", report=report)


def _quantity(along: Sweep, name: str) -> Array:
    """A quantity along a path; NaN where it was not measured there."""
    return np.asarray(along.values.get(name, np.full(along.shape, np.nan)))
