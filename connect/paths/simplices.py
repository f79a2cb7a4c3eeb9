"""Volumes of low loss: simplices that minima span with connecting points.

Connecting points are trained one after the other, each so that the expected loss over all simplices (a minimum and the
connecting points so far) is low while their volume is large (Benton et al. 2021, arXiv 2102.13042, section 3). Inside,
every network is about as good as the minima, and they differ.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from landscape.errors import ConfigError, LayoutError
from landscape.risk.surface import Trainable
from landscape.runtime.progress import Reporter, silent
from landscape.runtime.seeds import mixed_seed
from landscape.space.pieces import gram
from landscape.training.descent import Combination, descend
from landscape.training.keeping import Keeping
from landscape.training.recipes import Recipe

_OFF_CENTRE = 0.1


@dataclass(frozen=True)
class SimplicialComplex:
    """Simplices that share their connecting points.

    Attributes:
        vertices: `[m + n, P]`, the minima first.
        minima: m, their number; each spans a simplex with the n connecting points.
    """

    vertices: Tensor
    minima: int

    @property
    def connecting(self) -> int:
        """n, the number of connecting points."""
        return len(self.vertices) - self.minima

    def sample(self, count: int, seed: int = 0) -> Tensor:
        """Coefficients `[count, m + n]` of points uniform in the simplices, which take turns; float64."""
        generator = torch.Generator().manual_seed(seed)
        return _barycentric(count, generator, self.minima, self.connecting, len(self.vertices))

    def __call__(self, coefficients: Tensor) -> Tensor:
        """The point θ `[P]` with the coefficients `[m + n]`."""
        return torch.mv(self.vertices.T, coefficients.to(self.vertices))

    def log_volume(self) -> float:
        """Mean over the simplices of the logarithm of their volume."""
        squares = gram(self.vertices, self.vertices[-1]).cpu()
        used = [self.minima + i for i in range(self.connecting)]
        total = 0.0
        for minimum in range(self.minima):
            edges = _edges([minimum, *used], len(self.vertices))
            total += float(torch.logdet(edges @ squares @ edges.T)) / 2 - math.lgamma(len(used) + 1)
        return total / self.minima


def fit_simplex(
    surface: Trainable,
    minima: Tensor,
    connecting: int = 1,
    recipe: Recipe | None = None,
    *,
    volume_weight: float = 0.01,
    seed: int = 0,
    keeping: Callable[[int], Keeping] | None = None,
    report: Reporter = silent,
) -> SimplicialComplex:
    """Train connecting points one after the other.

    Args:
        surface: the height; a network's risk or an analytic potential.
        minima: `[m, P]`, which stay where they are.
        connecting: number of connecting points.
        recipe: how each of them is trained.
        volume_weight: reward for the mean logarithm of the volume, in units of the loss.
        seed: of places, of the order of examples and of dropout.
        keeping: gives for each connecting point where its state is kept.
        report: a progress reporter.

    Raises:
        LayoutError: the minima are not a matrix.
        ConfigError: two minima are the same point, or there are more connecting points than dimensions.
        Interrupted: stopped by a signal.
    """
    require_spanning(minima, connecting)
    recipe = recipe or Recipe(schedule="linear")
    count = len(minima)
    vertices = minima.new_empty(count + connecting, minima.shape[1])
    vertices[:count] = minima
    for number in range(connecting):
        vertices[count + number] = _start(vertices[: count + number], mixed_seed(seed, number))
        corner = _Corner(count, number)
        volume = _Volume(volume_weight, count, number + 1) if volume_weight else None
        vertices[: count + number + 1] = descend(
            surface,
            vertices[: count + number + 1],
            Combination(corner, corner, volume),
            recipe,
            seed=mixed_seed(seed, number),
            keeping=keeping(number) if keeping else None,
            report=report,
        ).points
    return SimplicialComplex(vertices, count)


def require_spanning(minima: Tensor, connecting: int) -> None:
    """Check that minima `[m, P]` and a number of connecting points can span simplices; raises as `fit_simplex`."""
    if minima.ndim != 2 or connecting < 1:
        raise LayoutError(
            f"minima have shape {tuple(minima.shape)}, expected [m, P] with at least one connecting point."
        )
    for i, j in combinations(range(len(minima)), 2):
        if torch.equal(minima[i], minima[j]):
            raise ConfigError(f"minima {i + 1} and {j + 1} are the same point.")
    if connecting > minima.shape[1]:
        raise ConfigError(
            f"{connecting} connecting points need a space of as many dimensions; this one has {minima.shape[1]}."
        )


@dataclass(frozen=True)
class _Corner:
    """The simplices over a number of connecting points of which the last moves; draws places in them, too."""

    minima: int
    before: int

    @property
    def free(self) -> slice:
        last = self.minima + self.before
        return slice(last, last + 1)

    def coefficients(self, t: Tensor) -> Tensor:
        return t

    def start(self) -> Tensor:
        return torch.empty(0, dtype=torch.float64)

    def draw(self, steps: int, generator: torch.Generator, memory: Tensor) -> Tensor:
        connecting = self.before + 1
        return _barycentric(steps, generator, self.minima, connecting, self.minima + connecting)

    def remember(self, memory: Tensor, places: Tensor, losses: Tensor) -> Tensor:
        return memory


@dataclass(frozen=True)
class _Volume:
    """Minus the mean logarithm of the simplices' volumes, as a quadratic form at the present vertices.

    With edges E = D·C the gradient of log det(E·Eᵀ)/2 is Dᵀ(E·Eᵀ)⁻¹D·C.
    """

    weight: float
    minima: int
    connecting: int

    def __call__(self, points: Tensor) -> Tensor:
        squares = gram(points, points[-1])
        form = torch.zeros_like(squares)
        for minimum in range(self.minima):
            used = [minimum, *range(self.minima, self.minima + self.connecting)]
            edges = _edges(used, len(points)).to(squares)
            inverse = torch.linalg.solve(edges @ squares @ edges.T, edges)
            form = form - edges.T @ inverse
        return form * (self.weight / self.minima)


def _start(vertices: Tensor, seed: int) -> Tensor:
    """The centre of what there is, and a little aside, so that the volume is not zero."""
    centre = vertices.mean(dim=0)
    spread = (vertices - centre).norm(dim=1).mean()
    scale = spread if spread > 0 else centre.norm()
    noise = torch.randn(centre.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32).to(centre)
    return centre.add(noise, alpha=float(_OFF_CENTRE * scale / noise.norm()))


def _edges(used: list[int], count: int) -> Tensor:
    """The matrix `[d, count]` that makes the edges from a simplex's first vertex of all vertices."""
    edges = torch.zeros(len(used) - 1, count, dtype=torch.float64)
    for row, vertex in enumerate(used[1:]):
        edges[row, vertex], edges[row, used[0]] = 1, -1
    return edges


def _barycentric(count: int, generator: torch.Generator, minima: int, connecting: int, width: int) -> Tensor:
    """Coefficients `[count, width]` uniform in the simplices, each of which gets as many or one more, at random."""
    owners = (torch.randperm(count, generator=generator) + torch.randint(minima, (1,), generator=generator)) % minima
    draws = -torch.log1p(-torch.rand(count, connecting + 1, generator=generator, dtype=torch.float64))
    shares = draws / draws.sum(dim=1, keepdim=True)
    coefficients = torch.zeros(count, width, dtype=torch.float64)
    coefficients[torch.arange(count), owners] = shares[:, 0]
    coefficients[:, minima : minima + connecting] = shares[:, 1:]
    return coefficients
