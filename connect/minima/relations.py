"""How saddles, distances in weight space and distances in function space go together over all pairs of minima.

Clusters by minimax saddle are the valleys at every height; clusters by distance need not be the same, and the rank
correlation between the two says how far they are.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform
from scipy.stats import spearmanr

from connect.minima.graph import Graph, MinimaGraph
from connect.minima.saddles import minimax_saddles
from landscape.storage.results import Array

_FEWEST = 5  # of fewer pairs even a perfect order comes about by chance more than once in twenty times: 2/n!


@dataclass(frozen=True)
class Relation:
    """How two quantities of pairs go together.

    Attributes:
        one: "saddle", or the name of one of the graph's `pairs`.
        other: another.
        correlation: Spearman's, in [-1, 1]; NaN where one does not vary, or where fewer than five pairs
            have both, of which no order says anything.
        pairs: how many have both.
    """

    one: str
    other: str
    correlation: float
    pairs: int


def relations(graph: MinimaGraph | Graph) -> list[Relation]:
    """Rank correlations between the minimax saddle and all quantities of pairs that the graph holds.

    A plain `networkx.Graph` holds none, and gives an empty list.
    """
    matrices = {"saddle": minimax_saddles(graph), **(graph.pairs if isinstance(graph, MinimaGraph) else {})}
    return [_relation(one, matrices[one], other, matrices[other]) for one, other in combinations(matrices, 2)]


def clusters(matrix: Array, method: str = "average") -> Array:
    """Hierarchical clusters of n minima.

    Args:
        matrix: dissimilarities `[n, n]`, symmetric; the diagonal is not looked at.
        method: as in `scipy.cluster.hierarchy.linkage`: "single" for minimax saddles, whose merges are then exact.

    Returns:
        The linkage `[n - 1, 4]`, as scipy gives it; infinite dissimilarities count as 1 more than twice the largest
        finite one.
    """
    if len(matrix) < 2:
        return np.empty((0, 4))
    plain = np.array(matrix, dtype=np.float64)
    np.fill_diagonal(plain, 0)
    finite = plain[np.isfinite(plain)]
    plain[~np.isfinite(plain)] = 2 * finite.max(initial=0.0) + 1
    tree: Array = linkage(squareform(plain, checks=False), method)
    return tree


def _relation(one: str, left: Array, other: str, right: Array) -> Relation:
    upper = np.triu_indices(len(left), 1)
    x, y = left[upper], right[upper]
    both = np.isfinite(x) & np.isfinite(y)
    varies = both.sum() >= _FEWEST and np.ptp(x[both]) > 0 and np.ptp(y[both]) > 0
    correlation = float(spearmanr(x[both], y[both]).statistic) if varies else float("nan")
    return Relation(one, other, correlation, int(both.sum()))
