"""Simplices: uniform draws, volumes by Cayley and Menger, their gradients by finite differences, fits that resume."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from connect import SimplicialComplex, fit_simplex
from connect.paths.simplices import _Corner, _Volume
from landscape import EmpiricalRisk, Interrupted, Keeping, ParameterSpace, Potential, Recipe
from landscape.errors import ConfigError, LayoutError
from tests.oracles import Signalling, problem_of
from tests.points import value_at


def corners(count, dimension=6, seed=0):
    return torch.randn(count, dimension, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cayley_menger(points):
    """The volume of a simplex from the squares of the distances between its vertices alone."""
    count = len(points)
    bordered = np.ones((count + 1, count + 1))
    bordered[0, 0] = 0
    bordered[1:, 1:] = torch.cdist(points, points).square().numpy()
    sign = (-1) ** count
    return math.sqrt(sign * np.linalg.det(bordered) / 2 ** (count - 1)) / math.factorial(count - 1)


@pytest.mark.parametrize(("minima", "connecting"), [(1, 1), (1, 3), (2, 2), (3, 1)])
def test_volumes_against_cayley_and_menger(minima, connecting):
    points = corners(minima + connecting)
    expected = np.mean([
        math.log(cayley_menger(torch.cat([points[i : i + 1], points[minima:]]))) for i in range(minima)
    ])  # fmt: skip
    assert SimplicialComplex(points, minima).log_volume() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("minima", "connecting"), [(1, 2), (2, 2), (3, 1)])
def test_the_reward_for_volume_against_finite_differences(minima, connecting):
    points = corners(minima + connecting)
    gradient = _Volume(0.3, minima, connecting)(points) @ points

    def reward(candidate):
        return -0.3 * SimplicialComplex(candidate, minima).log_volume()

    for seed in range(5):
        step = 1e-6 * corners(len(points), seed=100 + seed)
        slope = (reward(points + step) - reward(points - step)) / 2
        assert float((gradient * step).sum()) == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("connecting", [1, 2, 3])
def test_draws_are_uniform_in_the_simplices_and_take_turns(connecting):
    """A share of a uniform point of a simplex of d dimensions is distributed as 1 - (1 - x)^d."""
    drawn = SimplicialComplex(corners(3 + connecting), 3).sample(3000)
    assert drawn.shape == (3000, 3 + connecting)
    torch.testing.assert_close(drawn.sum(dim=1), torch.ones(3000, dtype=torch.float64))
    assert (drawn >= 0).all()
    owners = (drawn[:, :3] > 0).sum(dim=0)
    assert owners.tolist() == [1000] * 3
    shares = [drawn[drawn[:, 0] > 0, 0], *drawn[:, 3:].T]
    for share in shares:
        assert kstest(share.numpy(), lambda x: 1 - (1 - x) ** connecting).pvalue > 1e-3
    again = SimplicialComplex(corners(3 + connecting), 3).sample(3000)
    assert torch.equal(again, drawn)
    assert not torch.equal(SimplicialComplex(corners(3 + connecting), 3).sample(3000, seed=1), drawn)


def test_points_are_weighed_vertices():
    complex_ = SimplicialComplex(corners(4), 2)
    shares = torch.tensor([0.5, 0, 0.25, 0.25]).double()
    torch.testing.assert_close(complex_(shares), shares @ corners(4))


def test_connecting_points_lie_low_and_span_a_volume():
    """On a cylinder x² + y² = 1 of low loss the straight line between two minima is high."""
    ring = Potential(lambda theta: (theta[:2].square().sum() - 1).square(), 4)
    minima = torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0]]).double()
    recipe = Recipe(epochs=800, lr=0.02, momentum=0.5, weight_decay=0.0, schedule="linear")
    found = fit_simplex(ring, minima, 1, recipe, volume_weight=1e-3)
    assert torch.equal(found.vertices[:2], minima)
    inside = [float(value_at(ring, found(shares))) for shares in found.sample(200)]
    straight = [float(value_at(ring, torch.lerp(*minima, t))) for t in np.linspace(0, 1, 200).tolist()]
    assert max(inside) < 0.5 * max(straight)
    larger = fit_simplex(ring, minima, 1, recipe, volume_weight=0.05)
    assert larger.log_volume() > found.log_volume()


@pytest.mark.parametrize("recipe", [Recipe(epochs=4, batch_size=7), Recipe.adamw(epochs=4, batch_size=7)], ids=str)
def test_a_stopped_fit_goes_on_to_the_same_bits(tmp_path, recipe):
    def pair():
        problem = problem_of("convolutions")
        space = ParameterSpace(problem.model)
        noise = 0.2 * torch.randn(2, space.dimension, generator=torch.Generator().manual_seed(1))
        return EmpiricalRisk(space, problem, batch_size=8), space.theta + noise

    whole = fit_simplex(*pair(), 2, recipe)

    def keeping(resume):
        return lambda number: Keeping(tmp_path / f"{number}.safetensors", {"x": 1}, resume=resume)

    for after in (5, 14):  # in the first connecting point of 16 steps; then in the second
        with pytest.raises(Interrupted):
            fit_simplex(*pair(), 2, recipe, keeping=keeping(after > 5), report=Signalling(after))
    resumed = fit_simplex(*pair(), 2, recipe, keeping=keeping(True))
    assert torch.equal(resumed.vertices, whole.vertices)


def test_minima_that_span_nothing_are_refused():
    flat = Potential(lambda theta: 0 * theta.sum(), 3)
    with pytest.raises(ConfigError, match="minima 1 and 3 are the same"):
        fit_simplex(flat, torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 0, 1]]).double())
    with pytest.raises(LayoutError, match="expected"):
        fit_simplex(flat, torch.zeros(3).double())
    with pytest.raises(LayoutError, match="connecting"):
        fit_simplex(flat, torch.zeros(1, 3).double(), 0)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_every_minimum_gets_its_share_of_steps_over_the_epochs(steps):
    family = _Corner(3, 0)
    counts = torch.zeros(3)
    for epoch in range(600):
        drawn = family.draw(steps, torch.Generator().manual_seed(epoch), family.start())
        counts += (drawn[:, :3] > 0).sum(dim=0)
    assert counts.min() > 0.85 * counts.mean()
