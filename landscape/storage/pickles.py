"""Pickled checkpoints of others: read as plain tensors only, and the state dictionary found in what they hold.

Code inside a pickle is never run unless the user says so. Whatever else lies beside the weights is left out. The
tensors of an archive are views into the mapped file, so that they take no memory of their own until they are copied.
"""

import argparse
import datetime
import logging
import pathlib
import pickle
import pickletools
import re
import warnings
import zipfile
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import CheckpointError, CorruptFileError, UntrustedPickleError
from landscape.storage.files import is_utf8

STATE_KEYS = (
    "state_dict", "model_state", "model_state_dict", "model", "net", "network", "net_state_dict", "weights", "params",
    "module",
)  # fmt: skip
LAST_KEYS = ("state_dict_ema", "ema_state_dict", "model_ema", "ema_model", "ema", "params_ema")
_LEGACY_PICKLES, _DEEPEST, _LISTED = 4, 3, 8
_PLAIN = (pathlib.PosixPath, pathlib.PurePosixPath, argparse.Namespace, datetime.timedelta)  # among hyperparameters
_log = logging.getLogger(__name__)


def read_pickle(path: Path, trust_pickle: bool) -> Any:
    """What `torch.save` put into a file.

    Raises:
        CheckpointError: it needs code that is not there.
        CorruptFileError: it is truncated or altered.
        UntrustedPickleError: it needs more than plain tensors, or is a program.
    """
    names = _verified_names(path)
    if "constants.pkl" in names:
        return _read_torchscript(path, trust_pickle)
    mapped = bool(names) and is_utf8(path)
    try:
        with torch.serialization.safe_globals(list(_PLAIN)):
            return torch.load(path, map_location="cpu", weights_only=not trust_pickle, mmap=mapped)
    except (AttributeError, ImportError) as error:
        raise CheckpointError(f"{path} needs code that cannot be imported here: {first_line(error)}") from error
    except (Exception, SystemExit) as error:  # a damaged pickle, or code that it brings along, may fail in any way
        offender = _offender(path, str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if offender is None:
            raise CorruptFileError(f"{path} is truncated or no checkpoint: {first_line(error)}") from error
        raise UntrustedPickleError(
            f"{path} holds {offender}, which only code from the file could restore. "
            "If you trust its author, add --trust-pickle."
        ) from error


def find_state(content: Any, path: Path, key: str | None = None) -> dict[str, Tensor]:
    """The state dictionary in what a file holds.

    Args:
        content: what was read.
        path: the file, for errors.
        key: where to look, as keys with dots between them; by default `STATE_KEYS`, the content itself, and last, with
            a note, `LAST_KEYS`.

    Raises:
        CheckpointError: there is none.
    """
    place = "" if key is None else f" under {key}"
    content = content if key is None else _under(content, key, path)
    state = _searched(content, path)
    if state is not None:
        return state
    if isinstance(content, Mapping):
        keys = ", ".join(map(str, list(content)[:_LISTED])) + (", …" if len(content) > _LISTED else "")
        instead = f"a dictionary with the keys {keys}" if content else "an empty dictionary"
    else:
        instead = type(content).__name__
    raise CheckpointError(
        f"{path} holds {instead}{place}, expected a state dictionary, itself or under one of {', '.join(STATE_KEYS)}; "
        "name its place by --state-key KEY, such as trainer.model."
    )


def _searched(content: Any, path: Path, depth: int = 0) -> dict[str, Tensor] | None:
    if isinstance(content, nn.Module):
        content = content.state_dict()
    if not isinstance(content, Mapping):
        return None
    state = {str(name): tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}
    has_weights = len(state) == len(content) > 0 or any(tensor.ndim > 0 for tensor in state.values())
    for key in (*STATE_KEYS, *(() if has_weights else LAST_KEYS)) if depth < _DEEPEST else ():
        if isinstance(inner := content.get(key), Mapping | nn.Module):
            weights = _searched(inner, path, depth + 1)
            if weights is not None and key in LAST_KEYS:
                _log.warning("note: %s: the weights under %r were taken; name others by --state-key KEY.", path, key)
            if weights is not None:
                return weights
    return state if has_weights else None


def _under(content: Any, key: str, path: Path) -> Any:
    """What lies under keys with dots between them, each of which may have dots itself."""
    place, rest = content, key.split(".")
    while rest:
        entries = {str(name): value for name, value in place.items()} if isinstance(place, Mapping) else {}
        names = [".".join(rest[:count]) for count in range(len(rest), 0, -1)]
        name = next((name for name in names if name in entries), None)
        if name is None:
            there = f"it has {', '.join(list(entries)[:_LISTED])}" if entries else f"it is a {type(place).__name__}"
            before = key.removesuffix(".".join(rest)).rstrip(".") or "the file"
            raise CheckpointError(f"{path}: --state-key {key}: {before} has no {rest[0]!r}; {there}.")
        place, rest = entries[name], rest[name.count(".") + 1 :]
    return place


def _read_torchscript(path: Path, trust_pickle: bool) -> Any:
    if not trust_pickle:
        raise UntrustedPickleError(
            f"{path} is a TorchScript file, a program with its weights; save these alone by "
            f"torch.save(torch.jit.load(FILE).state_dict(), 'weights.pt'), or add --trust-pickle to load it here."
        )
    try:
        with warnings.catch_warnings(action="ignore"):  # it is on its way out, and still there
            return torch.jit.load(str(path), map_location="cpu").state_dict()
    except (Exception, SystemExit) as error:
        raise CorruptFileError(f"{path} is truncated or no TorchScript file: {first_line(error)}") from error


def _verified_names(path: Path) -> set[str]:
    """The names in a zip archive, once its checksums are verified, which torch does not; none for other files."""
    try:
        if not zipfile.is_zipfile(path):
            return set()
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
                raise ValueError("its entries are larger than the archive, which torch.save does not compress")
            broken = archive.testzip()
            names = archive.namelist()
    except Exception as error:  # a damaged archive may fail in any way
        raise CorruptFileError(f"{path} is truncated or altered: {error}") from error
    if broken is not None:
        raise CorruptFileError(f"{path} was altered after it was written: the checksum of {broken} does not match.")
    return {name.rpartition("/")[2] for name in names}


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
    match = re.search(r"(?:GLOBAL|global:?|class)\s+`?([\w.]+\.[\w.]+)", message)
    return match.group(1) if match else None


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
