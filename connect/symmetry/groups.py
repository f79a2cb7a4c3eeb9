"""Groups of hidden units that may be numbered otherwise.

Classes of units that occur at the same places of the same tensors may take each other's place. Those that move
together, such as a head of attention and what lies in it, are one component; components of one kind form a group.
Inside of a component each family of units moves by itself, and a unit with parents in two families, such as an entry of
a query that belongs to one head among those which share its keys, follows these.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from connect.symmetry.tracing import Axes, Trace

_ROUNDS = 6  # of refinement; relations are at most a few levels deep


@dataclass(frozen=True)
class Place:
    """Where the units of a family lie along a block of a tensor's axes.

    Attributes:
        tensor: number of the tensor in the trace.
        block: number of the block of its axes.
        positions: `[n, size, m]` along the block, row-major: m of each unit.
    """

    tensor: int
    block: int
    positions: np.ndarray


@dataclass(frozen=True)
class Family:
    """Units of one kind in each of the components.

    Attributes:
        size: how many each component has.
        follows: the families whose permutations determine its own, each with the units `[n, size]` that its own lie in;
            none where it moves by itself.
        places: where its units lie.
    """

    size: int
    follows: tuple[tuple[int, np.ndarray], ...]
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Group:
    """Components that may take each other's place, and families that move inside of each.

    Attributes:
        name: the first axis that it moves.
        components: their number, n.
        families: of units in each component.
    """

    name: str
    components: int
    families: tuple[Family, ...]

    @property
    def inner(self) -> tuple[int, ...]:
        """The sizes of the families that move by themselves and have something to move."""
        return tuple(f.size for f in self.families if not f.follows and f.size > 1)


@dataclass(frozen=True)
class Permutation:
    """A permutation of one group: each unit's place is taken by another's.

    Attributes:
        outer: `[n]`, the component that comes to the place of each.
        inner: for each family `[n, size]`, the unit of that component that comes to the place of each.
    """

    outer: np.ndarray
    inner: tuple[np.ndarray, ...]


def identity(group: Group) -> Permutation:
    """The permutation that moves nothing."""
    inner = tuple(np.tile(np.arange(family.size), (group.components, 1)) for family in group.families)
    return Permutation(np.arange(group.components), inner)


def random_permutation(group: Group, generator: np.random.Generator) -> Permutation:
    """A permutation drawn at random."""
    free = [generator.permuted(units, axis=1) for units in identity(group).inner]
    return followed(group, generator.permutation(group.components), free)


def followed(group: Group, outer: np.ndarray, inner: Sequence[np.ndarray]) -> Permutation:
    """The permutation in which the families that follow do so; what is given for them is of no account.

    Args:
        group: whose.
        outer: `[n]`.
        inner: for each family `[n, size]`.
    """
    units = list(inner)
    for number, family in enumerate(group.families):
        if family.follows:
            here = _keys(group, family, [index for _, index in family.follows])
            asked = [np.take_along_axis(units[k], index, axis=1) for k, index in family.follows]
            there = _keys(group, family, asked)
            order = np.argsort(here, axis=1, kind="stable")
            rank = np.argsort(np.argsort(there, axis=1, kind="stable"), axis=1)
            units[number] = np.take_along_axis(order[outer], rank, axis=1)
    return Permutation(outer, tuple(units))


def _keys(group: Group, family: Family, indices: Sequence[np.ndarray]) -> np.ndarray:
    """One number `[n, size]` for the parents of each unit."""
    keys = np.zeros((group.components, family.size), np.int64)
    for (number, _), index in zip(family.follows, indices, strict=True):
        keys = keys * group.families[number].size + index
    return keys


def groups_of(trace: Trace) -> tuple[list[Group], list[str]]:
    """The groups of a network, and those parts of it whose structure is not understood, by the axes they begin at."""
    classes, is_pinned, relations = trace.universe.classes()
    occurrences = [_occurrences(classes[block.units.ravel()]) for axes in trace.tensors for block in axes.blocks]
    inside = relations[~is_pinned[relations[:, 0]]]
    colours = _colours(len(is_pinned), occurrences, inside, is_pinned)
    free = inside[~is_pinned[inside[:, 1]]]
    present = np.zeros(len(is_pinned), bool)
    for present_classes, _, _ in occurrences:
        present[present_classes] = True
    number, components = _components(len(is_pinned), free)
    moves = np.zeros(number, bool)
    moves[components[present & ~is_pinned]] = True
    nodes = np.flatnonzero(moves[components] & ~is_pinned & (present | _related(len(is_pinned), free)))
    kinds = np.zeros(number, np.uint64)
    np.add.at(kinds, components[nodes], _hashed(colours[nodes], 3))
    groups, unclear = [], []
    by_kind: dict[int, list[np.ndarray]] = {}
    ordered = nodes[np.lexsort((nodes, components[nodes]))]
    cuts = np.flatnonzero(np.diff(components[ordered])) + 1
    for component in np.split(ordered, cuts) if len(ordered) else []:
        by_kind.setdefault(int(kinds[components[component[0]]]), []).append(component)
    finder = _Finder(trace.tensors, occurrences, colours, free)
    for alike in by_kind.values():
        group = finder.group(alike)
        if group is None:
            unclear.append(finder.name(alike[0]))
        elif group.components > 1 or group.inner:
            groups.append(group)
    groups.sort(key=lambda group: min((p.tensor, p.block) for f in group.families for p in f.places))
    return groups, unclear


Occurrences = tuple[np.ndarray, np.ndarray, np.ndarray]  # classes ascending; where each begins; all places in order


def _occurrences(classes: np.ndarray) -> Occurrences:
    order = np.argsort(classes, kind="stable")
    found, begins = np.unique(classes[order], return_index=True)
    return found, np.append(begins, len(order)), order


def _hashed(values: np.ndarray, salt: int) -> np.ndarray:
    """Numbers that look random, one for each value (splitmix64)."""
    with np.errstate(over="ignore"):
        z = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15) * np.uint64(salt + 1)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def _colours(
    count: int, occurrences: Sequence[Occurrences], relations: np.ndarray, is_pinned: np.ndarray
) -> np.ndarray:
    """A number for each class that tells kinds of classes apart, by where they occur and what they are related to."""
    colours = np.zeros(count, np.uint64)
    for number, (found, begins, _) in enumerate(occurrences):
        colours[found] += np.diff(begins).astype(np.uint64) * _hashed(np.array([number]), 5)
    children, parents = relations.T
    pinned = is_pinned[parents]
    np.add.at(colours, children[pinned], _hashed(parents[pinned], 7))
    children, parents = children[~pinned], parents[~pinned]
    for _ in range(_ROUNDS if len(children) else 0):
        finer = _hashed(colours, 0)
        np.add.at(finer, children, _hashed(colours[parents], 1))
        np.add.at(finer, parents, _hashed(colours[children], 2))
        colours = finer
    return colours


def _components(count: int, pairs: np.ndarray) -> tuple[int, np.ndarray]:
    edges = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    number, components = connected_components(edges, directed=False)
    return int(number), components


def _related(count: int, pairs: np.ndarray) -> np.ndarray:
    related = np.zeros(count, bool)
    related[pairs.ravel()] = True
    return related


class _Finder:
    """Puts the classes of components of one kind in order."""

    def __init__(
        self, tensors: Sequence[Axes], occurrences: Sequence[Occurrences], colours: np.ndarray, relations: np.ndarray
    ) -> None:
        self._where = [(t, b) for t, axes in enumerate(tensors) for b in range(len(axes.blocks))]
        self._tensors, self._occurrences, self._colours = tensors, occurrences, colours
        self._relations = relations[np.argsort(relations[:, 0], kind="stable")]
        self._first = np.full(len(colours), np.iinfo(np.int64).max)
        before = 0
        for found, begins, order in occurrences:
            first = before + order[begins[:-1]]
            self._first[found] = np.minimum(self._first[found], first)
            before += len(order)

    def name(self, component: np.ndarray) -> str:
        """The first axis on which a component lies."""
        for (tensor, block), (found, _, _) in zip(self._where, self._occurrences, strict=True):
            if np.isin(component, found).any():
                axes = self._tensors[tensor]
                return f"{axes.name}[{', '.join(map(str, axes.blocks[block].axes))}]"
        return "nothing"

    def group(self, alike: Sequence[np.ndarray]) -> Group | None:
        """The group of components of one kind; None where their structure is not understood."""
        alike = sorted(alike, key=lambda component: self._first[component].min())
        colours = np.unique(self._colours[alike[0]])
        members = []
        for colour in colours:
            each = [component[self._colours[component] == colour] for component in alike]
            if len({len(units) for units in each}) > 1:
                return None
            members.append(np.stack([units[np.lexsort((units, self._first[units]))] for units in each]))
        follows = self._follows(members)
        if follows is None:
            return None
        families = tuple(
            Family(units.shape[1], above, self._places(units)) for units, above in zip(members, follows, strict=True)
        )
        return Group(self.name(alike[0]), len(alike), families)

    def _follows(self, members: Sequence[np.ndarray]) -> list[tuple[tuple[int, np.ndarray], ...]] | None:
        """What each family follows: the families of its units' parents with more than one unit."""
        home = {int(unit): (f, c, i) for f, units in enumerate(members) for (c, i), unit in np.ndenumerate(units)}
        above: list[dict[int, np.ndarray]] = [{} for _ in members]
        for unit, (f, c, i) in home.items():
            begin, end = np.searchsorted(self._relations[:, 0], [unit, unit + 1])
            for parent in self._relations[begin:end, 1]:
                g, d, j = home[int(parent)]
                if members[g].shape[1] == 1:
                    continue
                index = above[f].setdefault(g, np.full(members[f].shape, -1))
                if d != c or g == f or index[c, i] >= 0:
                    return None
                index[c, i] = j
        for f, parents in enumerate(above):
            if any((index < 0).any() or above[g] for g, index in parents.items()):
                return None
            if parents and not self._is_complete(members, members[f], parents):
                return None
        return [tuple(sorted(parents.items())) for parents in above]

    @staticmethod
    def _is_complete(members: Sequence[np.ndarray], units: np.ndarray, parents: dict[int, np.ndarray]) -> bool:
        """Whether units lie in every combination of parents equally often."""
        sizes = [members[g].shape[1] for g in sorted(parents)]
        for c in range(len(units)):
            keys = np.ravel_multi_index([parents[g][c] for g in sorted(parents)], sizes)
            counts = np.bincount(keys, minlength=int(np.prod(sizes)))
            if counts.min() != counts.max():
                return False
        return True

    def _places(self, units: np.ndarray) -> tuple[Place, ...]:
        places = []
        for (tensor, block), (found, begins, order) in zip(self._where, self._occurrences, strict=True):
            at = np.searchsorted(found, units)
            if at.max(initial=0) < len(found) and (found[at] == units).all():
                counts = begins[at + 1] - begins[at]
                m = int(counts.flat[0])
                places.append(Place(tensor, block, order[begins[at][..., None] + np.arange(m)]))
        return tuple(places)
