"""Some of the coordinates of R^P: the Hessian of a choice of parameters is the block that they share."""

from collections.abc import Callable

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]
"""Maps a vector to a symmetric matrix times it."""


class Restriction:
    """The m coordinates of P that are chosen, boolean `[P]`; m is its `dimension`."""

    def __init__(self, chosen: Tensor) -> None:
        self.chosen = chosen
        self.dimension = int(chosen.sum())
        self._all = self.dimension == len(chosen)

    def restrict(self, vector: Tensor) -> Tensor:
        """The chosen coordinates `[m]` of a vector `[P]`."""
        return vector if self._all else vector[self.chosen]

    def extend(self, vectors: Tensor) -> Tensor:
        """Vectors `[..., P]` with given chosen coordinates `[..., m]` and 0 elsewhere."""
        if self._all:
            return vectors
        extended = vectors.new_zeros(*vectors.shape[:-1], len(self.chosen))
        extended[..., self.chosen] = vectors
        return extended

    def block(self, product: Product) -> Product:
        """The map of `[m]` to `[m]` by the block of a matrix that maps `[P]` to `[P]`."""
        return lambda vector: self.restrict(product(self.extend(vector)))

    def random(self, generator: torch.Generator, like: Tensor) -> Tensor:
        """Random signs `[m]`, the same on every device."""
        signs = torch.randint(2, (self.dimension,), generator=generator) * 2 - 1
        return signs.to(like)
