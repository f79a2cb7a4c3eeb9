"""Which peak rate a path is trained by: that of flags, of the run to go on with, of the checkpoints, or a test's."""

import pytest

from connect import load_graph
from connect.app import cli as connect_cli
from connect.app.commands import finding
from landscape import load_checkpoint, save_tensors
from tests.commands import build_world
from tests.oracles import Signalling

QUICK = ["--epochs", "2", "--points", "3", "--tolerance", "0", "--eval-batch-size", "512"]
PLAIN = [*QUICK, "--plane-points", "0"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return build_world(tmp_path_factory.mktemp("world"), {"widths": [4]})


@pytest.fixture
def untested(monkeypatch):
    """No range test may be made."""

    def refuse(*_, **__):
        raise AssertionError("a range test was made")

    monkeypatch.setattr(finding, "find_rate", refuse)


def fit(world, out, *more, a="a", b="b"):
    return ["fit", "--a", world.folder / f"{a}.safetensors", "--b", world.folder / f"{b}.safetensors", "--out", out,
            *PLAIN, *more]  # fmt: skip


def recipe_in(out):
    return load_checkpoint(out / "path.safetensors").metadata["provenance"]["recipe"]


def carrying(world, name, seed, **recipe):
    saved = load_checkpoint(world.folder / f"{seed}.safetensors")
    save_tensors(world.folder / f"{name}.safetensors", saved.state, {"problem": world.problem, "recipe": recipe})


def test_a_rate_that_nothing_tells_is_tested_told_and_kept_by_a_resume(call, world, tmp_path, monkeypatch, caplog):
    code, _, errors = call(*fit(world, tmp_path / "whole"), program=connect_cli)
    assert code == 0, errors
    rate = recipe_in(tmp_path / "whole")["lr"]
    assert f"the peak rate is {rate:g}, by a range test of 64 steps (one training has 24)" in caplog.text
    for after, words in ((5, "in the range test"), (64 + 12, "stopped after 12 of 24 steps")):
        with monkeypatch.context() as patched:
            patched.setattr("landscape.app.commandline.on_stderr", Signalling(after))
            resume = [] if after == 5 else ["--resume"]
            code, _, errors = call(*fit(world, tmp_path / "cut", *resume), program=connect_cli)
        assert code == 75, errors
        assert words in errors
        assert "go on with --resume" in errors
    monkeypatch.setattr(finding, "find_rate", None)
    code, _, errors = call(*fit(world, tmp_path / "cut", "--resume"), program=connect_cli)
    assert code == 0, errors
    held = [load_checkpoint(tmp_path / name / "path.safetensors") for name in ("whole", "cut")]
    assert held[0].fingerprint == held[1].fingerprint
    assert held[0].metadata == held[1].metadata
    code, _, errors = call(*fit(world, tmp_path / "whole", "--resume"), program=connect_cli)
    assert code == 0, errors


def test_a_rate_that_is_named_or_carried_is_taken(call, world, tmp_path, untested):
    carrying(world, "fast", "a", lr=0.3)
    carrying(world, "slow", "b", lr=0.02, optimiser="sgd")
    carrying(world, "wild", "b", lr="high")
    (tmp_path / "problem.yaml").write_text("model: mlp\nmodel_args: {widths: [4]}\ndata: digits\nfit: {lr: 0.05}\n")
    cases = {
        "flag": (fit(world, tmp_path / "flag", "--lr", "0.07"), 0.07),
        "file": (fit(world, tmp_path / "file", "--problem", tmp_path / "problem.yaml"), 0.05),
        "carried": (fit(world, tmp_path / "carried", a="fast", b="slow"), 0.02),
        "one": (fit(world, tmp_path / "one", a="fast", b="wild"), 0.3),
        "grown": ([*fit(world, tmp_path / "grown", "--curve", "autoneb", "--cycles", "1x1@0.01")[:7], *PLAIN[2:],
                   "--curve", "autoneb", "--cycles", "1x1@0.01"], 0.1),
    }  # fmt: skip
    for name, (arguments, rate) in cases.items():
        code, _, errors = call(*arguments, program=connect_cli)
        assert code == 0, errors
        assert recipe_in(tmp_path / name)["lr"] == rate, name


def test_a_simplex_takes_the_rate_that_its_minima_carry(call, world, tmp_path):
    carrying(world, "fast", "a", lr=0.3)
    carrying(world, "slow", "b", lr=0.02)
    files = [world.folder / f"{name}.safetensors" for name in ("fast", "slow")]
    arguments = ["simplex", *files, "--epochs", 1, "--connecting", 1, "--samples", 2, "--out", tmp_path / "s"]
    code, _, errors = call(*arguments, program=connect_cli)
    assert code == 0, errors
    stated = load_checkpoint(tmp_path / "s" / "simplex.safetensors").metadata["provenance"]["recipe"]
    assert stated["lr"] == 0.02


def test_the_rate_of_another_optimiser_is_not_taken(call, world, tmp_path, caplog):
    carrying(world, "fast", "a", lr=0.3)
    code, _, errors = call(*fit(world, tmp_path / "x", "--optimiser", "adamw", a="fast"), program=connect_cli)
    assert code == 0, errors
    assert "by a range test" in caplog.text
    assert recipe_in(tmp_path / "x")["lr"] != 0.3


def test_a_graph_tests_its_rate_once_and_keeps_it(call, world, tmp_path, monkeypatch, caplog):
    files = [world.folder / f"{name}.safetensors" for name in "ab"]
    arguments = ["graph", *files, "--out", tmp_path / "g", *QUICK[:4], *QUICK[6:], "--tolerance", "0.001"]
    code, _, errors = call(*arguments, "--members", "0", program=connect_cli)
    assert code == 0, errors
    assert caplog.text.count("by a range test") == 1
    rate = load_graph(tmp_path / "g" / "graph.h5").provenance["recipe"]["lr"]
    monkeypatch.setattr(finding, "find_rate", None)
    further = ["graph", *files, world.folder / "c.safetensors", *arguments[3:], "--members", "0", "--resume"]
    code, _, errors = call(*further, program=connect_cli)
    assert code == 0, errors
    assert load_graph(tmp_path / "g" / "graph.h5").provenance["recipe"]["lr"] == rate
