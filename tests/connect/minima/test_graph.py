"""Graphs of minima in files, ours and those of other programs."""

import networkx as nx
import numpy as np
import pytest

from connect import (
    MinimaGraph,
    load_graph,
    minimax_saddles,
)
from connect.plots.graphs import Colouring, graph_figures
from landscape import Result, save_result
from landscape.errors import ResultError
from tests.graphs import annotated_graph


def test_a_graph_comes_back_from_its_file(tmp_path):
    graph = annotated_graph()
    graph.save(tmp_path / "g.h5")
    found = load_graph(tmp_path / "g.h5")
    assert found.nodes == graph.nodes
    assert dict(found.graph.nodes(data=True)) == dict(graph.graph.nodes(data=True))
    assert {frozenset((a, b)): d for a, b, d in found.passes} == {frozenset((a, b)): d for a, b, d in graph.passes}
    assert [a for a, *_ in found.passes] == [a for a, *_ in graph.passes]
    assert found.facts == graph.facts
    assert np.array_equal(found.pairs["distance"], graph.pairs["distance"])
    assert np.array_equal(minimax_saddles(found), minimax_saddles(graph))


def test_an_empty_graph_and_one_without_passes_can_be_saved(tmp_path):
    graph = MinimaGraph()
    graph.add_minimum("a", 0.5)
    graph.add_minimum("b", 0.25, note="alone")
    graph.save(tmp_path / "g.h5")
    assert dict(load_graph(tmp_path / "g.h5").graph.nodes(data=True))["b"] == {"loss": 0.25, "note": "alone"}
    graph_figures(graph)


def test_other_results_are_no_graphs(tmp_path):
    save_result(tmp_path / "x.h5", Result("profile", {}))
    with pytest.raises(ResultError, match="holds a profile, expected a graph"):
        load_graph(tmp_path / "x.h5")


def test_other_programs_can_read_the_graph(tmp_path):
    graph = annotated_graph()
    graph.graph.nodes["m0"]["nothing"] = None
    graph.export(tmp_path / "g.graphml")
    found = nx.read_graphml(tmp_path / "g.graphml")
    assert set(found) == set(graph.graph)
    for a, b, saddle in graph.graph.edges(data="saddle"):
        assert found.edges[a, b]["saddle"] == saddle
    assert found.nodes["m1"]["checkpoint"] == "m1.pt"


def test_attributes_that_some_minima_lack_come_back_as_they_were(tmp_path):
    graph = MinimaGraph()
    graph.add_minimum("own", 0.5, seed=3, done=1.5, large=2**60 + 1)
    graph.add_minimum("foreign", 0.25, large=7)
    graph.add_pass("foreign", "own", 0.7, number=2)
    graph.save(tmp_path / "g.h5")
    found = load_graph(tmp_path / "g.h5")
    assert dict(found.graph.nodes(data=True)) == dict(graph.graph.nodes(data=True))
    assert [(a, b) for a, b, _ in found.passes] == [("foreign", "own")]
    colouring = Colouring(found, "seed")
    assert len(set(map(str, colouring.colours))) == 2
    graph_figures(found, "seed")


def test_names_that_are_no_text_keep_the_direction_of_their_passes(tmp_path):
    graph = MinimaGraph()
    for number in range(3):
        graph.add_minimum(number, 0.1 * number)
    graph.add_pass(2, 0, 0.7)
    graph.save(tmp_path / "g.h5")
    assert [(a, b) for a, b, _ in load_graph(tmp_path / "g.h5").passes] == [("2", "0")]


def test_names_with_characters_that_xml_lacks_are_exported_in_words(tmp_path):
    names = ["a\x07b", "a\x08b", "tab\there", "ü <&> 名", "broken \udcff", "nul-like \ufffe"]
    graph = MinimaGraph()
    for name in names:
        graph.add_minimum(name, loss=1.0, checkpoint=f"/runs/{name}.pt", **{f"key {name}": name})
    graph.add_pass(names[0], names[1], 2.0, note=names[0])
    graph.export(tmp_path / "g.graphml")
    found = nx.read_graphml(tmp_path / "g.graphml")
    told = ["a\\x07b", "a\\x08b", "tab\there", "ü <&> 名", "broken \\udcff", "nul-like \\ufffe"]
    assert list(found.nodes) == told
    assert [found.nodes[name]["checkpoint"] for name in told] == [f"/runs/{name}.pt" for name in told]
    assert found.nodes[told[0]][f"key {told[0]}"] == told[0]
    assert found.edges[told[0], told[1]]["note"] == told[0]
