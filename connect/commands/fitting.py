"""Fit a path between two checkpoints, measure it and draw it."""

from contextlib import nullcontext
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch

from connect.autoneb import DEFAULT_CYCLES, Growth, fit_growing_band, parse_cycles
from connect.commands.pictures import draw_result
from connect.commands.summaries import FitSummary, told
from connect.config import FitConfig
from connect.curves import CURVES, PolygonalChain
from connect.fitting import DEFAULT_RECIPE, begin, train_points
from connect.neb import Band, fit_band
from connect.path import Path, load_path, save_path
from connect.profiles import lengths, profile
from connect.sampling import Concentrated
from landscape import (
    Checkpoint,
    ConfigError,
    EmpiricalRisk,
    Keeping,
    Plane,
    Ranks,
    Reporter,
    Result,
    ResultWriter,
    Study,
    axes_around,
    choose_device,
    claimed,
    joined,
    load_checkpoint,
    open_study,
    random_direction,
    recipe_section,
    refuse_existing,
    remove_partials,
    require_same_layout,
    require_same_provenance,
    silent,
    sweep,
)

PATH, PROFILE, PLANE, STATE = "path.safetensors", "profile.h5", "plane.h5", "fit.state.safetensors"
_OUTPUTS = (PATH, PROFILE, PLANE, STATE)
_IMAGES = {"bezier": 3, "chain": 3, "neb": 9, "autoneb": 5}


def fit(config: FitConfig, report: Reporter = silent) -> FitSummary:
    """Train a path between two checkpoints, measure it against the straight line, and draw both.

    Batch-norm statistics are recomputed from the training data at every point that is measured, unless the flags say
    otherwise. With `resume`, each stage goes on where it was stopped. Under `torchrun` the processes share each batch;
    when the path is found the first goes on alone, and the others end with `SystemExit`.

    Args:
        config: checkpoints, curve, recipe and folder.
        report: told of progress.

    Raises:
        LandscapeError: the subclass says what is wrong; all that can be checked is checked before any computing.
    """
    with (
        joined(choose_device(config.device)) as ranks,
        claimed(config.out) if ranks.first else nullcontext(),
    ):
        return _Fitting(config, ranks, report if ranks.first else silent).run()


class _Fitting:
    """One run of the command."""

    def __init__(self, config: FitConfig, ranks: Ranks, report: Reporter) -> None:
        self._config, self._ranks, self._report = config, ranks, report
        self._out = config.out
        section = dict(recipe_section(config, "fit"))
        self._growth = _growth(config, section.pop("cycles", None))
        recipe = DEFAULT_RECIPE.updated(section, f"{config.problem}: fit")
        self._recipe = recipe.updated(config.recipe_values(), "the flags")
        self._band = _band(config)
        self._count = config.control_points or _IMAGES[config.curve]
        self._curve = CURVES.get(config.curve, PolygonalChain)(self._count)

    def run(self) -> FitSummary:
        config = self._config
        if self._ranks.first:
            self._clear_the_way()
        a, b = (load_checkpoint(file, trust_pickle=config.trust_pickle) for file in (config.a, config.b))
        require_same_layout(a, b)
        study = open_study(config, config, [a, b])
        start = load_checkpoint(config.start) if config.start else None
        if start is not None and config.start is not None:
            load_path(config.start, study.space)
        provenance = self._provenance(study, a, b, start)
        points = study.load_all([a, b])
        statistics = study.policy(config, points)
        begun = self._out / PROFILE if config.resume else None
        risk = study.risk(config, statistics, begun=begun, ranks=self._ranks)
        if self._ranks.first and not config.resume:
            for name in _OUTPUTS:
                (self._out / name).unlink(missing_ok=True)
        ends = [points.thetas]
        del points, a, b
        path = self._fitted(study, risk, ends, provenance)
        if not self._ranks.first:
            raise SystemExit(0)
        return self._measured(path, risk, {
            **provenance,
            "batch_norm": statistics.name,
            "statistics_batch_size": config.statistics_batch_size,
            "eval_batch_size": risk.batch_size,
        })  # fmt: skip

    def _clear_the_way(self) -> None:
        for name in _OUTPUTS:
            remove_partials(self._out / name)
            if not self._config.resume:
                refuse_existing(self._out / name, self._config.overwrite, resumable=True)

    def _provenance(self, study: Study, a: Checkpoint, b: Checkpoint, start: Checkpoint | None) -> dict[str, Any]:
        config = self._config
        banded = {"neb": {"band": asdict(self._band)}, "autoneb": {"growth": asdict(self._growth)}}
        chosen = {
            name: value for name in ("free_ends", "sampling", "length_weight") if (value := getattr(config, name))
        }
        return study.provenance(
            {"a": a, "b": b} | ({"start": start} if start else {}),
            curve=config.curve,
            control_points=self._count,
            recipe=asdict(self._recipe),
            seed=config.seed,
            trainable=config.trainable,
            precision=config.precision,
            processes=self._ranks.size,
            **chosen,
            **banded.get(config.curve, {}),
        )

    def _fitted(self, study: Study, risk: EmpiricalRisk, ends: list[torch.Tensor], provenance: dict[str, Any]) -> Path:
        """The trained path: from its file when a resume finds it finished."""
        config, file = self._config, self._out / PATH
        if config.resume and file.exists():
            path = load_path(file, study.space, risk.module)
            require_same_provenance(file, path.provenance, provenance)
            return path
        keeping = Keeping(
            self._out / STATE,
            provenance,
            resume=config.resume,
            seconds=config.save_every,
            writes=self._ranks.first,
        )
        found = self._train(study, risk, ends, keeping)
        path = replace(found, provenance=provenance)
        if self._ranks.first:
            save_path(file, path, study.space, {"problem": study.carried()})
            keeping.discard()
        return path

    def _train(self, study: Study, risk: EmpiricalRisk, ends: list[torch.Tensor], keeping: Keeping) -> Path:
        config = self._config
        a, b = ends.pop()
        start = load_path(config.start, study.space) if config.start else None
        if config.curve == "neb":
            return fit_band(
                risk, a, b, self._band, self._recipe,
                start=start, seed=config.seed, keeping=keeping, report=self._report,
            )  # fmt: skip
        if config.curve == "autoneb":
            return fit_growing_band(
                risk, a, b, self._growth, self._recipe,
                start=start, seed=config.seed, keeping=keeping, report=self._report,
            )  # fmt: skip
        points = begin(a, b, self._curve, start)
        del a, b, start  # from here on the control points alone are held
        return train_points(
            risk,
            points,
            self._curve,
            self._recipe,
            free_ends=config.free_ends,
            sampler=Concentrated() if config.sampling == "concentrated" else None,
            length_weight=config.length_weight or 0.0,
            seed=config.seed,
            keeping=keeping,
            report=self._report,
        )

    def _measured(self, path: Path, risk: EmpiricalRisk, measuring: dict[str, Any]) -> FitSummary:
        config = self._config
        settings = {**measuring, "points": config.points, "tolerance": config.tolerance}
        writer = self._writer(PROFILE, Result("profile", {}, provenance=settings, facts=lengths(path)))
        measured = profile(
            path,
            risk,
            np.linspace(0, 1, config.points),
            tolerance=config.tolerance,
            writer=writer,
            report=self._report,
        )
        results = [self._out / PROFILE]
        if config.plane_points:
            self._measure_plane(risk, path, measuring)
            results.append(self._out / PLANE)
        pictures = [picture for file in results for picture in draw_result(file)]
        files = [str(self._out / PATH), *map(str, results), *pictures]
        return FitSummary(**told(measured, config), files=files)  # type: ignore[arg-type]

    def _writer(self, name: str, begun: Result) -> ResultWriter:
        config = self._config
        return ResultWriter(self._out / name, begun, resume=config.resume, overwrite=config.overwrite)

    def _measure_plane(self, risk: EmpiricalRisk, path: Path, provenance: dict[str, Any]) -> None:
        """Measure the training loss on the plane through the ends and the path's middle, and note both ways on it."""
        plane = _plane(path, risk)
        t = np.linspace(0, 1, 201)
        controls = np.array([plane.project(point)[:2] for point in path.points])
        marks = {
            "a": controls[:1],
            "b": controls[-1:],
            "control points": controls[1:-1],
            "path": path.curve.coefficients(torch.from_numpy(t)).numpy() @ controls,
            "straight": controls[[0, -1]],
        }
        points = self._config.plane_points
        axes = axes_around(np.concatenate([marks["path"], controls]), points)
        distances = [plane.project(point)[2] for point in path.points]
        facts = {"largest_distance_from_plane": max(distances), "polylines": ["path", "straight"]}
        begun = Result("plane", {}, marks, {**provenance, "plane_points": points, "split": "train"}, facts)
        sweep(risk.on(["train"]), plane, axes, writer=self._writer(PLANE, begun), report=self._report)


def _growth(config: FitConfig, from_file: object) -> Growth:
    """How a band grows: flags over the problem's file over the defaults."""
    text = config.cycles or from_file
    if text is not None and not isinstance(text, str):
        raise ConfigError(f"{config.problem}: fit: cycles is {text!r}, expected text such as 4x5@0.1,2x10@0.1.")
    given = {"most_images": config.most_images, "sag": config.sag, "images": config.control_points}
    cycles = parse_cycles(text) if text else DEFAULT_CYCLES
    if config.curve != "autoneb":
        return Growth(cycles=cycles)
    return Growth(cycles=cycles, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


def _band(config: FitConfig) -> Band:
    if config.curve != "neb":
        return Band()
    given = {"spring": config.spring, "climb": config.climb, "images": config.control_points}
    return Band(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


def _plane(path: Path, risk: EmpiricalRisk) -> Plane:
    """The plane through the control points when there are three, else through the ends and the path's middle."""
    a, b = path.points[0], path.points[-1]
    third = path.points[1] if len(path.points) == 3 else path(0.5)
    try:
        return Plane.through(a, b, third)
    except ConfigError:  # the path is straight, so that any plane through it will do
        aside = random_direction(risk.space, seed=0)
        return Plane.through(a, b, a + aside * ((b - a).norm() / aside.norm()))
