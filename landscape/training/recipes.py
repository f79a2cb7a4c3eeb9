"""How a descent is run: epochs, rate, momentum and the rate's course."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from landscape.errors import ConfigError
from landscape.problems.augmentation import named_augmentations

Schedule = Literal["constant", "step", "onecycle", "linear"]

_STEPS = (1 / 2, 3 / 4, 11 / 12)
_WARM_UP, _COLD_START, _COLD_END = 0.3, 0.04, 0.001


def constant(progress: float) -> float:
    """The same rate throughout."""
    return 1.0


def step(progress: float) -> float:
    """A tenth from 1/2, 3/4 and 11/12 of the way on: epochs 150, 225 and 275 of 300 (Li et al. 2018)."""
    return float(0.1 ** sum(progress >= edge for edge in _STEPS))


def onecycle(progress: float) -> float:
    """Up in a straight line over the first 30 %, then down along a cosine to almost nothing (Smith and Topin 2018)."""
    if progress < _WARM_UP:
        return _COLD_START + (1 - _COLD_START) * progress / _WARM_UP
    fraction = (progress - _WARM_UP) / (1 - _WARM_UP)
    return _COLD_END + (1 - _COLD_END) * (1 + math.cos(math.pi * fraction)) / 2


def linear(progress: float) -> float:
    """Full to one half of the way, down in a straight line to 1 % at nine tenths, then flat (Garipov et al. 2018)."""
    return min(1.0, max(0.01, 1.0 - 0.99 * (progress - 0.5) / 0.4))


SCHEDULES: Mapping[str, Callable[[float], float]] = {
    "constant": constant,
    "step": step,
    "onecycle": onecycle,
    "linear": linear,
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Stochastic gradient descent with momentum.

    Attributes:
        epochs: passes over the training examples, at least 0.
        lr: peak learning rate, positive.
        batch_size: examples a step.
        momentum: in [0, 1).
        nesterov: look ahead, as Nesterov does.
        weight_decay: added to the gradient as this times θ.
        schedule: the rate's course.
        augment: random changes of training images, such as crop,flip; see `augmentation`.
        accumulate: parts that a batch is run in, one after the other, to take less memory; layers of batch norm see a
            part at a time.

    Raises:
        ConfigError: a value is out of its range.
    """

    epochs: int = 40
    lr: float = 0.1
    batch_size: int = 128
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    schedule: Schedule = "onecycle"
    augment: str = ""
    accumulate: int = 1

    def __post_init__(self) -> None:
        checks = {
            "epochs": self.epochs >= 0,
            "lr": self.lr > 0 and math.isfinite(self.lr),
            "batch_size": self.batch_size >= 1,
            "momentum": 0 <= self.momentum < 1,
            "weight_decay": self.weight_decay >= 0 and math.isfinite(self.weight_decay),
            "schedule": self.schedule in SCHEDULES,
            "accumulate": 1 <= self.accumulate <= self.batch_size,
        }
        for name, right in checks.items():
            if not right:
                raise ConfigError(f"{name} is {getattr(self, name)!r}, which is out of range; see --help.")
        named_augmentations(self.augment)

    def updated(self, changes: Mapping[str, Any]) -> "Recipe":
        """The same with the given values in place, which are checked again; None changes nothing."""
        return replace(self, **{name: value for name, value in changes.items() if value is not None})

    def rate(self, progress: float) -> float:
        """The learning rate when `progress` in [0, 1) of all steps are done."""
        return self.lr * SCHEDULES[self.schedule](progress)
