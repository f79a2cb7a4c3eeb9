"""Measure a path and the straight line between its ends, and say how high the wall is and how sure that is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from torch import Tensor

from connect.measures.barriers import SecondSamples, bracket, doubt, estimate, refinements, resampled
from connect.measures.similarity import Likeness
from connect.measures.ways import WAYS, along, joined
from connect.paths.path import Path, straight_line
from landscape.errors import ConfigError, ProblemError
from landscape.risk.surface import NetworkSurface, Surface
from landscape.runtime.interrupts import Stop
from landscape.runtime.progress import Reporter, silent
from landscape.storage.results import Array, Result, Sweep
from landscape.storage.store import ResultWriter
from landscape.sweeps.driver import Metric, sweep
from landscape.sweeps.grid import Place

_ROUNDS, _AT_ONCE = 8, 6


@dataclass(frozen=True)
class Along:
    """Figures of one way between two minima; each interval holds 95 of 100 second samples, see `Estimate`.

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
        saddle_loss_low: lower end of its interval.
        saddle_loss_high: upper end.
        t_max: where the barrier is.
        error_split: that errors are of: test where it was measured, else the first; empty where there are none.
        error_barrier: of the largest error over the mean of the ends, in [0, 1]; NaN where there are no errors.
        error_barrier_low: lower end of its interval.
        error_barrier_high: upper end; errors between the values of t are not reckoned with.
        min_test_accuracy: smallest measured test accuracy, in [0, 1]; NaN where there is none.
        length_ratio: length over that of the straight line.
        bracket: how much higher the barrier may be between the values of t.
        points: values of t that were measured.
        barrier_carriers: how many examples carry the barrier's interval, which is not promised below 10; NaN where
            examples are not known.
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
    saddle_loss_low: float
    saddle_loss_high: float
    t_max: float
    error_split: str
    error_barrier: float
    error_barrier_low: float
    error_barrier_high: float
    min_test_accuracy: float
    length_ratio: float
    bracket: float
    points: int
    barrier_carriers: float = float("nan")


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
        """Whether the intervals of a way are known and lie on one side of them; without errors, that of the loss."""
        return all(
            np.isnan(value) or high <= bound or low > bound
            for value, low, bound, high in (
                (way.barrier, way.barrier_low, self.barrier, way.barrier_high),
                (way.error_barrier, way.error_barrier_low, self.error_barrier, way.error_barrier_high),
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
    surface: Surface,
    t: Sequence[float] | Array | None = None,
    *,
    tolerance: float = 1e-3,
    metrics: Mapping[str, Metric] | None = None,
    writer: ResultWriter | None = None,
    report: Reporter = silent,
) -> Result:
    """Measure a surface along a path and along the straight line between its ends.

    Of networks it measures loss, accuracy and, where they classify, negative log-likelihood and calibration error of
    every split, and how like the ends they are; of any way its length so far, its angle with the straight line, and its
    norm. Around the highest places t is refined.

    Args:
        path: the path.
        surface: what is measured; for networks with batch norm, one whose statistics are recomputed.
        t: where to begin with, at least two values in [0, 1], by default 61 even ones. The ends are measured in any
            case, since barriers are against them, and each value once.
        tolerance: refine until the maximum is known to this, in units of the loss; 0 refines nothing.
        metrics: what else to measure at each of the first values, such as a `CurvatureWalk`.
        writer: keeps what is measured on disk.
        report: told of every point.

    Returns:
        A result of kind "profile". Its sweeps "path" and "straight" hold the first values of t, further ones such as
        "path 1" those of the rounds of refinement; `along` joins them.

    Raises:
        ConfigError: t is not a list of at least two numbers in [0, 1].
    """
    values = np.linspace(0, 1, 61) if t is None else _with_ends(t)
    ways = {"path": path, "straight": straight_line(path)}
    likeness: Metric | None = None
    if isinstance(surface, NetworkSurface):
        likeness = _likeness(surface, path)
        surface = surface.select(calibrated=True)
    sweeps: dict[str, Sweep] = {}
    for name, way in ways.items():
        sweeps |= measure_way(
            way,
            surface,
            values,
            name=name,
            tolerance=tolerance,
            metrics=metrics,
            always=likeness,
            writer=writer,
            report=report,
        )
    measured_ways = Result("profile", sweeps, facts=lengths(path))
    told = {name: asdict(way) for name, way in summarise(measured_ways).items()}
    if writer:
        writer.note(told, flush=True)
    provenance = writer.result.provenance if writer else {}
    return replace(measured_ways, facts={**measured_ways.facts, **told}, provenance=provenance)


def measure_way(
    way: Path,
    surface: Surface,
    t: Sequence[float] | Array,
    *,
    name: str = "path",
    tolerance: float = 1e-3,
    metrics: Mapping[str, Metric] | None = None,
    always: Metric | None = None,
    writer: ResultWriter | None = None,
    report: Reporter = silent,
) -> dict[str, Sweep]:
    """Measure a surface along one way, again around the highest places until the maximum is known.

    Args:
        way: the way.
        surface: what is measured.
        t: where to begin with `[n]`, at least two values in [0, 1]; the ends are measured in any case, each value once.
        name: of its sweeps.
        tolerance: refine until the maximum is known to this, in units of the loss; 0 refines nothing.
        metrics: what else to measure at each of the first values.
        always: what else to measure at all values.
        writer: keeps what is measured on disk.
        report: told of every point.

    Returns:
        The sweep of the first values by the way's name, and those of the rounds of refinement, such as "path 1".

    Raises:
        ConfigError: t is not a list of at least two numbers in [0, 1].
    """
    first = _with_ends(t)

    def measured(at: Array, called: str, more: Mapping[str, Metric]) -> Sweep:
        return sweep(
            surface,
            way,
            {"t": at},
            metrics={**more, "": _together([_Course(way, at), always, more.get("")])},
            examples=True,
            writer=writer,
            name=called,
            report=report,
        )

    rounds = {name: measured(first, name, metrics or {})}
    for number in range(1, _ROUNDS + 1):
        so_far = joined(list(rounds.values()))
        loss = so_far[f"{so_far.splits[0]}_loss"]
        further = refinements(so_far["t"], loss, tolerance, _AT_ONCE) if 0 < tolerance < np.inf else np.empty(0)
        if not len(further):
            break
        rounds[f"{name} {number}"] = measured(further, f"{name} {number}", {})
    return rounds


def _with_ends(t: Sequence[float] | Array) -> Array:
    """Values of t, increasing, each once, and both ends among them."""
    try:
        given = np.asarray(t, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"t is {t!r}, expected numbers in [0, 1].") from error
    if given.ndim != 1 or len(given) < 2:
        raise ConfigError(f"t has shape {list(given.shape)}, expected a list of at least two numbers in [0, 1].")
    if not ((given >= 0) & (given <= 1)).all():
        wrong = given[~((given >= 0) & (given <= 1))]
        raise ConfigError(f"t holds {wrong[0]:g}, expected numbers in [0, 1]; 0 and 1 are the ends of the path.")
    return np.unique([0.0, *given, 1.0])


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
    return {name: figures(along(result, name), ratios[name]) for name in WAYS}


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
        reason += "; an interval holds its threshold or is not known, so other examples may say otherwise"
    carried = doubt(way.barrier_carriers)
    if carried:
        reason += f"; {carried} the interval of that rise, too few to promise it"
    return Verdict(words, reason)


class _Course:
    """Length so far, angle and norm, as a metric."""

    def __init__(self, way: Path, t: Array) -> None:
        geometry = way.geometry
        self._known = {"arc": geometry.arc(t), "angle": geometry.angle(t), "norm": geometry.norm(t)}

    def __call__(self, place: Place, theta_at: Callable[[Place], Tensor], stop: Stop) -> Mapping[str, float]:
        return {name: float(values[place]) for name, values in self._known.items()}


def _likeness(risk: NetworkSurface, path: Path) -> Metric | None:
    split = "test" if "test" in risk.splits else risk.splits[0]
    try:
        return Likeness(risk, path.points[0], path.points[-1], split)
    except ProblemError:  # a network that does not classify has losses alone
        return None


def _together(metrics: Sequence[Metric | None]) -> Metric:
    """Several metrics as one."""

    def measure(place: Place, theta_at: Callable[[Place], Tensor], stop: Stop) -> Mapping[str, float | Array]:
        found: dict[str, float | Array] = {}
        for metric in metrics:
            found |= metric(place, theta_at, stop) if metric else {}
        return found

    return measure


def figures(measured: Sweep, length_ratio: float) -> Along:
    """The figures of one way.

    Args:
        measured: all that was measured of it, ordered by t; see `along`.
        length_ratio: its length over that of the straight line.

    Raises:
        ConfigError: it was not measured from 0 to 1.
    """
    t, split = measured["t"], measured.splits[0]
    loss = measured[f"{split}_loss"]
    above = loss - ((1 - t) * loss[0] + t * loss[-1])
    missed, missed_loss = bracket(t, above), bracket(t, loss)
    samples = _samples(measured, f"{split}_losses")
    height = estimate("barrier", t, loss, samples, missed)
    over, saddle = (estimate(name, t, loss, samples, missed_loss) for name in ("excess", "saddle_loss"))
    judged = next((s for s in ("test", *measured.splits) if f"{s}_accuracy" in measured.values), "")
    nothing = float("nan")
    error, error_low, error_high = nothing, nothing, nothing
    if judged:
        errors = 1 - measured[f"{judged}_accuracy"]
        found = estimate("error_barrier", t, errors, _samples(measured, f"{judged}_right", wrong=True))
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
        saddle_loss_low=saddle.low,
        saddle_loss_high=saddle.high,
        t_max=float(t[np.argmax(above)]),
        error_split=judged,
        error_barrier=error,
        error_barrier_low=error_low,
        error_barrier_high=error_high,
        min_test_accuracy=float(measured.values.get("test_accuracy", np.full_like(loss, np.nan)).min()),
        length_ratio=length_ratio,
        bracket=missed,
        points=len(t),
        barrier_carriers=height.carriers,
    )


def _samples(measured: Sweep, name: str, *, wrong: bool = False) -> SecondSamples | None:
    """Second samples of what each example says; None where that was not kept, or there are no examples."""
    if name not in measured.values:
        return None
    return resampled(1.0 - measured[name] if wrong else measured[name])
