"""Sums over vectors `[P]` in double precision, taken piece by piece, so that no copy of a vector is ever held.

Up to a length of one piece they are what the whole vectors would give, to the bit.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

PIECE = 2**20


def pieces(length: int) -> Iterator[slice]:
    """Consecutive slices that cover so many coordinates."""
    for start in range(0, length, PIECE):
        yield slice(start, min(start + PIECE, length))


def norm(vector: Tensor) -> Tensor:
    """The length of a vector `[P]`, a float64 scalar on its device."""
    return total_length([torch.linalg.vector_norm(vector[piece].double()) for piece in pieces(len(vector))])


def total_length(lengths: Sequence[Tensor]) -> Tensor:
    """The length of what is made of orthogonal parts of given lengths, a float64 scalar."""
    return lengths[0] if len(lengths) == 1 else torch.linalg.vector_norm(torch.stack(list(lengths)))


def dot(u: Tensor, v: Tensor) -> Tensor:
    """The inner product of two vectors `[P]`, a float64 scalar on their device."""
    products = [torch.dot(u[piece].double(), v[piece].double()) for piece in pieces(len(u))]
    return products[0] if len(products) == 1 else torch.stack(products).sum()


def is_finite(vector: Tensor) -> bool:
    """Whether a vector `[P]` holds neither NaN nor infinity."""
    return all(bool(vector[piece].isfinite().all()) for piece in pieces(len(vector)))


def gram(
    points: Tensor | Sequence[Tensor], origin: Tensor | None = None, others: Tensor | Sequence[Tensor] | None = None
) -> Tensor:
    """Inner products `[k, l]`, float64, of k points `[P]` with themselves or with l others, from an origin `[P]`."""

    def seen(vectors: Tensor | Sequence[Tensor], piece: slice) -> Tensor:
        part = torch.stack([vector[piece] for vector in vectors]).double()
        return part if origin is None else part - origin[piece].double()

    count = len(points if others is None else others)
    total = torch.zeros(len(points), count, dtype=torch.float64, device=points[0].device)
    for piece in pieces(len(points[0])):
        left = seen(points, piece)
        total += left @ (left if others is None else seen(others, piece)).T
    return total
