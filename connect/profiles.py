"""Measure a path and the straight line between its ends, and say how high the wall is and how sure that is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from torch import Tensor

from connect.barriers import bracket, estimate, refinements, resampled
from connect.likeness import Likeness
from connect.path import Path, straight_line
from connect.ways import WAYS, along, joined
from landscape import (
    Array,
    EmpiricalRisk,
    Gauge,
    Objective,
    Place,
    ProblemError,
    Reporter,
    Result,
    ResultWriter,
    Stop,
    Sweep,
    silent,
    sweep,
)

_ROUNDS, _AT_ONCE = 8, 6


@dataclass(frozen=True)
class Along:
    """Figures of one way between two minima; each interval is one of 95 %, see `Estimate`.

    Attributes:
        split: that the losses are of, the first that was measured.
        max_loss: largest measured loss.
        barrier: largest excess of the loss over the straight line between the losses of the ends.
        barrier_low: lower end of its interval.
        barrier_high: upper end, which includes what may lie between the values of t.
        excess: of the largest loss over the higher of the ends.
        excess_low: lower end of its interval.
        excess_high: upper end.
        saddle_loss: the largest loss along the way.
        t_max: where the barrier is.
        error_split: that errors are of: test where it was measured, else the first; empty where there are none.
        error_barrier: of the largest error over the mean of the ends, in [0, 1]; NaN where there are no errors.
        error_barrier_low: lower end of its interval.
        error_barrier_high: upper end.
        min_test_accuracy: smallest measured test accuracy, in [0, 1]; NaN where there is none.
        length_ratio: length over that of the straight line.
        bracket: how much higher the barrier may be between the values of t.
        points: values of t that were measured.
    """

    split: str
    max_loss: float
    barrier: float
    barrier_low: float
    barrier_high: float
    excess: float
    excess_low: float
    excess_high: float
    saddle_loss: float
    t_max: float
    error_split: str
    error_barrier: float
    error_barrier_low: float
    error_barrier_high: float
    min_test_accuracy: float
    length_ratio: float
    bracket: float
    points: int


@dataclass(frozen=True)
class Thresholds:
    """What counts as connected.

    Attributes:
        barrier: largest barrier of the loss.
        error_barrier: largest barrier of the error, in [0, 1]; 2 % is the usual bound of linear connectivity.
    """

    barrier: float = 0.1
    error_barrier: float = 0.02

    def met(self, way: Along) -> bool:
        """Whether a way is within them; where there are no errors the loss alone counts."""
        return way.barrier <= self.barrier and not way.error_barrier > self.error_barrier

    def sure(self, way: Along) -> bool:
        """Whether the intervals of a way lie on one side of them."""
        return not any(
            low <= bound < high
            for low, bound, high in (
                (way.barrier_low, self.barrier, way.barrier_high),
                (way.error_barrier_low, self.error_barrier, way.error_barrier_high),
            )
        )


@dataclass(frozen=True)
class Verdict:
    """Whether two minima lie in one valley.

    Attributes:
        words: "connected linearly", "connected by a curve" or "not found".
        reason: the figures that it rests on, and the thresholds.
    """

    words: str
    reason: str


def profile(
    path: Path,
    objective: Objective,
    t: Sequence[float] | Array | None = None,
    *,
    tolerance: float = 1e-3,
    gauges: Mapping[str, Gauge] | None = None,
    writer: ResultWriter | None = None,
    report: Reporter = silent,
) -> Result:
    """Measure an objective along a path and along the straight line between its ends.

    Of networks it measures loss, accuracy and, where they classify, negative log-likelihood and calibration error of
    every split, and how like the ends they are; of any way its length so far, its angle with the straight line, and its
    norm. Around the highest places t is refined.

    Args:
        path: the path.
        objective: what is measured; for networks with batch norm, one whose statistics are recomputed.
        t: where to begin with, from 0 to 1; by default 61 even values.
        tolerance: refine until the maximum is known to this, in units of the loss; infinity refines nothing.
        gauges: what else to measure at each of the first values, such as a `CurvatureWalk`.
        writer: keeps what is measured on disk.
        report: told of every point.

    Returns:
        A result of kind "profile". Its sweeps "path" and "straight" hold the first values of t, further ones such as
        "path 1" those of the rounds of refinement; `along` joins them.
    """
    values = np.linspace(0, 1, 61) if t is None else np.asarray(t, dtype=np.float64)
    ways = {"path": path, "straight": straight_line(path)}
    likeness: Gauge | None = None
    if isinstance(objective, EmpiricalRisk):
        objective = objective.calibrated()
        likeness = _likeness(objective, path)
    sweeps: dict[str, Sweep] = {}
    for name, way in ways.items():

        def measured(at: Array, called: str, more: Mapping[str, Gauge], way: Path = way) -> Sweep:
            return sweep(
                objective,
                way,
                {"t": at},
                gauges={**more, "": _together([_Course(way, at), likeness, more.get("")])},
                examples=True,
                writer=writer,
                name=called,
                report=report,
            )

        rounds = [measured(values, name, gauges or {})]
        for number in range(1, _ROUNDS + 1):
            so_far = joined(rounds)
            loss = so_far[f"{so_far.splits[0]}_loss"]
            further = refinements(so_far["t"], loss, tolerance, _AT_ONCE) if np.isfinite(tolerance) else np.empty(0)
            if not len(further):
                break
            rounds.append(measured(further, f"{name} {number}", {}))
        sweeps |= {name if i == 0 else f"{name} {i}": found for i, found in enumerate(rounds)}
    measured_ways = Result("profile", sweeps, facts=lengths(path))
    figures = {name: asdict(way) for name, way in summarise(measured_ways).items()}
    if writer:
        writer.note(figures, flush=True)
    provenance = writer.result.provenance if writer else {}
    return replace(measured_ways, facts={**measured_ways.facts, **figures}, provenance=provenance)


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
    return {name: _figures(along(result, name), ratios[name]) for name in WAYS}


def judge(ways: Mapping[str, Along], thresholds: Thresholds | None = None) -> Verdict:
    """Say whether two minima lie in one valley.

    Args:
        ways: the figures of "path" and "straight"; see `summarise`.
        thresholds: what counts.
    """
    thresholds = thresholds or Thresholds()
    if thresholds.met(ways["straight"]):
        words, way, told = "connected linearly", ways["straight"], "on the straight line"
    elif thresholds.met(ways["path"]):
        words, way, told = "connected by a curve", ways["path"], "along the path"
    else:
        words, way, told = "not found", ways["path"], "even along the path"
    reason = (
        f"{told} the {way.split} loss rises {way.barrier:.4f} above the line between its ends "
        f"(at most {thresholds.barrier:g} counts as connected)"
    )
    if not np.isnan(way.error_barrier):
        reason += (
            f", and the {way.error_split} error {100 * way.error_barrier:.2f} % above the mean of the ends "
            f"(at most {100 * thresholds.error_barrier:g} %)"
        )
    if not thresholds.sure(way):
        reason += "; an interval holds its threshold, so more data may say otherwise"
    return Verdict(words, reason)


class _Course:
    """Length so far, angle and norm, as a gauge."""

    def __init__(self, way: Path, t: Array) -> None:
        geometry = way.geometry
        self._known = {"arc": geometry.arc(t), "angle": geometry.angle(t), "norm": geometry.norm(t)}

    def __call__(self, place: Place, theta_at: Callable[[Place], Tensor], stop: Stop) -> Mapping[str, float]:
        return {name: float(values[place]) for name, values in self._known.items()}


def _likeness(risk: EmpiricalRisk, path: Path) -> Gauge | None:
    split = "test" if "test" in risk.splits else risk.splits[0]
    try:
        return Likeness(risk, path.points[0], path.points[-1], split)
    except ProblemError:  # a network that does not classify has losses alone
        return None


def _together(gauges: Sequence[Gauge | None]) -> Gauge:
    """Several gauges as one."""

    def measure(place: Place, theta_at: Callable[[Place], Tensor], stop: Stop) -> Mapping[str, float | Array]:
        found: dict[str, float | Array] = {}
        for gauge in gauges:
            found |= gauge(place, theta_at, stop) if gauge else {}
        return found

    return measure


def _figures(measured: Sweep, length_ratio: float) -> Along:
    t, split = measured["t"], measured.splits[0]
    loss = measured[f"{split}_loss"]
    above = loss - ((1 - t) * loss[0] + t * loss[-1])
    missed = bracket(t, above)
    drawn = _replicates(measured, f"{split}_losses", loss)
    height, over, saddle = (estimate(n, t, loss, drawn, missed) for n in ("barrier", "excess", "saddle_loss"))
    judged = next((s for s in ("test", *measured.splits) if f"{s}_accuracy" in measured.values), "")
    nothing = float("nan")
    error, error_low, error_high = nothing, nothing, nothing
    if judged:
        errors = 1 - measured[f"{judged}_accuracy"]
        drawn = 1 - _replicates(measured, f"{judged}_right", 1 - errors)
        found = estimate("error_barrier", t, errors, drawn)
        error, error_low, error_high = found.value, found.low, found.high
    return Along(
        split=split,
        max_loss=float(loss.max()),
        barrier=height.value,
        barrier_low=height.low,
        barrier_high=height.high,
        excess=over.value,
        excess_low=over.low,
        excess_high=over.high,
        saddle_loss=saddle.value,
        t_max=float(t[np.argmax(above)]),
        error_split=judged,
        error_barrier=error,
        error_barrier_low=error_low,
        error_barrier_high=error_high,
        min_test_accuracy=float(measured.values.get("test_accuracy", np.full_like(loss, np.nan)).min()),
        length_ratio=length_ratio,
        bracket=missed,
        points=len(t),
    )


def _replicates(measured: Sweep, name: str, means: Array) -> Array:
    """Means over examples drawn anew `[r, n]`; a single row where examples were not kept."""
    return resampled(measured[name]) if name in measured.values else means[None]
