"""Curves as pure mathematics: the coefficients c(t) `[k]` that weigh k control points at t.

A point of a curve is θ(t) = c(t)·C. Both kinds here begin at the first control point and end at the last one exactly
(Garipov et al. 2018, arXiv 1802.10026, section 3.3). Since all is linear in C, turning one curve into another is one
matrix times the control points.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from landscape.errors import ConfigError


class Curve(Protocol):
    """A family of curves over k control points."""

    @property
    def name(self) -> str:
        """The name on the command line and in files."""

    @property
    def control_points(self) -> int:
        """k, the ends included."""

    def coefficients(self, t: Tensor) -> Tensor:
        """Coefficients `[n, k]` at t `[n]` in [0, 1], float64; each row sums to 1."""


@dataclass(frozen=True)
class Bezier:
    """The Bézier curve of degree k - 1; its coefficients are the Bernstein polynomials.

    Attributes:
        control_points: k ≥ 2, the ends included.
    """

    control_points: int = 3
    name = "bezier"

    def __post_init__(self) -> None:
        _require_ends(self.control_points)

    def coefficients(self, t: Tensor) -> Tensor:
        t = t.to(torch.float64)[:, None]
        degree = self.control_points - 1
        i = torch.arange(self.control_points, dtype=torch.float64)
        binomials = torch.tensor([math.comb(degree, j) for j in range(self.control_points)], dtype=torch.float64)
        return binomials * t**i * (1 - t) ** (degree - i)


@dataclass(frozen=True)
class PolygonalChain:
    """k - 1 straight pieces from control point to control point, each passed in the same share of t.

    Attributes:
        control_points: k ≥ 2, the ends included.
    """

    control_points: int = 3
    name = "chain"

    def __post_init__(self) -> None:
        _require_ends(self.control_points)

    def coefficients(self, t: Tensor) -> Tensor:
        place = t.to(torch.float64)[:, None] * (self.control_points - 1)
        knots = torch.arange(self.control_points, dtype=torch.float64)
        return (1 - (place - knots).abs()).clamp_min(0)


CURVES: Mapping[str, Callable[[int], Curve]] = {Bezier.name: Bezier, PolygonalChain.name: PolygonalChain}


_FITTED_AT = 1025


def conversion(old: Curve, new: Curve) -> Tensor:
    """The matrix `[k_new, k_old]` that makes control points of one curve into those of another.

    A Bézier curve of more control points is the same curve (degree elevation), and so is a chain of more: each piece is
    cut into as many equal ones as the others, or one more or less. A chain made of a curve has its control points on
    the curve, at even t. Anything else is the nearest curve with the same ends, by least squares over t.
    """
    if new.name == Bezier.name == old.name and new.control_points >= old.control_points:
        return _elevation(old.control_points - 1, new.control_points - 1)
    if new.name == PolygonalChain.name == old.name and new.control_points >= old.control_points:
        return old.coefficients(_subdivision(old.control_points - 1, new.control_points - 1))
    if new.name == PolygonalChain.name:
        return old.coefficients(torch.linspace(0, 1, new.control_points, dtype=torch.float64))
    t = torch.linspace(0, 1, _FITTED_AT, dtype=torch.float64)
    matrix = torch.zeros(new.control_points, old.control_points, dtype=torch.float64)
    matrix[0, 0] = matrix[-1, -1] = 1
    weights = new.coefficients(t)
    rest = old.coefficients(t) - weights[:, [0, -1]] @ matrix[[0, -1]]
    matrix[1:-1] = torch.linalg.pinv(weights[:, 1:-1]) @ rest
    return matrix


def _elevation(degree: int, higher: int) -> Tensor:
    """The Bernstein polynomials of a degree in terms of those of a higher one (Farin, Curves and Surfaces, 6.10)."""
    rows = [
        [
            math.comb(degree, j) * math.comb(higher - degree, i - j) / math.comb(higher, i)
            if 0 <= i - j <= higher - degree
            else 0.0
            for j in range(degree + 1)
        ]
        for i in range(higher + 1)
    ]
    return torch.tensor(rows, dtype=torch.float64)


def _subdivision(pieces: int, finer: int) -> Tensor:
    """Places t `[finer + 1]` that hold all knots of a chain of so many pieces."""
    edges = [finer * i // pieces for i in range(pieces + 1)]
    places = [
        (piece + part / (edges[piece + 1] - edges[piece])) / pieces
        for piece in range(pieces)
        for part in range(edges[piece + 1] - edges[piece])
    ]
    return torch.tensor([*places, 1.0], dtype=torch.float64)


def _require_ends(control_points: int) -> None:
    if control_points < 2:
        raise ConfigError(f"a curve has {control_points} control points, expected at least the two ends.")
