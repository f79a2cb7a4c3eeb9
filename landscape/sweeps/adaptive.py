"""Measure a surface only where it is not known already, and say how well the rest is known.

Trained surfaces are smooth in the logarithm of the loss, so a coarse lattice and a smooth interpolation go far. Cells
of the lattice are probed in their middle; where the probe disagrees with the prediction from all measurements, the
cell is split and its parts are probed in turn. Then points that were held out judge the result: some where two
interpolations differ most, some at random, and all around the minima of the prediction, since the logarithm of a loss
is sharpest where the loss is least. Cells where they disagree are split again. A rugged surface disagrees everywhere
and ends up measured everywhere.
"""

from collections.abc import Generator, Sequence
from itertools import pairwise

import numpy as np
from scipy.ndimage import binary_dilation, maximum_filter, minimum_filter

from landscape.storage.quantities import name_of
from landscape.storage.results import Array, Sweep
from landscape.sweeps.interpolation import Field

_LATTICE, _SMALLEST = 9, 3
_HELD_OUT, _HELD_OUT_PART, _CANDIDATES = 32, 10, 2000
_AROUND_MINIMA, _FLAT = 2, 1e-9
_SAFETY = 2.0
_RUGGED_SHARE = 0.3

_Cell = tuple[int, int, int, int]
_Place = tuple[int, int]


class Refined:
    """A strategy for planes that stops when twice the largest disagreement of a probe is below a tolerance.

    What it chooses and completes follows from the sweep that it is shown alone, so one strategy leads any number of
    sweeps, also in turn.

    Args:
        tolerance: share of the range of the logarithmic loss, in (0, 1). A loss that is somewhere zero or negative is
            taken as it is.
        marked: coordinates (x, y) of points that are of interest, such as minima `[n, 2]`: the points of the grid that
            are nearest to them are measured first, so that no pit there is overlooked.

    Example:
        >>> axis = np.linspace(-1, 1, 33)
        >>> bowl = np.exp(axis[:, None] ** 2 + axis**2)
        >>> strategy, measured = Refined(0.05), Sweep.empty({"y": axis, "x": axis})
        >>> while (asked := strategy.choose(measured) & ~measured.done).any():
        ...     done = measured.done | asked
        ...     measured = Sweep(measured.axes, {"train_loss": np.where(done, bowl, np.nan)}, done)
        >>> whole, error = strategy.complete(measured)
        >>> bool(measured.done.mean() < 0.5), bool(np.abs(np.log(whole["train_loss"] / bowl)).max() <= 2 * error)
        (True, True)
    """

    def __init__(self, tolerance: float, marked: Array | None = None) -> None:
        self._allowed = tolerance / _SAFETY
        self._marked = np.empty((0, 2)) if marked is None else np.asarray(marked, dtype=np.float64).reshape(-1, 2)
        self._last: _Refinement | None = None

    def choose(self, measured: Sweep) -> Array:
        """The lattice first, then probes and held-out points in turn; see the module."""
        if min(measured.shape) < _SMALLEST:
            return np.ones_like(measured.done)
        return self._followed(measured).asked

    def complete(self, measured: Sweep) -> tuple[Sweep, float]:
        """Interpolate what was not measured.

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
            field = _field(measured, [name])
            array[tuple(missing.T)] = field.values(field.predict(_unit(missing, measured)))[:, 0]
        return Sweep(measured.axes, values, measured.done), _SAFETY * self._followed(measured).error

    def _followed(self, measured: Sweep) -> "_Refinement":
        """The refinement of a sweep as far as it is measured: the last one, or one that is led there anew."""
        if self._last is None or not self._last.leads_to(measured):
            self._last = _Refinement(measured, self._allowed, _nearest(self._marked, measured))
        while not self._last.ended and measured.done[self._last.asked].all():
            self._last.take(measured)
        return self._last


class _Refinement:
    """The course of one sweep: the points `[iy, ix]` that are `asked` for by now, and whether they are enough."""

    def __init__(self, measured: Sweep, allowed: float, marked: Sequence[_Place]) -> None:
        self._allowed = allowed
        self._agreed: dict[_Cell, float] = {}
        self._held_out_error = 0.0
        self._taken = Sweep.empty(measured.axes)
        self.asked, self.ended = np.zeros_like(measured.done), False
        self._rounds = self._refine(measured.shape, marked)
        self._ask(next(self._rounds))

    @property
    def error(self) -> float:
        """The largest disagreement of the probes that ended it, over the range."""
        return max(self._held_out_error, *self._agreed.values())

    def leads_to(self, measured: Sweep) -> bool:
        """Whether a sweep holds, at its own grid, all measurements that this was sent before."""
        return (
            all(np.array_equal(values, measured[name]) for name, values in self._taken.axes.items())
            and bool(measured.done[self._taken.done].all())
            and all(
                np.array_equal(values[self._taken.done], measured.values[name][self._taken.done], equal_nan=True)
                for name, values in self._taken.values.items()
            )
        )

    def take(self, measured: Sweep) -> None:
        """Take in the measurements that were asked for, and ask for more unless they are enough."""
        seen = {name: np.where(self.asked, values, np.nan) for name, values in measured.values.items()}
        self._taken = Sweep(measured.axes, seen, self.asked.copy())
        try:
            self._ask(self._rounds.send(self._taken))
        except StopIteration:
            self.ended = True

    def _ask(self, places: Sequence[_Place]) -> None:
        for place in places:
            self.asked[place] = True

    def _refine(self, shape: tuple[int, ...], marked: Sequence[_Place]) -> Generator[Sequence[_Place], Sweep, None]:
        """Ask for places, round by round, and be sent all measurements then."""
        random = np.random.default_rng(0)
        rows, columns = (_lattice(size) for size in shape)
        measured = yield [*((y, x) for y in rows for x in columns), *marked]
        opened = [(*ys, *xs) for ys in pairwise(rows) for xs in pairwise(columns)]
        while True:
            while opened:
                measured, opened = yield from self._probe(measured, opened)
            if measured.done.all():
                return
            places, drawn = _held_out(measured, random)
            before = _field(measured)
            measured = yield [(int(y), int(x)) for y, x in places]
            errors = _errors(before, measured, places)
            self._held_out_error = float(errors.max())
            failed = places[errors > self._allowed]
            # Places at random judge the surface as a whole; those chosen for their doubt would condemn any.
            if (errors[drawn] > self._allowed).mean() > _RUGGED_SHARE:
                failed = np.argwhere(~measured.done)
            opened = self._split([cell for cell in self._agreed if _holds(cell, failed)])
            if not opened and not len(failed):
                return

    def _probe(
        self, measured: Sweep, cells: Sequence[_Cell]
    ) -> Generator[Sequence[_Place], Sweep, tuple[Sweep, list[_Cell]]]:
        """Measure the middle of each cell; returns the measurements then, and the cells to probe next."""
        middles = {cell: place for cell in cells if (place := _middle(cell, measured.done)) is not None}
        self._agreed.update({cell: 0.0 for cell in cells if cell not in middles})
        if not middles:
            return measured, []
        places = np.array(list(middles.values()))
        before = _field(measured)
        measured = yield list(middles.values())
        failed = []
        for cell, error in zip(middles, _errors(before, measured, places), strict=True):
            self._agreed[cell] = float(error)
            if error > self._allowed or _is_broken(measured, cell):
                failed.append(cell)
        return measured, self._split(failed)

    def _split(self, cells: Sequence[_Cell]) -> list[_Cell]:
        """Put the quarters of cells in their place; the smallest cells are handed back as they are."""
        parts = []
        for cell in cells:
            del self._agreed[cell]
            top, bottom, left, right = cell
            rows, columns = (_halves(low, high) for low, high in ((top, bottom), (left, right)))
            parts += [(*ys, *xs) for ys in rows for xs in columns]
        return parts


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


def _is_broken(measured: Sweep, cell: _Cell) -> bool:
    """Whether a loss that is not finite was measured in a cell, which no interpolation could tell."""
    top, bottom, left, right = cell
    part = (slice(top, bottom + 1), slice(left, right + 1))
    losses = [measured["loss", split][part] for split in measured.splits]
    return any(bool((measured.done[part] & ~np.isfinite(values)).any()) for values in losses)


def _held_out(measured: Sweep, random: np.random.Generator) -> tuple[Array, Array]:
    """Places `[m, 2]` that are not measured, and which of them were drawn at random, boolean `[m]`.

    They are where two interpolations differ most, apart from each other, others at random, and all around minima.
    """
    free = np.argwhere(~measured.done)
    free = free[random.permutation(len(free))[:_CANDIDATES]]
    count = max(_HELD_OUT, int(measured.done.sum()) // _HELD_OUT_PART)
    field = _field(measured)
    chosen: list[int] = []
    for candidate in np.argsort(-field.doubt(_unit(free, measured)), kind="stable"):
        if len(chosen) == count // 2:
            break
        if all(np.abs(free[candidate] - free[other]).max() > 1 for other in chosen):
            chosen.append(int(candidate))
    others = np.setdiff1d(np.arange(len(free)), chosen)[: count - len(chosen)]
    judges = np.zeros_like(measured.done)
    judges[tuple(free[[*chosen, *others]].T)] = True
    low = np.argwhere(_around_minima(measured, field) & ~judges)
    places = np.concatenate([free[[*chosen, *others]], low])
    return places, np.isin(np.arange(len(places)), len(chosen) + np.arange(len(others)))


def _around_minima(measured: Sweep, field: Field) -> Array:
    """The points that are not measured and lie around minima of what is measured or predicted, boolean `[iy, ix]`."""
    missing = np.argwhere(~measured.done)
    heights = np.empty((*measured.shape, len(_losses(measured))))
    heights[measured.done] = field.heights(_stacked(measured, measured.done))
    heights[tuple(missing.T)] = field.predict(_unit(missing, measured))
    heights = np.where(np.isfinite(heights), heights, np.inf)
    near = np.zeros_like(measured.done)
    for quantity in np.moveaxis(heights, -1, 0):
        with np.errstate(invalid="ignore"):  # infinity less itself
            depth = maximum_filter(quantity, 3, mode="nearest") - quantity
        low = (quantity <= minimum_filter(quantity, 3, mode="nearest")) & (depth > _FLAT * np.abs(quantity))
        near |= binary_dilation(low, np.ones((3, 3), dtype=bool), iterations=_AROUND_MINIMA)
    return near & ~measured.done


def _losses(measured: Sweep) -> list[str]:
    return [name_of("loss", split) for split in measured.splits]


def _stacked(measured: Sweep, places: Array, names: Sequence[str] | None = None) -> Array:
    """Quantities at places, `[m, 2]` or boolean, as `[m, q]`; by default the losses."""
    index = places if places.dtype == bool else tuple(places.T)
    return np.stack([measured.values[name][index] for name in names or _losses(measured)], axis=-1)


def _unit(places: Array, measured: Sweep) -> Array:
    """Indices `[m, 2]` as shares of the height and the width."""
    shares: Array = places / (np.array(measured.shape) - 1)
    return shares


def _field(measured: Sweep, names: Sequence[str] | None = None) -> Field:
    """What is measured, and what it predicts elsewhere; by default of the losses."""
    return Field(
        _unit(np.argwhere(measured.done), measured),
        _stacked(measured, measured.done, names),
        names or _losses(measured),
    )


def _errors(before: Field, measured: Sweep, places: Array) -> Array:
    """How far a prediction was off at places `[m, 2]` that were measured since."""
    return before.errors(_unit(places, measured), _stacked(measured, places))


def _nearest(points: Array, measured: Sweep) -> list[_Place]:
    """The points of the grid that are nearest to points (x, y) `[n, 2]` within it."""
    inside = [
        (x, y)
        for x, y in points
        if all(values.min() <= at <= values.max() for at, values in ((x, measured["x"]), (y, measured["y"])))
    ]
    return [(int(np.abs(measured["y"] - y).argmin()), int(np.abs(measured["x"] - x).argmin())) for x, y in inside]
