"""The permutations of hidden units that leave a network's outputs as they are, found for any module and proven by runs.

What a trace of one forward pass gives are candidates. Each is tried: units are permuted at random in a copy of the
network whose weights, gains and statistics have been disturbed, so that equal values hide nothing, on the example and
on random inputs. Whatever moves the outputs is pinned.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from connect.symmetry.groups import Group, Permutation, groups_of, random_permutation
from connect.symmetry.permuting import permute
from connect.symmetry.tracing import Axes, trace
from landscape.errors import ProblemError
from landscape.problems.copying import copied
from landscape.problems.outputs import outputs_of
from landscape.space.buffers import keeps_statistics
from landscape.space.segments import distinct_parameters

TOLERANCE = 1e-4  # of outputs, relative to the largest, in float32
_DISTURBED = 0.1  # by which share of a tensor's size its values are changed before a proof
_LEAST = 0.02  # size of tensors that hold zeros
_STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True)
class Pinned:
    """Units that keep their places though they were to move.

    Attributes:
        name: the axis that they begin at.
        reason: why.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Symmetries:
    """How the hidden units of a network may be numbered otherwise.

    Attributes:
        tensors: the axes of its parameters and running statistics, by names of `state_dict`.
        groups: each proven.
        pinned: what was found but does not hold, or is not understood.
        unknown: operations without a rule and how often they were met; they pin what they are given.
        deviation: the largest change of an output under a random permutation of all groups, relative to the largest
            output.
    """

    tensors: tuple[Axes, ...]
    groups: tuple[Group, ...]
    pinned: tuple[Pinned, ...]
    unknown: Mapping[str, int]
    deviation: float

    def random(self, seed: int) -> list[Permutation]:
        """A random permutation of each group."""
        generator = np.random.default_rng(seed)
        return [random_permutation(group, generator) for group in self.groups]

    def permute(self, state: Mapping[str, Tensor], permutations: Sequence[Permutation]) -> dict[str, Tensor]:
        """A state dictionary with the units in other places; what does not move is the same objects.

        Args:
            state: tensors by name, all that belong together.
            permutations: one for each of the groups.
        """
        return permute(self.tensors, self.groups, permutations, state)

    def is_statistics(self, number: int) -> bool:
        """Whether a tensor is a running statistic, and no parameter."""
        return self.tensors[number].name.rpartition(".")[2] in _STATISTICS

    @property
    def free_share(self) -> float:
        """The share of the parameters that lie on an axis which a group moves, in [0, 1]."""
        moving = {place.tensor for group in self.groups for family in group.families for place in family.places}
        sizes = [0 if self.is_statistics(k) else int(np.prod(axes.shape)) for k, axes in enumerate(self.tensors)]
        return sum(sizes[number] for number in moving) / max(sum(sizes), 1)


def find_symmetries(
    module: nn.Module,
    example: Any,
    *,
    run: Callable[[nn.Module, Any], Tensor] | None = None,
    names: Collection[str] | None = None,
    seed: int = 0,
) -> Symmetries:
    """Find the permutations of hidden units that leave a network's outputs as they are.

    Args:
        module: any network; it is copied, and run in evaluation mode.
        example: what it is called with: a tensor, a tuple of positional or a mapping of named arguments. Two examples
            are enough.
        run: calls a network on such an example and returns the outputs that must stay; by default the scores, see
            `landscape.problems.outputs`.
        names: the parameters that may move; by default all that hold floating numbers.
        seed: of the permutations, disturbances and inputs of the proof.

    Raises:
        ProblemError: the network does not take the example; gives other outputs for the same inputs; or gives outputs
            that are not finite.

    Example:
        >>> import torch
        >>> network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> symmetries = find_symmetries(network, torch.randn(3, 4))
        >>> [group.components for group in symmetries.groups]
        [8]
    """
    doubled = any(parameter.dtype == torch.float64 for parameter in module.parameters())
    network = copied(module).to(torch.float64 if doubled else torch.float32).eval()
    run = run or _scores
    moving = _moving(network, names)
    _require_steady(network, example, run)
    found = trace(network, lambda traced: run(traced, example), moving)
    groups, unclear = groups_of(found)
    proof = _Proof(network, found.tensors, moving, run, [example, _redrawn(example, seed)], seed)
    holding, failing = proof.split(groups)
    pinned = [Pinned(name, "its units are tied in a way that is not understood") for name in unclear]
    pinned += [Pinned(name, "the forward pass does not use it") for name in found.unused]
    pinned += [Pinned(group.name, f"permuted, it changed the outputs by {error:.1e}") for group, error in failing]
    return Symmetries(found.tensors, tuple(holding), tuple(pinned), found.unknown, proof.deviation(holding))


def _scores(network: nn.Module, example: Any) -> Tensor:
    """The scores of a network for an example that it is called with."""
    if isinstance(example, Mapping):
        result = network(**example)
    else:
        result = network(*example) if isinstance(example, tuple) else network(example)
    return outputs_of(network).scores(result).values


def _moving(network: nn.Module, names: Collection[str] | None) -> dict[str, Tensor]:
    """What may move with the units, by name: parameters, and the running statistics of norms."""
    moving: dict[str, Tensor] = {}
    for (name, *_), parameter in distinct_parameters(network):
        if parameter.is_floating_point() and (names is None or name in names):
            moving[name] = parameter
    for prefix, layer in network.named_modules():
        if keeps_statistics(layer):
            for name in _STATISTICS:
                moving[f"{prefix}.{name}" if prefix else name] = getattr(layer, name)
    return moving


def _redrawn(example: Any, seed: int) -> Any:
    """Inputs of the same shapes: normal with the example's mean and deviation, or its integers in another order."""
    generator = torch.Generator().manual_seed(seed)

    def draw(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: draw(each) for name, each in value.items()}
        if isinstance(value, tuple):
            return tuple(draw(each) for each in value)
        if not isinstance(value, Tensor):
            return value
        if value.is_floating_point():
            noise = torch.randn(value.shape, generator=generator).to(value)
            return value.mean() + noise * value.std(correction=0)
        return value.flatten()[torch.randperm(value.numel(), generator=generator)].view(value.shape)

    return draw(example)


def _require_steady(network: nn.Module, example: Any, run: Callable[[nn.Module, Any], Tensor]) -> None:
    """Check that a network takes an example and gives the same, finite outputs twice."""
    try:
        with torch.no_grad():
            one, other = (run(network, example) for _ in range(2))
    except ProblemError:
        raise
    except Exception as error:
        raise ProblemError(
            f"the network does not take the example: {type(error).__name__}: {str(error).splitlines()[0]}"
        ) from error
    if not torch.isfinite(one).all():
        raise ProblemError("the outputs are not finite on the example, so that no symmetry can be proven.")
    if not torch.equal(one, other):
        raise ProblemError(
            "the network draws random numbers in evaluation mode: the same inputs give other outputs, so that no "
            "symmetry can be proven."
        )


class _Proof:
    """Runs a disturbed copy of a network before and after its units are permuted."""

    def __init__(
        self,
        network: nn.Module,
        tensors: Sequence[Axes],
        moving: Mapping[str, Tensor],
        run: Callable[[nn.Module, Any], Tensor],
        inputs: Sequence[Any],
        seed: int,
    ) -> None:
        self._network, self._tensors, self._moving = network, tensors, moving
        self._run, self._inputs = run, inputs
        self._random = np.random.default_rng(seed)
        self._disturb(torch.Generator().manual_seed(seed))
        self._state = {name: tensor.detach().clone() for name, tensor in moving.items()}
        self._before = self._outputs()

    def split(self, groups: Sequence[Group]) -> tuple[list[Group], list[tuple[Group, float]]]:
        """The groups that leave the outputs as they are, and the others with what they change; by bisection."""
        error = self.deviation(groups)
        if error <= TOLERANCE:
            return list(groups), []
        if len(groups) == 1:
            return [], [(groups[0], error)]
        middle = len(groups) // 2
        halves = [self.split(half) for half in (groups[:middle], groups[middle:])]
        return halves[0][0] + halves[1][0], halves[0][1] + halves[1][1]

    def deviation(self, groups: Sequence[Group]) -> float:
        """The largest change of an output under random permutations, relative to the largest output."""
        permutations = [random_permutation(group, self._random) for group in groups]
        with torch.no_grad():
            for name, tensor in permute(self._tensors, groups, permutations, self._state).items():
                self._moving[name].copy_(tensor)
            changes = [
                float((now - before).abs().max() / before.abs().max().clamp_min(torch.finfo(before.dtype).tiny))
                for now, before in zip(self._outputs(), self._before, strict=True)
            ]
        worst = max(changes)
        return worst if np.isfinite(worst) else np.inf

    def _outputs(self) -> list[Tensor]:
        with torch.no_grad():
            return [self._run(self._network, inputs).double() for inputs in self._inputs]

    @torch.no_grad()
    def _disturb(self, generator: torch.Generator) -> None:
        for name, tensor in self._moving.items():
            size = float(tensor.square().mean().sqrt()) or _LEAST
            noise = torch.randn(tensor.shape, generator=generator).to(tensor)
            if name.endswith("running_var"):
                tensor.mul_(torch.exp(noise / 2))
            else:
                tensor.add_(noise, alpha=_DISTURBED * max(size, _LEAST))
