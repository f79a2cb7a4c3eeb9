"""Which minima share a valley at which height: minimax saddles, the tree that attains them, and valleys below a height.

The minimax saddle of two minima is the least height that some chain of known passes between them must cross. It is
attained along the minimum spanning tree by saddle loss, so all pairs follow from n - 1 passes (Gower and Ross 1969,
Journal of the Royal Statistical Society C 18, 54).
"""

from collections.abc import Hashable

import networkx as nx
import numpy as np

from connect.minima.graph import Graph, MinimaGraph, networkx_of, own_losses
from landscape.errors import ConfigError
from landscape.storage.results import Array


def spanning_tree(graph: MinimaGraph | Graph) -> Graph:
    """The minimum spanning tree by saddle loss, or a tree for each component; passes of infinite height count as none.

    Raises:
        ConfigError: an edge has no attribute `saddle`.
    """
    passable: Graph = nx.Graph()
    passable.add_nodes_from(networkx_of(graph).nodes(data=True))
    for a, b, attributes in networkx_of(graph).edges(data=True):
        if "saddle" not in attributes:
            raise ConfigError(
                f"the edge between {a} and {b} has no attribute 'saddle', the largest loss along the path."
            )
        if np.isfinite(attributes["saddle"]):
            passable.add_edge(a, b, **attributes)
    return nx.minimum_spanning_tree(passable, weight="saddle")


def ordered_passes(graph: MinimaGraph | Graph) -> list[tuple[Hashable, Hashable, float]]:
    """The passes of the spanning tree with their saddle losses, the lowest first."""
    passes = [(a, b, float(attributes["saddle"])) for a, b, attributes in spanning_tree(graph).edges(data=True)]
    return sorted(passes, key=lambda joined: joined[2])


def minimax_saddles(graph: MinimaGraph | Graph) -> Array:
    """The minimax saddle of every pair `[n, n]`, in the order of the nodes.

    On the diagonal is each minimum's own loss, NaN if it is not known; pairs that nothing joins have infinity.

    Args:
        graph: its edges have the attribute `saddle`, its nodes may have `loss`.

    Example:
        >>> graph = nx.Graph()
        >>> graph.add_weighted_edges_from([("a", "b", 3.0), ("b", "c", 1.0), ("a", "c", 5.0)], weight="saddle")
        >>> minimax_saddles(graph).tolist()
        [[nan, 3.0, 3.0], [3.0, nan, 1.0], [3.0, 1.0, nan]]
    """
    place = {name: index for index, name in enumerate(networkx_of(graph).nodes)}
    heights = np.full((len(place), len(place)), np.inf)
    np.fill_diagonal(heights, own_losses(graph))
    together = {index: [index] for index in place.values()}  # by any of its members, the component so far
    # Kruskal: the pass that first joins two components is the lowest between them, the saddle of all their pairs.
    for a, b, saddle in ordered_passes(graph):
        left, right = together[place[a]], together[place[b]]
        heights[np.ix_(left, right)] = heights[np.ix_(right, left)] = saddle
        merged = left + right
        together.update(dict.fromkeys(merged, merged))
    return heights


def lowest_path(graph: MinimaGraph | Graph, a: Hashable, b: Hashable) -> list[Hashable]:
    """The minima on a chain of passes from a to b that attains their minimax saddle.

    Raises:
        ConfigError: nothing joins them, or one is not a minimum of the graph.
    """
    try:
        minima: list[Hashable] = nx.shortest_path(spanning_tree(graph), a, b)
    except (nx.NetworkXNoPath, nx.NodeNotFound) as error:
        raise ConfigError(f"no chain of passes joins {a} and {b}: {error}") from error
    return minima


def valleys(graph: MinimaGraph | Graph, height: float) -> list[set[Hashable]]:
    """The minima that passes no higher than a height join, the largest valley first.

    Args:
        graph: its edges have the attribute `saddle`; minima whose `loss` is known and higher are in none.
        height: in units of the loss.

    Example:
        >>> graph = nx.Graph()
        >>> graph.add_weighted_edges_from([("a", "b", 3.0), ("b", "c", 1.0)], weight="saddle")
        >>> [sorted(valley) for valley in valleys(graph, 2.0)]
        [['b', 'c'], ['a']]
    """
    whole = networkx_of(graph)
    below = [n for n, loss in zip(whole.nodes, own_losses(graph), strict=True) if not loss > height]
    low: Graph = nx.Graph()
    low.add_nodes_from(below)
    passes = [(a, b) for a, b, saddle in ordered_passes(graph) if saddle <= height]
    low.add_edges_from((a, b) for a, b in passes if a in low and b in low)
    return sorted(
        nx.connected_components(low), key=lambda valley: (-len(valley), below.index(min(valley, key=below.index)))
    )


def centrality(graph: MinimaGraph | Graph) -> dict[Hashable, float]:
    """For each minimum the share of the other pairs whose lowest path passes it, in [0, 1]."""
    shares: dict[Hashable, float] = nx.betweenness_centrality(spanning_tree(graph))
    return shares
