"""How high the wall between two minima is along a path, how sure that is, and whether they are connected.

All of it follows from a profile alone, without the model or the data.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np

from connect.measures.barriers import Estimate, SecondSamples, bracket, doubt, estimate, resampled
from connect.measures.training import Training
from landscape.storage.results import Result, Sweep

PATHS = ("path", "straight")  # the path and the linear path, as sweeps and facts of a profile are called
_UNKNOWN, _PARTS = float("nan"), ("", "_low", "_high", "_carriers")

Trained = Literal["", "converged", "still falling", "too short", "above the line", "diverged"]
_ROUNDING = 1e-9
_LOWER, _LONGER, _SHORTEST = 5, 2, 40  # times the rate and the epochs that are tried next, and the fewest of these


@dataclass(frozen=True)
class PathSummary:
    """Figures of a path between two minima; each interval holds 95 of 100 second samples, see `Estimate`.

    Attributes:
        split: that the losses are of, the first that was measured.
        max_loss: largest measured loss.
        barrier: largest excess of the loss over the straight line between the losses of the ends; its interval includes
            what may lie between the values of t.
        excess: of the largest loss over the higher of the ends.
        saddle_loss: the largest loss along the path.
        t_max: where the barrier is.
        error_split: that errors are of: test where it was measured, else the first; empty where there are none.
        error_barrier: of the largest error over the mean of the ends, in [0, 1]; NaN where there are no errors. Errors
            between the values of t are not reckoned with.
        min_test_accuracy: smallest measured test accuracy, in [0, 1]; NaN where there is none.
        length_ratio: length over that of the linear path.
        bracket: how much higher the barrier may be between the values of t.
        points: values of t that were measured.
    """

    split: str
    max_loss: float
    barrier: Estimate
    excess: Estimate
    saddle_loss: Estimate
    t_max: float
    error_split: str
    error_barrier: Estimate
    min_test_accuracy: float
    length_ratio: float
    bracket: float
    points: int

    def flat(self) -> dict[str, Any]:
        """The figures as files and `--json` hold them: `barrier`, `barrier_low`, `barrier_high`, and so on."""
        figures: dict[str, Any] = {}
        for name in (each.name for each in fields(self)):
            figure = getattr(self, name)
            figures |= figure.flat(name) if isinstance(figure, Estimate) else {name: figure}
        return figures | {"barrier_carriers": self.barrier.carriers}

    @classmethod
    def from_flat(cls, figures: Mapping[str, Any]) -> "PathSummary":
        """The figures that a file holds; what an earlier version did not write is NaN."""
        plain = {each.name: figures.get(each.name, _UNKNOWN) for each in fields(cls)}
        estimates = {
            each.name: Estimate(*(figures.get(f"{each.name}{part}", _UNKNOWN) for part in _PARTS))
            for each in fields(cls)
            if each.type is Estimate
        }
        return cls(**{**plain, **estimates})


@dataclass(frozen=True)
class Thresholds:
    """What counts as connected.

    Attributes:
        barrier: largest barrier of the loss.
        error_barrier: largest barrier of the error, in [0, 1]; 2 % is the usual bound of linear connectivity.
    """

    barrier: float = 0.1
    error_barrier: float = 0.02

    def met(self, path: PathSummary) -> bool:
        """Whether a path is within them; where there are no errors the loss alone counts."""
        is_low = _is_within(path.barrier.value, self.barrier)
        return is_low and (
            np.isnan(path.error_barrier.value) or _is_within(path.error_barrier.value, self.error_barrier)
        )

    def sure(self, path: PathSummary) -> bool:
        """Whether the intervals of a path are known and lie on one side of them; without errors, that of the loss."""
        heights = ((path.barrier, self.barrier), (path.error_barrier, self.error_barrier))
        return all(
            np.isnan(height.value) or _is_within(height.high, bound) or height.low > bound + _ROUNDING
            for height, bound in heights
        )


def _is_within(height: float, bound: float) -> bool:
    """Whether a height is at most a bound, up to rounding: of 1,000 examples 20 errors more are 2 %."""
    return height <= bound + _ROUNDING


@dataclass(frozen=True)
class Verdict:
    """Whether two minima lie in one valley.

    Attributes:
        words: "connected linearly", "connected by a curve", "not connected" where a trained path stays too high, "not
            trained" where its training says that there may be a lower one, or "not found" where nothing is known of it.
        reason: the figures that it rests on, and the thresholds.
        training: how far the path is trained: "converged", "still falling", "too short" to tell, "above the line" that
            it began from, or "diverged"; empty where that is not known.
        remedies: what to try next, by name: of a recipe ("lr", "epochs"), a method ("control_points") or `find_path`
            ("start"), as a number or a word such as "more"; empty for minima that are connected.
    """

    words: str
    reason: str
    training: Trained = ""
    remedies: Mapping[str, Any] = field(default_factory=dict)


def measured_path(result: Result, name: str) -> Sweep:
    """All that was measured along a path, ordered by t: "path", or "straight" where no other was kept."""
    return result.join_rounds(name if name in result.sweeps else "straight")


def summarise(result: Result) -> dict[str, PathSummary]:
    """The figures of the path and of the linear path, by their names, from a result of kind "profile"."""
    straight = result.facts["straight_length"]
    ratios = {"path": result.facts["path_length"] / straight, "straight": 1.0}
    return {name: summarise_path(measured_path(result, name), ratios[name]) for name in PATHS}


def judge(
    paths: Mapping[str, PathSummary], thresholds: Thresholds | None = None, training: Training | None = None
) -> Verdict:
    """Say whether two minima lie in one valley.

    Args:
        paths: figures of "path" and "straight".
        thresholds: what counts as connected.
        training: how the path was trained, so that what is not connected is told from what is not trained.
    """
    thresholds = thresholds or Thresholds()
    if thresholds.met(paths["straight"]):
        return Verdict("connected linearly", _reason(paths["straight"], thresholds, "on the straight line"))
    path = paths["path"]
    if thresholds.met(path):
        return Verdict("connected by a curve", _reason(path, thresholds, "along the path"))
    trained = _trained(paths, training)
    words = {"": "not found", "converged": "not connected"}.get(trained, "not trained")
    reason = f"{_reason(path, thresholds, 'even along the path')}{_course(trained, paths, training)}"
    return Verdict(words, reason, trained, _remedies(trained, training))


def _reason(path: PathSummary, thresholds: Thresholds, place: str) -> str:
    """The figures of a path that a verdict rests on, and how sure they are."""
    reason = (
        f"{place} the {path.split} loss rises {path.barrier.value:.4f} above the line between its ends "
        f"(at most {thresholds.barrier:g} counts as connected)"
    )
    if not np.isnan(path.error_barrier.value):
        reason += (
            f", and the {path.error_split} error {100 * path.error_barrier.value:.2f} % above the mean of the ends "
            f"(at most {100 * thresholds.error_barrier:g} %)"
        )
    if not thresholds.sure(path):
        reason += "; an interval holds its threshold or is not known, so other examples may say otherwise"
    if carried := doubt(path.barrier.carriers):
        reason += f"; {carried} the interval of that rise, too few to promise it"
    return reason


def _trained(paths: Mapping[str, PathSummary], training: Training | None) -> Trained:
    """How far a path is trained that does not connect."""
    height, straight = (paths[name].saddle_loss.value for name in PATHS)
    if training and (training.ending == "diverged" or not np.isfinite(height)):
        return "diverged"
    if height > straight:
        return "above the line"
    return training.ending if training else ""


def _course(trained: Trained, paths: Mapping[str, PathSummary], training: Training | None) -> str:
    """What speaks for the training of a path that does not connect having ended so."""
    height, straight = (paths[name].saddle_loss.value for name in PATHS)
    words = ""
    if trained == "above the line":
        words = f"the path goes up to {height:.4g}, above the straight line that it began from ({straight:.4g})"
    elif training and trained == "diverged":
        slope = f"at the end the training loss changed by {training.at_end.slope:+.2g} an epoch"
        words = slope if np.isfinite(height) else "the loss along the path is not finite"
    elif training and trained == "still falling":
        words = f"at the highest rate the training loss still fell by {-training.at_peak.slope:.2g} an epoch"
    elif training and trained == "too short":
        words = f"the epochs, {len(training.losses)}, are too few to tell whether it had arrived"
    elif training:
        words = f"after {len(training.losses)} epochs the training loss had settled"
    return f"; {words}" if words else ""


def _remedies(trained: Trained, training: Training | None) -> dict[str, Any]:
    """What to try next for a path that does not connect."""
    if trained == "converged":
        return {"control_points": "more", "start": "another"}
    slower = {}
    if trained in {"above the line", "diverged"}:
        known = training is not None and np.isfinite(training.peak)
        slower = {"lr": float(f"{training.peak / _LOWER:.2g}") if training and known else "lower"}
    longer = {}
    if training and trained not in {"", "diverged"}:
        longer = {"epochs": max(_LONGER * len(training.losses), _SHORTEST)}
    return {**slower, **longer}


def summarise_path(measured: Sweep, length_ratio: float) -> PathSummary:
    """The figures of one path, by all that was measured along it, ordered by t, and its length over the linear one's.

    Raises:
        ConfigError: it was not measured from 0 to 1.
    """
    t, split = measured["t"], measured.splits[0]
    loss = measured["loss", split]
    above = loss - ((1 - t) * loss[0] + t * loss[-1])
    missed, missed_loss = bracket(t, above), bracket(t, loss)
    samples = _samples(measured, "losses", split)
    error_split = next((each for each in ("test", *measured.splits) if ("accuracy", each) in measured), "")
    return PathSummary(
        split=split,
        max_loss=float(loss.max()),
        barrier=estimate("barrier", t, loss, samples, missed),
        excess=estimate("excess", t, loss, samples, missed_loss),
        saddle_loss=estimate("saddle_loss", t, loss, samples, missed_loss),
        t_max=float(t[np.argmax(above)]),
        error_split=error_split,
        error_barrier=_error_barrier(measured, error_split) if error_split else Estimate(*[_UNKNOWN] * 3),
        min_test_accuracy=float(measured["accuracy", "test"].min()) if ("accuracy", "test") in measured else _UNKNOWN,
        length_ratio=length_ratio,
        bracket=missed,
        points=len(t),
    )


def _error_barrier(measured: Sweep, split: str) -> Estimate:
    return estimate("error_barrier", measured["t"], measured["error", split], _samples(measured, "right", split))


def _samples(measured: Sweep, quantity: str, split: str) -> SecondSamples | None:
    """Second samples of what each example says, of errors those of being wrong; None where that was not kept."""
    if (quantity, split) not in measured:
        return None
    each = measured[quantity, split]
    return resampled(1.0 - each if quantity == "right" else each)
