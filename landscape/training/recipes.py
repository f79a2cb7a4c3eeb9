"""How a descent is run: epochs, optimiser, rate and the rate's course."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from landscape.errors import ConfigError
from landscape.problems.augmentation import named_augmentations

Schedule = Literal["constant", "step", "onecycle", "linear", "cosine", "rising"]

RISING_DECADES = 5
OptimiserName = Literal["sgd", "adamw"]

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


def cosine(progress: float) -> float:
    """Down to nothing along half a cosine (Loshchilov and Hutter 2017, arXiv 1608.03983)."""
    return (1 + math.cos(math.pi * progress)) / 2


def rising(progress: float) -> float:
    """Up over five decades, evenly in its logarithm: for a range test (Smith 2017, arXiv 1506.01186)."""
    return float(10 ** (RISING_DECADES * (progress - 1)))


SCHEDULES: Mapping[str, Callable[[float], float]] = {
    "constant": constant,
    "step": step,
    "onecycle": onecycle,
    "linear": linear,
    "cosine": cosine,
    "rising": rising,
}

OWN_SETTINGS: Mapping[str, tuple[str, ...]] = {"sgd": ("momentum", "nesterov"), "adamw": ("betas",)}
"""The settings that one optimiser alone has."""

_FORMERLY = {"optimiser": "sgd", "warmup": 0.0, "clip": 0.0}  # what recipes did not say that earlier versions wrote
_ADAMW = {"lr": 1e-3, "weight_decay": 0.01, "schedule": "cosine", "warmup": 0.05, "clip": 1.0}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Stochastic gradient descent with momentum, or AdamW; the defaults are those of the former.

    Attributes:
        epochs: passes over the training examples, at least 0.
        optimiser: "sgd", or "adamw", for which `Recipe.adamw` has the usual settings.
        lr: peak learning rate, positive.
        batch_size: examples a step.
        momentum: in [0, 1); of SGD.
        nesterov: look ahead, as Nesterov does; of SGD.
        betas: shares that the running means of gradients and of their squares keep at a step, in [0, 1); of AdamW.
        weight_decay: this times θ is added to the gradient of SGD, and taken off at the learning rate by AdamW.
        schedule: the rate's course.
        warmup: share of all steps in which the rate rises in a straight line, in [0, 1); "onecycle" has its own.
        clip: largest norm of a batch's gradient, which is scaled down to it; 0 leaves it as it is.
        augment: random changes of training images, such as crop,flip; see `augmentation`.
        accumulate: parts that a batch is run in, one after the other, to take less memory; layers of batch norm see a
            part at a time.

    Raises:
        ConfigError: a value is out of its range.
    """

    epochs: int = 40
    optimiser: OptimiserName = "sgd"
    lr: float = 0.1
    batch_size: int = 128
    momentum: float = 0.9
    nesterov: bool = True
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 5e-4
    schedule: Schedule = "onecycle"
    warmup: float = 0.0
    clip: float = 0.0
    augment: str = ""
    accumulate: int = 1

    def __post_init__(self) -> None:
        checks = {
            "epochs": self.epochs >= 0,
            "optimiser": self.optimiser in OWN_SETTINGS,
            "lr": self.lr > 0 and math.isfinite(self.lr),
            "batch_size": self.batch_size >= 1,
            "momentum": 0 <= self.momentum < 1,
            "betas": len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas),
            "weight_decay": self.weight_decay >= 0 and math.isfinite(self.weight_decay),
            "schedule": self.schedule in SCHEDULES,
            "warmup": 0 <= self.warmup < 1,
            "clip": self.clip >= 0 and math.isfinite(self.clip),
            "accumulate": 1 <= self.accumulate <= self.batch_size,
        }
        for name, right in checks.items():
            if not right:
                raise ConfigError(f"{name} is {getattr(self, name)!r}, which is out of range; see --help.")
        named_augmentations(self.augment)
        self._require_fitting()

    def _require_fitting(self) -> None:
        """Check that settings go together."""
        defaults = {field.name: field.default for field in fields(self)}
        for name in self._others():
            if getattr(self, name) != defaults[name]:
                raise ConfigError(f"{name} is {getattr(self, name)!r}, but {self.optimiser} has none; leave it out.")
        if self.warmup and self.schedule == "onecycle":
            raise ConfigError(
                f"warmup is {self.warmup}, but the schedule onecycle has its own; leave it out, or take another."
            )

    def _others(self) -> set[str]:
        """The settings that other optimisers alone have."""
        return {name for optimiser, own in OWN_SETTINGS.items() if optimiser != self.optimiser for name in own}

    @classmethod
    def adamw(cls, **settings: Any) -> "Recipe":
        """AdamW as is usual: rate 0.001, decay 0.01, a cosine after a warm-up over 5 %, and gradients clipped at 1.

        Args:
            settings: those that are to be otherwise.
        """
        return cls(optimiser="adamw").updated({**_ADAMW, **settings})

    def updated(self, changes: Mapping[str, Any]) -> "Recipe":
        """The same with the given values in place, which are checked again; None changes nothing.

        The schedule "onecycle", which has a warm-up of its own, takes the place of another that is not among them.
        """
        changes = {name: value for name, value in changes.items() if value is not None}
        if changes.get("schedule") == "onecycle":
            changes = {"warmup": 0.0, **changes}
        return replace(self, **changes)

    def stated(self) -> dict[str, Any]:
        """What a run follows from, for its provenance: what the optimiser has, and earlier versions would have said."""
        own = {name: value for name, value in asdict(self).items() if name not in self._others()}
        return {name: value for name, value in own.items() if name not in _FORMERLY or value != _FORMERLY[name]}

    def rate(self, progress: float, step: float = 0.0) -> float:
        """The learning rate of a step.

        Args:
            progress: the share in [0, 1) of all steps that are done before.
            step: the share that the step itself is; a warm-up's last step has the full rate.
        """
        warm = min(1.0, (progress + step) / self.warmup) if self.warmup else 1.0
        return self.lr * SCHEDULES[self.schedule](progress) * warm

    def epoch_rates(self) -> list[float]:
        """The learning rate in the middle of each epoch."""
        return [self.rate((epoch + 0.5) / self.epochs) for epoch in range(self.epochs)]


TRAINING_RECIPES: Mapping[str, Recipe] = {"sgd": Recipe(), "adamw": Recipe.adamw()}
"""What a minimum is trained by, for each optimiser, unless more is known."""
