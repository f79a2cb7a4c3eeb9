"""Lines and planes through parameter space: from coordinates to θ, and back."""

from collections.abc import Callable

import torch
from torch import Tensor

from landscape.errors import ConfigError

_COLLINEAR = 1e-6


Slice = Callable[..., Tensor]
"""A map from coordinates, given by their names, to θ `[P]`."""


class Line:
    """The straight line θ(t) = (1 - t)·a + t·b; its ends are exact.

    Args:
        a: the point `[P]` at t = 0.
        b: the point `[P]` at t = 1.
    """

    def __init__(self, a: Tensor, b: Tensor) -> None:
        self._a, self._b = a, b

    def __call__(self, t: float) -> Tensor:
        return torch.lerp(self._a, self._b, t)


class Plane:
    """The plane θ(x, y) = origin + x·u + y·v.

    Args:
        origin: the point `[P]` at (0, 0).
        u: first axis `[P]`.
        v: second axis `[P]`.
    """

    def __init__(self, origin: Tensor, u: Tensor, v: Tensor) -> None:
        self._origin, self._u, self._v = origin, u, v

    @classmethod
    def through(cls, a: Tensor, b: Tensor, c: Tensor) -> "Plane":
        """The plane through three points, with orthonormal axes: a is the origin, b lies on the x axis.

        Raises:
            ConfigError: the points lie on one line.
        """
        across, up = (b - a).double(), (c - a).double()
        u = across / across.norm()
        rest = up - (up @ u) * u
        if not rest.norm() > _COLLINEAR * up.norm():
            raise ConfigError("the three points of the plane lie on one line; no plane is given by them.")
        return cls(a, u.to(a.dtype), (rest / rest.norm()).to(a.dtype))

    def __call__(self, x: float, y: float) -> Tensor:
        return self._origin.add(self._u, alpha=x).add_(self._v, alpha=y)

    def project(self, theta: Tensor) -> tuple[float, float, float]:
        """The coordinates of the nearest point of the plane, by least squares, and θ's distance from it."""
        axes = torch.stack([self._u, self._v]).double()
        offset = (theta - self._origin).double()
        coordinates = torch.linalg.solve(axes @ axes.T, axes @ offset)
        distance = (offset - coordinates @ axes).norm()
        x, y = coordinates.tolist()
        return x, y, float(distance)
