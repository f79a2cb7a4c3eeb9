"""Which pair is joined next, against all pairs and against floods of grids."""

import itertools
import math

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from connect import (
    Band,
    MinimaGraph,
    explore,
    find_path,
    merge_tree,
    minimax_saddles,
    spanning_tree,
)
from connect.minima.exploring import Everything, LowestFirst, NearestFirst
from landscape import Potential, Recipe
from landscape.errors import ConfigError
from tests.graphs import random_graph
from tests.surfaces import flood, minima_in, stationary, surface


def known_saddles(truth):
    """What joins two minima when somebody knows the truth; counts the pairs."""
    asked = []

    def join(a, b, upper):
        asked.append((a, b))
        return {"saddle": truth.edges[a, b]["saddle"], "how": "known"}

    return join, asked


def apart(truth):
    """Only the minima of a graph, and distances that follow the saddles."""
    graph = MinimaGraph()
    for name, loss in truth.nodes(data="loss"):
        graph.add_minimum(name, loss)
    graph.pairs["distance"] = np.where(np.isfinite(found := minimax_saddles(truth)), found, 0)
    return graph


STRATEGIES = [NearestFirst, LowestFirst, Everything]


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(seed=st.integers(0, 200), tolerance=st.sampled_from([1e-9, 0.2, 1.0]))
def test_what_is_pruned_changes_the_matrix_by_no_more_than_the_tolerance(strategy, seed, tolerance):
    truth = random_graph(seed)
    graph = apart(truth)
    join, asked = known_saddles(truth)
    found = explore(graph, join, strategy(), tolerance=tolerance)
    assert found.reason == "bounds"
    assert found.fitted == len(asked) == len(set(map(frozenset, asked)))
    assert found.fitted + found.pruned == 15
    assert found.left == 0
    upper, exact = minimax_saddles(graph), minimax_saddles(truth)
    assert (upper >= exact - 1e-12).all()
    assert (upper <= exact + tolerance + 1e-12).all()
    if strategy is Everything:
        assert found.fitted == 15


@pytest.mark.parametrize("strategy", [NearestFirst, LowestFirst])
def test_components_are_joined_first_and_flat_valleys_need_no_more(strategy):
    truth = nx.complete_graph([f"m{i}" for i in range(8)])
    for i, name in enumerate(truth):
        truth.nodes[name]["loss"] = 0.001 * i
    nx.set_edge_attributes(truth, 0.009, "saddle")
    join, asked = known_saddles(truth)
    found = explore(apart(truth), join, strategy(), tolerance=0.01)
    assert (found.fitted, found.pruned, found.left) == (7, 21, 0)
    assert nx.is_connected(nx.Graph(asked))


def test_strategies_choose_by_hand():
    """Three minima on a line: the nearest pair is 1–2, the lowest minimum is 0."""
    truth = nx.Graph()
    for name, loss in (("a", 0.0), ("b", 0.5), ("c", 0.1)):
        truth.add_node(name, loss=loss)
    for pair, saddle in ((("a", "b"), 2.0), (("a", "c"), 3.0), (("b", "c"), 1.0)):
        truth.add_edge(*pair, saddle=saddle)
    orders = {}
    for strategy in STRATEGIES:
        graph = apart(truth)
        graph.pairs["distance"] = np.array([[0.0, 4, 9], [4, 0, 1], [9, 1, 0]])
        join, asked = known_saddles(truth)
        explore(graph, join, strategy(), tolerance=1e-6)
        orders[strategy] = asked
    assert orders[NearestFirst] == [("b", "c"), ("a", "b"), ("a", "c")]
    assert orders[LowestFirst] == [("a", "c"), ("a", "b"), ("b", "c")]
    assert orders[Everything] == [("b", "c"), ("a", "b"), ("a", "c")]


def test_a_budget_counts_what_is_joined_already():
    truth = random_graph(1)
    graph = apart(truth)
    join, asked = known_saddles(truth)
    first = explore(graph, join, tolerance=1e-9, budget=3)
    assert (first.reason, first.fitted) == ("budget", 3)
    assert first.left + first.pruned == 12
    assert explore(graph, join, tolerance=1e-9, budget=2).fitted == 3
    assert explore(graph, join, tolerance=1e-9, budget=5).fitted == 5
    whole = explore(graph, join, tolerance=1e-9)
    assert whole.reason == "bounds"
    assert len(asked) == len(set(asked)) == whole.fitted


def test_a_pair_that_nothing_joins_is_not_tried_again():
    truth = random_graph(2, 3)
    truth.edges["m0", "m1"]["saddle"] = truth.edges["m0", "m2"]["saddle"] = np.nan
    graph = apart(truth)
    join, asked = known_saddles(truth)
    found = explore(graph, join, tolerance=0.01)
    assert found.fitted == len(asked) == 3
    assert np.isinf(minimax_saddles(graph)[0, 1])


def test_minima_without_a_loss_are_refused():
    graph = MinimaGraph()
    graph.add_minimum("a", 1.0)
    graph.add_minimum("b", math.nan)
    with pytest.raises(ConfigError, match="finite"):
        explore(graph, lambda *_: {})


def flooded(function, minima, box):
    """The minimax saddle of every pair: water rises on a grid, and Newton's method finds the pass where it joined."""
    result = np.full((len(minima), len(minima)), np.inf)
    for i, j in itertools.combinations(range(len(minima)), 2):
        height, place = flood(function, minima[i], minima[j], box)
        result[i, j] = result[j, i] = float(function(stationary(function, place.tolist())))
        assert result[i, j] == pytest.approx(height, abs=0.02 * (1 + abs(height)))
    return result


RANDOM = np.random.default_rng(5)


CENTRES = torch.from_numpy(RANDOM.uniform(-2, 2, size=(11, 2)))


DEPTHS = torch.from_numpy(RANDOM.uniform(0.8, 2.0, size=11))


def rugged(theta):
    """A bowl with eleven random dents, drawn once for all."""
    dents = DEPTHS * torch.exp(-(theta - CENTRES).square().sum(dim=1) / 0.25)
    return 0.15 * theta.square().sum() - dents.sum()


def bands(function, minima, rate):
    """Join minima by elastic bands whose peaks climb; the pass is the highest of its images."""
    surface = Potential(function, 2)
    recipe = Recipe(epochs=100, lr=1.5 * rate, momentum=0.5, weight_decay=0.0, schedule="linear")

    def join(a, b, upper):
        band = Band(images=7, climb="all", settle=0.3)
        points = find_path(surface, minima[int(a)], minima[int(b)], band, recipe).points
        return {"saddle": float(torch.vmap(function)(points).max())}

    return join


SURFACES = {
    "Müller-Brown": (surface("Müller-Brown").function, ((-1.5, 1.1), (-0.4, 2.0)), 2e-4, 3),
    "rugged": (rugged, ((-2.6, 2.6), (-2.6, 2.6)), 0.01, 6),
}


@pytest.mark.proof
@pytest.mark.parametrize("name", SURFACES)
def test_bands_between_all_minima_find_the_passes_of_a_flood(name):
    """Minimax saddles and merge heights agree to a thousandth."""
    function, box, rate, least = SURFACES[name]
    minima = minima_in(function, box)
    assert len(minima) >= least
    graph = MinimaGraph()
    for i, minimum in enumerate(minima):
        graph.add_minimum(str(i), float(function(minimum)))
    graph.pairs["distance"] = torch.cdist(minima, minima).numpy()
    explore(graph, bands(function, minima, rate), tolerance=1e-6)
    expected = flooded(function, minima, box)
    off = ~np.eye(len(minima), dtype=bool)
    np.testing.assert_allclose(minimax_saddles(graph)[off], expected[off], atol=1e-3)
    merged = np.sort(merge_tree(graph).heights[len(minima) :])
    exact = sorted(data["saddle"] for *_, data in spanning_tree(_graph_of(expected)).edges(data=True))
    np.testing.assert_allclose(merged, exact, atol=1e-3)


def _graph_of(heights):
    graph = nx.Graph()
    for i, j in itertools.combinations(range(len(heights)), 2):
        graph.add_edge(i, j, saddle=heights[i, j])
    return graph


def test_a_smaller_tolerance_opens_what_a_larger_one_accepted():
    """A pass that was only good enough is looked for again; one that was fitted in earnest is not."""
    truth = random_graph(4)
    graph = apart(truth)
    asked = []

    def join(a, b, upper):
        asked.append(frozenset((a, b)))
        exact = truth.edges[a, b]["saddle"]
        lower = max(truth.nodes[a]["loss"], truth.nodes[b]["loss"])
        first = asked.count(frozenset((a, b))) == 1
        return {"saddle": lower + 0.9, "accepted": 1.0} if first and exact < lower + 0.9 else {"saddle": exact}

    explore(graph, join, tolerance=1.0)
    before = len(asked)
    found = explore(graph, join, tolerance=1e-9)
    assert found.left == 0
    assert len(asked) > before
    np.testing.assert_allclose(minimax_saddles(graph), minimax_saddles(truth), atol=1e-9)
    again = len(asked)
    explore(graph, join, tolerance=1e-9)
    assert len(asked) == again


def test_all_pairs_that_a_budget_leaves_are_left_where_nothing_is_pruned():
    truth = random_graph(1, 4)
    join, _ = known_saddles(truth)
    found = explore(apart(truth), join, Everything(), tolerance=100.0, budget=3)
    assert (found.reason, found.fitted, found.pruned, found.left) == ("budget", 3, 0, 3)
