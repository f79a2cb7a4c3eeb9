"""The programs, run in this process: what they print, where, and with which exit code."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from connect.app import cli as connect_cli
from landscape import ProblemSpecification, build_problem, load_checkpoint, load_result
from landscape.app import cli as landscape_cli
from landscape.app.commandline import _join_ranges, run
from landscape.errors import StorageError
from tests.oracles import Signalling, plain_loss

PROBLEM = ["--model", "mlp", "--model-args", '{"widths": [8], "batch_norm": true}', "--data", "digits"]


@pytest.fixture(scope="module")
def minima(tmp_path_factory):
    """Two checkpoints of a small network, briefly trained."""
    folder = tmp_path_factory.mktemp("minima")
    for seed in (1, 2):
        out = str(folder / f"{seed}.safetensors")
        arguments = ["train", *PROBLEM, "--epochs", "2", "--seed", str(seed), "--out", out]
        assert run("landscape", "", landscape_cli._COMMANDS, arguments) == 0
    return folder / "1.safetensors", folder / "2.safetensors"


def test_train_tells_what_it_found(call, tmp_path):
    out, snapshots = tmp_path / "a.safetensors", tmp_path / "steps"
    arguments = ["train", *PROBLEM, "--epochs", 2, "--seed", 3, "--out", out, "--snapshots", snapshots, "--json"]
    code, stdout, stderr = call(*arguments)
    assert code == 0, stderr
    summary = json.loads(stdout)
    assert {"train_loss", "train_accuracy", "test_loss", "test_accuracy"} <= set(summary)
    assert 0.3 < summary["test_accuracy"] <= 1
    checkpoint = load_checkpoint(out)
    assert checkpoint.metadata["problem"]["model"] == "mlp"
    assert checkpoint.metadata["problem"]["model_args"]["classes"] == 10
    assert checkpoint.metadata["recipe"]["epochs"] == 2
    assert sorted(file.name for file in snapshots.iterdir()) == [f"epoch_000{i}.safetensors" for i in range(3)]
    last = load_checkpoint(snapshots / "epoch_0002.safetensors")
    assert all(torch.equal(last.state[name], tensor) for name, tensor in checkpoint.state.items())
    code, _, stderr = call(*arguments)
    assert code == 2
    assert "--overwrite" in stderr
    assert call(*arguments, "--overwrite")[0] == 0


def test_flags_override_the_problem_file(call, tmp_path):
    (tmp_path / "p.yaml").write_text(
        "model: mlp\nmodel_args: {widths: [4]}\ndata: digits\ntrain: {epochs: 9, lr: 0.05}\n"
    )
    out = tmp_path / "a.safetensors"
    code, _, stderr = call("train", "--problem", tmp_path / "p.yaml", "--epochs", 1, "--loss", "mse", "--out", out)
    assert code == 0, stderr
    metadata = load_checkpoint(out).metadata
    assert metadata["recipe"]["epochs"] == 1
    assert metadata["recipe"]["lr"] == 0.05
    assert metadata["problem"]["loss"] == "mse"
    assert metadata["problem"]["model_args"]["widths"] == [4]


def test_a_surface_has_the_checkpoints_own_loss_in_its_middle(call, minima, tmp_path):
    out = tmp_path / "s.h5"
    arguments = ["surface", "--checkpoint", minima[0], "--out", out, "--x", "-1:1:5", "--y", "-0.5:0.5:3", "--json"]
    code, stdout, stderr = call(*arguments)
    assert code == 0, stderr
    summary = json.loads(stdout)
    assert summary["points"] == 15
    assert [file.rsplit("/", 1)[1] for file in summary["files"]] == ["s.h5", "s_filled.png", "s_3d.png"]
    sweep = load_result(out).sweep
    assert sweep.values["train_loss"].shape == (3, 5)
    own = load_checkpoint(minima[0]).metadata["train_loss"]
    assert sweep.values["train_loss"][1, 2] == pytest.approx(own, abs=1e-6)
    assert summary["min_loss"] == sweep.values["train_loss"].min()
    assert summary["max_loss"] == sweep.values["train_loss"].max()
    pictures = [out.with_name(name) for name in ("s_filled.png", "s_3d.png")]
    content = [picture.read_bytes() for picture in pictures]
    assert call("plot", out)[0] == 0
    assert [picture.read_bytes() for picture in pictures] == content
    assert call("plot", out, "--format", "svg", "--out", tmp_path / "svg")[0] == 0
    assert (tmp_path / "svg" / "s_filled.svg").exists()


@pytest.mark.parametrize(("x", "y", "picture"), [("0:0:1", "-1:1:3", "line"), ("0:0:1", "0:0:1", "line")])
def test_a_surface_of_one_line_or_point_is_drawn_as_one(call, minima, rendered, tmp_path, x, y, picture):
    code, _, stderr = call("surface", "--checkpoint", minima[0], "--out", tmp_path / "s.h5", "--x", x, "--y", y)
    assert code == 0, stderr
    assert (tmp_path / f"s_{picture}.png").exists()


def test_fit_finds_a_path_and_tells_how_it_compares(call, minima, rendered, tmp_path):
    arguments = ["fit", "--a", minima[0], "--b", minima[1], "--out", tmp_path / "ab", "--points", 5]
    arguments += ["--epochs", 2, "--plane-points", 4, "--json"]
    code, stdout, stderr = call(*arguments, program=connect_cli)
    assert code == 0, stderr
    summary = json.loads(stdout)
    assert set(summary) == {"path", "straight", "verdict", "reason", "training", "remedies", "files"}
    told = {"barrier_low", "barrier_high", "excess", "error_barrier", "saddle_loss", "t_max"}
    for way in ("path", "straight"):
        assert told | {"split", "max_loss", "barrier", "min_test_accuracy", "length_ratio"} <= set(summary[way])
    assert summary["straight"]["length_ratio"] == 1
    names = ["path.safetensors", "profile.h5", "plane.h5", "path.png", "plane.png"]
    assert [file.rsplit("/", 1)[1] for file in summary["files"]] == names
    profile = load_result(tmp_path / "ab" / "profile.h5")
    assert profile.provenance["batch_norm"] == "recomputed"
    assert len(profile.sweeps["path"].axes["t"]) == 5
    for index in (0, -1):
        ways = [profile.sweeps[way].values["train_loss"][index] for way in ("path", "straight")]
        assert ways[0] == pytest.approx(ways[1], abs=1e-6)
    code, _, stderr = call(*arguments, program=connect_cli)
    assert code == 2
    assert "--overwrite" in stderr
    code, again, stderr = call(*arguments, "--resume", program=connect_cli)
    assert code == 0, stderr
    assert json.loads(again) == summary
    resumed = load_result(tmp_path / "ab" / "profile.h5")
    assert resumed.provenance == profile.provenance
    for way in ("path", "straight"):
        for name, values in profile.sweeps[way].values.items():
            assert np.array_equal(resumed.sweeps[way].values[name], values)
    code, _, stderr = call(*arguments, "--resume", "--seed", 5, program=connect_cli)
    assert code == 2
    assert "begun with seed = 0, now it is 5" in stderr
    assert call("plot", tmp_path / "ab" / "plane.h5", "--out", tmp_path, program=connect_cli)[0] == 0
    assert (tmp_path / "plane.png").read_bytes() == (tmp_path / "ab" / "plane.png").read_bytes()


def test_the_whole_table_is_printed(call, minima, tmp_path):
    arguments = ["fit", "--a", minima[0], "--b", minima[1], "--out", tmp_path, "--points", 3, "--epochs", 1]
    arguments += ["--plane-points", 0, "--curve", "chain", "--control-points", 4]
    code, stdout, stderr = call(*arguments, program=connect_cli)
    assert code == 0, stderr
    for word in ("path", "straight", "max train loss", "barrier", "min test accuracy", "length / straight", "path.png"):
        assert word in stdout
    assert not (tmp_path / "plane.png").exists()


@pytest.mark.parametrize("where", ["train", "sweep"])
def test_an_interrupted_fit_goes_on_to_the_same_numbers(call, minima, tmp_path, where, monkeypatch):
    """A signal in the middle of the training or of the profile; the rest follows with --resume."""

    def arguments(folder):
        given = ["fit", "--a", minima[0], "--b", minima[1], "--out", folder, "--points", 4, "--epochs", 2]
        return [*given, "--plane-points", 3, "--eval-batch-size", 64, "--json"]

    _, whole, _ = call(*arguments(tmp_path / "whole"), program=connect_cli)
    steps = {"train": 5, "sweep": 33}[where]
    with monkeypatch.context() as patch:
        patch.setattr("landscape.app.commandline.on_stderr", Signalling(steps, signal.SIGINT))
        code, stdout, stderr = call(*arguments(tmp_path / "cut"), program=connect_cli)
    assert code == 75
    assert stdout == ""
    assert "--resume" in stderr
    code, resumed, stderr = call(*arguments(tmp_path / "cut"), "--resume", program=connect_cli)
    assert code == 0, stderr
    assert {**json.loads(resumed), "files": None} == {**json.loads(whole), "files": None}
    paths = [load_checkpoint(tmp_path / folder / "path.safetensors") for folder in ("whole", "cut")]
    assert paths[0].fingerprint == paths[1].fingerprint
    sweeps = [load_result(tmp_path / folder / "profile.h5").sweeps["straight"] for folder in ("whole", "cut")]
    assert np.array_equal(sweeps[0].values["test_loss"], sweeps[1].values["test_loss"])


def foreign(tmp_path, minima, change):
    """A pickled checkpoint without a problem, made from one of ours."""
    state = dict(load_checkpoint(minima[0]).state)
    change(state)
    torch.save({"epoch": 1, "state_dict": {f"module.{n}": t for n, t in state.items()}}, tmp_path / "f.pt")
    return tmp_path / "f.pt"


def test_a_foreign_checkpoint_needs_a_problem_and_then_works(call, minima, tmp_path):
    file = foreign(tmp_path, minima, lambda state: None)
    arguments = ["surface", "--checkpoint", file, "--out", tmp_path / "s.h5", "--x", "-1:1:2", "--y", "-1:1:2"]
    code, _, stderr = call(*arguments)
    assert code == 2
    assert "carries no problem; give --problem FILE.yaml, or --model and --data" in stderr
    assert call(*arguments, *PROBLEM)[0] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("1.weight"), "do not fit .*missing: 1.weight"),
        (lambda state: state.update({"1.weight": torch.zeros(3, 3)}), r"shapes: 1.weight is \(3, 3\), expected"),
        (lambda state: state["1.weight"].fill_(float("nan")), "1.weight holds NaN"),
    ],
)
def test_checkpoints_that_do_not_fit_are_refused_before_any_computing(call, minima, tmp_path, change, message):
    import re

    file = foreign(tmp_path, minima, change)
    code, stdout, stderr = call("fit", "--a", minima[0], "--b", file, "--out", tmp_path / "x", program=connect_cli)
    assert (code, stdout) == (2, "")
    assert re.search(message, stderr)
    assert len(stderr.strip().splitlines()) <= 2
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["walk"],
        ["surface"],
        ["surface", "--checkpoint", "nowhere.pt", "--out", "s.h5"],
        ["surface", "--checkpoint", "nowhere.pt", "--out", "s.png"],
        ["surface", "--checkpoint", "nowhere.pt", "--out", "s.h5", "--x", "1:2"],
        ["surface", "--checkpoint", "nowhere.pt", "--out", "s.h5", "--normalise", "batch"],
        ["train", "--out", "a.pt", "--model", "mlp", "--data", "digits"],
        ["train", "--out", "a.safetensors"],
        ["train", "--out", "a.safetensors", "--problem", "nowhere.yaml"],
        ["train", "--out", "a.safetensors", "--model", "mlp", "--data", "digits", "--lr", "-1"],
        ["train", "--out", "a.safetensors", "--model", "mlp", "--data", "digits", "--epochs", "many"],
        ["train", "--out", "a.safetensors", "--model", "mlp", "--data", "digits", "--bogus", "1"],
        ["train", "--out", "a.safetensors", "--model", "mlp", "--data", "cifar10", "--data-root", "/nowhere"],
        ["plot", "nowhere.h5"],
    ],
)
def test_errors_are_two_lines_and_exit_code_2(call, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    code, stdout, stderr = call(*arguments)
    assert (code, stdout) == (2, "")
    assert 1 <= len(stderr.strip().splitlines()) <= 2
    assert "Traceback" not in stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("model: [", "is not YAML"),
        ("- a", "holds list"),
        ("model: mlp\ndata: digits\ncolour: red", "unknown key 'colour'"),
        ("model: mlp", "'data' is missing"),
        ("model: 3\ndata: digits", "expected a name"),
        ("model: mlp\ndata: digits\nmodel_args: 3", "expected a mapping"),
        ("model: mlp\ndata: digits\ntrain: 3", "expected a mapping"),
        ("model: mlp\ndata: digits\ntrain: {speed: 3}", "unknown key 'speed'"),
        ("model: mlp\ndata: digits\ntrain: {lr: fast}", "lr is 'fast', expected a number"),
        ("model: mlp\ndata: digits\ntrain: {schedule: magic}", "schedule is 'magic'"),
    ],
)
def test_what_is_wrong_with_a_problem_file_is_said(call, tmp_path, content, message):
    (tmp_path / "p.yaml").write_text(content)
    code, _, stderr = call("train", "--problem", tmp_path / "p.yaml", "--out", tmp_path / "a.safetensors")
    assert code == 2
    assert message in stderr


def test_a_configuration_file_gives_values_and_flags_override_it(call, minima, tmp_path):
    out = tmp_path / "s.h5"
    (tmp_path / "c.yaml").write_text(f"checkpoint: {minima[0]}\nout: {out}\nx: '-1:1:3'\ny: '0:1:2'\n")
    assert call("surface", "--config", tmp_path / "c.yaml", "--y", "-1:1:4")[0] == 0
    assert load_result(out).sweep.done.shape == (4, 3)


def test_print_config_can_be_read_back(call, capsys, minima, tmp_path):
    arguments = ["surface", "--checkpoint", str(minima[0]), "--out", str(tmp_path / "s.h5"), "--x", "-1:1:3"]
    with pytest.raises(SystemExit) as left:
        run("landscape", "", landscape_cli._COMMANDS, [*arguments, "--y", "-1:1:2", "--print-config"])
    assert not left.value.code
    (tmp_path / "c.yaml").write_text(capsys.readouterr().out)
    code, _, stderr = call("surface", "--config", tmp_path / "c.yaml")
    assert code == 0, stderr
    assert load_result(tmp_path / "s.h5").sweep.done.shape == (2, 3)


def test_debug_shows_where_an_error_comes_from(call):
    assert "Traceback" in call("plot", "nowhere.h5", "--debug")[2]


def test_a_defect_is_told_as_one(call, monkeypatch):
    def broken(config, report):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("landscape.app.commands.pictures.plot", broken)
    code, _, stderr = call("plot", "x.h5")
    assert code == 2
    assert "unexpected ZeroDivisionError: oh" in stderr
    assert "--debug" in stderr


def test_ranges_may_begin_with_a_dash():
    assert _join_ranges(["--x", "-1:1:5", "--y=-2:2:3", "--lr", "-1"]) == ["--x=-1:1:5", "--y=-2:2:3", "--lr", "-1"]


def test_a_read_only_folder_and_a_full_disk_are_said(call, minima, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    arguments = ["surface", "--checkpoint", minima[0], "--out", tmp_path / "s.h5", "--x", "0:1:2", "--y", "0:1:2"]
    code, _, stderr = call(*arguments)
    assert code == 2
    assert "No space left on device" in stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_said(call, minima, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, stderr = call(
        "surface", "--checkpoint", minima[0], "--out", tmp_path / "file" / "s.h5", "--x", "0:1:2", "--y", "0:1:2"
    )
    assert code == 2
    assert "cannot write" in stderr


def test_sigterm_ends_a_program_with_the_resumable_code(minima, tmp_path):
    """The real program in a process of its own."""
    out = tmp_path / "s.h5"
    command = [
        sys.executable,
        "-c",
        "from landscape.app.cli import main; main()",
        "surface",
        "--checkpoint",
        str(minima[0]),
    ]
    process = subprocess.Popen([*command, "--out", str(out)], stderr=subprocess.PIPE, text=True)
    while not out.exists():
        assert process.poll() is None
    process.terminate()
    _, stderr = process.communicate(timeout=10)
    assert process.returncode == 75
    assert "go on with --resume" in stderr
    assert 0 < load_result(out).sweep.done.sum() < 51 * 51


def test_a_path_cannot_join_checkpoints_that_differ_in_what_stays(call, minima, tmp_path):
    arguments = ["fit", "--a", minima[0], "--b", minima[1], "--out", tmp_path / "x", "--trainable", "1.*"]
    code, _, stderr = call(*arguments, program=connect_cli)
    assert code == 2
    assert "is not trainable" in stderr


def test_the_same_checkpoint_twice_is_refused(call, minima, tmp_path):
    code, _, stderr = call("fit", "--a", minima[0], "--b", minima[0], "--out", tmp_path / "x", program=connect_cli)
    assert code == 2
    assert "hold the same network" in stderr


USER = """
import sys
import torch

def model():
    print("hello from the factory")
    return torch.nn.Linear(4, 2)

def data():
    x = torch.randn(20, 4)
    return {"test": (x[:5], x[:5, 0].long().clamp(0, 1)), "train": (x, x[:, 0].long().clamp(0, 1))}

def leaves():
    sys.exit(3)

def raises():
    raise ValueError("one\\ntwo\\nthree")

NUMBER = 5
"""


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "mine.py").write_text(USER)
    return tmp_path / "mine.py"


def test_what_users_print_does_not_disturb_the_json(call, mine, tmp_path):
    arguments = ["train", "--model", f"{mine}:model", "--data", f"{mine}:data", "--epochs", 1, "--json"]
    code, stdout, stderr = call(*arguments, "--out", tmp_path / "a.safetensors")
    assert code == 0, stderr
    assert set(json.loads(stdout)) >= {"train_loss", "test_loss"}
    assert "hello from the factory" in stderr


@pytest.mark.parametrize(
    ("name", "message"), [("leaves", "SystemExit: 3"), ("raises", "one two three"), ("NUMBER", "int")]
)
def test_whatever_a_factory_does_is_one_line(call, mine, tmp_path, name, message):
    code, stdout, stderr = call(
        "train", "--model", f"{mine}:{name}", "--data", f"{mine}:data", "--out", tmp_path / "a.safetensors"
    )
    assert (code, stdout) == (2, "")
    assert message in stderr
    assert len(stderr.strip().splitlines()) == 1


def test_data_that_are_drawn_at_random_are_the_same_every_time(call, mine, tmp_path):
    outs = [tmp_path / f"{seed}.safetensors" for seed in (1, 2)]
    for seed, out in enumerate(outs):
        torch.manual_seed(seed)
        assert call("train", "--model", f"{mine}:model", "--data", f"{mine}:data", "--epochs", 0, "--out", out)[0] == 0
    first, second = (load_checkpoint(out).metadata["provenance"]["data"] for out in outs)
    assert first == second


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed", "-1"], "--seed is -1"),
        (["--eval-batch-size", "0"], "batch size is 0"),
        (["--statistics-batch-size", "1"], "--statistics-batch-size is 1"),
        (["--trainable", "*bias"], "a direction is zero"),
        (["--out", "x" * 300 + ".h5"], "name too long"),
        (["--split", "dev"], "no split 'dev'"),
        (["--device", "cuda"], "no CUDA device"),
    ],
)
def test_values_that_cannot_be_are_said(call, minima, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    given = ["surface", "--checkpoint", minima[0], "--x", "0:1:2", "--y", "0:1:2"]
    given += [] if "--out" in arguments else ["--out", "s.h5"]
    code, stdout, stderr = call(*given, *arguments)
    assert (code, stdout) == (2, "")
    assert message in stderr
    assert "unexpected" not in stderr
    assert not list(tmp_path.iterdir())


def test_ranges_and_numbers_in_yaml_need_no_quotes(call, minima, tmp_path):
    out = tmp_path / "s.h5"
    (tmp_path / "c.yaml").write_text(f"checkpoint: {minima[0]}\nout: {out}\nx: -1:1:3\ny: 1:0:2\n")
    code, _, stderr = call("surface", "--config", tmp_path / "c.yaml")
    assert code == 0, stderr
    assert load_result(out).provenance["x"] == "-1:1:3"
    (tmp_path / "p.yaml").write_text("model: mlp\ndata: digits\ntrain: {weight_decay: 5e-4, epochs: 0}\n")
    assert call("train", "--problem", tmp_path / "p.yaml", "--out", tmp_path / "a.safetensors")[0] == 0
    assert load_checkpoint(tmp_path / "a.safetensors").metadata["recipe"]["weight_decay"] == 5e-4


def test_a_finished_training_resumes_to_what_it_was(call, minima, tmp_path):
    arguments = ["train", *PROBLEM, "--epochs", 1, "--out", tmp_path / "a.safetensors", "--json"]
    first = json.loads(call(*arguments)[1])
    code, stdout, stderr = call(*arguments, "--resume")
    assert code == 0, stderr
    assert {**json.loads(stdout), "seconds": 0} == {**first, "seconds": 0}
    code, _, stderr = call(*arguments, "--resume", "--seed", 7)
    assert code == 2
    assert "begun with seed = 0, now it is 7" in stderr


def test_a_finished_training_is_not_lost_when_the_disk_is_full(call, tmp_path, monkeypatch):
    """The state stays until the checkpoint is on disk; the same command with --resume then only writes it."""
    out = tmp_path / "a.safetensors"
    arguments = ["train", *PROBLEM, "--epochs", 1, "--out", out]

    def full(*_):
        raise StorageError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("landscape.app.commands.training.save_tensors", full)
        code, _, stderr = call(*arguments)
    assert code == 2
    assert "disk full" in stderr
    state = load_checkpoint(tmp_path / "a.state.safetensors")
    assert state.metadata["step"] == 12
    code, _, stderr = call(*arguments, "--resume")
    assert code == 0, stderr
    assert not (tmp_path / "a.state.safetensors").exists()
    assert torch.equal(load_checkpoint(out).state["1.weight"].flatten(), state.state["points"][0][: 8 * 64])


def test_an_overwriting_fit_that_is_interrupted_goes_on(call, minima, tmp_path, monkeypatch):
    """The old results stay until the new ones are whole, but a resume goes on with the new run."""
    arguments = ["fit", "--a", minima[0], "--b", minima[1], "--out", tmp_path, "--points", 3, "--plane-points", 2]
    assert call(*arguments, "--epochs", 1, program=connect_cli)[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr("landscape.app.commandline.on_stderr", Signalling(1))
        assert call(*arguments, "--epochs", 2, "--overwrite", program=connect_cli)[0] == 75
    assert load_checkpoint(tmp_path / "path.safetensors").metadata["provenance"]["recipe"]["epochs"] == 1
    code, _, stderr = call(*arguments, "--epochs", 2, "--resume", program=connect_cli)
    assert code == 0, stderr
    assert load_checkpoint(tmp_path / "path.safetensors").metadata["provenance"]["recipe"]["epochs"] == 2


def test_an_overwriting_training_that_is_interrupted_goes_on(call, tmp_path, monkeypatch):
    """The old checkpoint stays until the new one is there, but a resume goes on with the new one's state."""
    arguments = ["train", *PROBLEM, "--out", tmp_path / "a.safetensors"]
    assert call(*arguments, "--epochs", 1)[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr("landscape.app.commandline.on_stderr", Signalling(5))
        assert call(*arguments, "--epochs", 2, "--overwrite")[0] == 75
    assert load_checkpoint(tmp_path / "a.safetensors").metadata["recipe"]["epochs"] == 1
    code, _, stderr = call(*arguments, "--epochs", 2, "--resume")
    assert code == 0, stderr
    assert load_checkpoint(tmp_path / "a.safetensors").metadata["recipe"]["epochs"] == 2


def test_a_signal_where_nothing_watches_for_it_is_resumable_too(call, monkeypatch):
    def interrupted(config, report):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("landscape.app.commands.pictures.plot", interrupted)
    code, stdout, stderr = call("plot", "x.h5")
    assert (code, stdout) == (75, "")
    assert "--resume" in stderr


def test_both_ends_have_the_checkpoints_own_loss(call, tmp_path):
    """At t = 0 and t = 1 a network without batch norm has the loss that a plain loop gives."""
    outs = [tmp_path / f"{seed}.safetensors" for seed in (1, 2)]
    for seed, out in enumerate(outs):
        arguments = ["train", "--model", "mlp", "--data", "digits", "--epochs", 1, "--seed", seed, "--out", out]
        assert call(*arguments)[0] == 0
    arguments = ["fit", "--a", outs[0], "--b", outs[1], "--out", tmp_path / "ab", "--points", 3, "--epochs", 1]
    assert call(*arguments, "--plane-points", 0, program=connect_cli)[0] == 0
    problem = build_problem(ProblemSpecification(model="mlp", data="digits"))
    profile = load_result(tmp_path / "ab" / "profile.h5")
    for index, out in ((0, outs[0]), (-1, outs[1])):
        problem.model.load_state_dict(load_checkpoint(out).state)
        for split in ("train", "test"):
            expected = plain_loss(problem.model, *problem.data.splits[split].tensors)
            for way in ("path", "straight"):
                assert profile.sweeps[way].values[f"{split}_loss"][index] == pytest.approx(expected, abs=1e-6)
