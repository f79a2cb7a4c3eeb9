"""Graphs of minima against brute force: chains of passes, floods of grids, every subset of minima."""

import itertools
import math

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster

from connect import (
    Band,
    Bezier,
    MinimaGraph,
    Path,
    PolygonalChain,
    centrality,
    clusters,
    embed,
    explore,
    find_path,
    load_graph,
    lowest_path,
    merge_tree,
    minimax_saddles,
    relations,
    spanning_tree,
    valleys,
)
from connect.minima.ensembles import choose_members, compare_ensembles
from connect.minima.exploring import Everything, LowestFirst, NearestFirst
from connect.plots.graphs import Colouring, graph_figures
from landscape import Potential, Recipe, Result, save_result
from landscape.errors import ConfigError, ResultError
from landscape.plots.rendering import save_figures
from landscape.risk.predictions import negative_log_likelihood
from tests.surfaces import flood, minima_in, stationary, surface


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


# ------------------------------------------------------------------ analysis


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


# ------------------------------------------------------------------ which pair next


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


# ------------------------------------------------------------------ surfaces


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


# ------------------------------------------------------------------ files and pictures


def told(seed=0):
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


def test_a_graph_comes_back_from_its_file(tmp_path):
    graph = told()
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
    graph = told()
    graph.graph.nodes["m0"]["nothing"] = None
    graph.export(tmp_path / "g.graphml")
    found = nx.read_graphml(tmp_path / "g.graphml")
    assert set(found) == set(graph.graph)
    for a, b, saddle in graph.graph.edges(data="saddle"):
        assert found.edges[a, b]["saddle"] == saddle
    assert found.nodes["m1"]["checkpoint"] == "m1.pt"


@pytest.mark.parametrize("colour", [None, "seed", "test_accuracy", "checkpoint"])
def test_every_picture_is_drawn_by_any_attribute(colour):
    figures = graph_figures(told(), colour)
    assert list(figures) == ["disconnectivity", "network", "saddles", "embedding"]


def test_any_names_of_minima_and_attributes_can_be_drawn(rendered, tmp_path):
    graph = told()
    names = ["a$b$", "a_$x", "_c", r"$\frac{", "m4", "m5"]
    graph.graph = nx.relabel_nodes(graph.graph, dict(zip(graph.nodes, names, strict=True)))
    for a, b in graph.graph.edges:
        graph.graph.edges[a, b]["start"] = a
    nx.set_node_attributes(graph.graph, {name: f"${name}" for name in names}, "co$t_$")
    figures = graph_figures(graph, "co$t_$")
    assert len(save_figures(figures, tmp_path, "graph")) == len(figures)


def test_colours_tell_few_values_apart_and_many_by_a_scale():
    graph = told()
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
    graph = told()
    figure = graph_figures(graph)["disconnectivity"]
    tree = merge_tree(graph)
    lines = figure.axes[0].get_lines()
    flat = sorted(line.get_ydata()[0] for line in lines if np.ptp(line.get_ydata()) == 0)
    np.testing.assert_allclose(flat, np.sort(tree.heights[len(tree.leaves) :]))


def test_the_drawn_tree_says_what_is_not_known_and_how_high_a_valley_is():
    graph = told()
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


# ------------------------------------------------------------------ embedding and ensembles


def test_an_embedding_is_that_of_principal_components():
    """Against a singular value decomposition of the centred points, up to signs."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(7, 40, generator=generator, dtype=torch.float64)
    path = Path(torch.randn(4, 40, generator=generator, dtype=torch.float64), Bezier(4))
    found = embed(points, [("p", path), ("line", Path(points[[0, 3]], PolygonalChain(2)))])
    centred = points - points.mean(dim=0)
    _, values, axes = torch.linalg.svd(centred, full_matrices=False)
    expected = (centred @ axes[:2].T).numpy()
    trace = torch.stack([path(t) for t in np.linspace(0, 1, 65)]) - points.mean(dim=0)
    traced = (trace @ axes[:2].T).numpy()
    for k in range(2):
        sign = np.sign(expected[0, k] * found.minima[0, k])
        np.testing.assert_allclose(sign * found.minima[:, k], expected[:, k], atol=1e-9)
        np.testing.assert_allclose(sign * found.paths["p"][:, k], traced[:, k], atol=1e-9)
    np.testing.assert_allclose(found.paths["line"][[0, -1]], found.minima[[0, 3]], atol=1e-9)
    assert found.explained == pytest.approx(float(values[:2].square().sum() / values.square().sum()))


def test_two_minima_lie_on_a_line():
    found = embed(torch.tensor([[0.0, 0, 0], [3.0, 4, 0]]).double())
    assert np.linalg.norm(found.minima[0] - found.minima[1]) == pytest.approx(5)
    assert np.allclose(found.minima[:, 1], 0)
    assert found.explained == pytest.approx(1)


def voters(count=6, classes=3, examples=200, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (examples,), generator=generator)
    skill = torch.rand(count, generator=generator)
    scores = torch.randn(count, examples, classes, generator=generator)
    scores[:, torch.arange(examples), labels] += 1 + skill[:, None]
    return list(scores.log_softmax(dim=2)), labels


def test_members_are_chosen_as_an_exhaustive_greedy_search_would():
    predictions, labels = voters()

    def nll(members):
        return negative_log_likelihood(torch.stack([predictions[i].exp() for i in members]).mean(dim=0).log(), labels)

    expected = []
    for _ in range(3):
        rest = [i for i in range(6) if i not in expected]
        expected.append(min(rest, key=lambda i: nll([*expected, i])))
    assert choose_members(predictions, labels, range(6), 3) == expected


def test_ensembles_are_scored_on_examples_that_did_not_choose_them():
    predictions, labels = voters()
    found = compare_ensembles(predictions, labels, [[0, 1, 2, 3], [4], [5]], 3)
    assert set(found) == {
        "best", "random", "best within a valley", "random within a valley", "best across valleys"
    }  # fmt: skip
    assert set(found["best within a valley"].members) <= {0, 1, 2, 3}
    across = found["best across valleys"].members
    assert {4, 5} <= set(across)
    assert found["best"].nll < found["random"].nll
    random = np.random.default_rng(0)
    choosing = torch.from_numpy(random.permutation(200) < 100)
    best = choose_members([p[choosing] for p in predictions], labels[choosing], range(6), 3)
    assert list(found["best"].members) == best
    mean = torch.stack([predictions[i][~choosing].exp() for i in best]).mean(dim=0)
    assert found["best"].nll == pytest.approx(negative_log_likelihood(mean.log(), labels[~choosing]), rel=1e-5)
    assert set(compare_ensembles(predictions, labels, [[0, 1], [2, 3, 4, 5]][::-1], 5)) == {"best", "random"}


# ------------------------------------------------------------------ what attacks found


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


def test_a_saddle_below_a_minimum_joins_nothing_below_that():
    graph = nx.Graph()
    graph.add_node("a", loss=0.1)
    graph.add_node("b", loss=0.5)
    graph.add_edge("a", "b", saddle=0.45)
    assert valleys(graph, 0.47) == [{"a"}]


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


def test_one_minimum_has_no_clusters():
    assert clusters(np.zeros((1, 1))).shape == (0, 4)
    apart_ = np.array([[0.0, 0.1, np.inf], [0.1, 0, np.inf], [np.inf, np.inf, 0]])
    assert clusters(apart_, "single")[-1, 2] == pytest.approx(1.2)


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
