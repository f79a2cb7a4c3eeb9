"""How high the pass is: barrier, saddle loss, excess and error barrier, and how sure each of them is.

A maximum over measured values of t is a lower bound of the maximum along the way. An upper bound comes from the secants
of the neighbouring values, which enclose a function that is concave about its maximum; between the two lies the
bracket. What the sample of examples leaves open is told by a paired bootstrap: examples are drawn anew, the same for
all t and both ends (Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapters 13 and 14).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from landscape import Array

_REPLICATES, _AT_ONCE = 1000, 100
_LEVEL = 0.95
_INFLECTION = 4 / 27  # largest deviation of a cubic from its chord, for each unit of slope at one end


def barrier(t: Array, loss: Array) -> float:
    """Largest excess of the loss over the straight line between the losses of the ends, at least 0.

    Args:
        t: where it was measured `[n]`, from 0 to 1.
        loss: the loss there `[n]`.
    """
    return float(_barriers(t)(loss))


def excess(loss: Array) -> float:
    """How far the highest loss `[n]` lies above the higher of the two ends, at least 0."""
    return float(_excesses(loss))


def error_barrier(error: Array) -> float:
    """How far the highest error `[n]` lies above the mean of the two ends (Frankle et al. 2020, arXiv 1912.05671)."""
    return float(_error_barriers(error))


Measure = Callable[[Array], Array]
"""From values along the way `[..., n]` to one number each `[...]`."""


def _barriers(t: Array) -> Measure:
    def measure(values: Array) -> Array:
        line = (1 - t) * values[..., :1] + t * values[..., -1:]
        highest: Array = (values - line).max(axis=-1)
        return highest

    return measure


def _excesses(values: Array) -> Array:
    highest: Array = values.max(axis=-1) - np.maximum(values[..., 0], values[..., -1])
    return highest


def _saddles(values: Array) -> Array:
    highest: Array = values.max(axis=-1)
    return highest


def _error_barriers(values: Array) -> Array:
    highest: Array = values.max(axis=-1) - (values[..., 0] + values[..., -1]) / 2
    return highest


MEASURES: dict[str, Callable[[Array], Measure]] = {
    "barrier": _barriers,
    "excess": lambda t: _excesses,
    "saddle_loss": lambda t: _saddles,
    "error_barrier": lambda t: _error_barriers,
}


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval.

    The interval is where as many other examples would put the number; its upper end also holds what the values of t may
    have missed.

    Attributes:
        value: over all examples.
        low: lower end of the interval.
        high: upper end.
    """

    value: float
    low: float
    high: float


def estimate(name: str, t: Array, values: Array, replicates: Array, missed: float = 0.0) -> Estimate:
    """One of the measures, with its interval.

    Two samples of examples differ as two independent bootstrap replicates do; the interval is that of the difference
    around the value, which covers what a second sample of the same size gives in 95 of 100 cases.

    Args:
        name: of the measure: barrier, excess, saddle_loss or error_barrier.
        t: where it was measured `[n]`.
        values: means over all examples `[n]`.
        replicates: the same for examples drawn anew `[r, n]`; see `resampled`.
        missed: how much higher the maximum may lie between the values of t.
    """
    measure = MEASURES[name](t)
    value = float(measure(values))
    drawn = np.sort(measure(replicates)) if len(replicates) else np.empty(0)
    if not np.isfinite(value) or not np.isfinite(drawn).all():
        return Estimate(value, float("nan"), float("nan"))
    spread = float(np.quantile(np.abs(drawn[:, None] - drawn[None, :]), _LEVEL)) if len(drawn) > 1 else 0.0
    floor = -np.inf if name == "saddle_loss" else 0.0
    return Estimate(value, max(floor, value - spread), value + spread + missed)


def resampled(examples: Array, seed: int = 0, replicates: int = _REPLICATES) -> Array:
    """Means over examples drawn anew, with the same draws in each row.

    Args:
        examples: what each example says at each place `[n, N]`.
        seed: of the draws.
        replicates: their number r.

    Returns:
        Means `[r, n]`, float64; NaN for a single example, which says nothing of others.
    """
    count = examples.shape[1]
    if count == 1:
        return np.full((replicates, len(examples)), np.nan)
    random = np.random.default_rng(seed)
    columns = np.ascontiguousarray(examples.T, dtype=np.float64)
    means = []
    for first in range(0, replicates, _AT_ONCE):
        some = min(_AT_ONCE, replicates - first)
        drawn = random.integers(0, count, size=(some, count)) + count * np.arange(some)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=some * count).reshape(some, count)
        with np.errstate(invalid="ignore"):  # no draws of an infinite loss
            means.append(weights @ columns / count)
    return np.concatenate(means)


def upper_bounds(t: Array, values: Array) -> Array:
    """What a function may reach between neighbouring places, `[n - 1]`.

    Where it is concave it stays below the lines through the two places before an interval and the two after it, which
    meet in the interval. At an inflection it is taken for a cubic with their slopes. Two places alone say nothing.

    Args:
        t: places `[n]`, increasing, n ≥ 2.
        values: the function there.
    """
    if len(t) == 2:
        return np.array([np.inf])
    widths = np.diff(t)
    slopes = np.diff(values) / widths
    before, after = np.empty_like(slopes), np.empty_like(slopes)
    before[1:], after[:-1] = slopes[:-1] - slopes[1:], slopes[:-1] - slopes[1:]
    before[0], after[-1] = after[0], before[-1]
    before, after = before.clip(0), after.clip(0)
    higher = np.maximum(values[:-1], values[1:])
    bump = _INFLECTION * widths * (before + after)
    concave = (before > 0) & (after > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        meeting = values[:-1] + (slopes + before) * widths * after / (before + after)
    return np.where(concave, np.maximum(higher, meeting), higher + bump)


def bracket(t: Array, values: Array) -> float:
    """How much higher than the measured values `[n]` the maximum may lie; NaN where they are not finite."""
    if not np.isfinite(values).all():
        return float("nan")
    return max(0.0, float(upper_bounds(t, values).max() - values.max()))


def refinements(t: Array, values: Array, tolerance: float, most: int) -> Array:
    """Where to measure next, so that the bracket of the barrier and of the saddle loss comes below a tolerance.

    Args:
        t: where it was measured `[n]`.
        values: the loss there; nothing is refined where it is not finite.
        tolerance: largest bracket, in units of the loss.
        most: at most so many places.

    Returns:
        The middles of the intervals that may hold a higher maximum, increasing; empty when none does.
    """
    if not np.isfinite(values).all():
        return np.empty(0)
    above = values - ((1 - t) * values[0] + t * values[-1])
    promise = np.maximum(*(upper_bounds(t, heights) - heights.max() for heights in (values, above)))
    intervals = [i for i in np.argsort(-promise, kind="stable")[:most] if promise[i] > tolerance]
    middles: Array = np.sort((t[:-1] + t[1:])[intervals] / 2)
    return middles
