"""The recipe of a training that options name: by flags, by the problem's file, or by what is known of the network."""

import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from landscape.app.config import ProblemOptions, RecipeOptions
from landscape.app.options import flags, values
from landscape.app.problems import read_problem_file
from landscape.errors import ConfigError
from landscape.problems.kinds import has_attention
from landscape.storage.checkpoints import Checkpoint
from landscape.training.recipes import OWN_SETTINGS, Recipe

_log = logging.getLogger(__name__)
_OF_OPTIMISER = {"lr", "weight_decay", "warmup", "clip", *(name for own in OWN_SETTINGS.values() for name in own)}


@dataclass(frozen=True)
class NamedRecipe:
    """What options say of a recipe, which is whole once the network is known.

    Attributes:
        defaults: for each optimiser, what holds where options say nothing.
        flags: the values of flags.
        section: those of the problem's file; what depends on the optimiser counts only if the file is for the one that
            is taken: the one it names, or that alone has a setting which it names.
        source: of the section, for errors.

    Raises:
        ConfigError: a value is out of range, or belongs to another optimiser.
    """

    defaults: Mapping[str, Recipe]
    flags: Mapping[str, Any]
    section: Mapping[str, Any]
    source: str

    def __post_init__(self) -> None:
        _require_own(self._of_section, self.section, f"{self.source}: ")
        _require_own(self.optimiser, self.flags, "--")
        for optimiser in [self.optimiser] if self.optimiser else self.defaults:
            self.recipe(optimiser)

    @property
    def optimiser(self) -> str | None:
        """The optimiser that options are for; None where they are for any."""
        return self.flags.get("optimiser") or self._of_section or _named_in(self.flags)

    @property
    def _of_section(self) -> str | None:
        return _named_in(self.section)

    def recipe(self, optimiser: str | None = None) -> Recipe:
        """The recipe for an optimiser; by default for the one that options are for, or the first."""
        optimiser = optimiser or self.optimiser or next(iter(self.defaults))
        default = self.defaults[optimiser]
        try:
            default = default.updated(self.of_section(optimiser))
        except ConfigError as error:
            raise ConfigError(f"{self.source}: {error}") from error
        return default.updated({**self.flags, "optimiser": optimiser})

    def of_section(self, optimiser: str) -> dict[str, Any]:
        """What the problem's file says for an optimiser."""
        others = _OF_OPTIMISER if self._of_section not in {None, optimiser} else set()
        return {word: value for word, value in self.section.items() if word not in {*others, "optimiser"}}

    def rate(self, recipe: Recipe, before: Any, checkpoints: Sequence[Checkpoint]) -> float | None:
        """The peak rate that is known: what options name, else that of a run to go on with, else the checkpoints'.

        Args:
            recipe: what is settled of it.
            before: the recipe that a run to go on with states, if there is one.
            checkpoints: of which the lowest rate counts, by which one was trained by the same optimiser.
        """
        if "lr" in {**self.of_section(recipe.optimiser), **self.flags}:
            return recipe.lr
        told = [before, *(checkpoint.metadata.get("recipe") for checkpoint in checkpoints)]
        rates = [_rate_of(each, recipe.optimiser) for each in told]
        known = [rate for rate in rates if rate is not None]
        return known[0] if rates[0] is not None else min(known, default=None)

    def settled(self, network: nn.Module, checkpoints: Sequence[Checkpoint] = ()) -> Recipe:
        """The recipe for a network.

        Where options do not tell the optimiser, it is the one that the first checkpoint with a recipe was trained by;
        else AdamW for a network with attention, and SGD for others. Which was taken, and why, is logged, but for SGD
        where there is no attention.
        """
        if self.optimiser:
            return self.recipe()
        bearer = next((c for c in checkpoints if _carried(c)), None)
        attention = has_attention(network)
        recipe = self.recipe(_carried(bearer) if bearer else "adamw" if attention else "sgd")
        if attention or recipe.optimiser != "sgd":
            why = f"as {bearer.path} was trained" if bearer else "as the network has attention"
            _log.warning("the optimiser is %s, %s; --optimiser names another.", recipe.optimiser, why)
        return recipe


def named_recipe(
    defaults: Mapping[str, Recipe],
    recipe: RecipeOptions,
    problem: ProblemOptions,
    section: str,
    beside: Collection[str] = (),
) -> NamedRecipe:
    """What flags and a section of the problem's file say of a recipe.

    Args:
        defaults: for each optimiser, what holds where neither says anything.
        recipe: the flags.
        problem: names the file.
        section: its section.
        beside: further keys that the section may hold.

    Raises:
        ConfigError: a key is unknown, or a value has the wrong type, is out of range or belongs to another optimiser.
    """
    words = {word: value for word, value in recipe_section(problem, section).items() if word not in beside}
    source = f"{problem.problem}: {section}"
    for word in words:
        if word not in flags(RecipeOptions):
            raise ConfigError(f"{source}: unknown key {word!r}; a recipe has {', '.join(flags(RecipeOptions))}.")
    try:
        in_file = RecipeOptions(**words)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error
    return NamedRecipe(defaults, _given(recipe), _given(in_file), source)


def recipe_section(options: ProblemOptions, name: str) -> dict[str, Any]:
    """The recipe under `train` or `fit` in the problem's file; empty without one."""
    section = read_problem_file(options.problem).get(name) if options.problem else None
    if section is not None and not isinstance(section, dict):
        raise ConfigError(f"{options.problem}: {name!r} is {section!r}, expected a mapping such as {{epochs: 40}}.")
    return section or {}


def _given(recipe: RecipeOptions) -> dict[str, Any]:
    return {word: value for word, value in values(recipe).items() if value is not None}


def _named_in(words: Mapping[str, Any]) -> str | None:
    """The optimiser that values name, or that alone has a setting which they name."""
    owners = [owner for owner, own in OWN_SETTINGS.items() if any(name in words for name in own)]
    return words.get("optimiser") or next(iter(owners), None)


def _require_own(optimiser: str | None, words: Mapping[str, Any], prefix: str) -> None:
    """Check that values are settings that an optimiser has; raises ConfigError."""
    for owner, own in OWN_SETTINGS.items():
        for name in own:
            if name in words and owner != optimiser:
                raise ConfigError(
                    f"{prefix}{name} is for {owner}, and the optimiser is {optimiser}; leave it out, or name the "
                    f"optimiser {owner}."
                )


def _rate_of(recipe: Any, optimiser: str) -> float | None:
    """The rate that a recipe in a file states for an optimiser; earlier versions knew one."""
    if not isinstance(recipe, Mapping) or recipe.get("optimiser", "sgd") != optimiser:
        return None
    rate = recipe.get("lr")
    return float(rate) if isinstance(rate, int | float) and 0 < rate < math.inf else None


def _carried(checkpoint: Checkpoint) -> str | None:
    """The optimiser that a checkpoint was trained by, if it says so; earlier versions knew one."""
    recipe = checkpoint.metadata.get("recipe")
    named = recipe.get("optimiser", "sgd") if isinstance(recipe, Mapping) and recipe else None
    return named if isinstance(named, str) and named in OWN_SETTINGS else None
