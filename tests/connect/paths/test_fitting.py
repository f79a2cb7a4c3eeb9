"""Fits of curves: where they begin, which points move, where their steps take place, what their length costs."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import TensorDataset

from connect import Bezier, Concentrated, CurveFit, Path, PolygonalChain, find_path, profile, summarise
from connect.paths.fitting import Shortness
from connect.paths.geometry import Geometry
from landscape import (
    Combination,
    EmpiricalRisk,
    Interrupted,
    Keeping,
    ParameterSpace,
    Potential,
    Problem,
    Recipe,
    descend,
)
from landscape.errors import ConfigError, ProvenanceError
from landscape.problems.splits import StreamedSplit
from landscape.training.descent import Stratified
from tests.oracles import Signalling, problem_of
from tests.points import value_at

CPU = torch.device("cpu")

RECIPE = Recipe(epochs=5, lr=0.05, batch_size=7, momentum=0.9)


def pair(name="convolutions"):
    """A risk on one of the test networks, and two points."""
    problem = problem_of(name)
    space = ParameterSpace(problem.model)
    generator = torch.Generator().manual_seed(8)
    a, b = (space.theta + 0.2 * torch.randn(space.theta.shape, generator=generator) for _ in range(2))
    return EmpiricalRisk(space, problem, batch_size=8), a, b


def corner(a, b):
    """A path that is not straight."""
    return Path(torch.stack([a, (a + b) / 2 + 0.3 * (a - b).roll(1), b]), PolygonalChain(3))


# ------------------------------------------------------------------ where a fit begins


@pytest.mark.parametrize("curve", [Bezier(5), PolygonalChain(5), Bezier(3), PolygonalChain(9)])
@pytest.mark.parametrize("kind", [Bezier, PolygonalChain])
def test_a_fit_without_steps_is_the_path_that_it_starts_from(curve, kind):
    """Elevation and subdivision are exact, and a chain keeps to a curve's points; what cannot be kept stays close."""
    risk, a, b = pair()
    start = Path(corner(a, b).points, kind(3))
    path = find_path(risk, a, b, curve, Recipe(epochs=0), start=start)
    assert torch.equal(path.points[0], a)
    assert torch.equal(path.points[-1], b)
    if curve.name == start.curve.name:
        for t in np.linspace(0, 1, 17):
            torch.testing.assert_close(path(t), start(t), atol=1e-6, rtol=1e-5)
    elif curve.name == "chain":
        for t in np.linspace(0, 1, curve.control_points):
            torch.testing.assert_close(path(t), start(t), atol=1e-6, rtol=1e-5)
    else:
        straight = Path(torch.stack([a, b]), PolygonalChain(2))
        assert (path(0.5) - start(0.5)).norm() < 0.5 * (straight(0.5) - start(0.5)).norm()


def test_a_path_between_other_ends_is_refused():
    risk, a, b = pair()
    for start in (corner(b, a), corner(a, b + 1)):
        with pytest.raises(ConfigError, match="other ends"):
            find_path(risk, a, b, Bezier(3), RECIPE, start=start)


def test_the_path_that_a_fit_starts_from_stays_as_it_was():
    risk, a, b = pair()
    start = corner(a, b)
    before = copy.deepcopy(start.points)
    find_path(risk, a, b, PolygonalChain(3), RECIPE, start=start)
    assert torch.equal(start.points, before)


# ------------------------------------------------------------------ which points move


def test_free_ends_roll_down_and_fixed_ends_stay():
    bowl = Potential(lambda theta: theta.square().sum(), 3)
    a, b = torch.tensor([2.0, 0, 0]).double(), torch.tensor([0, 2.0, 1]).double()
    recipe = Recipe(epochs=600, lr=0.3, momentum=0.0, weight_decay=0.0, schedule="constant")
    fixed = find_path(bowl, a, b, Bezier(3), recipe)
    assert torch.equal(fixed.points[[0, -1]], torch.stack([a, b]))
    free = find_path(bowl, a, b, CurveFit(Bezier(3), free_ends=True), recipe)
    assert free.points.norm(dim=1).max() < 1e-3


def test_free_ends_move_by_their_share_of_the_gradient():
    """One step of plain descent moves every control point by -lr·c_i·g(θ(t))."""
    slope = torch.tensor([1.0, -2.0]).double()
    plane = Potential(lambda theta: theta @ slope, 2)
    a, b = torch.zeros(2).double(), torch.ones(2).double()
    seen = []

    class Spy:
        control_points, name = 4, "bezier"

        def coefficients(self, t):
            seen.append(Bezier(4).coefficients(t))
            return seen[-1]

    recipe = Recipe(epochs=1, lr=0.5, momentum=0.0, weight_decay=0.0, schedule="constant")
    moved = find_path(plane, a, b, CurveFit(Spy(), free_ends=True), recipe).points
    start = torch.stack([torch.lerp(a, b, i / 3) for i in range(4)])
    torch.testing.assert_close(moved, start - 0.5 * torch.outer(seen[0][0], slope))


def test_points_are_trained_where_they_lie():
    risk, a, b = pair()
    expected = find_path(risk, a, b, Bezier(3), RECIPE).points
    risk, a, b = pair()
    method = CurveFit(Bezier(3))
    begun = method.begin(a, b)
    path = method.train(risk, begun, RECIPE)
    assert path.points.data_ptr() == begun.points.data_ptr()
    assert torch.equal(begun.points, expected)


# ------------------------------------------------------------------ length


@given(seed=st.integers(0, 100), count=st.integers(2, 6))
def test_the_penalty_on_length_against_finite_differences(seed, count):
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(count, 4, generator=generator, dtype=torch.float64)
    distance = 1.7

    def penalty(candidate):
        return 0.3 * (count - 1) * float(candidate.diff(dim=0).square().sum()) / distance**2

    gradient = Shortness(0.3, distance)(points) @ points
    for _ in range(3):
        direction = torch.randn(count, 4, generator=generator, dtype=torch.float64)
        step = 1e-5 * direction
        slope = (penalty(points + step) - penalty(points - step)) / 2e-5
        assert float((gradient * direction).sum()) == pytest.approx(slope, rel=1e-6, abs=1e-8)


def test_the_penalty_of_the_straight_line_is_its_weight_and_bounds_the_length_of_every_curve():
    generator = torch.Generator().manual_seed(0)
    for curve in (Bezier(4), PolygonalChain(5)):
        points = torch.randn(curve.control_points, 6, generator=generator, dtype=torch.float64)
        path = Path(points, curve)
        form = Shortness(1.0, path.distance())(points)
        told = float((points * (form @ points)).sum()) / 2
        assert told >= (path.length() / path.distance()) ** 2
        straight = torch.stack([torch.lerp(points[0], points[-1], i / 7) for i in range(8)])
        form = Shortness(1.0, path.distance())(straight)
        assert float((straight * (form @ straight)).sum()) / 2 == pytest.approx(1.0)


def test_a_penalty_shortens_a_curve_over_a_ring():
    ring = Potential(lambda theta: (theta.square().sum() - 1).square(), 2)
    a, b = (torch.tensor([math.cos(angle), math.sin(angle)]).double() for angle in (0, 2 * math.pi / 3))
    recipe = Recipe(epochs=500, lr=0.05, momentum=0.5, weight_decay=0.0)
    lengths = [find_path(ring, a, b, CurveFit(Bezier(4), length_weight=w), recipe).length() for w in (0.0, 0.05, 5.0)]
    assert lengths[0] > 1.01 * lengths[1] > 1.02 * lengths[2]
    assert lengths[2] == pytest.approx(math.sqrt(3), rel=0.01)


# ------------------------------------------------------------------ where steps take place


@given(seed=st.integers(0, 50), steps=st.integers(1, 60), share=st.floats(0, 0.9))
def test_places_are_in_the_interval_and_follow_from_generator_and_memory(seed, steps, share):
    sampler = Concentrated(share)
    memory = torch.rand(len(sampler.start()), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    one, two = (sampler.draw(steps, torch.Generator().manual_seed(seed), memory) for _ in range(2))
    assert torch.equal(one, two)
    assert one.shape == (steps,)
    assert float(one.min()) >= 0
    assert float(one.max()) <= 1


def test_steps_gather_where_the_loss_was_high():
    """The density is (1 - share) + share·loss / mean loss, which says how many of many draws fall into each bin."""
    sampler = Concentrated(share=0.6)
    memory = sampler.start()
    places = torch.linspace(0, 1, 3201, dtype=torch.float64)
    memory = sampler.remember(memory, places, 1 + 9 * (places > 0.75).double())
    drawn = sampler.draw(20_000, torch.Generator().manual_seed(0), memory)
    expected = 0.25 * (0.4 + 0.6 * 10 / 3.25)
    assert float((drawn > 0.75).double().mean()) == pytest.approx(expected, abs=0.01)
    even = sampler.draw(20_000, torch.Generator().manual_seed(0), sampler.start())
    assert float((even > 0.75).double().mean()) == pytest.approx(0.25, abs=0.001)


def test_what_was_met_lately_counts_more():
    sampler = Concentrated()
    places = torch.tensor([0.1, 0.9]).double()
    memory = sampler.remember(sampler.start(), places, torch.tensor([4.0, 1.0]).double())
    memory = sampler.remember(memory, places[:1], torch.tensor([2.0]).double())
    known = memory[memory > 0].tolist()
    assert known == [3.0, 1.0]


def test_concentrated_steps_lower_the_pass_of_a_sharp_ridge():
    """Where a narrow wall stands across the way, which pushes upwards alone, uniform steps seldom meet it."""
    wall = Potential(lambda theta: torch.exp(-((theta[0].detach() / 0.1) ** 2)) * (1.5 - theta[1]).clamp_min(0), 2)
    a, b = torch.tensor([-1.0, 0]).double(), torch.tensor([1.0, 0]).double()
    recipe = Recipe(epochs=400, lr=0.02, momentum=0.0, weight_decay=0.0, schedule="constant")
    tops = {}
    for name, sampler in (("uniform", Stratified()), ("concentrated", Concentrated(0.9))):
        path = find_path(wall, a, b, CurveFit(Bezier(3), sampler), recipe)
        tops[name] = summarise(profile(path, wall))["path"].max_loss
    assert tops["concentrated"] < 0.7 * tops["uniform"]


@pytest.mark.parametrize("settings", [{"share": 1.0}, {"share": -0.1}, {"power": -1.0}])
def test_densities_that_are_none_are_refused(settings):
    with pytest.raises(ConfigError, match="share"):
        Concentrated(**settings)


# ------------------------------------------------------------------ stopped and resumed

FITS = {
    "bezier": (Bezier(3), RECIPE),
    "chain": (PolygonalChain(5), RECIPE),
    "free ends": (CurveFit(Bezier(4), free_ends=True), RECIPE),
    "concentrated": (CurveFit(Bezier(3), Concentrated()), RECIPE),
    "length": (CurveFit(Bezier(4), length_weight=0.1), RECIPE),
    "adamw": (CurveFit(Bezier(4), length_weight=0.1), Recipe.adamw(epochs=5, lr=0.01, batch_size=7, accumulate=2)),
    "accumulated images": (Bezier(3), Recipe(epochs=5, batch_size=7, accumulate=3, augment="crop,flip")),
}


CASES = [
    (kind, name)
    for kind in FITS
    for name in ("convolutions", "buffers")
    if (kind, name) != ("accumulated images", "buffers")
]


@pytest.mark.parametrize("after", [1, 8, 10])
@pytest.mark.parametrize(("kind", "network"), CASES)
def test_a_stopped_fit_goes_on_to_the_same_bits(tmp_path, kind, network, after):
    """Within an epoch of four steps, at its end, and later; with dropout and batch norm."""

    def fit(**more):
        return find_path(*pair(network), *FITS[kind], seed=3, **more)

    whole = fit()
    file = tmp_path / "state.safetensors"
    with pytest.raises(Interrupted, match="--resume"):
        fit(keeping=Keeping(file, {"x": 1}), report=Signalling(after))
    with pytest.raises(ProvenanceError):
        fit(keeping=Keeping(file, {"x": 2}, resume=True))
    gone_on = fit(keeping=Keeping(file, {"x": 1}, resume=True))
    assert torch.equal(gone_on.points, whole.points)
    assert torch.equal(gone_on.losses, whole.losses)


# ------------------------------------------------------------------ a path's networks and its geometry


@pytest.mark.parametrize("name", ["plain", "buffers", "tied"])
def test_the_network_at_t_is_the_objective_there(name):
    risk, a, b = pair(name)
    path = find_path(risk, a, b, Bezier(3), RECIPE)
    (inputs, labels) = problem_of(name).data.splits["train"].tensors
    for t in (0.0, 0.3, 1.0):
        network = path.module(t)
        assert not network.training
        with torch.no_grad():
            loss = torch.nn.functional.cross_entropy(network(inputs), labels)
        assert float(loss) == pytest.approx(float(value_at(risk, path(t))), abs=1e-5)
    before = float(value_at(risk, path(0.3)))
    one, other = path.module(0.3), path.module(0.6)
    next(one.parameters()).data.zero_()
    assert next(other.parameters()).abs().sum() > 0
    assert float(value_at(risk, path(0.3))) == before


def test_networks_outside_and_networks_of_potentials_are_refused():
    risk, a, b = pair("plain")
    path = find_path(risk, a, b, Bezier(3), Recipe(epochs=0))
    for t in (-0.1, 1.1, math.nan):
        with pytest.raises(ConfigError, match=r"expected a number in \[0, 1\]"):
            path.module(t)
    with pytest.raises(ConfigError, match="does not know a network"):
        Path(path.points, path.curve).module(0.5)


@pytest.mark.parametrize("curve", [Bezier(3), Bezier(6), PolygonalChain(4)])
def test_lengths_angles_and_norms_against_a_dense_walk(curve):
    points = torch.randn(curve.control_points, 7, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    geometry = Geometry(points, curve)
    dense = torch.linspace(0, 1, 60_001, dtype=torch.float64)
    walk = curve.coefficients(dense) @ points
    steps = walk.diff(dim=0)
    way = np.concatenate([[0], steps.norm(dim=1).cumsum(0).numpy()])
    t = np.linspace(0, 1, 13)
    cut = 1e-3 if curve.name == "chain" else 1e-6  # a corner between two of 4096 pieces is cut
    np.testing.assert_allclose(geometry.arc(t), np.interp(t, dense, way), rtol=cut, atol=1e-9)
    assert way[-1] * (1 - cut) <= geometry.length <= way[-1] * (1 + 1e-9)
    np.testing.assert_allclose(geometry.norm(t), np.interp(t, dense, walk.norm(dim=1)), rtol=1e-6)
    even = geometry.even(9)
    assert even[0] == 0
    assert even[-1] == 1
    np.testing.assert_allclose(np.diff(np.interp(even, dense, way)), way[-1] / 8, rtol=1e-3)
    inside = t[(t > 0) & (t < 1) & (np.abs(t * 3 - np.round(t * 3)) > 1e-6)]
    chord = points[-1] - points[0]
    for at, angle in zip(inside, geometry.angle(inside), strict=True):
        step = steps[int(at * 60_000)]
        wanted = math.degrees(math.acos(float(step @ chord / (step.norm() * chord.norm()))))
        assert angle == pytest.approx(wanted, abs=0.05)


def test_a_straight_line_has_no_angle_and_passes_evenly():
    geometry = Geometry(torch.tensor([[0.0, 1], [3.0, 5]]), PolygonalChain(2))
    assert geometry.length == geometry.distance == pytest.approx(5.0)
    np.testing.assert_allclose(geometry.angle(np.array([0.0, 0.5, 1.0])), 0.0, atol=1e-3)
    np.testing.assert_allclose(geometry.even(5), np.linspace(0, 1, 5))


# ------------------------------------------------------------------ what a resume must share, and who may look on


@pytest.mark.parametrize(
    "changed",
    [
        {"curve": PolygonalChain(3)},
        {"free_ends": True},
        {"sampler": Concentrated()},
        {"sampler": Concentrated(share=0.5)},
        {"length_weight": 0.5},
        {"seed": 4},
        {"ends": 1.0},
    ],
    ids=str,
)
def test_a_state_of_another_fit_is_refused(tmp_path, changed):
    """By the library as by the command, which knows its settings from the flags."""
    file = tmp_path / "state.safetensors"
    before = CurveFit(sampler=Concentrated()) if changed == {"sampler": Concentrated(share=0.5)} else CurveFit()
    with pytest.raises(Interrupted):
        find_path(*pair(), before, RECIPE, seed=3, keeping=Keeping(file), report=Signalling(5))
    risk, a, b = pair()
    others = {"ends": 0.0, "seed": 3, **changed}
    b, seed = b + others.pop("ends"), others.pop("seed")
    with pytest.raises(ProvenanceError):
        find_path(risk, a, b, replace(before, **others), RECIPE, seed=seed, keeping=Keeping(file, resume=True))


@pytest.mark.parametrize("name", ["buffers", "convolutions"])
def test_who_looks_between_epochs_sees_the_network_in_evaluation_mode(name):
    risk, a, b = pair(name)
    seen = []

    class Middle:
        free = slice(1, 2)
        coefficients = Bezier(3).coefficients

    def look(epoch, points):
        assert not risk.space.network.training
        seen.append((points[1].clone(), float(value_at(risk, points[1]))))

    start = torch.stack([a, torch.lerp(a, b, 0.5), b])
    points = descend(risk, start, Combination(Middle()), RECIPE, after_epoch=look).points
    assert len(seen) == RECIPE.epochs
    for theta, value in seen:
        risk.space.load_buffers(pair(name)[0].space.buffers())
        assert float(value_at(pair(name)[0], theta)) == pytest.approx(value, rel=1e-5)
    assert torch.equal(points, find_path(*pair(name), Bezier(3), RECIPE).points)


def test_a_stopped_fit_on_streamed_data_goes_on_to_the_same_bits(tmp_path):
    """A loader of data must not draw from the generator of dropout."""
    problem = problem_of("convolutions")
    inputs, labels = problem.data.splits["train"].tensors
    streamed = Problem.of(problem.model, {"train": StreamedSplit(TensorDataset(inputs, labels), CPU, workers=0)})

    def fit(**more):
        space = ParameterSpace(problem.model)
        risk = EmpiricalRisk(space, streamed, batch_size=8)
        return find_path(risk, space.theta.clone(), space.theta + 0.1, Bezier(3), RECIPE, **more).points

    whole = fit()
    for after in (6, 8):
        file = tmp_path / f"{after}.safetensors"
        with pytest.raises(Interrupted):
            fit(keeping=Keeping(file), report=Signalling(after))
        assert torch.equal(fit(keeping=Keeping(file, resume=True)), whole)


def test_heights_below_zero_have_a_say_in_where_steps_gather():
    sampler = Concentrated(share=0.6)
    places = torch.linspace(0, 1, 3201, dtype=torch.float64)
    memory = sampler.remember(sampler.start(), places, -10 + 9.0 * (places > 0.75).double())
    drawn = sampler.draw(20_000, torch.Generator().manual_seed(0), memory)
    assert float((drawn > 0.75).double().mean()) == pytest.approx(0.25 * 0.4 + 0.6, abs=0.01)
    nothing = sampler.remember(sampler.start(), places, torch.zeros_like(places))
    drawn = sampler.draw(20_000, torch.Generator().manual_seed(0), nothing)
    assert float((drawn > 0.75).double().mean()) == pytest.approx(0.25, abs=0.001)
