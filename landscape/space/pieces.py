"""Sums over vectors `[P]` in double precision, taken piece by piece, so that no copy of a vector is ever held.

Up to a length of one piece they are what the whole vectors would give, to the bit.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

PIECE = 2**20


class Vector(Protocol):
    """A vector `[P]` of which pieces can be had: a tensor, or what reads or computes them when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, piece: slice, /) -> Tensor:
        """The coordinates of a piece; of `slice(None)` all."""


@dataclass(frozen=True)
class Offset:
    """What leads from an origin `[P]` to a point `[P]`, a `Vector`."""

    point: Vector
    origin: Vector

    def __len__(self) -> int:
        return len(self.point)

    def __getitem__(self, piece: slice, /) -> Tensor:
        return self.point[piece] - self.origin[piece]


Points = Sequence[Vector] | Tensor
"""Several vectors `[P]`, or the rows of a tensor `[k, P]`."""


def pieces(length: int, size: int | None = None) -> Iterator[slice]:
    """Consecutive slices, of a size at most, that cover so many coordinates."""
    size = size or PIECE
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def norm(vector: Vector) -> Tensor:
    """The length of a vector `[P]`, a float64 scalar on its device."""
    return total_length([torch.linalg.vector_norm(vector[piece].double()) for piece in pieces(len(vector))])


def total(parts: Iterable[Tensor]) -> Tensor:
    """The sum of one tensor or more."""
    first, *others = parts
    return sum(others, first)


def total_length(lengths: Sequence[Tensor]) -> Tensor:
    """The length of what is made of orthogonal parts of given lengths, a float64 scalar."""
    return lengths[0] if len(lengths) == 1 else torch.linalg.vector_norm(torch.stack(list(lengths)))


def dot(u: Vector, v: Vector) -> Tensor:
    """The inner product of two vectors `[P]`, a float64 scalar on their device."""
    return total(torch.dot(u[piece].double(), v[piece].double()) for piece in pieces(len(u)))


def equal(u: Vector, v: Vector) -> bool:
    """Whether two vectors of one length hold the same."""
    return all(torch.equal(u[piece], v[piece]) for piece in pieces(len(u)))


def is_finite(vector: Vector) -> bool:
    """Whether a vector `[P]` holds neither NaN nor infinity."""
    return all(bool(vector[piece].isfinite().all()) for piece in pieces(len(vector)))


def stacked(vectors: Points, piece: slice) -> Tensor:
    """A piece of several vectors `[k, n]`, a new tensor."""
    return torch.stack([vector[piece] for vector in vectors])


def gram(points: Points, origin: Vector | None = None, others: Points | None = None) -> Tensor:
    """Inner products `[k, l]`, float64, of k points `[P]` with themselves or with l others, from an origin `[P]`."""

    def seen(vectors: Points, piece: slice) -> Tensor:
        part = stacked(vectors, piece).double()
        return part if origin is None else part - origin[piece].double()

    def products(piece: slice) -> Tensor:
        left = seen(points, piece)
        return left @ (left if others is None else seen(others, piece)).T

    return total(products(piece) for piece in pieces(len(points[0])))
