"""Train a curve between two minima so that the loss stays low all along it.

The expected loss over t, uniform on [0, 1], is minimised over the inner control points while the ends stay where they
are (Garipov et al. 2018, arXiv 1802.10026). One step is an ordinary training step at θ(t) = c(t)·C, plus one product
`[k]×[k, P]` before it and one outer product after it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Unpack

import torch
from torch import Tensor

from connect.paths.curves import Bezier, Curve, conversion
from connect.paths.path import Path, builder
from landscape.errors import ConfigError, LayoutError
from landscape.risk.surface import Trainable
from landscape.space.pieces import Offset, norm
from landscape.training.descent import Combination, DescentOptions, Family, Sampler, Stratified, descend
from landscape.training.recipes import Recipe

DEFAULT_RECIPE = Recipe(epochs=40, lr=0.1, batch_size=128, schedule="linear")
PATH_RECIPES: Mapping[str, Recipe] = {"sgd": DEFAULT_RECIPE, "adamw": Recipe.adamw(schedule="linear")}
"""What a path is trained by, for each optimiser, unless more is known."""


@dataclass(frozen=True)
class _Freed:
    """A curve of which the inner control points move, or all of them."""

    curve: Curve
    free_ends: bool

    @property
    def free(self) -> slice:
        count = self.curve.control_points
        return slice(0, count) if self.free_ends else slice(1, count - 1)

    def coefficients(self, t: Tensor) -> Tensor:
        return self.curve.coefficients(t)


@dataclass(frozen=True)
class Shortness:
    """A penalty on the length of the control polygon, which is never shorter than its curve.

    It is weight·(k - 1)·Σ‖C_{i+1} - C_i‖² / distance², which is the weight itself for evenly spaced points on the
    straight line, and bounds weight·(length / distance)² from above for every curve.

    Attributes:
        weight: in units of the loss.
        distance: between the ends.
    """

    weight: float
    distance: float

    def __call__(self, points: Tensor) -> Tensor:
        pieces = len(points) - 1
        steps = torch.eye(len(points), dtype=torch.float64).diff(dim=0)
        return 2 * self.weight * pieces / self.distance**2 * steps.T @ steps


@dataclass(frozen=True)
class CurveFit:
    """How a curve is trained.

    Attributes:
        curve: the family.
        sampler: where along the curve the steps take place; by default t is stratified over each epoch.
        length_weight: of a penalty on length, in units of the loss; see `Shortness`.
        free_ends: train the ends too.
    """

    curve: Curve = field(default_factory=Bezier)
    sampler: Sampler = field(default_factory=Stratified)
    length_weight: float = 0.0
    free_ends: bool = False

    def begin(self, a: Tensor, b: Tensor, start: Path | None = None) -> Path:
        return begin(a, b, self.curve, start)

    def train(
        self, surface: Trainable, path: Path, recipe: Recipe = DEFAULT_RECIPE, **options: Unpack[DescentOptions]
    ) -> Path:
        """Train the control points where they lie; weight decay acts on θ(t).

        Beside the activations of a batch this holds (2·free + fixed + 3)·P floats, the control points included; a
        penalty on length adds free·P.
        """
        distance = float(norm(Offset(path.points[-1], path.points[0])))
        penalty = Shortness(self.length_weight, distance) if self.length_weight else None
        family = Combination(_Freed(path.curve, self.free_ends), self.sampler, penalty)
        return train_path(surface, path, family, recipe, **options)


DEFAULT_METHOD = CurveFit()


def train_path(
    surface: Trainable,
    path: Path,
    family: Family,
    recipe: Recipe,
    description: str = "training",
    **options: Unpack[DescentOptions],
) -> Path:
    """Train a path's control points, which are moved where they lie, as a family."""
    descent = descend(surface, path.points, family, recipe, description=description, in_place=True, **options)
    rates = torch.tensor(recipe.epoch_rates(), dtype=torch.float64)
    return Path(descent.points, path.curve, losses=descent.losses, rates=rates, build=builder(surface))


def require_joinable(a: Tensor, b: Tensor, start: Path | None = None) -> None:
    """Check that two points can be the ends of a path, and those of one to start from; raises as `find_path`."""
    if a.shape != b.shape or a.ndim != 1:
        raise LayoutError(f"the ends have shapes {tuple(a.shape)} and {tuple(b.shape)}, expected [P] twice.")
    if torch.equal(a, b):
        raise ConfigError("the two ends are the same point; there is nothing to connect.")
    if start is not None and not (torch.equal(start.points[0], a) and torch.equal(start.points[-1], b)):
        raise ConfigError("the path to start from has other ends than the two that are to be connected.")


def begin(a: Tensor, b: Tensor, curve: Curve, start: Path | None = None) -> Path:
    """A curve on the straight line, or another path made to fit the curve; raises as `require_joinable`."""
    require_joinable(a, b, start)
    points = torch.empty(curve.control_points, len(a), device=a.device, dtype=a.dtype)
    if start is None:
        for point, share in zip(points, torch.linspace(0, 1, len(points), dtype=torch.float64).tolist(), strict=True):
            torch.lerp(a, b, share, out=point)
        return Path(points, curve)
    torch.mm(conversion(start.curve, curve).to(points), start.points, out=points)
    points[0], points[-1] = a, b
    return Path(points, curve)
