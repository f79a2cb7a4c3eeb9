"""Planes to look at: on random axes, towards other points, and along principal components."""

from dataclasses import dataclass

from torch import Tensor

from landscape.runtime.seeds import unrelated_seeds
from landscape.space.directions import (
    Normalisation,
    normalise,
    principal_directions,
    random_direction,
    require_length,
)
from landscape.space.parameters import ParameterSpace
from landscape.space.slices import Plane


@dataclass(frozen=True)
class Scaling:
    """How the directions of a plane are scaled; see `normalise`.

    Attributes:
        how: "filter" or "layer", or "none" for directions as they come.
        biases: whether biases and parameters of normalisation layers take part.
    """

    how: Normalisation = "filter"
    biases: bool = False


def random_plane(theta: Tensor, space: ParameterSpace, seed: int, scaling: Scaling | None = None) -> Plane:
    """The plane around θ `[P]` on two random directions (Li et al. 2018, section 4).

    Raises:
        ConfigError: a direction is zero, since nothing that is trainable takes part.
    """
    u, v = (_drawn(theta, space, drawn, scaling or Scaling()) for drawn in unrelated_seeds(seed, 2))
    return Plane(theta, u, v)


def plane_towards(thetas: Tensor, space: ParameterSpace, seed: int, scaling: Scaling | None = None) -> Plane:
    """The plane around θ_0 on the differences to θ_1 and θ_2, or to θ_1 and in a random direction.

    Args:
        thetas: two or three points `[n, P]`.
        space: the space.
        seed: of the random direction, which is scaled filter by filter unless `scaling` says otherwise.
        scaling: for the differences; by default they stay as they are, so that 1 on an axis is the other point.

    Raises:
        ConfigError: two points are the same, or three lie on one line.
    """
    theta, *others = thetas
    found = [_scaled(other - theta, theta, space, scaling) for other in others]
    if len(found) == 1:
        found.append(_drawn(theta, space, unrelated_seeds(seed, 1)[0], scaling or Scaling()))
    return Plane(theta, *(require_length(direction) for direction in found))


def principal_plane(thetas: Tensor, space: ParameterSpace, scaling: Scaling | None = None) -> tuple[Plane, Tensor]:
    """The plane through θ_0 along the two principal components of the other points' offsets from it.

    Args:
        thetas: at least three points `[n, P]`.
        space: the space.
        scaling: for the components; by default they stay orthonormal.

    Returns:
        The plane, and the shares of the offsets' summed squares along all components `[n - 1]`.

    Raises:
        ConfigError: the points span no plane.
    """
    theta = thetas[0]
    directions, shares = principal_directions(thetas[1:] - theta)
    u, v = (require_length(_scaled(direction, theta, space, scaling)) for direction in directions)
    return Plane(theta, u, v), shares


def _drawn(theta: Tensor, space: ParameterSpace, seed: int, scaling: Scaling) -> Tensor:
    direction = normalise(random_direction(space, seed), theta, space, scaling.how, biases=scaling.biases)
    return require_length(direction)


def _scaled(direction: Tensor, theta: Tensor, space: ParameterSpace, scaling: Scaling | None) -> Tensor:
    if scaling is None or scaling.how == "none":
        return direction
    return normalise(direction, theta, space, scaling.how, biases=scaling.biases)
