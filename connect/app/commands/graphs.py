"""Map minima and the passes between them."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import torch

from connect.app.commands.finding import fit_recipe, memory_need, path_finder, ranged, settled_recipe
from connect.app.commands.passes import OWN_FILES, PASSES, Passes, whole
from connect.app.commands.pictures import draw_result
from connect.app.config import GraphConfig
from connect.measures.similarity import disagreement, sampling, sampling_in_words, share_of_numbers
from connect.minima.embedding import embed
from connect.minima.ensembles import compare_ensembles
from connect.minima.exploring import STRATEGIES, Outcome, explore
from connect.minima.graph import MinimaGraph, load_graph
from connect.minima.relations import relations
from connect.minima.saddles import centrality, minimax_saddles, ordered_passes, valleys
from connect.paths.path import load_path
from landscape.app.checkpoints import load_network
from landscape.app.commands.curvatures import sampled
from landscape.app.commands.summaries import label, wrote
from landscape.app.config import CurvatureOptions
from landscape.app.memory import curvature_need, graph_need
from landscape.app.options import files_in
from landscape.app.run import Run, running
from landscape.curvature.lanczos import lanczos
from landscape.errors import ConfigError, ProblemError
from landscape.runtime.progress import Reporter, silent
from landscape.space.pieces import equal, gram
from landscape.space.stored import StoredPoint
from landscape.storage.checkpoints import Checkpoint, require_same_layout
from landscape.storage.folders import CHECKPOINT_SUFFIXES, checkpoints_in
from landscape.storage.outputs import OutputFiles
from landscape.storage.quantities import name_of
from landscape.storage.store import require_same_provenance
from landscape.sweeps.driver import quantities

GRAPH, GRAPHML = "graph.h5", "graph.graphml"
_SAMPLE = 2048  # examples at most whose predictions are compared and averaged
_OF_TRAINING = ("batch_size", "lr", "weight_decay", "momentum", "epochs", "augment")


@dataclass(frozen=True, kw_only=True)
class GraphSummary:
    """What joins the minima.

    Attributes:
        minima: how many there are.
        pairs: of them.
        fitted: pairs that were joined, by the straight line or a path.
        straight: those of them that the straight line joins.
        pruned: pairs that never needed it, since their bounds met.
        left: pairs that were neither.
        stopped: "bounds" when nothing was left to try, "budget" when that was spent.
        saddle: minimax saddle of every pair `[n, n]`, in the order of `nodes`; each minimum's own loss on the diagonal.
        nodes: the minima's names.
        tree: the passes of the minimum spanning tree, the lowest first: two names and the saddle loss.
        valleys: the minima of each valley below the highest minimum and the tolerance, the largest first.
        height: that height, the loss of the highest minimum and the tolerance.
        duplicates: checkpoints that hold the same network as another: the file, and the file that stands for it.
        relations: rank correlations between quantities of pairs.
        committees: ensembles of minima, by name.
        notes: what else is to be said.
        split: that losses are of.
        files: what was written.
    """

    minima: int
    pairs: int
    fitted: int
    straight: int
    pruned: int
    left: int
    stopped: str
    saddle: Sequence[Sequence[float]]
    nodes: Sequence[str]
    tree: Sequence[tuple[str, str, float]]
    valleys: Sequence[Sequence[str]]
    height: float
    duplicates: Mapping[str, str]
    relations: Sequence[Mapping[str, Any]]
    committees: Mapping[str, Mapping[str, Any]]
    notes: Sequence[str]
    split: str
    files: Sequence[str]

    def text(self) -> str:
        """The summary in words."""
        reasons = {"bounds": "nothing is left to try", "budget": "the budget is spent"}
        lines = [f"{file} is the same network as {name}" for file, name in self.duplicates.items()]
        lines += self.notes
        lines.append(
            f"{self.minima} minima, {self.pairs} pairs: {self.fitted} joined ({self.straight} by the straight line), "
            f"{self.pruned} pruned, {self.left} left; {reasons[self.stopped]}"
        )
        width = max((len(name) for name in self.nodes), default=0)
        lines += [f"  {a:{width}}  {b:{width}}  saddle {saddle:.4f}" for a, b, saddle in self.tree]
        count = len(self.valleys)
        highest = max(self.saddle[i][i] for i in range(len(self.nodes)))
        lines.append(
            f"below {self.split} loss {self.height:.4g}, which is that of the highest minimum, {highest:.4g}, "
            f"and --tolerance: {count} valley{'' if count == 1 else 's'}"
        )
        for relation in self.relations:
            if not np.isnan(relation["correlation"]):
                lines.append(
                    f"{relation['one']} and {relation['other']}: rank correlation {relation['correlation']:.2f} "
                    f"over {relation['pairs']} pairs"
                )
        for name, ensemble in self.committees.items():
            lines.append(f"{name}: {ensemble['split']} accuracy {ensemble['accuracy']:.4f}, NLL {ensemble['nll']:.4f}")
        return "\n".join([*lines, wrote(self.files)])


def graph(config: GraphConfig, report: Reporter = silent) -> GraphSummary:
    """Join minima by passes until the bounds of all pairs meet, and say which share a valley at which height.

    Batch-norm statistics are recomputed from the training data at every point that is measured, unless the flags say
    otherwise. The graph is written after every pass. With `resume` a stopped run goes on, and further checkpoints are
    added to what there is.

    Args:
        config: checkpoints, strategy, kind of path and folder.
        report: progress reporter.

    Raises:
        LandscapeError: the subclass says what is wrong; all that can be checked is checked before any computing.
    """
    files = _files(config.minima)
    place = OutputFiles.inside(config.out, GRAPH, GRAPHML, series={PASSES: OWN_FILES})
    with running(config, report, place, read=[*files_in(config), *files]) as run:
        summary = _Mapping(run, files).run()
        run.outputs.commit()
    written = [config.out / GRAPH, config.out / GRAPHML]
    return replace(summary, files=[*map(str, written), *draw_result(config.out / GRAPH)])


class _Mapping:
    """One run of the command: the minima, their loss, and the graph as far as an earlier run brought it."""

    def __init__(self, run: Run, files: Sequence[FilePath]) -> None:
        config: GraphConfig = replace(run.config, out=run.outputs.at(run.config.out))
        self._config, self._report = config, run.report
        self._file = config.out / GRAPH
        self._notes: list[str] = []
        named = fit_recipe(config.recipe, config.problem)
        finder = path_finder(config, named.recipe())
        minima, self._duplicates = _distinct([load_network(config.checkpoints, file) for file in files])
        before = load_graph(self._file) if run.resume and self._file.exists() else None
        self._minima = _named(minima, before)
        checkpoints = list(self._minima.values())
        setting, networks, statistics = run.load(checkpoints, bearers=minima, batch_norm="recomputed")
        stated = before.provenance.get("recipe") if before else None
        recipe, rate = settled_recipe(named, setting.space.network, checkpoints, stated)
        finder = path_finder(config, recipe)
        self._thetas, twins = _apart(self._minima, networks.thetas)
        self._duplicates |= twins
        if config.sharpness:
            setting.require_curvature("all", config.samples, "all")
        need = graph_need(memory_need(finder))
        (curvature_need(need, CurvatureOptions().held()) if config.sharpness else need).require(setting.space)
        subject = run.subject(setting, statistics, begun=self._file)
        self._setting, self._risk = setting, subject.risk
        if rate is None:
            begun = finder.method.begin(self._thetas[0][:], self._thetas[1][:])
            finder = ranged(finder, self._risk, begun, config.seed, self._report)
        sharpness = (config.samples or "all examples") if config.sharpness else None
        provenance = subject.provenance({}, **finder.settings, sharpness=sharpness)
        if before:
            require_same_provenance(self._file, before.provenance, provenance)
        self._graph = self._cleared(before) if before else MinimaGraph(provenance=provenance)
        self._passes = Passes(config, self._setting, self._risk, finder, provenance, self._report)

    def run(self) -> GraphSummary:
        self._measure_minima()
        votes = self._votes()
        if votes.predictions:
            rows = [[disagreement(p, q) for q in votes.predictions] for p in votes.predictions]
            self._graph.pairs["disagreement"] = np.array(rows)
        self._passes.clean()
        self._save()
        outcome = explore(
            self._graph,
            self._join,
            STRATEGIES[self._config.strategy](),
            tolerance=self._config.tolerance,
            budget=self._config.budget,
            after=self._save,
            report=self._report,
        )
        return self._summary(outcome, votes)

    def _cleared(self, graph: MinimaGraph) -> MinimaGraph:
        """A graph that is gone on with: without passes whose files are gone, and what followed from all of it."""
        for a, b, attributes in list(graph.passes):
            if not whole(self._config.out, attributes):
                graph.graph.remove_edge(a, b)
                self._notes.append(f"{a} – {b}: its files were gone, and it was found anew")
        for name, attributes in graph.graph.nodes(data=True):
            attributes.pop("centrality", None)
            attributes["checkpoint"] = str(self._minima[str(name)].path)
        return MinimaGraph(graph.graph, provenance=graph.provenance)

    def _save(self) -> None:
        self._graph.save(self._file)
        self._graph.export(self._config.out / GRAPHML)

    # ------------------------------------------------------------------ minima

    def _measure_minima(self) -> None:
        """Measure the minima that are new, and how far all of them are apart."""
        new = [name for name in self._minima if name not in self._graph.graph]
        with self._report("minima", len(new)) as progress:
            for name in new:
                self._graph.add_minimum(name, **self._measured(name))
                progress.advance()
        self._graph.facts |= {"split": self._risk.splits[0], "tolerance": self._config.tolerance}
        squares = np.diag(products := gram(self._thetas, self._thetas[0]).cpu().numpy())
        apart = (squares[:, None] + squares[None, :] - 2 * products).clip(0)
        self._graph.pairs["distance"] = np.sqrt(apart)

    def _measured(self, name: str) -> dict[str, Any]:
        """The attributes of a minimum."""
        checkpoint, theta = self._minima[name], self._theta(name)
        with self._risk.at(theta) as here:
            figures = quantities(here.measure())
        loss = figures[name_of("loss", self._risk.splits[0])]
        if not np.isfinite(loss):
            raise ProblemError(f"{checkpoint.path}: its {self._risk.splits[0]} loss is {loss}, so nothing can join it.")
        recipe = checkpoint.metadata.get("recipe", {})
        training = {key: recipe[key] for key in _OF_TRAINING if recipe.get(key) not in {None, ""}}
        if isinstance(seed := checkpoint.metadata.get("seed"), int):
            training["seed"] = seed
        if self._config.sharpness:
            training["sharpness"] = self._sharpness(theta)
        return {
            "loss": loss,
            **figures,
            **training,
            "checkpoint": str(checkpoint.path),
            "fingerprint": checkpoint.fingerprint,
        }

    def _sharpness(self, theta: torch.Tensor) -> float:
        """The largest eigenvalue of the Hessian of the first split."""
        start = torch.randn(len(theta), generator=torch.Generator().manual_seed(self._config.seed)).to(theta)
        with sampled(self._config.samples, self._risk).at(theta) as here:
            ends = lanczos(here.hessian(), start, bottom=0)
        if not ends.converged:
            raise ProblemError(
                f"the largest eigenvalue was not found in {ends.products} products; leave out --sharpness, or look at "
                "landscape hessian."
            )
        return float(ends.top[0])

    def _votes(self) -> "_Votes":
        """Predictions of all minima for a fixed sample of the test split, or of the first; none without classes."""
        split = "test" if "test" in self._risk.splits else self._risk.splits[0]
        risk = self._risk.select(splits=[split], sample=min(_SAMPLE, self._risk.size(split)))
        predictions, numbers = [], share_of_numbers(len(self._thetas))
        for theta in self._thetas:
            with risk.at(theta[:]) as here:
                try:
                    predictions.append(here.predict(split, numbers=numbers))
                except ProblemError:
                    return _Votes(split, [], torch.empty(0))
        self._notes += map(sampling_in_words, sampling(predictions[0]).values())
        return _Votes(split, [each.log_probabilities.cpu() for each in predictions], predictions[0].labels.cpu())

    def _theta(self, name: Hashable) -> torch.Tensor:
        """A minimum's point `[P]`, read anew."""
        return self._thetas[list(self._minima).index(str(name))][:]

    def _join(self, a: Hashable, b: Hashable, upper: float) -> Mapping[str, Any]:
        names = [str(a), str(b)]
        prints = {end: self._minima[name].fingerprint for end, name in zip("ab", names, strict=True)}
        lower = max(self._graph.graph.nodes[name]["loss"] for name in names)
        ends = torch.empty(len(names), self._risk.dimension, device=self._risk.device, dtype=self._risk.dtype)
        for end, name in zip(ends, names, strict=True):
            end[:] = self._theta(name)
        return self._passes.join(ends, prints, lower)

    # ------------------------------------------------------------------ what follows from them

    def _summary(self, outcome: Outcome, votes: "_Votes") -> GraphSummary:
        graph, tolerance = self._graph, self._config.tolerance
        names = [str(name) for name in graph.nodes]
        order = [list(self._minima).index(name) for name in names]
        explained = self._embed(names, order)
        height = max(graph.graph.nodes[name]["loss"] for name in graph.nodes) + tolerance
        basins = [[str(name) for name in graph.nodes if name in valley] for valley in valleys(graph, height)]
        self._notes += [f"{a} – {b}: {edge['note']}" for a, b, edge in graph.passes if "note" in edge]
        facts: dict[str, Any] = {
            "tree": [(str(a), str(b), saddle) for a, b, saddle in ordered_passes(graph)],
            "valleys": basins,
            "height": height,
            "relations": [asdict(relation) for relation in relations(graph)],
            "committees": self._ensembles(names, order, basins, votes),
        }
        counts = asdict(outcome)
        graph.facts |= {**counts, **facts, "tolerance": tolerance, "embedding_explained": explained}
        for name, share in centrality(graph).items():
            graph.graph.nodes[name]["centrality"] = share
        self._save()
        return GraphSummary(
            minima=len(names),
            pairs=len(names) * (len(names) - 1) // 2,
            straight=sum(attributes["how"] == "straight line" for *_, attributes in graph.passes),
            stopped=counts.pop("reason"),
            **counts,
            saddle=minimax_saddles(graph).tolist(),
            nodes=names,
            **facts,
            duplicates=self._duplicates,
            notes=self._notes,
            split=graph.facts["split"],
            files=[],
        )

    def _embed(self, names: Sequence[str], order: Sequence[int]) -> Any:
        """Mark minima and paths in the plane of the minima's principal components, and return what that explains."""
        place = {name: index for index, name in enumerate(names)}
        paths = (
            (f"path {place[str(a)]} {place[str(b)]}", load_path(self._config.out / edge["path"], self._setting.space))
            for a, b, edge in self._graph.passes
        )
        plane = embed([self._thetas[index] for index in order], paths)
        self._graph.marks = {"minima": plane.minima, **plane.paths}
        return plane.explained

    def _ensembles(
        self, names: Sequence[str], order: Sequence[int], basins: Sequence[Sequence[str]], votes: "_Votes"
    ) -> dict[str, Any]:
        """Ensembles of the best minima, of those of each valley and of random ones, by name; empty without classes."""
        count = self._config.members
        if count > len(names):
            self._notes.append(f"no ensembles: there are fewer minima than --members {count}")
            return {}
        if not (votes.predictions and count):
            return {}
        indices = [[names.index(name) for name in basin] for basin in basins]
        predictions = [votes.predictions[i] for i in order]
        chosen = compare_ensembles(predictions, votes.labels, indices, count, self._config.seed)
        return {
            f"{name}, {count} minima": {
                **asdict(each),
                "members": [names[i] for i in each.members],
                "split": votes.split,
            }
            for name, each in chosen.items()
        }


@dataclass(frozen=True)
class _Votes:
    """Log-probabilities of all minima for the same examples of a split, and their labels; none without classes."""

    split: str
    predictions: Sequence[torch.Tensor]
    labels: torch.Tensor


def _files(places: Sequence[FilePath]) -> list[FilePath]:
    """Checkpoints, and those in folders that are none themselves, in alphabetical order.

    Raises:
        ConfigError: a folder holds none.
    """
    files: list[FilePath] = []
    for place in places:
        inside = checkpoints_in(place) if place.is_dir() else [place]
        if not inside:
            raise ConfigError(f"the folder {place} holds no checkpoint; known are {', '.join(CHECKPOINT_SUFFIXES)}.")
        files += inside
    return files


def _distinct(checkpoints: Sequence[Checkpoint]) -> tuple[list[Checkpoint], dict[str, str]]:
    """The checkpoints without those that hold the same network as an earlier one, and which those are.

    Raises:
        LayoutError: they are of different networks.
        ConfigError: fewer than two are left.
    """
    minima: dict[str, Checkpoint] = {}
    duplicates: dict[str, str] = {}
    for checkpoint in checkpoints:
        require_same_layout(checkpoints[0], checkpoint)
        if checkpoint.fingerprint in minima:
            duplicates[str(checkpoint.path)] = str(minima[checkpoint.fingerprint].path)
        else:
            minima[checkpoint.fingerprint] = checkpoint
    if len(minima) < 2:
        raise ConfigError("a graph needs two different minima at least.")
    return list(minima.values()), duplicates


def _apart(minima: dict[str, Checkpoint], thetas: Sequence[StoredPoint]) -> tuple[list[StoredPoint], dict[str, str]]:
    """The points of minima that differ, and which checkpoints hold the same network as another's.

    Args:
        minima: by name; those that are the same as an earlier one are taken out.
        thetas: their points.

    Raises:
        ConfigError: fewer than two are left.
    """
    kept: list[int] = []
    twins: dict[str, str] = {}
    names = list(minima)
    for index, name in enumerate(names):
        same = next((i for i in kept if equal(thetas[i], thetas[index])), None)
        if same is None:
            kept.append(index)
        else:
            twins[str(minima.pop(name).path)] = str(minima[names[same]].path)
    if len(kept) < 2:
        raise ConfigError("a graph needs two different minima at least.")
    return [thetas[index] for index in kept], twins


def _named(checkpoints: Sequence[Checkpoint], graph: MinimaGraph | None) -> dict[str, Checkpoint]:
    """A name for each minimum: that which it has in a graph already, else its file's, with its folder if need be.

    Raises:
        ConfigError: the graph holds a minimum that is not among the checkpoints.
    """
    before = {} if graph is None else {
        str(attributes.get("fingerprint")): str(name) for name, attributes in graph.graph.nodes(data=True)
    }  # fmt: skip
    by_print = {checkpoint.fingerprint: checkpoint for checkpoint in checkpoints}
    for fingerprint, name in before.items():
        if fingerprint not in by_print:
            raise ConfigError(f"the graph holds the minimum {name}, which is not among the checkpoints; name it, too.")
    named = {before[fingerprint]: by_print[fingerprint] for fingerprint in before}
    for checkpoint in checkpoints:
        if checkpoint.fingerprint in before:
            continue
        place = checkpoint.path.absolute()
        parts = (*place.parent.parts, label(place))
        candidates = ["/".join(parts[-length:]) for length in range(1, len(parts) + 1)]
        fresh = (name for name in (*candidates, checkpoint.fingerprint[:12]) if name not in named)
        named[next(fresh)] = checkpoint
    return named
