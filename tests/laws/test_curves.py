"""What holds for every curve."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from connect import Bezier, Path, PolygonalChain
from connect.paths.curves import CURVES, conversion

KINDS = sorted(CURVES)


@pytest.fixture(params=KINDS)
def kind(request):
    return CURVES[request.param]


@pytest.mark.parametrize("count", [2, 3, 4, 7])
def test_ends_are_exact(kind, count):
    points = torch.randn(count, 11, generator=torch.Generator().manual_seed(count))
    path = Path(points, kind(count))
    assert torch.equal(path(0.0), points[0])
    assert torch.equal(path(1.0), points[-1])


@given(t=st.floats(0, 1), count=st.integers(2, 8), name=st.sampled_from(KINDS))
def test_coefficients_are_shares(t, count, name):
    coefficients = CURVES[name](count).coefficients(torch.tensor([t]))[0]
    assert coefficients.shape == (count,)
    assert (coefficients >= 0).all()
    torch.testing.assert_close(coefficients.sum(), torch.tensor(1.0, dtype=torch.float64))


@given(t=st.floats(0, 1), count=st.integers(2, 6), name=st.sampled_from(KINDS))
def test_evenly_spaced_points_of_a_line_give_the_line(t, count, name):
    """Affine invariance: both kinds of curve reproduce linear functions of t."""
    knots = torch.linspace(0, 1, count, dtype=torch.float64)
    coefficients = CURVES[name](count).coefficients(torch.tensor([t], dtype=torch.float64))[0]
    assert float(coefficients @ knots) == pytest.approx(t, abs=1e-12)


@given(t=st.floats(0, 1), count=st.integers(2, 6), name=st.sampled_from(KINDS))
def test_the_way_back_is_the_same_curve(t, count, name):
    curve = CURVES[name](count)
    there = curve.coefficients(torch.tensor([t], dtype=torch.float64))[0]
    back = curve.coefficients(torch.tensor([1 - t], dtype=torch.float64))[0]
    torch.testing.assert_close(there, back.flip(0), atol=1e-9, rtol=0)


def test_a_curve_without_two_ends_is_refused(kind):
    with pytest.raises(Exception, match="at least the two ends"):
        kind(1)


# ------------------------------------------------------------------ from one curve to another

DENSE = torch.linspace(0, 1, 401, dtype=torch.float64)


def controls(count):
    return torch.randn(count, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize(("few", "many"), [(2, 3), (3, 4), (3, 7), (5, 6), (4, 13)])
def test_more_control_points_of_a_bezier_curve_do_not_change_it(few, many):
    """Degree elevation: the same point at every t."""
    points = controls(few)
    more = conversion(Bezier(few), Bezier(many)) @ points
    torch.testing.assert_close(Bezier(many).coefficients(DENSE) @ more, Bezier(few).coefficients(DENSE) @ points)


@pytest.mark.parametrize(("few", "many"), [(2, 3), (3, 5), (3, 6), (4, 9), (5, 6)])
def test_more_control_points_of_a_chain_do_not_change_its_way(few, many):
    """Subdivision: every old corner is still one, and the new ones lie in order on the old pieces."""
    points = controls(few)
    more = conversion(PolygonalChain(few), PolygonalChain(many)) @ points
    places = [int((more - corner).norm(dim=1).argmin()) for corner in points]
    for place, corner in zip(places, points, strict=True):
        torch.testing.assert_close(more[place], corner)
    assert places == sorted(set(places))
    length, again = (corners.diff(dim=0).norm(dim=1).sum() for corners in (points, more))
    torch.testing.assert_close(length, again)
    if (many - 1) % (few - 1) == 0:  # then each t has the same point, too
        old, new = (PolygonalChain(n).coefficients(DENSE) @ p for n, p in ((few, points), (many, more)))
        torch.testing.assert_close(old, new)


@pytest.mark.parametrize("count", [3, 4, 9])
def test_a_chain_made_of_a_curve_has_its_corners_on_it(count):
    points = controls(4)
    corners = conversion(Bezier(4), PolygonalChain(count)) @ points
    torch.testing.assert_close(corners, Bezier(4).coefficients(torch.linspace(0, 1, count)) @ points)


@pytest.mark.parametrize("old", [PolygonalChain(3), PolygonalChain(7), Bezier(6)])
def test_the_nearest_curve_cannot_be_bettered(old):
    """Least squares: moving an inner control point any way takes the curve farther from the old one."""
    points, new = controls(old.control_points), Bezier(4)
    nearest = conversion(old, new) @ points
    wanted = old.coefficients(DENSE) @ points

    def missed(candidate):
        return float((new.coefficients(DENSE) @ candidate - wanted).square().sum())

    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        step = torch.zeros_like(nearest)
        step[1:-1] = 0.05 * torch.randn(2, 5, dtype=torch.float64, generator=generator)
        assert missed(nearest + step) > missed(nearest)


@given(old=st.sampled_from(KINDS), new=st.sampled_from(KINDS), few=st.integers(2, 7), many=st.integers(2, 7))
def test_conversions_keep_the_ends_and_the_straight_line(old, new, few, many):
    old, new = CURVES[old](few), CURVES[new](many)
    matrix = conversion(old, new)
    assert matrix.shape == (many, few)
    ends = torch.zeros(2, few, dtype=torch.float64)
    ends[0, 0] = ends[1, -1] = 1
    torch.testing.assert_close(matrix[[0, -1]], ends)
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(many, dtype=torch.float64))
    along = new.coefficients(DENSE) @ (matrix @ torch.linspace(0, 1, few, dtype=torch.float64))
    assert (along.diff() > -1e-9).all()
