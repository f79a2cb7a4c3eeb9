"""Paths, their training and their profiles."""

import math

import numpy as np
import pytest
import torch

from connect import Bezier, Path, PolygonalChain, find_path, load_path, profile, save_path, straight_line, summarise
from connect.measures.barriers import barrier
from connect.measures.summaries import measured_path
from landscape import EmpiricalRisk, ParameterSpace, Potential, Recipe, save_tensors
from landscape.errors import CheckpointError, ConfigError, LayoutError
from tests.oracles import as_double, muller_brown, networks, problem_of
from tests.points import measure_at, value_at


@pytest.mark.parametrize("curve", [Bezier(3), Bezier(5), PolygonalChain(4)])
def test_the_gradient_of_the_control_points_against_finite_differences(curve):
    """One step of plain SGD on one batch moves free point i by -lr·∂L(c·C)/∂C_i, and the ends not at all."""
    problem = as_double(problem_of("plain"))
    space = ParameterSpace(problem.model, dtype=torch.float64)
    risk = EmpiricalRisk(space, problem, batch_size=100)
    generator = torch.Generator().manual_seed(0)
    a, b = (space.theta + 0.3 * torch.randn(space.theta.shape, generator=generator) for _ in range(2))
    recipe = Recipe(epochs=1, lr=0.1, momentum=0.0, weight_decay=0.0, batch_size=1000, schedule="constant")
    seen = []

    class Spy:
        control_points, name = curve.control_points, curve.name

        def coefficients(self, t):
            seen.append(curve.coefficients(t))
            return seen[-1]

    moved = find_path(risk, a, b, Spy(), recipe).points
    weights = seen[0][0]
    start = torch.stack([torch.lerp(a, b, i / (curve.control_points - 1)) for i in range(curve.control_points)])
    assert torch.equal(moved[0], a)
    assert torch.equal(moved[-1], b)

    def height(points):
        return float(value_at(risk, weights @ points))

    step = 1e-5
    for i in range(1, curve.control_points - 1):
        direction = torch.randn(space.dimension, generator=generator, dtype=torch.float64)
        bump = torch.zeros_like(start)
        bump[i] = step * direction
        slope = (height(start + bump) - height(start - bump)) / (2 * step)
        got = -float((moved[i] - start[i]) @ direction) / 0.1
        assert got == pytest.approx(slope, rel=1e-6, abs=1e-9)


def test_weight_decay_acts_on_the_network_and_not_on_the_control_points():
    """On a flat surface only weight decay is left: each free point moves by -lr·decay·c_i·θ(t)."""
    flat = Potential(lambda theta: 0 * theta.sum(), 4)
    a, b = torch.tensor([1.0, 0, 2, 0]).double(), torch.tensor([0, 1.0, 2, 0]).double()
    curve = Bezier(4)
    recipe = Recipe(epochs=1, lr=0.5, momentum=0.0, weight_decay=0.1, schedule="constant")
    seen = []

    class Spy:
        control_points, name = 4, "bezier"

        def coefficients(self, t):
            seen.append(curve.coefficients(t))
            return seen[-1]

    points = find_path(flat, a, b, Spy(), recipe).points
    start = torch.stack([torch.lerp(a, b, i / 3) for i in range(4)])
    weights = seen[0][0]
    expected = start - 0.5 * 0.1 * torch.outer(weights * torch.tensor([0, 1, 1, 0]), weights @ start)
    torch.testing.assert_close(points, expected)


def test_a_curve_follows_a_valley():
    """In a ring-shaped valley the straight line climbs to (1/4 - 1)²; the curve finds the ring."""
    ring = Potential(lambda theta: (theta.square().sum() - 1).square(), 2)
    a, b = (torch.tensor([math.cos(angle), math.sin(angle)]).double() for angle in (0, 2 * math.pi / 3))
    recipe = Recipe(epochs=1000, lr=0.05, momentum=0.5, weight_decay=0.0, schedule="linear")
    path = find_path(ring, a, b, Bezier(4), recipe, seed=3)
    figures = summarise(profile(path, ring))
    assert figures["straight"].max_loss == pytest.approx(0.5625, abs=1e-3)
    assert figures["straight"].length_ratio == 1
    assert 0 <= figures["path"].barrier.value < 0.002
    assert figures["path"].length_ratio == pytest.approx(2 * math.pi / 3 / math.sqrt(3), abs=0.01)
    assert math.isnan(figures["path"].min_test_accuracy)


def test_t_is_stratified_over_each_epoch():
    problem = problem_of("plain")
    space = ParameterSpace(problem.model)
    seen = []

    class Spy:
        control_points, name = 3, "bezier"

        def coefficients(self, t):
            seen.append(t)
            return Bezier(3).coefficients(t)

    find_path(
        EmpiricalRisk(space, problem, batch_size=8),
        space.theta.clone(),
        space.theta + 1,
        Spy(),
        Recipe(epochs=4, batch_size=3),
    )
    assert len(seen) == 4
    for t in seen:
        assert torch.equal((t * len(t)).floor().sort().values, torch.arange(8.0, dtype=torch.float64))
    assert not torch.equal(seen[0], seen[1])


def test_no_epoch_leaves_the_straight_line():
    surface = Potential(muller_brown, 2)
    a, b = torch.tensor([0.0, 1.0]).double(), torch.tensor([2.0, 2.0]).double()
    path = find_path(surface, a, b, Bezier(5), Recipe(epochs=0))
    assert path.length() == pytest.approx(path.distance())
    for t in np.linspace(0, 1, 9):
        torch.testing.assert_close(path(t), straight_line(path)(t))


def test_lengths_of_known_curves():
    corner = torch.tensor([[0.0, 0.0], [3.0, 0.0], [3.0, 4.0]])
    assert Path(corner, PolygonalChain(3)).length() == pytest.approx(7.0)
    assert Path(corner, PolygonalChain(3)).distance() == pytest.approx(5.0)
    t = torch.linspace(0, 1, 200_001, dtype=torch.float64)
    dense = (Bezier(3).coefficients(t) @ corner.double()).diff(dim=0).norm(dim=1).sum()
    assert Path(corner, Bezier(3)).length() == pytest.approx(float(dense), rel=1e-6)


def test_ends_that_cannot_be_joined_are_refused():
    surface = Potential(muller_brown, 2)
    with pytest.raises(ConfigError, match="same point"):
        find_path(surface, torch.zeros(2).double(), torch.zeros(2).double())
    with pytest.raises(LayoutError, match=r"shapes \(2,\) and \(3,\)"):
        find_path(surface, torch.zeros(2).double(), torch.zeros(3).double())


@pytest.mark.parametrize("name", sorted(networks()))
def test_a_path_comes_back_from_its_file(tmp_path, name):
    space = ParameterSpace(networks()[name][0])
    points = torch.randn(4, space.dimension, generator=torch.Generator().manual_seed(1))
    save_path(tmp_path / "p.safetensors", Path(points, PolygonalChain(4), {"seed": 1}), space, {"problem": {}})
    path = load_path(tmp_path / "p.safetensors", space)
    assert torch.equal(path.points, points)
    assert path.curve == PolygonalChain(4)
    assert path.provenance == {"seed": 1}


def test_a_checkpoint_is_no_path(tmp_path):
    model = networks()["plain"][0]
    save_tensors(tmp_path / "a.safetensors", model.state_dict(), {})
    with pytest.raises(CheckpointError, match="holds no path"):
        load_path(tmp_path / "a.safetensors", ParameterSpace(model))


def test_the_ends_of_a_profile_are_the_ends_of_the_path():
    problem = problem_of("tied")
    space = ParameterSpace(problem.model)
    risk = EmpiricalRisk(space, problem, batch_size=8)
    points = torch.randn(3, space.dimension, generator=torch.Generator().manual_seed(1))
    result = profile(Path(points, Bezier(3)), risk, [0.0, 0.25, 1.0])
    for way in ("path", "straight"):
        for index, end in ((0, points[0]), (-1, points[-1])):
            for split, measured in measure_at(risk, end).items():
                assert result.sweeps[way].values[f"{split}_loss"][index] == pytest.approx(measured.loss, abs=1e-6)
    figures = summarise(result)
    whole = measured_path(result, "path")
    assert figures["path"].max_loss == figures["path"].saddle_loss.value == whole["train_loss"].max()
    assert figures["path"].min_test_accuracy == whole["test_accuracy"].min()
    assert set(result.sweeps["path"]["t"]) <= set(whole["t"])
    assert (np.diff(whole["t"]) > 0).all()
    assert figures["path"].bracket <= 1e-3


def test_a_barrier_is_the_excess_over_the_ends():
    t = np.linspace(0, 1, 5)
    assert barrier(t, np.array([1.0, 1.0, 1.0, 1.0, 1.0])) == 0
    assert barrier(t, np.array([0.0, 3.0, 1.0, 1.5, 2.0])) == pytest.approx(2.5)
    assert barrier(t, np.array([2.0, 1.0, 0.0, 0.5, 1.0])) == 0
    assert math.isnan(barrier(t, np.array([2.0, np.nan, 0.0, 0.5, 1.0])))
