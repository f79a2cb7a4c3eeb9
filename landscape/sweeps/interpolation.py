"""What a few measurements on a plane say of the points between them.

Losses are interpolated in the logarithm where all are positive, by cubic radial functions with a linear part
(Duchon 1977, Splines minimizing rotation-invariant semi-norms in Sobolev spaces), which pass through every measurement.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from scipy.interpolate import RBFInterpolator

from landscape.storage.quantities import variable
from landscape.storage.results import Array, Sweep

_FEW, _NEIGHBOURS = 3000, 60
_APART = 0.05  # of the grid's spacing: closer measurements say the same twice

_Kernel = Literal["cubic", "thin_plate_spline"]


class Field:
    """Quantities that are known at points of a plane, and what they predict elsewhere.

    Args:
        places: where they are known `[n, 2]`, in units of the plane's height and width.
        values: what they are there `[n, q]`; a place where one is not finite says nothing.
        names: of the quantities `[q]`; those of a linear scale are never taken in the logarithm.
    """

    def __init__(self, places: Array, values: Array, names: Sequence[str]) -> None:
        finite = np.isfinite(values).all(axis=-1)
        quantities = [variable(name).quantity for name in names]
        self._low, self._high = np.array([quantity.bounds for quantity in quantities]).T
        linear = np.array([quantity.scale == "linear" for quantity in quantities])
        self._logarithmic = (values[finite] > 0).all(axis=0) & ~linear
        self._places = places[finite]
        self._heights = self.heights(values[finite])
        spread = np.ptp(self._heights, axis=0) if finite.any() else np.zeros(len(names))
        self._range = np.where(spread > 0, spread, 1.0)

    def heights(self, values: Array) -> Array:
        """The logarithm where it is taken; NaN or infinite where there is none."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self._logarithmic, np.log(values), values)

    def values(self, heights: Array) -> Array:
        """The quantities `[m, q]` of heights `[m, q]`, cut to their bounds."""
        with np.errstate(over="ignore"):
            return np.clip(np.where(self._logarithmic, np.exp(heights), heights), self._low, self._high)

    def predict(self, places: Array, kernel: _Kernel = "cubic") -> Array:
        """Heights at places `[m, 2]`, `[m, q]`; NaN where too little is known."""
        neighbours = None if len(self._places) <= _FEW else _NEIGHBOURS
        try:
            return np.asarray(RBFInterpolator(self._places, self._heights, kernel=kernel, neighbors=neighbours)(places))
        except (ValueError, np.linalg.LinAlgError):  # fewer than three points, or all on one line
            return np.full((len(places), len(self._range)), np.nan)

    def errors(self, places: Array, values: Array) -> Array:
        """The largest disagreement with values `[m, q]` at places `[m, 2]`, over the range `[m]`; infinite for NaN."""
        return _worst(np.abs(self.heights(values) - self.predict(places)) / self._range)

    def doubt(self, places: Array) -> Array:
        """How far two interpolations differ at places `[m, 2]`, over the range `[m]`."""
        return _worst(np.abs(self.predict(places) - self.predict(places, "thin_plate_spline")) / self._range)


def finer(measured: Sweep, steps: int, points: Array, values: Mapping[str, Array]) -> Sweep:
    """A plane on a finer grid, interpolated between its own points and others that were measured between them.

    Nothing is interpolated beyond the least and the largest that was measured, nor in the cells around a point of the
    grid that is not finite.

    Args:
        measured: the plane `[iy, ix]`, measured everywhere.
        steps: of the finer grid from one point to the next.
        points: coordinates (x, y) of the others `[n, 2]`, the most important first: the first of two at one place
            counts.
        values: their quantities by name `[n]`; those that the plane has not are left out.

    Returns:
        The finer plane, every `steps`-th point of which is one of the measured plane, as its `done` says.
    """
    axes = {name: _subdivided(measured[name], steps) for name in ("y", "x")}
    done = np.zeros([len(values) for values in axes.values()], dtype=bool)
    done[::steps, ::steps] = measured.done
    origin = np.array([measured["y"][0], measured["x"][0]])
    spacing = np.array([measured["y"][-1], measured["x"][-1]]) - origin
    intervals = np.array(measured.shape) - 1.0
    others = (np.asarray(points, dtype=np.float64).reshape(-1, 2)[:, ::-1] - origin) / spacing * intervals
    own = np.argwhere(measured.done).astype(np.float64)
    kept = _apart(np.concatenate([others, own]))
    wanted = np.argwhere(~done)
    completed: dict[str, Array] = {}
    for name, array in measured.values.items():
        beside = np.asarray(values.get(name, np.full(len(others), np.nan)), dtype=np.float64)
        samples = np.concatenate([beside, array[measured.done]])[kept]
        field = Field(np.concatenate([others, own])[kept] / intervals, samples[:, None], [name])
        between = field.values(field.predict(wanted / steps / intervals))[:, 0]
        completed[name] = np.full(done.shape, np.nan)
        completed[name][done] = array[measured.done]
        if np.isfinite(samples).any():
            finite = samples[np.isfinite(samples)]
            between = np.clip(between, finite.min(), finite.max())
        completed[name][tuple(wanted.T)] = np.where(_beside(array, wanted, steps), between, np.nan)
    return Sweep(axes, completed, done)


def _subdivided(values: Array, steps: int) -> Array:
    """An axis with `steps` equal steps for each of its own, whose own values are kept to the bit."""
    fine = np.interp(np.arange((len(values) - 1) * steps + 1) / steps, np.arange(len(values)), values)
    fine[::steps] = values
    return fine


def _apart(places: Array) -> Array:
    """The indices of places `[n, 2]`, in their order, without those that lie on an earlier one."""
    kept: list[int] = []
    cells: dict[tuple[int, int], list[int]] = {}
    for index, place in enumerate(places):
        y, x = (int(part) for part in np.floor(place / _APART))
        near = [i for row in (y - 1, y, y + 1) for column in (x - 1, x, x + 1) for i in cells.get((row, column), [])]
        if all(np.linalg.norm(places[i] - place) >= _APART for i in near):
            kept.append(index)
            cells.setdefault((y, x), []).append(index)
    return np.array(kept, dtype=np.int64)


def _beside(array: Array, wanted: Array, steps: int) -> Array:
    """Whether all measured points around finer ones `[m, 2]` are finite, boolean `[m]`."""
    below = wanted // steps
    above = -(-wanted // steps)
    corners = [array[y, x] for y in (below[:, 0], above[:, 0]) for x in (below[:, 1], above[:, 1])]
    return np.asarray(np.isfinite(corners).all(axis=0))


def _worst(shares: Array) -> Array:
    worst: Array = np.where(np.isfinite(shares), shares, np.inf).max(axis=-1)
    return worst
