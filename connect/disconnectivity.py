"""The disconnectivity graph: how valleys merge as the height grows (Becker and Karplus 1997,
J. Chem. Phys. 106, 1495).

It is the merge tree of the minima by saddle loss, as Kruskal's algorithm meets the passes: every merge lies at its
exact height, every leaf at its own loss.
"""

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from connect.minima import Graph, MinimaGraph, networkx_of, own_losses
from connect.saddles import ordered_passes
from landscape import Array, ConfigError


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
        """Where leaves and merges lie from left to right `[n + m]`: leaves evenly, merges amid their parts."""
        count = len(self.leaves)
        x = np.empty(len(self.heights))
        x[self.order] = np.arange(count)
        for number, (left, right) in enumerate(self.merges):
            x[count + number] = (x[left] + x[right]) / 2
        return x


def merge_tree(graph: MinimaGraph | Graph) -> MergeTree:
    """The merge tree of the minima.

    Args:
        graph: its nodes have the attribute `loss`, its edges `saddle`.

    Raises:
        ConfigError: a node has no loss, or an edge no saddle.
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
