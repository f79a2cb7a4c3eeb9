"""Elastic bands: on surfaces where the passes are known, step by step against a naive band, stopped and resumed."""

import math
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from connect import Band, GrowingBand, Path, PolygonalChain, find_path
from connect.paths.autoneb import DEFAULT_CYCLES, Cycle, parse_cycles, sagging
from connect.paths.neb import band_tangent, redistribute
from landscape import (
    Combination,
    EmpiricalRisk,
    Interrupted,
    Keeping,
    ParameterSpace,
    Potential,
    Recipe,
    SinglePoint,
    descend,
)
from landscape.errors import ConfigError, LayoutError, ProvenanceError
from tests.oracles import MULLER_BROWN_MINIMA, MULLER_BROWN_SADDLES, Signalling, problem_of
from tests.surfaces import SURFACES, distances, downhill, flood, gradient, hessian, surface

TOLERANCE = 1e-4
BOX = ((-1.8, 1.8), (-1.2, 2.4))


def plain(**settings):
    """Descent without weight decay, so that it ends where the surface says."""
    return Recipe(**{"momentum": 0.5, "weight_decay": 0.0, "schedule": "linear", **settings})


@cache
def fitted(name, band, steps=150, over=None):
    """A band between the two ends of a surface, from the straight line or over a third point."""
    known = surface(name)
    a, b = known.ends
    start = over and Path(torch.stack([a, torch.tensor(over, dtype=torch.float64), b]), PolygonalChain(3))
    return find_path(
        Potential(known.function, len(a)), a, b, band, plain(epochs=steps, lr=known.rate), start=start
    ).points


OVER_THE_SHALLOW_HOLE = (0.0, 1.5)
THROUGH_BOTH_SADDLES = [
    ("Müller-Brown", None, (0, 1)),
    ("three holes", OVER_THE_SHALLOW_HOLE, (1, 2)),
]


def test_the_references_are_those_of_the_literature():
    known = surface("Müller-Brown")
    for found, written in ((known.minima, MULLER_BROWN_MINIMA), (known.saddles, MULLER_BROWN_SADDLES)):
        for point, (x, y, height) in zip(found, written, strict=False):
            assert point.tolist() == pytest.approx([x, y], abs=1e-6)
            assert float(known.function(point)) == pytest.approx(height, abs=1e-5)
    assert known.bottleneck == pytest.approx(MULLER_BROWN_SADDLES[0][2], abs=1e-5)


@pytest.mark.parametrize("name", SURFACES)
def test_the_references_are_stationary(name):
    known = surface(name)
    for points, falling in ((known.minima, 0), (known.saddles, 1)):
        for point in points:
            assert gradient(known.function, point).norm() < 1e-8
            assert int((torch.linalg.eigvalsh(hessian(known.function, point)) < 0).sum()) == falling
    assert known.bottleneck == pytest.approx(float(known.heights(known.saddles).min()), abs=1e-9) or (
        name == "Müller-Brown"
    )


def test_water_that_rises_on_a_fine_grid_joins_the_holes_at_the_pass():
    """Newton's method and the flood know nothing of each other."""
    known = surface("three holes")
    missed = [abs(flood(known.function, *known.ends, BOX, count)[0] - known.bottleneck) for count in (80, 640)]
    assert missed[1] < missed[0] / 10
    assert missed[1] < TOLERANCE / 10


@pytest.mark.parametrize("name", SURFACES)
def test_descent_ends_in_the_minima(name):
    known = surface(name)
    potential = Potential(known.function, known.minima.shape[1])
    for minimum in known.minima:
        start = minimum + 0.1 * torch.ones_like(minimum)
        found = descend(potential, start[None], Combination(SinglePoint()), plain(epochs=300, lr=known.rate)).points[0]
        assert float(known.function(found)) == pytest.approx(float(known.function(minimum)), abs=TOLERANCE)
        assert float((found - minimum).norm()) < 0.01


@pytest.mark.parametrize("name", SURFACES)
def test_a_climbing_image_rests_at_the_saddle(name):
    known = surface(name)
    points = fitted(name, Band(images=7, climb="highest"))
    highest = points[known.heights(points).argmax()]
    assert float(known.function(highest)) == pytest.approx(float(known.function(known.saddles[0])), abs=TOLERANCE)
    assert float((highest - known.saddles[0]).norm()) < 0.01


@pytest.mark.parametrize(("name", "over", "which"), THROUGH_BOTH_SADDLES)
def test_climbing_images_find_both_saddles_of_one_band(name, over, which):
    known = surface(name)
    heights = known.heights(fitted(name, Band(images=9, climb="all"), 300, over)).tolist()
    tops = [
        here for before, here, after in zip(heights, heights[1:], heights[2:], strict=False) if before < here > after
    ]
    assert tops == pytest.approx(known.heights(known.saddles[list(which)]).tolist(), abs=TOLERANCE)


def test_the_lowest_band_passes_the_bottleneck():
    """Of the two valleys between the deep holes, the straight line leads into the one with the higher pass."""
    bands = {
        "Müller-Brown": [fitted("Müller-Brown", Band(images=7, climb="highest"))],
        "bent well": [fitted("bent well", Band(images=7, climb="highest"))],
        "three holes": [
            fitted("three holes", Band(images=7, climb="highest")),
            fitted("three holes", Band(images=9, climb="all"), 300, OVER_THE_SHALLOW_HOLE),
        ],
    }
    for name, found in bands.items():
        tops = [float(surface(name).heights(points).max()) for points in found]
        assert min(tops) == pytest.approx(surface(name).bottleneck, abs=TOLERANCE)
        assert tops == sorted(tops, reverse=True)


@pytest.mark.proof
@pytest.mark.parametrize("name", ["three holes", "bent well"])
def test_images_come_to_lie_on_the_way_of_steepest_descent(name):
    """Tangents towards one neighbour are those of the way up to their distance: thrice as many, a third as far."""
    known = surface(name)
    way = downhill(known.function, known.saddles[0], 1000 * known.rate)
    a, b = known.ends
    straight = torch.stack([torch.lerp(a, b, share) for share in torch.linspace(0, 1, 9).tolist()])
    assert distances(straight, way).max() > 0.2
    for settings in ({}, {"climb": "highest"}, {"spring": 5.0}):
        few, many = (distances(fitted(name, Band(images=count, **settings), 100), way).max() for count in (9, 25))
        assert many < few / 2
        assert few < 0.02


@pytest.mark.parametrize("name", ["three holes", "bent well"])
def test_springs_and_even_distances_give_the_same_band(name):
    even, sprung = (fitted(name, Band(images=9, spring=spring)) for spring in (0.0, 5.0))
    torch.testing.assert_close(even, sprung, atol=0.02, rtol=0)
    gaps = even.diff(dim=0).norm(dim=1)
    torch.testing.assert_close(gaps, gaps.mean().expand(8), rtol=0.03, atol=0)
    heights = surface(name).heights
    assert float(heights(even).max()) == pytest.approx(float(heights(sprung).max()), abs=1e-3)


def test_springs_that_climb_find_the_same_saddle():
    known = surface("Müller-Brown")
    heights = known.heights(fitted("Müller-Brown", Band(images=7, spring=20.0, climb="highest")))
    assert float(heights.max()) == pytest.approx(known.bottleneck, abs=TOLERANCE)


def naive_band(known, images, steps, recipe, spring, climbs_from):
    """Steps of a band as the papers say them, image after image, in numpy; an optimiser of torch moves each image."""
    a, b = (end.numpy() for end in known.ends)
    points, heights = np.linspace(a, b, images), None
    held = [torch.from_numpy(point) for point in points]  # in the same memory
    if recipe.optimiser == "adamw":
        optimiser = torch.optim.AdamW(held, recipe.lr, recipe.betas, weight_decay=recipe.weight_decay)
    else:
        optimiser = torch.optim.SGD(held, recipe.lr, recipe.momentum)
    for step in range(steps):
        climber = 1 + int(np.argmax(heights[1:-1])) if step >= climbs_from else None
        for i in range(1, images - 1):
            ahead, behind = points[i + 1] - points[i], points[i] - points[i - 1]
            tangent = ahead
            if heights is not None:
                low, here, high = heights[i - 1 : i + 2]
                small, large = sorted([abs(high - here), abs(low - here)])
                if low > here > high:
                    tangent = behind
                elif not low < here < high:
                    tangent = large * ahead + small * behind if high > low else small * ahead + large * behind
            tangent = tangent / np.linalg.norm(tangent)
            slope = gradient(known.function, torch.from_numpy(points[i])).numpy()
            along = slope @ tangent
            force = -slope + along * tangent
            if i == climber:
                force += along * tangent
            else:
                force += spring * (np.linalg.norm(ahead) - np.linalg.norm(behind)) * tangent
            held[i].grad = torch.from_numpy(-force)
        heights = known.heights(torch.from_numpy(points)).numpy()
        optimiser.step()
        if not spring:
            for left, right in pairwise([0, climber, images - 1] if climber else [0, images - 1]):
                run = points[left : right + 1]
                way = np.concatenate([[0], np.linalg.norm(np.diff(run, axis=0), axis=1).cumsum()])
                even = np.linspace(0, way[-1], len(run))
                shares = [np.interp(even, way, column) for column in run.T]
                points[left : right + 1] = np.stack(shares, axis=1)
    return points


@pytest.mark.parametrize("spring", [0.0, 30.0])
@pytest.mark.parametrize("climb", ["none", "highest"])
@pytest.mark.parametrize(
    "recipe",
    [
        plain(epochs=30, lr=2e-4, momentum=0.3, schedule="constant"),
        Recipe.adamw(epochs=30, lr=0.02, weight_decay=0.5, schedule="constant", warmup=0.0, clip=0.0),
    ],
    ids=["sgd", "adamw"],
)
def test_the_steps_of_a_band_are_those_of_a_naive_one(spring, climb, recipe):
    known = surface("Müller-Brown")
    band = Band(images=6, spring=spring, climb=climb, settle=0.5)
    path = find_path(Potential(known.function, 2), *known.ends, band, recipe)
    expected = naive_band(known, 6, 30, recipe, spring, 15 if climb == "highest" else 30)
    np.testing.assert_allclose(path.points.numpy(), expected, atol=1e-9)
    inner = [known.heights(torch.from_numpy(naive_band(known, 6, n, recipe, spring, 99)))[1:-1] for n in (0, 5)]
    assert path.losses[[0, 5]].tolist() == pytest.approx([float(heights.mean()) for heights in inner])


def test_an_image_that_climbs_by_adamw_rests_at_the_saddle():
    """Its rule scales each coordinate by itself, which moves images along the band, but rests where the force does."""
    known = surface("Müller-Brown")
    recipe = Recipe.adamw(epochs=200, lr=0.02, weight_decay=0.0, schedule="linear")
    found = find_path(Potential(known.function, 2), *known.ends, Band(images=7, climb="highest"), recipe).points
    highest = found[known.heights(found).argmax()]
    assert float((highest - known.saddles[0]).norm()) < 0.01


def test_weight_decay_pulls_the_images_and_not_the_ends():
    """On a flat surface an image moves by -lr·decay·θ without what lies along the band."""
    a, b = torch.tensor([-1.0, 2.0]).double(), torch.tensor([3.0, 2.0]).double()
    flat = Potential(lambda theta: 0 * theta.sum(), 2)
    recipe = Recipe(epochs=1, lr=0.5, momentum=0.0, weight_decay=0.1, schedule="constant")
    points = find_path(flat, a, b, Band(images=5, spring=1.0), recipe).points
    expected = torch.tensor([[-1, 2], [0, 1.9], [1, 1.9], [2, 1.9], [3, 2]]).double()
    torch.testing.assert_close(points, expected)


def test_no_epoch_leaves_the_band_where_it_began():
    known = surface("three holes")
    a, b = known.ends
    corner = torch.tensor([0.5, 2.0]).double()
    start = Path(torch.stack([a, corner, b]), PolygonalChain(3))
    path = find_path(Potential(known.function, 2), a, b, Band(images=5), Recipe(epochs=0), start=start)
    torch.testing.assert_close(path.points, torch.stack([a, (a + corner) / 2, corner, (corner + b) / 2, b]))
    assert path.losses.shape == (0,)
    assert path.curve == PolygonalChain(5)


def dense_top(known, points):
    """The largest height along a chain, between its images too."""
    path = Path(points, PolygonalChain(len(points)))
    return float(known.heights(torch.stack([path(t) for t in np.linspace(0, 1, 1001)])).max())


def grown(name, growth, over=None):
    known = surface(name)
    a, b = known.ends
    start = over and Path(torch.stack([a, torch.tensor(over, dtype=torch.float64), b]), PolygonalChain(3))
    return find_path(Potential(known.function, len(a)), a, b, growth, plain(), start=start)


@pytest.mark.proof
@pytest.mark.parametrize(
    ("name", "cycles", "over", "saddle"),
    [
        ("Müller-Brown", "4x80@2e-4,1x80@1e-4", None, 0),
        ("three holes", "4x80@0.01", OVER_THE_SHALLOW_HOLE, 1),
        ("bent well", "4x80@0.01", None, 0),
    ],
)
def test_a_band_that_cuts_corners_grows_until_it_follows_the_valley(name, cycles, over, saddle):
    """Along all of the chain the height stays within 2 % of the band's range of the saddle; the band that may not grow
    misses it by more.
    """
    known = surface(name)
    pass_ = float(known.function(known.saddles[saddle]))
    near = 0.02 * (pass_ - float(known.heights(known.minima).min()))
    few = GrowingBand(images=3, most_images=3, cycles=parse_cycles(cycles), sag=0.02)
    assert dense_top(known, grown(name, few, over).points) > pass_ + near
    path = grown(name, GrowingBand(images=3, most_images=15, cycles=few.cycles, sag=0.02), over)
    assert 6 <= len(path.points) <= 15
    assert pass_ - 1e-6 <= dense_top(known, path.points) < pass_ + near
    assert path.losses.shape == (sum(cycle.epochs for cycle in few.cycles),)
    for found, end in zip((path.points[0], path.points[-1]), known.ends, strict=True):
        assert torch.equal(found, end)


def test_the_worst_places_get_the_images_that_are_left():
    known = surface("Müller-Brown")
    still = parse_cycles("2x1@1e-12")
    whole = grown("Müller-Brown", GrowingBand(images=4, most_images=9, cycles=still, sag=0.01)).points
    a, b = known.ends
    straight = torch.stack([torch.lerp(a, b, share) for share in (0, 1 / 3, 2 / 3, 1)])
    places = sagging(Potential(known.function, 2), straight, GrowingBand(images=4, most_images=9, sag=0.01))
    assert len(places) >= 2
    assert len(whole) == 4 + len(places)
    more = grown("Müller-Brown", GrowingBand(images=4, most_images=5, cycles=still, sag=0.01)).points
    piece, part = places[0]
    image = torch.lerp(straight[piece], straight[piece + 1], part)
    expected = torch.cat([straight[: piece + 1], image[None], straight[piece + 1 :]])
    torch.testing.assert_close(more, expected)


def test_a_band_sags_where_the_height_between_images_is_above_the_line():
    """On -x² from -1 to 3 the line between images is below the parabola by (width/2)², most in the middle."""
    hill = Potential(lambda theta: -(theta[0] ** 2), 1)
    points = torch.tensor([[-1.0], [1.0], [2.0], [3.0]]).double()
    assert sagging(hill, points, GrowingBand(images=3, sag=0.05, checks=3)) == [(0, 0.5)]
    places = sagging(hill, points, GrowingBand(images=3, sag=0.02, checks=3))
    assert places[0] == (0, 0.5)
    assert set(places) == {(0, 0.5), (1, 0.5), (2, 0.5)}
    assert sagging(hill, points, GrowingBand(images=3, sag=0.2, checks=3)) == []
    bowl = Potential(lambda theta: theta[0] ** 2, 1)
    assert sagging(bowl, points, GrowingBand(images=3, sag=1e-6, checks=3)) == []


@pytest.mark.parametrize(
    ("low", "here", "high", "expected"),
    [
        (0, 1, 2, [1, 0]),  # up: towards the higher neighbour
        (2, 1, 0, [0, 1]),
        (0, 5, 2, [5, 3]),  # at a maximum the side of the higher neighbour weighs by the larger difference
        (2, 5, 0, [3, 5]),
        (4, 1, 3, [2, 3]),  # and so at a minimum
        (3, 1, 4, [3, 2]),
        (1, 1, 1, [1, 1]),  # flat
        (0, 2, 0, [1, 1]),  # as high on both sides
        (1, 1, 3, [2, 0]),  # a step: only the side that rises counts
    ],
)
def test_tangents_of_henkelman_and_jonsson(low, here, high, expected):
    """The image after lies ahead along x, the image before behind along y, at other distances."""
    ahead, behind = torch.tensor([3.0, 0.0]).double(), torch.tensor([0.0, 2.0]).double()
    tangent, *distances_ = band_tangent(-behind, torch.zeros(2).double(), ahead.clone(), low, here, high)
    wanted = expected[0] * ahead + expected[1] * behind
    torch.testing.assert_close(tangent, wanted / wanted.norm())
    assert [float(distance) for distance in distances_] == [3.0, 2.0]


def test_three_images_in_one_place_have_no_tangent():
    here = torch.ones(3)
    assert torch.equal(band_tangent(here, here.clone(), here.clone(), 1.0, 1.0, 1.0)[0], torch.zeros(3))


@given(
    seed=st.integers(0, 1000),
    count=st.integers(3, 9),
    held=st.sets(st.integers(1, 7), max_size=3),
)
def test_redistribution_puts_images_at_their_shares_and_leaves_the_others(seed, count, held):
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    shares = torch.cat(
        [torch.zeros(1), torch.rand(count - 2, generator=generator).sort().values, torch.ones(1)]
    ).double()
    held = sorted(i for i in held if i < count - 1)
    before = points.clone()
    redistribute(points, shares, held)
    way = np.concatenate([[0], np.linalg.norm(np.diff(before.numpy(), axis=0), axis=1).cumsum()])
    for left, right in pairwise([0, *held, count - 1]):
        assert torch.equal(points[left], before[left])
        part = shares[left : right + 1].numpy()
        wanted = way[left] + (part - part[0]) / (part[-1] - part[0]) * (way[right] - way[left])
        placed = np.stack([np.interp(wanted, way, column) for column in before.numpy().T], axis=1)
        np.testing.assert_allclose(points[left : right + 1].numpy(), placed, atol=1e-12)


def test_even_images_of_a_straight_band_stay():
    points = torch.linspace(0, 1, 6).double()[:, None] * torch.ones(4).double()
    moved = points.clone()
    redistribute(moved, torch.linspace(0, 1, 6).double(), [])
    torch.testing.assert_close(moved, points)


# ------------------------------------------------------------------ networks


def pair(name):
    """A risk on one of the test networks, with dropout and batch norm among them, and two points."""
    problem = problem_of(name)
    space = ParameterSpace(problem.model)
    generator = torch.Generator().manual_seed(8)
    a, b = (space.theta + 0.2 * torch.randn(space.theta.shape, generator=generator) for _ in range(2))
    return EmpiricalRisk(space, problem, batch_size=8), a, b


RECIPE = Recipe(epochs=4, lr=0.05, batch_size=7, momentum=0.9, schedule="linear")
ADAMW = Recipe.adamw(epochs=4, lr=0.01, batch_size=7)
FITS = {
    "neb": lambda risk, a, b, **more: find_path(risk, a, b, Band(5, climb="highest"), RECIPE, seed=3, **more),
    "springs": lambda risk, a, b, **more: find_path(
        risk, a, b, Band(4, spring=0.1, climb="all", settle=0.2), RECIPE, seed=3, **more
    ),
    "adamw": lambda risk, a, b, **more: find_path(risk, a, b, Band(4, climb="highest"), ADAMW, seed=3, **more),
    "adamw autoneb": lambda risk, a, b, **more: find_path(
        risk, a, b, GrowingBand(3, 6, parse_cycles("2x2@0.01,1x3@0.001"), sag=0.01), ADAMW, seed=3, **more
    ),
    "autoneb": lambda risk, a, b, **more: find_path(
        risk, a, b, GrowingBand(3, 6, parse_cycles("2x2@0.05,1x3@0.01"), sag=0.01), RECIPE, seed=3, **more
    ),
}


@pytest.mark.parametrize("after", [1, 4, 11, 14])
@pytest.mark.parametrize(
    ("kind", "network"),
    [(k, n) for k in FITS for n in ("convolutions", "buffers") if not (k.startswith("adamw") and n == "buffers")],
)
def test_a_stopped_band_goes_on_to_the_same_bits(tmp_path, kind, network, after):
    """Units are steps, four an epoch: within an epoch, at its end, in a later cycle, and one before the end."""
    fit = FITS[kind]
    whole = fit(*pair(network))
    file = tmp_path / "state.safetensors"
    with pytest.raises(Interrupted, match="--resume"):
        fit(*pair(network), keeping=Keeping(file, {"x": 1}), report=Signalling(after))
    assert file.exists()
    with pytest.raises(ProvenanceError):
        fit(*pair(network), keeping=Keeping(file, {"x": 2}, resume=True))
    gone_on = fit(*pair(network), keeping=Keeping(file, {"x": 1}, resume=True))
    assert torch.equal(gone_on.points, whole.points)
    assert torch.equal(gone_on.losses, whole.losses)


@pytest.mark.parametrize("kind", FITS)
def test_a_band_of_networks_slides_down_and_its_ends_stay(kind):
    risk, a, b = pair("plain")
    path = FITS[kind](risk, a, b)
    assert torch.equal(path.points[0], a)
    assert torch.equal(path.points[-1], b)
    assert path.losses[-1] < path.losses[0]
    straight = torch.lerp(a, b, 0.5)
    assert (path(0.5) - straight).norm() > 0.01
    assert isinstance(path.module(0.5), torch.nn.Module)


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Band(images=2), "2 images, expected at least 3"),
        (lambda: Band(spring=-1.0), "spring is -1.0"),
        (lambda: Band(settle=1.5), "settle 1.5"),
        (lambda: Band(climb="lowest"), "climb is 'lowest'"),
        (lambda: GrowingBand(images=9, most_images=5), "9 to 5"),
        (lambda: GrowingBand(cycles=()), "at least one cycle"),
        (lambda: GrowingBand(sag=0.0), "sag above 0"),
        (lambda: GrowingBand(checks=0), "checks at least 1"),
        (lambda: Cycle(0, 0.1), "0 epochs"),
        (lambda: Cycle(1, math.inf), "rate inf"),
        (lambda: parse_cycles("4x5"), "expected number x epochs @ rate"),
        (lambda: parse_cycles("0x2@0.1"), "expected one cycle or more"),
        (lambda: parse_cycles("2x2@e"), "expected number x epochs @ rate"),
        (lambda: parse_cycles(""), "expected number x epochs @ rate"),
    ],
)
def test_bands_that_make_no_sense_are_refused(make, words):
    with pytest.raises(ConfigError, match=words):
        make()


def test_cycles_are_read_as_they_are_written():
    assert parse_cycles("2x3@0.1, 1x5@1e-2") == (Cycle(3, 0.1), Cycle(3, 0.1), Cycle(5, 0.01))
    assert [cycle.lr for cycle in DEFAULT_CYCLES] == [0.1] * 6 + [0.01] * 4 + [0.001] * 4


@pytest.mark.parametrize("method", [Band(), GrowingBand()])
def test_ends_that_a_band_cannot_join_are_refused(method):
    flat = Potential(lambda theta: theta.sum(), 2)
    a, b = torch.zeros(2).double(), torch.ones(2).double()
    with pytest.raises(ConfigError, match="same point"):
        find_path(flat, a, a.clone(), method)
    with pytest.raises(LayoutError, match=r"shapes \(2,\) and \(3,\)"):
        find_path(flat, a, torch.zeros(3).double(), method)
    with pytest.raises(ConfigError, match="other ends"):
        find_path(flat, a, b, method, start=Path(torch.stack([a, 2 * b]), PolygonalChain(2)))


def test_a_state_of_a_band_between_other_ends_is_refused(tmp_path):
    file = tmp_path / "state.safetensors"
    for fit in (FITS["neb"], FITS["autoneb"]):
        with pytest.raises(Interrupted):
            fit(*pair("plain"), keeping=Keeping(file), report=Signalling(3))
        risk, a, b = pair("plain")
        with pytest.raises(ProvenanceError, match="ends"):
            fit(risk, a, b + 1, keeping=Keeping(file, resume=True))


@pytest.mark.parametrize("kind", FITS)
def test_a_state_of_a_band_that_began_elsewhere_is_refused(tmp_path, kind):
    """From the straight line, over one point and over another; and on a chain of the same points cut otherwise."""
    file = tmp_path / "state.safetensors"
    risk, a, b = pair("plain")

    def over(step, count=3):
        points = torch.stack([torch.lerp(a, b, i / (count - 1)) for i in range(count)])
        points[1:-1] += step
        points[0], points[-1] = a, b
        return Path(points, PolygonalChain(count))

    def fit(start, **settings):
        return FITS[kind](*pair("plain"), start=start, keeping=Keeping(file, resume=True), **settings)

    with pytest.raises(Interrupted):
        fit(over(0.1), report=Signalling(3))
    for other in (None, over(0.2), over(0.1, 4)):
        with pytest.raises(ProvenanceError, match="begun with start"):
            fit(other)
    whole = FITS[kind](risk, a, b, start=over(0.1))
    assert torch.equal(fit(over(0.1)).points, whole.points)
