"""Which plane around a network is looked at: on random axes, through or towards others, along principal components."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from landscape.runtime.seeds import unrelated_seeds
from landscape.space.directions import Normalisation, normalise, principal_directions, random_direction, require_length
from landscape.space.parameters import ParameterSpace
from landscape.space.pieces import Offset, Points
from landscape.space.slices import Plane
from landscape.storage.checkpoints import fingerprint_tensors
from landscape.storage.results import Array

_MARGIN = 0.25
_NOTHING = np.empty((0, 2))


@dataclass(frozen=True)
class Scaling:
    """How the directions of a plane are scaled; see `normalise`.

    Attributes:
        how: "filter" or "layer", or "none" for directions as they come.
        biases: whether biases and parameters of normalisation layers take part.
    """

    how: Normalisation = "filter"
    biases: bool = False


@dataclass(frozen=True)
class View:
    """A plane through the first of several networks, and what follows from its axes.

    Attributes:
        plane: the plane.
        axes: what files and figures call its axes.
        scaling: of the axes; None where they are as they come.
        seed: of what is random; None where nothing is.
        around: coordinates `[m, 2]` that a grid holds beside what is marked; None where it is to go from -1 to 1.
        together: whether the networks beside the first are marked as one cloud, and not each by its name.
        named: whether the name says all of the axes; else their fingerprint does.
        facts: what a result holds of them.
    """

    plane: Plane
    axes: str
    scaling: Scaling | None = None
    seed: int | None = None
    around: Array | None = None
    together: bool = False
    named: bool = True
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def provenance(self) -> dict[str, Any]:
        """What the plane follows from, beside the networks."""
        axes = dict(zip("xy", self.plane.axes, strict=True))
        return {
            "axes": self.axes,
            "axes_fingerprint": None if self.named else fingerprint_tensors(axes),
            "normalise": self.scaling.how if self.scaling else "none",
            "seed": self.seed,
        }

    def grid(self, marked: Array, count: int) -> dict[str, Array]:
        """Values of "y" and "x", `count` along the longer side, that suit what is marked `[n, 2]`."""
        if self.around is None:
            return {name: np.linspace(-1, 1, count) for name in "yx"}
        return grid_around(np.concatenate([marked, self.around]), count)


class Axes(Protocol):
    """A choice of two axes."""

    def view(self, thetas: Points, space: ParameterSpace) -> View:
        """The plane through θ_0 of n networks, `[P]` each.

        Raises:
            ConfigError: a direction is zero, two are parallel, or the networks span no plane.
        """


@dataclass(frozen=True)
class Random:
    """Two random directions (Li et al. 2018, section 4)."""

    seed: int = 0
    scaling: Scaling = field(default_factory=Scaling)

    def view(self, thetas: Points, space: ParameterSpace) -> View:
        theta = thetas[0][:]
        u, v = (_drawn(theta, space, seed, self.scaling) for seed in unrelated_seeds(self.seed, 2))
        return View(Plane(theta, u, v), "random", self.scaling, self.seed)


@dataclass(frozen=True)
class Through:
    """The orthonormal axes of the plane through three networks; see `Plane.through`."""

    def view(self, thetas: Points, space: ParameterSpace) -> View:
        theta = thetas[0][:]
        across, up = (Offset(other, theta)[:] for other in thetas[1:])
        return View(Plane.spanned(theta, across, up), "through", around=_NOTHING)


@dataclass(frozen=True)
class Towards:
    """The differences to two other networks, or to one and in a random direction.

    Attributes:
        seed: of the random direction, which is scaled filter by filter unless `scaling` says otherwise.
        scaling: of the differences; by default they stay as they are, so that 1 on an axis is the other network.
    """

    seed: int = 0
    scaling: Scaling | None = None

    def view(self, thetas: Points, space: ParameterSpace) -> View:
        theta = thetas[0][:]
        u, *rest = (_scaled(Offset(other, theta)[:], theta, space, self.scaling) for other in thetas[1:])
        if rest:
            return View(Plane(theta, u, rest[0]), "difference", self.scaling, around=_NOTHING)
        aside = _drawn(theta, space, unrelated_seeds(self.seed, 1)[0], self.scaling or Scaling())
        around = np.array([[0.0, -0.5], [0.0, 0.5]])  # nothing that is marked lies off the first axis
        return View(Plane(theta, u, aside), "difference, random", self.scaling, self.seed, around)


@dataclass(frozen=True)
class Principal:
    """The principal components of the other networks' offsets, which stay orthonormal without a scaling."""

    scaling: Scaling | None = None

    def view(self, thetas: Points, space: ParameterSpace) -> View:
        plane, _ = principal_plane(thetas, space, self.scaling)
        return View(plane, "pca", self.scaling, around=_NOTHING, together=True)


@dataclass(frozen=True)
class Directions:
    """Two directions `[P]` that there are already, and what a result holds of them."""

    directions: tuple[Tensor, Tensor]
    name: str = "from a file"
    seed: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def view(self, thetas: Points, space: ParameterSpace) -> View:
        return View(Plane(thetas[0][:], *self.directions), self.name, seed=self.seed, named=False, facts=self.facts)


def principal_plane(thetas: Points, space: ParameterSpace, scaling: Scaling | None = None) -> tuple[Plane, Tensor]:
    """The plane through θ_0 along the two principal components of the other points' offsets from it.

    Args:
        thetas: n points `[P]`, at least three.
        space: the space.
        scaling: for the components; by default they stay orthonormal.

    Returns:
        The plane, and the shares of the offsets' summed squares along all components `[n - 1]`.

    Raises:
        ConfigError: the points span no plane.
    """
    theta = thetas[0][:]
    directions, shares = principal_directions([Offset(other, theta) for other in thetas[1:]])
    u, v = (_scaled(direction, theta, space, scaling) for direction in directions)
    return Plane(theta, u, v), shares


def grid_around(points: Array, count: int) -> dict[str, Array]:
    """A grid that leaves a margin of at least a quarter around points, with one spacing along both axes.

    Args:
        points: coordinates (x, y) `[n, 2]`, not all the same.
        count: points along the longer side, at least 2.

    Returns:
        Values of "y" and of "x".
    """
    low, high = points.min(axis=0), points.max(axis=0)
    margin = _MARGIN * (high - low).max()
    sides = high - low + 2 * margin
    spacing = sides.max() / (count - 1)
    counts = np.maximum(2, np.ceil(np.round(sides / spacing, 6)).astype(int) + 1)
    starts = (low + high - (counts - 1) * spacing) / 2
    x, y = (start + spacing * np.arange(number) for start, number in zip(starts, counts, strict=True))
    return {"y": y, "x": x}


def _drawn(theta: Tensor, space: ParameterSpace, seed: int, scaling: Scaling) -> Tensor:
    direction = normalise(random_direction(space, seed), theta, space, scaling.how, biases=scaling.biases)
    return require_length(direction)


def _scaled(direction: Tensor, theta: Tensor, space: ParameterSpace, scaling: Scaling | None) -> Tensor:
    if scaling is not None and scaling.how != "none":
        direction = normalise(direction, theta, space, scaling.how, biases=scaling.biases)
    return require_length(direction)
