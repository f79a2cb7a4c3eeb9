"""Measure losses along a path and along the straight line between its ends, and say how high the wall is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from connect.path import Path, straight_line
from landscape import Array, Gauge, Objective, Reporter, Result, ResultWriter, Sweep, silent, sweep

WAYS = ("path", "straight")


@dataclass(frozen=True)
class Along:
    """Figures of one way between two minima.

    Attributes:
        split: that the losses are of, the first that was measured.
        max_loss: largest measured loss.
        barrier: largest excess of the loss over the straight line between the losses of the ends.
        min_test_accuracy: smallest measured test accuracy, in [0, 1]; NaN where there is none.
        length_ratio: length over that of the straight line.
    """

    split: str
    max_loss: float
    barrier: float
    min_test_accuracy: float
    length_ratio: float


def profile(
    path: Path,
    objective: Objective,
    t: Sequence[float] | Array | None = None,
    *,
    gauges: Mapping[str, Gauge] | None = None,
    writer: ResultWriter | None = None,
    report: Reporter = silent,
) -> Result:
    """Measure an objective along a path and along the straight line between its ends.

    Args:
        path: the path.
        objective: what is measured; for networks with batch norm, one whose statistics are recomputed.
        t: where; by default 61 values from 0 to 1.
        gauges: what else to measure at each point, such as a `CurvatureWalk`.
        writer: keeps what is measured on disk.
        report: told of every point.

    Returns:
        A result of kind "profile" with the sweeps "path" and "straight", and the lengths among its facts.
    """
    values = np.linspace(0, 1, 61) if t is None else np.asarray(t, dtype=np.float64)
    ways = {"path": path, "straight": straight_line(path)}
    sweeps = {
        name: sweep(objective, way, {"t": values}, gauges=gauges, writer=writer, name=name, report=report)
        for name, way in ways.items()
    }
    return Result("profile", sweeps, facts=lengths(path), provenance=writer.result.provenance if writer else {})


def lengths(path: Path) -> dict[str, float]:
    """The path's length and that of the straight line, Euclidean over parameters."""
    return {"path_length": path.length(), "straight_length": path.distance()}


def summarise(result: Result) -> dict[str, Along]:
    """The figures of the path and of the straight line, by their names.

    Args:
        result: of kind "profile".
    """
    straight = result.facts["straight_length"]
    ratios = {"path": result.facts["path_length"] / straight, "straight": 1.0}
    return {name: _figures(result.sweeps[name], ratios[name]) for name in WAYS}


def _figures(measured: Sweep, length_ratio: float) -> Along:
    loss = measured.values[f"{measured.splits[0]}_loss"]
    accuracy = measured.values.get("test_accuracy", np.full_like(loss, np.nan))
    return Along(
        split=measured.splits[0],
        max_loss=float(loss.max()),
        barrier=barrier(measured.axes["t"], loss),
        min_test_accuracy=float(accuracy.min()),
        length_ratio=length_ratio,
    )


def barrier(t: Array, loss: Array) -> float:
    """Largest excess of the loss over the straight line between the losses of the ends, at least 0.

    Args:
        t: where it was measured `[n]`, from 0 to 1.
        loss: the loss there `[n]`.
    """
    return float(np.max(loss - ((1 - t) * loss[0] + t * loss[-1])))
