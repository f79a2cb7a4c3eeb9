"""Adaptive surfaces: few points where the loss is smooth, all of them where it is not, and an honest error."""

from pathlib import Path

import numpy as np
import pytest
import torch

from landscape import Interrupted, Plane, Potential, Refined, Result, ResultWriter, Sweep, load_result, sweep
from tests.oracles import Signalling

RECORDED = Path(__file__).parents[2] / "recorded" / "digits_surfaces.npz"
"""Training losses of networks on the digits, 51×51 over [-1, 1]² on filter-normalised axes, measured densely."""
REGRESSIONS = RECORDED.with_name("regression_planes.npz")
"""Training losses of multilayer perceptrons that regress, on planes through three minima, measured densely."""


def drive(surface, tolerance=0.01, marked=None, strategy=None):
    """Let the strategy measure a surface that is known; returns what it took, what it completed, and its error."""
    strategy = strategy or Refined(tolerance, marked)
    axes = {"y": np.arange(surface.shape[0]), "x": np.arange(surface.shape[1])}
    asked = np.zeros(surface.shape, dtype=bool)
    while True:
        seen = {"train_loss": np.where(asked, surface, np.nan)} if asked.any() else {}
        wanted = strategy.choose(Sweep(axes, seen, asked.copy())) & ~asked
        if not wanted.any():
            whole, error = strategy.complete(Sweep(axes, seen, asked))
            return asked, whole.values["train_loss"], error
        asked |= wanted


def largest_error(surface, completed):
    """Of the logarithm, over its range; the plain definition."""
    heights = np.log(surface)
    return np.abs(np.log(completed) - heights).max() / np.ptp(heights)


def grid(size=51):
    return np.meshgrid(np.linspace(-1, 1, size), np.linspace(-1, 1, size))


@pytest.mark.parametrize("name", ["resnet8_seed0", "resnet8_seed1"])
def test_a_trained_surface_needs_an_eighth_of_its_points(name):
    surface = np.load(RECORDED)[name]
    asked, completed, error = drive(surface)
    assert asked.sum() <= surface.size / 8
    assert largest_error(surface, completed) <= 0.01
    assert largest_error(surface, completed) <= error <= 0.01
    assert np.array_equal(completed[asked], surface[asked])


def local_minima(surface):
    """The places `[n, 2]` that lie lower than all around them."""
    padded = np.pad(surface, 1, constant_values=np.inf)
    rows, columns = surface.shape
    around = [padded[y : y + rows, x : x + columns] for y in range(3) for x in range(3) if (y, x) != (1, 1)]
    return np.argwhere(surface < np.min(around, axis=0))


@pytest.mark.parametrize("name", ["relu_2_layers", "relu_3_layers", "tanh_2_layers"])
@pytest.mark.parametrize("tolerance", [0.01, 0.03, 0.1])
def test_the_sharp_minima_of_a_regression_are_met_to_the_stated_error_and_none_is_invented(name, tolerance):
    surface = np.load(REGRESSIONS)[name].astype(np.float64)
    asked, completed, error = drive(surface, tolerance)
    assert asked.sum() < 0.6 * surface.size
    assert largest_error(surface, completed) <= error <= tolerance
    real = local_minima(surface)
    for place in local_minima(completed):
        assert np.abs(real - place).max(axis=1).min() <= 1


def test_a_pit_that_is_marked_is_not_overlooked():
    x, y = grid(101)
    surface = np.exp(x + y - 3 * np.exp(-((x - 0.19) ** 2 + (y + 0.43) ** 2) / 0.0002))
    place = (np.abs(y[:, 0] + 0.43).argmin(), np.abs(x[0] - 0.19).argmin())
    _, overlooked, _ = drive(surface)
    _, completed, error = drive(surface, marked=[[place[1] + 0.3, place[0] - 0.2], [1e6, 0.0]])
    assert largest_error(surface, overlooked) > 0.1  # else the pit is too wide to show anything
    assert largest_error(surface, completed) <= error <= 0.01


def test_one_strategy_leads_several_sweeps_also_in_turn():
    surfaces = [np.exp(2 * x + y**2) for x, y in (grid(21), grid(17))]
    surfaces.append(surfaces[0] * np.exp(np.sin(5 * grid(21)[0])))
    expected = [drive(surface) for surface in surfaces]
    strategy = Refined(0.01)
    for surface, (asked, completed, error) in zip(surfaces, expected, strict=True):
        again = drive(surface, strategy=strategy)
        assert np.array_equal(again[0], asked)
        assert np.array_equal(again[1], completed)
        assert again[2] == error
    axes = [{"y": np.arange(s.shape[0]), "x": np.arange(s.shape[1])} for s in surfaces]
    taken = [np.zeros(surface.shape, dtype=bool) for surface in surfaces]
    for _ in range(20):  # rounds, of which each takes fewer
        for index, surface in enumerate(surfaces):
            seen = {"train_loss": np.where(taken[index], surface, np.nan)} if taken[index].any() else {}
            taken[index] |= strategy.choose(Sweep(axes[index], seen, taken[index].copy()))
    for index, (surface, (asked, completed, error)) in enumerate(zip(surfaces, expected, strict=True)):
        assert np.array_equal(taken[index], asked)
        seen = {"train_loss": np.where(asked, surface, np.nan)}
        whole, stated = strategy.complete(Sweep(axes[index], seen, asked))
        assert np.array_equal(whole.train_loss, completed)
        assert stated == error


def test_a_rugged_surface_is_sampled_densely_and_its_error_is_honest():
    recorded = np.load(RECORDED)
    smooth, rugged = (drive(recorded[name]) for name in ("resnet8_seed0", "resnet56_noshort"))
    assert rugged[0].sum() > 2 * smooth[0].sum()
    assert largest_error(recorded["resnet56_noshort"], rugged[1]) <= rugged[2]
    noise = np.exp(np.random.default_rng(0).normal(size=(51, 51)))
    asked, completed, error = drive(noise)
    assert asked.all()
    assert error == 0
    assert np.array_equal(completed, noise)


@pytest.mark.parametrize("length", [0.3, 0.15, 0.1])
@pytest.mark.parametrize("tolerance", [0.01, 0.03])
def test_the_estimate_covers_the_error_on_random_surfaces(length, tolerance):
    places = np.arange(51) / 50
    kernel = np.exp(-((places[:, None] - places) ** 2) / (2 * length**2)) + 1e-8 * np.eye(51)
    root = np.linalg.cholesky(kernel)
    for seed in range(4):
        surface = np.exp(root @ np.random.default_rng(seed).normal(size=(51, 51)) @ root.T)
        _, completed, error = drive(surface, tolerance)
        assert largest_error(surface, completed) <= error <= tolerance


def test_a_narrow_pit_beside_a_lattice_point_is_found():
    x, y = grid()
    surface = np.exp(x + y - 3 * np.exp(-((x - 0.12) ** 2 + (y + 0.31) ** 2) / 0.01))
    _, completed, error = drive(surface)
    assert largest_error(surface, completed) <= error


@pytest.mark.parametrize("shape", [(1, 51), (2, 9), (9, 9), (3, 40), (17, 60)])
def test_grids_that_are_not_square_or_hardly_grids(shape):
    surface = np.exp(np.linspace(-1, 1, shape[0])[:, None] + np.linspace(0, 2, shape[1]))
    asked, completed, error = drive(surface)
    np.testing.assert_allclose(np.log(completed), np.log(surface), atol=0.01 * np.ptp(np.log(surface)))
    assert asked.all() or error <= 0.01


def test_losses_that_are_not_finite_are_surrounded_and_the_rest_is_known():
    x, y = grid()
    surface = np.exp(2 * x + y**2)
    broken = surface.copy()
    broken[x**2 + (y - 0.9) ** 2 < 0.04] = np.inf
    broken[(x > 0.9) & (y < -0.9)] = np.nan
    asked, completed, _ = drive(broken)
    assert not asked.all()
    assert asked[~np.isfinite(broken)].all()
    finite = np.isfinite(broken)
    assert np.isfinite(completed[finite]).all()
    assert largest_error(surface[finite], completed[finite]) < 0.01


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, 3.0])
def test_surfaces_of_one_value_end(value):
    asked, completed, error = drive(np.full((21, 21), value))
    assert asked.all() == (not np.isfinite(value))
    np.testing.assert_allclose(completed, value, atol=1e-6)
    assert error <= 0.01


def test_negative_heights_are_taken_as_they_are():
    x, y = grid()
    asked, completed, error = drive(x**2 - y)
    assert asked.sum() < 0.3 * asked.size
    assert np.abs(completed - (x**2 - y)).max() <= error * np.ptp(x**2 - y) + 1e-12


def field(theta):
    return torch.exp(3 * torch.sin(theta[0]) + theta[1] ** 2)


def plane():
    return Plane(torch.zeros(2, dtype=torch.float64), *torch.eye(2, dtype=torch.float64))


@pytest.mark.parametrize("after", [1, 81, 100, 170])
def test_an_interrupted_adaptive_sweep_takes_the_same_points(tmp_path, after):
    axes = {"y": np.linspace(-2, 2, 41), "x": np.linspace(-2, 2, 51)}
    whole = sweep(Potential(field, 2), plane(), axes, strategy=Refined(0.01))
    writer = ResultWriter(tmp_path / "s.h5", Result("surface", {}))
    with pytest.raises(Interrupted):
        sweep(Potential(field, 2), plane(), axes, strategy=Refined(0.01), writer=writer, report=Signalling(after))
    writer = ResultWriter(tmp_path / "s.h5", Result("surface", {}), resume=True)
    assert load_result(tmp_path / "s.h5").sweep.done.sum() == after
    resumed = sweep(Potential(field, 2), plane(), axes, strategy=Refined(0.01), writer=writer)
    assert np.array_equal(resumed.done, whole.done)
    assert np.array_equal(resumed.values["potential_loss"], whole.values["potential_loss"], equal_nan=True)
