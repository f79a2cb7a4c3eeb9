"""Lines and planes through parameter space: from coordinates to θ, and back."""

from collections.abc import Callable

import torch
from torch import Tensor

from landscape.errors import ConfigError
from landscape.space.pieces import Vector, gram, norm, pieces, total, total_length

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
        self._origin, self._direction = origin, direction
        self._held: tuple[int, Tensor] | None = None

    def __call__(self, direction: float, t: float) -> Tensor:
        index = int(direction)
        if self._held is None or self._held[0] != index:
            self._held = None  # before the next is made
            self._held = index, self._direction(index)
        return self._origin.add(self._held[1], alpha=t)


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
        self._squares = gram([u, v])
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
        return cls.spanned(a, b - a, c - a)

    @classmethod
    def spanned(cls, origin: Tensor, across: Tensor, up: Tensor) -> "Plane":
        """The plane of two offsets `[P]` from an origin `[P]`, which are made its orthonormal axes where they lie.

        Raises:
            ConfigError: they are parallel, or one is zero.
        """
        width = norm(across)

        def rest(piece: slice) -> Tensor:
            return up[piece].double() - overlap * (across[piece].double() / width)

        parts = list(pieces(len(origin)))
        overlap = total(up[piece].double() @ (across[piece].double() / width) for piece in parts)
        height = total_length([rest(piece).norm() for piece in parts])
        if not height > _COLLINEAR * norm(up):
            raise ConfigError("the three points of the plane lie on one line; they span no plane.")
        for piece in parts:
            up[piece] = rest(piece) / height
            across[piece] = across[piece].double() / width
        return cls(origin, across, up)

    def __call__(self, x: float, y: float) -> Tensor:
        return self.part(slice(None), x, y)

    def part(self, piece: slice, x: float, y: float) -> Tensor:
        """A piece of the point θ(x, y)."""
        return self._origin[piece].add(self._u[piece], alpha=x).add_(self._v[piece], alpha=y)

    def project(self, theta: Vector) -> tuple[float, float, float]:
        """The coordinates of the nearest point of the plane, by least squares, and θ's distance from it."""
        parts = list(pieces(len(theta)))
        products = [
            torch.stack([self._offset(theta, piece) @ axis[piece].double() for axis in self.axes]) for piece in parts
        ]
        coordinates = torch.linalg.solve(self._squares, total(products))
        distance = total_length([self._rest(theta, coordinates, piece).norm() for piece in parts])
        x, y = coordinates.tolist()
        return x, y, float(distance)

    def _rest(self, theta: Vector, coordinates: Tensor, piece: slice) -> Tensor:
        return self._offset(theta, piece) - coordinates[0] * self._u[piece] - coordinates[1] * self._v[piece]

    def _offset(self, theta: Vector, piece: slice) -> Tensor:
        return (theta[piece] - self._origin[piece]).double()
