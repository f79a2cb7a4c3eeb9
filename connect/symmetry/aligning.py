"""Bring one point of weight space into the order of another."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from connect.symmetry.groups import Permutation
from connect.symmetry.matching import match_weights
from connect.symmetry.symmetries import Symmetries
from landscape.risk.empirical import EmpiricalRisk

Method = Literal["weights"]


@dataclass(frozen=True)
class Alignment:
    """A network whose units are in the order of another's.

    Attributes:
        theta: the point `[P]`; it computes what the network did before.
        permutations: one for each group of the symmetries; plain index arrays.
        objective: the sum of products of the two networks' weights.
        before: the same before the alignment.
    """

    theta: Tensor
    permutations: tuple[Permutation, ...]
    objective: float
    before: float


def align(
    surface: EmpiricalRisk,
    symmetries: Symmetries,
    a: Tensor,
    b: Tensor,
    method: Method = "weights",
    *,
    restarts: int = 1,
    seed: int = 0,
) -> Alignment:
    """Permute the hidden units of b so that it comes close to a.

    Args:
        surface: the loss over the network's space.
        symmetries: of its network, by `find_symmetries`.
        a: `[P]`, which stays.
        b: `[P]`, whose units are moved.
        method: what units are compared by: their weights, see `match_weights`.
        restarts: how often the matching begins; the best is taken.
        seed: of the orders.

    Raises:
        LayoutError: a or b has another shape.

    Example:
        >>> import torch
        >>> from connect import find_symmetries
        >>> from landscape import EmpiricalRisk, ParameterSpace, Problem
        >>> network = torch.nn.Sequential(torch.nn.Linear(2, 5), torch.nn.Tanh(), torch.nn.Linear(5, 1))
        >>> inputs = torch.randn(8, 2)
        >>> problem = Problem.of(network, {"train": (inputs, inputs[:, :1])}, "mse")
        >>> space, symmetries = ParameterSpace(network), find_symmetries(network, inputs)
        >>> a = space.theta.clone()
        >>> b = space.flatten(symmetries.permute(network.state_dict(), symmetries.random(seed=1)))
        >>> torch.equal(align(EmpiricalRisk(space, problem), symmetries, a, b).theta, a)
        True
    """
    space = surface.space
    ours, theirs = (space.unflatten(theta) for theta in (a, b))
    matching = match_weights(symmetries, ours, theirs, restarts=restarts, seed=seed)
    moved = symmetries.permute(theirs, matching.permutations)
    return Alignment(space.flatten(moved), matching.permutations, matching.objective, matching.before)
