"""Measure an objective over a grid of coordinates: resumable, with progress, in any order the same."""

import math
from collections.abc import Mapping

import numpy as np

from landscape.errors import Interrupted
from landscape.interrupts import stoppable
from landscape.objective import Measurement, Objective
from landscape.progress import Reporter, silent
from landscape.results import Array, Sweep
from landscape.slices import Slice
from landscape.store import ResultWriter


def sweep(
    objective: Objective,
    where: Slice,
    axes: Mapping[str, Array],
    *,
    writer: ResultWriter | None = None,
    name: str = "",
    report: Reporter = silent,
) -> Sweep:
    """Measure loss and accuracy of every split at every point of a grid.

    Args:
        objective: what is measured.
        where: the map from coordinates to θ; it is called with the axes' names.
        axes: values of each coordinate, in the order of the arrays' dimensions (`{"y": …, "x": …}` gives `[iy, ix]`).
        writer: keeps what is done on disk; points that it knows are not measured again.
        name: of the sweep in the writer's result.
        report: told of every point.

    Returns:
        The complete sweep.

    Raises:
        Interrupted: a signal came; what was measured is on disk if there is a writer.
    """
    begun = writer.begin(name, axes) if writer else Sweep.empty(axes)
    values = {quantity: array.copy() for quantity, array in begun.values.items()}
    done = begun.done.copy()
    current = Sweep(begun.axes, values, done)
    with stoppable() as stop, report(name or "sweep", done.size, int(done.sum())) as progress:
        for index in map(tuple, np.argwhere(~done)):
            coordinates = {axis: float(axes[axis][i]) for axis, i in zip(axes, index, strict=True)}
            for quantity, value in _quantities(objective.measure(where(**coordinates))).items():
                values.setdefault(quantity, np.full(done.shape, np.nan))[index] = value
            done[index] = True
            progress.advance()
            if writer:
                writer.update(name, current, flush=stop.requested)
            if stop.requested:
                kept = f"; what is done is in {writer.path}, go on with --resume" if writer else ""
                raise Interrupted(f"stopped after {int(done.sum())} of {done.size} points{kept}.")
    if writer:
        writer.update(name, current, flush=True)
    return current


def _quantities(measured: Mapping[str, Measurement]) -> dict[str, float]:
    losses = {f"{split}_loss": m.loss for split, m in measured.items()}
    known = {split: m.accuracy for split, m in measured.items() if not math.isnan(m.accuracy)}
    return losses | {f"{split}_accuracy": accuracy for split, accuracy in known.items()}
