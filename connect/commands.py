"""The commands of `connect`, as functions: a configuration in, files and a summary out."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import torch

from connect.config import FitConfig, PlotConfig, ProfileConfig
from connect.curves import CURVES, Curve
from connect.fitting import DEFAULT_RECIPE, fit_curve
from connect.path import Path, load_path, save_path
from connect.profiles import Along, lengths, profile, summarise
from landscape import (
    ConfigError,
    CurvatureFigures,
    EmpiricalRisk,
    FilesSummary,
    Keeping,
    ParameterSpace,
    Plane,
    Recipe,
    Recomputed,
    Reporter,
    Result,
    ResultError,
    ResultWriter,
    Study,
    alone,
    axes_around,
    claimed,
    curvature_figures,
    curvature_gauges,
    curvature_provenance,
    load_checkpoint,
    load_result,
    open_study,
    random_direction,
    recipe_section,
    refuse_existing,
    remove_partials,
    require_same_layout,
    require_same_provenance,
    silent,
    sweep,
    wrote,
)

_PATH, _PROFILE, _PLANE, _STATE = "path.safetensors", "profile.h5", "plane.h5", "fit.state.safetensors"
_OUTPUTS = (_PATH, _PROFILE, _PLANE, _STATE)
_ROWS = {
    "max {split} loss": ("max_loss", ".4f"),
    "barrier ({split} loss)": ("barrier", ".4f"),
    "min test accuracy": ("min_test_accuracy", ".4f"),
    "length / straight": ("length_ratio", ".3f"),
}


@dataclass(frozen=True, kw_only=True)
class FitSummary:
    """The learned path against the straight line, and the files that were written."""

    path: Along
    straight: Along
    files: Sequence[str]

    def text(self) -> str:
        """The summary as a table."""
        return "\n".join([*self._rows(), wrote(self.files)])

    def _rows(self) -> list[str]:
        lines = [f"{'':22}{'path':>10}{'straight':>10}"]
        for label, (name, form) in _ROWS.items():
            lines.append(
                f"{label.format(split=self.path.split):22}"
                + "".join(f"{getattr(way, name):>10{form}}" for way in (self.path, self.straight))
            )
        return lines


@dataclass(frozen=True, kw_only=True)
class ProfileSummary(FitSummary, CurvatureFigures):
    """A path that was measured again, against the straight line; eigenvalues are those along both."""

    def text(self) -> str:
        """The summary as a table."""
        return "\n".join([*self._rows(), self.curvature_text() + wrote(self.files)])


@alone
def fit(config: FitConfig, report: Reporter = silent) -> FitSummary:
    """Train a curve between two checkpoints, measure it against the straight line, and draw both.

    Batch-norm statistics are recomputed from the training data at every point that is measured, unless the flags say
    otherwise. With `resume`, each stage goes on where it was stopped.

    Args:
        config: checkpoints, curve, recipe and folder.
        report: told of progress.

    Raises:
        LandscapeError: the subclass says what is wrong; all that can be checked is checked before any computing.
    """
    curve = CURVES[config.curve](config.control_points)
    for name in _OUTPUTS:
        remove_partials(config.out / name)
    if not config.resume:
        for name in _OUTPUTS:
            refuse_existing(config.out / name, config.overwrite, resumable=True)
    recipe = DEFAULT_RECIPE.updated(recipe_section(config, "fit"), f"{config.problem}: fit")
    recipe = recipe.updated(config.recipe_values(), "the flags")
    a, b = (load_checkpoint(file, trust_pickle=config.trust_pickle) for file in (config.a, config.b))
    require_same_layout(a, b)
    study = open_study(config, config, [a, b])
    points = study.load_all([a, b])
    ends = (points.thetas[0], points.thetas[1])
    statistics = study.policy(config, points)
    risk = study.risk(config, statistics, begun=config.out / _PROFILE if config.resume else None)
    provenance = study.provenance(
        {"a": a, "b": b},
        curve=config.curve,
        control_points=config.control_points,
        recipe=asdict(recipe),
        seed=config.seed,
        trainable=config.trainable,
        precision=config.precision,
    )
    if not config.resume:
        for name in _OUTPUTS:
            (config.out / name).unlink(missing_ok=True)
    path = _fitted(config, study, risk, ends, curve, recipe, provenance, report)
    measuring = {
        **provenance,
        "batch_norm": statistics.name,
        "statistics_batch_size": config.statistics_batch_size,
        "eval_batch_size": risk.batch_size,
    }
    begun = Result("profile", {}, provenance={**measuring, "points": config.points}, facts=lengths(path))
    writer = _writer(config, _PROFILE, begun)
    measured = profile(path, risk, np.linspace(0, 1, config.points), writer=writer, report=report)
    results = [config.out / _PROFILE]
    if config.plane_points:
        _measure_plane(config, risk, path, measuring, report)
        results.append(config.out / _PLANE)
    pictures = [picture for file in results for picture in plot(PlotConfig(result=file)).files]
    files = [str(config.out / _PATH), *map(str, results), *pictures]
    return FitSummary(**summarise(measured), files=files)


def profile_path(config: ProfileConfig, report: Reporter = silent) -> ProfileSummary:
    """Measure a saved path and the straight line between its ends, and draw both.

    Batch-norm statistics are recomputed from the training data at every point.

    Args:
        config: the path, splits, curvature and files.
        report: told of progress.

    Raises:
        LandscapeError: the subclass says what is wrong; all that can be checked is checked before any computing.
    """
    out = config.out or config.path.with_name(f"{config.path.stem}_profile.h5")
    with claimed(out):
        return _profiled(config, out, report)


def _profiled(config: ProfileConfig, out: FilePath, report: Reporter) -> ProfileSummary:
    if not config.resume:
        refuse_existing(out, config.overwrite, resumable=True)
    saved = load_checkpoint(config.path)
    base = load_checkpoint(config.base, trust_pickle=config.trust_pickle) if config.base else None
    provenance = saved.metadata.get("provenance", {})
    config = replace(config, trainable=config.trainable or provenance.get("trainable"))
    study = open_study(config, config, [saved, *([base] if base else [])])
    if base:
        study.load(base)
    path = load_path(config.path, study.space)
    if not base:
        _require_whole(config.path, study.space, path)
    statistics = Recomputed(study.problem.data.splits["train"], study.problem.loss, config.statistics_batch_size)
    risk = study.risk(config, statistics, study.splits(config.split), begun=out if config.resume else None)
    measuring = study.provenance(
        {"path": saved} | ({"base": base} if base else {}),
        curve=path.curve.name,
        control_points=path.curve.control_points,
        fitted=dict(path.provenance),
        trainable=config.trainable,
        precision=config.precision,
        points=config.points,
        split=config.split,
        seed=config.seed if config.curvature else None,
        batch_norm=statistics.name,
        statistics_batch_size=config.statistics_batch_size,
        eval_batch_size=risk.batch_size,
        **curvature_provenance(config, risk),
    )
    gauges = curvature_gauges(config, risk, config.seed)
    begun = Result("profile", {}, provenance=measuring, facts=lengths(path))
    writer = ResultWriter(out, begun, resume=config.resume, overwrite=config.overwrite)
    t = np.linspace(0, 1, config.points)
    measured = profile(path, risk, t, gauges=gauges, writer=writer, report=report)
    ways = summarise(measured)
    return ProfileSummary(
        path=ways["path"],
        straight=ways["straight"],
        files=[str(out), *plot(PlotConfig(result=out)).files],
        **vars(curvature_figures(config, list(measured.sweeps.values()))),
    )


def _require_whole(file: FilePath, space: ParameterSpace, path: Path) -> None:
    """Check that a path says all of the network, beside statistics, which are recomputed.

    Raises:
        ConfigError: there are parameters or buffers that it does not hold.
    """
    state = space.state_dict(path(0.0))
    recomputed = {id(norm) for norm in space.norms}
    own = {f"{name}.{key}" if name else key for name, module in space.network.named_modules()
           if id(module) not in recomputed for key, _ in module.named_buffers(recurse=False)}  # fmt: skip
    missing = [*space.fixed(state), *sorted(own & set(state))]
    if missing:
        raise ConfigError(f"{file} does not hold {missing[0]}; name a checkpoint that does: --base FILE.")


def _fitted(
    config: FitConfig,
    study: Study,
    risk: EmpiricalRisk,
    ends: tuple[torch.Tensor, torch.Tensor],
    curve: Curve,
    recipe: Recipe,
    provenance: dict[str, Any],
    report: Reporter,
) -> Path:
    """The trained path: from its file when a resume finds it finished."""
    file = config.out / _PATH
    if config.resume and file.exists():
        path = load_path(file, study.space)
        require_same_provenance(file, path.provenance, provenance)
        return path
    keeping = Keeping(config.out / _STATE, provenance, resume=config.resume)
    found = fit_curve(risk, *ends, curve, recipe, seed=config.seed, keeping=keeping, report=report)
    path = Path(found.path.points, curve, provenance)
    save_path(file, path, study.space, {"problem": study.carried(), "epoch_losses": found.losses.tolist()})
    keeping.discard()
    return path


def _writer(config: FitConfig, name: str, begun: Result) -> ResultWriter:
    return ResultWriter(config.out / name, begun, resume=config.resume, overwrite=config.overwrite)


def _measure_plane(
    config: FitConfig, risk: EmpiricalRisk, path: Path, provenance: dict[str, Any], report: Reporter
) -> None:
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
    axes = axes_around(np.concatenate([marks["path"], controls]), config.plane_points)
    distances = [plane.project(point)[2] for point in path.points]
    facts = {"largest_distance_from_plane": max(distances), "polylines": ["path", "straight"]}
    begun = Result("plane", {}, marks, {**provenance, "plane_points": config.plane_points, "split": "train"}, facts)
    training = risk.on(["train"])
    sweep(training, plane, axes, writer=_writer(config, _PLANE, begun), report=report)


def _plane(path: Path, risk: EmpiricalRisk) -> Plane:
    """The plane through the control points when there are three, else through the ends and the path's middle."""
    a, b = path.points[0], path.points[-1]
    third = path.points[1] if len(path.points) == 3 else path(0.5)
    try:
        return Plane.through(a, b, third)
    except ConfigError:  # the path is straight, so that any plane through it will do
        aside = random_direction(risk.space, seed=0)
        return Plane.through(a, b, a + aside * ((b - a).norm() / aside.norm()))


def plot(config: PlotConfig, report: Reporter = silent) -> FilesSummary:
    """Draw a profile or a plane again, from its file alone.

    Args:
        config: the result's file, and where and how to draw.
        report: told nothing; drawing is quick.

    Raises:
        ResultError: the file is neither, or not complete.
    """
    from connect.plots.figures import plane_figure, profile_figure
    from landscape import save_figures

    draw: dict[str, tuple[Callable[[Result], Any], str]] = {
        "profile": (profile_figure, "path"),
        "plane": (plane_figure, "plane"),
    }
    result = load_result(config.result)
    if result.kind not in draw:
        raise ResultError(f"{config.result} holds a {result.kind}; draw it with landscape plot.")
    if not result.sweeps or not all(measured.done.all() for measured in result.sweeps.values()):
        raise ResultError(f"{config.result} is not complete; go on with connect … --resume.")
    figure, stem = draw[result.kind]
    if config.result.name not in _OUTPUTS:  # the pictures of a fit have names of their own
        stem = config.result.stem
    folder = config.out or config.result.parent
    return FilesSummary(files=save_figures({"": figure(result)}, FilePath(folder), stem, config.format))
