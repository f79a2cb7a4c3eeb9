"""AutoNEB: an elastic band that gets a new image wherever it sags.

A band of few images is cheap but cuts corners. After each cycle of relaxation the true loss is measured between
neighbouring images; where it rises above the straight line between their losses by more than a share of the band's
range, an image is inserted at the highest place, and the next cycle goes on, later ones at a lower rate (Draxler et al.
2018, arXiv 1803.00885, algorithm 2; Kolsbjerg, Groves and Hammer 2016, J. Chem. Phys. 145, 094107).
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from connect.paths.curves import PolygonalChain
from connect.paths.fitting import DEFAULT_RECIPE
from connect.paths.neb import Band, Elastic, begin_band, heights_of
from connect.paths.path import Path, builder
from landscape.errors import ConfigError
from landscape.risk.surface import Trainable
from landscape.runtime.progress import Reporter, silent
from landscape.runtime.seeds import mixed_seed
from landscape.training.descent import begin_state, take_steps
from landscape.training.keeping import Keeping, State
from landscape.training.recipes import Recipe

_CYCLE = re.compile(r"(\d+)x(\d+)@([\d.eE+-]+)")
_FAMILY = Elastic(Band())  # of any number of images


@dataclass(frozen=True)
class Cycle:
    """One relaxation of the band: passes of each image over the training examples, at a constant rate."""

    epochs: int
    lr: float

    def __post_init__(self) -> None:
        if self.epochs < 1 or not 0 < self.lr < float("inf"):
            raise ConfigError(f"a cycle has {self.epochs} epochs at rate {self.lr}, expected at least 1 and above 0.")


def parse_cycles(text: str) -> tuple[Cycle, ...]:
    """Cycles from a text such as `4x5@0.1,2x10@0.1`: number × epochs @ rate.

    Raises:
        ConfigError: it is not such a text.
    """
    cycles: list[Cycle] = []
    for part in text.split(","):
        match = _CYCLE.fullmatch(part.strip())
        try:
            cycles += [Cycle(int(match[2]), float(match[3]))] * int(match[1]) if match else []
        except ValueError:
            match = None
        if not match:
            raise ConfigError(f"cycles are {text!r}, expected number x epochs @ rate, such as 4x5@0.1,2x10@0.1.")
    if not cycles:
        raise ConfigError(f"cycles are {text!r}, expected one cycle or more.")
    return tuple(cycles)


DEFAULT_CYCLES = parse_cycles("4x2@0.1,2x4@0.1,4x2@0.01,4x2@0.001")
ADAMW_CYCLES = parse_cycles("4x2@1e-3,2x4@1e-3,4x2@1e-4,4x2@1e-5")


@dataclass(frozen=True)
class GrowingBand:
    """An elastic band that gets new images: how it grows.

    Attributes:
        images: to begin with, the two ends included.
        most_images: at most so many.
        cycles: the relaxations; images are inserted after each but the last.
        sag: insert where the loss lies above the line between two images by more than this share of the band's range.
        checks: places between two images at which the loss is measured.
    """

    images: int = 5
    most_images: int = 15
    cycles: Sequence[Cycle] = DEFAULT_CYCLES
    sag: float = 0.2
    checks: int = 4

    def __post_init__(self) -> None:
        if not 3 <= self.images <= self.most_images:
            raise ConfigError(f"images are {self.images} to {self.most_images}, expected 3 to begin with, or more.")
        if not self.cycles or self.sag <= 0 or self.checks < 1:
            raise ConfigError("a band grows in at least one cycle, with sag above 0 and checks at least 1.")

    def begin(self, a: Tensor, b: Tensor, start: Path | None = None) -> Path:
        return begin_band(self.images, a, b, start)

    def train(
        self,
        surface: Trainable,
        path: Path,
        recipe: Recipe = DEFAULT_RECIPE,
        *,
        seed: int = 0,
        keeping: Keeping | None = None,
        report: Reporter = silent,
    ) -> Path:
        """Let the band slide down, and insert images where it sags.

        Of the recipe, epochs and rates are those of the cycles, momentum is the heavy ball's, a warm-up begins each.
        """
        if keeping:
            keeping = keeping.bound(growth=asdict(self), recipe=recipe.stated(), seed=seed, **path.provenance)
        recipes = [replace(recipe, epochs=c.epochs, lr=c.lr, schedule="constant") for c in self.cycles]
        state = keeping.load(surface) if keeping else None
        if state is None:
            facts = {"cycle": 0, "met_losses": []}
            state = begin_state(surface, path.points, _FAMILY, recipes[0], facts)
        first = state.facts["cycle"]
        for cycle in range(first, len(recipes)):
            if cycle > first:
                state = self._grown(surface, state, recipes[cycle])
            take_steps(
                surface,
                state,
                _FAMILY,
                recipes[cycle],
                seed=mixed_seed(seed, cycle),
                keeping=keeping,
                report=report,
                description=f"band {cycle + 1} of {len(recipes)}",
            )
        points = state.tensors["points"]
        losses = torch.tensor(_met_losses(state), dtype=torch.float64)
        rates = torch.tensor([rate for each in recipes for rate in each.epoch_rates()], dtype=torch.float64)
        return Path(points, PolygonalChain(len(points)), losses=losses, rates=rates, build=builder(surface))

    def _grown(self, surface: Trainable, state: State, recipe: Recipe) -> State:
        """The band with which the next cycle begins, and whose optimiser remembers nothing."""
        points = state.tensors["points"]
        places = sagging(surface, points, self)[: self.most_images - len(points)]
        for piece, part in sorted(places, reverse=True):
            image = torch.lerp(points[piece], points[piece + 1], part)
            points = torch.cat([points[: piece + 1], image[None], points[piece + 1 :]])
        facts = {"cycle": state.facts["cycle"] + 1, "met_losses": _met_losses(state)}
        return begin_state(surface, points, _FAMILY, recipe, facts)


def _met_losses(state: State) -> list[float]:
    """The mean losses of all epochs so far, those of earlier cycles first."""
    return [*state.facts["met_losses"], *state.tensors["losses"].tolist()]


def sagging(surface: Trainable, points: Tensor, growth: GrowingBand) -> list[tuple[int, float]]:
    """The pieces of a band `[n, P]` that sag, the worst first, and the share of each at which it is worst."""
    heights = heights_of(surface, points).tolist()
    parts = [(i + 1) / (growth.checks + 1) for i in range(growth.checks)]
    excess: list[tuple[float, int, float]] = []
    highest = max(heights)
    for piece in range(len(points) - 1):
        left, right = heights[piece], heights[piece + 1]
        places = torch.stack([torch.lerp(points[piece], points[piece + 1], part) for part in parts])
        between = heights_of(surface, places).tolist()
        highest = max(highest, *between)
        above = [value - (left + part * (right - left)) for value, part in zip(between, parts, strict=True)]
        worst = max(range(len(parts)), key=above.__getitem__)
        excess.append((above[worst], piece, parts[worst]))
    least = growth.sag * (highest - min(heights))
    return [(piece, part) for above, piece, part in sorted(excess, reverse=True) if above > least]
