"""Checkpoints that are folders: those of `save_pretrained`, whole or in shards, and those of adapters.

A folder holds its weights under a name that the library which wrote it always gives. In shards they have an index
beside them, which says in which file each tensor lies (huggingface.co/docs/transformers, "Sharded checkpoints"). An
index comes from strangers: what it names must lie beside it, and must be there as it says.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from landscape.errors import CheckpointError, CorruptFileError
from landscape.storage.layouts import first_of

if TYPE_CHECKING:
    from torch import Tensor

PICKLES = (".pt", ".pth", ".ckpt", ".t7", ".tar", ".bin")
CHECKPOINT_SUFFIXES = (".safetensors", *PICKLES)
_INDEX = ".index.json"
_STEMS = ("model", "pytorch_model", "diffusion_pytorch_model", "adapter_model")
_WEIGHTS = tuple(
    f"{stem}{suffix}{index}" for suffix in (".safetensors", ".bin") for stem in _STEMS for index in ("", _INDEX)
)
_CONFIGURATIONS = ("config.json", "adapter_config.json")
_BESIDE = re.compile(r"(optimizer|scheduler|scaler|rng_state(_\d+)?|training_args)\.(pt|pth|bin)")
_SHARD = re.compile(r"(.+)-\d+-of-(\d+)(\.safetensors|\.bin)")
_DISTRIBUTED = ".metadata"
_LONGEST_INDEX = 2**28  # bytes; a million tensors take less


@dataclass(frozen=True)
class Weights:
    """The files that hold the tensors of one checkpoint.

    Attributes:
        files: one, or all shards.
        index: the shards' index; None where there are none.
        shard_of: the name of the shard of each tensor, as the index has it.
        size: bytes of all tensors, as the index has it; None where it does not say.
        passed_over: the names of further weights in the folder, which are not read.
    """

    files: tuple[Path, ...]
    index: Path | None = None
    shard_of: Mapping[str, str] = field(default_factory=dict)
    size: int | None = None
    passed_over: tuple[str, ...] = ()

    @property
    def read(self) -> tuple[Path, ...]:
        """Every file that is read."""
        return self.files if self.index is None else (self.index, *self.files)

    def joined(self, shards: Mapping[str, Mapping[str, "Tensor"]]) -> dict[str, "Tensor"]:
        """The tensors of all shards as one state dictionary.

        Args:
            shards: each one's tensors, by the names of their files.

        Raises:
            CorruptFileError: a tensor is not where the index says, or all of them are not as large as it says.
        """
        for name, state in shards.items():
            here = {tensor for tensor, shard in self.shard_of.items() if shard == name}
            if lacking := sorted(here - state.keys()):
                raise CorruptFileError(f"{self.index} places {first_of(lacking)} in {name}, which lacks them.")
            if surplus := sorted(state.keys() - here):
                raise CorruptFileError(f"{self.index} does not place {first_of(surplus)} in {name}, which holds them.")
        joined = {tensor: shards[shard][tensor] for tensor, shard in self.shard_of.items()}
        each = sum(tensor.nbytes for tensor in joined.values())
        stored = {(t.data_ptr(), t.nbytes) for t in joined.values()}  # tied ones may be counted once
        if self.size is not None and self.size not in {each, sum(size for _, size in stored)}:
            raise CorruptFileError(
                f"{self.index} says that its tensors take {self.size} bytes, but they take {each}; if they are whole, "
                "remove total_size from it."
            )
        return joined


def weights_at(path: Path) -> Weights:
    """The files of the checkpoint that a path names: a file, a folder, or the index of shards.

    Raises:
        CheckpointError: nothing is there; a folder holds no weights under a known name; or the file is one of several
            shards.
        CorruptFileError: an index is damaged, or names what does not lie beside it.
    """
    if path.is_dir():
        return _weights_in(path)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}; neither a file nor a folder of that name exists.")
    if path.name.endswith(_INDEX):
        return _indexed(path)
    shard = _SHARD.fullmatch(path.name)
    if shard and int(shard[2]) > 1:
        raise CheckpointError(f"{path} is one of {int(shard[2])} shards; give the folder, {path.parent}.")
    return Weights((path,))


def files_read(path: Path) -> tuple[Path, ...]:
    """Every file that is read where a path names a checkpoint; none where it names no checkpoint."""
    try:
        return weights_at(path).read
    except CheckpointError:
        return ()


def is_checkpoint_folder(path: Path) -> bool:
    """Whether a folder is one checkpoint, and not a folder of several.

    It is where the configuration of a network lies beside the weights, or where there are no other checkpoints.
    """
    if not (path.is_dir() and os.access(path, os.R_OK | os.X_OK)):
        return False
    known, names = set(_WEIGHTS), {file.name for file in path.iterdir() if file.is_file()}
    if not names & known:
        return _DISTRIBUTED in names
    others = {name for name in names - known if Path(name).suffix in CHECKPOINT_SUFFIXES}
    return bool(names.intersection(_CONFIGURATIONS)) or all(_BESIDE.fullmatch(n) or _SHARD.fullmatch(n) for n in others)


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints in a folder, files and folders, by their names; the folder itself where it is one."""
    if is_checkpoint_folder(folder):
        return [folder]
    return sorted(
        path
        for path in folder.iterdir()
        if (path.suffix in CHECKPOINT_SUFFIXES and path.is_file()) or is_checkpoint_folder(path)
    )


def _present(folder: Path) -> list[str]:
    """The known names of weights that are in a folder, the one to read first; adapters before the base beside them."""
    names = [name for name in _WEIGHTS if (folder / name).is_file()]
    if (folder / "adapter_config.json").is_file():
        names.sort(key=lambda name: not name.startswith("adapter_model"))
    return names


def _weights_in(folder: Path) -> Weights:
    present = _present(folder)
    if not present:
        if (folder / _DISTRIBUTED).is_file():
            raise CheckpointError(
                f"{folder} is a checkpoint of torch.distributed; convert it by python -m "
                f"torch.distributed.checkpoint.format_utils dcp_to_torch {folder} FILE.pt, then give that file."
            )
        shards = next((file for file in folder.iterdir() if _SHARD.fullmatch(file.name)), None)
        lacking = f"holds {shards.name} without an index of its shards" if shards else "holds no weights"
        raise CheckpointError(
            f"there is no checkpoint {folder}: the folder {lacking}; expected {first_of(list(_WEIGHTS))}. "
            "Or give a file in it."
        )
    file = folder / present[0]
    weights = _indexed(file) if file.name.endswith(_INDEX) else Weights((file,))
    return replace(weights, passed_over=tuple(present[1:]))


def _indexed(index: Path) -> Weights:
    """The shards that an index names; raises CorruptFileError where it is damaged, or where they are not beside it."""
    content = _content(index)
    places = content.get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(place, str) for place in places.values()):
        raise CorruptFileError(f"{index} is no index of shards: expected names of tensors and files under weight_map.")
    names = sorted(set(places.values()))
    for name in names:
        if Path(name).name != name or "\0" in name or Path(name).suffix not in CHECKPOINT_SUFFIXES:
            raise CorruptFileError(f"{index} names the shard {name[:80]!r}, expected the name of a file beside it.")
        if not os.path.isfile(index.parent / name):  # noqa: PTH113 - it takes any name
            raise CorruptFileError(f"{index} names the shard {name[:80]}, which is not in {index.parent}.")
    noted = content.get("metadata")
    size = noted.get("total_size") if isinstance(noted, dict) else None
    if not (size is None or type(size) is int or (isinstance(size, float) and size.is_integer())):
        raise CorruptFileError(f"{index}: total_size is {str(size)[:80]}, expected a number of bytes.")
    return Weights(tuple(index.parent / name for name in names), index, places, None if size is None else int(size))


def _content(index: Path) -> dict[str, object]:
    try:
        if index.stat().st_size > _LONGEST_INDEX:
            raise ValueError("it is too large")
        content = json.loads(index.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CorruptFileError(f"{index} is no index of shards: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict):
        raise CorruptFileError(f"{index} is no index of shards: it is a {type(content).__name__}, expected a mapping.")
    return content
