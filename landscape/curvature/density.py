"""The density of eigenvalues, by stochastic Lanczos quadrature (Ubaru, Chen and Saad 2017; Ghorbani et al. 2019).

For a random probe v the Krylov space gives a Gauss quadrature whose nodes are Ritz values and whose weights are the
squared first components of the Ritz vectors. Averaged over probes and smoothed, it is the density.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from landscape.curvature.lanczos import tridiagonal
from landscape.curvature.restriction import Product
from landscape.storage.results import Array

_SMOOTH = 0.01
_MARGIN = 4.0


@dataclass(frozen=True)
class Density:
    """A density of eigenvalues, smoothed by a Gaussian.

    Attributes:
        values: eigenvalues at which it is given `[n]`.
        density: there, per eigenvalue `[n]`; it integrates to 1.
        width: standard deviation of the Gaussian.
        nodes: Ritz values `[probes, steps]`; NaN where a space was exhausted before.
        weights: their weights `[probes, steps]`, which sum to 1 for each probe; 0 where there is no node.
    """

    values: Array
    density: Array
    width: float
    nodes: Array
    weights: Array

    def moment(self, power: int) -> tuple[float, float]:
        """The mean of λ to a power over all eigenvalues, and its standard error over the probes (NaN for one probe)."""
        each = np.nansum(self.weights * self.nodes**power, axis=1)
        error = each.std(ddof=1) / np.sqrt(len(each)) if len(each) > 1 else np.nan
        return float(each.mean()), float(error)


def spectral_density(
    product: Product, probe: Callable[[int], Tensor], *, probes: int = 8, steps: int = 60, points: int = 1000
) -> Density:
    """Estimate the density of a symmetric operator's eigenvalues.

    Args:
        product: maps `[P]` to H times it.
        probe: gives random vector i `[P]`, with independent entries of mean 0 and variance 1 where H acts, else 0.
        probes: how many of them.
        steps: products for each.
        points: at which the density is given.

    Example:
        >>> matrix = torch.diag(torch.tensor([0.0, 0.0, 0.0, 4.0]))
        >>> signs = lambda index: torch.tensor([1.0, -1.0, 1.0, 1.0])
        >>> density = spectral_density(lambda vector: matrix @ vector, signs, probes=1, steps=4)
        >>> density.nodes[0, :2].round(6).tolist(), density.weights[0, :2].round(6).tolist()
        ([0.0, 4.0], [0.75, 0.25])
    """
    nodes, weights = np.full((probes, steps), np.nan), np.zeros((probes, steps))
    for index in range(probes):
        values, vectors = torch.linalg.eigh(tridiagonal(product, probe(index), steps))
        nodes[index, : len(values)], weights[index, : len(values)] = values, vectors[0] ** 2
    low, high = np.nanmin(nodes), np.nanmax(nodes)
    width = _SMOOTH * (high - low) or _SMOOTH * max(abs(high), 1.0)
    grid = np.linspace(low - _MARGIN * width, high + _MARGIN * width, points)
    return Density(grid, smoothed(grid, nodes, weights, width), width, nodes, weights)


def smoothed(values: Array, nodes: Array, weights: Array, width: float) -> Array:
    """The mean over probes of Gaussians of a width around the nodes, at values `[n]`."""
    present = ~np.isnan(nodes)
    centres, shares = nodes[present], weights[present] / len(nodes)
    bells = np.exp(-0.5 * ((values[:, None] - centres) / width) ** 2) / (width * np.sqrt(2 * np.pi))
    total: Array = bells @ shares
    return total
