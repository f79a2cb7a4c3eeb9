"""Directions in parameter space, and their normalisation.

Without normalisation sharpness misleads, since scaling a convolution before a batch norm changes the weights but not
the function. Filter normalisation gives each filter of a direction the length of the same filter of the network, so
that ±1 on an axis means "as long as the weights themselves" (Li et al. 2018, arXiv 1712.09913, section 4).
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from landscape.errors import ConfigError
from landscape.space.parameters import ParameterSpace
from landscape.space.pieces import PIECE, Points, pieces, stacked, total

Normalisation = Literal["filter", "layer", "none"]
_NEGLIGIBLE, _PART = 1e-12, 2**16


def random_direction(space: ParameterSpace, seed: int) -> Tensor:
    """A draw `[P]` from the standard normal distribution in a space, the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(space.dimension, generator=generator).to(device=space.device, dtype=space.dtype)


def normalise(
    direction: Tensor, theta: Tensor, space: ParameterSpace, how: Normalisation = "filter", *, biases: bool = False
) -> Tensor:
    """Give a direction the scale of the weights.

    Args:
        direction: `[P]`.
        theta: the point `[P]` whose weights give the scale.
        space: knows the filters.
        how: "filter" gives each filter the length of θ's filter, and 0 where either has no length; "layer" does the
            same for whole tensors; "none" keeps the direction's own scale.
        biases: scale biases and parameters of normalisation layers too, tensor by tensor; they get 0 otherwise.

    Returns:
        The normalised direction, a new `[P]`.

    Raises:
        ConfigError: the normalisation is unknown.
    """
    if how not in get_args(Normalisation):
        raise ConfigError(f"unknown normalisation {how!r}; known are {', '.join(get_args(Normalisation))}.")
    result = torch.zeros_like(direction)
    for segment in space.segments:
        if segment.role == "weight":
            own, weights, scaled = (segment.filters(flat) for flat in (direction, theta, result))
        elif biases:
            own, weights, scaled = (segment.view(flat) for flat in (direction, theta, result))
        else:
            continue
        if how == "none":
            scaled.copy_(own)
        elif how == "filter" and segment.role == "weight":
            few = max(1, PIECE * own.shape[1] // max(own.numel(), 1))  # filters, since a double of all would be large
            for parts in zip(*(tensor.split(few, dim=1) for tensor in (scaled, own, weights)), strict=True):
                _rescale(parts, axes=tuple(range(2, own.ndim)))
        else:
            _rescale((scaled, own, weights), axes=tuple(range(own.ndim)))
    return result


def _rescale(tensors: tuple[Tensor, ...], axes: tuple[int, ...]) -> None:
    """Write to the first tensor the second, with the lengths over some axes that the third has."""
    result, own, weights = tensors
    wanted, got = (torch.linalg.vector_norm(w, dim=axes, keepdim=True, dtype=torch.float64) for w in (weights, own))
    result.copy_(own * torch.where(got > 0, wanted / got, torch.zeros_like(got)))


def require_length(direction: Tensor) -> Tensor:
    """The direction itself, if it leads anywhere; raises ConfigError where it is zero."""
    if not direction.any():
        raise ConfigError(
            "a direction is zero: it leads to the same weights, or no trainable weights take part in it; "
            "name other checkpoints, or change --trainable."
        )
    return direction


def principal_directions(offsets: Points, count: int = 2) -> tuple[Tensor, Tensor]:
    """The orthonormal directions in which offsets from one point spread most, by the small Gram matrix.

    The offsets are not centred, so that the plane of the first two goes through the point (Li et al. 2018, section 7).

    Args:
        offsets: n of them, `[P]` each.
        count: how many directions, at most n.

    Returns:
        The directions `[count, P]`, and the share of the offsets' summed squares that lies along each of all n
        directions `[n]`, float64, in decreasing order.

    Raises:
        ConfigError: the offsets span fewer directions.
    """
    parts = list(pieces(len(offsets[0]), _PART))
    products = (stacked(offsets, piece).double() for piece in parts)
    gram = total(part @ part.T for part in products)
    squares, vectors = torch.linalg.eigh(gram.cpu())
    squares, vectors = squares.flip(0).clamp_min(0), vectors.flip(1)
    every = squares.sum()
    spanned = int((squares > _NEGLIGIBLE * every).sum())
    if spanned < count:
        raise ConfigError(f"the points span {spanned} of the {count} directions that are asked for; add other points.")
    weights = (vectors[:, :count] / squares[:count].sqrt()).T.to(gram)
    first = offsets[0][:0]
    directions = first.new_empty(count, len(offsets[0]))
    coordinates = weights.new_zeros(count, len(offsets))
    for piece in parts:
        part = stacked(offsets, piece)
        directions[:, piece] = weights @ part.double()
        coordinates += directions[:, piece].double() @ part.double().T
    return directions.mul_(_upright(coordinates)[:, None].to(directions)), squares / every


def _upright(coordinates: Tensor) -> Tensor:
    """The signs `[k]`, left open by eigenvectors, that make the largest coordinate of each row `[k, n]` positive."""
    largest = coordinates.abs().argmax(dim=1, keepdim=True)
    return torch.where(coordinates.gather(1, largest) < 0, -1.0, 1.0)[:, 0]
