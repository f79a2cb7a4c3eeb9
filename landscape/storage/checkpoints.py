"""Checkpoints: named tensors on disk, read safely and written whole.

Our own are safetensors files whose header holds a SHA-256 of tensors and metadata, so that a single flipped bit is
noticed; the metadata are a JSON block with the problem they belong to. Foreign ones (`.pt`, `.pth`, `.ckpt`, `.t7`) are
read by torch's loader for plain tensors only; code inside a pickle is never run unless the user says so.
"""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.parameter import Buffer, is_lazy

from landscape.errors import CheckpointError, CorruptFileError, LayoutError, StorageError
from landscape.storage.files import Bytes, fingerprint, is_utf8, write_atomically
from landscape.storage.folders import CHECKPOINT_SUFFIXES, PICKLES, weights_at
from landscape.storage.layouts import is_bookkeeping, layout_differences, unmarked
from landscape.storage.metadata import parse_metadata
from landscape.storage.naming import plain_name
from landscape.storage.pickles import find_state, first_line, read_pickle

_log = logging.getLogger(__name__)
_WRAPPER = "module."
_ANY_SIZE, _MOST_EXPANSION = 2**26, 20  # a tensor may take so many bytes, or so much more than is stored of it
_DIGEST, _METADATA, _LISTED = "sha256", "metadata", 8
_TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.complex64: "C64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True)
class Checkpoint:
    """Named tensors and what is known of them.

    Attributes:
        state: the tensors by name, on the CPU; views into the mapped file where its format allows.
        metadata: what the writer noted (problem, training recipe, seed, results); empty for foreign files.
        fingerprint: SHA-256 of the tensors.
        path: the file or the folder.
    """

    state: Mapping[str, Tensor]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str = ""
    path: Path = Path()


def save_tensors(path: str | os.PathLike[str], state: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> str:
    """Write named tensors as safetensors, whole or not at all.

    Args:
        path: the file; missing folders are made.
        state: tensors by name; tied ones are written under each name.
        metadata: anything that JSON can hold.

    Returns:
        The fingerprint of the tensors.

    Raises:
        StorageError: the file cannot be written, or a tensor is of a type that the format does not have.
    """
    if not is_utf8(Path(path)):
        raise StorageError(f"cannot write {path}: its name is not UTF-8, so that safetensors could not be read back.")
    for name, tensor in state.items():
        if tensor.dtype not in _TYPES:
            raise StorageError(
                f"cannot write {path}: {name} is of type {tensor.dtype}, which safetensors does not have."
            )
    digest = fingerprint_tensors(state)
    text = json.dumps(metadata)
    header = {_DIGEST: fingerprint([digest.encode(), text.encode()]), _METADATA: text}
    write_atomically(path, _safetensors(state, header))
    return digest


def _safetensors(state: Mapping[str, Tensor], header: Mapping[str, str]) -> Iterator[Bytes]:
    """A safetensors file in pieces, one tensor each, so that a large network needs no second copy; the same every time.

    The format is a length, a JSON header and the tensors one after the other (huggingface.co/docs/safetensors); the
    library's own writer takes only contiguous tensors on the CPU, all at once, and does not flush them to the disk.
    """
    names = sorted(state, key=lambda name: (-state[name].element_size(), name))  # so that all are aligned
    described: dict[str, Any] = {"__metadata__": dict(header)}
    end = 0
    for name in names:
        start, end = end, end + state[name].numel() * state[name].element_size()
        dtype = _TYPES[state[name].dtype]
        described[name] = {"dtype": dtype, "shape": list(state[name].shape), "data_offsets": [start, end]}
    text = json.dumps(described).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in names:
        yield _content(state[name])


def _content(tensor: Tensor) -> Bytes:
    """The bytes of a tensor, row by row; those of a contiguous one on the CPU are not copied."""
    tensor = tensor.detach().cpu().contiguous()
    return tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b""


def load_checkpoint(
    path: str | os.PathLike[str],
    *,
    trust_pickle: bool = False,
    state_key: str | None = None,
    strip_prefix: str | None = None,
) -> Checkpoint:
    """Read named tensors and what is known of them.

    In files of others the prefix that `DataParallel` and averaged models put before all names, and the marks that
    `torch.compile` leaves in them, are taken off. Whether the values are finite is for `ParameterSpace.load` to say,
    since a mask may well hold infinity. Safetensors and the archives of `torch.save` are mapped and not copied: whoever
    writes to such a file in place while its tensors are used changes them. What is written here replaces files instead.

    Args:
        path: a safetensors file, or one that `torch.save` wrote; a folder of `save_pretrained`, whole or in shards, or
            of an adapter; or the index of shards.
        trust_pickle: run code that a pickled file brings along.
        state_key: where the weights lie in a pickled file, as keys with dots between them; by default they are looked
            for under the usual ones.
        strip_prefix: of a file of others take the tensors whose names begin with this, by the rest of their names.

    Raises:
        CheckpointError: nothing is there, or it holds no state dictionary of plain arrays.
        CorruptFileError: it is truncated or altered, or a shard is not what the index says.
        UntrustedPickleError: it needs more than plain tensors; the type is named.
    """
    path = Path(path)
    weights = weights_at(path)
    if weights.passed_over:
        _log.warning(
            "note: %s: %s is read, and not %s; give another by its name.",
            path, weights.read[0].name, ", ".join(weights.passed_over),
        )  # fmt: skip
    if weights.index is None:
        state, metadata = _read(weights.files[0], trust_pickle, state_key)
    else:
        shards = {file.name: _read(file, trust_pickle, state_key)[0] for file in weights.files}
        state, metadata = weights.joined(shards), None
    if metadata is None:
        state = strip_wrappers(state) if strip_prefix is None else _without(strip_prefix, state, path)
    with _plain_arrays_alone(path):
        return Checkpoint(state, metadata or {}, fingerprint_tensors(state), path)


def _read(path: Path, trust_pickle: bool, state_key: str | None) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """The tensors of one file and their metadata, which are None in files of others; raises as `load_checkpoint`."""
    if path.stat().st_size == 0:
        raise CorruptFileError(f"{path} is empty.")
    metadata: dict[str, Any] | None = None
    if path.suffix == ".safetensors" and not is_utf8(path):
        raise CheckpointError(f"{path} cannot be read, since its name is not UTF-8; give it another.")
    if path.suffix == ".safetensors":
        state, metadata = _read_safetensors(path)
    elif path.suffix in PICKLES:
        state = find_state(read_pickle(path, trust_pickle), path, state_key)
    else:
        raise CheckpointError(f"{path}: unknown kind {path.suffix!r}; known are {', '.join(CHECKPOINT_SUFFIXES)}.")
    with _plain_arrays_alone(path):
        state = {name: _plain(tensor, name, path) for name, tensor in state.items()}
        _require_stored(path, state)
    return state, metadata


@contextmanager
def _plain_arrays_alone(path: Path) -> Iterator[None]:
    """Have what torch cannot do with a tensor of another kind say so."""
    try:
        yield
    except (RuntimeError, NotImplementedError, TypeError) as error:
        raise CheckpointError(f"{path} holds tensors that are no plain arrays: {first_line(error)}") from error


def _require_stored(path: Path, state: Mapping[str, Tensor]) -> None:
    """Check that no tensor repeats a few stored numbers a million times, as a pickle can have it."""
    for name, tensor in state.items():
        size = tensor.numel() * tensor.element_size()
        if size > max(_ANY_SIZE, _MOST_EXPANSION * tensor.untyped_storage().nbytes()):
            raise CorruptFileError(f"{path}: {name} claims {size} bytes, far more than are stored.")


def read_metadata(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    """What the writer of one of our own files noted, from its header alone; empty for foreign files.

    Raises:
        CorruptFileError: it is truncated or no safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_METADATA, "{}")
    except (SafetensorError, OSError, ValueError) as error:
        raise CorruptFileError(f"{path} is truncated or no safetensors file: {error}") from error
    return parse_metadata(text, Path(path))


def require_same_layout(a: Checkpoint, b: Checkpoint) -> None:
    """Check that two checkpoints hold the same names and shapes.

    Of files of others, which may name tensors differently or hold a part of them, the network is the judge.

    Raises:
        LayoutError: they do not; the first differences are listed.
    """
    one, other = _layout_beside(a, b), _layout_beside(b, a)
    report = layout_differences(one, other)
    is_own = bool(a.metadata and b.metadata)
    if report and (is_own or not _may_fit_one_network(one, other)):
        raise LayoutError(f"{b.path} does not fit {a.path}: {report}")


def _may_fit_one_network(one: Mapping[str, torch.Size], other: Mapping[str, torch.Size]) -> bool:
    """Whether the names of two files have nothing in common, or one holds a part of the other."""
    one, other = ({plain_name(name): shape for name, shape in layout.items()} for layout in (one, other))
    shared = one.keys() & other.keys()
    return not shared or (len(shared) == min(len(one), len(other)) and all(one[name] == other[name] for name in shared))


def _layout_beside(checkpoint: Checkpoint, other: Checkpoint) -> dict[str, torch.Size]:
    """The shapes by name, without what another checkpoint may lack: further names of tied tensors, and counters."""
    state = checkpoint.state

    def is_needless(name: str) -> bool:
        repeats = (other_name in other.state and torch.equal(state[name], state[other_name]) for other_name in state)
        return name not in other.state and (is_bookkeeping(name, state[name]) or any(repeats))

    return {name: tensor.shape for name, tensor in state.items() if not is_needless(name)}


def fingerprint_tensors(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values, whatever the order."""

    def parts() -> Iterator[Bytes]:
        for name in sorted(state):
            yield f"{name} {state[name].dtype} {tuple(state[name].shape)}".encode()
            yield _content(state[name])

    return fingerprint(parts())


def strip_wrappers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors without what wrappers add to their names.

    That is `_orig_mod.` anywhere in a name, and `module.` where all names begin with it but those of the wrapper's own
    scalars, such as `n_averaged`, which are left out with it.
    """
    stripped = {unmarked(name): tensor for name, tensor in state.items()}
    if len(stripped) < len(state):
        stripped = dict(state)
    while wrapped := {name: tensor for name, tensor in stripped.items() if name.startswith(_WRAPPER)}:
        if not all(is_bookkeeping(name, stripped[name]) for name in stripped.keys() - wrapped.keys()):
            break
        stripped = {name.removeprefix(_WRAPPER): tensor for name, tensor in wrapped.items()}
    return stripped


def _without(prefix: str, state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, as they are in the file or without what wrappers add."""
    for named in (state, strip_wrappers(state)):
        if inside := {name.removeprefix(prefix): t for name, t in named.items() if name.startswith(prefix)}:
            return strip_wrappers(inside)
    names = ", ".join(list(state)[:_LISTED]) + (", …" if len(state) > _LISTED else "")
    raise CheckpointError(f"{path}: --strip-prefix {prefix}: no name begins with it; the names are {names}.")


def _plain(tensor: Tensor, name: str, path: Path) -> Tensor:
    """A tensor as a plain array; raises CheckpointError for any other."""
    oddities = (
        (is_lazy(tensor), "has no shape yet", "run the network once on a batch before it is saved"),
        (tensor.is_nested, "is nested", "save each of its parts by a name of its own"),
        (tensor.is_quantized, "is quantised", "save it by tensor.dequantize()"),
        (tensor.layout != torch.strided, f"is sparse ({tensor.layout})", "save it by tensor.to_dense()"),
        (tensor.is_meta, "holds no values (it is on the device meta)", "load the weights before it is saved"),
        (
            type(tensor) not in {Tensor, nn.Parameter, Buffer},
            f"is a {type(tensor).__name__}",
            "save it as a torch.Tensor",
        ),
    )
    for is_odd, what, advice in oddities:
        if is_odd:
            raise CheckpointError(f"{path}: {name} {what}, expected a plain array; {advice}.")
    return tensor.detach().resolve_conj().resolve_neg()


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """The tensors and their metadata, which are None in files of others."""
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise CorruptFileError(f"{path} is truncated or no safetensors file: {error}") from error
    if _DIGEST not in header:
        return state, None
    text = header.get(_METADATA, "")
    if header[_DIGEST] != fingerprint([fingerprint_tensors(state).encode(), text.encode()]):
        raise CorruptFileError(f"{path} was altered after it was written: it does not match its SHA-256.")
    return state, parse_metadata(text, path)
