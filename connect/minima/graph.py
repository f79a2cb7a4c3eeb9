"""The graph of minima: its nodes are trained networks, its edges the passes that were found between them.

It is saved as one result of tables: numbers of minima and of passes as arrays, words as facts, so that every picture
and every analysis comes from the file alone.
"""

import os
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import networkx as nx
import numpy as np

from landscape.errors import ResultError
from landscape.storage.files import write_atomically
from landscape.storage.results import Array, Result, Sweep
from landscape.storage.store import load_result, save_result

Attributes = dict[str, Any]
if TYPE_CHECKING:
    Graph: TypeAlias = "nx.Graph[Any]"  # generic in its stubs alone
else:
    Graph = nx.Graph
_LOSS = "loss"
_NOT_IN_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_RESERVED = {"done", "number", "a", "b"}  # names of a table's own arrays


@dataclass
class MinimaGraph:
    """Minima and the passes between them, around a `networkx.Graph`.

    Example:
        >>> graph = MinimaGraph()
        >>> graph.add_minimum("a", loss=0.1)
        >>> graph.add_minimum("b", loss=0.2)
        >>> graph.add_pass("a", "b", saddle=0.7)
        >>> graph.nodes, [(a, b, attributes["saddle"]) for a, b, attributes in graph.passes]
        (['a', 'b'], [('a', 'b', 0.7)])

    Attributes:
        graph: a node for each minimum, with its attribute `loss`; an edge for each pair that was joined, with its
            attribute `saddle`, the largest loss along the path, and `start`, the minimum at t = 0.
        pairs: quantities of all pairs of minima `[n, n]` by name, in the order of the nodes, such as `distance`.
        marks: where minima and paths lie in a plane, by name, `[m, 2]`.
        provenance: what all of it follows from.
        facts: figures of the graph as a whole.
    """

    graph: Graph = field(default_factory=nx.Graph)
    pairs: dict[str, Array] = field(default_factory=dict)
    marks: dict[str, Array] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def nodes(self) -> list[Hashable]:
        """The minima, in the order of every array."""
        return list(self.graph.nodes)

    @property
    def passes(self) -> Iterator[tuple[Hashable, Hashable, Attributes]]:
        """The edges with their attributes, each from the minimum at t = 0 to that at t = 1."""
        for a, b, attributes in self.graph.edges(data=True):
            yield (b, a, attributes) if attributes.get("start", a) == b else (a, b, attributes)

    def add_minimum(self, name: Hashable, loss: float, **attributes: Any) -> None:
        """Add a minimum with its loss and whatever else is known of it."""
        self.graph.add_node(name, loss=loss, **attributes)

    def add_pass(self, a: Hashable, b: Hashable, saddle: float, **attributes: Any) -> None:
        """Add what joins two minima: the largest loss along the path from a to b, and whatever else is known of it."""
        self.graph.add_edge(a, b, saddle=saddle, start=a, **attributes)

    def to_result(self) -> Result:
        """The graph as a result of kind "graph".

        Its sweep "minima" holds the numbers of all minima, "passes" those of all edges with the indices `a` and `b` of
        their ends, and "pairs" matrices `[ia, ib]`.
        """
        place = {name: index for index, name in enumerate(self.nodes)}
        minima, words_of_minima = _table([self.graph.nodes[name] for name in place])
        edges = list(self.passes)
        passes, words_of_passes = _table([attributes for *_, attributes in edges])
        ends = np.array([(place[a], place[b]) for a, b, _ in edges], dtype=np.int64).reshape(-1, 2)
        passes = {"a": ends[:, 0], "b": ends[:, 1]} | passes
        count = np.arange(float(len(place)))
        facts = {"nodes": [str(name) for name in place], "minima": words_of_minima, "passes": words_of_passes}
        return Result(
            "graph",
            {
                "minima": _whole({"number": count}, minima),
                "passes": _whole({"number": np.arange(float(len(edges)))}, passes),
                "pairs": _whole({"a": count, "b": count}, self.pairs),
            },
            self.marks,
            self.provenance,
            {**self.facts, **facts},
        )

    @classmethod
    def from_result(cls, result: Result) -> "MinimaGraph":
        """The graph that a result holds.

        Raises:
            ResultError: it is of another kind.
        """
        if result.kind != "graph":
            raise ResultError(f"the result holds a {result.kind}, expected a graph of minima.")
        facts = dict(result.facts)
        try:
            graph = _graph(result, facts.pop("nodes"), facts.pop("minima"), facts.pop("passes"))
            pairs = dict(result.sweeps["pairs"].values)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise ResultError(f"the tables of minima and passes do not fit each other: {error!r}") from error
        return cls(graph, pairs, dict(result.marks), result.provenance, facts)

    def save(self, filename: str | os.PathLike[str]) -> None:
        """Write the graph, whole or not at all.

        Raises:
            StorageError: the file cannot be written.
        """
        save_result(filename, self.to_result())

    def export(self, filename: str | os.PathLike[str]) -> None:
        """Write nodes and edges as GraphML, which Gephi, yEd, Cytoscape and igraph read.

        Raises:
            StorageError: the file cannot be written.
        """
        plain: Graph = nx.Graph()
        for name, attributes in self.graph.nodes(data=True):
            plain.add_node(_printable(str(name)), **_plain(attributes))
        for a, b, attributes in self.graph.edges(data=True):
            plain.add_edge(_printable(str(a)), _printable(str(b)), **_plain(attributes))
        write_atomically(filename, "\n".join(nx.generate_graphml(plain)).encode() + b"\n")


def load_graph(filename: str | os.PathLike[str]) -> MinimaGraph:
    """Read a graph of minima.

    Raises:
        ResultError: there is no such file, or it is damaged or of another kind.
    """
    try:
        return MinimaGraph.from_result(load_result(filename))
    except ResultError as error:
        raise ResultError(f"{Path(filename)}: {error}") from error


def networkx_of(graph: MinimaGraph | Graph) -> Graph:
    """The `networkx.Graph` itself, whichever of the two is given."""
    return graph.graph if isinstance(graph, MinimaGraph) else graph


def own_losses(graph: MinimaGraph | Graph) -> Array:
    """The losses `[n]` of the minima, float64; NaN where a node has none."""
    nodes = networkx_of(graph).nodes(data=_LOSS, default=float("nan"))
    return np.array([loss for _, loss in nodes], dtype=np.float64)


def _table(rows: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Array], list[Attributes]]:
    """Attributes as columns where every row has a number, and all others row by row."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    numeric = [n for n in names if n not in _RESERVED and all(_is_number(row.get(n)) for row in rows)]
    columns = {name: np.array([row[name] for row in rows]) for name in numeric}
    return columns, [{name: value for name, value in row.items() if name not in columns} for row in rows]


def _rows(table: Sweep, words: Sequence[Mapping[str, Any]]) -> Iterator[Attributes]:
    for number, row in enumerate(words):
        yield {name: column[number].item() for name, column in table.values.items()} | dict(row)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _graph(result: Result, names: list[str], minima: list[Attributes], passes: list[Attributes]) -> Graph:
    """The graph of a result's tables and of the words that belong to them."""
    graph: Graph = nx.Graph()
    for name, attributes in zip(names, _rows(result.sweeps["minima"], minima), strict=True):
        graph.add_node(name, **attributes)
    for attributes in _rows(result.sweeps["passes"], passes):
        a, b = names[attributes.pop("a")], names[attributes.pop("b")]
        graph.add_edge(a, b, **{**attributes, "start": a})
    required = [(attributes, _LOSS) for _, attributes in graph.nodes(data=True)]
    required += [(attributes, "saddle") for *_, attributes in graph.edges(data=True)]
    if missing := [name for attributes, name in required if not _is_number(attributes.get(name))]:
        raise TypeError(f"a {missing[0]} is not a number")
    return graph


def _whole(axes: Mapping[str, Array], values: Mapping[str, Array]) -> Sweep:
    return Sweep(dict(axes), dict(values), np.ones([len(axis) for axis in axes.values()], dtype=bool))


def _plain(attributes: Mapping[str, Any]) -> Attributes:
    """Attributes as GraphML has them: numbers, truth values and text."""
    return {
        _printable(name): value if isinstance(value, bool | int | float) else _printable(str(value))
        for name, value in attributes.items()
        if value is not None
    }


def _printable(text: str) -> str:
    """Text with the characters that XML cannot hold, as control characters in a file's name, in Python's notation."""
    return _NOT_IN_XML.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
