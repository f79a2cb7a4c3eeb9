"""Which pair of minima to join next, and when enough is known.

What is known of a pair lies between two bounds: below, the higher of its two minima; above, the lowest chain of passes
so far. A pair whose bounds meet within a tolerance need never be fitted. Programs for energy landscapes choose
pairs by the same thoughts: join what is apart, the closest first, then go where most is left to win.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from connect.minima.graph import MinimaGraph
from connect.minima.saddles import minimax_saddles
from landscape.errors import ConfigError
from landscape.runtime.progress import Reporter, silent
from landscape.storage.results import Array

Pair = tuple[int, int]


@dataclass(frozen=True)
class Frontier:
    """What is known of all pairs of n minima; matrices are symmetric, `[n, n]`.

    Attributes:
        lower: the higher loss of the two minima.
        upper: the minimax saddle over the passes so far; infinity where nothing joins the two.
        distances: between the minima.
        tried: pairs that were joined, or between which no path could be trained; the diagonal too.
        losses: of the minima `[n]`.
    """

    lower: Array
    upper: Array
    distances: Array
    tried: Array
    losses: Array

    @property
    def gaps(self) -> Array:
        """How far the bounds of each pair are apart; 0 where there is nothing left to try."""
        return np.where(self.tried, 0.0, self.upper - self.lower)

    def nearest(self, pairs: Array) -> Pair | None:
        """The pair with the shortest distance among those that a boolean matrix marks; the first of equal ones."""
        marked = np.triu(pairs, 1)
        if not marked.any():
            return None
        distances = np.where(marked, self.distances, np.inf)
        nearest = np.argmin(distances) if np.isfinite(distances).any() else np.argmax(marked)
        row, column = np.unravel_index(int(nearest), distances.shape)
        return int(row), int(column)


class PairStrategy(Protocol):
    """Chooses the next pair; `prunes` says whether it leaves out pairs whose bounds meet."""

    prunes: bool

    def choose(self, frontier: Frontier, tolerance: float) -> Pair | None:
        """Indices of the next pair, the smaller first; None when enough is known.

        Args:
            frontier: what is known.
            tolerance: bounds that are no farther apart meet.
        """


class NearestFirst:
    """Join what is apart by its nearest pair; then take the pair whose bounds are furthest apart."""

    prunes = True

    def choose(self, frontier: Frontier, tolerance: float) -> Pair | None:
        apart = np.isinf(frontier.upper) & ~frontier.tried
        return frontier.nearest(apart) if apart.any() else widest(frontier, tolerance)


class LowestFirst:
    """Join every minimum with the lowest of all, the lowest first; then as `NearestFirst`."""

    prunes = True

    def choose(self, frontier: Frontier, tolerance: float) -> Pair | None:
        apart = np.isinf(frontier.upper) & ~frontier.tried
        if not apart.any():
            return widest(frontier, tolerance)
        lower = np.where(apart, np.minimum.outer(frontier.losses, frontier.losses), np.inf)
        higher = np.where(lower == lower.min(), frontier.lower, np.inf)
        return frontier.nearest(apart & (higher == higher.min()))


class Everything:
    """Every pair, the nearest first, whatever the bounds say."""

    prunes = False

    def choose(self, frontier: Frontier, tolerance: float) -> Pair | None:
        return frontier.nearest(~frontier.tried)


STRATEGIES: Mapping[str, Callable[[], PairStrategy]] = {
    "nearest": NearestFirst,
    "lowest": LowestFirst,
    "all": Everything,
}


def widest(frontier: Frontier, tolerance: float) -> Pair | None:
    """The pair whose bounds are furthest apart, if they are farther than a tolerance."""
    gaps = frontier.gaps
    largest = gaps.max(initial=0.0)
    return frontier.nearest(gaps == largest) if largest > tolerance else None


class Join(Protocol):
    """Finds a path between two minima."""

    def __call__(self, a: Hashable, b: Hashable, upper: float) -> Mapping[str, Any]:
        """The attributes of the pass, `saddle` at least.

        Args:
            a: the minimum at t = 0.
            b: the minimum at t = 1.
            upper: the lowest chain of passes that is known between them already; infinity if there is none.
        """


@dataclass(frozen=True)
class Outcome:
    """How an exploration ended.

    Attributes:
        reason: "bounds" when those of all pairs meet or nothing is left to try, "budget" when that is spent.
        fitted: pairs that were joined, in this run and before.
        pruned: pairs that never needed it, since their bounds met.
        left: pairs whose bounds do not meet yet and that were not tried.
    """

    reason: Literal["bounds", "budget"]
    fitted: int
    pruned: int
    left: int


def explore(
    graph: MinimaGraph,
    join: Join,
    strategy: PairStrategy | None = None,
    *,
    tolerance: float = 0.01,
    budget: int | None = None,
    after: Callable[[], None] | None = None,
    report: Reporter = silent,
) -> Outcome:
    """Join pairs of minima until the bounds of all pairs meet, or the budget is spent.

    Args:
        graph: the minima with their losses, and the passes that are known; it gets the new ones. Its `pairs` may hold
            `distance` `[n, n]`, by which equal choices are made.
        join: finds a path between two minima.
        strategy: which pair is next; by default `NearestFirst`.
        tolerance: bounds that are no farther apart meet, in units of the loss.
        budget: at most so many pairs, those that are joined already included; None for no limit.
        after: called after every pair.
        report: progress reporter; a unit is a pair.

    Raises:
        ConfigError: a minimum has no finite loss.

    Example:
        >>> graph = MinimaGraph()
        >>> for name in "abc":
        ...     graph.add_minimum(name, loss=0.0)
        >>> heights = {"ab": 1.0, "ac": 1.0, "bc": 2.0}
        >>> explore(graph, lambda a, b, upper: {"saddle": heights[a + b]}, tolerance=1.0)
        Outcome(reason='bounds', fitted=2, pruned=1, left=0)
    """
    strategy = strategy or NearestFirst()
    names = graph.nodes
    if any(not np.isfinite(graph.graph.nodes[name].get("loss", np.nan)) for name in names):
        raise ConfigError("every minimum needs an attribute 'loss' that is finite.")
    total = len(names) * (len(names) - 1) // 2
    most = total if budget is None else min(total, max(budget, graph.graph.number_of_edges()))
    with report("pairs", most, graph.graph.number_of_edges()) as progress:
        while True:
            frontier = look(graph, tolerance)
            pair = strategy.choose(frontier, tolerance)
            if pair is None:
                return outcome(graph, tolerance, "bounds", strategy.prunes)
            if (
                budget is not None
                and graph.graph.number_of_edges() >= budget
                and not graph.graph.has_edge(names[pair[0]], names[pair[1]])
            ):
                return outcome(graph, tolerance, "budget", strategy.prunes)
            a, b = names[pair[0]], names[pair[1]]
            attributes = dict(join(a, b, float(frontier.upper[pair])))
            saddle = float(attributes.pop("saddle"))
            if graph.graph.has_edge(a, b):
                graph.graph.remove_edge(a, b)
            graph.add_pass(a, b, saddle if np.isfinite(saddle) else np.inf, **attributes)
            progress.advance()
            if after:
                after()


def look(graph: MinimaGraph, tolerance: float) -> Frontier:
    """What is known of all pairs.

    A pass with an attribute `accepted` was taken because it was good enough under that tolerance; under a smaller one
    its pair is open again, unless its bounds meet all the same.
    """
    losses = np.array([graph.graph.nodes[name]["loss"] for name in graph.nodes])
    place = {name: index for index, name in enumerate(graph.nodes)}
    tried = np.eye(len(place), dtype=bool)
    for a, b, attributes in graph.graph.edges(data=True):
        # Its saddle lies below any path's that could be found, up to the tolerance: the pair is settled for good.
        enough = attributes["saddle"] <= max(losses[place[a]], losses[place[b]]) + tolerance
        done = enough or not attributes.get("accepted", 0.0) > tolerance
        tried[place[a], place[b]] = tried[place[b], place[a]] = done
    distances = graph.pairs.get("distance", np.zeros_like(tried, dtype=float))
    return Frontier(np.maximum.outer(losses, losses), minimax_saddles(graph), distances, tried, losses)


def outcome(graph: MinimaGraph, tolerance: float, reason: Literal["bounds", "budget"], prunes: bool = True) -> Outcome:
    """The counts of pairs as they stand."""
    frontier = look(graph, tolerance)
    rest = np.triu(~frontier.tried, 1)
    left = rest & (frontier.gaps > tolerance) if prunes else rest
    return Outcome(reason, int((~rest & np.triu(frontier.tried, 1)).sum()), int((rest & ~left).sum()), int(left.sum()))
