"""What holds for every curve."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from connect import Path
from connect.curves import CURVES

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
