"""The disconnectivity graph: how valleys merge as the height grows (Becker and Karplus 1997,
J. Chem. Phys. 106, 1495).

It is the merge tree of the minima by saddle loss, as Kruskal's algorithm meets the passes: every merge lies at its
exact height, every leaf at its own loss.
"""

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from connect.minima.graph import Graph, MinimaGraph, networkx_of, own_losses
from connect.minima.saddles import ordered_passes
from landscape.errors import ConfigError
from landscape.storage.results import Array


@dataclass(frozen=True)
class MergeTree:
    """A tree of leaves 0 … n - 1 and merges n, n + 1, …; a forest where not all minima are joined.

    Attributes:
        leaves: the minima.
        heights: of every leaf and merge `[n + m]`: a minimum's loss, a merge's saddle loss.
        merges: the two parts of each merge `[m, 2]`, in order of height; the lower of the two comes first.
        order: the leaves from left to right `[n]`, so that no branches cross and lower parts are left.
    """

    leaves: tuple[Hashable, ...]
    heights: Array
    merges: Array
    order: Array

    def positions(self) -> Array:
        """Where leaves and merges lie from left to right `[n + m]`: leaves evenly, merges amid their parts.

        Merges of one height that hang together are one: all lie amid the parts of the whole.
        """
        x = np.empty(len(self.heights))
        x[self.order] = np.arange(len(self.leaves))
        for group, parts in self._groups():
            x[group] = (x[parts].min() + x[parts].max()) / 2
        return x

    def bars(self) -> Array:
        """The horizontal lines of a drawing `[g, 3]`: from where to where, and how high, one a merge of any number."""
        x = self.positions()
        drawn = [(x[parts].min(), x[parts].max(), self.heights[group[-1]]) for group, parts in self._groups()]
        return np.array(drawn, dtype=np.float64).reshape(-1, 3)

    def within(self, tolerance: float) -> "MergeTree":
        """The tree as far as heights that are known to a tolerance, in units of the loss, determine it.

        A merge that lies no more than the tolerance below the next is raised to it, and so are those that lie no more
        than the tolerance below that one's own height: their order is not known, and at one height they are one merge.
        What is left apart is apart for certain, since every height may be lower by the tolerance at most.
        """
        count, heights = len(self.leaves), self.heights.copy()
        for number in reversed(range(len(self.merges))):
            for part in self.merges[number]:
                if part >= count and self.heights[count + number] - self.heights[part] <= tolerance:
                    heights[part] = heights[count + number]
        return MergeTree(self.leaves, heights, self.merges, self.order)

    def _groups(self) -> list[tuple[list[int], list[int]]]:
        """The merges that are one, the lowest first, and the leaves and other merges that they join."""
        count = len(self.leaves)
        top = list(range(len(self.heights)))  # of each merge, the highest that is one with it
        for number in reversed(range(len(self.merges))):
            for part in self.merges[number].tolist():
                if part >= count and self.heights[part] == self.heights[count + number]:
                    top[part] = top[count + number]
        groups: dict[int, list[int]] = {}
        for merge in range(count, len(top)):
            groups.setdefault(top[merge], []).append(merge)
        return [
            (group, [part for merge in group for part in self.merges[merge - count].tolist() if part not in group])
            for _, group in sorted(groups.items())
        ]


def merge_tree(graph: MinimaGraph | Graph) -> MergeTree:
    """The merge tree of the minima.

    Args:
        graph: its nodes have the attribute `loss`, its edges `saddle`.

    Raises:
        ConfigError: a node has no loss, or an edge no saddle.

    Example:
        >>> graph = MinimaGraph()
        >>> for name, loss in {"a": 0.1, "b": 0.2, "c": 0.3}.items():
        ...     graph.add_minimum(name, loss)
        >>> graph.add_pass("a", "b", saddle=1.0)
        >>> graph.add_pass("b", "c", saddle=0.5)
        >>> tree = merge_tree(graph)
        >>> tree.heights.tolist(), tree.merges.tolist()
        ([0.1, 0.2, 0.3, 0.5, 1.0], [[1, 2], [0, 3]])
    """
    names = tuple(networkx_of(graph).nodes)
    heights = own_losses(graph).tolist()
    if missing := [name for name, loss in zip(names, heights, strict=True) if np.isnan(loss)]:
        raise ConfigError(f"the minimum {missing[0]} has no attribute 'loss', which its leaf would lie at.")
    place = {name: index for index, name in enumerate(names)}
    top = list(range(len(names)))  # of each leaf, the merge that it lies under so far
    lowest = dict(enumerate(heights))
    members = {index: [index] for index in range(len(names))}
    merges: list[tuple[int, int]] = []
    for a, b, saddle in ordered_passes(graph):
        # The part with the lower minimum comes first, so that lower valleys are drawn left of higher ones.
        parts = sorted((top[place[a]], top[place[b]]), key=lambda part: (lowest[part], members[part][0]))
        merged = len(heights)
        heights.append(max(saddle, *(heights[part] for part in parts)))
        merges.append((parts[0], parts[1]))
        lowest[merged] = lowest[parts[0]]
        members[merged] = [leaf for part in parts for leaf in members[part]]
        for leaf in members[merged]:
            top[leaf] = merged
    roots = sorted(set(top), key=lambda root: (lowest[root], members[root][0]))
    order = [leaf for root in roots for leaf in members[root]]
    return MergeTree(
        names, np.array(heights), np.array(merges, dtype=np.int64).reshape(-1, 2), np.array(order, dtype=np.int64)
    )
