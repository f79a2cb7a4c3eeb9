"""How high the pass is: barrier, saddle loss, excess and error barrier, and how sure each of them is.

A maximum over measured values of t is a lower bound of the maximum along the way. An upper bound comes from the secants
of the neighbouring values, which enclose a function that is concave about its maximum; between the two lies the
bracket.

What the sample of examples leaves open is where a second sample of as many examples would put the figure. Mixed into
one row by their values, the examples of two samples stand in every order with the same chance, so a second sample is
drawn by dealing its examples at random into the gaps between those of the first (the Pólya urn; Hill 1968, Posterior
distribution of percentiles; Coolen 2006, On nonparametric predictive inference). What falls beyond the largest stands
for examples worse than any that was seen. A plain bootstrap has none of them, and is too sure of a mean that a few
examples carry: for the upper end a worse one is added to the sample, for the lower end a better one, which is what
Clopper and Pearson do for shares and Gaffke (2005, Three test statistics for a nonparametric one-sided hypothesis on
the mean of a nonnegative variable) for means. Draws are the same for all t and both ends.

`benchmarks/interval_coverage.py` measures what the intervals cover.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from landscape.errors import ConfigError
from landscape.storage.results import Array

_REPLICATES, _AT_ONCE = 1000, 2**21  # draws, and how many weights are held at once
_LEVEL = 0.95
_TAIL = 10  # the worst example is compared with the tenth worst
FEW = 10  # examples that carry a spread, below which its interval is not promised
_INFLECTION = 4 / 27  # largest deviation of a cubic from its chord, for each unit of slope at one end

Contrasts = Callable[[Array, Array, Array, Array], Array]
"""From t, the values there and those at the two ends to what is compared, `[c, …]`."""


@dataclass(frozen=True)
class Measure:
    """A figure of a path: the maximum over t of a contrast, or of the least of several.

    Attributes:
        contrasts: linear in the values, so that the contrast of means is the mean of the examples' contrasts.
        floor: the figure is never below it.
        bound: no example's contrast is larger in size.
    """

    contrasts: Contrasts
    floor: float = 0.0
    bound: float = np.inf

    def along(self, t: Array, values: Array) -> Array:
        """The contrasts along a path `[c, …, n]`, from values `[…, n]`."""
        with np.errstate(invalid="ignore"):  # an infinite loss less itself
            return self.contrasts(t, values, values[..., :1], values[..., -1:])


def _over_line(t: Array, values: Array, first: Array, last: Array) -> Array:
    above: Array = values - ((1 - t) * first + t * last)
    return above[None]


def _over_ends(t: Array, values: Array, first: Array, last: Array) -> Array:
    return np.stack([values - first, values - last])


def _over_nothing(t: Array, values: Array, first: Array, last: Array) -> Array:
    return values[None]


def _over_mean(t: Array, values: Array, first: Array, last: Array) -> Array:
    return (values - (first + last) / 2)[None]


MEASURES = {
    "barrier": Measure(_over_line),
    "excess": Measure(_over_ends),
    "saddle_loss": Measure(_over_nothing, floor=-np.inf),
    "error_barrier": Measure(_over_mean, bound=1.0),
}


def barrier(t: Array, loss: Array) -> float:
    """Largest excess of the loss over the straight line between the losses of the ends, at least 0.

    Args:
        t: where it was measured `[n]`, from 0 to 1.
        loss: the loss there `[n]`.

    Raises:
        ConfigError: t is not from 0 to 1, so that the ends were not measured.
    """
    _require_ends(t)
    return float(_highest(MEASURES["barrier"].along(t, loss)))


def excess(loss: Array) -> float:
    """How far the highest loss `[n]` lies above the higher of the two ends, at least 0."""
    return float(_highest(MEASURES["excess"].along(np.empty(0), loss)))


def error_barrier(error: Array) -> float:
    """How far the highest error `[n]` lies above the mean of the two ends (Frankle et al. 2020, arXiv 1912.05671)."""
    return float(_highest(MEASURES["error_barrier"].along(np.empty(0), error)))


def _require_ends(t: Array) -> None:
    if not (len(t) > 1 and t[0] == 0 and t[-1] == 1):
        ends = f"from {t[0]:g} to {t[-1]:g}" if len(t) else "empty"
        raise ConfigError(f"t is {ends}, expected 0 to 1; a barrier is against the ends, so measure them, too.")


def _highest(contrasts: Array) -> Array:
    """From contrasts `[c, …, n]` to figures `[…]`."""
    highest: Array = contrasts.min(axis=0).max(axis=-1)
    return highest


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval.

    The interval holds what a second sample of as many examples says of the same values of t, in 95 of 100 pairs of
    samples; its upper end also holds what the values of t may have missed. Of a loss, this is not promised where fewer
    than `FEW` examples carry the spread, since their like may be far worse or more frequent; and no sample tells of
    examples so rare that it is likely to hold none, fewer than about 4 in as many.

    Attributes:
        value: over all examples.
        low: lower end of the interval.
        high: upper end.
        carriers: how many examples carry the spread: (Σd²)² / Σd⁴ of their deviations d from the mean, at the place
            that decides the upper end; NaN where no examples are known.
    """

    value: float
    low: float
    high: float
    carriers: float = float("nan")

    def flat(self, name: str) -> dict[str, float]:
        """The value and the ends of the interval under names of their own."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


@dataclass(frozen=True, eq=False)
class SecondSamples:
    """What each example of a sample says, and second samples of as many examples, as the first lets expect them.

    Attributes:
        examples: what each says at each place `[n, N]`.
        totals: sums over what a second sample shares with the first, over N `[r, n]`.
        unseen: the share of it that lies beyond every example of the first `[r]`.
    """

    examples: Array
    totals: Array
    unseen: Array


def estimate(name: str, t: Array, values: Array, samples: SecondSamples | None = None, missed: float = 0.0) -> Estimate:
    """One of the measures, with its interval.

    Args:
        name: of the measure: barrier, excess, saddle_loss or error_barrier.
        t: where it was measured `[n]`.
        values: means over all examples `[n]`.
        samples: what each example says; see `resampled`. None where the values are exact.
        missed: how much higher the maximum may lie between the values of t.

    Returns:
        The number and its interval, which is NaN where the number is not finite or of a single example.

    Raises:
        ConfigError: t is not from 0 to 1, so that the ends were not measured.
    """
    _require_ends(t)
    measure = MEASURES[name]
    contrasts = measure.along(t, values)
    value = float(_highest(contrasts))
    if samples is None:
        return Estimate(value, value, value + missed)
    if not np.isfinite(value) or not np.isfinite(samples.totals).all() or not np.isfinite(samples.examples).all():
        return Estimate(value, float("nan"), float("nan"))
    tails = _tails(measure, t, samples.examples)
    shared = measure.along(t, samples.totals)
    unseen = samples.unseen[:, None]
    # The maximum over noisy places rises with the noise. Draws about the first sample have the noise of both, so their
    # rise over the place of the first's maximum is taken off; at the lower end twice, for the first sample has risen
    # over the population as well.
    place = int(contrasts.min(axis=0).argmax())
    rise = float((_highest(shared) - shared[:, :, place].min(axis=0)).mean())
    outside = (1 - _LEVEL) / 2
    low = np.quantile(_highest(shared + unseen * tails.best[:, None]), outside, method="lower") - 2 * rise
    above = shared + unseen * tails.worst[:, None]
    high = np.quantile(_highest(above), 1 - outside, method="higher") - rise
    tops = np.quantile(above.min(axis=0), 1 - outside, axis=0)
    return Estimate(
        value,
        max(measure.floor, min(value, float(low))),
        max(value, float(high)) + missed,
        float(tails.carriers[:, tops == tops.max()].min()),
    )


def doubt(carriers: float) -> str:
    """Who carries an interval that is not promised for it, such as "about 4 examples carry"; empty where it is."""
    if not carriers < FEW:
        return ""
    if round(carriers) == 0:
        return "no example carries"
    return "about 1 example carries" if round(carriers) == 1 else f"about {carriers:.0f} examples carry"


def resampled(examples: Array, seed: int = 0, replicates: int = _REPLICATES) -> SecondSamples:
    """Second samples, with the same draws in each row.

    Args:
        examples: what each example says at each place `[n, N]`.
        seed: of the draws.
        replicates: their number r.

    Returns:
        Second samples of N examples; NaN for a single example, which says nothing of others.
    """
    count = examples.shape[1]
    if count == 1:
        return SecondSamples(examples, np.full((replicates, len(examples)), np.nan), np.full(replicates, np.nan))
    columns = np.ascontiguousarray(examples.T, dtype=np.float64)
    totals, unseen = [], []
    for runs in _draws(count, seed, replicates):
        with np.errstate(invalid="ignore"):  # no draws of an infinite loss
            totals.append(runs[:, :count] @ columns / count)
        unseen.append(runs[:, count] / count)
    return SecondSamples(examples, np.concatenate(totals), np.concatenate(unseen))


def _draws(count: int, seed: int, replicates: int) -> Iterable[Array]:
    """All draws `[r, N + 1]`, some at once; where all fit they are kept, as a profile has both ways on two splits."""
    fit_at_once = replicates * count <= _AT_ONCE
    return [_drawn(count, seed, replicates)] if fit_at_once else _blocks(count, seed, replicates)


@lru_cache(maxsize=2)
def _drawn(count: int, seed: int, replicates: int) -> Array:
    return np.concatenate(list(_blocks(count, seed, replicates)))


def _blocks(count: int, seed: int, replicates: int) -> Iterator[Array]:
    random = np.random.default_rng(seed)
    some = max(1, _AT_ONCE // count)
    for first in range(0, replicates, some):
        yield np.stack([_dealt(count, random) for _ in range(min(some, replicates - first))])


def _dealt(count: int, random: np.random.Generator) -> Array:
    """How often a second sample has each example of the first, and what is beyond all of them `[N + 1]`.

    In a random order of both samples these are the runs of the second's between neighbours of the first.
    """
    order = random.integers(0, 2, 2 * count, dtype=bool)  # coins, of which the more frequent side gives N places
    if 2 * np.count_nonzero(order) < len(order):
        order = ~order
    places = np.flatnonzero(order)
    kept = np.ones(len(places), dtype=bool)
    kept[random.choice(len(places), len(places) - count, replace=False, shuffle=False)] = False
    bounds = np.empty(count + 2)
    bounds[0], bounds[1:-1], bounds[-1] = -1, places[kept], 2 * count
    runs: Array = bounds[1:] - bounds[:-1] - 1
    return runs


@dataclass(frozen=True, eq=False)
class _Tails:
    """What an example beyond all others may say `[c, n]`, and how many carry the spread `[c, n]`."""

    best: Array
    worst: Array
    carriers: Array


def _tails(measure: Measure, t: Array, examples: Array) -> _Tails:
    """The tails of the examples' contrasts, at each place.

    Where an example's contrast is bounded, one beyond all others may reach the bound. Else it may lie as far beyond the
    worst as that lies beyond the tenth worst: in a light tail a little, in a heavy one a multiple of it.
    """
    count = examples.shape[1]
    rank = min(_TAIL, count) - 1
    first, last = (np.asarray(end, dtype=np.float64) for end in (examples[0], examples[-1]))
    tails = []
    for at, row in zip(t, examples, strict=True):
        contrasts = np.sort(measure.contrasts(at, np.asarray(row, dtype=np.float64), first, last), axis=-1)
        best, worst = 2 * contrasts[:, 0] - contrasts[:, rank], 2 * contrasts[:, -1] - contrasts[:, -1 - rank]
        if np.isfinite(measure.bound):
            best, worst = np.full_like(best, -measure.bound), np.full_like(worst, measure.bound)
        squares = (contrasts - contrasts.mean(axis=-1, keepdims=True)) ** 2
        total, fourth = squares.sum(axis=-1), (squares**2).sum(axis=-1)
        # Where nothing varies no example tells of others, but at an end, where the contrast is 0 for all examples.
        alone = count if at in {0, 1} else 0
        tails.append((best, worst, np.divide(total**2, fourth, out=np.full_like(total, alone), where=fourth > 0)))
    return _Tails(*(np.stack(parts, axis=-1) for parts in zip(*tails, strict=True)))


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
