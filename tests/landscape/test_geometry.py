"""Directions, lines, planes and axes."""

import numpy as np
import pytest
import torch
from torch import nn

from landscape import (
    ConfigError,
    EmpiricalRisk,
    Line,
    ParameterSpace,
    Plane,
    Problem,
    normalise,
    random_direction,
)
from landscape.grid import parse_axis


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
        surfaces.append([float(risk.value(plane(x=x, y=y))) for x in (-0.7, 0, 0.5) for y in (-0.2, 0, 1)])
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
