"""Checkpoints that are folders, written by hand in the format of the libraries that write them."""

import json

import pytest
import safetensors.torch
import torch

from connect.app import cli as connect_cli
from landscape import load_checkpoint, load_result
from landscape.errors import CheckpointError, ConfigError, CorruptFileError
from landscape.storage.folders import checkpoints_in, is_checkpoint_folder
from landscape.storage.outputs import OutputFiles, writing

STATE = {
    "embedding.weight": torch.arange(12.0).view(4, 3).to(torch.bfloat16),
    "layer.weight": torch.arange(6.0).view(2, 3),
    "layer.bias": torch.tensor([0.5, -1.0]),
}
SIZE = 12 * 2 + 6 * 4 + 2 * 4
LAYOUTS = ("safetensors", "bin")


def write_shards(folder, suffix="safetensors", state=STATE, size=SIZE):
    """A folder in two shards, as `save_pretrained` writes it; returns its index."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = {"safetensors": "model", "bin": "pytorch_model"}[suffix]
    names = list(state)
    places = {}
    for number, part in enumerate((names[:1], names[1:]), 1):
        file = f"{stem}-0000{number}-of-00002.{suffix}"
        write(folder / file, {name: state[name] for name in part})
        places |= dict.fromkeys(part, file)
    index = folder / f"{stem}.{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": size}, "weight_map": places}))
    (folder / "config.json").write_text("{}")
    return index


def write(file, state=STATE):
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".safetensors":
        safetensors.torch.save_file({name: tensor.clone() for name, tensor in state.items()}, file)
    else:
        torch.save(dict(state), file)


def require_whole(checkpoint, state=STATE):
    assert set(checkpoint.state) == set(state)
    for name, tensor in state.items():
        assert checkpoint.state[name].dtype == tensor.dtype
        assert torch.equal(checkpoint.state[name], tensor)


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "pytorch_model.bin",
        "diffusion_pytorch_model.safetensors",
        "adapter_model.safetensors",
        "adapter_model.bin",
    ],
)
def test_a_folder_is_read_by_the_name_that_its_library_gives(tmp_path, name, caplog):
    write(tmp_path / "net" / name)
    (tmp_path / "net" / "config.json").write_text("{}")
    torch.save({"step": 3}, tmp_path / "net" / "training_args.bin")
    checkpoint = load_checkpoint(tmp_path / "net")
    require_whole(checkpoint)
    assert checkpoint.path == tmp_path / "net"
    assert checkpoint.fingerprint == load_checkpoint(tmp_path / "net" / name).fingerprint
    assert not caplog.messages


@pytest.mark.parametrize("suffix", LAYOUTS)
def test_shards_are_read_as_one(tmp_path, suffix):
    index = write_shards(tmp_path / "net", suffix)
    write(tmp_path / "whole.safetensors")
    for place in (tmp_path / "net", index):
        checkpoint = load_checkpoint(place)
        require_whole(checkpoint)
        assert checkpoint.fingerprint == load_checkpoint(tmp_path / "whole.safetensors").fingerprint


def test_links_as_a_cache_of_downloads_has_them_are_followed(tmp_path):
    write_shards(tmp_path / "blobs")
    (tmp_path / "net").mkdir()
    for file in (tmp_path / "blobs").iterdir():
        (tmp_path / "net" / file.name).symlink_to(file)
    require_whole(load_checkpoint(tmp_path / "net"))


def test_of_several_weights_safetensors_are_read_and_it_is_said(tmp_path, caplog):
    write(tmp_path / "pytorch_model.bin", {"old": torch.zeros(1)})
    write(tmp_path / "model.safetensors")
    require_whole(load_checkpoint(tmp_path))
    assert caplog.messages == [
        f"note: {tmp_path}: model.safetensors is read, and not pytorch_model.bin; give another by its name."
    ]


def test_an_adapter_goes_before_the_base_beside_it(tmp_path):
    write(tmp_path / "model.safetensors", {"base": torch.zeros(1)})
    write(tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text("{}")
    require_whole(load_checkpoint(tmp_path))


@pytest.mark.parametrize("suffix", LAYOUTS)
def test_tied_tensors_of_a_shard_may_be_counted_once_or_twice(tmp_path, suffix):
    tied = {**STATE, "head.weight": STATE["layer.weight"]}
    for size in (SIZE, SIZE + 24) if suffix == "bin" else (SIZE + 24,):
        write_shards(tmp_path, suffix, tied, size)
        assert set(load_checkpoint(tmp_path).state) == set(tied)


# ------------------------------------------------------------------ what cannot be read


def test_one_shard_is_no_checkpoint(tmp_path):
    write_shards(tmp_path)
    with pytest.raises(CheckpointError, match=rf"is one of 2 shards; give the folder, {tmp_path}"):
        load_checkpoint(tmp_path / "model-00002-of-00002.safetensors")


def test_one_shard_of_one_is_a_checkpoint(tmp_path):
    write(tmp_path / "model-00001-of-00001.safetensors")
    require_whole(load_checkpoint(tmp_path / "model-00001-of-00001.safetensors"))


def test_shards_without_their_index_are_said(tmp_path):
    write_shards(tmp_path).unlink()
    with pytest.raises(
        CheckpointError, match=r"holds model-0000.-of-00002\.safetensors without an index of its shards"
    ):
        load_checkpoint(tmp_path)


def test_a_folder_of_other_files_names_what_was_expected(tmp_path):
    write(tmp_path / "best.pt")
    with pytest.raises(CheckpointError, match=r"holds no weights; expected model\.safetensors, .*give a file in it"):
        load_checkpoint(tmp_path)


def test_a_distributed_checkpoint_says_how_to_convert_it(tmp_path):
    (tmp_path / ".metadata").write_bytes(b"x")
    (tmp_path / "__0_0.distcp").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="format_utils dcp_to_torch"):
        load_checkpoint(tmp_path)


def altered(index, **changes):
    content = json.loads(index.read_text())
    index.write_text(json.dumps(content | changes))


FIRST, SECOND = (f"model-0000{number}-of-00002.safetensors" for number in (1, 2))
PLACES = {"embedding.weight": FIRST, "layer.weight": SECOND, "layer.bias": SECOND}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight_map": PLACES | {"layer.bias": "../secret.safetensors"}}, r"'\.\./secret\.safetensors', expected the"),
        (
            {"weight_map": PLACES | {"layer.bias": "/etc/passwd"}},
            "'/etc/passwd', expected the name of a file beside it",
        ),
        ({"weight_map": PLACES | {"layer.bias": ".."}}, "expected the name of a file beside it"),
        ({"weight_map": PLACES | {"layer.bias": "a\0.safetensors"}}, "expected the name of a file beside it"),
        ({"weight_map": PLACES | {"layer.bias": "config.json"}}, "expected the name of a file beside it"),
        ({"weight_map": PLACES | {"layer.bias": "x" * 9000 + ".bin"}}, "which is not in"),
        ({"weight_map": PLACES | {"layer.bias": "\ud800.safetensors"}}, "which is not in"),
        ({"weight_map": PLACES | {"layer.bias": "model-00003-of-00002.safetensors"}}, "00003-of-00002.* is not in"),
        ({"weight_map": PLACES | {"layer.bias": FIRST}}, rf"places layer\.bias in {FIRST}, which lacks them"),
        ({"weight_map": PLACES | {"ghost": FIRST}}, rf"places ghost in {FIRST}, which lacks them"),
        (
            {"weight_map": {name: place for name, place in PLACES.items() if name != "layer.bias"}},
            rf"does not place layer\.bias in {SECOND}, which holds them",
        ),
        ({"weight_map": {}}, "expected names of tensors and files under weight_map"),
        ({"weight_map": [FIRST]}, "expected names of tensors and files under weight_map"),
        ({"weight_map": {"x": 3}}, "expected names of tensors and files under weight_map"),
        ({"metadata": {"total_size": SIZE + 1}}, f"says that its tensors take {SIZE + 1} bytes, but they take {SIZE}"),
        ({"metadata": {"total_size": "many"}}, "total_size is many, expected a number of bytes"),
        ({"metadata": {"total_size": float("inf")}}, "total_size is inf, expected a number of bytes"),
    ],
)
def test_an_index_that_does_not_hold_is_refused(tmp_path, changes, message):
    index = write_shards(tmp_path)
    altered(index, **changes)
    with pytest.raises(CorruptFileError, match=message) as refused:
        load_checkpoint(tmp_path)
    assert index.name in str(refused.value)


@pytest.mark.parametrize("changes", [{"metadata": None}, {"metadata": {}}, {"metadata": {"total_size": float(SIZE)}}])
def test_an_index_need_not_say_how_large_all_is(tmp_path, changes):
    altered(write_shards(tmp_path), **changes)
    require_whole(load_checkpoint(tmp_path))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"5", b"[" * 100_000, b"\xff\xfe", b'{"weight_map": 3}'])
def test_rubbish_is_no_index(tmp_path, content):
    write_shards(tmp_path).write_bytes(content)
    with pytest.raises(CorruptFileError, match="is no index of shards"):
        load_checkpoint(tmp_path)


def test_a_damaged_shard_is_named(tmp_path):
    write_shards(tmp_path)
    content = (tmp_path / SECOND).read_bytes()
    (tmp_path / SECOND).write_bytes(content[:-1])
    with pytest.raises(CorruptFileError, match=SECOND):
        load_checkpoint(tmp_path)


# ------------------------------------------------------------------ folders of checkpoints, and commands


def test_a_folder_of_checkpoints_is_told_from_one_checkpoint(tmp_path):
    for step in (500, 1000):
        write(tmp_path / f"checkpoint-{step}" / "model.safetensors")
        torch.save({}, tmp_path / f"checkpoint-{step}" / "optimizer.pt")
    write(tmp_path / "last.ckpt")
    (tmp_path / "logs").mkdir()
    assert not is_checkpoint_folder(tmp_path)
    assert [place.name for place in checkpoints_in(tmp_path)] == ["checkpoint-1000", "checkpoint-500", "last.ckpt"]
    assert checkpoints_in(tmp_path / "checkpoint-500") == [tmp_path / "checkpoint-500"]


def test_a_file_among_others_does_not_make_their_folder_a_checkpoint(tmp_path):
    for name in ("model.safetensors", "other.safetensors"):
        write(tmp_path / name)
    assert [place.name for place in checkpoints_in(tmp_path)] == ["model.safetensors", "other.safetensors"]


@pytest.mark.parametrize("suffix", LAYOUTS)
def test_nothing_is_written_into_a_checkpoint(tmp_path, suffix):
    write_shards(tmp_path / "net", suffix)
    (tmp_path / "link").symlink_to(tmp_path / "net")
    for folder in ("net", "link"):
        outputs = OutputFiles.inside(tmp_path / folder / "fit", "path.safetensors")
        claim = writing(outputs, read=[tmp_path / "net"])
        with pytest.raises(ConfigError, match="is a checkpoint, in which nothing is written"), claim:
            raise AssertionError("it was claimed")
    shard = next(file for file in (tmp_path / "net").iterdir() if "00002-of" in file.name)
    claim = writing(OutputFiles.beside(shard), read=[tmp_path / "net"])
    with pytest.raises(ConfigError, match="is read by this command"), claim:
        raise AssertionError("it was claimed")


def test_commands_take_folders_and_name_them(call, tmp_path):
    problem = ["--model", "mlp", "--model-args", "{widths: [4]}", "--data", "digits"]
    for seed in (1, 2):
        assert call("train", *problem, "--epochs", 0, "--seed", seed, "--out", tmp_path / f"{seed}.safetensors")[0] == 0
        state = load_checkpoint(tmp_path / f"{seed}.safetensors").state
        write_shards(tmp_path / f"run-0.{seed}", state=state, size=sum(tensor.nbytes for tensor in state.values()))
    a, b = (tmp_path / f"run-0.{seed}" for seed in (1, 2))
    assert call("line", "--a", a, "--b", b, *problem, "--range", "0:1:3", "--out", tmp_path / "l.h5")[0] == 0
    assert load_result(tmp_path / "l.h5").facts["names"] == {"a": "run-0.1", "b": "run-0.2"}
    code, _, errors = call("line", "--a", a, "--b", b, *problem, "--range", "0:1:3", "--out", a / "l.h5")
    assert code == 2
    assert "is a checkpoint, in which nothing is written" in errors
    quick = [*problem, "--epochs", 1, "--points", 3]
    code, printed, errors = call("graph", a, b, *quick, "--out", tmp_path / "graph", program=connect_cli)
    assert code == 0, errors
    assert "run-0.1  run-0.2  saddle" in printed
