import collections
import sys
import types

import pytest
import torch
from torch import nn

from landscape import (
    Checkpoint,
    CheckpointError,
    CorruptFileError,
    LayoutError,
    ParameterSpace,
    UntrustedPickleError,
    load_checkpoint,
    require_same_layout,
    save_tensors,
)
from tests.oracles import networks

STATE = {"weight": torch.ones(2, 2), "bias": torch.zeros(2)}


@pytest.mark.parametrize("key", ["state_dict", "model_state", "model_state_dict", "model"])
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
