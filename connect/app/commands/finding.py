"""Train a path of the kind that options name."""

from dataclasses import asdict
from typing import Any

from connect.app.config import PathOptions, TrainingOptions
from connect.paths.autoneb import DEFAULT_CYCLES, Growth, fit_growing_band, parse_cycles
from connect.paths.curves import CURVES, PolygonalChain
from connect.paths.fitting import DEFAULT_RECIPE, begin, train_points
from connect.paths.neb import Band, fit_band
from connect.paths.path import Path
from connect.paths.sampling import Concentrated
from landscape.app.problems import recipe_section
from landscape.errors import ConfigError
from landscape.risk.objective import EmpiricalRisk
from landscape.runtime.progress import Reporter
from landscape.training.keeping import Keeping
from landscape.training.recipes import Recipe

_IMAGES = {"bezier": 3, "chain": 3, "neb": 9, "autoneb": 5}


class PathFinder:
    """Trains paths of one kind.

    Args:
        options: curve and recipe; what is not given comes from the problem's file, then from the defaults.

    Raises:
        ConfigError: a value is wrong.
    """

    def __init__(self, options: PathOptions) -> None:
        self._options = options
        self._growth = _growth(options, recipe_section(options, "fit").get("cycles"))
        self._recipe = fit_recipe(options)
        self._band = _band(options)
        self._count = _IMAGES[options.curve] if options.control_points is None else options.control_points
        self._curve = CURVES.get(options.curve, PolygonalChain)(self._count)

    @property
    def measures(self) -> bool:
        """Whether a path follows from exact losses on the way too, and not from training batches alone."""
        return self._options.curve in {"neb", "autoneb"}

    @property
    def settings(self) -> dict[str, Any]:
        """What a path follows from, beside its ends, the seed and the data."""
        options = self._options
        banded = {"neb": {"band": asdict(self._band)}, "autoneb": {"growth": asdict(self._growth)}}
        chosen = {name: value for name in ("sampling", "length_weight") if (value := getattr(options, name))}
        return {
            "curve": options.curve,
            "control_points": self._count,
            "recipe": asdict(self._recipe),
            **chosen,
            **banded.get(options.curve, {}),
        }

    def find(
        self,
        risk: EmpiricalRisk,
        given: list[Any],
        *,
        free_ends: bool = False,
        seed: int,
        keeping: Keeping,
        report: Reporter,
    ) -> Path:
        """Train a path.

        Args:
            risk: the loss.
            given: the ends `[2, P]` and a path to begin with or None, which are taken out of the list, so that they
                are not held beside the control points.
            free_ends: train the ends of a curve, too.
            seed: of all random choices.
            keeping: where the state is kept.
            report: told of every step.
        """
        start: Path | None = given.pop()
        a, b = given.pop()
        if self._options.curve == "neb":
            return fit_band(
                risk, a, b, self._band, self._recipe, start=start, seed=seed, keeping=keeping, report=report
            )
        if self._options.curve == "autoneb":
            return fit_growing_band(
                risk, a, b, self._growth, self._recipe, start=start, seed=seed, keeping=keeping, report=report
            )
        points = begin(a, b, self._curve, start)
        del a, b, start  # from here on the control points alone are held
        return train_points(
            risk,
            points,
            self._curve,
            self._recipe,
            free_ends=free_ends,
            sampler=Concentrated() if self._options.sampling == "concentrated" else None,
            length_weight=self._options.length_weight or 0.0,
            seed=seed,
            keeping=keeping,
            report=report,
        )


def fit_recipe(options: TrainingOptions) -> Recipe:
    """SGD's settings: flags over the problem's file over the defaults.

    Beside them the file's section may hold the cycles of a growing band.

    Raises:
        ConfigError: a value is wrong.
    """
    section = {name: value for name, value in recipe_section(options, "fit").items() if name != "cycles"}
    recipe = DEFAULT_RECIPE.updated(section, f"{options.problem}: fit")
    return recipe.updated(options.recipe_values(), "the flags")


def _growth(options: PathOptions, from_file: object) -> Growth:
    """How a band grows: flags over the problem's file over the defaults."""
    text = from_file if options.cycles is None else options.cycles
    if text is not None and not isinstance(text, str):
        raise ConfigError(f"{options.problem}: fit: cycles is {text!r}, expected text such as 4x5@0.1,2x10@0.1.")
    given = {"most_images": options.most_images, "sag": options.sag, "images": options.control_points}
    cycles = DEFAULT_CYCLES if text is None else parse_cycles(text)
    if options.curve != "autoneb":
        return Growth(cycles=cycles)
    return Growth(cycles=cycles, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


def _band(options: PathOptions) -> Band:
    if options.curve != "neb":
        return Band()
    given = {"spring": options.spring, "climb": options.climb, "images": options.control_points}
    return Band(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
