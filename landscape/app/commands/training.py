"""Train a minimum."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from landscape.app.commands.summaries import wrote
from landscape.app.config import TrainConfig
from landscape.app.options import files_in
from landscape.app.problems import named_recipe
from landscape.app.setting import Setting, open_setting
from landscape.risk.empirical import EmpiricalRisk
from landscape.runtime.progress import Reporter, silent
from landscape.storage.checkpoints import load_checkpoint, save_tensors
from landscape.storage.outputs import OutputFiles, Outputs, writing
from landscape.storage.store import require_same_provenance
from landscape.training.descent import Combination, SinglePoint, descend
from landscape.training.keeping import Keeping
from landscape.training.recipes import Recipe


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
        told = {
            "train loss": self.train_loss,
            "train accuracy": self.train_accuracy,
            "test loss": self.test_loss,
            "test accuracy": self.test_accuracy,
        }
        known = ", ".join(f"{name} {value:.4f}" for name, value in told.items() if not math.isnan(value))
        return f"{known} ({self.seconds:.0f} s)\n{wrote(self.files)}"


_SNAPSHOT = re.compile(r"epoch_\d+\.safetensors")


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
    places = [OutputFiles.beside(config.out, _state_file(config.out).name)]
    if config.snapshots:
        places.append(OutputFiles.inside(config.snapshots, series={"": _SNAPSHOT}, label="snapshots"))
    read = files_in(config, but=("out", "snapshots"))
    with writing(*places, read=read, resume=config.output.resume, overwrite=config.output.overwrite) as outputs:
        return _train(config, outputs, report)


def _state_file(out: Path) -> Path:
    return out.with_suffix(".state.safetensors")


def _train(config: TrainConfig, outputs: Outputs, report: Reporter) -> TrainSummary:
    started = perf_counter()
    out = outputs.at(config.out)
    recipe = named_recipe(Recipe(), config.recipe, config.problem, "train")
    setting = open_setting(config.problem, config.compute, seed=config.seed)
    space, problem = setting.space, setting.problem
    provenance = setting.provenance(
        {},
        recipe=asdict(recipe),
        seed=config.seed,
        trainable=config.problem.trainable,
        precision=config.compute.precision,
    )
    keeping = Keeping(_state_file(out), provenance, resume=config.output.resume)
    if config.output.resume and out.exists() and not keeping.path.exists():
        finished = _finished(config, out, provenance)
        outputs.commit()
        return finished
    carried = {"problem": setting.carried(), "recipe": asdict(recipe), "seed": config.seed, "provenance": provenance}
    snapshots = _snapshot_writer(outputs.at(config.snapshots), setting, carried) if config.snapshots else None
    risk = EmpiricalRisk(space, problem, batch_size=config.compute.eval_batch_size, precision=config.compute.precision)
    start = space.theta.clone()
    if snapshots and not (config.output.resume and keeping.path.exists()):
        snapshots(0, start[None])
    descent = descend(
        risk,
        start[None],
        Combination(SinglePoint()),
        recipe,
        seed=config.seed,
        keeping=keeping,
        after_epoch=snapshots,
        report=report,
    )
    theta = descent.points[0]
    risk.adopt_training()
    with risk.at(theta) as here:
        measured = here.measure()
    figures = {
        f"{split}_{quantity}": float("nan") if split not in measured else getattr(measured[split], quantity)
        for split in ("train", "test")
        for quantity in ("loss", "accuracy")
    }
    save_tensors(out, space.state_dict(theta), {**carried, **figures, "epoch_losses": descent.losses.tolist()})
    keeping.discard()
    outputs.commit()
    return TrainSummary(**figures, seconds=perf_counter() - started, files=[str(config.out)])


def _finished(config: TrainConfig, out: Path, provenance: Mapping[str, Any]) -> TrainSummary:
    """What a resume has to say of a run that is finished."""
    known = load_checkpoint(out).metadata
    require_same_provenance(out, known.get("provenance", {}), provenance)
    figures = {name: known[name] for name in ("train_loss", "train_accuracy", "test_loss", "test_accuracy")}
    return TrainSummary(**figures, seconds=0.0, files=[str(config.out)])


def _snapshot_writer(folder: Path, setting: Setting, carried: Mapping[str, Any]) -> Callable[[int, torch.Tensor], None]:
    def write(epoch: int, points: torch.Tensor) -> None:
        state = setting.space.state_dict(points[0])
        save_tensors(folder / f"epoch_{epoch:04d}.safetensors", state, {**carried, "epoch": epoch})

    return write
