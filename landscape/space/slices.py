"""Lines and planes through parameter space: from coordinates to θ, and back."""

from collections.abc import Callable
from functools import lru_cache

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


class Rays:
    """Straight lines from one point in several directions: θ(i, t) = origin + t·d_i.

    Args:
        origin: the point `[P]` at t = 0.
        direction: gives direction i `[P]`; one is held at a time.
    """

    def __init__(self, origin: Tensor, direction: Callable[[int], Tensor]) -> None:
        self._origin = origin
        self._direction = lru_cache(maxsize=1)(direction)

    def __call__(self, direction: float, t: float) -> Tensor:
        return self._origin.add(self._direction(int(direction)), alpha=t)


class Plane:
    """The plane θ(x, y) = origin + x·u + y·v.

    Args:
        origin: the point `[P]` at (0, 0).
        u: first axis `[P]`.
        v: second axis `[P]`.

    Raises:
        ConfigError: the axes are parallel, or one is zero.
    """

    def __init__(self, origin: Tensor, u: Tensor, v: Tensor) -> None:
        self._origin, self._u, self._v = origin, u, v
        axes = torch.stack([u, v]).double()
        self._squares = axes @ axes.T
        lengths = self._squares.diagonal().sqrt()
        if not torch.linalg.det(self._squares).sqrt() > _COLLINEAR * lengths.prod():
            raise ConfigError("the axes of the plane are parallel or zero; they span no plane.")

    @property
    def axes(self) -> tuple[Tensor, Tensor]:
        """The two axes, `[P]` each."""
        return self._u, self._v

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
            raise ConfigError("the three points of the plane lie on one line; they span no plane.")
        return cls(a, u.to(a.dtype), (rest / rest.norm()).to(a.dtype))

    def __call__(self, x: float, y: float) -> Tensor:
        return self._origin.add(self._u, alpha=x).add_(self._v, alpha=y)

    def project(self, theta: Tensor) -> tuple[float, float, float]:
        """The coordinates of the nearest point of the plane, by least squares, and θ's distance from it."""
        offset = (theta - self._origin).double()
        coordinates = torch.linalg.solve(self._squares, torch.stack([offset @ u.double() for u in self.axes]))
        distance = (offset - coordinates[0] * self._u - coordinates[1] * self._v).norm()
        x, y = coordinates.tolist()
        return x, y, float(distance)
