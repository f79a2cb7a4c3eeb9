"""A peak rate for the training of a path, by a short range test on the path that it begins with.

A few dozen steps are taken at rates that grow evenly in their logarithm (Smith 2017, arXiv 1506.01186). The loss falls,
then rises or explodes; a rate well below the one at which it is lowest is taken, and a lower one that does nearly as
well where there is one. Where the loss falls fastest, as is often taken, hangs on the noise of so few steps. Along a
path the loss varies more with t than with the rate, so t takes the values of a low-discrepancy sequence (van der Corput
1935), of which any few that follow each other cover [0, 1] evenly, and their mean is comparable.
"""

import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from connect.paths.finding import PathMethod
from connect.paths.fitting import CurveFit
from connect.paths.path import Path
from landscape.errors import DivergedError
from landscape.problems.splits import Index
from landscape.risk.surface import Point, Trainable
from landscape.runtime.progress import Progress, Reporter, silent
from landscape.runtime.seeds import mixed_seed
from landscape.training.recipes import RISING_DECADES, Recipe

STEPS = 64
_HIGHEST: Mapping[str, float] = {"sgd": 10.0, "adamw": 1.0}
_WINDOW = 16  # steps whose mean loss is compared
_BELOW = 3  # times lower than the rate at which the loss is lowest
_NEARLY = 0.1  # of the whole fall is missing where the loss is nearly lowest
_OWN = 0x7A7E  # sets the order of the examples apart from the fit's


def find_rate(
    surface: Trainable, path: Path, method: PathMethod, recipe: Recipe, *, seed: int = 0, report: Reporter = silent
) -> float:
    """The peak rate for a path, at most a third of that at which the loss is lowest in a range test of `STEPS` steps.

    Beside the activations it takes the memory of the fit itself, since the control points are moved where they lie.

    Args:
        surface: the height; what a descent changes in it is put back.
        path: what `method.begin` made. Its ends stay, and its other control points are moved: begin anew.
        method: `CurveFit` or `Band`; the rates of a `GrowingBand` are in its cycles.
        recipe: of the fit; all but its epochs, schedule, warm-up and rate counts.
        seed: of the order of examples, of t, of augmentation and of dropout.
        report: progress reporter.

    Example:
        The step of plain descent in a valley of curvature λ is stable below 2 / λ.

        >>> import torch
        >>> from connect import Bezier
        >>> from landscape import Potential
        >>> valley = Potential(lambda theta: 50 * (theta[1] - theta[0] * (1 - theta[0])).square(), 2)
        >>> a, b = torch.tensor([0.0, 0.0]).double(), torch.tensor([1.0, 0.0]).double()
        >>> method, plain = CurveFit(Bezier(3)), Recipe(momentum=0.0, nesterov=False, weight_decay=0.0)
        >>> 0.002 < find_rate(valley, method.begin(a, b), method, plain) < 2 / 100 * 4
        True
    """
    an_epoch = 2 ** int(math.log2(min(STEPS, len(surface.runs(recipe.batch_size)))))  # divides STEPS
    highest = _HIGHEST[recipe.optimiser]
    rising = recipe.updated({"epochs": STEPS // an_epoch, "lr": highest, "warmup": 0.0, "schedule": "rising"})
    if isinstance(method, CurveFit):
        method = replace(method, sampler=Even(), free_ends=False)
    gradients = 1 if isinstance(method, CurveFit) else len(path.points) - 2
    before = surface.buffers()
    with report("range test", STEPS * gradients) as progress:
        watched = _Watched(surface, an_epoch, progress)
        try:
            method.train(watched, path, rising, seed=mixed_seed(seed, _OWN))
        except (_Exploded, DivergedError):
            pass
        finally:
            surface.load_buffers(before)
    places = (surface.ranks.agreed(place, surface.device) for place in _low(watched.losses, gradients))
    lowest, nearly = (highest * 10 ** (RISING_DECADES * (place / STEPS - 1)) for place in places)
    return float(f"{min(lowest / _BELOW, nearly):.2g}")


def _low(losses: Sequence[float], gradients: int) -> tuple[int, int]:
    """The steps about which the mean loss of a few is lowest, and first nearly so; the first where there are too few.

    Args:
        losses: of all gradients, in their order.
        gradients: of a step.
    """
    whole = len(losses) // gradients
    each = np.array(losses[: whole * gradients]).reshape(whole, gradients).mean(axis=1)
    if whole < _WINDOW:
        return 0, 0
    means = np.convolve(each, np.full(_WINDOW, 1 / _WINDOW), "valid")
    lowest = int(np.argmin(means))
    nearly = int(np.argmax(means <= means[lowest] + _NEARLY * (means[0] - means[lowest])))
    return lowest + _WINDOW // 2, nearly + _WINDOW // 2


@dataclass(frozen=True)
class Even:
    """t of which any few that follow each other cover [0, 1] evenly, moved together by a random share."""

    def start(self) -> Tensor:
        return torch.empty(0, dtype=torch.float64)

    def draw(self, steps: int, generator: torch.Generator, memory: Tensor) -> Tensor:
        digits = [[(number >> place) & 1 for place in range(32)] for number in range(steps)]
        sequence = torch.tensor(digits, dtype=torch.float64) @ 0.5 ** torch.arange(1, 33, dtype=torch.float64)
        return (sequence + torch.rand(1, generator=generator, dtype=torch.float64)) % 1

    def remember(self, memory: Tensor, places: Tensor, losses: Tensor) -> Tensor:
        return memory


class _Exploded(Exception):
    """The loss is not finite any more."""


class _Watched:
    """A surface whose epochs have a few batches only, and that notes their losses until they explode."""

    def __init__(self, surface: Trainable, batches: int, progress: Progress) -> None:
        self._surface, self._batches, self._progress = surface, batches, progress
        self.dimension, self.device, self.dtype = surface.dimension, surface.device, surface.dtype
        self.ranks = surface.ranks
        self.losses: list[float] = []

    def runs(self, batch_size: int) -> Sequence[slice]:
        return self._surface.runs(batch_size)[: self._batches]

    def order(self, generator: torch.Generator) -> Tensor | None:
        return self._surface.order(generator)

    def at(self, theta: Tensor) -> AbstractContextManager[Point]:
        return self._surface.at(theta)

    def batch_gradient(
        self, theta: Tensor, indices: Sequence[Index], *, augment: str = "", accumulate: int = 1
    ) -> Generator[tuple[Tensor, Tensor], None, None]:
        batches = self._surface.batch_gradient(theta, indices, augment=augment, accumulate=accumulate)
        try:
            for loss, gradient in batches:
                if not math.isfinite(float(loss)):
                    raise _Exploded
                self.losses.append(float(loss))
                self._progress.advance()
                yield loss, gradient
        finally:
            batches.close()

    def buffers(self) -> Mapping[str, Tensor]:
        return self._surface.buffers()

    def load_buffers(self, buffers: Mapping[str, Tensor]) -> None:
        self._surface.load_buffers(buffers)
