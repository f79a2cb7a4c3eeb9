"""An analytic surface, on which every algorithm is proven right."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from landscape.errors import LayoutError
from landscape.problems.splits import Index, chunks
from landscape.risk.ranks import Ranks
from landscape.risk.surface import Measurement
from landscape.space.placement import Occupancy


class Potential:
    """A function of θ as a surface, which stochastic descent takes for that of one example.

    Args:
        function: maps θ `[P]` to a scalar, by differentiable torch operations.
        dimension: P.
        dtype: of θ.

    Example:
        >>> bowl = Potential(lambda theta: theta.square().sum(), 2)
        >>> with bowl.at(torch.tensor([1.0, 2.0], dtype=torch.float64)) as here:
        ...     hessian_times = here.hessian()
        ...     print(here.value().item(), here.gradient().tolist(), hessian_times(torch.ones(2).double()).tolist())
        5.0 [2.0, 4.0] [2.0, 2.0]
    """

    device = torch.device("cpu")
    examples = 1
    ranks = Ranks()

    def __init__(
        self, function: Callable[[Tensor], Tensor], dimension: int, dtype: torch.dtype = torch.float64
    ) -> None:
        self.dimension, self.dtype = dimension, dtype
        self._function, self._occupancy = function, Occupancy()

    @contextmanager
    def at(self, theta: Tensor) -> Iterator["PotentialPoint"]:
        if theta.shape != (self.dimension,):
            raise LayoutError(f"θ has the shape {tuple(theta.shape)}, expected ({self.dimension},).")
        with self._occupancy.taken() as require_open:
            yield PotentialPoint(self._function, theta.detach().clone(), require_open)

    def runs(self, batch_size: int) -> Sequence[slice]:
        return chunks(self.examples, batch_size)

    def order(self, generator: torch.Generator) -> Tensor:
        return torch.randperm(self.examples, generator=generator)

    def batch_gradient(
        self, theta: Tensor, indices: Sequence[Index], *, augment: str = "", accumulate: int = 1
    ) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Value and gradient, again for each batch."""
        for _ in indices:
            with self.at(theta) as here:
                yield here.value(), here.gradient()

    def buffers(self) -> Mapping[str, Tensor]:
        return {}

    def load_buffers(self, buffers: Mapping[str, Tensor]) -> None:
        """There are none."""


@dataclass(frozen=True)
class PotentialPoint:
    """A potential at one θ; see `Point`."""

    function: Callable[[Tensor], Tensor]
    theta: Tensor
    require_open: Callable[[], None]

    def value(self) -> Tensor:
        self.require_open()
        with torch.no_grad():
            return self.function(self.theta).double()

    def measure(self) -> Mapping[str, Measurement]:
        return {"potential": Measurement(float(self.value()))}

    def gradient(self) -> Tensor:
        self.require_open()
        theta = self.theta.detach().requires_grad_()
        return torch.autograd.grad(self.function(theta), theta)[0].clone()  # it may be one number, expanded

    def hessian(self, chosen: Tensor | None = None) -> Callable[[Tensor], Tensor]:
        def product(vector: Tensor) -> Tensor:
            self.require_open()
            result: Tensor = torch.autograd.functional.hvp(self.function, self.theta, vector)[1]
            return result

        self.require_open()
        return product
