"""Adaptive surfaces: few points where the loss is smooth, all of them where it is not, and an honest error."""

from pathlib import Path

import numpy as np
import pytest
import torch

from landscape import Interrupted, Plane, Potential, Refined, Result, ResultWriter, Sweep, load_result, sweep
from tests.oracles import Signalling

RECORDED = Path(__file__).parent.parent / "recorded" / "digits_surfaces.npz"
"""Training losses of networks on the digits, 51×51 over [-1, 1]² on filter-normalised axes, measured densely."""


def drive(surface, tolerance=0.01):
    """Let the strategy measure a surface that is known; returns what it took, what it completed, and its error."""
    strategy = Refined(tolerance)
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
