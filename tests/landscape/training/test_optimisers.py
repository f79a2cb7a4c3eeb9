"""Update rules against torch's own, step by step in float64: of a single point, and of a curve's control points."""

import math

import pytest
import torch
import torch.nn.functional as F

from connect import Bezier, CurveFit, find_path
from connect.paths.fitting import Shortness
from landscape import Combination, EmpiricalRisk, ParameterSpace, Potential, Recipe, SinglePoint, descend
from landscape.errors import ConfigError
from landscape.training.optimisers import clip_
from tests.oracles import as_double, muller_brown, networks, problem_of

SGD = Recipe(epochs=9, lr=0.05, batch_size=1000, weight_decay=0.01, schedule="step")
ADAMW = Recipe.adamw(epochs=9, lr=0.02, batch_size=1000, weight_decay=0.1, warmup=0.0, clip=0.0)
RECIPES = {
    "nesterov": SGD,
    "heavy ball": SGD.updated({"nesterov": False}),
    "clipped": SGD.updated({"clip": 0.1}),
    "adamw": ADAMW,
    "adamw, clipped and warmed up": ADAMW.updated({"clip": 0.1, "warmup": 0.4, "betas": (0.8, 0.95)}),
}


def torchs(recipe, parameters, **settings):
    """The optimiser of torch that a recipe stands for."""
    if recipe.optimiser == "adamw":
        settings = {"weight_decay": recipe.weight_decay, **settings}
        return torch.optim.AdamW(parameters, lr=recipe.lr, betas=recipe.betas, **settings)
    settings = {"weight_decay": recipe.weight_decay, **settings}
    return torch.optim.SGD(parameters, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov, **settings)


@pytest.mark.parametrize("name", ["plain", "tied", "buffers"])
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
def test_a_single_point_descends_as_torch_does(name, recipe):
    """Full batches, so that the order of examples does not matter."""
    problem = as_double(problem_of(name))
    space = ParameterSpace(problem.model, dtype=torch.float64)
    seen = []
    descend(
        EmpiricalRisk(space, problem, batch_size=8),
        space.flatten(problem.model.state_dict())[None],
        Combination(SinglePoint()),
        recipe,
        after_epoch=lambda epoch, points: seen.append(points[0].clone()),
    )
    model, (inputs, labels) = networks()[name]
    model.double().train()
    optimiser = torchs(recipe, model.parameters())
    inputs = inputs.double() if inputs.is_floating_point() else inputs
    for epoch in range(recipe.epochs):
        optimiser.param_groups[0]["lr"] = recipe.rate(epoch / recipe.epochs, 1 / recipe.epochs)
        optimiser.zero_grad()
        F.cross_entropy(model(inputs), labels).backward()
        if recipe.clip:
            assert torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip) > recipe.clip
        optimiser.step()
        torch.testing.assert_close(seen[epoch], space.flatten(model.state_dict()), rtol=1e-8, atol=1e-9)


class Watched:
    """A Bézier curve that notes at which coefficients steps take place."""

    control_points, name = 4, "bezier"

    def __init__(self):
        self.rows = []

    def coefficients(self, t):
        rows = Bezier(4).coefficients(t)
        self.rows += list(rows)
        return rows


@pytest.mark.parametrize("length_weight", [0.0, 0.3])
@pytest.mark.parametrize("free_ends", [False, True])
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
def test_every_free_control_point_descends_as_torch_does_with_its_share_of_the_gradient(
    recipe, free_ends, length_weight
):
    """Torch is fed with c_i·g, and what a penalty adds; under AdamW its decay, which is another, is left out."""
    recipe = recipe.updated({"lr": 1e-3 * recipe.lr, "clip": 100.0 * recipe.clip})
    recipe = recipe.updated({"weight_decay": 0.0}) if recipe.optimiser == "adamw" else recipe
    a, b = torch.tensor([-0.5, 1.4]).double(), torch.tensor([0.6, 0.0]).double()
    curve = Watched()
    method = CurveFit(curve, length_weight=length_weight, free_ends=free_ends)
    found = find_path(Potential(muller_brown, 2), a, b, method, recipe).points
    points = [torch.lerp(a, b, i / 3).requires_grad_() for i in range(4)]
    free = points if free_ends else points[1:-1]
    optimiser = torchs(recipe, free, weight_decay=0.0)
    penalty = Shortness(length_weight, float((b - a).norm()))
    for step, row in enumerate(curve.rows):
        theta = sum(c * point.detach() for c, point in zip(row, points, strict=True)).requires_grad_()
        (gradient,) = torch.autograd.grad(muller_brown(theta), theta)
        if recipe.clip:
            gradient = gradient * min(1.0, recipe.clip / (float(gradient.norm()) + 1e-6))
        gradient = gradient + (recipe.weight_decay * theta.detach() if recipe.optimiser == "sgd" else 0)
        pulls = penalty(torch.stack(points).detach()) @ torch.stack(points).detach()
        for point, c, pull in zip(points, row, pulls, strict=True):
            point.grad = c * gradient + pull
        optimiser.param_groups[0]["lr"] = recipe.rate(step / recipe.epochs, 1 / recipe.epochs)
        optimiser.step()
    torch.testing.assert_close(found, torch.stack(points).detach(), rtol=1e-9, atol=1e-11)


def test_decoupled_decay_of_a_curve_pulls_its_networks_and_not_its_control_points():
    """Where nothing slopes, a control point moves by -rate·decay·c·θ."""
    flat = Potential(lambda theta: 0 * theta.sum(), 2)
    a, b = torch.tensor([-1.0, 2.0]).double(), torch.tensor([3.0, 2.0]).double()
    curve = Watched()
    recipe = ADAMW.updated({"lr": 0.5, "schedule": "constant"})
    found = find_path(flat, a, b, CurveFit(curve), recipe).points
    points = torch.stack([torch.lerp(a, b, i / 3) for i in range(4)])
    for row in curve.rows:
        points[1:-1] -= 0.5 * 0.1 * row[1:-1, None] * (row @ points)
    torch.testing.assert_close(found, points)


def test_a_gradient_is_clipped_as_torch_clips():
    for scale in (1e-3, 1.0, 1e3):
        ours = scale * torch.randn(10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        theirs = torch.nn.Parameter(ours.clone())
        theirs.grad = ours.clone()
        torch.nn.utils.clip_grad_norm_([theirs], 1.0)
        clip_(ours, 1.0)
        torch.testing.assert_close(ours, theirs.grad)


def test_a_norm_over_many_numbers_in_float32_is_right():
    gradient = torch.rand(2**25, generator=torch.Generator().manual_seed(0))
    clip_(gradient, 1.0)
    assert float(gradient.double().norm()) == pytest.approx(1.0, rel=1e-5)


def test_a_warm_up_rises_to_the_schedule_and_never_stands_still():
    recipe = Recipe(lr=2.0, schedule="cosine", warmup=0.25)
    rates = [recipe.rate(step / 8, 1 / 8) for step in range(8)]
    cosine = [1 + math.cos(math.pi * step / 8) for step in range(8)]
    assert rates == pytest.approx([cosine[0] / 2, *cosine[1:]])
    assert rates[0] > 0
    assert recipe.updated({"schedule": "onecycle"}).warmup == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"optimiser": "adam"}, "optimiser is 'adam', which is out of range"),
        ({"optimiser": "adamw", "momentum": 0.5}, "momentum is 0.5, but adamw has none"),
        ({"optimiser": "adamw", "nesterov": False}, "nesterov is False, but adamw has none"),
        ({"betas": (0.9, 0.95)}, "betas is .*, but sgd has none"),
        ({"optimiser": "adamw", "betas": (0.9, 1.0)}, "out of range"),
        ({"optimiser": "adamw", "betas": (0.9,)}, "out of range"),
        ({"warmup": 0.1}, "onecycle has its own"),
        ({"warmup": 1.0, "schedule": "linear"}, "out of range"),
        ({"clip": -1.0}, "out of range"),
        ({"clip": math.inf}, "out of range"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        Recipe(**settings)


def test_a_recipe_states_what_earlier_versions_stated_and_what_is_new_where_it_counts():
    assert set(Recipe().stated()) == {
        "epochs", "lr", "batch_size", "momentum", "nesterov", "weight_decay", "schedule", "augment", "accumulate"
    }  # fmt: skip
    stated = Recipe.adamw(epochs=3).stated()
    assert stated["optimiser"] == "adamw"
    assert stated["betas"] == (0.9, 0.999)
    assert stated["clip"] == 1.0
    assert not {"momentum", "nesterov"} & set(stated)
