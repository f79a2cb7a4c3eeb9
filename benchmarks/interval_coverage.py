"""What the intervals of barriers cover, by simulation, against a plain paired bootstrap.

Target: intervals hold the figures of 95 of 100 second samples of as many examples, to a point. What is not promised are
tails so heavy that few examples carry the interval, and kinds of examples so rare that a sample may have none; the
cases "beyond" show what is left then. Each case says how examples are drawn. Every interval is that of one sample; it
is set against the figures of many second samples, the same for all intervals of a case, and against the population's.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from connect.measures.barriers import FEW, MEASURES, estimate, resampled

T = np.linspace(0, 1, 9)
HILL = np.sin(np.pi * T)[:, None]
COUNTS = (30, 200, 1500)
POPULATION, SECONDS, AT_ONCE = 1_000_000, 1000, 20_000
ROUNDING = 1e-9

Draw = Callable[[np.random.Generator, int], np.ndarray]


def hard_ones(chance: float, random: np.random.Generator, count: int) -> np.ndarray:
    """Mostly low losses, and a few high ones."""
    hard = random.random(count) < chance
    return np.where(hard, 5 + random.exponential(size=count), 0.1 * random.exponential(size=count))


SPREADS: dict[str, Draw] = {
    "normal": lambda random, count: 1 + random.normal(size=count),
    "exponential": lambda random, count: random.exponential(size=count),
    "lognormal, sigma 1.5": lambda random, count: random.lognormal(0, 1.5, size=count),
    "Pareto 2.5": lambda random, count: random.pareto(2.5, size=count),
    "2 hard of 100": lambda random, count: hard_ones(0.02, random, count),
}
BEYOND: dict[str, Draw] = {
    "lognormal, sigma 2.5": lambda random, count: random.lognormal(0, 2.5, size=count),
    "Pareto 1.2": lambda random, count: random.pareto(1.2, size=count),
    "1 hard of 200": lambda random, count: hard_ones(0.005, random, count),
}
CHANCES = {"no errors": 0.0, "5 errors of 1000": 0.005, "2 errors of 100": 0.02, "10 errors of 100": 0.1}


def one_hill(spread: Draw) -> Draw:
    """Losses of a way with one top: what is hard is hard all along, and more so in the middle."""

    def losses(random, count):
        wobble = 0.1 * random.normal(size=count) * np.sin(2 * np.pi * T)[:, None]
        return 0.1 * spread(random, count) + HILL * spread(random, count) + wobble

    return losses


def many_tops(spread: Draw) -> Draw:
    """A plateau where every place has hard examples of its own: the maximum is now here, now there."""
    return lambda random, count: np.stack([(0.1 if t in {0, 1} else 1) * spread(random, count) for t in T])


def mistakes(chance: float) -> Draw:
    """Errors: some that are made all along, and some that are made in the middle."""

    def errors(random, count):
        always, hard = random.random(count), random.random(count)
        return ((always < chance / 2) | (hard < chance * HILL)).astype(float)

    return errors


CASES: dict[str, tuple[str, Draw]] = {
    **{f"{name}, one top": ("barrier", one_hill(spread)) for name, spread in SPREADS.items()},
    **{f"{name}, many tops": ("barrier", many_tops(spread)) for name, spread in SPREADS.items()},
    **{f"beyond: {name}": ("barrier", one_hill(spread)) for name, spread in BEYOND.items()},
    **{name: ("error_barrier", mistakes(chance)) for name, chance in CHANCES.items()},
}


def figure(name: str, means: np.ndarray) -> np.ndarray:
    """A measure of means `[..., n]`."""
    return MEASURES[name].along(T, means).min(axis=0).max(axis=-1)


def ours(name: str, examples: np.ndarray, seed: int) -> tuple[float, float, float]:
    """Low, high and the number of carriers."""
    found = estimate(name, T, examples.mean(axis=1), resampled(examples, seed))
    return found.low, found.high, found.carriers


def plain(name: str, examples: np.ndarray, seed: int) -> tuple[float, float, float]:
    """The usual way: differences of pairs of replicates that are drawn with replacement."""
    random, count = np.random.default_rng(seed), examples.shape[1]
    draws = random.integers(0, count, size=(1000, count)) + count * np.arange(1000)[:, None]
    weights = np.bincount(draws.ravel(), minlength=1000 * count).reshape(1000, count)
    drawn, value = figure(name, weights @ examples.T / count), figure(name, examples.mean(axis=1))
    spread = np.quantile(np.abs(drawn[:, None] - drawn[None, :]), 0.95)
    return max(0, value - spread), value + spread, np.nan


WAYS = {"plain bootstrap": plain, "ours": ours}


@dataclass(frozen=True)
class Coverage:
    """Shares of all pairs of samples.

    Attributes:
        covered: second samples inside the interval.
        above: second samples above it.
        below: second samples below it.
        population: intervals that hold the population's figure.
        few: intervals whose coverage is not promised, since few examples carry them.
        width: median.
    """

    covered: float
    above: float
    below: float
    population: float
    few: float
    width: float


def coverage(
    name: str,
    draw: Draw,
    count: int,
    trials: int,
    seconds: int = SECONDS,
    population: int = POPULATION,
    ways: Mapping[str, Callable] = WAYS,
) -> dict[str, Coverage]:
    """What intervals of samples of so many examples cover, each against so many second samples."""
    random = np.random.default_rng(0)
    others = np.sort([figure(name, draw(random, count).mean(axis=1)) for _ in range(seconds)])
    parts = population // AT_ONCE
    truth = figure(name, np.mean([draw(random, AT_ONCE).mean(axis=1) for _ in range(parts)], axis=0))
    rows: dict[str, list[tuple[float, ...]]] = {way: [] for way in ways}
    for trial in range(trials):
        examples = draw(np.random.default_rng([1, trial]), count)
        for way, interval in ways.items():
            low, high, carriers = interval(name, examples, trial)
            low, high = low - ROUNDING, high + ROUNDING
            below = np.searchsorted(others, low) / seconds
            above = 1 - np.searchsorted(others, high) / seconds
            rows[way].append((1 - below - above, above, below, low <= truth <= high, carriers < FEW, high - low))
    return {
        way: Coverage(*np.mean(measured, axis=0)[:-1], np.median(measured, axis=0)[-1])
        for way, measured in rows.items()
    }


def main(trials: int) -> None:
    print(f"Second samples that 95 % intervals hold, in per cent of {trials} samples x {SECONDS} second samples")
    print("(in brackets those above / below; population: intervals that hold its figure; few: intervals of losses that")
    print(f" fewer than {FEW} examples carry, of which nothing is promised)")
    print(f"{'':48}{'plain bootstrap':>22}{'ours':>22}{'population':>14}{'width/plain':>13}{'few':>6}")
    for count in COUNTS:
        for case, (name, draw) in CASES.items():
            found = coverage(name, draw, count, trials)
            before, now = found["plain bootstrap"], found["ours"]
            shown = [f"{100 * c.covered:.1f} ({100 * c.above:.1f} / {100 * c.below:.1f})" for c in (before, now)]
            population = f"{100 * before.population:.0f} -> {100 * now.population:.0f}"
            wider = f"{now.width / before.width:.2f}" if before.width > 2 * ROUNDING else "-"
            few = "-" if name == "error_barrier" else f"{100 * now.few:.0f}"
            print(
                f"{count:6d} examples, {case:32}{shown[0]:>22}{shown[1]:>22}{population:>14}{wider:>13}{few:>6}",
                flush=True,
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
