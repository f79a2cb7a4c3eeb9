"""What holds for every kind of checkpoint file: it gives back what was put in, and damage is noticed."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from landscape import LandscapeError, ParameterSpace, load_checkpoint, save_tensors
from landscape.errors import CorruptFileError, NonFiniteError, StorageError
from tests.oracles import WithBuffers

STATE = {
    "layer.weight": torch.arange(12.0).view(3, 4) / 7,
    "layer.bias": torch.tensor([1.0, -2.0, 3.0]),
    "counter": torch.tensor(5),
}


def write_safetensors(path, state):
    save_tensors(path, state, {"note": "hello"})


def write_zip(path, state):
    torch.save({"epoch": 3, "state_dict": state}, path)


def write_legacy(path, state):
    torch.save({"acc": 0.5, "state_dict": state}, path, _use_new_zipfile_serialization=False)


WRITERS = {"a.safetensors": write_safetensors, "b.pt": write_zip, "c.t7": write_legacy}


@pytest.fixture(params=sorted(WRITERS))
def written(request, tmp_path):
    path = tmp_path / request.param
    WRITERS[request.param](path, STATE)
    return path


def test_tensors_come_back(written):
    state = load_checkpoint(written).state
    assert set(state) == set(STATE)
    assert all(torch.equal(state[name], STATE[name]) for name in STATE)


def test_the_fingerprint_depends_on_the_tensors_alone(tmp_path):
    digests = set()
    for name, write in WRITERS.items():
        write(tmp_path / name, STATE)
        digests.add(load_checkpoint(tmp_path / name).fingerprint)
    assert len(digests) == 1


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "module._orig_mod."])
def test_wrappers_are_taken_off_in_foreign_files(tmp_path, wrapper):
    wrapped = {wrapper + n: t for n, t in STATE.items()}
    for name, write in WRITERS.items():
        write(tmp_path / name, wrapped)
        ours = name.endswith("safetensors")
        assert set(load_checkpoint(tmp_path / name).state) == set(wrapped if ours else STATE)
    safetensors.torch.save_file(wrapped, tmp_path / "foreign.safetensors")
    assert set(load_checkpoint(tmp_path / "foreign.safetensors").state) == set(STATE)


def anonymous_bytes():
    """The memory of this process that no file holds."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the memory of a process is read where Linux tells it"
)
@pytest.mark.parametrize("name", ["a.safetensors", "b.pt"])
def test_tensors_are_mapped_and_not_copied(tmp_path, name):
    size = 2**26
    WRITERS[name](tmp_path / name, {"x": torch.zeros(size // 2, dtype=torch.bfloat16)})
    before = anonymous_bytes()
    checkpoint = load_checkpoint(tmp_path / name)
    assert anonymous_bytes() - before < size / 4
    assert checkpoint.state["x"].dtype == torch.bfloat16
    copy = checkpoint.state["x"].clone()
    assert anonymous_bytes() - before > size / 2, "this test cannot fail"
    assert torch.equal(copy, checkpoint.state["x"])


def test_a_file_that_is_replaced_leaves_what_was_read_from_it(tmp_path):
    save_tensors(tmp_path / "a.safetensors", STATE, {})
    before = load_checkpoint(tmp_path / "a.safetensors").state
    save_tensors(tmp_path / "a.safetensors", {name: tensor + 1 for name, tensor in STATE.items()}, {})
    assert all(torch.equal(before[name], STATE[name]) for name in STATE)


def test_writing_to_what_was_read_leaves_the_file(written):
    content = written.read_bytes()
    load_checkpoint(written).state["layer.bias"].zero_()
    assert written.read_bytes() == content


def test_every_truncation_is_refused(written):
    content = written.read_bytes()
    for share in (0.0, 0.1, 0.5, 0.9, 0.99):
        written.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(CorruptFileError, match=written.name):
            load_checkpoint(written)


@pytest.mark.parametrize("name", ["a.safetensors", "b.pt"])
def test_every_flipped_bit_of_a_tensor_is_refused(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path, STATE)
    content = bytearray(path.read_bytes())
    start = bytes(content).find(STATE["layer.weight"].numpy().tobytes())
    assert start > 0
    for position in range(start, start + STATE["layer.weight"].nbytes, 5):
        content[position] ^= 1
        path.write_bytes(content)
        with pytest.raises(CorruptFileError, match=name):
            load_checkpoint(path)
        content[position] ^= 1


def test_every_flipped_bit_of_our_own_header_is_refused_or_harmless(tmp_path):
    path = tmp_path / "a.safetensors"
    save_tensors(path, STATE, {"problem": {"model": "mlp"}})
    content = bytearray(path.read_bytes())
    for position in range(8, content.find(STATE["layer.weight"].numpy().tobytes())):
        content[position] ^= 1
        path.write_bytes(content)
        try:
            loaded = load_checkpoint(path)
        except LandscapeError:
            pass
        else:
            assert loaded.metadata in ({"problem": {"model": "mlp"}}, {})
            assert not loaded.metadata or all(torch.equal(loaded.state[name], STATE[name]) for name in STATE)
        content[position] ^= 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_weights_are_refused_and_masks_are_not(tmp_path, value):
    model = WithBuffers()
    space = ParameterSpace(model)
    for broken in ("first.weight", "norm.running_var"):
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        state[broken].view(-1)[1] = value
        for name, write in WRITERS.items():
            write(tmp_path / name, state)
            with pytest.raises(NonFiniteError, match=broken):
                space.load(load_checkpoint(tmp_path / name).state)
    space.load(model.state_dict())


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_damage_anywhere_is_an_error_of_ours_or_none(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path, STATE)
    content = path.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(content)
        for position in random.integers(0, len(content), 3):
            damaged[position] = random.integers(256)
        path.write_bytes(damaged)
        try:
            loaded = load_checkpoint(path)
        except LandscapeError:
            continue
        assert all(isinstance(tensor, torch.Tensor) for tensor in loaded.state.values())


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02", b"PK\x03\x04", bytes(1000)])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".t7"])
def test_rubbish_is_refused(tmp_path, content, suffix):
    path = tmp_path / f"rubbish{suffix}"
    path.write_bytes(content)
    with pytest.raises(LandscapeError, match="rubbish"):
        load_checkpoint(path)


ALL_TYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.complex64, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint64, torch.uint32, torch.uint16,
    torch.uint8, torch.bool,
]  # fmt: skip


@pytest.mark.parametrize("dtype", ALL_TYPES)
def test_the_library_reads_what_we_write(tmp_path, dtype):
    """Views, empty tensors and scalars among them, beside tensors of other types."""
    whole = torch.arange(24).reshape(4, 6)
    state = {
        "plain": whole.to(dtype), "turned": whole.to(dtype).T, "part": whole.to(dtype)[1:, ::2],
        "none": whole[:0].to(dtype), "scalar": whole[1, 1].to(dtype), "byte": torch.ones(3, dtype=torch.uint8),
        "é/名": torch.ones(1, dtype=torch.float64),
    }  # fmt: skip
    save_tensors(tmp_path / "a.safetensors", state, {"note": "ü"})
    found = safetensors.torch.load_file(tmp_path / "a.safetensors")
    assert set(found) == set(state)
    for name, tensor in state.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape
        assert found[name].contiguous().view(-1).view(torch.uint8).tolist() == (
            tensor.contiguous().view(-1).view(torch.uint8).tolist()
        )
    save_tensors(tmp_path / "b.safetensors", dict(reversed(state.items())), {"note": "ü"})
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_a_type_that_the_format_does_not_have_is_refused(tmp_path):
    with pytest.raises(StorageError, match=r"x is of type torch\.complex128"):
        save_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(2, dtype=torch.complex128)}, {})
    assert not list(tmp_path.iterdir())
