"""Directions, lines, planes and axes."""

import numpy as np
import pytest
import torch
from torch import nn

from landscape import (
    EmpiricalRisk,
    Line,
    ParameterSpace,
    Plane,
    Problem,
    Rays,
    normalise,
    principal_directions,
    project,
    random_direction,
)
from landscape.errors import ConfigError
from landscape.runtime.seeds import unrelated_seeds
from landscape.space.axes import Principal, Random, Scaling, Towards, grid_around
from landscape.sweeps.grid import parse_axis
from tests.points import value_at


def test_a_filter_without_length_gets_nothing():
    space = ParameterSpace(nn.Linear(3, 2))
    theta = torch.tensor([0.0, 0.0, 0.0, 3.0, 0.0, 4.0, 1.0, 1.0])
    direction = normalise(random_direction(space, 0), theta, space)
    assert not direction[:3].any()
    assert float(direction[3:6].norm()) == pytest.approx(5.0)
    assert not direction[6:].any()
    still = normalise(torch.zeros(8), theta, space)
    assert not still.any()


def test_unnormalised_directions_keep_their_scale():
    space = ParameterSpace(nn.Linear(3, 2))
    drawn = random_direction(space, 0)
    direction = normalise(drawn, space.theta, space, "none")
    assert torch.equal(direction[:6], drawn[:6])
    assert not direction[6:].any()


def test_draws_follow_the_seed():
    space = ParameterSpace(nn.Linear(3, 2))
    assert torch.equal(random_direction(space, 1), random_direction(space, 1))
    assert not torch.equal(random_direction(space, 1), random_direction(space, 2))


def test_scaling_a_convolution_and_its_batch_norm_leaves_the_surface():
    """The function does not change, so a filter-normalised surface must not either (Li et al. 2018)."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4, eps=0.0), nn.Flatten(), nn.Linear(64, 3))
    model[1].running_mean.normal_()
    model[1].running_var.uniform_(0.5, 2.0)
    images, labels = torch.randn(20, 1, 6, 6), torch.randint(3, (20,))
    surfaces = []
    for scale in (1.0, 5.0):
        with torch.no_grad():
            model[0].weight *= scale
            model[1].running_mean *= scale
            model[1].running_var *= scale**2
        space = ParameterSpace(model)
        risk = EmpiricalRisk(space, Problem.of(model, {"train": (images, labels)}), batch_size=20)
        theta = space.theta.clone()
        u, v = (normalise(random_direction(space, seed), theta, space) for seed in (1, 2))
        plane = Plane(theta, u, v)
        surfaces.append([float(value_at(risk, plane(x=x, y=y))) for x in (-0.7, 0, 0.5) for y in (-0.2, 0, 1)])
    assert surfaces[0] == pytest.approx(surfaces[1], rel=1e-4)


def test_a_line_ends_exactly_at_its_points():
    a, b = torch.randn(1000), torch.randn(1000) * 1e3
    assert torch.equal(Line(a, b)(t=0.0), a)
    assert torch.equal(Line(a, b)(t=1.0), b)


def test_the_plane_through_three_points_holds_them():
    a, b, c = torch.randn(3, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    plane = Plane.through(a, b, c)
    x, y, distance = plane.project(b)
    assert (x, y, distance) == pytest.approx((float((b - a).norm()), 0.0, 0.0), abs=1e-9)
    for point in (a, b, c, 0.3 * a + 0.9 * b - 0.2 * c):
        x, y, distance = plane.project(point)
        assert distance < 1e-9
        torch.testing.assert_close(plane(x=x, y=y), point)


def test_the_distance_from_a_plane_is_euclidean():
    a, b, c = torch.eye(5, dtype=torch.float64)[:3]
    plane = Plane.through(torch.zeros(5, dtype=torch.float64), a, b)
    assert plane.project(a + 2 * b + 3 * c) == pytest.approx((1.0, 2.0, 3.0))


def test_three_points_on_a_line_give_no_plane():
    a = torch.randn(9)
    with pytest.raises(ConfigError, match="on one line"):
        Plane.through(a, 2 * a, 3 * a)


@pytest.mark.parametrize(
    ("text", "values"),
    [("-1:1:5", [-1, -0.5, 0, 0.5, 1]), ("0:1:2", [0, 1]), ("1:-1:3", [1, 0, -1]), ("0.5:0.5:1", [0.5])],
)
def test_axes_from_text(text, values):
    assert np.array_equal(parse_axis(text, "--x"), values)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "0:1",
        "0:1:2:3",
        "a:b:c",
        "0:1:0",
        "0:1:-3",
        "0:1:1",
        "1:1:5",
        "nan:1:3",
        "0:inf:3",
        "0:1:2.5",
        "0:1:99999999999",
    ],
)
def test_axes_that_are_none_are_refused(text):
    with pytest.raises(ConfigError, match="--x is"):
        parse_axis(text, "--x")


def test_biases_get_the_length_of_their_own_tensor_when_asked():
    space = ParameterSpace(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)))
    theta = torch.arange(1.0, space.dimension + 1)
    direction = normalise(random_direction(space, 0), theta, space, biases=True)
    for segment in space.segments:
        got, wanted = (float(segment.view(flat).norm()) for flat in (direction, theta))
        assert got == pytest.approx(wanted, rel=1e-5)
    weights = space.segments[0].size
    assert torch.equal(direction[:weights], normalise(random_direction(space, 0), theta, space)[:weights])


def test_rays_lead_from_the_origin_in_their_own_directions():
    directions = torch.eye(3)
    rays = Rays(torch.ones(3), lambda index: directions[index])
    assert torch.equal(rays(direction=1.0, t=2.0), torch.tensor([1.0, 3.0, 1.0]))
    assert torch.equal(rays(direction=2.0, t=0.0), torch.ones(3))


def test_seeds_of_directions_do_not_depend_on_how_many_there_are():
    assert unrelated_seeds(3, 5)[:2] == unrelated_seeds(3, 2)
    assert len(set(unrelated_seeds(3, 5) + unrelated_seeds(4, 5))) == 10


def test_principal_directions_are_those_of_a_dense_decomposition():
    offsets = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))
    found, shares = principal_directions(offsets, 3)
    _, singular, right = np.linalg.svd(offsets.double().numpy(), full_matrices=False)
    np.testing.assert_allclose(shares.numpy(), singular**2 / (singular**2).sum(), rtol=1e-6)
    np.testing.assert_allclose(np.abs((found.double().numpy() * right[:3]).sum(axis=1)), 1, rtol=1e-5)
    torch.testing.assert_close(found @ found.T, torch.eye(3), atol=1e-5, rtol=0)
    largest = (found @ offsets.T).abs().argmax(dim=1)
    assert all(float(found[i] @ offsets[largest[i]]) > 0 for i in range(3))


def test_points_on_a_line_have_one_principal_direction():
    with pytest.raises(ConfigError, match="span 1 of the 2"):
        principal_directions(torch.outer(torch.arange(1.0, 4.0), torch.randn(9)))


def test_planes_reach_what_they_are_named_after():
    space = ParameterSpace(nn.Linear(5, 4))
    thetas = torch.randn(4, space.dimension, generator=torch.Generator().manual_seed(1))
    plane = Towards().view(thetas[:3], space).plane
    torch.testing.assert_close(plane(x=1.0, y=0.0), thetas[1])
    torch.testing.assert_close(plane(x=0.0, y=1.0), thetas[2])
    aside = Towards().view(thetas[:2], space).plane
    torch.testing.assert_close(aside(x=1.0, y=0.0), thetas[1])
    filters = [
        segment.filters(flat).flatten(2).norm(dim=2)
        for segment in space.segments[:1]
        for flat in (aside.axes[1], thetas[0])
    ]
    torch.testing.assert_close(*filters)
    principal = Principal().view(thetas[:3], space).plane
    assert max(project(principal, thetas[:3]).distances) < 1e-4
    scaled = Random(0, Scaling("layer")).view(thetas[:1], space).plane
    first = space.segments[0]
    assert float(first.view(scaled.axes[0]).norm()) == pytest.approx(float(first.view(thetas[0]).norm()), rel=1e-5)


def test_axes_that_are_parallel_give_no_plane():
    u = torch.randn(9)
    for v in (2 * u, torch.zeros(9)):
        with pytest.raises(ConfigError, match="parallel or zero"):
            Plane(torch.zeros(9), u, v)


def test_a_curve_is_projected_as_its_points_are():
    generator = torch.Generator().manual_seed(0)
    controls = torch.randn(4, 30, generator=generator, dtype=torch.float64)
    plane = Plane(*torch.randn(3, 30, generator=generator, dtype=torch.float64))
    weights = torch.rand(7, 4, generator=generator, dtype=torch.float64)
    weights = weights / weights.sum(dim=1, keepdim=True)
    curve, points = project(plane, controls, weights), project(plane, weights @ controls)
    np.testing.assert_allclose(curve.coordinates, points.coordinates, atol=1e-9)
    np.testing.assert_allclose(curve.distances, points.distances, atol=1e-9)


def test_axes_around_points_leave_a_margin_and_share_their_spacing():
    axes = grid_around(np.array([[0.0, 0.0], [8.0, 0.0], [2.0, 4.0]]), 25)
    assert (axes["x"][0], axes["x"][-1]) == (-2.0, 10.0)
    assert (axes["y"][0], axes["y"][-1]) == (-2.0, 6.0)
    assert len(axes["x"]) == 25
    assert np.diff(axes["y"])[0] == pytest.approx(np.diff(axes["x"])[0])


@pytest.mark.parametrize(
    "points", [[[0.0, 0.0], [1.0, 0.1]], [[0.0, 0.0], [0.0, 3.0]], [[-2.0, 5.0], [7.0, 6.0], [0.0, -3.0]]]
)
def test_axes_around_any_points_share_their_spacing_and_hold_them(points):
    axes = grid_around(np.array(points), 7)
    spacings = np.concatenate([np.diff(axes["y"]), np.diff(axes["x"])])
    np.testing.assert_allclose(spacings, spacings[0])
    margin = 0.25 * np.ptp(np.array(points), axis=0).max()
    for column, name in enumerate("xy"):
        values = np.array(points)[:, column]
        assert axes[name][0] <= values.min() - margin + 1e-9
        assert axes[name][-1] >= values.max() + margin - 1e-9
    assert max(len(values) for values in axes.values()) == 7
