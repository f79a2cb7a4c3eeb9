"""How high a pass is and how sure that is: words of the field by hand, intervals by simulation, brackets by search."""

import itertools
import math
import tracemalloc
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap, chisquare, nbinom

from benchmarks import interval_coverage
from connect import Path, PolygonalChain, Thresholds, profile, summarise
from connect.measures.barriers import (
    Estimate,
    barrier,
    bracket,
    error_barrier,
    estimate,
    excess,
    refinements,
    resampled,
    upper_bounds,
)
from connect.measures.profiles import measure_path
from connect.measures.summaries import PathSummary, judge, summarise_path
from connect.plots.figures import profile_figure
from landscape import Potential, Result, Sweep
from landscape.errors import ConfigError

T = np.linspace(0, 1, 5)
LOSSES = np.array([0.2, 0.5, 1.5, 1.1, 0.6])


def test_the_words_of_the_field_by_hand():
    assert barrier(T, LOSSES) == pytest.approx(1.5 - 0.4)
    assert excess(LOSSES) == pytest.approx(1.5 - 0.6)
    assert error_barrier(LOSSES / 2) == pytest.approx(0.75 - 0.2)
    assert estimate("saddle_loss", T, LOSSES).value == 1.5


def test_barrier_and_excess_are_0_where_nothing_rises():
    falling = np.array([1.0, 0.6, 0.3, 0.2, 0.0])
    assert barrier(T, falling) == 0
    assert excess(falling) == 0


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_losses_that_are_not_finite_are_told_as_they_are(broken):
    losses = np.where(T == 0.5, broken, LOSSES)
    found = estimate("barrier", T, losses, resampled(np.tile(losses[:, None], 10)))
    assert not math.isfinite(found.value)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert math.isnan(bracket(T, losses))
    assert len(refinements(T, losses, 1e-3, 5)) == 0


@given(st.lists(st.floats(0, 50), min_size=3, max_size=12))
def test_figures_are_those_of_the_plain_formulas_to_the_bit(losses):
    losses = np.array(losses)
    t = np.linspace(0, 1, len(losses))
    line = (1 - t) * losses[:1] + t * losses[-1:]
    assert barrier(t, losses) == (losses - line).max()
    assert excess(losses) == losses.max() - max(losses[0], losses[-1])
    assert error_barrier(losses) == losses.max() - (losses[0] + losses[-1]) / 2
    for name, value in (("barrier", barrier(t, losses)), ("saddle_loss", losses.max()), ("excess", excess(losses))):
        assert estimate(name, t, losses).value == value


@pytest.mark.parametrize("t", [np.linspace(0.3, 0.7, 5), np.linspace(0, 0.9, 5), np.array([0.0]), np.array([])])
def test_a_barrier_without_its_ends_is_refused(t):
    losses = np.arange(float(len(t)))
    with pytest.raises(ConfigError, match="measure them, too"):
        barrier(t, losses)
    with pytest.raises(ConfigError, match="measure them, too"):
        estimate("excess", t, losses)


# ------------------------------------------------------------------ second samples


def test_draws_are_the_same_for_all_places():
    """So a quantity that is constant but for an offset keeps its differences in every replicate."""
    examples = np.random.default_rng(0).exponential(size=(1, 50))
    drawn = resampled(np.concatenate([examples, examples + 3, 2 * examples]))
    np.testing.assert_allclose(drawn.totals[:, 1], drawn.totals[:, 0] + 3 * (1 - drawn.unseen))
    np.testing.assert_allclose(drawn.totals[:, 2], 2 * drawn.totals[:, 0])
    assert drawn.totals[:, 0].std() > 0


def test_a_second_sample_falls_between_the_examples_of_the_first_in_every_way_with_the_same_chance():
    """Three examples leave four gaps, and C(6, 3) ways to deal three others into them."""
    drawn = resampled(np.array([[1.0, 10.0, 100.0]]), replicates=8000)
    ways = Counter(np.round(3 * (drawn.totals[:, 0] + 1000 * drawn.unseen)).astype(int).tolist())
    dealt = {
        a + 10 * b + 100 * c + 1000 * (3 - a - b - c)
        for a, b, c in itertools.product(range(4), repeat=3)
        if a + b + c <= 3
    }
    assert len(dealt) == math.comb(6, 3)
    assert set(ways) == dealt
    assert chisquare(list(ways.values())).pvalue > 0.01


def test_second_samples_spread_as_an_urn_does():
    """The variance of the mean from N + 1 balls, of which one is 0 and each drawn ball is put back with another."""
    examples = np.random.default_rng(1).gamma(2.0, size=(2, 300))
    drawn = resampled(examples, replicates=4000)
    assert drawn.totals.shape == (4000, 2)
    count, balls = 300, 301
    mean = examples.sum(axis=1) / balls
    variance = ((examples**2).sum(axis=1) / balls - mean**2) * (count + balls) / (count * (balls + 1))
    np.testing.assert_allclose(drawn.totals.mean(axis=0), mean, rtol=0.01)
    np.testing.assert_allclose(drawn.totals.std(axis=0), np.sqrt(variance), rtol=0.05)
    assert drawn.unseen.mean() == pytest.approx(1 / balls, rel=0.1)


def test_seeds_and_the_number_of_replicates_are_respected():
    examples = np.random.default_rng(2).normal(size=(3, 20))

    def totals(*given):
        return resampled(examples, *given).totals

    assert np.array_equal(totals(5, 150), totals(5, 150))
    assert np.array_equal(totals(5, 150)[:100], totals(5, 100))
    assert not np.array_equal(totals(5), totals(6))
    assert len(totals(5, 7)) == 7


def test_many_examples_need_little_memory():
    """All weights at once would take 96 MB."""
    examples = np.zeros((2, 300_000))
    tracemalloc.start()
    resampled(examples, replicates=40)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60e6


def test_the_spread_agrees_with_scipy():
    """Half the width is √2 of that of scipy's interval for a smooth statistic, since a second sample varies as well."""
    examples = np.random.default_rng(3).normal([[0.0], [2.0], [0.0]], 1.0, size=(3, 4000))
    t = np.array([0.0, 0.5, 1.0])
    found = estimate("barrier", t, examples.mean(axis=1), resampled(examples))
    theirs = bootstrap(
        (examples[1] - (examples[0] + examples[2]) / 2,),
        np.mean,
        n_resamples=4000,
        batch=100,
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert (found.high - found.low) / (theirs.high - theirs.low) == pytest.approx(math.sqrt(2), rel=0.08)


def coverage(case, count=200, trials=30, ways=("ours",)):
    """A short run of the benchmark, which takes minutes."""
    name, draw = interval_coverage.CASES[case]
    chosen = {way: interval_coverage.WAYS[way] for way in ways}
    return interval_coverage.coverage(name, draw, count, trials, seconds=300, population=60_000, ways=chosen)


@pytest.mark.proof
@pytest.mark.parametrize(
    ("spread", "count"), [*((spread, 200) for spread in interval_coverage.SPREADS), ("2 hard of 100", 1500)]
)
def test_intervals_hold_95_of_100_second_samples(spread, count):
    """Whatever the tail."""
    ours = coverage(f"{spread}, one top", count)["ours"]
    assert ours.covered > 0.935
    assert ours.above < 0.045
    assert ours.below < 0.035
    assert ours.population > 0.95


def test_a_plain_bootstrap_would_not_hold_them():
    found = coverage("2 hard of 100, one top", ways=interval_coverage.WAYS)
    assert found["plain bootstrap"].covered < 0.92
    assert found["plain bootstrap"].covered < found["ours"].covered - 0.04
    assert found["ours"].width < 1.7 * found["plain bootstrap"].width


@pytest.mark.parametrize("case", ["normal, many tops", "Pareto 2.5, many tops"])
def test_intervals_hold_where_the_maximum_moves(case):
    found = coverage(case)["ours"]
    assert found.covered > 0.95
    assert found.population > 0.93


@pytest.mark.parametrize("case", interval_coverage.CHANCES)
def test_intervals_of_errors_hold_however_rare_they_are(case):
    found = coverage(case)["ours"]
    assert found.covered > 0.95
    assert found.population > 0.95


@pytest.mark.parametrize("errors", [0, 1, 3, 10])
@pytest.mark.parametrize("count", [500, 5000])
def test_errors_are_bounded_as_counts_of_rare_events_are(errors, count):
    """Given a count, the second is below a quantile of the negative binomial with one more; without errors, below 5."""
    wrong = np.zeros((3, count), dtype=bool)
    wrong[1, :errors] = True
    found = estimate("error_barrier", np.array([0.0, 0.5, 1.0]), wrong.mean(axis=1), resampled(wrong, replicates=4000))
    assert found.high * count == pytest.approx(nbinom.ppf(0.975, errors + 1, 0.5), abs=0.1 + 0.1 * errors)
    assert found.low <= errors / count


def test_an_error_of_exactly_the_bound_is_within_it():
    """20 errors more than the mean of 162 and 162 among 1,000 examples, which 64-bit numbers take for a little more."""
    right = np.ones((5, 1000), dtype=bool)
    for row, errors in zip(right, (162, 170, 182, 170, 162), strict=True):
        row[:errors] = False
    losses = np.full((5, 1000), 0.1)
    values = {"test_loss": losses.mean(axis=1), "test_losses": losses, "test_accuracy": right.mean(axis=1)}
    found = summarise_path(Sweep({"t": T}, {**values, "test_right": right}, np.ones(5, dtype=bool)), 1.0)
    assert found.error_barrier.value > 0.02
    assert judge({"path": found, "straight": found}).words == "connected linearly"


def test_a_sample_without_errors_is_not_certain():
    """Of 100 examples a second sample may have 5 errors, of 500 no more than 1 %."""
    verdicts = {}
    for count in (100, 500):
        losses = np.random.default_rng(0).normal(0.1, 0.01, size=(5, count))
        right = np.ones((5, count), dtype=bool)
        values = {"test_loss": losses.mean(axis=1), "test_losses": losses, "test_accuracy": right.mean(axis=1)}
        found = summarise_path(Sweep({"t": T}, {**values, "test_right": right}, np.ones(5, dtype=bool)), 1.0)
        assert found.error_barrier.value == found.error_barrier.low == 0
        assert found.error_barrier.high == pytest.approx(5 / count)
        verdicts[count] = judge({"path": found, "straight": found})
        assert verdicts[count].words == "connected linearly"
    assert "may say otherwise" in verdicts[100].reason
    assert "may say otherwise" not in verdicts[500].reason


def heavy(hard, count=200):
    """A sweep in which so many examples are hard in the middle, and nothing else happens."""
    losses = np.zeros((5, count))
    losses[1:4, :hard] = 1.0
    return Sweep({"t": T}, {"train_loss": losses.mean(axis=1), "train_losses": losses}, np.ones(5, dtype=bool))


def test_what_a_few_examples_carry_is_told():
    """Of a share p the spread has carriers N p (1-p) / (p³ + (1-p)³)."""
    few, many = (summarise_path(heavy(hard), 1.0) for hard in (4, 40))
    for found, p in ((few, 0.02), (many, 0.2)):
        assert found.barrier.carriers == pytest.approx(200 * p * (1 - p) / (p**3 + (1 - p) ** 3))
    assert "about 4 examples carry" in judge({"path": few, "straight": few}).reason
    assert "carry" not in judge({"path": many, "straight": many}).reason


def test_losses_that_never_differ_promise_nothing_but_exact_heights_do():
    same = summarise_path(heavy(0), 1.0)
    assert "no example carries" in judge({"path": same, "straight": same}).reason
    exact = summarise_path(Sweep({"t": T}, {"potential_loss": 0 * T}, np.ones(5, dtype=bool)), 1.0)
    assert math.isnan(exact.barrier.carriers)
    assert "carries" not in judge({"path": exact, "straight": exact}).reason


def test_a_maximum_at_an_end_is_not_doubted():
    """Where all examples lose less in the middle, whoever is drawn, the barrier is 0."""
    random = np.random.default_rng(0)
    losses = random.exponential(size=400) * (0.5 + (T[:, None] - 0.5) ** 2)
    found = estimate("barrier", T, losses.mean(axis=1), resampled(losses))
    assert (found.value, found.low, found.high, found.carriers) == (0, 0, 0, 400)


def test_the_picture_says_what_its_intervals_hold():
    hill = Potential(lambda p: p[1] ** 2 + torch.exp(-(((p[0] - 0.5) / 0.2) ** 2)), 2)
    path = Path(torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=torch.float64), PolygonalChain(2))
    measured = profile(path, hill)
    facts = dict(measured.facts)

    def title(**changed):
        told = {way: {**facts[way], **changed} for way in ("path", "straight")}
        return profile_figure(replace(measured, facts={**facts, **told})).axes[0].get_title()

    assert "second samples" not in title()  # an exact height has no examples
    told = title(barrier_low=0.8, barrier_high=1.2, barrier_carriers=40.0)
    assert "95 % of second samples: 0.8 to 1.2" in told
    assert "promised" not in told
    told = title(barrier_low=0.8, barrier_high=1.2, barrier_carriers=4.2)
    assert "not promised: about 4 examples carry the interval of the learned path" in told
    assert "not known" in title(barrier_low=math.nan, barrier_high=math.nan)


def networks_on_examples(count, random):
    """Per-example losses along a way `[n, N]` that has a barrier: noisy, skewed and correlated between places."""
    t = np.linspace(0, 1, 21)
    ease = random.exponential(size=count)
    shift = random.normal(size=(3, count))
    hill = np.sin(math.pi * t)[:, None]
    wobble = sum(0.1 * shift[i] * np.sin((i + 1) * math.pi * t)[:, None] for i in range(3))
    return t, 0.05 * ease + hill * (0.3 * ease + 0.2 * random.exponential(size=count)) + wobble


@pytest.mark.parametrize("name", ["barrier", "excess", "saddle_loss"])
def test_the_interval_covers_what_a_second_half_says(name):
    """Of 100 trials the interval of one half covers the measure on the other half in at least 90, and is not so wide
    that anything would be covered: 3.9 deviations would do if the tail were known.
    """
    covered, widths, differences = 0, [], []
    for trial in range(100):
        t, losses = networks_on_examples(800, np.random.default_rng(trial))
        halves = losses[:, :400], losses[:, 400:]
        found = estimate(name, t, halves[0].mean(axis=1), resampled(halves[0], replicates=400))
        other = estimate(name, t, halves[1].mean(axis=1)).value
        covered += found.low <= other <= found.high
        widths.append(found.high - found.low)
        differences.append(other - found.value)
    assert 90 <= covered < 100
    assert np.mean(widths) < 5.3 * np.std(differences)


def test_an_error_barrier_of_few_mistakes_is_covered_too():
    covered = 0
    for trial in range(100):
        random = np.random.default_rng(trial)
        t = np.linspace(0, 1, 11)
        hard = random.random(1000)
        right = (hard[None] > 0.01 + 0.05 * np.sin(math.pi * t)[:, None]).astype(float)
        errors = 1 - right
        found = estimate("error_barrier", t, errors[:, :500].mean(axis=1), resampled(errors[:, :500], replicates=400))
        covered += found.low <= error_barrier(errors[:, 500:].mean(axis=1)) <= found.high
    assert covered >= 90


def test_what_lies_between_the_places_widens_the_upper_end_alone():
    drawn = resampled(LOSSES[:, None] + np.random.default_rng(0).normal(size=(5, 30)))
    near, far = (estimate("barrier", T, LOSSES, drawn, missed) for missed in (0.0, 0.3))
    assert (far.low, far.value, far.high) == pytest.approx((near.low, near.value, near.high + 0.3))


# ------------------------------------------------------------------ where it is measured


def hill_and_path():
    """A hill on a slope between the ends of a straight path; its barrier is 0.998."""
    hill = Potential(lambda p: p[1] ** 2 + torch.exp(-(((p[0] - 0.5) / 0.2) ** 2)) + p[0], 2)
    return hill, Path(torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=torch.float64), PolygonalChain(2))


@pytest.mark.parametrize(
    "t", [np.linspace(0.3, 0.7, 41), [0.0, 0.5, 0.5, 1.0], [0.5, 0.4], [1, 0.5, 0], torch.tensor([0.5, 0.25])]
)
def test_the_ends_are_measured_whatever_is_asked_for(t):
    hill, path = hill_and_path()
    result = profile(path, hill, t, tolerance=0)
    measured = result.sweeps["path"]["t"]
    assert measured.tolist() == sorted({0.0, *(float(at) for at in t), 1.0})
    assert summarise(result)["path"].barrier.value == pytest.approx(1 - math.exp(-6.25), abs=1e-6)
    assert measure_path(path, hill, t, tolerance=0)["path"]["t"].tolist() == measured.tolist()


@pytest.mark.parametrize(
    ("t", "told"),
    [
        ([0.2, math.nan], "nan"),
        ([0.0, math.inf], "inf"),
        ([-0.1, 0.5], "-0.1"),
        ([0.0, 1.5], "1.5"),
        ([0.5], "at least two"),
        ([], "at least two"),
        (0.5, "list"),
        ([[0.0, 1.0]], "shape"),
        (["low", "high"], "numbers"),
    ],
)
def test_places_that_are_none_are_refused(t, told):
    hill, path = hill_and_path()
    for measure in (profile, measure_path):
        with pytest.raises(ConfigError, match=told):
            measure(path, hill, t)


def test_a_place_that_was_measured_twice_counts_once():
    rounds = [np.array([0, 0.5, 1]), np.array([0.5, 0.5, 0.7])]
    sweeps = [Sweep({"t": t}, {"train_loss": 2 * t}, np.ones(3, dtype=bool)) for t in rounds]
    found = Result("profile", {"path": sweeps[0], "path 1": sweeps[1]}).join_rounds("path")
    assert found["t"].tolist() == [0, 0.5, 0.7, 1]
    assert found["train_loss"].tolist() == [0, 1, 1.4, 2]
    assert len(found.done) == 4


# ------------------------------------------------------------------ the bracket


@given(
    peak=st.floats(0.05, 0.95),
    sharp=st.floats(0.5, 40),
    count=st.integers(4, 40),
)
def test_a_concave_hill_is_below_its_upper_bounds(peak, sharp, count):
    t = np.linspace(0, 1, count)
    dense = np.linspace(0, 1, 5001)

    def height(at):
        return -sharp * np.abs(at - peak) ** 1.7

    values = height(t)
    bounds = upper_bounds(t, values)
    for i in range(1, count - 2):
        inside = dense[(dense >= t[i]) & (dense <= t[i + 1])]
        assert height(inside).max() <= bounds[i] + 1e-9
    assert bracket(t, values) >= height(dense).max() - values.max() - 1e-9 or not t[1] <= peak <= t[-2]


@pytest.mark.parametrize("count", [8, 16, 32])
def test_brackets_of_a_smooth_hill_shrink_with_the_square_of_the_spacing(count):
    def hill(at):
        return np.sin(math.pi * at) + 0.3 * np.sin(3 * math.pi * at + 1)

    coarse, fine = (np.linspace(0, 1, n + 1) for n in (count, 2 * count))
    assert bracket(fine, hill(fine)) < bracket(coarse, hill(coarse)) / 2.5


def test_a_straight_line_leaves_nothing_open():
    for slope in (-1.0, 0.0, 2.0):
        values = 3 + slope * T
        assert bracket(T, values) == pytest.approx(0, abs=1e-12)
        assert len(refinements(T, values, 1e-9, 9)) == 0


def test_two_places_say_nothing_of_what_is_between():
    ends = np.array([0.0, 1.0])
    assert bracket(ends, ends) == math.inf
    assert refinements(ends, ends, 1e-3, 5).tolist() == [0.5]
    found = summarise_path(Sweep({"t": ends}, {"train_loss": ends}, np.ones(2, dtype=bool)), 1.0)
    assert found.barrier.value == 0
    assert found.barrier.high == math.inf
    assert "may say otherwise" in judge({"path": found, "straight": found}).reason


@given(peak=st.floats(0.05, 0.95), width=st.floats(0.02, 0.5))
def test_refining_finds_the_maximum_to_the_tolerance(peak, width):
    """The tolerance is met where the first values show the hill at all."""

    def height(at):
        return np.exp(-(((at - peak) / width) ** 2))

    t = np.linspace(0, 1, 61)
    for _ in range(20):
        further = refinements(t, height(t), 1e-4, 6)
        if not len(further):
            break
        assert len(further) <= 6
        assert not set(further) & set(t)
        t = np.sort(np.concatenate([t, further]))
    assert len(further) == 0
    dense = height(np.linspace(0, 1, 200_001))
    assert height(t).max() >= dense.max() - 1e-4
    assert bracket(t, height(t)) <= 1e-4
    assert len(t) < 120


def test_saddle_loss_and_barrier_have_brackets_of_their_own():
    """On a slope the highest loss is elsewhere than the highest loss above the line."""
    t = np.linspace(0, 1, 6)
    loss = np.array([0.0, 1.4, 1.9, 2.9, 3.2, 3.0])
    above = loss - 3 * t
    found = summarise_path(Sweep({"t": t}, {"train_loss": loss}, np.ones(6, dtype=bool)), 1.0)
    assert found.barrier.high - found.barrier.value == pytest.approx(bracket(t, above))
    assert found.excess.high - found.excess.value == pytest.approx(bracket(t, loss))
    assert found.saddle_loss.high - found.saddle_loss.value == pytest.approx(bracket(t, loss))
    assert bracket(t, loss) != pytest.approx(bracket(t, above))


# ------------------------------------------------------------------ the verdict


def way(height, error=0.0, error_split="test"):
    """Figures of a path with a barrier whose intervals are a tenth to both sides."""
    return PathSummary(
        split="train",
        max_loss=1.0,
        barrier=Estimate(height, 0.9 * height, 1.1 * height),
        excess=Estimate(height, height, height),
        saddle_loss=Estimate(1.0, 1.0, 1.0),
        t_max=0.5,
        error_split=error_split,
        error_barrier=Estimate(error, 0.9 * error, 1.1 * error),
        min_test_accuracy=math.nan,
        length_ratio=1.0,
        bracket=0.0,
        points=5,
    )


@pytest.mark.parametrize(
    ("path", "straight", "words"),
    [
        (way(0.01), way(0.05), "connected linearly"),
        (way(0.01), way(2.0), "connected by a curve"),
        (way(0.01), way(0.05, error=0.3), "connected by a curve"),
        (way(0.5), way(2.0), "not found"),
        (way(0.01, error=0.1), way(2.0, error=0.5), "not found"),
        (way(math.nan), way(math.nan), "not found"),
        (way(math.inf), way(math.inf), "not found"),
        (way(0.01, error=math.nan, error_split=""), way(2.0, error=math.nan, error_split=""), "connected by a curve"),
    ],
)
def test_verdicts(path, straight, words):
    found = judge({"path": path, "straight": straight})
    assert found.words == words
    assert "0.1" in found.reason


def test_a_verdict_follows_its_thresholds_and_says_when_it_hangs_in_the_balance():
    ways = {"path": way(0.095), "straight": way(2.0)}
    near = judge(ways)
    assert near.words == "connected by a curve"
    assert "an interval holds its threshold" in near.reason
    assert "an interval holds its threshold" not in judge({"path": way(0.01), "straight": way(2.0)}).reason
    assert judge(ways, Thresholds(barrier=0.05)).words == "not found"
    assert judge(ways, Thresholds(barrier=3.0)).words == "connected linearly"


def test_figures_come_back_from_a_file_with_what_an_earlier_version_left_out_not_known():
    summary = way(0.095)
    flat = summary.flat()
    assert list(flat)[:5] == ["split", "max_loss", "barrier", "barrier_low", "barrier_high"]
    assert PathSummary.from_flat(flat | {"barrier_carriers": 12.0}).barrier == replace(summary.barrier, carriers=12.0)
    del flat["barrier_carriers"], flat["saddle_loss_high"]
    older = PathSummary.from_flat(flat)
    assert math.isnan(older.barrier.carriers)
    assert math.isnan(older.saddle_loss.high)
    assert older.excess.high == 0.095
