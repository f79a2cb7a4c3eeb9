"""Weight matching: the permutations that bring the weights of one network closest to another's.

The sum of products of the two networks' weights is raised group by group, where each step is one exact assignment
(Ainsworth et al. 2023, arXiv 2209.04836, section 3.2). Components with an inside, such as heads, are compared by the
best that a permutation inside of them can do, which is another assignment for each pair. A first sweep takes the groups
in an order in which as much as possible of their weights leads to units that are matched already, such as the inputs,
and looks at no others: by it a permuted copy of a network is undone exactly.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from connect.symmetry.groups import Family, Group, Permutation, followed, identity
from connect.symmetry.permuting import indices, permuted
from connect.symmetry.symmetries import Symmetries
from connect.symmetry.tracing import Axes

_INNER = 3  # rounds in which families inside of a component, that depend on each other, are matched


@dataclass(frozen=True)
class Matching:
    """Permutations of a second network's units.

    Attributes:
        permutations: one for each group.
        objective: the sum of products of the two networks' weights after them.
        before: the same before them.
        sweeps: over all groups that were made, by the best of the restarts.
    """

    permutations: tuple[Permutation, ...]
    objective: float
    before: float
    sweeps: int


def match_weights(
    symmetries: Symmetries,
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    *,
    restarts: int = 1,
    sweeps: int = 50,
    seed: int = 0,
) -> Matching:
    """Find the permutations of b's units that bring its weights closest to a's.

    Args:
        symmetries: of the network.
        a: its tensors by name.
        b: those of the other, whose units are moved.
        restarts: how often to begin; the first in the order of what is matched already, the others in random orders.
        sweeps: at most so many over all groups, each time.
        seed: of the orders.

    Returns:
        The best; never one that is worse than moving nothing.
    """
    random = np.random.default_rng(seed)
    best = None
    for number in range(restarts):
        matcher = _Matcher(symmetries, a, b)
        if number == 0:
            matcher.follow_what_is_matched()
        made = 1 + matcher.sweep(random, sweeps)
        if best is None or matcher.objective > best.objective:
            best = Matching(tuple(matcher.permutations), matcher.objective, matcher.before, made)
    still = tuple(identity(group) for group in symmetries.groups)
    if best is None or not best.objective > best.before:
        before = best.before if best else 0.0
        return Matching(still, before, before, best.sweeps if best else 0)
    return best


class _Matcher:
    """Moves the units of b, group by group."""

    def __init__(self, symmetries: Symmetries, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
        self._tensors, self._groups = symmetries.tensors, symmetries.groups
        weights = [number for number, axes in enumerate(self._tensors) if not symmetries.is_statistics(number)]
        self._a = {number: a[self._tensors[number].name].detach() for number in weights}
        self._b = {number: b[self._tensors[number].name].detach() for number in weights}
        self.permutations = [identity(group) for group in self._groups]
        self._products = {number: self._product(number) for number in weights}
        self.before = self.objective

    @property
    def objective(self) -> float:
        """The sum of products of all weights."""
        return sum(self._products.values())

    def _product(self, number: int, other: Tensor | None = None) -> float:
        a, b = self._a[number], self._b[number] if other is None else other
        return float(torch.dot(a.reshape(-1), b.to(a).reshape(-1)))

    def follow_what_is_matched(self) -> None:
        """Match each group once, by those of its weights whose other axes are matched or fixed."""
        owners: dict[tuple[int, int], set[int]] = {}
        for g, group in enumerate(self._groups):
            for family in group.families:
                for place in family.places:
                    owners.setdefault((place.tensor, place.block), set()).add(g)
        left = set(range(len(self._groups)))
        while left:
            shares = {g: self._open(self._groups[g], left, owners) for g in left}
            chosen = max(left, key=lambda g: (sum(shares[g].values()), -g))
            self._match(chosen, set(shares[chosen]) or None)
            left.remove(chosen)

    def _open(
        self, group: Group, left: set[int], owners: Mapping[tuple[int, int], set[int]]
    ) -> dict[tuple[int, int], int]:
        """The blocks of a group in tensors of which no other block is still to be matched, and the tensors' sizes."""
        found = {}
        for place in (place for family in group.families for place in family.places):
            if place.tensor in self._a:
                axes = self._tensors[place.tensor]
                others = [k for k in range(len(axes.blocks)) if k != place.block]
                if not any(owners.get((place.tensor, k), set()) & left for k in others):
                    found[place.tensor, place.block] = int(np.prod(axes.shape))
        return found

    def sweep(self, random: np.random.Generator, most: int) -> int:
        """Match all groups in random orders until nothing is gained; returns how many sweeps it took."""
        for number in range(most):
            gained = [self._match(int(g)) for g in random.permutation(len(self._groups))]
            if not any(gained):
                return number + 1
        return most

    def _match(self, g: int, chosen: set[tuple[int, int]] | None = None) -> bool:
        """Match one group; returns whether the objective rose. With chosen blocks it may also fall."""
        group = self._groups[g]
        step = best_permutation(group, self._similarities(group, chosen))
        moved = indices(self._tensors, [group], [step])
        tensors = {
            number: permuted(self._b[number], self._tensors[number], index)
            for number, index in moved.items()
            if number in self._b
        }
        products = {number: self._product(number, tensor) for number, tensor in tensors.items()}
        before = sum(self._products[number] for number in products)
        if chosen is None and not sum(products.values()) > before + 1e-6 * abs(before):
            return False
        self._b |= tensors
        self._products |= products
        self.permutations[g] = composed(self.permutations[g], step)
        return True

    def _similarities(self, group: Group, chosen: set[tuple[int, int]] | None) -> list[Tensor | None]:
        """For each family the products `[n size, n size]` of a's units with b's, summed over where they lie."""
        found = []
        for family in group.families:
            total = None
            for place in family.places:
                if place.tensor in self._a and (chosen is None or (place.tensor, place.block) in chosen):
                    axes = self._tensors[place.tensor]
                    a, b = (
                        rows(tensors[place.tensor], axes, place.block, place.positions)
                        for tensors in (self._a, self._b)
                    )
                    total = a @ b.T if total is None else total.addmm_(a, b.T)
            found.append(total)
        return found


def rows(tensor: Tensor, axes: Axes, block: int, positions: np.ndarray) -> Tensor:
    """What lies at each unit `[units, numbers]`, in float32.

    Args:
        tensor: of the network.
        axes: of it.
        block: number of the block along which the units lie.
        positions: `[n, size, m]` along it.
    """
    spanned = axes.blocks[block].axes
    view = tensor.reshape(axes.shape).movedim(spanned, tuple(range(len(spanned))))
    flat = view.reshape(axes.blocks[block].units.size, -1).float()
    count = positions.shape[0] * positions.shape[1]
    order = torch.from_numpy(np.ascontiguousarray(positions.reshape(-1))).to(tensor.device)
    return flat[order].reshape(count, -1)


def composed(first: Permutation, second: Permutation) -> Permutation:
    """The permutation that does one and then another."""
    inner = tuple(
        np.take_along_axis(one[second.outer], other, axis=1)
        for one, other in zip(first.inner, second.inner, strict=True)
    )
    return Permutation(first.outer[second.outer], inner)


def best_permutation(group: Group, similarities: Sequence[Tensor | None]) -> Permutation:
    """The permutation with the largest sum of similarities.

    It is exact, but where families inside of a component depend on each other, which take turns.

    Args:
        group: whose.
        similarities: for each family `[n size, n size]` of a's units with b's; None where nothing is known.
    """
    n = group.components
    tables = [
        None if table is None else table.double().cpu().numpy().reshape(n, family.size, n, family.size)
        for table, family in zip(similarities, group.families, strict=True)
    ]
    outer = np.zeros((n, n))
    free = [f for f, family in enumerate(group.families) if family.size > 1 and not family.follows]
    for family, table in zip(group.families, tables, strict=True):
        if table is not None and family.size == 1:
            outer += table[:, 0, :, 0]
    inner = identity(group).inner
    if not free:
        return followed(group, assignment(outer), inner)
    within = {}
    for c in range(n):
        for d in range(n):
            here = [None if table is None else table[c, :, d, :] for table in tables]
            gain, within[c, d] = _inside(group, free, here, c, d)
            outer[c, d] += gain
    order = assignment(outer)
    units = [family.copy() for family in inner]
    for c, d in enumerate(order):
        for f in free:
            units[f][c] = within[c, int(d)][f]
    return followed(group, order, units)


def assignment(gains: np.ndarray) -> np.ndarray:
    """The exact assignment `[n]` of the largest sum: the column for each row of `[n, n]`."""
    columns: np.ndarray = linear_sum_assignment(gains, maximize=True)[1]
    return columns


def _inside(
    group: Group, free: Sequence[int], tables: Sequence[np.ndarray | None], c: int, d: int
) -> tuple[float, dict[int, np.ndarray]]:
    """The best that permutations inside of one component can do for its similarity to another, and these."""
    units = {f: np.arange(group.families[f].size) for f in free}
    followers = [
        (family, table) for family, table in zip(group.families, tables, strict=True)
        if family.follows and table is not None
    ]  # fmt: skip
    alone = {f: table for f in free if (table := tables[f]) is not None}
    for _ in range(_INNER if followers else 1):
        for f in free:
            gains = alone[f].copy() if f in alone else np.zeros((len(units[f]), len(units[f])))
            for family, table in followers:
                gains += _seen_by(f, family, table, units, c, d)
            units[f] = assignment(gains)
    total = sum(float(table[np.arange(len(table)), units[f]].sum()) for f, table in alone.items())
    for family, table in followers:
        f = family.follows[0][0]
        gains = _seen_by(f, family, table, units, c, d)
        total += float(gains[np.arange(len(gains)), units[f]].sum())
    return total, units


def _seen_by(f: int, family: Family, table: np.ndarray, units: Mapping[int, np.ndarray], c: int, d: int) -> np.ndarray:
    """What a family that follows says of the matching of one of those, `[size, size]`, the others being as now."""
    gains = np.zeros((len(units[f]), len(units[f])))
    follows = dict(family.follows)
    if f not in follows:
        return gains
    others = [g for g in follows if g != f]
    is_match = np.ones((family.size, family.size), bool)
    for g in others:
        is_match &= units[g][follows[g][c]][:, None] == follows[g][d][None, :]
    one, other = np.nonzero(is_match)
    np.add.at(gains, (follows[f][c][one], follows[f][d][other]), table[one, other])
    return gains
