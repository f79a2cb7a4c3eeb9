"""Sums over vectors that are longer than one piece, against those over the whole."""

import torch

from landscape.space.pieces import PIECE, Offset, dot, equal, gram, is_finite, norm

_LENGTH = PIECE + 5


def _points(count):
    return torch.randn(count, _LENGTH, generator=torch.Generator().manual_seed(0))


def test_lengths_and_products_are_those_of_whole_vectors():
    u, v, origin = _points(3)
    points = torch.stack([u, v]).double()
    from_origin = points - origin.double()
    torch.testing.assert_close(norm(u), points[0].norm())
    torch.testing.assert_close(dot(u, v), points[0] @ points[1])
    torch.testing.assert_close(gram([u, v]), points @ points.T)
    torch.testing.assert_close(gram([u, v], origin), from_origin @ from_origin.T)
    torch.testing.assert_close(gram([u], others=[u, v]), points[:1] @ points.T)


def test_an_offset_is_the_difference_in_every_piece():
    u, v = _points(2)
    assert equal(Offset(u, v), u - v)


def test_what_differs_or_is_not_finite_is_found_in_the_last_piece():
    u = _points(1)[0]
    other = u.clone()
    assert equal(u, other)
    assert is_finite(other)
    other[-1] = torch.inf
    assert not equal(u, other)
    assert not is_finite(other)
