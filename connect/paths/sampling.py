"""Where along a curve the steps of a fit take place, when the losses met so far have a say in it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from landscape.errors import ConfigError

_BINS = 32
_NEWEST = 0.5


@dataclass(frozen=True)
class Concentrated:
    """t drawn more often where the loss is high, so that a fit works on the pass of its path.

    The density over [0, 1] is a mixture of the uniform one and one proportional to the loss that was met lately in each
    of 32 bins; draws are stratified over each epoch. What is minimised is then the mean of the loss under that density,
    which lies between the mean and the maximum along the path.

    Attributes:
        share: of the density that follows the loss, in [0, 1).
        power: that the loss is raised to.
    """

    share: float = 0.7
    power: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1 or self.power < 0:
            raise ConfigError(f"share is {self.share} and power {self.power}; expected [0, 1) and at least 0.")

    def start(self) -> Tensor:
        return torch.full((_BINS,), float("nan"), dtype=torch.float64)

    def draw(self, steps: int, generator: torch.Generator, memory: Tensor) -> Tensor:
        strata = torch.randperm(steps, generator=generator)
        uniform = (strata + torch.rand(steps, generator=generator, dtype=torch.float64)) / steps
        edges = torch.linspace(0, 1, _BINS + 1, dtype=torch.float64)
        passed = torch.cat([torch.zeros(1, dtype=torch.float64), self._density(memory).cumsum(0)])
        passed[-1] = 1.0
        bins = (torch.searchsorted(passed, uniform, right=True) - 1).clamp(0, _BINS - 1)
        inside = (uniform - passed[bins]) / (passed[bins + 1] - passed[bins])
        return (edges[bins] + inside / _BINS).clamp(0, 1)

    def remember(self, memory: Tensor, places: Tensor, losses: Tensor) -> Tensor:
        bins = (places * _BINS).long().clamp_max(_BINS - 1)
        counts = torch.bincount(bins, minlength=_BINS)
        met = torch.zeros_like(memory).index_add(0, bins, losses) / counts.clamp_min(1)
        updated = torch.where(memory.isnan(), met, memory.lerp(met, _NEWEST))
        return torch.where(counts > 0, updated, memory)

    def _density(self, memory: Tensor) -> Tensor:
        """The probability of each bin; bins that were not met yet weigh as the mean of those that were.

        Losses count from 0, or from the lowest where that is below 0.
        """
        even = torch.full((_BINS,), 1 / _BINS, dtype=torch.float64)
        met = ~memory.isnan()
        if not met.any():
            return even
        heights = torch.where(met, memory, memory[met].mean())
        heights = (heights - heights.min().clamp_max(0)) ** self.power
        return (1 - self.share) * even + self.share * heights / heights.sum() if heights.sum() > 0 else even
