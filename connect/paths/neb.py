"""The nudged elastic band: a chain of images that slides down to a path of least height between two minima.

Each image moves against the gradient without its component along the band. What holds the images apart is either
springs, or that they are put back at given shares of the band's length after every step, which is the limit of
infinitely stiff springs (Draxler et al. 2018, arXiv 1803.00885, section 2.2). The tangent is that of Henkelman and
Jónsson (2000, J. Chem. Phys. 113, 9978); a climbing image goes up along the band and comes to rest at a saddle
(Henkelman, Uberuaga and Jónsson 2000, J. Chem. Phys. 113, 9901).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal, Unpack

import torch
from torch import Tensor

from connect.paths.curves import PolygonalChain
from connect.paths.fitting import DEFAULT_RECIPE, begin, train_path
from connect.paths.path import Path
from landscape.errors import ConfigError
from landscape.risk.surface import Surface, Trainable
from landscape.space.pieces import Offset, norm
from landscape.storage.checkpoints import fingerprint_tensors
from landscape.training.descent import DescentOptions, Epoch, Moves, Slope
from landscape.training.optimisers import Own, Stride
from landscape.training.recipes import Recipe

Climb = Literal["none", "highest", "all"]
_REMEMBERED = 0.9


@dataclass(frozen=True)
class Band:
    """A nudged elastic band: how its images are held together.

    Attributes:
        images: their number, the two ends included.
        spring: stiffness of springs between neighbours; 0 puts the images back at their shares of the length instead.
        climb: which images climb to a saddle, once the band has settled: none, the highest, or every one that is higher
            than both its neighbours.
        settle: share of the steps after which images climb.
    """

    images: int = 9
    spring: float = 0.0
    climb: Climb = "none"
    settle: float = 0.5

    def __post_init__(self) -> None:
        if self.images < 3:
            raise ConfigError(f"a band has {self.images} images, expected at least 3: the two ends and one between.")
        if self.spring < 0 or not 0 <= self.settle <= 1:
            raise ConfigError(f"spring is {self.spring} and settle {self.settle}, expected ≥ 0 and in [0, 1].")
        if self.climb not in {"none", "highest", "all"}:
            raise ConfigError(f"climb is {self.climb!r}, expected none, highest or all.")

    def begin(self, a: Tensor, b: Tensor, start: Path | None = None) -> Path:
        return begin_band(self.images, a, b, start)

    def train(
        self, surface: Trainable, path: Path, recipe: Recipe = DEFAULT_RECIPE, **options: Unpack[DescentOptions]
    ) -> Path:
        """Let the band slide down; its images are moved where they lie.

        In an epoch each image sees every example once, in an order of its own. Momentum is that of the heavy ball,
        whatever `recipe.nesterov` says. Beside the activations of a batch this holds (2·(images - 2) + 5)·P floats
        under SGD and (3·(images - 2) + 5)·P under AdamW, and a few more while the tangent of an image is found.
        """
        return train_path(surface, path, Elastic(self, path.provenance), recipe, description="band", **options)


def begin_band(images: int, a: Tensor, b: Tensor, start: Path | None) -> Path:
    """A band at rest; its provenance tells a resume its ends, and where it began: None for the straight line."""
    begun = None if start is None else f"{start.curve!r} {fingerprint_tensors({'points': start.points})}"
    provenance = {"ends": fingerprint_tensors({"a": a, "b": b}), "start": begun}
    return replace(begin(a, b, PolygonalChain(images), start), provenance=provenance)


@dataclass(frozen=True)
class Elastic:
    """The family of a band's images, each of which takes a gradient in every step.

    Attributes:
        band: what holds the images.
        beginning: by what a resume knows where the band began.
    """

    band: Band
    beginning: Mapping[str, Any] = field(default_factory=dict)

    def identity(self, points: Tensor) -> Mapping[str, Any]:
        return {"band": asdict(self.band), **self.beginning}

    def moving(self, points: Tensor) -> Tensor:
        return points[1:-1]

    def rest(self, surface: Trainable, points: Tensor, steps: int) -> dict[str, Tensor]:
        energies = torch.full((len(points),), float("nan"), dtype=torch.float64, device=points.device)
        energies[0], energies[-1] = heights_of(surface, points[[0, -1]])
        lengths = _lengths(points)
        return {
            "energies": energies,
            "shares": lengths / lengths[-1],
            "met": torch.zeros((), dtype=torch.float64, device=points.device),
        }

    def owners(self, points: Tensor) -> Sequence[tuple[int, ...]]:
        return [(image,) for image in range(1, len(points) - 1)]

    def begin(self, epoch: Epoch) -> Moves:
        return _Relaxation(self.band, epoch)


def heights_of(surface: Trainable, points: Tensor) -> Tensor:
    """The exact heights `[n]` of points `[n, P]`, float64; the same in all processes that share the work."""
    heights = torch.stack([_height(surface, point) for point in points])
    surface.ranks.follow_(heights)
    return heights


def _height(surface: Surface, theta: Tensor) -> Tensor:
    with surface.at(theta) as here:
        return here.value()


class _Relaxation:
    """The steps of a band."""

    def __init__(self, band: Band, epoch: Epoch) -> None:
        self._band, self._epoch = band, epoch

    def step(self, index: int, slope: Slope) -> None:
        tensors, theta = self._epoch.tensors, self._epoch.theta
        heights = tensors["energies"].tolist()
        climbing = self._climbing(heights, self._epoch.progress(index))
        met = torch.zeros_like(tensors["energies"])
        for image in range(1, len(heights) - 1):
            theta.copy_(tensors["points"][image])
            met[image], gradient = slope(image)
            self._push(image, gradient, heights, image in climbing)
        self._move(self._epoch.stride(index), climbing)
        self._note(met)

    def finish(self) -> Tensor:
        tensors = self._epoch.tensors
        mean = tensors["met"] / len(self._epoch.shares)
        tensors["met"] = torch.zeros_like(tensors["met"])
        return mean

    def _climbing(self, heights: list[float], progress: float) -> list[int]:
        """The images that climb now; none while their heights are not known."""
        if self._band.climb == "none" or progress < self._band.settle or any(map(math.isnan, heights)):
            return []
        inner = range(1, len(heights) - 1)
        if self._band.climb == "highest":
            highest = max(inner, key=heights.__getitem__)
            return [highest] if heights[highest] > max(heights[0], heights[-1]) else []
        return [i for i in inner if heights[i - 1] < heights[i] >= heights[i + 1]]

    def _push(self, image: int, gradient: Tensor, heights: list[float], climbs: bool) -> None:
        """Turn an image's gradient into what drives it, and let the optimiser take that in."""
        tensors = self._epoch.tensors
        low, height, high = (0.0 if math.isnan(h) else h for h in heights[image - 1 : image + 2])
        before, here, after = tensors["points"][image - 1 : image + 2]
        tangent, ahead, behind = band_tangent(before, here, after, low, height, high)
        share = (gradient @ tangent) * (2 if climbs else 1)
        if self._band.spring and not climbs:
            share = share + self._band.spring * (ahead - behind)
        gradient.sub_(tangent.mul_(share))
        optimiser = self._epoch.optimiser
        optimiser.gather({name: tensors[name][image - 1] for name in optimiser.state}, Own(gradient))

    def _move(self, stride: Stride, climbing: list[int]) -> None:
        """Move all images, and put them back at their shares of the length if no springs hold them.

        Decoupled decay moves whole images: of what it does along the band, the shares of the length take most back.
        What the optimiser remembers stays with its image, whose place on the band is the same as before.
        """
        tensors, optimiser = self._epoch.tensors, self._epoch.optimiser
        images = tensors["points"][1:-1]
        if optimiser.decoupled:
            images.mul_(1 - stride.rate * self._epoch.recipe.weight_decay)
        optimiser.move(images, tensors, stride, self._epoch.theta)
        if not self._band.spring:
            redistribute(tensors["points"], tensors["shares"], climbing)

    def _note(self, met: Tensor) -> None:
        """Follow the images' losses, as training meets them: smoothed where a step sees a part of the examples.

        The ends' are exact and in evaluation mode. Dropout and augmentation raise those of the images a little; they
        serve to find slopes and peaks, and no result holds them.
        """
        tensors = self._epoch.tensors
        energies = tensors["energies"]
        smoothing = _REMEMBERED if len(self._epoch.shares) > 1 else 0.0
        updated = torch.where(energies.isnan(), met, smoothing * energies + (1 - smoothing) * met)
        updated[0], updated[-1] = energies[0], energies[-1]
        tensors["energies"] = updated
        tensors["met"] += met[1:-1].mean()


def band_tangent(
    before: Tensor, here: Tensor, after: Tensor, low: float, height: float, high: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The unit tangent `[P]` of a band at an image, and the distances to the next image and to the one before.

    It points forward. On a slope it is the direction of the piece to the higher neighbour. At an extremum both pieces
    count, that to the higher neighbour by the larger difference of energy. On a flat band both count alike; where all
    three images coincide it is zero. The images `[P]` and their energies are given in the band's order.
    """
    ahead, behind = after - here, here - before
    distances = norm(ahead), norm(behind)
    if high > height > low:
        tangent = ahead
    elif high < height < low:
        tangent = behind
    else:
        larger, smaller = sorted((abs(high - height), abs(low - height)), reverse=True)
        up, down = (larger, smaller) if high > low else (smaller, larger)
        if up == down:  # flat, or as high on both sides
            up = down = 1.0
        tangent = ahead.mul_(up).add_(behind, alpha=down)
    return tangent / norm(tangent).clamp_min(torch.finfo(tangent.dtype).tiny), *distances


def redistribute(points: Tensor, shares: Tensor, held: list[int]) -> None:
    """Put images `[n, P]` back at given shares `[n]` of the band's length, from 0 to 1, along its straight pieces.

    Held images stay; between two of them, and the ends, shares are those of the length between.
    """
    lengths = _lengths(points)
    wanted = lengths.clone()
    anchors = [0, *held, len(points) - 1]
    for left, right in pairwise(anchors):
        span = shares[left : right + 1].cpu() - shares[left].cpu()
        if span[-1] > 0:
            wanted[left : right + 1] = lengths[left] + span / span[-1] * (lengths[right] - lengths[left])
    piece = (torch.searchsorted(lengths, wanted) - 1).clamp(0, len(points) - 2)
    gap = lengths[piece + 1] - lengths[piece]
    part = torch.where(gap > 0, (wanted - lengths[piece]) / gap, torch.zeros_like(gap))
    weights = torch.zeros(len(points), len(points), dtype=torch.float64)
    rows = torch.arange(len(points))
    weights[rows, piece] = 1 - part
    weights[rows, piece + 1] = part
    moved = [i for i in range(len(points)) if i not in anchors]
    if moved:
        points[moved] = weights[moved].to(points) @ points


def _lengths(points: Tensor) -> Tensor:
    """The length `[n]` of a band up to each image, float64."""
    gaps = torch.stack([norm(Offset(after, before)) for before, after in pairwise(points)])
    return torch.cat([torch.zeros(1, dtype=torch.float64), gaps.cumsum(0).cpu()])
