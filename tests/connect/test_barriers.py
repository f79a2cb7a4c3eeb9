"""How high a pass is and how sure that is: words of the field by hand, intervals by simulation, brackets by search."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap

from connect import Thresholds, barrier, error_barrier, estimate, excess, resampled
from connect.barriers import bracket, refinements, upper_bounds
from connect.profiles import Along, figures, judge
from landscape import Sweep

T = np.linspace(0, 1, 5)
LOSSES = np.array([0.2, 0.5, 1.5, 1.1, 0.6])


def test_the_words_of_the_field_by_hand():
    assert barrier(T, LOSSES) == pytest.approx(1.5 - 0.4)
    assert excess(LOSSES) == pytest.approx(1.5 - 0.6)
    assert error_barrier(LOSSES / 2) == pytest.approx(0.75 - 0.2)
    assert estimate("saddle_loss", T, LOSSES, np.empty((0, 5))).value == 1.5


def test_barrier_and_excess_are_0_where_nothing_rises():
    falling = np.array([1.0, 0.6, 0.3, 0.2, 0.0])
    assert barrier(T, falling) == 0
    assert excess(falling) == 0


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_losses_that_are_not_finite_are_told_as_they_are(broken):
    losses = np.where(T == 0.5, broken, LOSSES)
    found = estimate("barrier", T, losses, np.tile(losses, (10, 1)))
    assert not math.isfinite(found.value)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert math.isnan(bracket(T, losses))
    assert len(refinements(T, losses, 1e-3, 5)) == 0


# ------------------------------------------------------------------ the bootstrap


def test_draws_are_the_same_for_all_places():
    """So a quantity that is constant but for an offset keeps its differences in every replicate."""
    examples = np.random.default_rng(0).exponential(size=(1, 50))
    drawn = resampled(np.concatenate([examples, examples + 3, 2 * examples]))
    np.testing.assert_allclose(drawn[:, 1], drawn[:, 0] + 3)
    np.testing.assert_allclose(drawn[:, 2], 2 * drawn[:, 0])
    assert drawn[:, 0].std() > 0


def test_replicates_spread_as_the_mean_of_a_sample_does():
    """The deviation of a bootstrapped mean is that of the examples over √N, known without any draw."""
    examples = np.random.default_rng(1).gamma(2.0, size=(2, 300))
    drawn = resampled(examples, replicates=4000)
    assert drawn.shape == (4000, 2)
    np.testing.assert_allclose(drawn.mean(axis=0), examples.mean(axis=1), rtol=0.01)
    np.testing.assert_allclose(drawn.std(axis=0), examples.std(axis=1) / math.sqrt(300), rtol=0.05)


def test_replicates_are_means_of_examples_drawn_with_replacement():
    """With three examples whose sums tell how often each was drawn, every mean is one that draws can give."""
    drawn = resampled(np.array([[1.0, 10.0, 100.0]]), replicates=500)[:, 0] * 3
    possible = {a + b + c for a in (1, 10, 100) for b in (1, 10, 100) for c in (1, 10, 100)}
    assert set(np.round(drawn).tolist()) == possible


def test_seeds_and_the_number_of_replicates_are_respected():
    examples = np.random.default_rng(2).normal(size=(3, 20))
    assert np.array_equal(resampled(examples, 5, 150), resampled(examples, 5, 150))
    assert np.array_equal(resampled(examples, 5, 150)[:100], resampled(examples, 5, 100))
    assert not np.array_equal(resampled(examples, 5), resampled(examples, 6))
    assert len(resampled(examples, 5, 7)) == 7


def test_the_spread_agrees_with_scipy():
    """Half the width is √2 of that of scipy's interval for a smooth statistic, since a second sample varies as well."""
    examples = np.random.default_rng(3).normal([[0.0], [2.0], [0.0]], 1.0, size=(3, 400))
    t = np.array([0.0, 0.5, 1.0])
    found = estimate("barrier", t, examples.mean(axis=1), resampled(examples))
    theirs = bootstrap(
        (examples[1] - (examples[0] + examples[2]) / 2,), np.mean, n_resamples=4000, rng=np.random.default_rng(0)
    ).confidence_interval
    assert (found.high - found.low) / (theirs.high - theirs.low) == pytest.approx(math.sqrt(2), rel=0.08)


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
    that anything would be covered.
    """
    covered, widths, differences = 0, [], []
    for trial in range(100):
        t, losses = networks_on_examples(800, np.random.default_rng(trial))
        halves = losses[:, :400], losses[:, 400:]
        found = estimate(name, t, halves[0].mean(axis=1), resampled(halves[0], replicates=400))
        other = estimate(name, t, halves[1].mean(axis=1), np.empty((0, len(t)))).value
        covered += found.low <= other <= found.high
        widths.append(found.high - found.low)
        differences.append(other - found.value)
    assert 90 <= covered < 100
    assert np.mean(widths) < 5 * np.std(differences)


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
    drawn = np.tile(LOSSES, (5, 1))
    near, far = (estimate("barrier", T, LOSSES, drawn, missed) for missed in (0.0, 0.3))
    assert (far.low, far.value, far.high) == pytest.approx((near.low, near.value, near.high + 0.3))


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
    found = figures(Sweep({"t": ends}, {"train_loss": ends}, np.ones(2, dtype=bool)), 1.0)
    assert found.barrier == 0
    assert found.barrier_high == math.inf
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
    found = figures(Sweep({"t": t}, {"train_loss": loss}, np.ones(6, dtype=bool)), 1.0)
    assert found.barrier_high - found.barrier == pytest.approx(bracket(t, above))
    assert found.excess_high - found.excess == pytest.approx(bracket(t, loss))
    assert found.saddle_loss_high - found.saddle_loss == pytest.approx(bracket(t, loss))
    assert bracket(t, loss) != pytest.approx(bracket(t, above))


# ------------------------------------------------------------------ the verdict


def way(height, error=0.0, error_split="test"):
    """Figures of a way with a barrier whose intervals are a tenth to both sides."""
    nan = math.nan
    return Along(
        split="train", max_loss=1.0, barrier=height, barrier_low=0.9 * height, barrier_high=1.1 * height,
        excess=height, excess_low=height, excess_high=height,
        saddle_loss=1.0, saddle_loss_low=1.0, saddle_loss_high=1.0, t_max=0.5,
        error_split=error_split, error_barrier=error, error_barrier_low=0.9 * error, error_barrier_high=1.1 * error,
        min_test_accuracy=nan, length_ratio=1.0, bracket=0.0, points=5,
    )  # fmt: skip


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
