"""Minima and paths in the plane that shows most of the minima: their principal components, by inner products alone."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from connect.paths.path import Path
from landscape.space.pieces import Points, gram, stacked
from landscape.storage.results import Array

_TRACED = 65
_HELD = 2**24  # numbers, below which reading them for each path takes longer than it saves


@dataclass(frozen=True)
class Embedding:
    """Where minima and paths lie in a plane.

    Attributes:
        minima: `[n, 2]`, in the units of weight space.
        paths: `[65, 2]` at even t, by name.
        explained: share of the minima's variance that lies in the plane, in [0, 1].
    """

    minima: Array
    paths: Mapping[str, Array]
    explained: float


@dataclass(frozen=True)
class _Mean:
    """The mean `[P]` of points, a `Vector`."""

    points: Points

    def __len__(self) -> int:
        return len(self.points[0])

    def __getitem__(self, piece: slice, /) -> Tensor:
        return stacked(self.points, piece).mean(dim=0)


def embed(points: Points, paths: Iterable[tuple[str, Path]] = ()) -> Embedding:
    """Project minima and paths on the first two principal components of the minima.

    Args:
        points: the n minima, `[P]` each, n ≥ 2.
        paths: with their names; one at a time is held.
    """
    if len(points) * len(points[0]) <= _HELD:
        points = stacked(points, slice(None))
    mean = _Mean(points)
    products = gram(points, mean).cpu().numpy()
    values, vectors = np.linalg.eigh(products)
    values = values[::-1].clip(0)
    kept = min(2, int((values > 1e-12 * values[:1]).sum()))
    weights = np.zeros((len(points), 2))
    weights[:, :kept] = vectors[:, ::-1][:, :kept] / np.sqrt(values[:kept])
    t = torch.linspace(0, 1, _TRACED, dtype=torch.float64)
    traces = {
        name: path.curve.coefficients(t).numpy() @ gram(path.points, mean, points).cpu().numpy() @ weights
        for name, path in paths
    }
    total = values.sum()
    explained = float(values[:2].sum() / total) if total > 0 else 1.0
    return Embedding(products @ weights, traces, explained)
