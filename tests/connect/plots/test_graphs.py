"""Pictures of graphs: what is drawn, where, and in which words."""

import networkx as nx
import numpy as np
import pytest

from connect import (
    merge_tree,
)
from connect.plots.graphs import Colouring, graph_figures
from landscape.errors import ConfigError
from landscape.plots.rendering import save_figures
from tests.graphs import annotated_graph


@pytest.mark.parametrize("colour", [None, "seed", "test_accuracy", "checkpoint"])
def test_every_picture_is_drawn_by_any_attribute(colour):
    figures = graph_figures(annotated_graph(), colour)
    assert list(figures) == ["disconnectivity", "network", "saddles", "embedding"]


def test_any_names_of_minima_and_attributes_can_be_drawn(rendered, tmp_path):
    graph = annotated_graph()
    names = ["a$b$", "a_$x", "_c", r"$\frac{", "m4", "m5"]
    graph.graph = nx.relabel_nodes(graph.graph, dict(zip(graph.nodes, names, strict=True)))
    for a, b in graph.graph.edges:
        graph.graph.edges[a, b]["start"] = a
    nx.set_node_attributes(graph.graph, {name: f"${name}" for name in names}, "co$t_$")
    figures = graph_figures(graph, "co$t_$")
    assert len(save_figures(figures, tmp_path, "graph")) == len(figures)


def test_colours_tell_few_values_apart_and_many_by_a_scale():
    graph = annotated_graph()
    few = Colouring(graph, "seed")
    assert few.scale is None
    assert len(set(few.colours)) == 2
    for i, name in enumerate(graph.nodes * 1):
        graph.graph.nodes[name]["many"] = i / 7
    for extra in range(6):
        graph.add_minimum(f"x{extra}", 0.1, many=2.0 + extra)
    assert Colouring(graph, "many").scale is not None
    with pytest.raises(ConfigError, match="no minimum has an attribute 'weather'; there are"):
        Colouring(graph, "weather")


def test_the_drawn_tree_has_its_merges_at_their_heights():
    graph = annotated_graph()
    figure = graph_figures(graph)["disconnectivity"]
    tree = merge_tree(graph)
    lines = figure.axes[0].get_lines()
    flat = sorted(line.get_ydata()[0] for line in lines if np.ptp(line.get_ydata()) == 0)
    np.testing.assert_allclose(flat, np.sort(tree.heights[len(tree.leaves) :]))


def test_the_drawn_tree_says_what_is_not_known_and_how_high_a_valley_is():
    graph = annotated_graph()
    graph.facts |= {"tolerance": 10.0, "height": 10.5, "valleys": [["m0"]], "left": 3}
    figure = graph_figures(graph)["disconnectivity"]
    words = figure.get_suptitle()
    assert "merges within 10 of each other (--tolerance) are one" in words
    assert "3 pairs were left" in words
    assert "dashed: 10.5, the highest minimum and the tolerance; below it 1 valley" in words
    dashed = [line for line in figure.axes[0].get_lines() if line.get_linestyle() == "--"]
    assert [line.get_ydata()[0] for line in dashed] == [10.5]
    tree = merge_tree(graph)
    merges = sorted(tree.heights[len(tree.leaves) :])
    flat = [line for line in figure.axes[0].get_lines() if np.ptp(line.get_ydata()) == 0]
    assert {line.get_ydata()[0] for line in flat if line.get_linestyle() == "-"} == {merges[-1]}
    assert sorted(line.get_ydata()[0] for line in flat if line.get_linestyle() == ":") == merges[:-1]
    assert "dotted: the passes as they were found" in words
    graph.facts["tolerance"] = 0.0
    assert "are one" not in graph_figures(graph)["disconnectivity"].get_suptitle()
