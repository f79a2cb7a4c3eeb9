"""Files that were made to do harm, through every command that reads: nothing is run, and nothing else is touched."""

import json
import os
import pickle
import struct
import warnings
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from connect import load_graph
from connect.app import cli as connect_cli
from landscape import Result, Sweep, load_checkpoint, load_result, save_result, save_tensors
from landscape.app import cli as landscape_cli
from landscape.app.commandline import _parser, run

EVIL = """
import pathlib
pathlib.Path({mark!r}).touch()
def model(**_): pathlib.Path({mark!r}).touch()
data = loss = model
"""
PROBLEM = ["--model", "mlp", "--model-args", '{"widths": [4]}', "--data", "digits"]
QUICK = ["--epochs", 1, "--points", 3, "--eval-batch-size", 2048]
LOSS = """
def loss(model, batch):
    return torch.nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")
"""
MOST_LINES = 4


class World:
    """A folder with a file of every kind that this program writes, a stranger's code, and the mark that this leaves."""

    def __init__(self, folder):
        self.folder = folder
        self.mark = folder / "mark"
        self.code = folder / "evil.py"
        self.code.write_text(EVIL.format(mark=str(self.mark)))
        self.a, self.b, self.c = (folder / f"{name}.safetensors" for name in "abc")
        for seed, file in enumerate((self.a, self.b, self.c)):
            self.run("train", *PROBLEM, "--epochs", 1, "--seed", seed, "--out", file)
        self.run("fit", "--a", self.a, "--b", self.b, "--out", folder / "fit", *QUICK, "--plane-points", 2)
        self.run("graph", self.a, self.b, "--out", folder / "map", *QUICK)
        self.run("simplex", self.a, self.b, "--out", folder / "volume", "--epochs", 1, "--samples", 2)
        self.run("surface", "--checkpoint", self.a, "--points", 3, "--out", folder / "s.h5", *QUICK[-2:])
        self.path, self.simplex = folder / "fit" / "path.safetensors", folder / "volume" / "simplex.safetensors"

    @staticmethod
    def run(command, *arguments):
        program = connect_cli if command in connect_cli._COMMANDS and command != "plot" else landscape_cli
        given = [str(argument) for argument in (command, *arguments)]
        assert run(program.__name__.split(".")[0], "", program._COMMANDS, given) == 0

    def changed(self, file, out, **metadata):
        """A copy of a file of tensors with other metadata, and a checksum that is right."""
        saved = load_checkpoint(file)
        save_tensors(out, saved.state, {**saved.metadata, **metadata})
        return out


@pytest.fixture(scope="module", autouse=True)
def once():
    """The programs' flags are parsed once, since most commands here end before anything else."""
    parsers = {}

    def parser(program, description, commands, configured=()):
        words = frozenset(configured)
        if (program, words) not in parsers:
            parsers[program, words] = _parser(program, description, commands, words)
        return parsers[program, words]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("landscape.app.commandline._parser", parser)
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture
def refused(call, world):
    """Run a command that must be refused; returns what it says."""

    def run_program(command, *arguments, program=None):
        chosen = program or (connect_cli if command in connect_cli._COMMANDS and command != "plot" else landscape_cli)
        code, printed, errors = call(command, *arguments, program=chosen)
        assert not world.mark.exists(), f"{command} ran the code"
        assert (code, printed) == (2, ""), (command, errors)
        assert not any(line.startswith("unexpected") for line in errors.splitlines()), errors
        assert len(errors.strip().splitlines()) <= MOST_LINES, errors
        assert len(errors) < 3000, errors
        return errors

    return run_program


def readers(file, out, world):
    """Every command that reads a checkpoint, with one that is to be read, and where it would write."""
    return {
        "line": ["line", "--a", file, "--range", "0:1:2", "--out", out / "l.h5"],
        "other end": ["line", "--a", file, "--b", world.b, "--range", "0:1:2", "--out", out / "l.h5"],
        "surface": ["surface", "--checkpoint", file, "--points", 2, "--out", out / "s.h5"],
        "hessian": ["hessian", "--checkpoint", file, "--samples", 20],
        "trajectory": ["trajectory", world.b, world.c, file, "--points", 0, "--out", out / "t.h5"],
        "fit": ["fit", "--a", file, "--b", world.b, *QUICK, "--plane-points", 0, "--out", out / "f"],
        "simplex": ["simplex", file, world.b, "--epochs", 1, "--samples", 2, "--out", out / "v"],
        "graph": ["graph", file, world.b, *QUICK, "--out", out / "g"],
    }


def path_readers(file, out):
    return {
        "profile": ["profile", file, "--points", 3, "--out", out / "p.h5"],
        "ensemble": ["ensemble", file, "--members", 2, "--out", out / "e.h5"],
        "export": ["export", file, "--t", 0.5, "--out", out / "x.safetensors"],
    }


def last_first(commands):
    """The same commands, where the trajectory's end, whose problem counts, is the file in question."""
    command, first, second, file, *rest = commands["trajectory"]
    return commands | {"trajectory": [command, file, first, second, *rest]}


# ------------------------------------------------------------------ code that metadata name


@pytest.mark.parametrize("key", ["model", "data", "loss"])
@pytest.mark.parametrize("kind", ["module", "file"])
def test_no_command_runs_what_a_checkpoint_names(refused, world, tmp_path, key, kind):
    name = "os:system" if kind == "module" else f"{world.code}:{key}"
    known = load_checkpoint(world.a).metadata["problem"]
    arguments = {f"{key}_args": {"command": f"touch {world.mark}"}} if kind == "module" and key != "loss" else {}
    file = world.changed(world.a, tmp_path / "x.safetensors", problem={**known, key: name, **arguments})
    alone = tmp_path / "way"
    alone.mkdir()
    for number in range(3):
        world.changed(file, alone / f"epoch_{number}.safetensors", number=number)
    commands = readers(file, tmp_path / "out", world)
    commands["trajectory"] = ["trajectory", alone, "--points", 0, "--out", tmp_path / "out" / "t.h5"]
    commands |= path_readers(
        world.changed(world.path, tmp_path / "path.safetensors", problem={**known, key: name, **arguments}),
        tmp_path / "out",
    )
    for command in commands.values():
        told = refused(*command)
        for word in (f"{key} = '{name}'", f"--{key} ", "--trust-code", "--problem", ".safetensors"):
            assert word in told, told
    assert not (tmp_path / "out").exists()


def test_a_loss_is_refused_where_model_and_data_are_named(refused, world, tmp_path):
    known = load_checkpoint(world.a).metadata["problem"]
    problem = {**known, "loss": f"{world.code}:loss"}
    file = world.changed(world.a, tmp_path / "x.safetensors", problem=problem)
    for command in readers(file, tmp_path, world).values():
        if command[0] != "trajectory":
            refused(*command, "--model", "mlp", "--data", "digits")


def test_states_and_simplices_run_nothing_either(refused, world, tmp_path):
    """What lies where a state is looked for, and what is no checkpoint at all."""
    problem = {"model": "os:system", "data": "os:system", "model_args": {"command": f"touch {world.mark}"}}
    out = tmp_path / "fit"
    state = load_checkpoint(world.path)
    known = {"problem": problem}
    save_tensors(out / "fit.state.safetensors", state.state, {"step": 3, "problem": problem, "provenance": known})
    told = refused("fit", "--a", world.a, "--b", world.b, *QUICK, "--out", out, "--resume")
    assert "begun with" in told
    save_tensors(out / "a.state.safetensors", state.state, {"step": 3, "problem": problem, "provenance": problem})
    refused("train", *PROBLEM, "--epochs", 1, "--out", out / "a.safetensors", "--resume")
    file = world.changed(world.simplex, tmp_path / "simplex.safetensors", problem=problem)
    for command in (readers(file, tmp_path, world) | path_readers(file, tmp_path)).values():
        refused(*command)
    assert "holds no path" in refused("fit", "--a", world.a, "--b", world.b, *QUICK, "--out", tmp_path / "x",
                                      "--start", file)  # fmt: skip


def test_the_flags_that_are_told_are_those_that_help(call, world, tmp_path, monkeypatch):
    """The user's own checkpoint, from the folder of the user's own code: the message's flags, and nothing else."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my code.py").write_text(
        "import torch\n"
        "def model(width=3): return torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.Linear(width, 2))\n"
        "def data(n=8):\n"
        "    x = torch.ones(n, 4).cumsum(0)\n"
        "    return (x, x[:, 0].long() % 2), (x, x[:, 0].long() % 2)\n" + LOSS
    )
    named = [f"--{key}={'my code.py'}:{key}" for key in ("model", "data", "loss")]
    arguments = ["--model-args", '{"width": 5}', "--data-args", '{"n": 12}']
    assert call("train", *named, *arguments, "--epochs", 1, "--out", "a.safetensors")[0] == 0
    line = ["line", "--a", "a.safetensors", "--range", "0:1:2", "--out", "l.h5"]
    code, _, errors = call(*line)
    assert code == 2
    assert "--model 'my code.py:model' --data 'my code.py:data' --loss 'my code.py:loss'," in errors
    assert "unknown" not in errors
    assert call(*line, *named)[0] == 0  # the arguments are those of the file, since the names are the same
    assert load_result("l.h5").provenance["problem"]["model_args"] == {"width": 5}
    assert call(*line[:-1], "trusted.h5", "--trust-code")[0] == 0
    assert np.array_equal(load_result("l.h5").train_loss, load_result("trusted.h5").train_loss)
    code, _, errors = call(*line[:-1], "part.h5", *named[:2])
    assert code == 2
    assert "give --loss 'my code.py:loss'," in errors
    assert "--model" not in errors


def test_names_that_would_steer_a_terminal_are_not_printed(refused, world, tmp_path):
    known = load_checkpoint(world.a).metadata["problem"]
    for name in ("a:\x1b[2J", "a\nb:c", "x" * 5000 + ":y", "'; rm -rf ~; ':x"):
        file = world.changed(world.a, tmp_path / "x.safetensors", problem={**known, "model": name})
        told = refused("line", "--a", file, "--out", tmp_path / "l.h5")
        assert "\x1b" not in told
        assert "give --model" in told


def test_a_studys_own_networks_need_no_flags_but_strangers_are_refused(call, refused, world, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch\ndef model(): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))\n" + LOSS
    )
    study = tmp_path / "s.yaml"
    study.write_text(
        f"data: digits\nmodel: {tmp_path}/mine.py:model\nloss: {tmp_path}/mine.py:loss\n"
        "train: {epochs: 1}\nnetworks: {one: {}, two: {seed: 1}}\nline: {a: one, b: two, range: '0:1:2'}\n"
    )
    out = tmp_path / "out"
    code, _, errors = call("study", study, "--out", out)
    assert code == 0, errors
    file = out / "networks" / "one.safetensors"
    evil = {"model": f"{world.code}:model", "data": f"{world.code}:data", "loss": f"{world.code}:loss"}
    world.changed(file, file, problem=evil)
    (out / "line" / "one.h5").unlink()
    code, _, errors = call("study", study, "--out", out, "--resume")
    assert not world.mark.exists()
    assert code == 0, errors


# ------------------------------------------------------------------ what else metadata say


def test_data_are_not_downloaded_because_a_file_says_so(refused, world, tmp_path, monkeypatch, caplog):
    asked = []

    def dataset(root, train, download):
        asked.append((root, download))
        raise RuntimeError("not there")

    dataset.base_folder = "cifar"
    monkeypatch.setattr("torchvision.datasets.CIFAR10", dataset)
    monkeypatch.setattr(dataset, "__name__", "CIFAR10", raising=False)
    problem = {"model": "mlp", "data": "cifar10", "data_args": {"root": str(tmp_path / "else"), "download": True}}
    file = world.changed(world.a, tmp_path / "x.safetensors", problem=problem)
    refused("line", "--a", file, "--out", tmp_path / "l.h5")
    assert asked == [(str(tmp_path / "else"), False)]
    assert f"the data are read from {tmp_path / 'else'}, as {file} says" in caplog.text
    caplog.clear()
    refused("line", "--a", file, "--out", tmp_path / "l.h5", "--data-root", tmp_path / "mine")
    assert asked[-1] == (str(tmp_path / "mine"), False)
    assert not caplog.text


@pytest.mark.parametrize(
    "arguments",
    [
        {"widths": [10**9]},
        {"widths": [10**9, 10**9]},
        {"widths": [10**20]},
        {"widths": [1] * 100_000},
        {"widths": "abc"},
        {"widths": {"a": 1}},
        {"widths": [-1]},
        {"widths": [1.5]},
        {"widths": None, "classes": "many"},
        {"batch_norm": {"a": []}, "activation": ["relu"]},
        {"input_shape": [10**6, 10**6]},
        {"input_shape": [[[]]]},
        {"nothing": 1},
    ],
    ids=str,
)
def test_arguments_of_an_absurd_size_or_type_are_refused(refused, world, tmp_path, arguments):
    known = load_checkpoint(world.a).metadata["problem"]
    problem = {**known, "model_args": {**known["model_args"], **arguments}}
    file = world.changed(world.a, tmp_path / "x.safetensors", problem=problem)
    refused("hessian", "--checkpoint", file)


def test_a_network_that_never_ends_is_stopped(refused, world, tmp_path):
    for problem in (
        {"model": "resnet8", "data": "digits", "model_args": {"depth": 10**9}},
        {"model": "densenet121", "data": "digits", "model_args": {"growth": 10**6}},
    ):
        told = refused("hessian", "--checkpoint", world.changed(world.a, tmp_path / "x.safetensors", problem=problem))
        assert "many times larger" in told


WRONG = {
    "problem": ["x", [1], 5, {"model": 5}, {"model": "mlp", "data": ["digits"]}, {"model": "mlp", "model_args": []},
                {"model": "mlp", "data": "digits", "data_args": 3}, {"unknown": 1}, {"model": {}, "data": {}},
                {"model": "mlp", "data": "digits", "data_args": {"root": 5}}, {"model": "\0:x", "data": "digits"},
                {"model": "~nobody/x.py:y", "data": "digits"}],
    "provenance": [5, [], "x"],
    "kind": [5, ["path"], {}],
    "recipe": ["x", [1]],
}  # fmt: skip


@pytest.mark.parametrize("key", WRONG)
def test_metadata_of_the_wrong_type_are_said(refused, world, tmp_path, key):
    for value in WRONG[key]:
        file = world.changed(world.a, tmp_path / "x.safetensors", **{key: value})
        for name, command in last_first(readers(file, tmp_path / "out", world)).items():
            if name in {"line", "hessian", "graph", "trajectory"}:
                refused(*command)


@pytest.mark.parametrize(
    "metadata",
    [
        {"curve": ["bezier"]},
        {"curve": "spiral"},
        {"coefficients": 5},
        {"coefficients": []},
        {"coefficients": [[]]},
        {"coefficients": [[1, 2], [3]]},
        {"coefficients": [["a"]]},
        {"epoch_losses": {"a": 1}},
        {"epoch_losses": ["a"]},
        {"provenance": {"trainable": 5}},
        {"provenance": {"checkpoints": 5}},
        {"provenance": {"trainable": "[" * 1000}},
    ],
    ids=str,
)
def test_paths_that_are_none_are_said(refused, world, tmp_path, metadata):
    file = world.changed(world.path, tmp_path / "x.safetensors", **metadata)
    commands = path_readers(file, tmp_path)
    if "coefficients" in metadata:
        commands = {"project": ["surface", "--checkpoint", world.a, "--points", 2, "--out", tmp_path / "s.h5"]}
        commands["project"] += ["--project", file]
    for command in commands.values():
        refused(*command)


def test_paths_of_the_wrong_tensors_are_said(refused, world, tmp_path):
    saved = load_checkpoint(world.path)
    first = next(iter(saved.state))
    states = ({}, {**saved.state, first: torch.tensor(1.0)}, {**saved.state, first: saved.state[first][:2]},
              {name: tensor[:1] for name, tensor in saved.state.items()})  # fmt: skip
    for state in states:
        save_tensors(tmp_path / "x.safetensors", state, saved.metadata)
        for command in path_readers(tmp_path / "x.safetensors", tmp_path).values():
            refused(*command)
        refused("surface", "--checkpoint", world.a, "--points", 2, "--out", tmp_path / "s.h5",
                "--project", tmp_path / "x.safetensors")  # fmt: skip


# ------------------------------------------------------------------ safetensors that are none


def tensors(header, data=b"\0" * 64):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


PLAIN = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
SAFETENSORS = {
    "huge header": struct.pack("<Q", 2**63) + b"{}",
    "large header": struct.pack("<Q", 2**40) + b"{}" + b" " * 1000,
    "negative header": struct.pack("<q", -1) + b"{}",
    "overlap": tensors({"a": PLAIN, "b": {**PLAIN, "data_offsets": [4, 12]}}, b"\0" * 12),
    "beyond": tensors({"a": {**PLAIN, "shape": [2**60], "data_offsets": [0, 2**62]}}),
    "gap": tensors({"a": PLAIN, "b": {**PLAIN, "data_offsets": [16, 24]}}, b"\0" * 24),
    "backwards": tensors({"a": {**PLAIN, "data_offsets": [8, 0]}}),
    "overflow": tensors({"a": {**PLAIN, "shape": [2**33, 2**33, 2**33]}}),
    "negative shape": tensors({"a": {**PLAIN, "shape": [-2]}}),
    "unknown type": tensors({"a": {**PLAIN, "dtype": "Q7"}}),
    "twice": tensors(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],'
                     b'"data_offsets":[0,8]}}', b"\0" * 8),
    "list": tensors(["a"]),
    "deep": tensors(b"[" * 100_000),
    "metadata list": tensors({"__metadata__": ["a"], "a": PLAIN}, b"\0" * 8),
    "metadata number": tensors({"__metadata__": {"sha256": 5}, "a": PLAIN}, b"\0" * 8),
    "metadata no json": tensors({"__metadata__": {"sha256": "x", "metadata": "{"}, "a": PLAIN}, b"\0" * 8),
    "strange floats": tensors({"a": {"dtype": "F8_E8M0", "shape": [8], "data_offsets": [0, 8]}}, b"\0" * 8),
    "nothing": b"",
    "short": b"\1\2",
}  # fmt: skip


@pytest.mark.parametrize("name", SAFETENSORS)
def test_malformed_tensors_are_said(refused, world, tmp_path, name):
    file = tmp_path / "x.safetensors"
    file.write_bytes(SAFETENSORS[name])
    for command in (readers(file, tmp_path / "out", world) | path_readers(file, tmp_path / "out")).values():
        refused(*command)


@pytest.mark.parametrize("text", ["[]", "5", '"x"', "null", "{", "[" * 100_000, "NaN"])
def test_metadata_that_are_no_mapping_are_said(refused, world, tmp_path, monkeypatch, text):
    file = tmp_path / "x.safetensors"
    with monkeypatch.context() as patch:
        dumps = json.dumps
        patch.setattr("landscape.storage.checkpoints.json.dumps", lambda value: text if value == {} else dumps(value))
        save_tensors(file, load_checkpoint(world.a).state, {})
    for command in (readers(file, tmp_path / "out", world) | path_readers(file, tmp_path / "out")).values():
        refused(*command)
    out = tmp_path / "f"
    out.mkdir()
    (out / "fit.state.safetensors").write_bytes(file.read_bytes())
    refused("fit", "--a", world.a, "--b", world.b, *QUICK, "--out", out, "--resume")


# ------------------------------------------------------------------ pickles and archives


class Calls:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def archive(file, **entries):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as written:
        for name, content in entries.items():
            written.writestr(name, content)


def pickles(folder, mark):
    made = folder / "call.pt", folder / "plain.pth", folder / "old.t7", folder / "bomb.pt", folder / "up.pt"
    torch.save({"state_dict": Calls(mark)}, made[0])
    made[1].write_bytes(pickle.dumps(Calls(mark)))
    torch.save({"w": Calls(mark)}, made[2], _use_new_zipfile_serialization=False)
    archive(made[3], **{"x/data.pkl": pickle.dumps({}), "x/version": "3", "x/data/0": b"\0" * 50_000_000})
    archive(made[4], **{"../../../../evil.py": "boom", "/etc/evil": "boom", "x/data.pkl": b"\x80\x02."})
    made += (folder / "wide.pt", folder / "cut.pt")
    torch.save({"w": torch.zeros(1).expand(2**40)}, made[5])
    made[6].write_bytes(made[5].read_bytes()[:200])
    return made


def test_pickles_and_archives_run_nothing_and_write_nothing(refused, world, tmp_path):
    for file in pickles(tmp_path, world.mark):
        for command in readers(file, tmp_path / "out", world).values():
            refused(*command, *PROBLEM)
        for command in path_readers(file, tmp_path / "out").values():
            refused(*command)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.parent.glob("evil*"))


# ------------------------------------------------------------------ HDF5


def foreign(file):
    """The layout of the other repository, but for its losses."""
    file["xcoordinates"], file["ycoordinates"] = np.arange(3.0), np.arange(3.0)


def own(file):
    """Our layout, but for its losses."""
    attributes = {"format": "mode-connectivity", "version": 1, "kind": "surface", "provenance": "{}", "facts": "{}"}
    file.attrs.update({**attributes, "sweeps": '[""]', "axes": '["y", "x"]', "values": '["train_loss"]', "sha256": ""})
    file["y"], file["x"], file["done"] = np.arange(3.0), np.arange(3.0), np.ones((3, 3), dtype=bool)


def virtual(file, target, growing):
    layout = h5py.VirtualLayout((3, 3), maxshape=(None, 3) if growing else (3, 3), dtype="f8")
    layout[:] = h5py.VirtualSource(target, "x", (3, 3))
    file.create_virtual_dataset("train_loss", layout)


def cycle(file):
    file.create_group("group")["again"] = file["/"]
    file["train_loss"] = file["group"]


DATA = {
    "external link": lambda f, t: f.__setitem__("train_loss", h5py.ExternalLink(t, "/x")),
    "relative link": lambda f, t: f.__setitem__("train_loss", h5py.ExternalLink(Path(t).name, "/x")),
    "soft link": lambda f, t: f.__setitem__("train_loss", h5py.SoftLink("/x")),
    "link through": lambda f, t: f.update({"g": h5py.ExternalLink(t, "/"), "train_loss": h5py.SoftLink("/g/x")}),
    "raw": lambda f, t: f.create_dataset("train_loss", (3, 3), "f8", external=[(t, 0, 72)]),
    "virtual": lambda f, t: virtual(f, t, False),
    "growing": lambda f, t: virtual(f, t, True),
    "sparse": lambda f, t: f.create_dataset("train_loss", (10**6, 10**6), "f8"),
    "sparse chunks": lambda f, t: f.create_dataset("train_loss", (10**6, 10**6), "f8", chunks=(10, 10)),
    "bomb": lambda f, t: f.create_dataset("train_loss", (10**5, 10**5), "f8", chunks=(10**3, 10**3),
                                          compression="gzip"),
    "chunk": lambda f, t: f.create_dataset("train_loss", (3, 3), "f8", maxshape=(None, None), chunks=(20_000, 20_000),
                                           compression="gzip"),
    "filter": lambda f, t: f.create_dataset("train_loss", (3, 3), "f8", compression="lzf"),
    "references": lambda f, t: f.create_dataset("train_loss", (3, 3), h5py.ref_dtype),
    "records": lambda f, t: f.create_dataset("train_loss", (3, 3), [("a", "f8"), ("b", "f8")]),
    "objects": lambda f, t: f.create_dataset("train_loss", (3, 3), h5py.vlen_dtype("f8")),
    "opaque": lambda f, t: f.create_dataset("train_loss", (3, 3), "V8"),
    "type": lambda f, t: f.__setitem__("train_loss", np.dtype("f8")),
    "words": lambda f, t: f.create_dataset("train_loss", (3, 3), "S8"),
    "complex": lambda f, t: f.create_dataset("train_loss", (3, 3), "c16"),
    "cycle": lambda f, t: cycle(f),
    "nothing": lambda f, t: None,
    "empty": lambda f, t: f.__setitem__("train_loss", h5py.Empty("f8")),
    "scalar": lambda f, t: f.__setitem__("train_loss", 5.0),
    "other shape": lambda f, t: f.__setitem__("train_loss", np.zeros(7)),
}  # fmt: skip


def result_readers(file, out, world):
    graph = out / "map"
    graph.mkdir(parents=True, exist_ok=True)
    (graph / "graph.h5").write_bytes(file.read_bytes())
    (graph / "l.h5").write_bytes(file.read_bytes())
    line = ["line", "--a", world.a, "--range", "0:1:2", "--eval-batch-size", 2048, "--resume"]
    return [
        ["plot", file, "--out", out],
        ["compare", file, world.folder / "s.h5", "--out", out / "c.png"],
        ["convert", file, "--out", out / "c.h5"],
        [*line, "--out", graph / "l.h5"],
        ["surface", "--checkpoint", world.a, "--points", 2, "--axes", file, "--out", out / "s.h5"],
        ["graph", world.a, world.b, *QUICK, "--out", graph, "--resume"],
    ]


def refuse_all(refused, file, out, world):
    for command in result_readers(file, out, world):
        refused(*command)
    refused("plot", file, "--out", out, program=connect_cli)
    assert sorted(path.name for path in out.rglob("*")) == ["graph.h5", "l.h5", "map"]


@pytest.mark.parametrize("layout", [foreign, own], ids=["foreign", "own"])
@pytest.mark.parametrize("name", DATA)
def test_data_that_are_not_plain_are_never_read(refused, world, tmp_path, monkeypatch, name, layout):
    monkeypatch.chdir(tmp_path)  # where relative names lead
    with h5py.File(tmp_path / "target.h5", "w") as target:
        target["x"] = np.full((3, 3), 42.0)
    file = tmp_path / "x.h5"
    with h5py.File(file, "w", libver="latest" if name == "growing" else "earliest") as written:
        layout(written)
        DATA[name](written, str(tmp_path / "target.h5"))
    refuse_all(refused, file, tmp_path / "out", world)


def test_a_file_that_is_a_hole_is_not_read(refused, world, tmp_path):
    """A data set of a terabyte in a file that says it is as long, of which a few blocks are stored."""
    file = tmp_path / "x.h5"
    with h5py.File(file, "w") as written:
        foreign(written)
        how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        how.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        how.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        space = h5py.h5s.create_simple((2**30, 128))
        h5py.h5d.create(written.id, b"train_loss", h5py.h5t.NATIVE_DOUBLE, space, how)
    if file.stat().st_blocks * 512 > 2**30:
        pytest.skip("this file system stores holes")
    assert "larger than its file" in refused("plot", file, "--out", tmp_path / "out")


def test_plain_files_of_the_other_layout_are_read_compressed_too(call, tmp_path):
    file = tmp_path / "x.h5"
    with h5py.File(file, "w") as written:
        foreign(written)
        written["dir_file"] = "weights.h5"
        written.create_dataset("train_loss", data=np.eye(3) + 1, compression="gzip", shuffle=True)
    assert call("plot", file, "--style", "filled")[0] == 0
    assert np.array_equal(load_result(file).train_loss, np.eye(3) + 1)


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_result_that_this_process_holds_open_is_read(world, tmp_path, mode):
    file = tmp_path / "s.h5"
    file.write_bytes((world.folder / "s.h5").read_bytes())
    expected = load_result(file).train_loss
    with h5py.File(file, mode):
        assert np.array_equal(load_result(file).train_loss, expected)


SAID = ["NaN", "5", "null", "[]", '"x"', "[" * 100_000, "{", "[1, 2]", '{"a": NaN}', '["", ""]', '[["x"]]', "1e999", ""]


@pytest.mark.parametrize("name", ["provenance", "facts", "sweeps", "axes", "values", "kind", "sha256", "version"])
def test_attributes_that_make_no_sense_are_said(refused, world, tmp_path, name):
    file = tmp_path / "x.h5"
    for said in [*SAID, 7, np.nan, np.inf, np.zeros(3)]:
        file.write_bytes((world.folder / "s.h5").read_bytes())
        with h5py.File(file, "r+") as written:
            written.attrs[name] = said
        refused("plot", file, "--out", tmp_path / "out")
        refused("convert", file, "--out", tmp_path / "c.h5")


def surface_result(**changes):
    axis = np.arange(3.0)
    sweep = Sweep({"y": axis, "x": axis}, {"train_loss": np.ones((3, 3))}, np.ones((3, 3), dtype=bool))
    return Result(**{"kind": "surface", "sweeps": {"": sweep}, **changes})


def shaped(done=(3, 3), loss=(3, 3), axis=(3,), kind=float):
    values = {"train_loss": np.ones(loss, dtype=kind)}
    return Sweep({"y": np.ones(axis), "x": np.arange(3.0)}, values, np.ones(done, dtype=bool))


GARBLED = [
    surface_result(sweeps={"": shaped(done=(2, 2))}),
    surface_result(sweeps={"": shaped(loss=(2, 3))}),
    surface_result(sweeps={"": shaped(axis=(3, 1))}),
    surface_result(sweeps={"": shaped(kind="S3")}),
    surface_result(sweeps={}),
    surface_result(marks={"a": np.zeros(3)}),
    surface_result(marks={"a": np.zeros((2, 5))}),
    surface_result(kind="nonsense", sweeps={}),
    surface_result(kind="spectrum", sweeps={}, facts={"ends": 5}),
    surface_result(kind="spectrum", sweeps={}, facts={"layers": []}),
    surface_result(kind="trajectory", sweeps={}, facts={}),
    surface_result(provenance={"problem": 5, "batch_norm": [], "seed": {}}),
]


@pytest.mark.parametrize("result", GARBLED, ids=map(str, range(len(GARBLED))))
def test_results_that_lack_what_they_need_are_said(refused, world, tmp_path, result):
    save_result(tmp_path / "x.h5", result)
    told = refused("plot", tmp_path / "x.h5", "--out", tmp_path / "out")
    assert "x.h5" in told


@pytest.mark.parametrize("kind", ["graph", "profile", "plane", "ensemble", "simplex"])
def test_results_of_connect_that_lack_what_they_need_are_said(refused, world, tmp_path, kind):
    for changes in ({}, {"facts": {"nodes": 5}}, {"facts": {"nodes": ["a"], "minima": [], "passes": [{}]}},
                    {"provenance": {"problem": []}}, {"sweeps": {}}):  # fmt: skip
        save_result(tmp_path / "x.h5", surface_result(kind=kind, **changes))
        if kind != "plane" or "sweeps" in changes:
            refused("plot", tmp_path / "x.h5", "--out", tmp_path / "out", program=connect_cli)


def test_a_graph_cannot_lead_out_of_its_folder(call, world, tmp_path):
    """Its passes name files; those elsewhere count as gone, and are not read."""
    out = tmp_path / "g"
    assert call("graph", world.a, world.b, *QUICK, "--out", out, program=connect_cli)[0] == 0
    graph = load_graph(out / "graph.h5")
    ((_, _, attributes),) = graph.graph.edges(data=True)
    secret = tmp_path / "secret.safetensors"
    secret.write_bytes((out / attributes["path"]).read_bytes())
    for name in (f"../{secret.name}", str(secret), f"passes/../../{secret.name}"):
        attributes["path"] = name
        graph.save(out / "graph.h5")
        code, printed, errors = call("graph", world.a, world.b, *QUICK, "--out", out, "--resume", program=connect_cli)
        assert code == 0, errors
        assert "found anew" in printed


# ------------------------------------------------------------------ what is no file


@pytest.mark.parametrize("what", ["pipe", "device", "folder", "loop", "nothing"])
def test_what_is_no_file_is_said_and_not_waited_for(refused, world, tmp_path, what):
    def put(name):
        path = tmp_path / name
        {
            "pipe": lambda: os.mkfifo(path),
            "device": lambda: path.symlink_to("/dev/zero"),
            "folder": path.mkdir,
            "loop": lambda: path.symlink_to(path),
            "nothing": lambda: None,
        }[what]()
        return path

    file, result, words = put("x.safetensors"), put("x.h5"), put("x.yaml")
    for command in (readers(file, tmp_path / "out", world) | path_readers(file, tmp_path / "out")).values():
        if command[0] not in {"trajectory", "graph"} or what != "folder":
            refused(*command)
    refused("plot", result, "--out", tmp_path / "out")
    refused("plot", result, "--out", tmp_path / "out", program=connect_cli)
    refused("convert", result, "--out", tmp_path / "c.h5")
    refused("compare", result, result, "--out", tmp_path / "c.png")
    refused("surface", "--checkpoint", world.a, "--axes", result, "--points", 2, "--out", tmp_path / "s.h5")
    refused("train", "--problem", words, "--out", tmp_path / "a.safetensors")
    refused("study", words, "--out", tmp_path / "out")


YAML = {
    "recursive": b"model: &a [*a]\ndata: digits\n",
    "laughs": b"a: &a [x, x, x, x, x, x, x, x, x]\n"
    + b"".join(b"%c: &%c [%s]\n" % (c, c, b", ".join([b"*%c" % (c - 1)] * 9)) for c in range(ord("b"), ord("k"))),
    "call": b"model: !!python/object/apply:os.system ['touch mark']\n",
    "deep": b"[" * 10_000,
    "latin": b"model: \xff\xfe\n",
    "list": b"- a\n",
    "bytes": b"\0\1\2",
    "nothing": b"",
}


@pytest.mark.parametrize("name", YAML)
def test_malformed_yaml_is_said(refused, world, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "x.yaml"
    file.write_bytes(YAML[name])
    refused("train", "--problem", file, "--out", tmp_path / "a.safetensors")
    refused("line", "--a", world.a, "--problem", file, "--out", tmp_path / "l.h5")
    refused("study", file, "--out", tmp_path / "out")
    assert not (tmp_path / "mark").exists()


# ------------------------------------------------------------------ links in place of outputs and locks


def victim(folder):
    file = folder / "victim.txt"
    file.write_text("precious")
    return file


def lock_link(lock, file):
    lock.symlink_to(file)


def lock_name(lock, file):
    lock.hardlink_to(file)


def lock_pipe(lock, file):
    os.mkfifo(lock)


def lock_folder(lock, file):
    lock.mkdir()


def lock_content(lock, file):
    lock.write_text("12345 and more")


def lock_nowhere(lock, file):
    lock.symlink_to(file.with_name("new.txt"))


LOCKS = [lock_link, lock_name, lock_pipe, lock_folder, lock_content, lock_nowhere]


@pytest.mark.parametrize("plant", LOCKS)
def test_what_is_no_lock_is_left_alone(refused, world, tmp_path, plant):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    file = victim(elsewhere)
    lines = ["line", "--a", world.a, "--range", "0:1:2", "--out", tmp_path / "l.h5"]
    commands = {
        ".l.h5.lock": lines,
        ".h_vectors.safetensors.lock": ["hessian", "--checkpoint", world.a, "--out", tmp_path / "h.h5"],
        ".f.lock": ["fit", "--a", world.a, "--b", world.b, *QUICK, "--out", tmp_path / "f"],
        ".c.png.lock": ["compare", world.folder / "s.h5", world.folder / "s.h5", "--out", tmp_path / "c.png"],
    }
    for name, command in commands.items():
        plant(tmp_path / name, file)
        for flags in ([], ["--overwrite"]):
            told = refused(*command, *flags)
            assert f"{name} is not a lock of this program" in told
    if plant is lock_content:
        assert (tmp_path / ".l.h5.lock").read_text() == "12345 and more"
    assert file.read_text() == "precious"
    assert [path.name for path in elsewhere.iterdir()] == ["victim.txt"]


@pytest.mark.parametrize("there", [True, False])
def test_a_link_in_place_of_an_output_is_replaced_itself_and_only_if_asked(call, refused, world, tmp_path, there):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    file = victim(elsewhere)
    target = file if there else elsewhere / "new.txt"
    out = tmp_path / "out"
    (out / "f").mkdir(parents=True)
    fit = ["fit", "--a", world.a, "--b", world.b, *QUICK, "--plane-points", 0]
    commands = {
        "l.h5": ["line", "--a", world.a, "--range", "0:1:2", "--out", out / "l.h5"],
        "h_vectors.safetensors": ["hessian", "--checkpoint", world.a, "--samples", 20, "--out", out / "h.h5"],
        "f/fit.state.safetensors": [*fit, "--out", out / "f"],
        "e.safetensors": ["export", world.path, "--t", 0.5, "--out", out / "e.safetensors"],
        "c.h5": ["convert", world.folder / "s.h5", "--out", out / "c.h5"],
        "c.png": ["compare", world.folder / "s.h5", world.folder / "s.h5", "--out", out / "c.png"],
    }
    for name, command in commands.items():
        (out / name).symlink_to(target)
        assert "is there already" in refused(*command)
        program = connect_cli if command[0] in connect_cli._COMMANDS else landscape_cli
        code, _, errors = call(*command, "--overwrite", program=program)
        assert code == 0, errors
        assert not (out / name).is_symlink()
    assert file.read_text() == "precious"
    assert [path.name for path in elsewhere.iterdir()] == ["victim.txt"]
    assert not list(out.rglob(".*"))


def test_links_in_place_of_folders_lead_nowhere(call, refused, world, tmp_path):
    elsewhere, out = tmp_path / "elsewhere", tmp_path / "out"
    elsewhere.mkdir()
    out.mkdir()
    line = ["line", "--a", world.a, "--range", "0:1:2", "--out", out / "l.h5"]
    assert call(*line)[0] == 0
    before = (out / "l.h5").read_bytes()
    for name in (".l.h5.new", ".l.h5.whole", ".l.h5.moving"):
        (out / name).symlink_to(elsewhere)
        assert "is in the way" in refused(*line, "--overwrite")
        (out / name).unlink()
    (out / "passes").symlink_to(elsewhere)
    assert "is a link" in refused("graph", world.a, world.b, *QUICK, "--out", out)
    assert not list(elsewhere.iterdir())
    assert (out / "l.h5").read_bytes() == before


def test_a_strangers_folder_of_new_files_replaces_nothing_else(refused, world, tmp_path):
    """The next run would finish it, as one that a kill cut short; but this command writes no such file."""
    (tmp_path / ".profile").write_text("mine")
    for name in (".l.h5.whole", ".l.h5.moving", ".l.h5.new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ".profile").write_text("boom")
        told = refused("line", "--a", world.a, "--range", "0:1:2", "--out", tmp_path / "l.h5", "--overwrite")
        assert "was not written by this command" in told
        assert (tmp_path / ".profile").read_text() == "mine"
        (tmp_path / name / ".profile").unlink()
        (tmp_path / name).rmdir()


# ------------------------------------------------------------------ names


NAMES = ["two\nlines", "$(touch mark)", "star*[a-z]?", "qu'ot\"es", "-dash", "per%cent{0}{}", "ünï\u202ecode", " "]


@pytest.mark.parametrize("name", NAMES)
def test_files_of_any_name_are_read_and_written_under_it(call, world, rendered, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / f"{name}.safetensors"
    file.write_bytes(world.a.read_bytes())
    (tmp_path / "lines.h5").touch()
    out = tmp_path / f"{name}.h5"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a glyph that the font does not have
        given = ["line", f"--a={file}", "--b", world.b, "--range", "0:1:2", f"--out={out}", "--eval-batch-size", 2048]
        for flags in ([], ["--overwrite"]):
            code, _, errors = call(*given, *flags)
            assert code == 0, errors
    assert load_result(out).train_loss.shape == (2,)
    assert not (tmp_path / "mark").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([file.name, out.name, f"{name}.png", "lines.h5"])
