"""Update rules of stochastic descent, for control points that lie in one matrix, all in place.

A step has two parts, since a band moves no image before each has its gradient: every gradient is gathered into the
state, and then the points move. Where all points take their share of one gradient, as those of a curve do, its outer
product with their weights is never held.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from landscape.training.recipes import Recipe


class Slopes(Protocol):
    """Gradients of points that move."""

    def add_to(self, total: Tensor, keep: float = 1.0, share: float = 1.0) -> None:
        """Turn a total into keep·total + share·gradients, in place."""


@dataclass(frozen=True)
class Own:
    """The gradient `[P]` of one point."""

    gradient: Tensor

    def add_to(self, total: Tensor, keep: float = 1.0, share: float = 1.0) -> None:
        total.mul_(keep).add_(self.gradient, alpha=share)


@dataclass(frozen=True)
class Shared:
    """The gradients weights ⊗ gradient + pull of f points.

    Attributes:
        weights: `[f]`.
        gradient: `[P]`.
        pull: `[f, P]`; None for none.
    """

    weights: Tensor
    gradient: Tensor
    pull: Tensor | None = None

    def add_to(self, total: Tensor, keep: float = 1.0, share: float = 1.0) -> None:
        total.addr_(self.weights, self.gradient, beta=keep, alpha=share)
        if self.pull is not None:
            total.add_(self.pull, alpha=share)


class Optimiser(Protocol):
    """An update rule.

    Attributes:
        state: names of the tensors, zero at first and of the moving points' shape, that steps follow from.
    """

    @property
    def state(self) -> Sequence[str]: ...

    def gather(self, state: Mapping[str, Tensor], slopes: Slopes) -> None:
        """Take the gradients of points into their state."""

    def move(self, points: Tensor, state: Mapping[str, Tensor], rate: float, latest: Slopes | None = None) -> None:
        """Move points `[f, P]` by their state at a learning rate.

        Args:
            points: which move where they lie.
            state: as `gather` left it.
            rate: the learning rate.
            latest: the gradients that were gathered last, where they are still at hand.
        """


@dataclass(frozen=True)
class SGD:
    """Gradient descent with momentum, as `torch.optim.SGD` (Sutskever et al. 2013, ICML).

    Attributes:
        momentum: in [0, 1).
        nesterov: look ahead where the latest gradients are at hand; elsewhere it is the heavy ball.
    """

    momentum: float = 0.9
    nesterov: bool = True
    state = ("velocity",)

    def gather(self, state: Mapping[str, Tensor], slopes: Slopes) -> None:
        slopes.add_to(state["velocity"], keep=self.momentum)

    def move(self, points: Tensor, state: Mapping[str, Tensor], rate: float, latest: Slopes | None = None) -> None:
        if self.nesterov and latest:
            latest.add_to(points, share=-rate)
            rate *= self.momentum
        points.add_(state["velocity"], alpha=-rate)


def optimiser_of(recipe: Recipe) -> Optimiser:
    """The update rule that a recipe names."""
    return SGD(recipe.momentum, recipe.nesterov)
