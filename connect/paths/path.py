"""A path through parameter space: control points and the curve that they span, in memory and on disk."""

import os
import pathlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from connect.paths.curves import CURVES, Curve, PolygonalChain
from connect.paths.geometry import Geometry
from landscape.errors import CheckpointError, ConfigError, LayoutError
from landscape.risk.network import NetworkSurface
from landscape.risk.surface import Surface
from landscape.space.parameters import ParameterSpace
from landscape.storage.checkpoints import Checkpoint, load_checkpoint, save_tensors

_TRACED = 65
MOVED_BUFFERS = "moved_buffers"  # in a path's provenance: those that its ends differ in, which no path holds


@dataclass(frozen=True)
class Path:
    """θ(t) = c(t)·C for t in [0, 1].

    Attributes:
        points: control points C `[k, P]`; the first and the last are the ends.
        curve: gives the coefficients c(t).
        provenance: what the path was trained from and how; empty in memory.
        losses: mean training loss of each epoch `[epochs]`, over examples and t, as met on the way; None if unknown.
        build: makes a network of θ `[P]`; None on an analytic potential.
        rates: learning rate in the middle of each epoch `[epochs]`; None if unknown.
    """

    points: Tensor
    curve: Curve
    provenance: Mapping[str, Any] = field(default_factory=dict)
    losses: Tensor | None = field(default=None, compare=False)
    build: Callable[[Tensor], nn.Module] | None = field(default=None, compare=False, repr=False)
    rates: Tensor | None = field(default=None, compare=False)

    def __call__(self, t: float) -> Tensor:
        """The point θ `[P]` at t; at 0 and 1 the ends, exactly."""
        coefficients = self.curve.coefficients(torch.tensor([t], dtype=torch.float64))[0]
        return torch.mv(self.points.T, coefficients.to(self.points))

    def module(self, t: float) -> nn.Module:
        """An independent network at t, in evaluation mode, with the running statistics that belong there.

        Raises:
            ConfigError: t is not in [0, 1], or the path is not one of networks.
        """
        if not 0 <= t <= 1:
            raise ConfigError(f"t is {t}, expected a number in [0, 1].")
        if self.build is None:
            raise ConfigError("the path does not know a network: it was fitted on a potential, or loaded without one.")
        return self.build(self(t))

    @cached_property
    def geometry(self) -> Geometry:
        """Lengths, angles and norms along it."""
        return Geometry(self.points, self.curve)

    def distance(self) -> float:
        """Length of the straight line between the ends."""
        return self.geometry.distance

    def length(self) -> float:
        """Length of the path, as that of 4096 straight pieces: for a curve a hair too short, never too long."""
        return self.geometry.length


def straight_line(path: Path) -> Path:
    """The straight line between a path's ends, in the same memory."""
    return Path(path.points[:: len(path.points) - 1], PolygonalChain(2), build=path.build)


def builder(surface: Surface) -> Callable[[Tensor], nn.Module] | None:
    """What makes networks of points, where the surface's points are networks."""
    if not isinstance(surface, NetworkSurface):
        return None

    def build(theta: Tensor) -> nn.Module:
        with surface.at(theta) as here:
            return here.module()

    return build


def save_path(filename: str | os.PathLike[str], path: Path, space: ParameterSpace, metadata: Mapping[str, Any]) -> None:
    """Write a path as safetensors: for each parameter its control points `[k, ...]`, by name.

    The metadata hold the coefficients `[65, k]` at as many even values of t, so that any reader can draw the path.

    Args:
        filename: the file.
        path: the path.
        space: gives names and shapes.
        metadata: what JSON can hold, such as the problem; the path's provenance, losses and rates are added.

    Raises:
        StorageError: the file cannot be written.
    """
    coefficients = path.curve.coefficients(torch.linspace(0, 1, _TRACED, dtype=torch.float64)).tolist()
    facts = {
        "kind": "path",
        "curve": path.curve.name,
        "provenance": dict(path.provenance),
        "coefficients": coefficients,
        "epoch_losses": None if path.losses is None else path.losses.tolist(),
        "epoch_rates": None if path.rates is None else path.rates.tolist(),
    }
    save_tensors(filename, space.views(path.points), {**metadata, **facts})


def load_path(
    filename: str | os.PathLike[str], space: ParameterSpace, build: Callable[[Tensor], nn.Module] | None = None
) -> Path:
    """Read a path.

    Args:
        filename: the file that `save_path` wrote.
        space: the space of the same network.
        build: makes a network of θ, for `Path.module`; see `builder`.

    Raises:
        CheckpointError: it is missing, damaged or no path.
        LayoutError: it does not fit the network.
    """
    return path_of(load_checkpoint(pathlib.Path(filename)), space, build)


def path_of(saved: Checkpoint, space: ParameterSpace, build: Callable[[Tensor], nn.Module] | None = None) -> Path:
    """The path that a file held; see `load_path`."""
    if saved.metadata.get("kind") != "path" or saved.metadata.get("curve") not in CURVES:
        raise CheckpointError(f"{saved.path} holds no path; it is written by connect fit.")
    counts = {tensor.shape[0] if tensor.ndim else 0 for tensor in saved.state.values()}
    if len(counts) != 1:
        raise CheckpointError(f"{saved.path}: its tensors hold {sorted(counts)} control points, expected one number.")
    (count,) = counts
    curve = CURVES[saved.metadata["curve"]](count)
    points = torch.empty(count, space.dimension, device=space.device, dtype=space.dtype)
    try:
        for i in range(count):
            points[i] = space.flatten({name: tensor[i] for name, tensor in saved.state.items()})
    except LayoutError as error:
        raise LayoutError(f"{saved.path}: {error}") from error
    losses, rates = (_epochs(saved, name) for name in ("epoch_losses", "epoch_rates"))
    if losses is not None and rates is not None and losses.shape != rates.shape:
        raise CheckpointError(f"{saved.path}: epoch_losses and epoch_rates in its metadata are not of one length.")
    return Path(points, curve, saved.metadata.get("provenance", {}), losses, build, rates)


def _epochs(saved: Checkpoint, name: str) -> Tensor | None:
    """A number for each epoch `[epochs]`, where the metadata hold them."""
    kept = saved.metadata.get(name)
    try:
        return None if kept is None else torch.tensor(kept, dtype=torch.float64)
    except OverflowError as error:
        raise CheckpointError(f"{saved.path}: {name} in its metadata holds more than a float does.") from error
