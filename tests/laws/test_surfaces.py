"""What every surface promises: an analytic potential, a network, a selection of its data."""

from operator import methodcaller

import pytest
import torch

from landscape import EmpiricalRisk, ParameterSpace, Potential
from landscape.errors import LayoutError, PlaceError
from tests.oracles import as_double, muller_brown, problem_of
from tests.points import gradient_at, product_at, value_at


def risk():
    problem = as_double(problem_of("buffers"))
    return EmpiricalRisk(ParameterSpace(problem.model, dtype=torch.float64), problem, batch_size=7)


SURFACES = {
    "potential": lambda: Potential(muller_brown, 2),
    "network": risk,
    "sample": lambda: risk().select(splits=["test"], sample=5, calibrated=True),
}


@pytest.fixture(params=SURFACES)
def surface(request):
    return SURFACES[request.param]()


def point(surface):
    generator = torch.Generator().manual_seed(0)
    return 0.3 * torch.randn(surface.dimension, generator=generator, dtype=surface.dtype)


ASKED = [methodcaller(name) for name in ("value", "measure", "gradient", "hessian")]


def test_one_point_is_open_at_a_time(surface):
    theta = point(surface)
    expected = product_at(surface, theta, theta)
    with surface.at(theta) as here:
        product = here.hessian()
        with pytest.raises(PlaceError, match="held at one point"), surface.at(theta + 1):
            pass
        assert torch.equal(product(theta), expected)
    with surface.at(theta + 1):
        pass


def test_a_point_says_nothing_after_its_end(surface):
    theta = point(surface)
    with surface.at(theta) as here:
        product = here.hessian()
    with surface.at(theta + 1):
        for ask in (*ASKED, lambda _: product(theta)):
            with pytest.raises(PlaceError, match="has ended"):
                ask(here)


def test_an_error_ends_a_point(surface):
    with pytest.raises(ZeroDivisionError), surface.at(point(surface)):
        _ = 1 / 0
    value_at(surface, point(surface))


def test_a_point_stays_where_it_was_opened(surface):
    theta = point(surface)
    expected = value_at(surface, theta), gradient_at(surface, theta), product_at(surface, theta, torch.ones_like(theta))
    with surface.at(theta) as here:
        theta += 1
        assert here.value() == expected[0]
        assert torch.equal(here.gradient(), expected[1])
        assert torch.equal(here.hessian()(torch.ones_like(theta)), expected[2])


def test_the_first_split_is_what_values_and_derivatives_are_of(surface):
    theta, step = point(surface), 1e-5
    v = torch.linspace(-1, 1, surface.dimension, dtype=surface.dtype)
    with surface.at(theta) as here:
        first = next(iter(here.measure().values()))
        assert float(here.value()) == pytest.approx(first.loss, rel=1e-12)
        gradient, bend = here.gradient(), here.hessian()(v)
    slope = (value_at(surface, theta + step * v) - value_at(surface, theta - step * v)) / (2 * step)
    torch.testing.assert_close(gradient @ v, slope, rtol=1e-5, atol=1e-7)
    change = (gradient_at(surface, theta + step * v) - gradient_at(surface, theta - step * v)) / (2 * step)
    torch.testing.assert_close(bend, change, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(1,), (), (3, 1)])
def test_a_point_of_another_shape_is_refused(surface, shape):
    with pytest.raises(LayoutError, match="expected"), surface.at(torch.ones(shape, dtype=surface.dtype)):
        pass
    value_at(surface, point(surface))
