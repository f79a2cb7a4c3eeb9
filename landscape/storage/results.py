"""What was measured, and under which settings: immutable, and complete without the model or the data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count, takewhile
from typing import Any

import numpy as np

from landscape.errors import ResultError
from landscape.storage.quantities import QUANTITIES, Variable, name_of, variable
from landscape.storage.quantities import Array as Array  # noqa: PLC0414 - the arrays of a sweep are imported from here


@dataclass(frozen=True)
class Sweep:
    """Measurements over a grid, with their axes.

    `sweep["loss", "train"]` is the array of a quantity on a split and `sweep["x"]` that of an axis; so are, by their
    names in files, `sweep["train_loss"]`, `sweep.train_loss` and `sweep.x`. `dims`, `coords` and `shape` mean what they
    mean in xarray.

    Attributes:
        axes: values of each coordinate, in the order of the arrays' dimensions: `t` for a line, `y` and `x` for a
            plane.
        values: arrays by their names in files, such as `train_loss` and `test_accuracy`, `[it]` or `[iy, ix]`; NaN and
            infinity are data.
        done: which points are measured, boolean, of the same shape.
    """

    axes: Mapping[str, Array]
    values: Mapping[str, Array]
    done: Array

    @classmethod
    def empty(cls, axes: Mapping[str, Array]) -> "Sweep":
        """A grid on which nothing is measured yet."""
        return cls(dict(axes), {}, np.zeros([len(v) for v in axes.values()], dtype=bool))

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that losses were measured on."""
        return self.parts("loss")

    def parts(self, quantity: str) -> tuple[str, ...]:
        """The splits, samples or ends that a quantity was measured on, as far as it is of such."""
        measured = map(variable, self.values)
        return tuple(each.of for each in measured if each.of and each.quantity.name == quantity)

    @property
    def variables(self) -> tuple[Variable, ...]:
        """What can be had: all that was measured, then what follows from it."""
        measured = [variable(name) for name in self.values]
        parts = dict.fromkeys(each.of for each in measured)
        derived = [Variable(quantity, of) for quantity in QUANTITIES.values() if quantity.sources for of in parts]
        return tuple(dict.fromkeys([*measured, *(each for each in derived if each.name in self)]))

    @property
    def dims(self) -> tuple[str, ...]:
        """The names of the axes, in the order of the arrays' dimensions."""
        return tuple(self.axes)

    @property
    def coords(self) -> Mapping[str, Array]:
        """The values along each axis."""
        return self.axes

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of points along each axis."""
        return self.done.shape

    def __getitem__(self, key: str | tuple[str, str]) -> Array:
        """The array of an axis or of a quantity, by name or by quantity and what it is of.

        Errors such as `test_error` follow from the accuracies, `ratio` and `signed_ratio` from `min_eig` and `max_eig`.
        """
        name = key if isinstance(key, str) else name_of(*key)
        array = self.values.get(name, self.axes.get(name))
        if array is None:
            array = self._derived(variable(name))
        if array is None:
            raise KeyError(f"there is no {name!r}; there are {', '.join([*self.axes, *self.values])}")
        return array

    def __contains__(self, key: str | tuple[str, str]) -> bool:
        """Whether there is such an array."""
        try:
            return self[key] is not None
        except KeyError:
            return False

    def _derived(self, wanted: Variable) -> Array | None:
        sources = [self.values.get(name_of(source, wanted.of)) for source in wanted.quantity.sources]
        known = [array for array in sources if array is not None]
        return wanted.quantity.rule(*known) if wanted.quantity.rule and len(known) == len(sources) else None

    def __getattr__(self, name: str) -> Array:
        """The same, as an attribute; called only for names that are no fields."""
        if name.startswith("_") or name in Sweep.__dataclass_fields__:
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(error.args[0]) from None


@dataclass(frozen=True)
class Result:
    """The content of one result file.

    A result of one sweep gives its arrays out itself: `result.x`, `result.train_loss`, `result["train_loss"]`.

    Attributes:
        kind: what was studied, such as "line" or "surface"; `landscape.plots.registry` says what draws it.
        sweeps: measurements by name; a result with a single sweep calls it "".
        marks: points and polylines to draw on a plane, by name, `[n, 2]`.
        provenance: the resolved configuration, fingerprints, versions and seed.
        facts: figures that belong to the result as a whole, such as lengths.
    """

    kind: str
    sweeps: Mapping[str, Sweep]
    marks: Mapping[str, Array] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sweep(self) -> Sweep:
        """The sweep of a result that has one, or the measured one beside an interpolated one.

        Raises:
            ResultError: there is none, or there are several.
        """
        if "" not in self.sweeps:
            found = ", ".join(self.sweeps) or "none yet"
            raise ResultError(f"the result has several sweeps or none, take one from .sweeps: {found}.")
        return self.sweeps[""]

    def completed(self, name: str = "") -> Sweep:
        """A sweep with the points that were interpolated, where it was measured adaptively."""
        return self.sweeps[interpolated(name)] if interpolated(name) in self.sweeps else self.sweeps[name]

    @property
    def measured(self) -> Mapping[str, Sweep]:
        """The sweeps without those that were interpolated from them."""
        derived = {interpolated(name) for name in self.sweeps}
        return {name: sweep for name, sweep in self.sweeps.items() if name not in derived}

    def rounds(self, name: str) -> dict[str, Sweep]:
        """A sweep over t and those of its refinement, in order, by their names; see `round_name`."""
        numbers = takewhile(lambda number: round_name(name, number) in self.sweeps, count())
        return {round_name(name, number): self.sweeps[round_name(name, number)] for number in numbers}

    def join_rounds(self, name: str) -> Sweep:
        """All that was measured of a sweep over t and in the rounds of its refinement, ordered by t, each t once.

        It has the quantities of the first round; those that were measured there alone, such as curvature, are NaN at
        the other t.

        Raises:
            ResultError: there is no such sweep.
        """
        rounds = list(self.rounds(name).values())
        if not rounds:
            raise ResultError(f"the result has no sweep {name!r}, but {', '.join(self.sweeps) or 'none yet'}.")
        t, order = np.unique(np.concatenate([each["t"] for each in rounds]), return_index=True)
        values = {}
        for quantity, first in rounds[0].values.items():
            missing = [np.full((len(each.done), *first.shape[1:]), np.nan, first.dtype) for each in rounds]
            parts = [each.values.get(quantity, none) for each, none in zip(rounds, missing, strict=True)]
            values[quantity] = np.concatenate(parts)[order]
        return Sweep({"t": t}, values, np.concatenate([each.done for each in rounds])[order])

    @property
    def done(self) -> Array:
        """Which points of the only sweep are measured."""
        return self.sweep.done

    def __getitem__(self, name: str) -> Array:
        """An array of the only sweep."""
        return self.sweep[name]

    def __getattr__(self, name: str) -> Array:
        """An array of the only sweep, as an attribute."""
        if name.startswith("_") or name in Result.__dataclass_fields__:
            raise AttributeError(name)
        try:
            return self.sweep[name]
        except (KeyError, ResultError) as error:
            raise AttributeError(str(error.args[0])) from None


def heights_at(sweep: Sweep, heights: Array, points: Array) -> Array:
    """Heights over a plane `[iy, ix]` at points (x, y) `[n, 2]` between its own, bilinear; NaN outside of it."""
    from scipy.interpolate import RegularGridInterpolator

    at = RegularGridInterpolator((sweep["y"], sweep["x"]), heights, bounds_error=False)
    found: Array = at(points[:, ::-1])
    return found


def round_name(name: str, number: int) -> str:
    """The name of the sweep that holds a round of refinement of another; round 0 is that itself."""
    return f"{name} {number}" if number else name


def interpolated(name: str) -> str:
    """The name of the sweep that completes an adaptive one."""
    return f"{name} interpolated".strip()


def quartiles(values: Array) -> tuple[Array, Array, Array]:
    """Lower quartile, median and upper quartile `[...]` over draws `[n, ...]`; NaN counts as infinitely high."""
    ordered = np.sort(np.where(np.isnan(values), np.inf, values), axis=0)
    low, middle, high = (_between(ordered, share * (len(ordered) - 1)) for share in (0.25, 0.5, 0.75))
    return low, middle, high


def _between(ordered: Array, place: float) -> Array:
    """The rows' linear interpolation at a fractional row, where infinite rows give infinity and not NaN."""
    below: Array = ordered[int(place)]
    above: Array = ordered[int(np.ceil(place))]
    with np.errstate(invalid="ignore"):  # both rows infinite
        moved: Array = below + (place - int(place)) * (above - below)
    return np.where(above == below, below, moved)
