"""Measure a surface only where it is not known already, and say how well the rest is known.

Trained surfaces are smooth in the logarithm of the loss, so a coarse lattice and a smooth interpolation go far. Cells
of the lattice are probed in their middle; where the probe disagrees with the prediction from all that is known, the
cell is split and its parts are probed in turn. Then points that were held out judge the result, half of them where two
interpolations differ most, and cells where they disagree are split again. A rugged surface disagrees everywhere and
ends up measured everywhere. Predictions come from cubic radial functions with a linear part (Duchon 1977).
"""

from collections.abc import Generator, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
from scipy.interpolate import RBFInterpolator

from landscape.results import Array, Sweep

_LATTICE, _SMALLEST = 9, 3
_HELD_OUT, _HELD_OUT_PART, _CANDIDATES = 32, 10, 2000
_SAFETY = 2.0
_RUGGED_SHARE = 0.3
_FEW, _NEIGHBOURS = 900, 120

_Cell = tuple[int, int, int, int]
_Place = tuple[int, int]
_Kernel = Literal["cubic", "thin_plate_spline"]


class Refined:
    """A strategy for planes that stops when twice the largest disagreement of a probe is below a tolerance.

    Args:
        tolerance: share of the range of the logarithmic loss, in (0, 1). A loss that is somewhere zero or negative is
            taken as it is.
    """

    def __init__(self, tolerance: float) -> None:
        self._allowed = tolerance / _SAFETY
        self._rounds: Generator[Sequence[_Place], Sweep, None] | None = None
        self._agreed: dict[_Cell, float] = {}
        self._held_out_error = 0.0

    def choose(self, known: Sweep) -> Array:
        """The lattice first, then probes and held-out points in turn; see the module."""
        wanted = np.zeros_like(known.done)
        if min(wanted.shape) < _SMALLEST:
            return ~wanted
        try:
            if self._rounds is None:
                self._rounds = self._refine(wanted.shape)
                places = next(self._rounds)
            else:
                places = self._rounds.send(known)
        except StopIteration:
            return wanted
        for place in places:
            wanted[place] = True
        return wanted

    def complete(self, measured: Sweep) -> tuple[Sweep, float]:
        """Interpolate what was not measured.

        Args:
            measured: the sweep that this strategy led.

        Returns:
            A sweep with a value everywhere, whose `done` still says what was measured; and the largest error that an
            interpolated loss is estimated to have, as a share of the range of the (logarithmic) loss: twice the largest
            disagreement of the probes that ended the refinement.
        """
        if measured.done.all():
            return measured, 0.0
        missing = np.argwhere(~measured.done)
        values = {name: array.copy() for name, array in measured.values.items()}
        for name, array in values.items():
            field = _Field(Sweep(measured.axes, {name: array}, measured.done), [name])
            found = field.predict(missing)[:, 0]
            array[tuple(missing.T)] = np.clip(found, 0, 1) if name.endswith("_accuracy") else field.values(found)
        return Sweep(measured.axes, values, measured.done), _SAFETY * max(self._held_out_error, *self._agreed.values())

    def _refine(self, shape: tuple[int, ...]) -> Generator[Sequence[_Place], Sweep, None]:
        """Ask for places, round by round, and be told all that is known then."""
        random = np.random.default_rng(0)
        rows, columns = (_lattice(size) for size in shape)
        known = yield [(y, x) for y in rows for x in columns]
        opened = [(*ys, *xs) for ys in pairwise(rows) for xs in pairwise(columns)]
        while True:
            while opened:
                known, opened = yield from self._probe(known, opened)
            if known.done.all():
                return
            places, drawn = _held_out(known, random)
            before = _Field(known)
            known = yield [(int(y), int(x)) for y, x in places]
            errors = before.errors(known, places)
            self._held_out_error = float(errors.max())
            failed = places[errors > self._allowed]
            if (errors[drawn] > self._allowed).mean() > _RUGGED_SHARE:
                failed = np.argwhere(~known.done)
            opened = self._split([cell for cell in self._agreed if _holds(cell, failed)])
            if not opened and not len(failed):
                return

    def _probe(
        self, known: Sweep, cells: Sequence[_Cell]
    ) -> Generator[Sequence[_Place], Sweep, tuple[Sweep, list[_Cell]]]:
        """Measure the middle of each cell; returns what is known then, and the cells to probe next."""
        middles = {cell: place for cell in cells if (place := _middle(cell, known.done)) is not None}
        self._agreed.update({cell: 0.0 for cell in cells if cell not in middles})
        if not middles:
            return known, []
        places = np.array(list(middles.values()))
        before = _Field(known)
        known = yield list(middles.values())
        failed = []
        for cell, error in zip(middles, before.errors(known, places), strict=True):
            self._agreed[cell] = float(error)
            if error > self._allowed or _is_broken(known, cell):
                failed.append(cell)
        return known, self._split(failed)

    def _split(self, cells: Sequence[_Cell]) -> list[_Cell]:
        """Put the quarters of cells in their place; the smallest cells are handed back as they are."""
        parts = []
        for cell in cells:
            del self._agreed[cell]
            top, bottom, left, right = cell
            rows, columns = (_halves(low, high) for low, high in ((top, bottom), (left, right)))
            parts += [(*ys, *xs) for ys in rows for xs in columns]
        return parts


class _Field:
    """The losses that are known, in the logarithm if all are positive, and what they predict elsewhere."""

    def __init__(self, known: Sweep, names: Sequence[str] | None = None) -> None:
        self._names = [name for name in known.values if name.endswith("_loss")] if names is None else names
        raw = np.stack([known.values[name] for name in self._names], axis=-1)
        finite = known.done & np.isfinite(raw).all(axis=-1)
        accuracies = [name.endswith("_accuracy") for name in self._names]
        self._logarithmic = (raw[finite] > 0).all(axis=0) & ~np.array(accuracies)
        self._scale = 1.0 / (np.array(finite.shape) - 1)
        self._places = np.argwhere(finite) * self._scale
        self._heights = self.heights(raw[finite])
        spread = np.ptp(self._heights, axis=0) if finite.any() else np.zeros(len(self._names))
        self._range = np.where(spread > 0, spread, 1.0)

    def heights(self, values: Array) -> Array:
        """The logarithm where it is taken; NaN or infinite where there is none."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self._logarithmic, np.log(values), values)

    def values(self, heights: Array) -> Array:
        """The losses of heights `[m]` of the only quantity."""
        with np.errstate(over="ignore"):
            return np.exp(heights) if self._logarithmic[0] else heights

    def predict(self, places: Array, kernel: _Kernel = "cubic") -> Array:
        """Heights at places `[m, 2]` of the grid, `[m, q]`; NaN where too little is known."""
        neighbours = None if len(self._places) <= _FEW else _NEIGHBOURS
        try:
            found = RBFInterpolator(self._places, self._heights, kernel=kernel, neighbors=neighbours)
            return np.asarray(found(places * self._scale))
        except (ValueError, np.linalg.LinAlgError):  # fewer than three points, or all on one line
            return np.full((len(places), len(self._names)), np.nan)

    def errors(self, known: Sweep, places: Array) -> Array:
        """The largest disagreement with the measurements at places `[m, 2]`, over the range `[m]`; infinite for NaN."""
        measured = np.stack([known.values[name][tuple(places.T)] for name in self._names], axis=-1)
        share = np.abs(self.heights(measured) - self.predict(places)) / self._range
        return _worst(share)

    def doubt(self, places: Array) -> Array:
        """How far two interpolations differ at places `[m, 2]`, over the range `[m]`."""
        share = np.abs(self.predict(places) - self.predict(places, "thin_plate_spline")) / self._range
        return _worst(share)


def _worst(shares: Array) -> Array:
    worst: Array = np.where(np.isfinite(shares), shares, np.inf).max(axis=-1)
    return worst


def _lattice(size: int) -> list[int]:
    return sorted({round(index) for index in np.linspace(0, size - 1, min(size, _LATTICE))})


def _halves(low: int, high: int) -> list[tuple[int, int]]:
    middle = (low + high) // 2
    return [(low, middle), (middle, high)] if high - low > 1 else [(low, high)]


def _middle(cell: _Cell, done: Array) -> _Place | None:
    """The point nearest to a cell's middle that is not measured yet."""
    top, bottom, left, right = cell
    free = np.argwhere(~done[top : bottom + 1, left : right + 1])
    if not len(free):
        return None
    away = np.abs(free - np.array([bottom - top, right - left]) / 2).max(axis=1)
    y, x = free[away.argmin()]
    return int(top + y), int(left + x)


def _holds(cell: _Cell, places: Array) -> bool:
    top, bottom, left, right = cell
    y, x = places.T
    return bool(((top <= y) & (y <= bottom) & (left <= x) & (x <= right)).any())


def _is_broken(known: Sweep, cell: _Cell) -> bool:
    """Whether a loss that is not finite was measured in a cell, which no interpolation could tell."""
    top, bottom, left, right = cell
    part = (slice(top, bottom + 1), slice(left, right + 1))
    losses = [values[part] for name, values in known.values.items() if name.endswith("_loss")]
    return any(bool((known.done[part] & ~np.isfinite(values)).any()) for values in losses)


def _held_out(known: Sweep, random: np.random.Generator) -> tuple[Array, Array]:
    """Places that are not measured `[m, 2]`: where two interpolations differ most, apart from each other, and others.

    Returns:
        The places, and which of them were drawn at random, boolean `[m]`.
    """
    free = np.argwhere(~known.done)
    free = free[random.permutation(len(free))[:_CANDIDATES]]
    count = max(_HELD_OUT, int(known.done.sum()) // _HELD_OUT_PART)
    chosen: list[int] = []
    for candidate in np.argsort(-_Field(known).doubt(free), kind="stable"):
        if len(chosen) == count // 2:
            break
        if all(np.abs(free[candidate] - free[other]).max() > 1 for other in chosen):
            chosen.append(int(candidate))
    others = np.setdiff1d(np.arange(len(free)), chosen)[: count - len(chosen)]
    return free[[*chosen, *others]], np.arange(len(chosen) + len(others)) >= len(chosen)
