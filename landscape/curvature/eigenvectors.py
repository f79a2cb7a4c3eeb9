"""Axes along eigenvectors of the Hessian."""

import torch
from torch import Tensor

from landscape.curvature.lanczos import lanczos
from landscape.curvature.restriction import Restriction
from landscape.errors import ConfigError
from landscape.risk.surface import Surface
from landscape.space.axes import Directions


def eigenvector_axes(
    surface: Surface,
    theta: Tensor,
    chosen: Tensor,
    *,
    top: int = 1,
    tolerance: float = 1e-3,
    most_vectors: int | None = None,
    seed: int = 0,
) -> Directions:
    """Two unit eigenvectors of the Hessian at θ, whose eigenvalues are among the axes' facts.

    Args:
        surface: the height.
        theta: the point `[P]`.
        chosen: the parameters that the Hessian is about, boolean `[P]`.
        top: 2 for those of the two largest eigenvalues, 1 for those of the largest and the smallest.
        tolerance: largest residual of an eigenvalue, over its own size.
        most_vectors: kept at once; see `lanczos`.
        seed: of the start.

    Raises:
        ConfigError: fewer than two parameters are chosen, or the eigenvectors are not found to the tolerance.
    """
    restriction = Restriction(chosen)
    start = restriction.random(torch.Generator().manual_seed(seed), theta)
    with surface.at(theta) as here:
        pairs = lanczos(
            restriction.block(here.hessian(chosen)),
            start,
            top=top,
            bottom=2 - top,
            tolerance=tolerance,
            most_vectors=most_vectors,
        )
    values = torch.cat([pairs.top, pairs.bottom])
    if len(values) < 2:
        raise ConfigError(f"{restriction.dimension} parameters are chosen; axes along eigenvectors need at least two.")
    if not pairs.converged:
        raise ConfigError(
            f"the eigenvectors were not found to a tolerance of {tolerance} in {pairs.products} products; "
            "name a larger one."
        )
    x, y = restriction.extend(torch.cat([pairs.top_vectors, pairs.bottom_vectors]))
    name = "eigenvectors" if top == 1 else "top-eigenvectors"
    return Directions((x, y), name, seed, {"eigenvalues": values.tolist()})
