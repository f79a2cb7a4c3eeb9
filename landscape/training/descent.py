"""Stochastic descent of control points: the loop that trains a minimum and, in `connect`, curves, bands and simplices.

A family says at which points a step takes gradients and how these move the control points. Of combinations, with
control points C `[k, P]` and coefficients c `[k]`, the network runs at θ = c·C, and the gradient for control point i is
c_i·g with g the ordinary gradient at θ (Garipov et al. 2018, arXiv 1802.10026, section 3.2); a minimum is the curve of
one control point. Every random choice follows from the seed and the step's number, so a run that is stopped and resumed
ends at the same bits wherever torch computes the same bits twice, as it does on a CPU.

Beside the activations of a batch, that holds 2·free + fixed + 3 vectors of P floats under SGD: the control points, a
velocity for each free one, θ, the network's own parameters, and the gradient; under AdamW, which keeps two means for
each free one, 3·free + fixed + 3. A penalty adds `free`; while a resume reads its state, the control points are there
twice.

Weight decay acts on θ, under AdamW too: a free control point moves by -rate·decay·c_i·θ. What is to stay small are the
networks on the curve. A control point is none, and its norm depends on how the curve is written: the same curve with
one control point more has others.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypedDict

import torch
from torch import Tensor

from landscape.errors import DivergedError
from landscape.risk.surface import Trainable
from landscape.runtime.interrupts import stoppable
from landscape.runtime.progress import Reporter, silent
from landscape.runtime.seeds import mixed_seed, reseed
from landscape.storage.checkpoints import fingerprint_tensors
from landscape.training.identities import described
from landscape.training.keeping import Keeping, State, Watch
from landscape.training.optimisers import Optimiser, Shared, Stride, clip_, optimiser_of
from landscape.training.recipes import Recipe

Slope = Callable[..., tuple[Tensor, Tensor]]
"""Gives the loss of the next batch and its gradient `[P]`, clipped and with coupled decay, at what `theta` holds.

It takes the numbers of one of the family's owners, whose order it keeps to. The gradient may be changed, and is valid
until the next one.
"""


@dataclass(frozen=True)
class Epoch:
    """What an epoch of a descent follows from.

    Attributes:
        tensors: the state, which steps change: the control points `points`, and what the family added.
        theta: `[P]`, where the family writes the point of the next gradient.
        recipe: how the descent is run.
        optimiser: its update rule.
        number: of epochs that are done before.
        shares: of the examples that each batch holds; one for each step.
        generator: of further random choices of this epoch.
    """

    tensors: dict[str, Tensor]
    theta: Tensor
    recipe: Recipe
    optimiser: Optimiser
    number: int
    shares: Sequence[float]
    generator: torch.Generator

    def progress(self, index: int) -> float:
        """The share in [0, 1) of all steps that are done before step `index` of the epoch."""
        return (self.number * len(self.shares) + index) / (len(self.shares) * self.recipe.epochs)

    def stride(self, index: int) -> Stride:
        """How far step `index` of the epoch goes."""
        rate = self.recipe.rate(self.progress(index), 1 / (len(self.shares) * self.recipe.epochs))
        return Stride(rate, self.number * len(self.shares) + index + 1)


class Moves(Protocol):
    """The steps of one epoch."""

    def step(self, index: int, slope: Slope) -> None:
        """Take step `index` of the epoch."""

    def finish(self) -> Tensor:
        """After the last step: the mean loss of the epoch."""


class Family(Protocol):
    """Control points that move together: where the gradients of a step are taken, and how they move the points."""

    def identity(self, points: Tensor) -> Mapping[str, Any]:
        """What a resume must share, beside recipe and seed, of a descent that starts from `points`."""

    def moving(self, points: Tensor) -> Tensor:
        """Those of the control points `[k, P]` that move, a view `[f, P]`."""

    def rest(self, surface: Trainable, points: Tensor, steps: int) -> dict[str, Tensor]:
        """What else steps follow from, beside points and optimiser, before the first of so many an epoch."""

    def owners(self, points: Tensor) -> Sequence[tuple[int, ...]]:
        """A name for each gradient of a step; each has an order of the examples and random choices of its own."""

    def begin(self, epoch: Epoch) -> Moves:
        """The steps of an epoch."""


class Span(Protocol):
    """The points θ = c·C that control points C span, and which of them may move."""

    @property
    def free(self) -> slice:
        """The control points that are trained."""

    def coefficients(self, t: Tensor) -> Tensor:
        """Coefficients `[n, k]`, float64, at the places `[n, ...]` that a sampler draws: t in [0, 1] for a curve."""


@dataclass(frozen=True)
class SinglePoint:
    """One control point, which is θ itself."""

    free = slice(0, 1)

    def coefficients(self, t: Tensor) -> Tensor:
        return torch.ones(len(t), 1, dtype=torch.float64)


class Sampler(Protocol):
    """Chooses where in a family each step of an epoch takes place, and may learn from the losses that were met."""

    def start(self) -> Tensor:
        """What it remembers before the first epoch, float64 `[m]`."""

    def draw(self, steps: int, generator: torch.Generator, memory: Tensor) -> Tensor:
        """Places `[steps, ...]`, float64, that follow from the generator and the memory alone."""

    def remember(self, memory: Tensor, places: Tensor, losses: Tensor) -> Tensor:
        """The memory `[m]` after an epoch in which `losses` `[steps]` were met at `places`."""


@dataclass(frozen=True)
class Stratified:
    """t uniform on [0, 1], one in each of as many equal strata as an epoch has steps, in random order."""

    def start(self) -> Tensor:
        return torch.empty(0, dtype=torch.float64)

    def draw(self, steps: int, generator: torch.Generator, memory: Tensor) -> Tensor:
        strata = torch.randperm(steps, generator=generator)
        return (strata + torch.rand(steps, generator=generator, dtype=torch.float64)) / steps

    def remember(self, memory: Tensor, places: Tensor, losses: Tensor) -> Tensor:
        return memory


Penalty = Callable[[Tensor], Tensor]
"""From control points `[k, P]` to a matrix Q `[k, k]`, so that Q·C is the gradient of what is added to the loss."""


@dataclass(frozen=True)
class Descent:
    """A finished descent.

    Attributes:
        points: the control points `[k, P]`.
        losses: mean training loss of each epoch `[epochs]`, as met on the way.
    """

    points: Tensor
    losses: Tensor


@dataclass(frozen=True)
class Combination:
    """A family that takes one gradient a step, at a combination θ = c·C of the control points.

    Attributes:
        span: coefficients, and which points are free.
        sampler: where in the span steps take place; by default t stratified over each epoch.
        penalty: a quadratic form of the control points that is added to the loss.
    """

    span: Span
    sampler: Sampler = Stratified()
    penalty: Penalty | None = None

    def identity(self, points: Tensor) -> Mapping[str, Any]:
        return {
            "start": fingerprint_tensors({"points": points}),
            "family": described(self.span),
            "sampler": described(self.sampler),
            "penalty": described(self.penalty),
        }

    def moving(self, points: Tensor) -> Tensor:
        return points[self.span.free]

    def rest(self, surface: Trainable, points: Tensor, steps: int) -> dict[str, Tensor]:
        return {
            "met": torch.zeros(steps, dtype=torch.float64, device=points.device),
            "memory": self.sampler.start(),
        }

    def owners(self, points: Tensor) -> Sequence[tuple[int, ...]]:
        return [()]

    def begin(self, epoch: Epoch) -> Moves:
        return _Combining(self, epoch)


class _Combining:
    """The steps of a combination."""

    def __init__(self, family: Combination, epoch: Epoch) -> None:
        self._family, self._epoch = family, epoch
        self._memory = epoch.tensors["memory"].cpu()
        self._places = family.sampler.draw(len(epoch.shares), epoch.generator, self._memory)
        self._coefficients = family.span.coefficients(self._places).to(epoch.theta)

    def step(self, index: int, slope: Slope) -> None:
        tensors, weights = self._epoch.tensors, self._coefficients[index]
        torch.mv(tensors["points"].T, weights, out=self._epoch.theta)
        loss, gradient = slope()
        self._move(weights, gradient, self._epoch.stride(index))
        tensors["met"][index] = loss

    def finish(self) -> Tensor:
        tensors, met = self._epoch.tensors, self._epoch.tensors["met"]
        tensors["memory"] = self._family.sampler.remember(self._memory, self._places, met.cpu())
        return (met * torch.tensor(self._epoch.shares, dtype=met.dtype, device=met.device)).sum()

    def _move(self, weights: Tensor, gradient: Tensor, stride: Stride) -> None:
        """One step for all free control points."""
        tensors, penalty, free = self._epoch.tensors, self._family.penalty, self._family.span.free
        points, theta, optimiser = tensors["points"], self._epoch.theta, self._epoch.optimiser
        moving, weights = points[free], weights[free]
        pull = penalty(points)[free].to(points) @ points if penalty else None
        slopes = Shared(weights, gradient, pull)
        optimiser.gather(tensors, slopes)
        if optimiser.decoupled:
            moving.addr_(weights, theta, alpha=-stride.rate * self._epoch.recipe.weight_decay)
        optimiser.move(moving, tensors, stride, theta, slopes)


class DescentOptions(TypedDict, total=False):
    """What whoever runs a descent may choose of it; see `descend`."""

    seed: int
    keeping: Keeping | None
    report: Reporter


def descend(
    surface: Trainable,
    points: Tensor,
    family: Family,
    recipe: Recipe,
    *,
    seed: int = 0,
    keeping: Keeping | None = None,
    after_epoch: Callable[[int, Tensor], None] | None = None,
    report: Reporter = silent,
    description: str = "training",
    in_place: bool = False,
) -> Descent:
    """Minimise the mean of the surface over the family.

    Args:
        surface: the height.
        points: control points `[k, P]` to start from.
        family: where gradients are taken, and how they move the points.
        recipe: how it is run; weight decay acts on θ.
        seed: of the order of examples, of t, of augmentation and of dropout.
        keeping: where the state is kept on the way.
        after_epoch: called with the number of finished epochs and the control points.
        report: a progress reporter.
        description: of the work.
        in_place: move `points` themselves, which saves a copy of them.

    Raises:
        Interrupted: a signal came; the state is on disk if there is a `keeping`.
        DivergedError: the loss became NaN or infinite.
        ProvenanceError: the kept state belongs to other settings.
        ConfigError: a state is kept, but nothing tells a part of the family from others of its kind.

    Example:
        >>> from landscape import Potential
        >>> bowl = Potential(lambda theta: (theta - 1).square().sum(), 2)
        >>> recipe = Recipe(epochs=100, lr=0.1, weight_decay=0.0)
        >>> descend(bowl, torch.zeros(1, 2).double(), Combination(SinglePoint()), recipe).points.round(decimals=3)
        tensor([[1., 1.]], dtype=torch.float64)
    """
    if keeping:
        keeping = keeping.bound(recipe=recipe.stated(), seed=seed, **family.identity(points))
    state = keeping.load(surface) if keeping else None
    if state is None:
        moving = points.detach() if in_place else points.detach().clone()
        state = begin_state(surface, moving, family, recipe)
    elif in_place:
        state.tensors["points"] = points.copy_(state.tensors["points"])
    take_steps(
        surface,
        state,
        family,
        recipe,
        seed=seed,
        keeping=keeping,
        after_epoch=after_epoch,
        report=report,
        description=description,
    )
    return Descent(state.tensors["points"], state.tensors["losses"].cpu())


def begin_state(
    surface: Trainable, points: Tensor, family: Family, recipe: Recipe, facts: dict[str, Any] | None = None
) -> State:
    """A descent before its first step; `points` `[k, P]` are those that it moves, and facts are kept with them."""
    steps = len(surface.runs(recipe.batch_size))
    losses = torch.zeros(recipe.epochs, dtype=torch.float64, device=points.device)
    moving = family.moving(points)
    own = {name: torch.zeros_like(moving) for name in optimiser_of(recipe).state}
    tensors = {"points": points, "losses": losses, **own, **family.rest(surface, points, steps)}
    return State(tensors, facts=facts or {})


def take_steps(
    surface: Trainable,
    state: State,
    family: Family,
    recipe: Recipe,
    *,
    seed: int = 0,
    keeping: Keeping | None = None,
    after_epoch: Callable[[int, Tensor], None] | None = None,
    report: Reporter = silent,
    description: str = "training",
) -> None:
    """Take the steps of a descent that are not done yet; all but `state`, which is changed, is as in `descend`."""
    runs = surface.runs(recipe.batch_size)
    steps, total = len(runs), len(runs) * recipe.epochs
    with stoppable() as stop, _isolated(surface.device), report(description, total, state.step) as progress:
        watch = Watch(keeping, stop, surface, total)
        for epoch in range(state.step // steps, recipe.epochs):
            for _ in _epoch(surface, state, family, recipe, seed, epoch, runs):
                progress.advance()
                if state.step % steps == 0:
                    progress.advance(0, f"loss {_finite_loss(state, epoch):.4f}")
                    if after_epoch:
                        after_epoch(epoch + 1, state.tensors["points"])
                watch.look(state)
        watch.save(state)


def _epoch(
    surface: Trainable, state: State, family: Family, recipe: Recipe, seed: int, epoch: int, runs: Sequence[slice]
) -> Iterator[None]:
    """Take the steps of an epoch that are not done yet, one at each iteration, and count them in the state."""
    tensors, first = state.tensors, state.step % len(runs)
    owners = family.owners(tensors["points"])
    optimiser = optimiser_of(recipe)
    generators = [torch.Generator().manual_seed(mixed_seed(seed, epoch, *owner)) for owner in owners]
    orders = [surface.order(generator) for generator in generators]
    indices = [run if order is None else order[run] for run in runs[first:] for order in orders]
    shares = [(run.stop - run.start) / runs[-1].stop for run in runs]
    theta = torch.empty_like(tensors["points"][0])
    moves = family.begin(Epoch(tensors, theta, recipe, optimiser, epoch, shares, generators[0]))
    batches = surface.batch_gradient(theta, indices, augment=recipe.augment, accumulate=recipe.accumulate)

    def slope(index: int, *owner: int) -> tuple[Tensor, Tensor]:
        reseed(surface.device, seed, epoch, index, *owner)
        loss, gradient = next(batches)
        if recipe.clip:
            clip_(gradient, recipe.clip)
        return loss, gradient if optimiser.decoupled else gradient.add_(theta, alpha=recipe.weight_decay)

    try:
        for index in range(first, len(runs)):
            moves.step(index, partial(slope, index))
            state.step += 1
            if state.step % len(runs) == 0:
                batches.close()  # the network is in evaluation mode again for whoever looks between epochs
                tensors["losses"][epoch] = moves.finish()
            yield
    finally:
        batches.close()


def _finite_loss(state: State, epoch: int) -> float:
    """The mean loss of a finished epoch."""
    loss = float(state.tensors["losses"][epoch])
    if not math.isfinite(loss):
        raise DivergedError(
            f"the training loss became {loss} in epoch {epoch + 1}; try a lower --lr, "
            "and see that the data hold no NaN."
        )
    return loss


@contextmanager
def _isolated(device: torch.device) -> Iterator[None]:
    """Leave the global generators as they were, whatever dropout draws."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield
