"""Saddles, paths and valleys against all chains of passes."""

import itertools

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connect import (
    MinimaGraph,
    centrality,
    lowest_path,
    merge_tree,
    minimax_saddles,
    relations,
    spanning_tree,
    valleys,
)
from landscape.errors import ConfigError
from tests.graphs import GRAPHS, brute_force, random_graph


@given(GRAPHS)
def test_minimax_saddles_against_all_chains(graph):
    np.testing.assert_allclose(minimax_saddles(graph), brute_force(graph))


@given(GRAPHS)
def test_the_lowest_path_attains_the_minimax_saddle(graph):
    names, heights = list(graph), minimax_saddles(graph)
    for i, j in itertools.combinations(range(len(names)), 2):
        if np.isinf(heights[i, j]):
            with pytest.raises(ConfigError, match="no chain of passes"):
                lowest_path(graph, names[i], names[j])
            continue
        way = lowest_path(graph, names[i], names[j])
        assert (way[0], way[-1]) == (names[i], names[j])
        assert max(graph.edges[pair]["saddle"] for pair in itertools.pairwise(way)) == heights[i, j]


@given(GRAPHS, st.floats(0, 2))
def test_valleys_are_those_that_no_minimax_saddle_divides(graph, height):
    found = valleys(graph, height)
    names, heights = list(graph), brute_force(graph)
    low = [i for i in range(len(names)) if graph.nodes[names[i]]["loss"] <= height]
    assert sorted(itertools.chain(*found)) == sorted(names[i] for i in low)
    for i, j in itertools.combinations(low, 2):
        together = any({names[i], names[j]} <= valley for valley in found)
        assert together == (heights[i, j] <= height)
    assert [len(valley) for valley in found] == sorted((len(valley) for valley in found), reverse=True)


def test_attributes_that_are_missing_are_named():
    graph = nx.Graph()
    graph.add_edge("a", "b")
    with pytest.raises(ConfigError, match="between a and b has no attribute 'saddle'"):
        spanning_tree(graph)
    graph.add_edge("a", "b", saddle=1.0)
    assert np.isnan(minimax_saddles(graph)[0, 0])
    with pytest.raises(ConfigError, match="a has no attribute 'loss'"):
        merge_tree(graph)
    with pytest.raises(ConfigError, match="no chain"):
        lowest_path(graph, "a", "nobody")


def test_passes_of_infinite_height_join_nothing():
    graph = random_graph(3, 3)
    graph.edges["m0", "m1"]["saddle"] = graph.edges["m0", "m2"]["saddle"] = np.inf
    assert np.isinf(minimax_saddles(graph)[0, 1:]).all()
    assert len(valleys(graph, np.inf)) == 2
    assert len(merge_tree(graph).merges) == 1


@given(st.integers(0, 100))
def test_a_wrapped_graph_and_a_plain_one_say_the_same(seed):
    plain = random_graph(seed)
    wrapped = MinimaGraph(plain)
    assert np.array_equal(minimax_saddles(plain), minimax_saddles(wrapped))
    assert valleys(plain, 0.8) == valleys(wrapped, 0.8)
    assert centrality(plain) == centrality(wrapped)
    assert lowest_path(plain, "m0", "m4") == lowest_path(wrapped, "m0", "m4")
    assert np.array_equal(merge_tree(plain).merges, merge_tree(wrapped).merges)
    assert relations(plain) == relations(wrapped) == []


def test_centrality_counts_the_lowest_paths_through_a_minimum():
    graph = random_graph(5)
    shares = centrality(graph)
    for name in graph:
        others = [other for other in graph if other != name]
        pairs = list(itertools.combinations(others, 2))
        through = sum(name in lowest_path(graph, a, b) for a, b in pairs)
        assert shares[name] == pytest.approx(through / len(pairs))


def test_a_saddle_below_a_minimum_joins_nothing_below_that():
    graph = nx.Graph()
    graph.add_node("a", loss=0.1)
    graph.add_node("b", loss=0.5)
    graph.add_edge("a", "b", saddle=0.45)
    assert valleys(graph, 0.47) == [{"a"}]
