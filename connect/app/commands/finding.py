"""The path method that options name, and its recipe."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import nn

from connect.app.config import BandOptions, CurveOptions, FitConfig, GraphConfig
from connect.paths.autoneb import ADAMW_CYCLES, GrowingBand, parse_cycles
from connect.paths.curves import Bezier, Curve, PolygonalChain
from connect.paths.finding import PathMethod
from connect.paths.fitting import PATH_RECIPES, CurveFit
from connect.paths.neb import Band
from connect.paths.path import Path
from connect.paths.rates import STEPS, find_rate
from connect.paths.sampling import Concentrated
from landscape.app.config import ProblemOptions, RecipeOptions
from landscape.app.memory import Need, fit_need
from landscape.app.recipes import NamedRecipe, named_recipe, recipe_section
from landscape.errors import ConfigError, Interrupted
from landscape.risk.empirical import EmpiricalRisk
from landscape.runtime.progress import Reporter
from landscape.storage.checkpoints import Checkpoint
from landscape.training.descent import Stratified
from landscape.training.optimisers import optimiser_of
from landscape.training.recipes import Recipe

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Finder:
    """How paths are found, as options say.

    Attributes:
        method: with its settings.
        recipe: of its training.
        settings: what a path follows from, beside its ends, the seed and the data.
        measures: whether a path follows from exact losses on the way too, and not from training batches alone.
    """

    method: PathMethod
    recipe: Recipe
    settings: Mapping[str, Any]
    measures: bool


def path_finder(config: FitConfig | GraphConfig, recipe: Recipe, free_ends: bool = False) -> Finder:
    """The finder that options name; what they leave out comes from the problem's file, then from the defaults.

    Args:
        config: the curve.
        recipe: of its training.
        free_ends: train the ends of a curve, too.

    Raises:
        ConfigError: a value is wrong.
    """
    cycles = _cycles(config.band, config.problem, recipe)
    options = config.curve
    method, own = METHODS[options.curve](options, config.band, cycles, free_ends)
    chosen = {name: value for name in ("sampling", "length_weight") if (value := getattr(options, name))}
    settings = {"curve": options.curve, "recipe": recipe.stated(), **chosen, **own}
    return Finder(method, recipe, settings, measures=not isinstance(method, CurveFit))


def fit_recipe(recipe: RecipeOptions, problem: ProblemOptions) -> NamedRecipe:
    """What flags and the problem's file, which may also hold a growing band's cycles, say of the recipe.

    Raises:
        ConfigError: a value is wrong.
    """
    return named_recipe(PATH_RECIPES, recipe, problem, "fit", beside=("cycles",))


def settled_recipe(
    named: NamedRecipe, network: nn.Module, checkpoints: Sequence[Checkpoint], before: Any
) -> tuple[Recipe, float | None]:
    """The recipe for a network, and its peak rate as far as anything tells it; see `NamedRecipe`.

    Args:
        named: what options say.
        network: whose paths are trained.
        checkpoints: of it.
        before: the recipe that a run to go on with states, if there is one.
    """
    recipe = named.settled(network, checkpoints)
    rate = named.rate(recipe, before, checkpoints)
    return recipe.updated({"lr": rate}), rate


def ranged(finder: Finder, risk: EmpiricalRisk, path: Path, seed: int, report: Reporter) -> Finder:
    """A finder whose rate is found by a range test, which is logged; the rates of a growing band are in its cycles.

    Args:
        finder: by which the path begins.
        risk: the loss.
        path: what it begins with, whose control points but the ends are moved.
        seed: of all random choices.
        report: progress reporter.
    """
    if isinstance(finder.method, GrowingBand):
        return finder
    try:
        rate = find_rate(risk, path, finder.method, finder.recipe, seed=seed, report=report)
    except Interrupted as error:
        raise Interrupted("stopped in the range test of the rate, before the training; go on with --resume.") from error
    recipe = finder.recipe.updated({"lr": rate})
    if risk.ranks.first:
        steps = len(risk.runs(recipe.batch_size)) * recipe.epochs
        _log.warning(
            "the peak rate is %g, by a range test of %d steps (one training has %d); --lr names another.",
            rate, STEPS, steps,
        )  # fmt: skip
    return replace(finder, recipe=recipe, settings={**finder.settings, "recipe": recipe.stated()})


def memory_need(finder: Finder, free_ends: bool = False) -> Need:
    """What the training of a path holds at most."""
    method = finder.method
    points = method.most_images if isinstance(method, GrowingBand) else finder.settings["control_points"]
    free = points if free_ends else points - 2
    return fit_need(points, free, len(optimiser_of(finder.recipe).state))


Built = tuple[PathMethod, Mapping[str, Any]]


def _curve(kind: Callable[[int], Curve]) -> Callable[..., Built]:
    def build(options: CurveOptions, band: BandOptions, cycles: Mapping[str, Any], free_ends: bool) -> Built:
        curve = kind(3 if options.control_points is None else options.control_points)
        sampler = Concentrated() if options.sampling == "concentrated" else Stratified()
        method = CurveFit(curve, sampler, options.length_weight or 0.0, free_ends)
        return method, {"control_points": curve.control_points}

    return build


def _band(options: CurveOptions, band: BandOptions, cycles: Mapping[str, Any], free_ends: bool) -> Built:
    method = Band(**_given(spring=band.spring, climb=band.climb, images=options.control_points))
    return method, {"control_points": method.images, "band": asdict(method)}


def _growing_band(options: CurveOptions, band: BandOptions, cycles: Mapping[str, Any], free_ends: bool) -> Built:
    own = _given(most_images=band.most_images, sag=band.sag, images=options.control_points)
    method = GrowingBand(**cycles, **own)
    return method, {"control_points": method.images, "growth": asdict(method)}


METHODS: Mapping[str, Callable[..., Built]] = {
    "bezier": _curve(Bezier),
    "chain": _curve(PolygonalChain),
    "neb": _band,
    "autoneb": _growing_band,
}


def _cycles(band: BandOptions, problem: ProblemOptions, recipe: Recipe) -> dict[str, Any]:
    """The cycles of a growing band, where flags, the problem's file or the optimiser name some."""
    text = recipe_section(problem, "fit").get("cycles") if band.cycles is None else band.cycles
    if text is not None and not isinstance(text, str):
        raise ConfigError(f"{problem.problem}: fit: cycles is {text!r}, expected text such as 4x5@0.1,2x10@0.1.")
    if text is None:
        return {"cycles": ADAMW_CYCLES} if recipe.optimiser == "adamw" else {}
    return {"cycles": parse_cycles(text)}


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
