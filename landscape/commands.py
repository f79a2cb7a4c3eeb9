"""The commands of `landscape`, as functions: a configuration in, files and a summary out."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import numpy as np
import torch

from landscape.batchnorm import Frozen, Recomputed, StatisticsPolicy
from landscape.checkpoints import load_checkpoint, save_tensors
from landscape.config import PlotConfig, SurfaceConfig, TrainConfig
from landscape.directions import normalise, random_direction
from landscape.errors import ConfigError, ResultError
from landscape.files import refuse_existing
from landscape.grid import parse_axis
from landscape.objective import EmpiricalRisk
from landscape.progress import Reporter, silent
from landscape.recipes import Recipe
from landscape.results import Result
from landscape.slices import Plane
from landscape.store import ResultWriter, begun_batch_size, load_result, require_same_provenance
from landscape.study import Study, open_study, recipe_section
from landscape.sweeps import sweep
from landscape.training import Keeping, SinglePoint, descend


@dataclass(frozen=True)
class TrainSummary:
    """A trained minimum. Losses are means over the split, accuracies in [0, 1]; NaN where there is none."""

    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float
    seconds: float
    files: Sequence[str]

    def text(self) -> str:
        """The summary in words."""
        return (
            f"train loss {self.train_loss:.4f}, accuracy {self.train_accuracy:.4f}; "
            f"test loss {self.test_loss:.4f}, accuracy {self.test_accuracy:.4f} ({self.seconds:.0f} s)\n"
            + wrote(self.files)
        )


@dataclass(frozen=True)
class SurfaceSummary:
    """A measured surface: number of points, time, and the range of its finite losses."""

    points: int
    seconds: float
    min_loss: float
    max_loss: float
    files: Sequence[str]

    def text(self) -> str:
        """The summary in words."""
        return (
            f"{self.points} points in {self.seconds:.0f} s; loss from {self.min_loss:.4g} to {self.max_loss:.4g}\n"
            + wrote(self.files)
        )


@dataclass(frozen=True)
class PlotSummary:
    """The pictures that were drawn."""

    files: Sequence[str]

    def text(self) -> str:
        """The summary in words."""
        return wrote(self.files)


def wrote(files: Sequence[str]) -> str:
    """A line for each file that was written."""
    return "\n".join(f"wrote {file}" for file in files)


def train(config: TrainConfig, report: Reporter = silent) -> TrainSummary:
    """Train a network from random weights and write it as a checkpoint that carries its problem.

    Args:
        config: problem, recipe, seed and files.
        report: told of progress.

    Raises:
        ConfigError, ProblemError: the problem or the recipe is wrong, or the output is there already.
        Interrupted: stopped by a signal; `resume` goes on.
        StorageError: the output cannot be written.
    """
    started = perf_counter()
    if config.out.suffix != ".safetensors":
        raise ConfigError(f"--out is {config.out}, expected a name that ends in .safetensors.")
    if not config.resume:
        refuse_existing(config.out, config.overwrite)
    recipe = Recipe().updated(recipe_section(config, "train"), f"{config.problem}: train")
    recipe = recipe.updated(config.recipe_values(), "the flags")
    study = open_study(config, config, seed=config.seed)
    space, problem = study.space, study.problem
    provenance = study.provenance({}, recipe=asdict(recipe), seed=config.seed, trainable=config.trainable)
    keeping = Keeping(config.out.with_suffix(".state.safetensors"), provenance, resume=config.resume)
    if config.resume and config.out.exists() and not keeping.path.exists():
        return _finished(config, provenance)
    carried = {"problem": study.carried(), "recipe": asdict(recipe), "seed": config.seed, "provenance": provenance}
    if not config.resume:
        refuse_existing(keeping.path, config.overwrite, resumable=True)
    snapshots = _snapshot_writer(config, study, carried)
    risk = EmpiricalRisk(space, problem, batch_size=config.eval_batch_size, precision=config.precision)
    start = space.flatten(problem.model.state_dict())
    if snapshots and not (config.resume and keeping.path.exists()):
        snapshots(0, start[None])
    descent = descend(
        risk,
        start[None],
        SinglePoint(),
        recipe,
        seed=config.seed,
        keeping=keeping,
        after_epoch=snapshots,
        report=report,
    )
    theta = descent.points[0]
    risk.statistics = Frozen(space.statistics)
    measured = risk.measure(theta)
    figures = {
        f"{split}_{quantity}": float("nan") if split not in measured else getattr(measured[split], quantity)
        for split in ("train", "test")
        for quantity in ("loss", "accuracy")
    }
    save_tensors(config.out, space.state_dict(theta), {**carried, **figures, "epoch_losses": descent.losses.tolist()})
    keeping.discard()
    return TrainSummary(**figures, seconds=perf_counter() - started, files=[str(config.out)])


def _finished(config: TrainConfig, provenance: Mapping[str, Any]) -> TrainSummary:
    """What a resume has to say of a run that is finished."""
    known = load_checkpoint(config.out).metadata
    require_same_provenance(config.out, known.get("provenance", {}), provenance)
    figures = {name: known[name] for name in ("train_loss", "train_accuracy", "test_loss", "test_accuracy")}
    return TrainSummary(**figures, seconds=0.0, files=[str(config.out)])


def _snapshot_writer(config: TrainConfig, study: Study, carried: dict[str, Any]) -> Any:
    folder = config.snapshots
    if folder is None:
        return None
    if not (config.resume or config.overwrite) and folder.is_dir() and any(folder.glob("epoch_*.safetensors")):
        raise ConfigError(f"{folder} holds snapshots already; name another folder, or give --overwrite.")

    def write(epoch: int, points: torch.Tensor) -> None:
        state = study.space.state_dict(points[0])
        save_tensors(folder / f"epoch_{epoch:04d}.safetensors", state, {**carried, "epoch": epoch})

    return write


def surface(config: SurfaceConfig, report: Reporter = silent) -> SurfaceSummary:
    """Measure the loss on a random plane around a checkpoint, write it and draw it.

    Args:
        config: checkpoint, ranges, normalisation, policies and files.
        report: told of progress.

    Raises:
        LandscapeError: the subclass says what is wrong.
    """
    started = perf_counter()
    if config.out.suffix != ".h5":
        raise ConfigError(f"--out is {config.out}, expected a name that ends in .h5.")
    axes = {"y": parse_axis(config.y, "--y"), "x": parse_axis(config.x, "--x")}
    if not config.resume:
        refuse_existing(config.out, config.overwrite, resumable=True)
    checkpoint = load_checkpoint(config.checkpoint, trust_pickle=config.trust_pickle)
    study = open_study(config, config, [checkpoint])
    theta = study.load(checkpoint)
    risk = EmpiricalRisk(
        study.space,
        study.problem,
        statistics=_policy(config, study),
        splits=[config.split],
        batch_size=config.eval_batch_size
        if config.eval_batch_size is not None
        else begun_batch_size(config.out, config.resume),
        precision=config.precision,
    )
    seeds = np.random.SeedSequence(config.seed).generate_state(2)
    u, v = (normalise(random_direction(study.space, int(seed)), theta, study.space, config.normalise) for seed in seeds)
    if not (u.any() and v.any()):
        raise ConfigError("the trainable parameters have no filters, so no direction leads away; change --trainable.")
    provenance = study.provenance(
        {"centre": checkpoint},
        x=config.x,
        y=config.y,
        normalise=config.normalise,
        batch_norm=config.batch_norm,
        statistics_batch_size=config.statistics_batch_size,
        seed=config.seed,
        split=config.split,
        precision=config.precision,
        trainable=config.trainable,
        eval_batch_size=risk.batch_size,
    )
    begun = Result("surface", {}, {config.checkpoint.stem: np.zeros((1, 2))}, provenance)
    writer = ResultWriter(config.out, begun, resume=config.resume, overwrite=config.overwrite)
    measured = sweep(risk, Plane(theta, u, v), axes, writer=writer, report=report)
    pictures = plot(PlotConfig(result=config.out)).files
    losses = measured.values[f"{config.split}_loss"]
    finite = losses[np.isfinite(losses)]
    return SurfaceSummary(
        points=losses.size,
        seconds=perf_counter() - started,
        min_loss=float(finite.min()) if finite.size else float("nan"),
        max_loss=float(finite.max()) if finite.size else float("nan"),
        files=[str(config.out), *pictures],
    )


def _policy(config: SurfaceConfig, study: Study) -> StatisticsPolicy:
    if config.batch_norm == "frozen":
        return Frozen(study.space.statistics)
    return Recomputed(study.problem.data.splits["train"], study.problem.loss, config.statistics_batch_size)


def plot(config: PlotConfig, report: Reporter = silent) -> PlotSummary:
    """Draw a surface again, from its file alone.

    Args:
        config: the result's file, and where and how to draw.
        report: told nothing; drawing is quick.

    Raises:
        ResultError: the file is no surface, or nothing is measured yet.
    """
    from landscape.plots.figures import surface_figures
    from landscape.plots.rendering import save_figures

    result = load_result(config.result)
    if result.kind != "surface":
        raise ResultError(f"{config.result} holds a {result.kind}; draw it with connect plot.")
    folder = config.out or config.result.parent
    return PlotSummary(files=save_figures(surface_figures(result), folder, config.result.stem, config.format))
