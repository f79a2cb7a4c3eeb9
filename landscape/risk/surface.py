"""A height over R^P: what every algorithm of this project sees.

`Potential` is an analytic surface and `EmpiricalRisk` the loss of a network on data; whatever walks on the one can be
proven right on the other. A surface is asked for nothing but a point: `with surface.at(theta) as here:`.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from landscape.problems.splits import Index
from landscape.risk.ranks import Ranks


@dataclass(frozen=True)
class Measurement:
    """What one split says of one point.

    Attributes:
        loss: mean over the examples, each weighing the same.
        accuracy: mean of how right each example is, in [0, 1]; NaN where the loss does not say.
        losses: each example's loss `[N]`, float64; None where the height is exact, not a mean over examples.
        right: how right each example is `[N]`, float64; None where the loss does not say.
        nll: mean negative log-likelihood of a label, as of a token where an example has several, each weighing the
            same; NaN where it was not asked for, or the network does not classify.
        calibration_error: expected calibration error in [0, 1]; NaN likewise.
    """

    loss: float
    accuracy: float = float("nan")
    losses: Tensor | None = None
    right: Tensor | None = None
    nll: float = float("nan")
    calibration_error: float = float("nan")


class Point(Protocol):
    """A surface at one θ, exact over all examples; it is valid as long as the `with` of `Surface.at` lasts.

    Everything raises PlaceError after that, the products too.
    """

    def value(self) -> Tensor:
        """The height, a float64 scalar on the device; of the first split, where there are several."""

    def measure(self) -> Mapping[str, Measurement]:
        """Loss, accuracy and per-example losses of each split."""

    def gradient(self) -> Tensor:
        """The gradient of `value`, a new `[P]`."""

    def hessian(self, chosen: Tensor | None = None) -> Callable[[Tensor], Tensor]:
        """The Hessian of `value` as a function that maps a vector `[P]` to the product, a new `[P]`.

        It is about the chosen parameters, boolean `[P]`; elsewhere the product is of no interest.
        """


class Surface(Protocol):
    """A height over R^P that is differentiable twice; θ `[P]` lies on its `device` and is of its `dtype`."""

    dimension: int
    device: torch.device
    dtype: torch.dtype

    def at(self, theta: Tensor) -> AbstractContextManager[Point]:
        """The point θ `[P]`, which a later change of θ does not move.

        Raises:
            LayoutError: θ has another shape.
            PlaceError: another point is open, here or on a surface over the same network.
        """


class Trainable(Surface, Protocol):
    """A surface for stochastic descent over examples; the processes of `ranks` share each batch."""

    ranks: Ranks

    def runs(self, batch_size: int) -> Sequence[slice]:
        """The batches of an epoch, as positions in the order in which it takes the examples.

        They have at most `batch_size` examples each, unless the data come in batches of their own.
        """

    def order(self, generator: torch.Generator) -> Tensor | None:
        """A random order of the examples, `[examples]`; None where they come in one of their own."""

    def batch_gradient(
        self, theta: Tensor, indices: Sequence[Index], *, augment: str = "", accumulate: int = 1
    ) -> Generator[tuple[Tensor, Tensor], None, None]:
        """For each batch of training examples, in training mode: the mean loss, and its gradient at what θ holds then.

        Between two batches the caller may change θ `[P]` in place. The gradient `[P]` may be changed too, and is valid
        until the next batch. No point can be opened until the generator is exhausted or closed.

        Args:
            theta: the point.
            indices: the examples of each batch; the processes of `ranks` share them.
            augment: random changes of images, such as `crop,flip`.
            accumulate: parts that a batch is run in.
        """

    def buffers(self) -> Mapping[str, Tensor]:
        """What a descent changes beside θ, such as running statistics; copies on the CPU."""

    def load_buffers(self, buffers: Mapping[str, Tensor]) -> None:
        """Put back what `buffers` gave."""
