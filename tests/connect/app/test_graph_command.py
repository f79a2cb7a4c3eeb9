"""The command `connect graph`: what it prints and writes, refuses, prunes, adds, and how it goes on after any stop."""

import json
import time
from pathlib import Path as FilePath

import networkx as nx
import numpy as np
import pytest

from connect import load_graph, load_path, merge_tree, minimax_saddles
from connect.app import cli as connect_cli
from landscape import ParameterSpace, load_checkpoint, load_result, save_tensors
from landscape.app import cli as landscape_cli
from landscape.app.commandline import run
from landscape.problems.models import MODELS
from tests.oracles import Signalling

PROBLEM = ["--model", "mlp", "--model-args", '{"widths": [16], "batch_norm": true}', "--data", "digits"]
QUICK = ["--epochs", 2, "--points", 5, "--eval-batch-size", 512]
LONGER = ["--epochs", 30, "--points", 5, "--eval-batch-size", 512]
KEYS = {
    "minima", "pairs", "fitted", "straight", "pruned", "left", "stopped", "saddle", "nodes", "tree", "valleys",
    "height", "duplicates", "relations", "committees", "notes", "split", "files",
}  # fmt: skip
WRITTEN = [
    "graph.h5", "graph.graphml", "graph_disconnectivity.png", "graph_network.png", "graph_saddles.png",
    "graph_embedding.png",
]  # fmt: skip


@pytest.fixture(scope="module")
def minima(tmp_path_factory):
    """Five trained networks in a folder."""
    folder = tmp_path_factory.mktemp("minima")
    for seed in range(5):
        file = folder / f"m{seed}.safetensors"
        given = ["train", *PROBLEM, "--epochs", "2", "--seed", str(seed), "--out", str(file)]
        assert run("landscape", "", landscape_cli._COMMANDS, given) == 0
    return [folder / f"m{seed}.safetensors" for seed in range(5)]


def held(folder):
    """All that a finished run has found, whatever the order of the passes."""
    graph = load_graph(folder / "graph.h5")
    return (
        dict(graph.graph.nodes(data=True)),
        {frozenset((a, b)): attributes for a, b, attributes in graph.passes},
        {file.name: load_checkpoint(file).fingerprint for file in sorted((folder / "passes").glob("*.safetensors"))},
    )


def test_a_graph_tells_what_joins_the_minima(ask, minima, tmp_path):
    out = tmp_path / "g"
    arguments = ["graph", *minima, "--out", out, *QUICK, "--tolerance", 0.02, "--json"]
    code, summary, errors = ask(*arguments, program=connect_cli)
    assert code == 0, errors
    assert set(summary) == KEYS
    assert (summary["minima"], summary["pairs"]) == (5, 10)
    assert summary["fitted"] + summary["pruned"] + summary["left"] == 10
    assert summary["nodes"] == ["m0", "m1", "m2", "m3", "m4"]
    assert [FilePath(file).name for file in summary["files"]] == WRITTEN
    graph = load_graph(out / "graph.h5")
    np.testing.assert_array_equal(minimax_saddles(graph), np.array(summary["saddle"]))
    for node in graph.graph.nodes.values():
        assert {"loss", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "fingerprint", "seed"} <= set(
            node
        )
        assert node["loss"] == node["train_loss"]
    for a, b, known in graph.passes:
        ends = [graph.graph.nodes[name]["loss"] for name in (a, b)]
        assert known["saddle"] >= max(ends) - 1e-6
        assert known["barrier_low"] <= known["barrier"] <= known["barrier_high"]
        assert known["excess"] == pytest.approx(known["saddle"] - max(ends), abs=1e-6)
        space = ParameterSpace(MODELS["mlp"](widths=[16], batch_norm=True, input_shape=(1, 8, 8), classes=10))
        path = load_path(out / known["path"], space)
        for t, name in ((0.0, a), (1.0, b)):
            assert (
                space.unflatten(path(t)).keys() <= load_checkpoint(graph.graph.nodes[name]["checkpoint"]).state.keys()
            )
            own = space.flatten(load_checkpoint(graph.graph.nodes[name]["checkpoint"]).state)
            assert bool((path(t) == own).all())
        along = load_result(out / known["profile"]).sweeps
        losses = np.concatenate([s["train_loss"] for name, s in along.items() if name.startswith("path")])
        straight = np.concatenate([s["train_loss"] for name, s in along.items() if name.startswith("straight")])
        assert known["saddle"] == pytest.approx(min(losses.max(), straight.max()))
    other = nx.read_graphml(out / "graph.graphml")
    assert nx.utils.graphs_equal(nx.Graph(other.edges), nx.Graph(graph.graph.edges))
    distances = graph.pairs["distance"]
    thetas = [ParameterSpace(MODELS["mlp"](widths=[16], batch_norm=True, input_shape=(1, 8, 8), classes=10)).flatten(
        load_checkpoint(file).state) for file in minima]  # fmt: skip
    assert distances[1, 3] == pytest.approx(float((thetas[1] - thetas[3]).norm()), rel=1e-5)
    tree, network, saddles, embedding = ((out / name).read_text() for name in WRITTEN[2:])
    assert all(str(float(merge_tree(graph).heights.max())) in heights for heights in (tree, saddles))
    assert all(name in points for name in summary["nodes"] for points in (network, embedding))
    code, drawn, errors = ask(
        "plot", out / "graph.h5", "--out", tmp_path / "again", "--colour", "seed", "--format", "svg", "--json",
        program=connect_cli,
    )  # fmt: skip
    assert code == 0, errors
    assert len(drawn["files"]) == 4
    first = next(iter(graph.passes))[2]
    code, _, errors = ask("plot", out / first["profile"], "--out", tmp_path / "again", program=connect_cli)
    assert code == 0, errors
    assert ask("plot", out / "graph.h5", "--colour", "weather", program=connect_cli)[0] == 2
    assert ask("plot", out / first["profile"], "--colour", "seed", program=connect_cli)[0] == 2


@pytest.mark.proof
def test_pruning_saves_fits_and_keeps_the_matrix_within_the_tolerance(ask, minima, tmp_path):
    found = {}
    for strategy in ("nearest", "lowest", "all"):
        arguments = ["graph", minima[0].parent, "--out", tmp_path / strategy, *LONGER, "--members", 0, "--json"]
        code, found[strategy], errors = ask(
            *arguments, "--strategy", strategy, "--tolerance", 0.02, program=connect_cli
        )
        assert code == 0, errors
    assert found["all"]["fitted"] == 10
    assert found["all"]["straight"] < 10
    exact = np.array(found["all"]["saddle"])
    for strategy in ("nearest", "lowest"):
        assert found[strategy]["fitted"] < 10
        assert np.abs(np.array(found[strategy]["saddle"]) - exact).max() <= 0.02
        assert found[strategy]["committees"] == {}


def test_a_stopped_graph_goes_on_to_the_same_numbers(ask, minima, tmp_path, monkeypatch):
    """Stopped among the minima's ways, in a fit, and in a measurement."""
    arguments = ["graph", *minima[:3], *QUICK, "--tolerance", 0.001, "--json"]
    code, whole, errors = ask(*arguments, "--out", tmp_path / "whole", program=connect_cli)
    assert code == 0, errors
    for after in (2, 8, 30, 60, 61):
        with monkeypatch.context() as patched:
            patched.setattr("landscape.app.commandline.on_stderr", Signalling(after))
            code, nothing, errors = ask(*arguments, "--out", tmp_path / "cut", "--resume", program=connect_cli)
        assert (code, nothing) == (75, None), (after, errors)
        assert "--resume" in errors
    code, resumed, errors = ask(*arguments, "--out", tmp_path / "cut", "--resume", program=connect_cli)
    assert code == 0, errors
    assert {**resumed, "files": 0} == {**whole, "files": 0}
    assert held(tmp_path / "cut") == held(tmp_path / "whole")
    assert not list((tmp_path / "cut").glob("passes/*state*"))


def test_a_budget_stops_early_and_more_goes_on(ask, minima, tmp_path):
    arguments = ["graph", *minima[:3], "--out", tmp_path / "g", *QUICK, "--tolerance", 1e-6, "--json"]
    code, first, errors = ask(*arguments, "--budget", 1, program=connect_cli)
    assert code == 0, errors
    assert (first["fitted"], first["stopped"]) == (1, "budget")
    assert first["saddle"][0].count(None) + first["saddle"][1].count(None) + first["saddle"][2].count(None) == 4
    code, second, errors = ask(*arguments, "--resume", program=connect_cli)
    assert code == 0, errors
    assert (second["fitted"], second["stopped"]) == (3, "bounds")


def test_added_checkpoints_compute_only_what_is_new(ask, minima, tmp_path):
    out = tmp_path / "g"
    arguments = ["--out", out, *QUICK, "--strategy", "all", "--json"]
    assert ask("graph", *minima[:3], *arguments, program=connect_cli)[0] == 0
    before = {file: file.stat().st_mtime_ns for file in (out / "passes").iterdir()}
    code, summary, errors = ask("graph", *reversed(minima[:4]), *arguments, "--resume", program=connect_cli)
    assert code == 0, errors
    assert summary["nodes"] == ["m0", "m1", "m2", "m3"]
    assert summary["fitted"] == 6
    assert {file: file.stat().st_mtime_ns for file in before} == before
    code, _, errors = ask("graph", *minima[1:4], *arguments, "--resume", program=connect_cli)
    assert code == 2
    assert "holds the minimum m0, which is not among the checkpoints" in errors
    code, _, errors = ask("graph", *minima[:4], *arguments, "--resume", "--epochs", 3, program=connect_cli)
    assert code == 2
    assert "recipe" in errors


def test_the_same_network_twice_is_one_minimum_and_said_so(ask, call, minima, tmp_path):
    copy = tmp_path / "copy.safetensors"
    saved = load_checkpoint(minima[1])
    save_tensors(copy, saved.state, saved.metadata)
    arguments = ["graph", minima[0], minima[1], copy, minima[0], "--out", tmp_path / "g", *QUICK]
    code, summary, errors = ask(*arguments, "--json", program=connect_cli)
    assert code == 0, errors
    assert summary["minima"] == 2
    assert summary["duplicates"] == {str(copy): str(minima[1]), str(minima[0]): str(minima[0])}
    _, printed, _ = call(*arguments, "--resume", program=connect_cli)
    assert f"{copy} is the same network as {minima[1]}" in printed


def test_another_architecture_is_refused_by_name_before_anything_is_computed(call, minima, tmp_path):
    other = tmp_path / "wide.safetensors"
    given = [
        "train",
        "--model",
        "mlp",
        "--model-args",
        '{"widths": [8]}',
        "--data",
        "digits",
        "--epochs",
        1,
        "--out",
        other,
    ]
    assert call(*given)[0] == 0
    code, printed, errors = call("graph", *minima, other, "--out", tmp_path / "g", *QUICK, program=connect_cli)
    assert code == 2
    assert printed == ""
    assert "wide.safetensors does not fit" in errors
    assert not (tmp_path / "g").exists()


def test_sharpness_is_the_largest_eigenvalue(ask, minima, tmp_path):
    arguments = ["graph", *minima[:2], "--out", tmp_path / "g", *QUICK, "--sharpness", "--samples", 200]
    code, _, errors = ask(*arguments, program=connect_cli)
    assert code == 0, errors
    values = [node["sharpness"] for node in load_graph(tmp_path / "g" / "graph.h5").graph.nodes.values()]
    assert all(value > 0 for value in values)
    assert values[0] != values[1]
    file = tmp_path / "h.h5"
    flags = ["--checkpoint", minima[0], "--samples", 200, "--parameters", "all", "--batch-norm", "recomputed"]
    code, summary, errors = ask("hessian", *flags, "--out", file, "--json")
    assert code == 0, errors
    assert values[0] == pytest.approx(max(summary["top"]) if "top" in summary else summary["max_eig"], rel=0.02)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{m0}"], "two different minima at least"),
        (["{m0}", "{m0}"], "two different minima at least"),
        (["{m0}", "nowhere.pt"], "no checkpoint nowhere.pt"),
        (["{empty}"], "holds no checkpoint"),
        (["{m0}", "{m1}", "--budget", -1], "--budget is -1"),
        (["{m0}", "{m1}", "--tolerance", 0], "--tolerance is 0"),
        (["{m0}", "{m1}", "--points", 2], "--points is 2"),
        (["{m0}", "{m1}", "--samples", 5], "--samples is for --sharpness"),
        (["{m0}", "{m1}", "--members", 1], "--members is 1"),
        (["{m0}", "{m1}", "--spring", 1], "--spring is for --curve neb"),
        (["{m0}", "{m1}", "--save-every", -1], "--save-every is -1"),
    ],
)
def test_what_cannot_be_mapped_is_said(call, minima, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    known = {"{m0}": minima[0], "{m1}": minima[1], "{empty}": tmp_path / "empty"}
    given = [known.get(argument, argument) for argument in arguments]
    code, printed, errors = call("graph", *QUICK, *given, "--out", tmp_path / "g", program=connect_cli)
    assert code == 2, errors
    assert printed == ""
    assert words in errors
    assert len(errors.strip().splitlines()) <= 3
    assert not (tmp_path / "g").exists()


def test_a_graph_that_is_there_is_kept_unless_told_otherwise(call, minima, tmp_path):
    arguments = ["graph", *minima[:2], "--out", tmp_path / "g", *QUICK]
    assert call(*arguments, program=connect_cli)[0] == 0
    before = (tmp_path / "g" / "graph.h5").read_bytes()
    code, _, errors = call(*arguments, program=connect_cli)
    assert code == 2
    assert "--resume to go on with it, --overwrite" in errors
    assert (tmp_path / "g" / "graph.h5").read_bytes() == before
    assert call(*arguments, "--overwrite", "--seed", 1, program=connect_cli)[0] == 0
    assert (tmp_path / "g" / "graph.h5").read_bytes() != before


@pytest.mark.fault
def test_a_killed_graph_keeps_every_finished_pass(minima, tmp_path, start):
    """Killed at moments that nobody chose, in fits and between them."""
    given = ["connect", "graph", *minima[:4], "--epochs", 30, "--points", 5, "--eval-batch-size", 512,
             "--tolerance", 0.0001, "--save-every", 0, "--json", "--resume", "--out"]  # fmt: skip
    printed = start.finish(*given, tmp_path / "whole")
    cut, kept, killed = tmp_path / "cut", {}, 0

    def passes():
        if not (cut / "graph.h5").exists():
            return {}
        return {frozenset((a, b)): attributes for a, b, attributes in load_graph(cut / "graph.h5").passes}

    for pause in (0.0, 0.3, 0.1):
        program = start(*given, cut)
        while program.alive and len(passes()) <= len(kept):
            time.sleep(0.01)
        program.wait(pause)
        killed += program.kill()
        now = passes()
        assert len(now) > len(kept)
        assert kept.items() <= now.items()
        kept = now
    assert killed >= 2
    resumed = start.finish(*given, cut)
    assert {**json.loads(resumed), "files": 0} == {**json.loads(printed), "files": 0}
    assert held(cut) == held(tmp_path / "whole")


# ------------------------------------------------------------------ what attacks found


def test_a_smaller_tolerance_goes_on_from_a_larger_one(ask, minima, tmp_path):
    arguments = ["graph", *minima[:3], *LONGER, "--json"]
    code, fresh, errors = ask(*arguments, "--out", tmp_path / "fresh", "--tolerance", 0.02, program=connect_cli)
    assert code == 0, errors
    code, loose, errors = ask(*arguments, "--out", tmp_path / "g", "--tolerance", 5, program=connect_cli)
    assert code == 0, errors
    assert loose["straight"] == loose["fitted"]
    code, tight, errors = ask(*arguments, "--out", tmp_path / "g", "--tolerance", 0.02, "--resume", program=connect_cli)
    assert code == 0, errors
    assert tight["straight"] < tight["fitted"]
    np.testing.assert_allclose(np.array(tight["saddle"]), np.array(fresh["saddle"]), atol=0.02)


def test_a_fit_that_diverges_leaves_the_straight_line_and_says_so(call, ask, minima, tmp_path):
    arguments = ["graph", *minima[:2], "--out", tmp_path / "g", *QUICK, "--tolerance", 1e-4, "--lr", 1e9]
    code, summary, errors = ask(*arguments, "--json", program=connect_cli)
    assert code == 0, errors
    assert "could not be trained" in summary["notes"][0]
    assert np.isfinite(summary["saddle"][0][1])
    ((_, _, known),) = load_graph(tmp_path / "g" / "graph.h5").passes
    assert known["how"] == "straight line"
    assert known["training"] == "diverged"
    profile = load_result(tmp_path / "g" / known["profile"])
    assert {name.partition(" ")[0] for name in profile.sweeps} == {"straight"}
    assert call("plot", tmp_path / "g" / known["profile"], "--out", tmp_path, program=connect_cli)[0] == 0
    code, again, errors = ask(*arguments, "--json", "--resume", program=connect_cli)
    assert code == 0, errors
    assert again["saddle"] == summary["saddle"]
    assert again["notes"] == summary["notes"]


def test_a_finished_graph_is_kept_when_its_successor_is_refused(call, minima, tmp_path):
    out = tmp_path / "g"
    arguments = ["graph", *minima[:2], "--out", out, *QUICK]
    assert call(*arguments, program=connect_cli)[0] == 0
    (out / "passes" / "my-notes.txt").write_text("mine")
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    flags = ["--overwrite", "--sharpness", "--samples", 100_000]
    code, _, errors = call(*arguments, *flags, program=connect_cli)
    assert code == 2
    assert "100000 samples" in errors
    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == before
    assert call(*arguments, "--overwrite", program=connect_cli)[0] == 0
    assert (out / "passes" / "my-notes.txt").read_text() == "mine"


def test_passes_whose_files_are_gone_are_found_anew(ask, minima, tmp_path):
    out = tmp_path / "g"
    arguments = ["graph", *minima[:3], "--out", out, *QUICK, "--json"]
    code, whole, errors = ask(*arguments, program=connect_cli)
    assert code == 0, errors
    files = sorted((out / "passes").iterdir())
    files[0].unlink()
    code, again, errors = ask(*arguments, "--resume", program=connect_cli)
    assert code == 0, errors
    assert again["saddle"] == whole["saddle"]
    assert "found anew" in again["notes"][0]
    assert sorted((out / "passes").iterdir()) == files


def test_a_graph_that_grew_and_was_stopped_can_be_drawn(ask, call, minima, rendered, tmp_path, monkeypatch):
    out = tmp_path / "g"
    arguments = ["--out", out, *QUICK, "--strategy", "all"]
    assert ask("graph", *minima[:2], *arguments, program=connect_cli)[0] == 0
    with monkeypatch.context() as patched:
        patched.setattr("landscape.app.commandline.on_stderr", Signalling(40))
        assert call("graph", *minima[:4], *arguments, "--resume", program=connect_cli)[0] == 75
    graph = load_graph(out / "graph.h5")
    assert len(graph.nodes) == 4
    assert graph.graph.number_of_edges() < 6
    code, _, errors = call("plot", out / "graph.h5", "--out", tmp_path, program=connect_cli)
    assert code == 0, errors


def test_the_same_weights_in_another_type_are_the_same_minimum(ask, minima, tmp_path):
    wide = tmp_path / "wide.safetensors"
    saved = load_checkpoint(minima[0])
    save_tensors(wide, {n: t.double() if t.is_floating_point() else t for n, t in saved.state.items()}, saved.metadata)
    arguments = ["graph", *minima[:2], wide, "--out", tmp_path / "g", *QUICK, "--json"]
    code, summary, errors = ask(*arguments, program=connect_cli)
    assert code == 0, errors
    assert summary["minima"] == 2
    assert summary["duplicates"] == {str(wide): str(minima[0])}


def test_too_few_minima_for_an_ensemble_are_said(ask, minima, tmp_path):
    arguments = ["graph", *minima[:2], "--out", tmp_path / "g", *QUICK, "--members", 9, "--json"]
    code, summary, errors = ask(*arguments, program=connect_cli)
    assert code == 0, errors
    assert summary["notes"] == ["no ensembles: there are fewer minima than --members 9"]


OWN = """
import torch

class Scaled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = torch.nn.Linear(64, 16), torch.nn.Linear(16, 10)
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x):
        x = torch.relu(self.first(x.flatten(1)))
        if self.training:
            self.scale.mul_(0.9).add_(0.1 * x.detach().std())
        return self.last(x / self.scale)

def model():
    return Scaled()
"""


def test_no_fit_depends_on_those_before_it(ask, tmp_path):
    """With a layer that keeps a running scale; each pair alone gives what it gives among others."""
    code = tmp_path / "own.py"
    code.write_text(OWN)
    problem = ["--model", f"{code}:model", "--data", "digits"]
    files = [tmp_path / f"{seed}.safetensors" for seed in range(3)]
    for seed, file in enumerate(files):
        assert ask("train", *problem, "--epochs", 0, "--seed", seed, "--out", file)[0] == 0
    arguments = [*problem, *QUICK, "--strategy", "all", "--tolerance", 1e-6, "--members", 0, "--json"]
    status, _, errors = ask("graph", *files, "--out", tmp_path / "all", *arguments, program=connect_cli)
    assert status == 0, errors
    together = {frozenset((a, b)): d["saddle"] for a, b, d in load_graph(tmp_path / "all" / "graph.h5").passes}
    for budget in (1, 2, 3):  # in three runs, one pass each
        flags = ["--budget", budget, "--resume"]
        status, _, errors = ask("graph", *files, "--out", tmp_path / "one", *arguments, *flags, program=connect_cli)
        assert status == 0, errors
    apart = {frozenset((a, b)): d["saddle"] for a, b, d in load_graph(tmp_path / "one" / "graph.h5").passes}
    assert apart == together
