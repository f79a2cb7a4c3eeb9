"""Some of the coordinates of R^P: the Hessian of a choice of parameters is the block that they share."""

from collections.abc import Callable
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from landscape.space.pieces import pieces

Product = Callable[[Tensor], Tensor]
"""Maps a vector to a symmetric matrix times it."""


class Restriction:
    """The m coordinates of P that are chosen, boolean `[P]`; m is its `dimension`."""

    def __init__(self, chosen: Tensor) -> None:
        self.chosen = chosen
        parts = list(pieces(len(chosen)))
        ends = list(accumulate((int(chosen[piece].sum()) for piece in parts), initial=0))
        self.dimension = ends[-1]
        self._places = [(piece, slice(*own)) for piece, own in zip(parts, pairwise(ends), strict=True)]
        self._all = self.dimension == len(chosen)

    def restrict(self, vector: Tensor) -> Tensor:
        """The chosen coordinates `[m]` of a vector `[P]`."""
        if self._all:
            return vector
        restricted = vector.new_empty(self.dimension)
        for piece, own in self._places:
            restricted[own] = vector[piece][self.chosen[piece]]
        return restricted

    def extend(self, vectors: Tensor) -> Tensor:
        """Vectors `[..., P]` with given chosen coordinates `[..., m]` and 0 elsewhere."""
        if self._all:
            return vectors
        extended = vectors.new_zeros(*vectors.shape[:-1], len(self.chosen))
        for piece, own in self._places:
            extended[..., piece][..., self.chosen[piece]] = vectors[..., own]
        return extended

    def block(self, product: Product) -> Product:
        """The map of `[m]` to `[m]` by the block of a matrix that maps `[P]` to `[P]`."""
        return lambda vector: self.restrict(product(self.extend(vector)))

    def random(self, generator: torch.Generator, like: Tensor) -> Tensor:
        """Random signs `[m]`, the same on every device."""
        signs = like.new_empty(self.dimension)
        for piece in pieces(self.dimension):
            signs[piece] = torch.randint(2, (piece.stop - piece.start,), generator=generator) * 2 - 1
        return signs
