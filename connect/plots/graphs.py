"""Pictures of a graph of minima: the tree of its valleys, the network of its passes, its saddles, and its plane."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from connect.minima.graph import MinimaGraph
from connect.minima.merge_tree import MergeTree, merge_tree
from connect.minima.saddles import minimax_saddles, ordered_passes
from landscape.errors import ConfigError
from landscape.plots.captions import describe
from landscape.plots.registry import Drawing
from landscape.plots.rendering import legend_label, new_figure
from landscape.storage.results import Array, Result

_FEW_VALUES, _SMALL, _ASIDE, _LONGEST = 8, 1e-12, 0.3, 24
_MAP = "viridis"
_DISTINCT = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")


class Colouring:
    """A colour for each minimum, by one of its attributes, or the same for all; raises ConfigError if none has it."""

    def __init__(self, graph: MinimaGraph, attribute: str | None) -> None:
        self.attribute = attribute
        nodes = graph.graph.nodes(data=True)
        values = [attributes.get(attribute or "") for _, attributes in nodes]
        if attribute is not None and all(value is None for value in values):
            names = sorted({name for _, attributes in nodes for name in attributes})
            raise ConfigError(f"no minimum has an attribute {attribute!r}; there are {', '.join(names)}.")
        self.kinds = list(dict.fromkeys(values))
        numbers = [float(v) for v in self.kinds if isinstance(v, int | float) and np.isfinite(v)]
        self.scale: ScalarMappable | None = None
        if len(self.kinds) > _FEW_VALUES and len(numbers) == len(self.kinds):
            self.scale = ScalarMappable(Normalize(min(numbers), max(numbers)), "plasma")
        self.colours: list[Any] = [self._colour(value) for value in values]

    def _colour(self, value: Any) -> Any:
        if self.scale:
            return self.scale.to_rgba(value)
        return _DISTINCT[self.kinds.index(value) % len(_DISTINCT)]

    def legend(self, figure: Figure, axes: Axes) -> None:
        """Say what the colours mean, if they mean anything."""
        if self.attribute is None:
            return
        name = self.attribute.replace("_", " ")
        if self.scale:
            figure.colorbar(self.scale, ax=axes, label=name)
            return
        marks = [
            Line2D([], [], marker="o", linestyle="", color=self._colour(kind), label=legend_label(_said(kind)))
            for kind in self.kinds
        ]
        figure.legend(handles=marks, title=name, fontsize=7, title_fontsize=7, loc="outside right upper")


def graph_pictures(result: Result, drawing: Drawing) -> dict[str, Figure]:
    """All pictures of a result of kind "graph", by name; minima are coloured by the attribute `drawing.colour`."""
    return graph_figures(MinimaGraph.from_result(result), drawing.colour)


def graph_figures(graph: MinimaGraph, colour: str | None = None) -> dict[str, Figure]:
    """All pictures of a graph with at least one minimum, by name, coloured by an attribute.

    Raises:
        ConfigError: no minimum has the attribute.
    """
    colouring = Colouring(graph, colour)
    tree = merge_tree(graph)
    figures = {
        "disconnectivity": disconnectivity_figure(graph, tree, colouring),
        "network": network_figure(graph, tree, colouring),
        "saddles": saddles_figure(graph, tree),
    }
    if "minima" in graph.marks:
        figures["embedding"] = embedding_figure(graph, colouring)
    return figures


def disconnectivity_figure(graph: MinimaGraph, tree: MergeTree, colouring: Colouring) -> Figure:
    """The merge tree of the minima, leaves at their own loss and merges at their saddles.

    Merges whose order the tolerance of the graph does not determine are drawn as one, and dotted as they were found.
    """
    figure = new_figure(max(4.6, 1.8 + 0.5 * len(tree.leaves)), 4.2)
    axes = figure.add_subplot()
    tolerance = float(graph.facts.get("tolerance", 0.0))
    shown = tree.within(tolerance)
    draw_tree(axes, shown, colouring.colours)
    draw_found(axes, tree, shown)
    axes.set_ylabel(f"{_split(graph)} loss")
    colouring.legend(figure, axes)
    noted = [_joined(graph), *_tree_notes(graph, tree, shown, tolerance)]
    if "height" in graph.facts:
        axes.axhline(graph.facts["height"], color="0.5", linestyle="--", linewidth=0.8, zorder=0)
    figure.suptitle(_title(graph, "\n".join(noted)), fontsize=7, color="0.35")
    return figure


def _tree_notes(graph: MinimaGraph, tree: MergeTree, shown: MergeTree, tolerance: float) -> list[str]:
    """What of the tree is not known, and what the dashed line across it is."""
    noted = []
    if not np.array_equal(tree.heights, shown.heights):
        noted.append(f"merges within {tolerance:.3g} of each other (--tolerance) are one: their order is not known")
        noted.append("dotted: the passes as they were found")
    if left := graph.facts.get("left"):
        noted.append(f"{left} pairs were left when the budget was spent: merges may lie lower")
    if "height" in graph.facts:
        valleys = len(graph.facts["valleys"])
        noted.append(
            f"dashed: {graph.facts['height']:.3g}, the highest minimum and the tolerance; below it "
            f"{valleys} valley{'' if valleys == 1 else 's'}"
        )
    return noted


def draw_tree(axes: Axes, tree: MergeTree, colours: Sequence[Any]) -> list[Line2D]:
    """The merge tree: vertical lines from each leaf, in its colour, or merge up to the merge above it."""
    x, heights, count = tree.positions(), tree.heights, len(tree.leaves)
    lines: list[Line2D] = []
    above = {int(part): count + number for number, parts in enumerate(tree.merges) for part in parts}
    positive = bool((heights > 0).all())
    top = heights.max() * 1.3 if positive else heights.max() + 0.05 * max(float(np.ptp(heights)), _SMALL)
    for part in range(len(heights)):
        end = heights[above[part]] if part in above else top
        shade = colours[part] if part < count else "0.3"
        lines += axes.plot([x[part], x[part]], [heights[part], end], color=shade, linewidth=1.4, zorder=2)
    for start, end, height in tree.bars():
        lines += axes.plot([start, end], [height, height], color="0.3", linewidth=1.4, zorder=1)
    axes.scatter(x[:count], heights[:count], c=list(colours), s=28, zorder=3)
    axes.set_xticks(x[:count], [str(name) for name in tree.leaves], rotation=60, ha="right", fontsize=7)
    if positive and heights.max() > 3 * heights.min():
        axes.set_yscale("log")
    axes.grid(alpha=0.25, axis="y")
    return lines


def draw_found(axes: Axes, tree: MergeTree, shown: MergeTree) -> list[Line2D]:
    """Dotted, the merges of a tree as they were found that `MergeTree.within` shows as one with those above them."""
    x, heights, count = tree.positions(), tree.heights, len(tree.leaves)
    above = {int(part): count + number for number, parts in enumerate(tree.merges) for part in parts}
    lines: list[Line2D] = []
    for part in np.flatnonzero(heights < shown.heights).tolist():
        ends = x[tree.merges[part - count]]
        lines += axes.plot(ends, np.full(2, heights[part]), ":", color="0.3", linewidth=1.0, zorder=1)
        lines += axes.plot(np.full(2, x[part]), heights[[part, above[part]]], ":", color="0.3", linewidth=1.0, zorder=1)
    return lines


def network_figure(graph: MinimaGraph, tree: MergeTree, colouring: Colouring) -> Figure:
    """The minima on a circle, in the order of the tree, with their passes coloured by barrier."""
    figure = new_figure(6.4, 5.0)
    axes = figure.add_subplot()
    angles = np.empty(len(tree.leaves))
    angles[tree.order] = 2 * np.pi * np.arange(len(tree.leaves)) / max(len(tree.leaves), 1)
    shown = draw_network(axes, graph, np.column_stack([np.cos(angles), np.sin(angles)]), colouring.colours)
    if shown:
        figure.colorbar(shown, ax=axes, label=f"barrier ({_split(graph)} loss)", shrink=0.8)
    colouring.legend(figure, axes)
    note = "thick: the minimum spanning tree · dotted: joined by the straight line"
    figure.suptitle(_title(graph, f"{_joined(graph)}\n{note}"), fontsize=7, color="0.35")
    return figure


def draw_network(axes: Axes, graph: MinimaGraph, places: Array, colours: Sequence[Any]) -> ScalarMappable | None:
    """Minima as points at places `[n, 2]`, and passes as lines; returns the colours of the barriers, if any."""
    place = dict(zip(graph.nodes, places, strict=True))
    tree = {frozenset((a, b)) for a, b, _ in ordered_passes(graph)}
    barriers = [float(attributes.get("barrier", np.nan)) for *_, attributes in graph.passes]
    shown = ScalarMappable(_scale(barriers), _MAP) if barriers else None
    for (a, b, attributes), barrier in zip(graph.passes, barriers, strict=True):
        ends = np.array([place[a], place[b]])
        axes.plot(
            *ends.T,
            color=shown.to_rgba(np.array(barrier)) if shown and np.isfinite(barrier) else "0.7",
            linewidth=3.0 if frozenset((a, b)) in tree else 1.0,
            linestyle=":" if attributes.get("how") == "straight line" else "-",
            zorder=1,
        )
    axes.scatter(places[:, 0], places[:, 1], c=list(colours), s=60, edgecolors="white", zorder=2)
    for name, (x, y) in place.items():
        side = "left" if x > _ASIDE else "right" if x < -_ASIDE else "center"
        axes.annotate(str(name), (x, y), (1.08 * x, 1.1 * y), fontsize=7, ha=side, va="center")
    axes.set(aspect="equal", xlim=(-1.8, 1.8), ylim=(-1.2, 1.2))
    axes.set_axis_off()
    return shown


def saddles_figure(graph: MinimaGraph, tree: MergeTree) -> Figure:
    """The minimax saddle of every pair, in the order of the tree."""
    size = 2.6 + 0.36 * len(tree.leaves)
    figure = new_figure(size + 1.2, size)
    axes = figure.add_subplot()
    heights = minimax_saddles(graph)[np.ix_(tree.order, tree.order)]
    image = draw_saddles(axes, heights, [str(tree.leaves[i]) for i in tree.order])
    figure.colorbar(image, ax=axes, label=f"minimax saddle ({_split(graph)} loss)")
    figure.suptitle(_title(graph, "on the diagonal each minimum's own loss"), fontsize=7, color="0.35")
    return figure


def draw_saddles(axes: Axes, heights: Array, names: Sequence[str]) -> ScalarMappable:
    """A heat map of heights `[n, n]`; pairs that nothing joins stay white."""
    shown = np.where(np.isfinite(heights), heights, np.nan)
    image = axes.imshow(shown, norm=_scale(shown.ravel()), cmap=_MAP)
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    return image


def embedding_figure(graph: MinimaGraph, colouring: Colouring) -> Figure:
    """Minima and paths in the plane of the minima's first two principal components."""
    figure = new_figure(7.2, 4.8)
    figure.set_layout_engine("compressed")
    axes = figure.add_subplot()
    draw_embedding(axes, graph, colouring.colours)
    colouring.legend(figure, axes)
    share = graph.facts.get("embedding_explained")
    note = f"the plane holds {share:.0%} of the minima's variance" if share is not None else ""
    figure.suptitle(_title(graph, note), fontsize=7, color="0.35")
    return figure


def draw_embedding(axes: Axes, graph: MinimaGraph, colours: Sequence[Any]) -> list[Line2D]:
    """Minima as points and the projections of their paths as lines, coloured by barrier."""
    place = {str(name): index for index, name in enumerate(graph.nodes)}
    barriers = [float(attributes.get("barrier", np.nan)) for *_, attributes in graph.passes]
    shown = ScalarMappable(_scale(barriers), _MAP)
    lines: list[Line2D] = []
    for (a, b, _), barrier in zip(graph.passes, barriers, strict=True):
        trace = graph.marks.get(f"path {place[str(a)]} {place[str(b)]}")
        if trace is not None:
            colour = shown.to_rgba(np.array(barrier)) if np.isfinite(barrier) else "0.7"
            lines += axes.plot(*trace.T, color=colour, linewidth=1.5, zorder=1)
    minima = graph.marks["minima"]
    axes.scatter(minima[:, 0], minima[:, 1], c=list(colours), s=50, edgecolors="white", zorder=2)
    names = list(place)
    for rank, index in enumerate(np.argsort(minima[:, 0])):  # names of neighbours lie to the left and right in turn
        aside, side = (-6, "right") if rank % 2 == 0 else (6, "left")
        axes.annotate(
            names[index], minima[index], (aside, 0), textcoords="offset points", fontsize=7, ha=side, va="center"
        )
    axes.set(xlabel="first principal component", ylabel="second principal component", aspect="equal")
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.margins(0.35, 0.1)
    axes.grid(alpha=0.25)
    if lines:
        axes.figure.colorbar(shown, ax=axes, label=f"barrier ({_split(graph)} loss)", shrink=0.8)
    return lines


def _scale(values: Sequence[float] | Array) -> Normalize:
    """Logarithmic where all values are positive and far apart."""
    finite = np.asarray(values, dtype=float)
    finite = finite[np.isfinite(finite)]
    if not len(finite):
        return Normalize(0, 1)
    low, high = float(finite.min()), float(finite.max())
    if low > 0 and high > 3 * low:
        return LogNorm(low, high)
    return Normalize(low, high if high > low else low + max(abs(low), _SMALL))


def _split(graph: MinimaGraph) -> str:
    return str(graph.facts.get("split", "")).strip()


def _joined(graph: MinimaGraph) -> str:
    count = graph.graph.number_of_nodes()
    pairs = count * (count - 1) // 2
    return f"{count} minima, {graph.graph.number_of_edges()} of {pairs} pairs joined"


def _title(graph: MinimaGraph, note: str) -> str:
    return "\n".join(filter(None, [describe(graph.provenance), note]))


def _said(value: Any) -> str:
    if value is None:
        return "not known"
    return f"{value:g}" if isinstance(value, int | float) else str(value)[:_LONGEST]
