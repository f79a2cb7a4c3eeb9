"""How a training ended, on courses whose ending is known by construction, and what a verdict makes of it."""

import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import linregress

from connect import Bezier, find_path, judge, profile, summarise
from connect.app.commands.summaries import advice, flagged
from connect.measures.barriers import Estimate
from connect.measures.training import Training
from connect.plots.figures import profile_figure
from landscape import Potential, Recipe
from tests.connect.measures.test_barriers import way


def high(barrier):
    """The figures of a path with this barrier, whose ends have no loss."""
    return replace(way(barrier), saddle_loss=Estimate(barrier, barrier, barrier))


HIGH = {"path": high(0.5), "straight": high(2.0)}
RISING = np.linspace(1, 2, 60)
WORSE = {"path": high(1.92), "straight": high(0.296)}


def course(losses, schedule="constant"):
    return Training(
        np.array(losses, dtype=float), np.array(Recipe(epochs=len(losses), schedule=schedule).epoch_rates())
    )


def noise(epochs, scale=1.0, seed=0):
    return scale * np.random.default_rng(seed).standard_normal(epochs)


def settled(epochs, *, after):
    return np.exp(-np.arange(epochs) / after) + noise(epochs, 0.01)


@pytest.mark.parametrize("epochs", [10, 40, 200])
@pytest.mark.parametrize("schedule", ["constant", "linear", "onecycle", "step"])
def test_endings(epochs, schedule):
    falling = np.linspace(2, 1, epochs) + noise(epochs, 0.005)
    assert course(falling, schedule).ending == "still falling"
    assert course(falling[::-1], schedule).ending == "diverged"
    assert course(2 + noise(epochs, 0.1), schedule).ending == "converged"
    assert course(np.append(falling[:-1], math.nan), schedule).ending == "diverged"
    assert course(falling[:7], schedule).ending == "too short"


def test_a_loss_that_only_the_schedule_lowers_or_holds_is_told_from_one_that_fell():
    """A lower rate flattens a loss that was falling, and lowers one that had settled: neither counts."""
    rates = np.array(Recipe(epochs=60, schedule="linear").epoch_rates())
    moved = np.cumsum(rates) / rates.sum()
    flattened = Training(2 - moved + noise(60, 0.002), rates)
    assert flattened.ending == "still falling"
    assert flattened.at_peak.slope == pytest.approx(-rates[0] / rates.sum(), rel=0.2)
    lowered = Training(settled(60, after=3) + 5 * rates, rates)
    assert lowered.ending == "converged"
    assert Training(lowered.losses, np.full(60, math.nan)).ending == "still falling"


def test_a_slope_is_that_of_a_least_squares_line_but_for_outliers():
    losses = np.linspace(1, 0.5, 50) + noise(50, 0.003)
    last = linregress(np.arange(10), losses[-10:])
    assert course(losses).at_end.slope == pytest.approx(last.slope, abs=3 * last.stderr)
    spiked = losses.copy()
    spiked[-2] += 100
    assert course(spiked).at_end.slope == pytest.approx(last.slope, abs=6 * last.stderr)
    assert course(spiked).ending == "converged"  # next to such a range the rest is nothing


def test_noise_alone_is_neither_falling_nor_rising():
    endings = [course(noise(40, seed=seed), "linear").ending for seed in range(300)]
    assert endings.count("converged") > 0.96 * len(endings)


@pytest.mark.parametrize(
    ("paths", "losses", "words", "training", "remedies"),
    [
        (HIGH, settled(60, after=3), "not connected", "converged", {"control_points": "more", "start": "another"}),
        (HIGH, np.linspace(2, 1, 60), "not trained", "still falling", {"epochs": 120}),
        (HIGH, np.linspace(2, 1, 3), "not trained", "too short", {"epochs": 40}),
        (HIGH, RISING, "not trained", "diverged", {"lr": 0.02}),
        ({**HIGH, "path": high(math.inf)}, settled(60, after=3), "not trained", "diverged", {"lr": 0.02}),
        (WORSE, settled(40, after=3), "not trained", "above the line", {"lr": 0.02, "epochs": 80}),
        (WORSE, None, "not trained", "above the line", {"lr": "lower"}),
        (HIGH, None, "not found", "", {}),
        ({**HIGH, "path": high(0.01)}, np.linspace(1, 2, 60), "connected by a curve", "", {}),
        ({**HIGH, "straight": high(0.01)}, np.linspace(1, 2, 60), "connected linearly", "", {}),
    ],
)
def test_what_is_not_connected_is_told_from_what_is_not_trained(paths, losses, words, training, remedies):
    verdict = judge(paths, training=None if losses is None else course(losses))
    assert (verdict.words, verdict.training, verdict.remedies) == (words, training, remedies)
    assert ("training loss" in verdict.reason) == (training in {"converged", "still falling"} or losses is RISING)


def test_a_course_comes_back_from_a_file_and_from_a_path():
    ring = Potential(lambda theta: (theta.square().sum() - 1).square(), 2)
    a, b = torch.tensor([1.0, 0.0]).double(), torch.tensor([0.0, 1.0]).double()
    recipe = Recipe(epochs=12, lr=0.05, weight_decay=0.0, schedule="linear")
    path = find_path(ring, a, b, Bezier(3), recipe)
    training = Training.of(path)
    np.testing.assert_array_equal(training.rates, recipe.epoch_rates())
    again = Training.from_flat(training.flat())
    np.testing.assert_array_equal([again.losses, again.rates], [training.losses, training.rates])
    result = profile(path, ring, tolerance=0)
    np.testing.assert_array_equal(result.facts["training"]["losses"], path.losses)
    assert Training.of(replace(path, losses=None)) is None
    assert Training.from_flat(None) is None


def test_a_rate_that_makes_a_path_worse_is_told_and_the_lower_one_that_is_named_connects():
    """A stiff direction, along which too large a step jumps from wall to wall, beside a hill between the two ends."""

    def height(theta):
        x, y, stiff = theta
        return torch.tanh((x.square() + y.square() - 1).square() + 4 * stiff.square())

    valley = Potential(height, 3)
    a, b = torch.tensor([1.0, 0.2, 0.0]).double(), torch.tensor([-1.0, 0.2, 0.0]).double()
    recipe = Recipe(epochs=300, lr=5.0, weight_decay=0.0, schedule="linear")

    def verdict(recipe):
        path = find_path(valley, a, b, Bezier(3), recipe)
        return judge(summarise(profile(path, valley)), training=Training.of(path))

    first = verdict(recipe)
    assert (first.words, first.training) == ("not trained", "above the line")
    second = verdict(recipe.updated({"lr": first.remedies["lr"] / 5}))
    assert second.words == "connected by a curve", second


def test_the_profile_figure_shows_the_losses_of_the_epochs():
    ring = Potential(lambda theta: (theta.square().sum() - 1).square(), 2)
    a, b = torch.tensor([1.0, 0.0]).double(), torch.tensor([0.0, 1.0]).double()
    path = find_path(ring, a, b, Bezier(3), Recipe(epochs=12, lr=0.05, weight_decay=0.0))
    result = profile(path, ring, tolerance=0)
    *panels, beneath = profile_figure(result).axes
    np.testing.assert_array_equal(beneath.lines[0].get_xydata(), np.stack([np.arange(1, 13), path.losses], 1))
    assert [axes.get_xlim() for axes in panels] == [(0, 1)] * len(panels)
    assert len(profile_figure(profile(replace(path, losses=None), ring, tolerance=0)).axes) == len(panels)
    diverged = {"losses": [1.0, math.nan, math.inf], "rates": [1.0] * 3}
    profile_figure(replace(result, facts={**result.facts, "training": diverged})).savefig(io.BytesIO(), format="png")


def test_remedies_by_flags_are_those_that_the_kind_of_path_and_the_network_have():
    worse = {"lr": 0.02, "epochs": 80}
    assert flagged(worse, {"curve": "bezier"}, attends=False) == worse
    assert flagged(worse, {"curve": "bezier", "recipe": {}}, attends=True) == {"optimiser": "adamw", "epochs": 80}
    by_adamw = {"curve": "path", "fitted": {"recipe": {"optimiser": "adamw"}}}
    assert flagged(worse, by_adamw, attends=True) == worse
    assert flagged(worse, {"curve": "autoneb"}, attends=False) == {"cycles": "slower and longer"}
    settled_too_high = {"control_points": "more", "start": "another"}
    assert flagged(settled_too_high, {"curve": "autoneb"}, attends=False) == {"most_images": "more", "start": "another"}
    assert advice(worse) == "what to try: --lr 0.02, --epochs 80"
    assert advice(settled_too_high) == "what to try: more --control-points, another --start"
