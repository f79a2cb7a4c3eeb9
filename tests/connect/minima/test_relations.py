"""Clusters and rank correlations of known matrices."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster

from connect import (
    MinimaGraph,
    clusters,
    minimax_saddles,
    relations,
)
from tests.graphs import random_graph


@given(st.integers(0, 100))
def test_single_linkage_of_saddles_gives_the_valleys(seed):
    graph = random_graph(seed)
    tree = clusters(minimax_saddles(graph), "single")
    for height in (0.5, 1.0, 1.5):
        named = fcluster(tree, height, "distance")
        heights = minimax_saddles(graph)
        for i, j in itertools.combinations(range(6), 2):
            assert (named[i] == named[j]) == (heights[i, j] <= height)


def test_rank_correlations_of_known_matrices():
    graph = MinimaGraph(random_graph(7))
    heights = minimax_saddles(graph)
    graph.pairs = {"distance": np.exp(heights), "disagreement": -heights, "nothing": np.ones_like(heights)}
    found = {(r.one, r.other): r for r in relations(graph)}
    assert found["saddle", "distance"].correlation == pytest.approx(1)
    assert found["saddle", "disagreement"].correlation == pytest.approx(-1)
    assert math.isnan(found["saddle", "nothing"].correlation)
    assert found["saddle", "distance"].pairs == 15


@pytest.mark.parametrize(("count", "said"), [(2, False), (3, False), (4, True)])
def test_an_order_that_chance_makes_is_no_correlation(count, said):
    """Three pairs are in perfect order once in six times; of four minima there are six pairs."""
    graph = MinimaGraph(random_graph(7, count))
    graph.pairs = {"distance": np.arange(count**2, dtype=float).reshape(count, count)}
    (relation,) = relations(graph)
    assert relation.pairs == count * (count - 1) // 2
    assert math.isnan(relation.correlation) != said


def test_one_minimum_has_no_clusters():
    assert clusters(np.zeros((1, 1))).shape == (0, 4)
    apart_ = np.array([[0.0, 0.1, np.inf], [0.1, 0, np.inf], [np.inf, np.inf, 0]])
    assert clusters(apart_, "single")[-1, 2] == pytest.approx(1.2)
