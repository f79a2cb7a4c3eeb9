"""The commands as a user runs them: what they write and print, what they refuse, and how they go on."""

import json
import time
from pathlib import Path as FilePath

import numpy as np
import pytest
import torch

from connect import load_path
from connect.app import cli as connect_cli
from connect.app.commands.finding import fit_recipe, path_finder
from connect.app.config import FitConfig
from landscape import ParameterSpace, load_checkpoint, load_result, save_tensors
from landscape.app import cli as landscape_cli
from landscape.app.commandline import run
from tests.oracles import Signalling

PROBLEM = ["--model", "mlp", "--model-args", '{"widths": [16], "batch_norm": true}', "--data", "digits"]
CONVOLUTIONS = ["--model", "resnet8", "--model-args", "{width: 4}", "--data", "digits", "--data-args", "{examples: 99}"]
QUICK = ["--epochs", 2, "--points", 5, "--plane-points", 0, "--eval-batch-size", 512]
FIGURES = {
    "split", "max_loss", "barrier", "barrier_low", "barrier_high", "excess", "excess_low", "excess_high",
    "saddle_loss", "saddle_loss_low", "saddle_loss_high",
    "t_max", "error_split", "error_barrier", "error_barrier_low", "error_barrier_high",
    "min_test_accuracy", "length_ratio", "bracket", "points", "barrier_carriers",
}  # fmt: skip


def trained(folder, problem):
    files = [folder / "a.safetensors", folder / "b.safetensors"]
    for seed, file in enumerate(files):
        given = ["train", *problem, "--epochs", "1", "--seed", str(seed), "--out", str(file)]
        assert run("landscape", "", landscape_cli._COMMANDS, given) == 0
    return files


@pytest.fixture(scope="module")
def minima(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("minima"), PROBLEM)


@pytest.fixture(scope="module")
def fitted(minima, tmp_path_factory):
    """The folder of a finished fit."""
    out = tmp_path_factory.mktemp("fitted") / "ab"
    given = ["fit", "--a", minima[0], "--b", minima[1], "--out", out, *QUICK]
    assert run("connect", "", connect_cli._COMMANDS, [str(argument) for argument in given]) == 0
    return out


def fit_flags(minima, out, *more):
    return ["fit", "--a", minima[0], "--b", minima[1], "--out", out, *QUICK, *more]


def held(file):
    """What a file of tensors holds, whatever the order of its header."""
    found = load_checkpoint(file)
    return found.fingerprint, found.metadata


# ------------------------------------------------------------------ fit

KINDS = {
    "bezier": [],
    "elevated": ["--control-points", 5],
    "chain": ["--curve", "chain", "--control-points", 4],
    "concentrated": ["--sampling", "concentrated"],
    "short": ["--length-weight", 0.1],
    "free ends": ["--free-ends"],
    "in parts": ["--accumulate", 3],
    "bf16": ["--precision", "bf16"],
    "adamw": ["--optimiser", "adamw", "--lr", 0.001, "--precision", "bf16", "--accumulate", 3, "--length-weight", 0.1],
    "adamw neb": ["--optimiser", "adamw", "--lr", 0.001, "--curve", "neb", "--control-points", 5, "--climb", "highest"],
    "neb": ["--curve", "neb", "--control-points", 5, "--climb", "highest"],
    "springs": ["--curve", "neb", "--control-points", 4, "--spring", 0.1, "--climb", "all"],
    "autoneb": ["--curve", "autoneb", "--cycles", "2x1@0.05", "--sag", 0.05, "--most-images", 7],
}


def flags_of(kind):
    """A quick fit; a growing band has its epochs in its cycles."""
    quick = QUICK[2:] if kind == "autoneb" else QUICK
    return [*quick, *KINDS[kind]]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_fit_tells_its_figures_and_goes_on_to_the_same_path(ask, minima, tmp_path, kind, monkeypatch):
    arguments = ["fit", "--a", minima[0], "--b", minima[1], *flags_of(kind), "--json"]
    code, summary, errors = ask(*arguments, "--out", tmp_path / "whole", program=connect_cli)
    assert code == 0, errors
    assert set(summary) == {"path", "straight", "verdict", "reason", "training", "remedies", "files"}
    for way in ("path", "straight"):
        figures = summary[way]
        assert set(figures) == FIGURES
        assert figures["barrier_low"] <= figures["barrier"] <= figures["barrier_high"]
        assert figures["error_barrier_low"] <= figures["error_barrier"] <= figures["error_barrier_high"]
        assert 0 <= figures["t_max"] <= 1
        assert figures["points"] >= 5
    assert summary["verdict"] in {"connected linearly", "connected by a curve", "not trained"}
    assert [FilePath(file).name for file in summary["files"]] == ["path.safetensors", "profile.h5", "path.png"]
    drawn, profile = (tmp_path / "whole" / "path.png").read_text(), load_result(tmp_path / "whole" / "profile.h5")
    assert all(str(float(loss)) in drawn for sweep in profile.sweeps.values() for loss in sweep["train_loss"])
    with monkeypatch.context() as patched:
        patched.setattr("landscape.app.commandline.on_stderr", Signalling(3))
        code, nothing, errors = ask(*arguments, "--out", tmp_path / "cut", program=connect_cli)
    assert (code, nothing) == (75, None)
    assert "--resume" in errors
    assert [file.name for file in (tmp_path / "cut").iterdir()] == ["fit.state.safetensors"]
    code, again, errors = ask(*arguments, "--out", tmp_path / "cut", "--resume", program=connect_cli)
    assert code == 0, errors
    assert held(tmp_path / "cut" / "path.safetensors") == held(tmp_path / "whole" / "path.safetensors")
    assert {**again, "files": 0} == {**summary, "files": 0}
    assert not (tmp_path / "cut" / "fit.state.safetensors").exists()


def test_images_are_changed_where_they_are_asked_to_be(ask, tmp_path):
    a, b = trained(tmp_path, CONVOLUTIONS)
    files = {}
    for augment in ("", "crop,flip"):
        out = tmp_path / f"fit {augment}"
        flags = [*QUICK, "--epochs", 1, "--augment", augment] if augment else [*QUICK, "--epochs", 1]
        code, _, errors = ask("fit", "--a", a, "--b", b, "--out", out, *flags, "--json", program=connect_cli)
        assert code == 0, errors
        files[augment] = held(out / "path.safetensors")[0]
    assert files[""] != files["crop,flip"]


def test_a_fit_starts_from_another_path(ask, minima, fitted, tmp_path):
    """Without an epoch it is that path: a Bézier curve with more control points, or a chain along it."""
    space = ParameterSpace(_network(fitted))
    before = load_path(fitted / "path.safetensors", space)
    for name, flags in (("bezier", ["--control-points", 6]), ("chain", ["--curve", "chain", "--control-points", 9])):
        arguments = fit_flags(minima, tmp_path / name, *flags, "--start", fitted / "path.safetensors", "--epochs", 0)
        code, _, errors = ask(*arguments, program=connect_cli)
        assert code == 0, errors
        after = load_path(tmp_path / name / "path.safetensors", space)
        for t in np.linspace(0, 1, 9):
            torch.testing.assert_close(after(t), before(t), atol=1e-5, rtol=1e-5)
        assert "start" in after.provenance["checkpoints"]
    arguments = ["fit", "--a", minima[1], "--b", minima[0], "--out", tmp_path / "back", *QUICK]
    code, _, errors = ask(*arguments, "--start", fitted / "path.safetensors", program=connect_cli)
    assert code == 2
    assert "other ends" in errors
    code, _, errors = ask(*fit_flags(minima, tmp_path / "x", "--start", minima[0]), program=connect_cli)
    assert code == 2
    assert "holds no path" in errors


def _network(fitted):
    from landscape.problems.models import MODELS

    return MODELS["mlp"](widths=[16], batch_norm=True, input_shape=(1, 8, 8), classes=10)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--curve", "neb", "--free-ends"], "--free-ends is for --curve bezier and chain"),
        (["--curve", "autoneb"], "--epochs is for --curve bezier and chain and neb"),
        (["--spring", 1.0], "--spring is for --curve neb"),
        (["--curve", "neb", "--sampling", "concentrated"], "--sampling is for --curve bezier and chain"),
        (["--cycles", "2x1@0.1"], "--cycles is for --curve autoneb"),
        (["--curve", "neb", "--control-points", 2], "expected at least 3"),
        (["--control-points", 1], "at least the two ends"),
        (["--tolerance", -1], "--tolerance is -1.0"),
        (["--max-barrier", -1], "--max-barrier is -1.0"),
        (["--points", 1], "--points is 1"),
        (["--save-every", -1], "--save-every is -1.0"),
        (["--length-weight", -1], "--length-weight is -1.0"),
        (["--augment", "rotate"], "unknown augmentation 'rotate'"),
        (["--accumulate", 0], "accumulate is 0"),
        (["--optimiser", "adamw", "--momentum", 0.9], "--momentum is for sgd, and the optimiser is adamw"),
        (["--betas", 0.9, 1.5], "betas is (0.9, 1.5), which is out of range"),
        (["--start", "nowhere.safetensors"], "nowhere.safetensors"),
    ],
)
def test_flags_that_make_no_sense_are_said_in_two_lines(call, minima, tmp_path, flags, words):
    code, printed, errors = call(*fit_flags(minima, tmp_path / "x", *flags), program=connect_cli)
    assert code == 2
    assert printed == ""
    assert words in errors
    assert len(errors.strip().splitlines()) <= 3
    assert not list(tmp_path.glob("x/*.safetensors"))


def test_a_growing_bands_own_rates_are_those_of_its_optimiser(minima, tmp_path):
    def rates(*flags):
        config = FitConfig(a=minima[0], b=minima[1], out=tmp_path, curve="autoneb", **dict(flags))
        method = path_finder(config, fit_recipe(config.recipe, config.problem).recipe()).method
        return [cycle.lr for cycle in method.cycles]

    assert rates() == [0.1] * 6 + [0.01] * 4 + [0.001] * 4
    assert rates(("optimiser", "adamw")) == [1e-3] * 6 + [1e-4] * 4 + [1e-5] * 4
    assert rates(("optimiser", "adamw"), ("cycles", "2x1@0.5")) == [0.5, 0.5]


def test_cycles_come_from_the_problems_file_too(ask, minima, tmp_path):
    file = tmp_path / "problem.yaml"
    file.write_text(
        "model: mlp\nmodel_args: {widths: [16], batch_norm: true}\ndata: digits\nfit:\n  cycles: 1x1@0.05\n"
    )
    flags = ["--problem", file, "--curve", "autoneb", *QUICK[2:], "--json"]
    code, _, errors = ask(
        "fit", "--a", minima[0], "--b", minima[1], "--out", tmp_path / "x", *flags, program=connect_cli
    )
    assert code == 0, errors
    growth = load_checkpoint(tmp_path / "x" / "path.safetensors").metadata["provenance"]["growth"]
    assert growth["cycles"] == [{"epochs": 1, "lr": 0.05}]


def test_the_verdict_follows_the_thresholds(ask, minima, tmp_path):
    arguments = fit_flags(minima, tmp_path / "x", "--json")
    _, first, _ = ask(*arguments, "--max-barrier", 100, "--max-error-barrier", 1, program=connect_cli)
    assert first["verdict"] == "connected linearly"
    code, second, _ = ask(*arguments, "--resume", "--max-barrier", 0, program=connect_cli)
    assert code == 0
    assert second["verdict"] == "not trained" or second["path"]["barrier"] == 0
    assert second["path"] == first["path"]


def test_a_path_that_is_not_trained_is_told_with_what_to_try_and_so_is_the_saved_one(ask, call, minima, tmp_path):
    strict = ["--max-barrier", 0, "--max-error-barrier", 0]
    arguments = fit_flags(minima, tmp_path / "x", *strict)
    code, fitted, errors = ask(*arguments, "--json", program=connect_cli)
    assert code == 0, errors
    assert (fitted["verdict"], fitted["training"], fitted["remedies"]) == ("not trained", "too short", {"epochs": 40})
    again = ["profile", tmp_path / "x" / "path.safetensors", "--points", 3, "--eval-batch-size", 512, *strict]
    code, printed, errors = call(*again, program=connect_cli)
    assert code == 0, errors
    assert "not trained: even along the path" in printed
    assert "what to try: --epochs 40" in printed
    growing = [*arguments[:-4], "--curve", "autoneb", "--cycles", "1x2@0.01", *strict]
    growing = [word for word in growing if word not in {"--epochs", 2}]
    growing[growing.index("--out") + 1] = tmp_path / "y"
    code, grown, errors = ask(*growing, "--json", program=connect_cli)
    assert code == 0, errors
    assert grown["remedies"] == {"cycles": "longer"}


# ------------------------------------------------------------------ profile, export, ensemble, plot


def test_a_path_is_measured_again_more_closely(ask, fitted, tmp_path):
    out = tmp_path / "again.h5"
    flags = ["--points", 7, "--tolerance", 1e-4, "--eval-batch-size", 512]
    code, summary, errors = ask(
        "profile", fitted / "path.safetensors", "--out", out, *flags, "--json", program=connect_cli
    )
    assert code == 0, errors
    assert set(summary["path"]) == FIGURES
    assert summary["path"]["bracket"] <= 1e-4
    assert summary["straight"]["bracket"] <= 1e-4
    assert summary["straight"]["points"] > 7
    result = load_result(out)
    for name in ("train_loss", "test_nll", "test_calibration_error", "arc", "angle", "norm", "kl_a", "cka_b"):
        assert np.isfinite(result.sweeps["path"][name]).all()
    assert (tmp_path / "again.png").exists()
    test_alone = tmp_path / "test.h5"
    flags = ["--points", 3, "--tolerance", 0, "--split", "test", "--eval-batch-size", 512, "--json"]
    code, summary, _ = ask("profile", fitted / "path.safetensors", "--out", test_alone, *flags, program=connect_cli)
    assert code == 0
    assert summary["path"]["split"] == "test"
    assert summary["path"]["points"] == summary["straight"]["points"] == 3


def test_an_interrupted_profile_goes_on_to_the_same_numbers(ask, fitted, tmp_path, monkeypatch):
    arguments = ["profile", fitted / "path.safetensors", "--points", 7, "--eval-batch-size", 512, "--json"]
    _, whole, _ = ask(*arguments, "--out", tmp_path / "whole.h5", program=connect_cli)
    out = tmp_path / "cut.h5"
    for after, flags in ((4, []), (9, ["--resume"])):
        with monkeypatch.context() as patched:
            patched.setattr("landscape.app.commandline.on_stderr", Signalling(after))
            code, _, errors = ask(*arguments, "--out", out, *flags, program=connect_cli)
        assert code == 75
        assert "--resume" in errors
    code, resumed, errors = ask(*arguments, "--out", out, "--resume", program=connect_cli)
    assert code == 0, errors
    assert {**resumed, "files": 0} == {**whole, "files": 0}


def test_an_exported_network_is_an_ordinary_checkpoint(ask, fitted, minima, tmp_path):
    """At the ends it has the parameters of the minima, and its own loss is that of the path there."""
    for t, file in ((0, minima[0]), (1, minima[1]), (0.5, None)):
        out = tmp_path / f"{t}.safetensors"
        flags = ["--t", t, "--out", out, "--eval-batch-size", 512, "--json"]
        code, summary, errors = ask("export", fitted / "path.safetensors", *flags, program=connect_cli)
        assert code == 0, errors
        assert summary["files"] == [str(out)]
        exported = load_checkpoint(out)
        if file:
            own = load_checkpoint(file)
            parameters = [name for name in own.state if "running" not in name and "batches" not in name]
            assert all(torch.equal(exported.state[name], own.state[name]) for name in parameters)
        losses = load_result(fitted / "profile.h5").sweeps["path"]
        at = int(np.argmin(np.abs(losses["t"] - t)))
        assert exported.metadata["train_loss"] == pytest.approx(losses["train_loss"][at], rel=1e-5)
    flags = ["--checkpoint", out, "--points", 3, "--out", tmp_path / "s.h5", "--eval-batch-size", 512]
    code, _, errors = ask("surface", *flags)
    assert code == 0, errors
    code, _, errors = ask("export", fitted / "path.safetensors", "--t", 0.5, "--out", out, program=connect_cli)
    assert code == 2
    assert "is there already" in errors
    code, _, errors = ask("export", fitted / "path.safetensors", "--t", 1.5, "--out", out, program=connect_cli)
    assert code == 2
    assert "expected a number in [0, 1]" in errors


@pytest.mark.parametrize("choose", ["even", "greedy"])
def test_ensembles_are_scored_and_drawn(ask, fitted, rendered, tmp_path, choose):
    out = tmp_path / "e.h5"
    flags = ["--members", 4, "--choose", choose, "--candidates", 7, "--out", out, "--eval-batch-size", 512, "--json"]
    code, summary, errors = ask("ensemble", fitted / "path.safetensors", *flags, program=connect_cli)
    assert code == 0, errors
    assert set(summary) == {"scores", "t", "diversity", "diversity_of_ends", "split", "positions", "files"}
    assert list(summary["scores"]) == [
        "end a", "end b", "ensemble of the ends", "weight average of the ends", "weight average of the members",
        "ensemble of 4 members",
    ]  # fmt: skip
    assert len(summary["t"]) == 4
    assert summary["files"] == [str(out), str(tmp_path / "e.png")]
    code, _, errors = ask("plot", out, "--out", tmp_path / "again", "--format", "svg", program=connect_cli)
    assert code == 0, errors
    assert (tmp_path / "again" / "e.svg").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ensemble", "{path}", "--members", 1], "--members is 1"),
        (["ensemble", "{path}", "--choose", "greedy", "--candidates", 3], "--candidates is 3"),
        (["ensemble", "{path}", "--split", "valid"], "no split 'valid'"),
        (["ensemble", "{path}", "--out", "x.png"], ".h5"),
        (["ensemble", "{minimum}"], "holds no path"),
        (["profile", "{minimum}"], "holds no path"),
        (["profile", "nowhere.safetensors"], "nowhere.safetensors"),
        (["profile", "{path}", "--batch-norm", "frozen"], "a path holds no running statistics"),
        (["export", "{minimum}", "--t", 0.5, "--out", "x.safetensors"], "holds no path"),
        (["export", "{path}", "--t", 0.5, "--out", "x.pt"], ".safetensors"),
        (["export", "{path}", "--t", "nan", "--out", "x.safetensors"], "--help"),
        (["simplex", "{minimum}", "--out", "x", "--connecting", 0], "--connecting is 0"),
        (["simplex", "{minimum}", "{minimum}", "--out", "x"], "hold the same network"),
        (["simplex", "{path}", "--out", "x"], ""),
        (["plot", "{path}"], ""),
    ],
)
def test_what_cannot_be_done_with_a_path_is_said(call, fitted, minima, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    known = {"{path}": fitted / "path.safetensors", "{minimum}": minima[0]}
    before = sorted(fitted.iterdir())
    code, printed, errors = call(*[known.get(argument, argument) for argument in arguments], program=connect_cli)
    assert code == 2, errors
    assert printed == ""
    assert words in errors
    assert len(errors.strip().splitlines()) <= 3
    assert sorted(fitted.iterdir()) == before


def test_simplices_are_fitted_measured_drawn_and_resumed(ask, minima, rendered, tmp_path, monkeypatch):
    arguments = ["simplex", *minima, "--epochs", 1, "--samples", 6, "--eval-batch-size", 512, "--json"]
    code, whole, errors = ask(*arguments, "--out", tmp_path / "whole", program=connect_cli)
    assert code == 0, errors
    assert set(whole) == {
        "split", "vertex_loss", "mean_loss", "max_loss", "min_test_accuracy", "log_volume", "files"
    }  # fmt: skip
    assert [FilePath(f).name for f in whole["files"]] == ["simplex.safetensors", "simplex.h5", "simplex.png"]
    result = load_result(tmp_path / "whole" / "simplex.h5")
    assert len(result.sweeps["inside"]["train_loss"]) == 6
    assert len(result.sweeps["vertices"]["train_loss"]) == 4
    assert whole["max_loss"] == pytest.approx(result.sweeps["inside"]["train_loss"].max())
    for after, flags in ((5, []), (20, ["--resume"])):
        with monkeypatch.context() as patched:
            patched.setattr("landscape.app.commandline.on_stderr", Signalling(after))
            code, _, errors = ask(*arguments, "--out", tmp_path / "cut", *flags, program=connect_cli)
        assert code == 75, errors
    code, resumed, errors = ask(*arguments, "--out", tmp_path / "cut", "--resume", program=connect_cli)
    assert code == 0, errors
    assert held(tmp_path / "cut" / "simplex.safetensors") == held(tmp_path / "whole" / "simplex.safetensors")
    assert {**resumed, "files": 0} == {**whole, "files": 0}
    code, _, errors = ask(*arguments[:2], *arguments[3:], "--out", tmp_path / "one", program=connect_cli)
    assert code == 0, errors
    code, _, errors = ask("plot", tmp_path / "one" / "simplex.h5", "--format", "pdf", program=connect_cli)
    assert code == 0, errors


# ------------------------------------------------------------------ kills and full disks


@pytest.mark.fault
@pytest.mark.parametrize(
    ("kind", "optimiser"),
    [("bezier", "sgd"), ("neb", "sgd"), ("autoneb", "sgd"), ("bezier", "adamw"), ("neb", "adamw")],
)
def test_a_killed_fit_goes_on_to_the_same_path(minima, tmp_path, start, kind, optimiser):
    """Killed at four moments that nobody chose; the state is written at every step."""
    epochs = ["--cycles", "2x6@0.05"] if kind == "autoneb" else ["--epochs", 20 if kind == "neb" else 80]
    given = ["connect", "fit", "--a", minima[0], "--b", minima[1], "--curve", kind, *epochs, "--optimiser", optimiser,
             "--points", 5, "--plane-points", 0, "--eval-batch-size", 512, "--save-every", 0, "--json",
             "--out"]  # fmt: skip
    whole = start.finish(*given, tmp_path / "whole")
    killed = 0
    state = tmp_path / "cut" / "fit.state.safetensors"
    for pause in (0.0, 0.1, 0.3, 0.7):
        before = state.stat().st_ino if state.exists() else None
        program = start(*given, tmp_path / "cut", "--resume")
        while program.alive and (not state.exists() or state.stat().st_ino == before):
            time.sleep(0.01)
        program.wait(pause)
        killed += program.kill()
    assert killed >= 2
    resumed = start.finish(*given, tmp_path / "cut", "--resume")
    assert held(tmp_path / "cut" / "path.safetensors") == held(tmp_path / "whole" / "path.safetensors")
    assert json.loads(resumed)["path"] == json.loads(whole)["path"]


# ------------------------------------------------------------------ what must not be lost, and what must not pass


def everything(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.mark.parametrize("mistake", ["same", "ends", "itself"])
def test_what_is_there_is_kept_when_a_command_that_overwrites_is_refused(call, minima, fitted, tmp_path, mistake):
    out = tmp_path / "kept"
    assert call(*fit_flags(minima, out), program=connect_cli)[0] == 0
    before = everything(out)
    flags = {
        "same": ["--a", minima[0], "--b", minima[0]],
        "ends": ["--a", minima[1], "--b", minima[0], "--start", fitted / "path.safetensors"],
        "itself": ["--a", minima[0], "--b", minima[1], "--start", out / "path.safetensors"],
    }[mistake]
    code, _, errors = call("fit", *flags, "--out", out, *QUICK, "--overwrite", program=connect_cli)
    assert code == 2
    assert mistake != "itself" or "is read by this command" in errors
    assert everything(out) == before
    path = fitted / "path.safetensors"
    code, _, errors = call("export", path, "--t", 0.5, "--out", path, "--overwrite", program=connect_cli)
    assert code == 2
    assert "is read by this command" in errors


def test_free_ends_are_told_by_how_far_they_went(ask, minima, tmp_path):
    arguments = fit_flags(minima, tmp_path / "x", "--free-ends", "--length-weight", 1, "--json")
    code, summary, errors = ask(*arguments, program=connect_cli)
    assert code == 0, errors
    assert "the free ends moved by" in summary["reason"]
    assert "not those of the checkpoints" in summary["reason"]


def test_checkpoints_of_two_problems_are_refused_unless_flags_say_which(call, minima, tmp_path):
    other = tmp_path / "other.safetensors"
    found = load_checkpoint(minima[1])
    problem = {**found.metadata["problem"], "loss": "mse"}
    save_tensors(other, found.state, {**found.metadata, "problem": problem})
    code, _, errors = call(*fit_flags([minima[0], other], tmp_path / "x"), program=connect_cli)
    assert code == 2
    assert "carries loss = 'cross_entropy'" in errors
    assert "--loss" in errors
    code, _, errors = call(*fit_flags([minima[0], other], tmp_path / "x", "--loss", "mse"), program=connect_cli)
    assert code == 0, errors


def test_a_base_that_the_path_was_not_fitted_with_is_refused(call, minima, tmp_path):
    out = tmp_path / "part"
    assert call(*fit_flags([minima[0], minima[0]], out, "--trainable", "nothing"), program=connect_cli)[0] == 2
    first, other = load_checkpoint(minima[0]), load_checkpoint(minima[1])
    name = next(name for name in first.state if name.endswith("weight"))
    moved = tmp_path / "moved.safetensors"
    save_tensors(moved, {**first.state, name: other.state[name]}, first.metadata)
    code, _, errors = call(*fit_flags([minima[0], moved], out, "--trainable", name), program=connect_cli)
    assert code == 0, errors
    flags = ["--points", 3, "--eval-batch-size", 512]
    code, _, errors = call("profile", out / "path.safetensors", "--base", minima[1], *flags, program=connect_cli)
    assert code == 2
    assert "none of the checkpoints" in errors
    code, _, errors = call("profile", out / "path.safetensors", "--base", minima[0], *flags, program=connect_cli)
    assert code == 0, errors


def test_only_fits_share_their_work(call, fitted, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, errors = call("profile", fitted / "path.safetensors", program=connect_cli)
    assert code == 2
    assert "only connect fit shares its work" in errors
