"""Results as HDF5 files that are whole at every instant.

The file is built in memory and its bytes are written beside their place and moved there, so no reader meets a lock or a
half-written file. Coordinates, quantities and `done` of a sweep lie in one group: the root for a result's only sweep.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import numpy as np

from landscape.errors import ConfigError, LandscapeError, ProvenanceError, ResultError
from landscape.storage.files import fingerprint
from landscape.storage.foreign import is_foreign_result, read_foreign_result
from landscape.storage.hdf5 import reading_hdf5, write_hdf5
from landscape.storage.results import Array, Result, Sweep

_FORMAT, _VERSION = "mode-connectivity", 1
_SECONDS_BETWEEN_FLUSHES = 1.0
_SHARE_OF_TIME = 20  # a file that takes long to write is written the less often
_ROUNDED = 1e-6  # of an axis, beyond what a length in float32 is off by
_MARKS, _CODE, _POLICY = "marks", "code", "batch_norm"
_NUMBERS = "biuf"
_LONGEST = 200  # of what is quoted from a file
_FORMERLY = {"precision": "fp32"}  # what results did not say that earlier versions wrote
_Kind = TypeVar("_Kind")


def save_result(path: str | os.PathLike[str], result: Result) -> None:
    """Write a result, whole or not at all.

    Raises:
        StorageError: the file cannot be written.
    """

    def fill(file: Any) -> None:
        file.attrs.update(format=_FORMAT, version=_VERSION, kind=result.kind)
        file.attrs["provenance"] = json.dumps(result.provenance, sort_keys=True)
        file.attrs["facts"] = json.dumps(result.facts, sort_keys=True)
        file.attrs["sweeps"] = json.dumps(list(result.sweeps))
        file.attrs["sha256"] = _digest(result)
        for name, sweep in result.sweeps.items():
            _write_sweep(file.require_group(name) if name else file, sweep)
        for name, points in result.marks.items():
            file.require_group(_MARKS)[name] = points

    write_hdf5(Path(path), fill)


def load_result(path: str | os.PathLike[str]) -> Result:
    """Read a result, also one in the layout of the loss-landscape repository.

    Raises:
        ResultError: there is no such file, or it is damaged or of another kind.
    """
    path = Path(path)
    with reading_hdf5(path) as file:
        if is_foreign_result(file):
            return read_foreign_result(file, path)
        if file.attrs.get("format") != _FORMAT or file.attrs.get("version") != _VERSION:
            raise ResultError(f"{path} is an HDF5 file, but no result of this version of mode-connectivity.")
        result = Result(
            kind=str(file.attrs["kind"]),
            sweeps={name: _read_sweep(file[name] if name else file) for name in _names(file, "sweeps")},
            marks={name: _points(points[...]) for name, points in file.get(_MARKS, {}).items()},
            provenance=_parsed(file, "provenance", dict),
            facts=_parsed(file, "facts", dict),
        )
        whole = str(file.attrs["sha256"]) == _digest(result)
    if not whole:
        raise ResultError(f"{path} was altered after it was written: it does not match its SHA-256.")
    return result


def _digest(result: Result) -> str:
    """SHA-256 of everything that a result holds."""
    plain = [result.kind, result.provenance, result.facts, list(result.sweeps), sorted(result.marks)]
    parts: list[bytes | memoryview] = [json.dumps(plain, sort_keys=True).encode()]
    arrays = [sweep_arrays for sweep in result.sweeps.values() for sweep_arrays in _arrays(sweep).items()]
    for name, array in [*arrays, *sorted(result.marks.items())]:
        parts += [f"{name} {array.dtype} {array.shape}".encode(), np.ascontiguousarray(array).tobytes()]
    return fingerprint(parts)


def _arrays(sweep: Sweep) -> dict[str, Array]:
    return {**sweep.axes, **sweep.values, "done": sweep.done}


def _write_sweep(group: Any, sweep: Sweep) -> None:
    group.attrs["axes"] = json.dumps(list(sweep.axes))
    group.attrs["values"] = json.dumps(list(sweep.values))
    for name, values in _arrays(sweep).items():
        group[name] = values


def _read_sweep(group: Any) -> Sweep:
    axes = {name: group[name][...] for name in _names(group, "axes")}
    values = {name: group[name][...] for name in _names(group, "values")}
    done = group["done"][...]
    shape = tuple(len(axis) for axis in axes.values())
    if done.dtype != bool or done.shape != shape or any(axis.ndim != 1 for axis in axes.values()):
        raise ValueError(f"{group.name} has axes of {shape} values, but marks {done.shape} points as measured")
    for name, array in {**axes, **values}.items():
        if array.dtype.kind not in _NUMBERS or (name in values and array.shape[: len(shape)] != shape):
            raise ValueError(f"{name} of {group.name} holds {array.dtype} {array.shape}, expected numbers {shape}")
    return Sweep(axes, values, done)


def _points(array: Array) -> Array:
    if array.ndim != 2 or array.shape[1] != 2 or array.dtype.kind not in _NUMBERS:
        raise ValueError(f"a mark holds {array.dtype} {array.shape}, expected points [n, 2]")
    return array


def _parsed(item: Any, name: str, kind: type[_Kind]) -> _Kind:
    """An attribute of an open file that holds JSON."""
    value = json.loads(item.attrs[name])
    if not isinstance(value, kind):
        raise TypeError(f"its {name} are a {type(value).__name__}, expected a {kind.__name__}")
    return value


def _names(item: Any, name: str) -> list[str]:
    names = _parsed(item, name, list)
    if not all(isinstance(part, str) for part in names) or len(set(names)) < len(names):
        raise TypeError(f"its {name} are not a list of different names")
    return names


@contextmanager
def trusting(*paths: Path) -> Iterator[None]:
    """Have whatever a result's facts and provenance lack become an error that names the file.

    Arrays are checked when they are read. The rest is looked at where it is used, which is in pictures as a rule.

    Raises:
        ResultError: what is needed is not there, or is of another kind.
    """
    try:
        yield
    except LandscapeError:
        raise
    except (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError) as error:
        which = str(paths[0]) if len(paths) == 1 else f"one of {', '.join(map(str, paths))}"
        why = f"{type(error).__name__}: {shortened(str(error))}"
        raise ResultError(f"{which} does not hold what a result of its kind does ({why}).") from error


def shortened(text: str) -> str:
    """A text of some file's on one line of an error."""
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


class ResultWriter:
    """A result that grows on disk: written at most once a second, and whenever `flush` is called.

    Args:
        path: the file; None keeps the result in memory alone.
        result: what is known before anything is measured; its provenance guards a resume.
        resume: go on from what the file holds.

    Attributes:
        result: as it stands.

    Raises:
        ConfigError: the file is there, and `resume` is not set.
        ProvenanceError: the file was measured under other settings.
        ResultError: the file to resume is damaged.
    """

    def __init__(self, path: Path | None, result: Result, *, resume: bool = False) -> None:
        self.path = path
        self.result = result
        self._flushed = monotonic()
        self._between = _SECONDS_BETWEEN_FLUSHES
        if path is None or not path.exists():
            return
        if not resume:
            raise ConfigError(f"{path} is there already; give --resume to go on with it, or --overwrite to replace it.")
        before = load_result(path)
        require_same_provenance(path, before.provenance, result.provenance)
        self.result = replace(result, sweeps={**result.sweeps, **before.sweeps}, facts={**before.facts, **result.facts})

    def begin(self, name: str, axes: Mapping[str, Array]) -> Sweep:
        """What is known of a sweep so far, if anything, on the axes of the file, which hold from there on.

        Raises:
            ProvenanceError: the file holds other axes, beyond what processors round otherwise.
        """
        begun = self.result.sweeps.get(name)
        if begun is None or not begun.values:
            return Sweep.empty(axes)
        if list(begun.axes) != list(axes) or not all(_is_same(begun.axes[n], v) for n, v in axes.items()):
            raise ProvenanceError(
                f"{self.path} was measured on another grid; resume with the same ranges, or --overwrite."
            )
        return begun

    def update(self, name: str, sweep: Sweep, *, flush: bool = False) -> None:
        """Take over the state of a sweep, and write it when a second has passed or `flush` is set."""
        self.result = replace(self.result, sweeps={**self.result.sweeps, name: sweep})
        self._flush(flush)

    def note(self, facts: Mapping[str, Any], *, flush: bool = False) -> None:
        """Add facts; they are written with the next update of a sweep, or at once if `flush` is set."""
        self.result = replace(self.result, facts={**self.result.facts, **facts})
        if flush:
            self._flush(True)

    def _flush(self, now: bool) -> None:
        if self.path and (now or monotonic() - self._flushed >= self._between):
            began = monotonic()
            save_result(self.path, self.result)
            self._flushed = monotonic()
            self._between = max(_SECONDS_BETWEEN_FLUSHES, _SHARE_OF_TIME * (self._flushed - began))


def _is_same(axis: Array, other: Array) -> bool:
    """Whether two axes are one; a length in weight space, which they may end at, is rounded by the processor."""
    return axis.shape == other.shape and np.allclose(axis, other, rtol=_ROUNDED, atol=_ROUNDED * np.ptp(other))


def begun_batch_size(path: Path) -> int | None:
    """The evaluation batch size that a result was begun with, if it is there, since values follow from it to the bit.

    Raises:
        ResultError: the file is damaged.
    """
    return load_result(path).provenance.get("eval_batch_size") if path.exists() else None


def require_same_provenance(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Check that a file may be continued; raises ProvenanceError with the first setting that differs."""
    plain: Mapping[str, Any] = json.loads(json.dumps(now))
    for key in sorted({*before, *plain}):
        was, now_is = (provenance.get(key, _FORMERLY.get(key)) for provenance in (before, plain))
        if key == _CODE:
            if changed := _changed(was, now_is):
                raise ProvenanceError(
                    f"{path} was begun with other code: {', '.join(changed)} changed since; put it back, or start "
                    "again with --overwrite."
                )
        elif key == _POLICY and now_is is None:
            continue  # the network has no batch norm, whatever earlier versions said of it
        elif was != now_is:
            raise ProvenanceError(
                f"{path} was begun with {key} = {shortened(repr(was))}, now it is {shortened(repr(now_is))}; "
                "resume with the same settings, or start again with --overwrite."
            )


def _changed(before: Any, now: Any) -> list[str]:
    """The files of the user's that a result knows and that are others now; older results know the named ones alone."""
    recorded, present = (code if isinstance(code, dict) else {} for code in (before, now))
    return [name for name, digest in recorded.items() if present.get(name) != digest]
