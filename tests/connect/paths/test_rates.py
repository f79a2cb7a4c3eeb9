"""The range test: on valleys whose stable rates are known, for its sampler, and for networks of several kinds."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from connect import Band, Bezier, CurveFit, find_path
from connect.paths.rates import STEPS, Even, find_rate
from landscape import EmpiricalRisk, ParameterSpace, Potential, Problem, Recipe
from landscape.errors import DivergedError

A, B = torch.tensor([0.0, 0.0]).double(), torch.tensor([1.0, 0.0]).double()
PLAIN = Recipe(momentum=0.0, nesterov=False, weight_decay=0.0)


def valley(stiffness):
    """A bent valley of curvature `stiffness` across."""
    return Potential(lambda theta: stiffness / 2 * (theta[1] - theta[0] * (1 - theta[0])).square(), 2)


def rate_of(surface, a, b, recipe, method=None, **options):
    method = method or CurveFit(Bezier(3))
    return find_rate(surface, method.begin(a, b), method, recipe, **options)


@pytest.mark.parametrize("stiffness", [0.5, 10.0, 1000.0])
def test_the_rate_is_below_where_steps_are_unstable_and_not_needlessly_so(stiffness):
    """A control point of coefficient c ≤ 1/2 feels a quarter of the curvature at most; the bound is 2 / curvature."""
    bound = 2 / (stiffness / 4)
    assert 0.02 * bound < rate_of(valley(stiffness), A, B, PLAIN) < bound
    image = 2 / stiffness  # of a band, whose images feel all of it
    assert 0.02 * image < rate_of(valley(stiffness), A, B, PLAIN, Band(5)) < image


def test_a_steeper_loss_lowers_sgds_rate_by_as_much_and_leaves_adamws():
    ratio = rate_of(valley(1.0), A, B, PLAIN) / rate_of(valley(100.0), A, B, PLAIN)
    assert 10 < ratio < 1000
    adamw = Recipe.adamw(weight_decay=0.0, clip=0.0)
    assert rate_of(valley(1.0), A, B, adamw) == pytest.approx(rate_of(valley(100.0), A, B, adamw), rel=0.1)


@pytest.mark.parametrize("first", [0, 8, 24, 56])
def test_eight_draws_in_a_row_lie_in_eight_eighths(first):
    t = Even().draw(64, torch.Generator().manual_seed(3), torch.empty(0))
    eighths = ((t[first : first + 8] - t[0]) % 1 * 8).floor()
    assert sorted(eighths.tolist()) == list(range(8))
    assert ((t >= 0) & (t < 1)).all()
    assert len(t.unique()) == 64


class Attending(nn.Module):
    """A small transformer encoder that classes sequences."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(9, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(16, 2)

    def forward(self, tokens):
        return self.head(self.encoder(self.embedding(tokens)).mean(1))


def normalised():
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))


def regressing():
    return nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 1))


def squared(model, batch):
    inputs, targets = batch
    return (model(inputs) - targets).square().mean(1)


X = torch.randn(600, 6, generator=torch.Generator().manual_seed(0))
TOKENS = torch.randint(0, 9, (600, 8), generator=torch.Generator().manual_seed(0))
KINDS = {
    "batch norm": (normalised, (X, (X[:, 0] * X[:, 1] > 0).long()), None),
    "attention": (Attending, (TOKENS, ((TOKENS == 3).sum(1) > (TOKENS == 5).sum(1)).long()), None),
    "regression": (regressing, (X, 30 * torch.sin(X[:, :1]) + 10 * X[:, 1:2]), squared),
}


@pytest.fixture(scope="module", params=KINDS)
def problem(request):
    build, data, loss = KINDS[request.param]
    torch.manual_seed(0)
    whole = Problem.of(build(), {"train": data}, *([loss] if loss else []))
    risk = EmpiricalRisk(ParameterSpace(whole.model), whole, batch_size=600)
    return risk, 0.2 * torch.randn(2, risk.dimension, generator=torch.Generator().manual_seed(1)) + risk.space.theta


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_a_path_is_lower_with_the_rate_that_is_found_than_with_a_hundredth_or_hundred_times_it(problem, optimiser):
    risk, (a, b) = problem
    recipe = Recipe(epochs=8, schedule="linear") if optimiser == "sgd" else Recipe.adamw(epochs=8, schedule="linear")
    rate = rate_of(risk, a, b, recipe)

    def height(factor):
        try:
            path = find_path(risk, a, b, Bezier(3), recipe.updated({"lr": rate * factor}))
        except DivergedError:
            return math.inf
        with risk.at(path(0.5)) as here:
            return float(here.value())

    found = height(1.0)
    assert found < height(0.01)
    assert found < height(100.0)


def test_the_same_seed_finds_the_same_rate_and_leaves_surface_and_generators_as_they_were(problem):
    risk, (a, b) = problem
    before = {name: buffer.clone() for name, buffer in risk.buffers().items()}
    state = torch.get_rng_state()
    rates = [rate_of(risk, a, b, Recipe(), seed=seed) for seed in (5, 5)]
    assert rates[0] == rates[1]
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(buffer, before[name]) for name, buffer in risk.buffers().items())


def test_the_ends_stay_where_they_are_also_where_they_are_free(problem):
    risk, (a, b) = problem
    method = CurveFit(Bezier(3), free_ends=True)
    path = method.begin(a, b)
    find_rate(risk, path, method, Recipe())
    assert torch.equal(path.points[[0, -1]], torch.stack([a, b]))


def test_a_few_dozen_steps_are_taken_however_many_examples_there_are(problem, monkeypatch):
    risk, (a, b) = problem
    taken = []
    own = type(risk).batch_gradient

    def counted(self, theta, indices, **options):
        for each in own(self, theta, indices, **options):
            taken.append(1)
            yield each

    monkeypatch.setattr(type(risk), "batch_gradient", counted)
    for size in (8, 600):
        taken.clear()
        rate_of(risk, a, b, replace(Recipe.adamw(), batch_size=size))
        assert len(taken) == STEPS


def test_a_surface_that_explodes_at_once_has_the_lowest_rate():
    broken = Potential(lambda theta: (theta[0] - 0.5) * math.inf + theta[1], 2)
    assert rate_of(broken, A, B, PLAIN) == pytest.approx(10.0 * 1e-5 / 3, rel=0.1)
