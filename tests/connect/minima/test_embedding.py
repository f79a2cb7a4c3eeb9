"""Embeddings against principal components by singular values."""

import numpy as np
import pytest
import torch

from connect import (
    Bezier,
    Path,
    PolygonalChain,
    embed,
)


def test_an_embedding_is_that_of_principal_components():
    """Against a singular value decomposition of the centred points, up to signs."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(7, 40, generator=generator, dtype=torch.float64)
    path = Path(torch.randn(4, 40, generator=generator, dtype=torch.float64), Bezier(4))
    found = embed(points, [("p", path), ("line", Path(points[[0, 3]], PolygonalChain(2)))])
    centred = points - points.mean(dim=0)
    _, values, axes = torch.linalg.svd(centred, full_matrices=False)
    expected = (centred @ axes[:2].T).numpy()
    trace = torch.stack([path(t) for t in np.linspace(0, 1, 65)]) - points.mean(dim=0)
    traced = (trace @ axes[:2].T).numpy()
    for k in range(2):
        sign = np.sign(expected[0, k] * found.minima[0, k])
        np.testing.assert_allclose(sign * found.minima[:, k], expected[:, k], atol=1e-9)
        np.testing.assert_allclose(sign * found.paths["p"][:, k], traced[:, k], atol=1e-9)
    np.testing.assert_allclose(found.paths["line"][[0, -1]], found.minima[[0, 3]], atol=1e-9)
    assert found.explained == pytest.approx(float(values[:2].square().sum() / values.square().sum()))


def test_two_minima_lie_on_a_line():
    found = embed(torch.tensor([[0.0, 0, 0], [3.0, 4, 0]]).double())
    assert np.linalg.norm(found.minima[0] - found.minima[1]) == pytest.approx(5)
    assert np.allclose(found.minima[:, 1], 0)
    assert found.explained == pytest.approx(1)
