"""Stochastic descent of control points: the loop that trains a minimum and, in `connect`, a curve.

With control points C `[k, P]` and coefficients c `[k]`, the network runs at θ = c·C, and the gradient for control point
i is c_i·g with g the ordinary gradient at θ (Garipov et al. 2018, arXiv 1802.10026, section 3.2). A minimum is the
curve of one control point, so both are trained by the same code. Every
random choice follows from the seed and the step's number, so a run that is stopped and resumed ends at the same bits
wherever torch computes the same bits twice, as it does on a CPU.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

import torch
from torch import Tensor

from landscape.checkpoints import load_checkpoint, save_tensors
from landscape.errors import CheckpointError, Interrupted, LandscapeError
from landscape.interrupts import stoppable
from landscape.objective import Objective
from landscape.problems.splits import chunks
from landscape.progress import Reporter, silent
from landscape.recipes import Recipe
from landscape.seeds import mixed_seed
from landscape.store import require_same_provenance

_BUFFER = "buffer."


class Family(Protocol):
    """The points θ = c(t)·C that control points C span, and which of them may move."""

    @property
    def free(self) -> slice:
        """The control points that are trained."""
        ...

    def coefficients(self, t: Tensor) -> Tensor:
        """Coefficients `[n, k]` at t `[n]` in [0, 1], float64."""
        ...


class SinglePoint:
    """One control point, which is θ itself."""

    free = slice(0, 1)

    def coefficients(self, t: Tensor) -> Tensor:
        return torch.ones(len(t), 1, dtype=torch.float64)


@dataclass(frozen=True)
class Keeping:
    """Where a descent keeps its state, so that it can be resumed.

    The last state stays on disk until `discard` is called, which is safe once the outcome is stored elsewhere.

    Attributes:
        path: a safetensors file.
        provenance: what a resume must share, beside the recipe, the seed and the shape of the points.
        resume: go on from the file, if it is there.
        seconds: time between two writes.
    """

    path: Path
    provenance: Mapping[str, Any] = field(default_factory=dict)
    resume: bool = False
    seconds: float = 60.0

    def discard(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Descent:
    """A finished descent.

    Attributes:
        points: the control points `[k, P]`.
        losses: mean training loss of each epoch `[epochs]`, as met on the way.
    """

    points: Tensor
    losses: Tensor


@dataclass
class _State:
    points: Tensor
    velocity: Tensor
    losses: Tensor
    step: int = 0


def descend(
    objective: Objective,
    points: Tensor,
    family: Family,
    recipe: Recipe,
    *,
    seed: int = 0,
    keeping: Keeping | None = None,
    after_epoch: Callable[[int, Tensor], None] | None = None,
    report: Reporter = silent,
) -> Descent:
    """Minimise the mean of the objective over the family, t drawn stratified over each epoch.

    Args:
        objective: the height.
        points: control points `[k, P]` to start from; left as they are.
        family: coefficients, and which points are free.
        recipe: SGD's settings; weight decay acts on θ.
        seed: of the order of examples, of t, and of dropout.
        keeping: where the state is kept on the way.
        after_epoch: called with the number of finished epochs and the control points.
        report: told of every step.

    Raises:
        Interrupted: a signal came; the state is on disk if there is a `keeping`.
        LandscapeError: the loss became NaN or infinite.
        ProvenanceError: the kept state belongs to other settings.
    """
    steps = len(chunks(objective.examples, recipe.batch_size))
    if keeping:
        own = {"recipe": asdict(recipe), "seed": seed, "points": list(points.shape)}
        keeping = replace(keeping, provenance={**keeping.provenance, **own})
    state = _begin(objective, points, family, recipe, keeping)
    total = steps * recipe.epochs
    with stoppable() as stop, _isolated(objective.device), report("training", total, state.step) as progress:
        saved = monotonic()
        for epoch in range(state.step // steps, recipe.epochs):
            for _ in _epoch(objective, family, recipe, state, seed, steps):
                progress.advance()
                if state.step % steps == 0:
                    loss = float(state.losses[epoch])
                    if not math.isfinite(loss):
                        raise LandscapeError(f"the training loss became {loss} in epoch {epoch + 1}; try a lower --lr.")
                    progress.advance(0, f"loss {loss:.4f}")
                    if after_epoch:
                        after_epoch(epoch + 1, state.points)
                if keeping and (stop.requested or monotonic() - saved > keeping.seconds):
                    _save(keeping, state, objective)
                    saved = monotonic()
                if stop.requested:
                    kept = f"; the state is in {keeping.path}, go on with --resume" if keeping else ""
                    raise Interrupted(f"stopped after {state.step} of {total} steps{kept}.")
    if keeping:
        _save(keeping, state, objective)
    return Descent(state.points, state.losses.cpu())


def _epoch(
    objective: Objective, family: Family, recipe: Recipe, state: _State, seed: int, steps: int
) -> Iterator[None]:
    """Take the steps of the epoch that are not done yet."""
    epoch, first = divmod(state.step, steps)
    generator = torch.Generator().manual_seed(mixed_seed(seed, epoch))
    order = torch.randperm(objective.examples, generator=generator).to(objective.device)
    strata = torch.randperm(steps, generator=generator)
    t = (strata + torch.rand(steps, generator=generator, dtype=torch.float64)) / steps
    coefficients = family.coefficients(t).to(state.points)
    indices = [order[run] for run in chunks(objective.examples, recipe.batch_size)]
    theta = torch.empty_like(state.points[0])
    batches = objective.batch_gradient(theta, indices[first:])
    try:
        for index in range(first, steps):
            weights = coefficients[index]
            torch.mv(state.points.T, weights, out=theta)
            _reseed(objective.device, mixed_seed(seed, epoch, index))
            loss, gradient = next(batches)
            gradient.add_(theta, alpha=recipe.weight_decay)
            _sgd(
                state,
                family.free,
                weights[family.free],
                gradient,
                recipe,
                recipe.rate(state.step / (steps * recipe.epochs)),
            )
            state.losses[epoch] += loss * (len(indices[index]) / objective.examples)
            state.step += 1
            yield
    finally:
        batches.close()


def _sgd(state: _State, free: slice, weights: Tensor, gradient: Tensor, recipe: Recipe, rate: float) -> None:
    """One step for all free control points; the outer product of weights and gradient is never held."""
    moving = state.points[free]
    state.velocity.addr_(weights, gradient, beta=recipe.momentum)
    if recipe.nesterov:
        moving.addr_(weights, gradient, alpha=-rate)
        moving.add_(state.velocity, alpha=-rate * recipe.momentum)
    else:
        moving.add_(state.velocity, alpha=-rate)


def _begin(objective: Objective, points: Tensor, family: Family, recipe: Recipe, keeping: Keeping | None) -> _State:
    if keeping and keeping.resume and keeping.path.exists():
        return _load(keeping, objective)
    points = points.detach().clone()
    losses = torch.zeros(recipe.epochs, dtype=torch.float64, device=points.device)
    return _State(points, torch.zeros_like(points[family.free]), losses)


def _save(keeping: Keeping, state: _State, objective: Objective) -> None:
    tensors = {"points": state.points, "velocity": state.velocity, "losses": state.losses}
    tensors |= {_BUFFER + name: buffer for name, buffer in objective.buffers().items()}
    save_tensors(keeping.path, tensors, {"step": state.step, "provenance": dict(keeping.provenance)})


def _load(keeping: Keeping, objective: Objective) -> _State:
    kept = load_checkpoint(keeping.path)
    if "step" not in kept.metadata:
        raise CheckpointError(f"{keeping.path} holds no state of a descent; remove it and start again.")
    require_same_provenance(keeping.path, kept.metadata["provenance"], keeping.provenance)
    tensors = {name: tensor.to(objective.device) for name, tensor in kept.state.items()}
    objective.load_buffers({n.removeprefix(_BUFFER): t for n, t in tensors.items() if n.startswith(_BUFFER)})
    return _State(tensors["points"], tensors["velocity"], tensors["losses"], kept.metadata["step"])


@contextmanager
def _isolated(device: torch.device) -> Iterator[None]:
    """Leave the global generators as they were, whatever dropout draws."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield


def _reseed(device: torch.device, seed: int) -> None:
    """Seed the generators that dropout draws from, and no others."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
