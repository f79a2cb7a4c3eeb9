"""A path through parameter space: control points and the curve that they span, in memory and on disk."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import torch
from torch import Tensor

from connect.curves import CURVES, Curve
from landscape import CheckpointError, ParameterSpace, load_checkpoint, save_tensors

_PIECES = 4096
_TRACED = 65


@dataclass(frozen=True)
class Path:
    """θ(t) = c(t)·C for t in [0, 1].

    Attributes:
        points: control points C `[k, P]`; the first and the last are the ends.
        curve: gives the coefficients c(t).
        provenance: what the path was trained from and how; empty in memory.
    """

    points: Tensor
    curve: Curve
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, t: float) -> Tensor:
        """The point θ `[P]` at t; at 0 and 1 the ends, exactly."""
        coefficients = self.curve.coefficients(torch.tensor([t], dtype=torch.float64))[0]
        return torch.mv(self.points.T, coefficients.to(self.points))

    def distance(self) -> float:
        """Length of the straight line between the ends."""
        return float((self.points[-1] - self.points[0]).double().norm())

    def length(self) -> float:
        """Length of the path, as that of 4096 straight pieces: for a curve a hair too short, never too long."""
        offsets = (self.points - self.points[0]).double()
        t = torch.linspace(0, 1, _PIECES + 1, dtype=torch.float64)
        steps = self.curve.coefficients(t).diff(dim=0).to(offsets.device)
        squares = torch.einsum("ni,ij,nj->n", steps, offsets @ offsets.T, steps)
        return float(squares.clamp_min(0).sqrt().sum())


def straight_line(path: Path) -> Path:
    """The straight line between a path's ends."""
    return Path(torch.stack([path.points[0], path.points[-1]]), CURVES["chain"](2))


def save_path(filename: str | os.PathLike[str], path: Path, space: ParameterSpace, metadata: Mapping[str, Any]) -> None:
    """Write a path as safetensors: for each parameter its control points `[k, ...]`, by name.

    The metadata hold the coefficients `[65, k]` at as many even values of t, so that any reader can draw the path.

    Args:
        filename: the file.
        path: the path.
        space: gives names and shapes.
        metadata: what JSON can hold, such as the problem; the path's provenance is added.

    Raises:
        StorageError: the file cannot be written.
    """
    named = [space.unflatten(point) for point in path.points]
    tensors = {name: torch.stack([point[name] for point in named]) for name in named[0]}
    coefficients = path.curve.coefficients(torch.linspace(0, 1, _TRACED, dtype=torch.float64)).tolist()
    known = {
        "kind": "path",
        "curve": path.curve.name,
        "provenance": dict(path.provenance),
        "coefficients": coefficients,
    }
    save_tensors(filename, tensors, {**metadata, **known})


def load_path(filename: str | os.PathLike[str], space: ParameterSpace) -> Path:
    """Read a path.

    Args:
        filename: the file that `save_path` wrote.
        space: the space of the same network.

    Raises:
        CheckpointError: it is missing, damaged or no path.
        LayoutError: it does not fit the network.
    """
    saved = load_checkpoint(FilePath(filename))
    if saved.metadata.get("kind") != "path" or saved.metadata.get("curve") not in CURVES:
        raise CheckpointError(f"{filename} holds no path; it is written by connect fit.")
    count = next(iter(saved.state.values())).shape[0]
    points = [space.flatten({n: t[i] for n, t in saved.state.items()}) for i in range(count)]
    return Path(torch.stack(points), CURVES[saved.metadata["curve"]](count), saved.metadata.get("provenance", {}))
