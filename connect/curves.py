"""Curves as pure mathematics: the coefficients c(t) `[k]` that weigh k control points at t.

A point of a curve is θ(t) = c(t)·C. Both kinds here begin at the first control point and end at the last one exactly
(Garipov et al. 2018, arXiv 1802.10026, section 3.3).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from landscape import ConfigError


class Curve(Protocol):
    """A family of curves over k control points."""

    @property
    def name(self) -> str:
        """The name on the command line and in files."""
        ...

    @property
    def control_points(self) -> int:
        """k, the ends included."""
        ...

    def coefficients(self, t: Tensor) -> Tensor:
        """Coefficients `[n, k]` at t `[n]` in [0, 1], float64; each row sums to 1."""
        ...


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


def _require_ends(control_points: int) -> None:
    if control_points < 2:
        raise ConfigError(f"a curve has {control_points} control points, expected at least the two ends.")
