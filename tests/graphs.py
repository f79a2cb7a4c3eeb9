"""Random graphs of minima, and their saddles by brute force."""

import itertools

import networkx as nx
import numpy as np
from hypothesis import strategies as st

from connect import (
    MinimaGraph,
)


def random_graph(seed, count=6, share=1.0):
    """Minima with random losses and passes above them; only a share of the pairs is joined."""
    random = np.random.default_rng(seed)
    graph = nx.Graph()
    for i in range(count):
        graph.add_node(f"m{i}", loss=float(random.uniform(0, 1)))
    for a, b in itertools.combinations(graph, 2):
        if random.random() < share:
            higher = max(graph.nodes[a]["loss"], graph.nodes[b]["loss"])
            graph.add_edge(a, b, saddle=higher + float(random.exponential()))
    return graph


def brute_force(graph):
    """The least maximum over all simple chains of passes."""
    names = list(graph)
    heights = np.full((len(names), len(names)), np.inf)
    for i, j in itertools.combinations(range(len(names)), 2):
        ways = nx.all_simple_paths(graph, names[i], names[j])
        tops = [max(graph.edges[pair]["saddle"] for pair in itertools.pairwise(way)) for way in ways]
        heights[i, j] = heights[j, i] = min(tops, default=np.inf)
    for i, name in enumerate(names):
        heights[i, i] = graph.nodes[name].get("loss", np.nan)
    return heights


GRAPHS = st.builds(random_graph, st.integers(0, 400), st.integers(1, 6), st.sampled_from([0.3, 0.6, 1.0]))


def annotated_graph(seed=0):
    """A graph with everything that a run leaves."""
    graph = MinimaGraph(random_graph(seed, share=0.8), provenance={"problem": {"model": "mlp"}})
    for i, name in enumerate(graph.nodes):
        graph.graph.nodes[name].update(checkpoint=f"{name}.pt", seed=i % 2, test_accuracy=0.9 + 0.01 * i)
    for a, b in graph.graph.edges:
        graph.graph.edges[a, b].update(start=b, how="bezier", barrier=0.1, path="x.safetensors")
    random = np.random.default_rng(0)
    graph.pairs = {"distance": random.random((6, 6))}
    graph.marks = {"minima": random.random((6, 2)), "path 0 1": random.random((65, 2))}
    graph.facts = {"split": "train", "embedding_explained": 0.7}
    return graph
