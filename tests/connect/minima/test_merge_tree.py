"""The merge tree against the minimax saddles that it stands for."""

import itertools

import networkx as nx
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from connect import (
    MinimaGraph,
    explore,
    merge_tree,
)
from tests.graphs import GRAPHS, brute_force


@given(GRAPHS)
def test_the_merge_tree_has_exact_heights(graph):
    """The lowest merge over two leaves lies at their minimax saddle, and the drawing crosses no branches."""
    tree, heights = merge_tree(graph), brute_force(graph)
    count = len(tree.leaves)
    under = {part: {part} for part in range(count)}
    for number, (left, right) in enumerate(tree.merges.tolist()):
        under[count + number] = under[left] | under[right]
        assert not under[left] & under[right]
    for i, j in itertools.combinations(range(count), 2):
        over = [part for part in under if {i, j} <= under[part]]
        expected = heights[i, j]
        assert (tree.heights[over[0]] if over else np.inf) == expected
    assert tree.heights[:count].tolist() == [graph.nodes[name]["loss"] for name in tree.leaves]
    assert (np.diff(tree.heights[count:]) >= 0).all()
    assert sorted(tree.order.tolist()) == list(range(count))
    x = tree.positions()
    for part, leaves in under.items():
        places = sorted(x[leaf] for leaf in leaves)
        assert places[-1] - places[0] == len(leaves) - 1
        assert places[0] <= x[part] <= places[-1]


def clusters_of(tree):
    """The sets of leaves that a drawing of a tree shows apart: those under a merge with a longer line above it."""
    count = len(tree.leaves)
    under = {part: {part} for part in range(count)}
    above = np.full(len(tree.heights), np.inf)
    for number, (left, right) in enumerate(tree.merges.tolist()):
        under[count + number] = under[left] | under[right]
        above[[left, right]] = tree.heights[count + number]
    return {frozenset(under[part]) for part in under if above[part] > tree.heights[part] or part < count}


def explored(saddles, losses, tolerance):
    """The graph of minima whose passes have known heights, explored to a tolerance."""
    graph = MinimaGraph()
    for i, loss in enumerate(losses):
        graph.add_minimum(i, loss)
    explore(graph, lambda a, b, upper: {"saddle": saddles[a, b]}, tolerance=tolerance)
    return graph


def test_the_drawn_tree_shows_apart_only_what_the_tolerance_determines():
    """Whatever was left out, what is drawn apart is apart in the tree of all passes; the tree as it is says more."""
    too_much = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        losses = random.uniform(0.0, 0.3, 7)
        above = random.uniform(0.0, 1.0, (7, 7))
        saddles = np.maximum.outer(losses, losses) + np.minimum(above, above.T)
        true = clusters_of(merge_tree(explored(saddles, losses, 1e-9)))
        drawn = []
        for tolerance in (0.3, 0.1, 0.03):
            tree = merge_tree(explored(saddles, losses, tolerance))
            too_much += not clusters_of(tree) <= true
            drawn.append(clusters_of(tree.within(tolerance)))
            assert drawn[-1] <= true
        assert len(drawn[0]) <= len(drawn[2])
    assert too_much > 10


@given(GRAPHS, st.floats(0, 1))
def test_merges_within_a_tolerance_become_one(graph, tolerance):
    tree = merge_tree(graph)
    merged = tree.within(tolerance)
    count = len(tree.leaves)
    assert (merged.heights >= tree.heights).all()
    assert merged.heights[:count].tolist() == tree.heights[:count].tolist()
    for number, parts in enumerate(merged.merges.tolist()):
        for part in parts:
            gap = merged.heights[count + number] - merged.heights[part]
            assert part < count or gap == 0 or gap > tolerance * (1 - 1e-9)
    assert sorted(merged.order.tolist()) == list(range(count))
    x = merged.positions()
    for cluster in clusters_of(merged):  # no branches cross
        places = sorted(x[leaf] for leaf in cluster)
        assert places[-1] - places[0] == len(cluster) - 1
    hanging = {
        (x[part], merged.heights[count + number])
        for number, parts in enumerate(merged.merges.tolist())
        for part in parts
        if part < count or merged.heights[part] < merged.heights[count + number]
    }
    bars = merged.bars()
    for place, height in hanging:  # every line upwards ends at a bar, and bars end at such lines
        assert ((bars[:, 0] <= place) & (place <= bars[:, 1]) & (bars[:, 2] == height)).sum() == 1
    for start, end, height in bars:
        assert {(start, height), (end, height)} <= hanging
    joined = [component for component in nx.connected_components(graph) if len(component) > 1]
    assert len(set(tree.within(np.inf).heights[count:])) == len(joined)
    again = tree.within(0.0)
    assert np.array_equal(again.heights, tree.heights)
