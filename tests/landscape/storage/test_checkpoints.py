import argparse
import collections
import copy
import datetime
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import nn

from connect.app import cli as connect_cli
from landscape import Checkpoint, ParameterSpace, load_checkpoint, save_tensors
from landscape.app.checkpoints import load_as, load_network
from landscape.app.config import CheckpointOptions
from landscape.errors import CheckpointError, CorruptFileError, LayoutError, StorageError, UntrustedPickleError
from landscape.storage.checkpoints import read_metadata, require_same_layout
from landscape.storage.pickles import LAST_KEYS, STATE_KEYS
from tests.oracles import networks

STATE = {"weight": torch.ones(2, 2), "bias": torch.zeros(2)}


@pytest.mark.parametrize("key", STATE_KEYS)
def test_state_is_found_under_the_usual_keys(tmp_path, key):
    torch.save({"epoch": 3, "optimizer": {"state": {}}, key: STATE}, tmp_path / "a.pt")
    assert set(load_checkpoint(tmp_path / "a.pt").state) == set(STATE)


def test_metadata_come_back(tmp_path):
    save_tensors(tmp_path / "a.safetensors", STATE, {"problem": {"model": "mlp"}, "seed": 3})
    assert load_checkpoint(tmp_path / "a.safetensors").metadata == {"problem": {"model": "mlp"}, "seed": 3}


@pytest.fixture
def stranger(monkeypatch):
    """A class that a checkpoint was pickled with."""
    module = types.ModuleType("stranger")

    class Config:
        def __init__(self):
            self.depth = 3

    Config.__module__, Config.__qualname__ = "stranger", "Config"
    module.Config = Config
    monkeypatch.setitem(sys.modules, "stranger", module)
    return Config


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_needs_code_is_refused_unless_trusted(tmp_path, stranger, zipped):
    path = tmp_path / "a.pt"
    torch.save({"config": stranger(), "model": STATE}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UntrustedPickleError, match=r"a\.pt holds stranger\.Config.*--trust-pickle"):
        load_checkpoint(path)
    assert set(load_checkpoint(path, trust_pickle=True).state) == set(STATE)


def test_plain_settings_beside_the_weights_need_no_trust(tmp_path):
    settings = {"out": Path("runs"), "args": argparse.Namespace(width=3), "limit": datetime.timedelta(hours=1)}
    torch.save({"hyper_parameters": settings, "state_dict": STATE}, tmp_path / "a.ckpt")
    assert set(load_checkpoint(tmp_path / "a.ckpt").state) == set(STATE)


def test_a_whole_pickled_network_is_read_when_trusted(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "a.pt")
    with pytest.raises(UntrustedPickleError, match=r"torch\.nn\.modules\.linear\.Linear"):
        load_checkpoint(tmp_path / "a.pt")
    assert set(load_checkpoint(tmp_path / "a.pt", trust_pickle=True).state) == {"weight", "bias"}


@pytest.mark.parametrize("content", [{"epoch": 3}, {}, [1, 2], {"state_dict": {"weight": 3}}])
def test_a_file_without_a_state_dictionary_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="expected a state dictionary"):
        load_checkpoint(tmp_path / "a.pt")


def test_an_ordered_dictionary_is_one(tmp_path):
    torch.save(collections.OrderedDict(STATE), tmp_path / "a.pth")
    assert set(load_checkpoint(tmp_path / "a.pth").state) == set(STATE)


@pytest.mark.parametrize("name", ["nowhere.pt", "."])
def test_a_file_that_is_not_there(tmp_path, name):
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load_checkpoint(tmp_path / name)


def test_an_unknown_kind_of_file(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"unknown kind '\.onnx'; known are \.safetensors, \.pt"):
        load_checkpoint(tmp_path / "a.onnx")


def test_checkpoints_that_do_not_fit_each_other():
    a = Checkpoint({"x": torch.zeros(2), "y": torch.zeros(3), "n.num_batches_tracked": torch.tensor(1)}, path="a.pt")
    b = Checkpoint({"x": torch.zeros(4), "z": torch.zeros(3)}, path="b.pt")
    with pytest.raises(
        LayoutError, match=r"b\.pt does not fit a\.pt: missing: y; unexpected: z; shapes: x is \(4,\), expected \(2,\)"
    ):
        require_same_layout(a, b)
    require_same_layout(a, a)


def test_a_checkpoint_that_does_not_fit_the_network():
    space = ParameterSpace(nn.Sequential(*(nn.Linear(2, 2) for _ in range(4))))
    with pytest.raises(LayoutError, match=r"missing: 0\.weight, .* and 3 more; unexpected: weight, bias"):
        space.load(STATE)


def test_old_checkpoints_without_counters_are_taken():
    network = nn.BatchNorm1d(3)
    state = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith("tracked")}
    assert torch.equal(ParameterSpace(network).load(state), torch.tensor([1.0, 1, 1, 0, 0, 0]))


def test_altered_metadata_are_noticed(tmp_path):
    path = tmp_path / "a.safetensors"
    save_tensors(path, STATE, {"problem": "mlp"})
    path.write_bytes(path.read_bytes().replace(b"mlp", b"cnn"))
    with pytest.raises(CorruptFileError, match=r"a\.safetensors was altered"):
        load_checkpoint(path)


def test_a_network_in_a_child_called_module_reads_its_own_file(tmp_path):
    class Wrapper(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = nn.Linear(2, 2)

    space = ParameterSpace(Wrapper())
    theta = space.theta.clone()
    save_tensors(tmp_path / "a.safetensors", space.state_dict(theta), {})
    assert torch.equal(space.load(load_checkpoint(tmp_path / "a.safetensors").state), theta)


def test_weights_that_are_tied_only_in_the_network_are_refused():
    model = networks()["tied"][0]
    state = {**model.state_dict(), "output.weight": torch.zeros(7, 4)}
    with pytest.raises(LayoutError, match=r"output\.weight is tied to embedding\.weight"):
        ParameterSpace(model).load(state)


# ------------------------------------------------------------------ weights of many origins


def loaded(tmp_path, content, model, **options):
    """The point that a pickled file gives in the space of a network, and the point that the network has."""
    torch.save(content, tmp_path / "a.pt")
    space = ParameterSpace(model)
    own = space.flatten(model.state_dict())
    return space.load(load_checkpoint(tmp_path / "a.pt", **options).state), own


@pytest.mark.parametrize("key", LAST_KEYS)
def test_averaged_weights_are_taken_last_and_it_is_said(tmp_path, key, caplog):
    model = nn.Linear(2, 2)
    other = {name: tensor + 1 for name, tensor in model.state_dict().items()}
    found, own = loaded(tmp_path, {"epoch": 3, key: model.state_dict()}, model)
    assert torch.equal(found, own)
    assert caplog.messages == [
        f"note: {tmp_path}/a.pt: the weights under {key!r} were taken; name others by --state-key KEY."
    ]
    caplog.clear()
    found, own = loaded(tmp_path, {key: other, "net": model.state_dict()}, model)
    assert torch.equal(found, own)
    assert not caplog.messages


def test_scalars_and_settings_beside_the_weights_are_left_out(tmp_path):
    model = nn.Linear(2, 2)
    beside = {
        "epoch": 7,
        "acc": 0.5,
        "note": "x",
        "none": None,
        "optimizer": {"lr": 0.1},
        "n_averaged": torch.tensor(3),
    }
    found, own = loaded(tmp_path, {**model.state_dict(), **beside}, model)
    assert torch.equal(found, own)
    found, own = loaded(tmp_path, {"net": {**beside, **model.state_dict()}}, model)
    assert torch.equal(found, own)


def test_a_scalar_of_the_network_itself_is_no_bookkeeping(tmp_path):
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.scale = nn.Linear(2, 2), nn.Parameter(torch.tensor(2.0))
            self.register_buffer("step", torch.tensor(5))

    model = Counting()
    space = ParameterSpace(Counting())
    torch.save({f"module.{n}": t for n, t in model.state_dict().items()}, tmp_path / "a.pt")
    space.load(load_checkpoint(tmp_path / "a.pt").state)
    assert space.buffers()["step"] == 5
    with pytest.raises(LayoutError, match="missing: scale"):
        space.load({n: t for n, t in model.state_dict().items() if n != "scale"})
    with pytest.raises(LayoutError, match="unexpected: scale"):
        ParameterSpace(nn.Linear(2, 2)).load({**nn.Linear(2, 2).state_dict(), "scale": torch.tensor(1.0)})


@pytest.mark.parametrize(
    "layout",
    [
        lambda state: {"state_dict": state, "state_dict_ema": {n: t + 1 for n, t in state.items()}, "arch": ""},  # timm
        lambda state: {"args": argparse.Namespace(lr=0.1), "model": state, "optimizer_history": [], "extra_state": {}},
        lambda state: {"meta": {"epoch": 3, "CLASSES": ("a", "b")}, "state_dict": state, "optimizer": {"state": {}}},
        lambda state: {"model": state, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}, "scheduler": {"t": 1}},
        lambda state: {  # nanoGPT
            "model": {f"_orig_mod.{n}": t for n, t in state.items()},
            "optimizer": {"state": {}},
            "model_args": {"n_layer": 2},
            "iter_num": 5,
            "best_val_loss": torch.tensor(1.5),
        },
        lambda state: {"module": state, "global_steps": 3, "ds_config": {"zero": 1}},  # DeepSpeed
    ],
)  # fmt: skip
def test_the_usual_layouts_of_training_programs_are_read(tmp_path, layout):
    model = nn.Linear(2, 2)
    point, own = loaded(tmp_path, layout(model.state_dict()), model)
    assert torch.equal(point, own)


def test_an_averaged_model_of_torch_is_read(tmp_path):
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    averaged = torch.optim.swa_utils.AveragedModel(model)
    averaged.update_parameters(model)
    assert "n_averaged" in averaged.state_dict()
    for content in (averaged.state_dict(), {"swa": 1, "model": averaged.state_dict()}):
        found, own = loaded(tmp_path, content, model)
        assert torch.equal(found, own)


class Compiled(nn.Module):
    """A network whose part is compiled, as its names say."""

    def __init__(self, compiled):
        super().__init__()
        encoder = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
        self.encoder = torch.compile(encoder) if compiled else encoder


@pytest.mark.parametrize(("written", "read"), [(True, False), (False, True), (True, True)])
def test_marks_of_compiled_parts_inside_names_do_not_matter(tmp_path, written, read):
    source = Compiled(written)
    assert any("encoder._orig_mod.0.weight" in name for name in source.state_dict()) == written
    torch.save({"state_dict": source.state_dict()}, tmp_path / "a.pt")
    save_tensors(tmp_path / "a.safetensors", source.state_dict(), {})
    space = ParameterSpace(Compiled(read))
    expected = torch.cat([parameter.detach().flatten() for parameter in source.parameters()])
    for file in ("a.pt", "a.safetensors"):
        assert torch.equal(space.load(load_checkpoint(tmp_path / file).state), expected)


@pytest.mark.parametrize("left_out", ["embedding.weight", "output.weight"])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_tied_tensor_may_be_there_by_one_of_its_names(tmp_path, left_out, frozen):
    model = networks()["tied"][0]
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    for network in (model, other):
        network.embedding.weight.requires_grad_(not frozen)
    space = ParameterSpace(model)
    whole = Checkpoint(other.state_dict(), path="whole.pt")
    torch.save({n: t for n, t in other.state_dict().items() if n != left_out}, tmp_path / "a.pt")
    part = load_checkpoint(tmp_path / "a.pt")
    assert torch.equal(space.load(part.state), space.load(whole.state))
    assert torch.equal(space.state_dict(space.load(part.state))["output.weight"], other.output.weight)
    assert space.fixed(part.state).keys() == space.fixed(whole.state).keys()
    require_same_layout(whole, part)
    require_same_layout(part, whole)


def test_a_tensor_that_is_not_tied_is_missed():
    state = {n: t for n, t in networks()["tied"][0].state_dict().items() if n != "output.weight"}
    untied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with pytest.raises(LayoutError, match=r"missing: 0\.weight"):
        ParameterSpace(untied).load({n: t for n, t in untied.state_dict().items() if n != "0.weight"})
    assert "embedding.weight" in state


DEEP = {"trainer": {"model.best": {"net.weight": torch.ones(2, 2), "net.bias": torch.zeros(2), "head": torch.zeros(1)}}}


@pytest.mark.parametrize("key", ["trainer.model.best", "trainer"])
def test_a_key_and_a_prefix_lead_to_weights_that_are_not_found(tmp_path, key):
    content = DEEP if key != "trainer" else {"trainer": {"net": DEEP["trainer"]["model.best"]}}
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"expected a state dictionary.*--state-key KEY"):
        load_checkpoint(tmp_path / "a.pt")
    state = load_checkpoint(tmp_path / "a.pt", state_key=key, strip_prefix="net.").state
    assert set(state) == {"weight", "bias"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"state_key": "trainer.modle"}, r"--state-key trainer\.modle: trainer has no 'modle'; it has model\.best"),
        ({"state_key": "modle"}, r"--state-key modle: the file has no 'modle'; it has trainer"),
        ({"state_key": "trainer.model.best.head.x"}, r"head has no 'x'; it is a Tensor"),
        ({"state_key": "trainer.model.best.head"}, r"holds Tensor under trainer\.model\.best\.head, expected a state"),
        ({"state_key": "trainer.model.best", "strip_prefix": "body."}, r"body\.: no name begins .* are net\.weight"),
    ],
)
def test_a_key_or_a_prefix_that_leads_nowhere_is_said(tmp_path, options, message):
    torch.save(DEEP, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "a.pt", **options)


@pytest.mark.parametrize("prefix", ["module.model.", "model."])
def test_a_prefix_may_be_that_of_the_file_or_that_which_errors_show(tmp_path, prefix):
    torch.save({f"module.model.{n}": t for n, t in STATE.items()} | {"module.n": torch.zeros(1)}, tmp_path / "a.pt")
    assert set(load_checkpoint(tmp_path / "a.pt", strip_prefix=prefix).state) == set(STATE)


def test_the_flags_are_named_where_names_do_not_fit_and_help(call, tmp_path):
    problem = ["--model", "mlp", "--model-args", "{widths: [4]}", "--data", "digits"]
    out = tmp_path / "a.safetensors"
    assert call("train", *problem, "--epochs", 0, "--out", out)[0] == 0
    state = load_checkpoint(out).state
    nets = {f"{net}.{name}": tensor for net in ("student", "teacher") for name, tensor in state.items()}
    nets["teacher.1.weight"] = nets["teacher.1.weight"] + 1
    torch.save({"best": {"net": nets}}, tmp_path / "b.pt")
    arguments = ["line", "--a", tmp_path / "b.pt", *problem, "--range", "0:1:2", "--out", tmp_path / "l.h5"]
    code, _, errors = call(*arguments)
    assert code == 2
    assert "--state-key KEY" in errors
    code, _, errors = call(*arguments, "--state-key", "best")
    assert code == 2
    assert "those whose names begin with 'student.' and 'teacher.'; --strip-prefix PREFIX takes a prefix off" in errors
    assert call(*arguments, "--state-key", "best", "--strip-prefix", "student.")[0] == 0
    more = ["--b", tmp_path / "b.pt", "--state-key", "best", "--strip-prefix", "student."]
    code, _, errors = call("fit", "--a", out, *more, "--out", tmp_path / "ab", program=connect_cli)
    assert "the same network" in errors


# ------------------------------------------------------------------ what is no checkpoint


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.eye(3).to_sparse(), r"x is sparse \(torch\.sparse_coo\).*to_dense"),
        (lambda: torch.eye(3).to_sparse_csr(), r"x is sparse \(torch\.sparse_csr\).*to_dense"),
        (lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "x is quantised.*dequantize"),
        (lambda: torch.empty(3, device="meta"), "x holds no values"),
        (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "x is nested.*each of its parts"),
        (lambda: nn.LazyLinear(3).weight, "x has no shape yet"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_tensors_that_are_no_plain_arrays_are_named(tmp_path, make, message):
    torch.save({"weight": torch.ones(2), "x": make()}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "a.pt", trust_pickle=True)
    with pytest.raises(CheckpointError, match=r"a\.pt"):
        load_checkpoint(tmp_path / "a.pt")


def test_conjugate_and_negative_views_are_read_by_their_values(tmp_path):
    values = torch.complex(torch.arange(3.0), torch.ones(3))
    torch.save({"conj": values.conj(), "neg": values.clone().conj().imag}, tmp_path / "a.pt")
    torch.save({"conj": values.conj().resolve_conj(), "neg": -torch.ones(3)}, tmp_path / "b.pt")
    one, other = (load_checkpoint(tmp_path / name) for name in ("a.pt", "b.pt"))
    assert one.fingerprint == other.fingerprint
    assert torch.equal(one.state["neg"], -torch.ones(3))


@pytest.mark.filterwarnings("ignore")
def test_a_torchscript_file_is_told_as_one(tmp_path):
    model = nn.Linear(2, 2)
    torch.jit.save(torch.jit.script(model), tmp_path / "a.pt")
    with pytest.raises(UntrustedPickleError, match=r"a\.pt is a TorchScript file.*torch\.jit\.load.*--trust-pickle"):
        load_checkpoint(tmp_path / "a.pt")
    state = load_checkpoint(tmp_path / "a.pt", trust_pickle=True).state
    assert torch.equal(state["weight"], model.weight)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ([1, 2], "its metadata are a list, expected a mapping"),
        ("mlp", "its metadata are a str"),
        ({"problem": "mlp"}, 'problem in its metadata is "mlp", expected a mapping'),
        ({"recipe": [1]}, r"recipe in its metadata is \[1\], expected a mapping"),
        ({"provenance": 3}, "provenance in its metadata is 3, expected a mapping"),
        ({"provenance": {"data": []}}, r"provenance\.data in its metadata is \[\], expected a mapping"),
        ({"provenance": {"trainable": [1]}}, r"provenance\.trainable in its metadata is"),
        ({"provenance": {"eval_batch_size": "8"}}, r"provenance\.eval_batch_size in its metadata is"),
        ({"kind": ["path"]}, "kind in its metadata is"),
        ({"kind": "path", "curve": ["bezier"]}, "curve in its metadata is"),
        ({"kind": "path", "coefficients": [[1], [1, 2]]}, "coefficients in its metadata is .*rows of as many"),
        ({"kind": "path", "coefficients": []}, "coefficients in its metadata is"),
        ({"step": "x"}, "step in its metadata is"),
        ({"epoch_losses": {"a": 1}}, "epoch_losses in its metadata is"),
        ({"train_loss": None}, "train_loss in its metadata is null, expected a number"),
    ],
)
def test_metadata_of_another_type_are_refused(call, tmp_path, metadata, message):
    file = tmp_path / "a.safetensors"
    save_tensors(file, STATE, metadata)
    with pytest.raises(CorruptFileError, match=message):
        load_checkpoint(file)
    with pytest.raises(CorruptFileError, match=message):
        read_metadata(file)
    code, _, errors = call("line", "--a", file, "--out", tmp_path / "l.h5")
    assert code == 2
    assert "unexpected" not in errors


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        ({"model": ["mlp"], "data": "digits"}, "'model' is .'mlp'., expected a name"),
        ({"model": "mlp", "data": "digits", "data_args": [1]}, "'data_args' is .1., expected a mapping"),
        ({"model": "mlp", "data": "digits", "colour": 1}, "unknown key 'colour'"),
    ],
)
def test_a_problem_in_metadata_is_checked_like_one_in_a_file(call, tmp_path, problem, message):
    import re

    save_tensors(tmp_path / "a.safetensors", STATE, {"problem": problem})
    code, _, errors = call("line", "--a", tmp_path / "a.safetensors", "--out", tmp_path / "l.h5")
    assert code == 2
    assert re.search(message, errors)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (
            {"kind": "path", "curve": "bezier"},
            "holds a path, expected one network; take one .* connect export",
        ),
        ({"kind": "simplex"}, "holds a simplex, expected one network"),
        ({"kind": "eigenvectors"}, "holds a file of eigenvectors|holds eigenvectors"),
        ({"step": 3, "provenance": {}}, "holds a state of a fit, expected one network"),
    ],
)
def test_a_file_that_holds_something_else_than_one_network_is_told(tmp_path, metadata, message):
    save_tensors(tmp_path / "a.safetensors", STATE, metadata)
    with pytest.raises(CheckpointError, match=message):
        load_network(CheckpointOptions(), tmp_path / "a.safetensors")
    assert set(load_as(CheckpointOptions(), tmp_path / "a.safetensors").state) == set(STATE)


def test_names_that_are_no_text_are_said(tmp_path):
    save_tensors(tmp_path / "a.safetensors", STATE, {})
    broken = tmp_path / "a\udcff.safetensors"
    (tmp_path / "a.safetensors").rename(broken)
    with pytest.raises(CheckpointError, match="its name is not UTF-8; give it another"):
        load_checkpoint(broken)
    with pytest.raises(StorageError, match=r"cannot write .* its name is not UTF-8"):
        save_tensors(broken, STATE, {})
    torch.save(STATE, broken.with_suffix(".pt"))
    assert set(load_checkpoint(broken.with_suffix(".pt")).state) == set(STATE)
