"""Train a minimum."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from landscape.app.commands.summaries import figures_at, wrote
from landscape.app.config import TrainConfig
from landscape.app.options import files_in, stated
from landscape.app.recipes import named_recipe
from landscape.app.run import Run, running
from landscape.app.setting import Setting, open_setting
from landscape.runtime.progress import Reporter, silent
from landscape.storage.checkpoints import load_checkpoint, save_tensors
from landscape.storage.outputs import OutputFiles
from landscape.storage.store import require_same_provenance
from landscape.training.descent import Combination, SinglePoint, descend
from landscape.training.keeping import Keeping
from landscape.training.recipes import TRAINING_RECIPES


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
        figures = {
            "train loss": self.train_loss,
            "train accuracy": self.train_accuracy,
            "test loss": self.test_loss,
            "test accuracy": self.test_accuracy,
        }
        listed = ", ".join(f"{name} {value:.4f}" for name, value in figures.items() if not math.isnan(value))
        return f"{listed} ({self.seconds:.0f} s)\n{wrote(self.files)}"


_SNAPSHOT = re.compile(r"epoch_\d+\.safetensors")


def train(config: TrainConfig, report: Reporter = silent) -> TrainSummary:
    """Train a network from random weights and write it as a checkpoint that carries its problem.

    Args:
        config: problem, recipe, seed and files.
        report: progress reporter.

    Raises:
        ConfigError, ProblemError: the problem or the recipe is wrong, or the output is there already.
        Interrupted: stopped by a signal; `resume` goes on.
        StorageError: the output cannot be written.
    """
    places = [OutputFiles.beside(config.out, _state_file(config.out).name)]
    if config.snapshots:
        places.append(OutputFiles.inside(config.snapshots, series={"": _SNAPSHOT}, label="snapshots"))
    with running(config, report, *places, read=files_in(config, but=("out", "snapshots"))) as run:
        return _train(run, config, run.outputs.at(config.out))


def _state_file(out: Path) -> Path:
    return out.with_suffix(".state.safetensors")


def _train(run: Run, config: TrainConfig, out: Path) -> TrainSummary:
    named = named_recipe(TRAINING_RECIPES, config.recipe, config.problem, "train")
    setting = open_setting(config.problem, config.compute, seed=config.seed)
    recipe = named.settled(setting.space.network)
    provenance = setting.provenance({}, **stated(config), recipe=recipe.stated())
    keeping = Keeping(_state_file(out), provenance, resume=run.resume)
    begun = run.resume and keeping.path.exists()
    if run.resume and out.exists() and not begun:
        return TrainSummary(**_finished(out, provenance), seconds=0.0, files=run.finish())
    carried = {"problem": setting.carried(), "recipe": recipe.stated(), "seed": config.seed, "provenance": provenance}
    snapshots = _snapshot_writer(run.outputs.at(config.snapshots), setting, carried) if config.snapshots else None
    risk = setting.risk(config.compute)
    start = setting.space.theta.clone()
    if snapshots and not begun:
        snapshots(0, start[None])
    descent = descend(
        risk,
        start[None],
        Combination(SinglePoint()),
        recipe,
        seed=config.seed,
        keeping=keeping,
        after_epoch=snapshots,
        report=run.report,
    )
    theta = descent.points[0]
    risk.adopt_training()
    figures = figures_at(risk, theta)
    state = setting.space.state_dict(theta)
    save_tensors(out, state, {**carried, **figures, "epoch_losses": descent.losses.tolist()})
    keeping.discard()
    return TrainSummary(**figures, seconds=run.seconds, files=run.finish())


def _finished(out: Path, provenance: Mapping[str, Any]) -> dict[str, float]:
    """The losses and accuracies of a run that a resume finds finished."""
    metadata = load_checkpoint(out).metadata
    require_same_provenance(out, metadata.get("provenance", {}), provenance)
    return {name: metadata[name] for name in ("train_loss", "train_accuracy", "test_loss", "test_accuracy")}


def _snapshot_writer(folder: Path, setting: Setting, carried: Mapping[str, Any]) -> Callable[[int, torch.Tensor], None]:
    def write(epoch: int, points: torch.Tensor) -> None:
        state = setting.space.state_dict(points[0])
        save_tensors(folder / f"epoch_{epoch:04d}.safetensors", state, {**carried, "epoch": epoch})

    return write
