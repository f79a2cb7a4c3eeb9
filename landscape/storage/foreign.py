"""The layout of the well-known loss-landscape repository (Li et al. 2018), read and written.

A surface holds `xcoordinates`, `ycoordinates`, `train_loss`, `train_acc` in per cent and the like, with -1 for what is
not measured. Its flat order is that of `[iy, ix]`, while the shape it is stored in may be `[ix, iy]`, which reads
scrambled unless the grid is square; it is taken by its flat order here.
"""

from pathlib import Path
from typing import Any

import numpy as np

from landscape.errors import ResultError
from landscape.storage.hdf5 import write_hdf5
from landscape.storage.quantities import Variable, name_of, variable
from landscape.storage.results import Array, Result, Sweep

_UNKNOWN = -1.0
_X, _Y = "xcoordinates", "ycoordinates"
_EIGENVALUES, _ACCURACY = ("min_eig", "max_eig"), "accuracy"  # the latter in per cent, and called acc


def is_foreign_result(file: Any) -> bool:
    """Whether an open HDF5 file holds a line or a surface in that layout."""
    return _X in file


def read_foreign_result(file: Any, path: Path) -> Result:
    """The line or surface that an open HDF5 file holds; the path is named in errors.

    Raises:
        ResultError: arrays do not have as many values as the coordinates say.
    """
    axes = {"y": file[_Y][...], "x": file[_X][...]} if _Y in file else {"t": file[_X][...]}
    for name, values in axes.items():
        steps = np.diff(values) if values.ndim == 1 and len(values) else np.array([np.nan])
        if not (np.isfinite(steps).all() and ((steps > 0).all() or (steps < 0).all())):
            raise ResultError(f"{path}: the coordinates along {name} are no list of ascending or descending numbers.")
    shape = tuple(len(values) for values in axes.values())
    arrays: dict[Variable, Array] = {}
    for name in sorted(file, key=lambda name: not name.startswith("train")):
        meaning = _ours(name)
        if meaning is None:
            continue
        stored = np.asarray(file[name][...], dtype=np.float64)
        if stored.size != int(np.prod(shape)):
            raise ResultError(f"{path}: {name} holds {stored.size} values, but the coordinates make {shape}.")
        arrays[meaning] = stored.reshape(shape)
    if not arrays:
        raise ResultError(f"{path} holds coordinates, but no losses such as train_loss.")
    leading = next((meaning for meaning in arrays if meaning.quantity.name == "loss"), next(iter(arrays)))
    done = arrays[leading] != _UNKNOWN
    values = {}
    for meaning, array in arrays.items():
        measured = np.where(done & (array != _UNKNOWN), array, np.nan)
        values[meaning.name] = measured / 100 if meaning.quantity.name == _ACCURACY else measured
    kind = "surface" if len(axes) == 2 else "line"
    return Result(kind, {"": Sweep(axes, values, done)}, provenance={"layout": "loss-landscape"})


def save_foreign_result(path: Path, result: Result) -> None:
    """Write a line or a surface in that layout; of an adaptive surface the interpolated one.

    Raises:
        ResultError: the result is neither, or holds several sweeps, or a loss of exactly -1, which stands for unknown.
        StorageError: the file cannot be written.
    """
    sweep = _of_one_direction(result.completed())
    known = sweep.done | np.all([np.isfinite(values) for values in sweep.values.values()], axis=0)
    if tuple(sweep.axes) not in {("y", "x"), ("t",)}:
        raise ResultError(f"the layout holds lines and surfaces, not a grid of {' and '.join(sweep.axes)}.")

    def fill(file: Any) -> None:
        file[_X] = sweep.axes.get("x", sweep.axes.get("t"))
        if "y" in sweep.axes:
            file[_Y] = sweep.axes["y"]
        for name, values in sweep.values.items():
            if (values[known] == _UNKNOWN).any():
                raise ResultError(f"{name} is exactly -1 somewhere, which stands for unknown in this layout.")
            meaning = variable(name)
            accuracy = meaning.quantity.name == _ACCURACY
            stored = name_of("acc", meaning.of) if accuracy else name
            file[stored] = np.where(known, values * 100 if accuracy else values, _UNKNOWN)

    write_hdf5(path, fill)


def _of_one_direction(sweep: Sweep) -> Sweep:
    """A bundle of a single line as that line; anything else as it is."""
    if sweep.dims != ("direction", "t") or sweep.shape[0] != 1:
        return sweep
    return Sweep({"t": sweep["t"]}, {name: values[0] for name, values in sweep.values.items()}, sweep.done[0])


def _ours(name: str) -> Variable | None:
    """What an array of that layout holds; None for what is no quantity."""
    split, _, kind = name.rpartition("_")
    if split and kind == "acc":
        return variable(name_of(_ACCURACY, split))
    return variable(name) if name in _EIGENVALUES or (split and kind == "loss") else None
