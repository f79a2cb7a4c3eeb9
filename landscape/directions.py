"""Directions in parameter space, and their normalisation.

Without normalisation sharpness misleads, since scaling a convolution before a batch norm changes the weights but not
the function. Filter normalisation gives each filter of a direction the length of the same filter of the network, so
that ±1 on an axis means "as long as the weights themselves" (Li et al. 2018, arXiv 1712.09913, section 4).
"""

from typing import Literal

import torch
from torch import Tensor

from landscape.parameters import ParameterSpace

Normalisation = Literal["filter", "layer", "none"]


def random_direction(space: ParameterSpace, seed: int) -> Tensor:
    """A draw from the standard normal distribution in R^P, the same on every device.

    Args:
        space: the space, for P, device and type.
        seed: of the draw.

    Returns:
        The direction `[P]`.
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(space.dimension, generator=generator).to(device=space.device, dtype=space.dtype)


def normalise(direction: Tensor, theta: Tensor, space: ParameterSpace, how: Normalisation = "filter") -> Tensor:
    """Give a direction the scale of the weights; biases and parameters of normalisation layers get 0.

    Args:
        direction: `[P]`.
        theta: the point `[P]` whose weights give the scale.
        space: knows the filters.
        how: "filter" gives each filter the length of θ's filter, and 0 where either has no length; "layer" does the
            same for whole tensors; "none" keeps the direction's own scale.

    Returns:
        The normalised direction, a new `[P]`.
    """
    result = torch.zeros_like(direction)
    for segment in space.segments:
        if segment.role != "weight":
            continue
        drawn, weights, scaled = (segment.filters(flat) for flat in (direction, theta, result))
        if how == "none":
            scaled.copy_(drawn)
            continue
        axes = tuple(range(2 if how == "filter" else 0, drawn.ndim))
        wanted, got = (
            torch.linalg.vector_norm(w, dim=axes, keepdim=True, dtype=torch.float64) for w in (weights, drawn)
        )
        ratio = torch.where(got > 0, wanted / got, torch.zeros_like(got))
        scaled.copy_(drawn * ratio)
    return result
