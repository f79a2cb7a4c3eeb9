"""The path method that options name, and its recipe."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from connect.app.config import PathOptions, TrainingOptions
from connect.paths.autoneb import GrowingBand, parse_cycles
from connect.paths.curves import Bezier, Curve, PolygonalChain
from connect.paths.finding import PathMethod
from connect.paths.fitting import DEFAULT_RECIPE, CurveFit
from connect.paths.neb import Band
from connect.paths.sampling import Concentrated
from landscape.app.problems import recipe_section
from landscape.errors import ConfigError
from landscape.training.descent import Stratified
from landscape.training.recipes import Recipe


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


def path_finder(options: PathOptions, free_ends: bool = False) -> Finder:
    """The finder that options name; what they leave out comes from the problem's file, then from the defaults.

    Args:
        options: curve and recipe.
        free_ends: train the ends of a curve, too.

    Raises:
        ConfigError: a value is wrong.
    """
    cycles = _cycles(options)
    recipe = fit_recipe(options)
    method, own = METHODS[options.curve](options, cycles, free_ends)
    chosen = {name: value for name in ("sampling", "length_weight") if (value := getattr(options, name))}
    settings = {"curve": options.curve, "recipe": asdict(recipe), **chosen, **own}
    return Finder(method, recipe, settings, measures=not isinstance(method, CurveFit))


def fit_recipe(options: TrainingOptions) -> Recipe:
    """SGD's settings: flags over the problem's file over the defaults.

    Beside them the file's section may hold the cycles of a growing band.

    Raises:
        ConfigError: a value is wrong.
    """
    section = {name: value for name, value in recipe_section(options, "fit").items() if name != "cycles"}
    recipe = DEFAULT_RECIPE.updated(section, f"{options.problem}: fit")
    return recipe.updated(options.recipe_values(), "the flags")


Built = tuple[PathMethod, Mapping[str, Any]]


def _curve(kind: Callable[[int], Curve]) -> Callable[..., Built]:
    def build(options: PathOptions, cycles: Mapping[str, Any], free_ends: bool) -> Built:
        curve = kind(3 if options.control_points is None else options.control_points)
        sampler = Concentrated() if options.sampling == "concentrated" else Stratified()
        method = CurveFit(curve, sampler, options.length_weight or 0.0, free_ends)
        return method, {"control_points": curve.control_points}

    return build


def _band(options: PathOptions, cycles: Mapping[str, Any], free_ends: bool) -> Built:
    band = Band(**_given(spring=options.spring, climb=options.climb, images=options.control_points))
    return band, {"control_points": band.images, "band": asdict(band)}


def _growing_band(options: PathOptions, cycles: Mapping[str, Any], free_ends: bool) -> Built:
    own = _given(most_images=options.most_images, sag=options.sag, images=options.control_points)
    band = GrowingBand(**cycles, **own)
    return band, {"control_points": band.images, "growth": asdict(band)}


METHODS: Mapping[str, Callable[..., Built]] = {
    "bezier": _curve(Bezier),
    "chain": _curve(PolygonalChain),
    "neb": _band,
    "autoneb": _growing_band,
}


def _cycles(options: PathOptions) -> dict[str, Any]:
    """The cycles of a growing band, where flags or the problem's file name some."""
    text = recipe_section(options, "fit").get("cycles") if options.cycles is None else options.cycles
    if text is not None and not isinstance(text, str):
        raise ConfigError(f"{options.problem}: fit: cycles is {text!r}, expected text such as 4x5@0.1,2x10@0.1.")
    return {} if text is None else {"cycles": parse_cycles(text)}


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
