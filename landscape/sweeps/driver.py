"""Measure a surface over a grid of coordinates: resumable, with progress, in any order the same."""

import math
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
from torch import Tensor

from landscape.errors import ConfigError, Interrupted
from landscape.risk.surface import Measurement, Surface
from landscape.runtime.interrupts import Stop, stoppable
from landscape.runtime.progress import Reporter, silent
from landscape.space.slices import Slice
from landscape.storage.quantities import name_of
from landscape.storage.results import Array, Sweep
from landscape.storage.store import ResultWriter
from landscape.sweeps.grid import Place


class GridStrategy(Protocol):
    """Chooses the points of a grid that are measured, in rounds."""

    def choose(self, measured: Sweep) -> Array:
        """Points to measure next, boolean, of the grid's shape; none of them new when enough is known.

        It must follow from `known` alone, whose `done` are the points of all rounds before, so that a sweep that is
        stopped and resumed takes the same points.
        """


class Metric(Protocol):
    """Measures more than the loss at the points of a grid."""

    def __call__(self, place: Place, theta_at: Callable[[Place], Tensor], stop: Stop) -> Mapping[str, float | Array]:
        """Further quantities at a point; an array has the same shape at each.

        Args:
            place: its indices.
            theta_at: gives θ `[P]` at indices.
            stop: whether a signal came.

        Raises:
            Interrupted: a signal came before the point was done.
        """


class Everywhere:
    """Every point, in one round."""

    def choose(self, measured: Sweep) -> Array:
        return np.ones_like(measured.done)


def sweep(
    surface: Surface,
    where: Slice,
    axes: Mapping[str, Array],
    *,
    strategy: GridStrategy | None = None,
    metrics: Mapping[str, Metric] | None = None,
    examples: bool = False,
    writer: ResultWriter | None = None,
    name: str = "",
    report: Reporter = silent,
) -> Sweep:
    """Measure loss and accuracy of every split over a grid.

    Args:
        surface: what is measured.
        where: the map from coordinates to θ; it is called with the axes' names.
        axes: values of each coordinate, in the order of the arrays' dimensions (`{"y": …, "x": …}` gives `[iy, ix]`).
        strategy: which points; by default every one.
        metrics: what else to measure at each point; a name, if it has one, is put before those of its quantities, with
            an underscore between them: `own` and `r2` give `own_r2`.
        examples: also keep what each example says: `train_losses` and `train_right`, `[it, N]` or `[iy, ix, N]`, in
            float32.
        writer: keeps what is done on disk; points that it knows are not measured again.
        name: of the sweep in the writer's result.
        report: progress reporter; a unit is a point.

    Returns:
        The measurements; `done` says where.

    Raises:
        Interrupted: a signal came; what was measured is on disk if there is a writer.
    """
    begun = writer.begin(name, axes) if writer else Sweep.empty(axes)
    values = {quantity: array.copy() for quantity, array in begun.values.items()}
    done = begun.done.copy()
    current = Sweep(begun.axes, values, done)
    strategy = strategy or Everywhere()
    asked = np.zeros_like(done)
    wanted = asked

    def theta_at(index: Place) -> Tensor:
        return where(**{axis: float(ticks[i]) for (axis, ticks), i in zip(begun.axes.items(), index, strict=True)})

    def stopped() -> str:
        kept = f"; what is done is in {writer.path}, go on with --resume" if writer and done.any() else ""
        return f"stopped after {int(done.sum())} of {int((asked | wanted).sum())} points{kept}."

    with stoppable() as stop:
        while (wanted := strategy.choose(_seen(current, asked)) & ~asked).any():
            with report(name or "sweep", int(wanted.sum()), int((wanted & done).sum())) as progress:
                for index in map(tuple, np.argwhere(wanted & ~done)):
                    try:
                        at_place = _measured(surface, metrics or {}, examples, index, theta_at, stop)
                    except Interrupted:  # inside a point, which is not kept
                        if writer and done.any():
                            writer.update(name, current, flush=True)
                        raise Interrupted(stopped()) from None
                    for quantity, value in at_place.items():
                        if quantity not in values:
                            shape = done.shape + np.shape(value)
                            values[quantity] = np.full(shape, np.nan, np.asarray(value).dtype)
                        values[quantity][index] = value
                    done[index] = True
                    progress.advance()
                    if writer:
                        writer.update(name, current, flush=stop.requested)
                    if stop.requested:
                        raise Interrupted(stopped())
            asked |= wanted
        if writer:
            writer.update(name, current, flush=True)
        if stop.requested:
            raise Interrupted(f"stopped; {name or 'the sweep'} is done{', go on with --resume' if writer else ''}.")
    return current


def _measured(
    surface: Surface,
    metrics: Mapping[str, Metric],
    examples: bool,
    place: Place,
    theta_at: Callable[[Place], Tensor],
    stop: Stop,
) -> dict[str, float | Array]:
    """Losses and accuracies at a point, and what the metrics say of it."""
    with surface.at(theta_at(place)) as here:
        measured = here.measure()
    values: dict[str, float | Array] = {**quantities(measured)}
    if examples:
        for split, m in measured.items():
            each = {"losses": m.losses, "right": m.right}
            values |= {name_of(n, split): v.float().cpu().numpy() for n, v in each.items() if v is not None}
    for name, metric in metrics.items():
        own = {_joined(name, quantity): value for quantity, value in metric(place, theta_at, stop).items()}
        if taken := own.keys() & values.keys():
            raise ConfigError(
                f"the metric {name!r} gives {min(taken)}, which is measured already; give it another name."
            )
        values |= own
    return values


def _joined(name: str, quantity: str) -> str:
    return f"{name}{quantity}" if not name or name.endswith("_") else f"{name}_{quantity}"


def _seen(measured: Sweep, asked: Array) -> Sweep:
    """What is known at the points of the rounds so far, and nothing of points to which a stopped run had gone on."""
    shown = {quantity: array.copy() for quantity, array in measured.values.items() if asked.any()}
    for array in shown.values():
        array[~asked] = np.nan
    return Sweep(measured.axes, shown, asked.copy())


def quantities(measured: Mapping[str, Measurement]) -> dict[str, float]:
    """The figures of every split by name, such as `train_loss` and `test_accuracy`, as far as they are known."""
    losses = {name_of("loss", split): m.loss for split, m in measured.items()}
    names = ("accuracy", "nll", "calibration_error")
    others = {name_of(name, split): float(getattr(m, name)) for name in names for split, m in measured.items()}
    return losses | {name: value for name, value in others.items() if not math.isnan(value)}
