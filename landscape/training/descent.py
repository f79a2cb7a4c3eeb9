"""Stochastic descent of control points: the loop that trains a minimum and, in `connect`, curves and simplices.

With control points C `[k, P]` and coefficients c `[k]`, the network runs at θ = c·C, and the gradient for control point
i is c_i·g with g the ordinary gradient at θ (Garipov et al. 2018, arXiv 1802.10026, section 3.2). A minimum is the
curve of one control point, so all are trained by the same code. Every random choice follows from the seed and the
step's number, so a run that is stopped and resumed ends at the same bits wherever torch computes the same bits twice,
as it does on a CPU.

Beside the activations of a batch, a descent holds 2·free + fixed + 3 vectors of P floats: the control points, a
velocity for each free one, θ, the network's own parameters, and the gradient. A penalty adds `free`; while a resume
reads its state, the control points are there twice.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Protocol

import torch
from torch import Tensor

from landscape.errors import DivergedError
from landscape.problems.splits import Index, chunks
from landscape.risk.objective import Objective
from landscape.runtime.interrupts import stoppable
from landscape.runtime.progress import Reporter, silent
from landscape.runtime.seeds import mixed_seed, reseed
from landscape.storage.checkpoints import fingerprint_tensors
from landscape.training.identities import described
from landscape.training.keeping import Keeping, State, Watch
from landscape.training.recipes import Recipe


class Family(Protocol):
    """The points θ = c·C that control points C span, and which of them may move."""

    @property
    def free(self) -> slice:
        """The control points that are trained."""
        ...

    def coefficients(self, t: Tensor) -> Tensor:
        """Coefficients `[n, k]`, float64, at the places `[n, ...]` that a sampler draws: t in [0, 1] for a curve."""
        ...


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
        ...

    def draw(self, steps: int, generator: torch.Generator, memory: Tensor) -> Tensor:
        """Places `[steps, ...]`, float64, that follow from the generator and the memory alone."""
        ...

    def remember(self, memory: Tensor, places: Tensor, losses: Tensor) -> Tensor:
        """The memory `[m]` after an epoch in which `losses` `[steps]` were met at `places`."""
        ...


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


def descend(
    objective: Objective,
    points: Tensor,
    family: Family,
    recipe: Recipe,
    *,
    sampler: Sampler | None = None,
    penalty: Penalty | None = None,
    seed: int = 0,
    keeping: Keeping | None = None,
    after_epoch: Callable[[int, Tensor], None] | None = None,
    report: Reporter = silent,
    in_place: bool = False,
) -> Descent:
    """Minimise the mean of the objective over the family.

    Args:
        objective: the height.
        points: control points `[k, P]` to start from.
        family: coefficients, and which points are free.
        recipe: SGD's settings; weight decay acts on θ.
        sampler: where in the family; by default t stratified over each epoch.
        penalty: a quadratic form of the control points that is added to the loss.
        seed: of the order of examples, of t, of augmentation and of dropout.
        keeping: where the state is kept on the way.
        after_epoch: called with the number of finished epochs and the control points.
        report: told of every step.
        in_place: move `points` themselves, which saves a copy of them.

    Raises:
        Interrupted: a signal came; the state is on disk if there is a `keeping`.
        DivergedError: the loss became NaN or infinite.
        ProvenanceError: the kept state belongs to other settings.
        ConfigError: a state is kept, but nothing tells the sampler or the penalty from others of its kind.
    """
    steps = len(chunks(objective.examples, recipe.batch_size))
    sampler = sampler or Stratified()
    if keeping:
        keeping = keeping.bound(
            recipe=asdict(recipe),
            seed=seed,
            start=fingerprint_tensors({"points": points}),
            family=described(family),
            sampler=described(sampler),
            penalty=described(penalty),
        )
    state = keeping.load(objective) if keeping else None
    if state is not None and in_place:
        state.tensors["points"] = points.copy_(state.tensors["points"])
    if state is None:
        moving = points.detach() if in_place else points.detach().clone()
        state = State({
            "points": moving,
            "velocity": torch.zeros_like(moving[family.free]),
            "losses": torch.zeros(recipe.epochs, dtype=torch.float64, device=points.device),
            "met": torch.zeros(steps, dtype=torch.float64, device=points.device),
            "memory": sampler.start(),
        })  # fmt: skip
    step = _Step(objective, family, recipe, sampler, penalty, state, seed)
    run_epochs(
        objective,
        state,
        step.epoch,
        epochs=recipe.epochs,
        steps=steps,
        keeping=keeping,
        after_epoch=after_epoch and (lambda epoch: after_epoch(epoch, state.tensors["points"])),
        report=report,
    )
    return Descent(state.tensors["points"], state.tensors["losses"].cpu())


def run_epochs(
    objective: Objective,
    state: State,
    one_epoch: Callable[[int], Iterator[None]],
    *,
    epochs: int,
    steps: int,
    keeping: Keeping | None = None,
    after_epoch: Callable[[int], None] | None = None,
    report: Reporter = silent,
    description: str = "training",
) -> None:
    """Take the steps that are not done yet, keep the state on the way, and stop where a signal asks for it.

    Args:
        objective: the height; its processes stop together.
        state: where the fit stands; its tensor `losses` `[epochs]` holds the mean loss of each finished epoch.
        one_epoch: takes the rest of an epoch's steps, one at each iteration, and counts them in `state.step`.
        epochs: of the whole run.
        steps: in an epoch.
        keeping: where the state is kept.
        after_epoch: called with the number of finished epochs.
        report: told of every step.
        description: of the work.

    Raises:
        Interrupted: a signal came; the state is on disk if there is a `keeping`.
        DivergedError: the loss became NaN or infinite.
    """
    total = steps * epochs
    with stoppable() as stop, _isolated(objective.device), report(description, total, state.step) as progress:
        watch = Watch(keeping, stop, objective, total)
        for epoch in range(state.step // steps, epochs):
            for _ in one_epoch(epoch):
                progress.advance()
                if state.step % steps == 0:
                    loss = float(state.tensors["losses"][epoch])
                    if not math.isfinite(loss):
                        raise DivergedError(
                            f"the training loss became {loss} in epoch {epoch + 1}; try a lower --lr, "
                            "and see that the data hold no NaN."
                        )
                    progress.advance(0, f"loss {loss:.4f}")
                    if after_epoch:
                        after_epoch(epoch + 1)
                watch.look(state)
        watch.save(state)


def shuffled(objective: Objective, batch_size: int, generator: torch.Generator) -> tuple[list[Index], list[float]]:
    """The batches of an epoch in a random order of the examples, and the share of the examples that each has."""
    order = torch.randperm(objective.examples, generator=generator).to(objective.device)
    runs = chunks(objective.examples, batch_size)
    return [order[run] for run in runs], [(run.stop - run.start) / objective.examples for run in runs]


class _Step:
    """The steps of a descent."""

    def __init__(
        self,
        objective: Objective,
        family: Family,
        recipe: Recipe,
        sampler: Sampler,
        penalty: Penalty | None,
        state: State,
        seed: int,
    ) -> None:
        self._objective, self._family, self._recipe = objective, family, recipe
        self._sampler, self._penalty, self._state, self._seed = sampler, penalty, state, seed

    def epoch(self, epoch: int) -> Iterator[None]:
        """Take the steps of the epoch that are not done yet."""
        state, recipe, tensors = self._state, self._recipe, self._state.tensors
        steps = len(tensors["met"])
        generator = torch.Generator().manual_seed(mixed_seed(self._seed, epoch))
        indices, shares = shuffled(self._objective, recipe.batch_size, generator)
        memory = tensors["memory"].cpu()
        places = self._sampler.draw(steps, generator, memory)
        coefficients = self._family.coefficients(places).to(tensors["points"])
        theta = torch.empty_like(tensors["points"][0])
        first = state.step % steps
        batches = self._objective.batch_gradient(
            theta, indices[first:], augment=recipe.augment, accumulate=recipe.accumulate
        )
        try:
            for index in range(first, steps):
                torch.mv(tensors["points"].T, coefficients[index], out=theta)
                reseed(self._objective.device, self._seed, epoch, index)
                loss, gradient = next(batches)
                gradient.add_(theta, alpha=recipe.weight_decay)
                self._move(coefficients[index], gradient, recipe.rate(state.step / (steps * recipe.epochs)))
                tensors["met"][index] = loss
                state.step += 1
                if state.step % steps == 0:
                    batches.close()  # the network is in evaluation mode again for whoever looks between epochs
                    met = tensors["met"]
                    tensors["losses"][epoch] = (met * torch.tensor(shares, dtype=met.dtype, device=met.device)).sum()
                    tensors["memory"] = self._sampler.remember(memory, places, met.cpu())
                yield
        finally:
            batches.close()

    def _move(self, weights: Tensor, gradient: Tensor, rate: float) -> None:
        """One step for all free control points; the outer product of weights and gradient is never held."""
        points, velocity, free = self._state.tensors["points"], self._state.tensors["velocity"], self._family.free
        moving, weights = points[free], weights[free]
        pull = self._penalty(points)[free].to(points) @ points if self._penalty else None
        velocity.addr_(weights, gradient, beta=self._recipe.momentum)
        if pull is not None:
            velocity.add_(pull)
        if self._recipe.nesterov:
            moving.addr_(weights, gradient, alpha=-rate)
            if pull is not None:
                moving.sub_(pull, alpha=rate)
            moving.add_(velocity, alpha=-rate * self._recipe.momentum)
        else:
            moving.add_(velocity, alpha=-rate)


@contextmanager
def _isolated(device: torch.device) -> Iterator[None]:
    """Leave the global generators as they were, whatever dropout draws."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield
