"""Update rules of stochastic descent, for control points that lie in one matrix, all in place.

A step has two parts, since a band moves no image before each has its gradient: every gradient is gathered into the
state, and then the points move. Where all points take their share of one gradient, as those of a curve do, its outer
product with their weights is never held, nor is that of the squares.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from landscape.training.recipes import Recipe


class Slopes(Protocol):
    """Gradients of points that move."""

    def add_to(self, total: Tensor, keep: float = 1.0, share: float = 1.0) -> None:
        """Turn a total into keep·total + share·gradients, in place."""

    def add_squares_to(self, total: Tensor, keep: float, share: float) -> None:
        """Turn a total into keep·total + share·gradients², in place; the gradients are lost."""


@dataclass(frozen=True)
class Own:
    """The gradient `[P]` of one point."""

    gradient: Tensor

    def add_to(self, total: Tensor, keep: float = 1.0, share: float = 1.0) -> None:
        total.mul_(keep).add_(self.gradient, alpha=share)

    def add_squares_to(self, total: Tensor, keep: float, share: float) -> None:
        total.mul_(keep).add_(self.gradient.square_(), alpha=share)


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

    def add_squares_to(self, total: Tensor, keep: float, share: float) -> None:
        if self.pull is None:
            total.addr_(self.weights.square(), self.gradient.square_(), beta=keep, alpha=share)
        else:
            total.mul_(keep).add_(self.pull.addr_(self.weights, self.gradient).square_(), alpha=share)


@dataclass(frozen=True)
class Stride:
    """How far a step goes.

    Attributes:
        rate: the learning rate.
        number: of the step in the whole descent, from 1.
    """

    rate: float
    number: int


class Optimiser(Protocol):
    """An update rule.

    Attributes:
        state: names of the tensors, zero at first and of the moving points' shape, that steps follow from.
        decoupled: whether weight decay moves the points beside the rule, and is not in the gradients.
    """

    @property
    def state(self) -> Sequence[str]: ...

    @property
    def decoupled(self) -> bool: ...

    def gather(self, state: Mapping[str, Tensor], slopes: Slopes) -> None:
        """Take the gradients of points into their state; they are lost unless `move` takes them."""

    def move(
        self,
        points: Tensor,
        state: Mapping[str, Tensor],
        stride: Stride,
        spare: Tensor,
        latest: Slopes | None = None,
    ) -> None:
        """Move points `[f, P]` by their state.

        Args:
            points: which move where they lie.
            state: as `gather` left it.
            stride: how far.
            spare: memory `[P]` to compute in.
            latest: the gradients as `gather` left them, where they are those of all the points.
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
    decoupled = False

    def gather(self, state: Mapping[str, Tensor], slopes: Slopes) -> None:
        slopes.add_to(state["velocity"], keep=self.momentum)

    def move(
        self,
        points: Tensor,
        state: Mapping[str, Tensor],
        stride: Stride,
        spare: Tensor,
        latest: Slopes | None = None,
    ) -> None:
        rate = stride.rate
        if self.nesterov and latest:
            latest.add_to(points, share=-rate)
            rate *= self.momentum
        points.add_(state["velocity"], alpha=-rate)


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay, as `torch.optim.AdamW` (Loshchilov and Hutter 2019, arXiv 1711.05101).

    Attributes:
        betas: shares that the running means of gradients and of their squares keep at a step, in [0, 1).
        eps: added to the root of the mean square.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    state = ("first_moment", "second_moment")
    decoupled = True

    def gather(self, state: Mapping[str, Tensor], slopes: Slopes) -> None:
        first, second = self.betas
        slopes.add_to(state["first_moment"], keep=first, share=1 - first)
        slopes.add_squares_to(state["second_moment"], keep=second, share=1 - second)

    def move(
        self,
        points: Tensor,
        state: Mapping[str, Tensor],
        stride: Stride,
        spare: Tensor,
        latest: Slopes | None = None,
    ) -> None:
        first, second = (1 - beta**stride.number for beta in self.betas)
        for point, mean, square in zip(points, state["first_moment"], state["second_moment"], strict=True):
            root = torch.sqrt(square, out=spare).div_(math.sqrt(second)).add_(self.eps)
            point.addcdiv_(mean, root, value=-stride.rate / first)


OPTIMISERS: Mapping[str, Callable[[Recipe], Optimiser]] = {
    "sgd": lambda recipe: SGD(recipe.momentum, recipe.nesterov),
    "adamw": lambda recipe: AdamW(recipe.betas),
}


def optimiser_of(recipe: Recipe) -> Optimiser:
    """The update rule that a recipe names."""
    return OPTIMISERS[recipe.optimiser](recipe)


_BLOCK = 2**16  # a norm in float32 over many millions of numbers at once is off by a percent


def clip_(gradient: Tensor, most: float) -> None:
    """Scale a gradient `[P]` down to a norm, if it is longer, as `torch.nn.utils.clip_grad_norm_` does."""
    norm = torch.stack([block.norm() for block in gradient.split(_BLOCK)]).norm()
    gradient.mul_((most / (norm + 1e-6)).clamp_max(1.0))
