"""Checkpoints: named tensors on disk, read safely and written whole.

Our own are safetensors files whose header holds a SHA-256 of tensors and metadata, so that a single flipped bit is
noticed; the metadata are a JSON block with the problem they belong to. Foreign ones (`.pt`, `.pth`, `.ckpt`, `.t7`) are
read by torch's loader for plain tensors only; code inside a pickle is never run unless the user says so.
"""

import json
import os
import pickle
import pickletools
import re
import zipfile
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from landscape.errors import CheckpointError, CorruptFileError, LayoutError, StorageError, UntrustedPickleError
from landscape.files import Bytes, fingerprint, write_atomically
from landscape.parameters import layout_differences

STATE_KEYS = ("state_dict", "model_state", "model_state_dict", "model")
_WRAPPERS = ("module.", "_orig_mod.")
_PICKLES = (".pt", ".pth", ".ckpt", ".t7", ".tar", ".bin")
CHECKPOINT_SUFFIXES = (".safetensors", *_PICKLES)
_LEGACY_PICKLES, _DEEPEST = 4, 3
_DIGEST, _METADATA = "sha256", "metadata"
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
        state: the tensors by name, on the CPU.
        metadata: what the writer noted (problem, training recipe, seed, results); empty for foreign files.
        fingerprint: SHA-256 of the tensors.
        path: the file.
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
    library's own writer holds all of the file at once.
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


def load_checkpoint(path: str | os.PathLike[str], *, trust_pickle: bool = False) -> Checkpoint:
    """Read named tensors and what is known of them.

    The state dictionary of a pickled file is looked for under `STATE_KEYS`; in foreign files the prefixes that
    `DataParallel` and `torch.compile` put before all names are taken off. Whether the values are finite is for
    `ParameterSpace.load` to say, since a mask may well hold infinity.

    Args:
        path: a safetensors file, or one that `torch.save` wrote.
        trust_pickle: run code that a pickled file brings along.

    Raises:
        CheckpointError: there is no such file, or it holds no state dictionary.
        CorruptFileError: it is truncated or altered.
        UntrustedPickleError: it needs more than plain tensors; the type is named.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}; the file does not exist or is a folder.")
    if path.stat().st_size == 0:
        raise CorruptFileError(f"{path} is empty.")
    if path.suffix == ".safetensors":
        state, metadata = _read_safetensors(path)
    elif path.suffix in _PICKLES:
        state, metadata = strip_wrappers(_find_state(_read_pickle(path, trust_pickle), path)), {}
    else:
        raise CheckpointError(f"{path}: unknown kind {path.suffix!r}; known are .safetensors, {', '.join(_PICKLES)}.")
    try:
        return Checkpoint(state, metadata, fingerprint_tensors(state), path)
    except (RuntimeError, NotImplementedError, TypeError) as error:
        raise CheckpointError(f"{path} holds tensors that are no plain arrays: {_first_line(error)}") from error


def read_metadata(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    """What the writer of one of our own files noted, from its header alone; empty for foreign files.

    Raises:
        CorruptFileError: it is truncated or no safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            found: Mapping[str, Any] = json.loads((file.metadata() or {}).get(_METADATA, "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise CorruptFileError(f"{path} is truncated or no safetensors file: {error}") from error
    return found


def require_same_layout(a: Checkpoint, b: Checkpoint) -> None:
    """Check that two checkpoints hold the same names and shapes.

    Raises:
        LayoutError: they do not; the first differences are listed.
    """
    report = layout_differences({n: t.shape for n, t in a.state.items()}, {n: t.shape for n, t in b.state.items()})
    if report:
        raise LayoutError(f"{b.path} does not fit {a.path}: {report}")


def fingerprint_tensors(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values, whatever the order."""

    def parts() -> Iterator[Bytes]:
        for name in sorted(state):
            yield f"{name} {state[name].dtype} {tuple(state[name].shape)}".encode()
            yield _content(state[name])

    return fingerprint(parts())


def strip_wrappers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors without the prefixes `module.` and `_orig_mod.` where all names carry them."""
    stripped = dict(state)
    while stripped and (prefix := next((w for w in _WRAPPERS if all(n.startswith(w) for n in stripped)), None)):
        stripped = {name.removeprefix(prefix): tensor for name, tensor in stripped.items()}
    return stripped


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise CorruptFileError(f"{path} is truncated or no safetensors file: {error}") from error
    if _DIGEST not in header:
        return strip_wrappers(state), {}
    text = header.get(_METADATA, "")
    if header[_DIGEST] != fingerprint([fingerprint_tensors(state).encode(), text.encode()]):
        raise CorruptFileError(f"{path} was altered after it was written: it does not match its SHA-256.")
    metadata: dict[str, Any] = json.loads(text)
    return state, metadata


def _read_pickle(path: Path, trust_pickle: bool) -> Any:
    _verify_zip(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=not trust_pickle)
    except (AttributeError, ImportError) as error:
        raise CheckpointError(f"{path} needs code that cannot be imported here: {_first_line(error)}") from error
    except Exception as error:  # a damaged pickle may fail in any way
        offender = _offender(path, str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if offender is None:
            raise CorruptFileError(f"{path} is truncated or no checkpoint: {_first_line(error)}") from error
        raise UntrustedPickleError(
            f"{path} holds {offender}, which only code from the file could restore. "
            "If you trust its author, add --trust-pickle."
        ) from error


def _verify_zip(path: Path) -> None:
    """Check the checksums of a zip archive, which torch does not; other files have none."""
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except Exception as error:  # a damaged archive may fail in any way
        raise CorruptFileError(f"{path} is truncated or altered: {error}") from error
    if broken is not None:
        raise CorruptFileError(f"{path} was altered after it was written: the checksum of {broken} does not match.")


def _has_whole_pickles(path: Path) -> bool:
    """Whether the pickles in a file end where they should; the name of a type in a truncated one may be cut short."""
    if zipfile.is_zipfile(path):
        return True
    size = path.stat().st_size
    with path.open("rb") as file:
        try:
            for _ in range(_LEGACY_PICKLES):
                if file.tell() < size:
                    deque(pickletools.genops(file), maxlen=0)
        except Exception:  # a damaged pickle may fail in any way
            return False
    return True


def _offender(path: Path, message: str) -> str | None:
    """The type that a whole pickle needs and that is no plain tensor; None when the pickle is damaged."""
    if not _has_whole_pickles(path):
        return None
    found = re.search(r"(?:GLOBAL|global:?|class)\s+`?([\w.]+\.[\w.]+)", message)
    return found.group(1) if found else None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _find_state(content: Any, path: Path, depth: int = 0) -> dict[str, Tensor]:
    if isinstance(content, nn.Module):
        content = content.state_dict()
    if isinstance(content, Mapping):
        for key in STATE_KEYS:
            inner = content.get(key)
            if isinstance(inner, Mapping | nn.Module) and depth < _DEEPEST:
                return _find_state(inner, path, depth + 1)
        if content and all(isinstance(value, Tensor) for value in content.values()):
            return {str(name): tensor for name, tensor in content.items()}
        found = (
            f"a dictionary with the keys {', '.join(map(str, list(content)[:5]))}" if content else "an empty dictionary"
        )
    else:
        found = type(content).__name__
    raise CheckpointError(
        f"{path} holds {found}, expected a state dictionary, itself or under one of {', '.join(STATE_KEYS)}."
    )
