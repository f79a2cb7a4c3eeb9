"""Train simplices of low loss, sample inside them and measure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import torch

from connect.app.commands.finding import fit_recipe, settled_recipe
from connect.app.commands.pictures import draw_result
from connect.app.config import SimplexConfig
from connect.paths.simplices import SimplicialComplex, fit_simplex, require_spanning
from landscape.app.checkpoints import load_network, require_different
from landscape.app.commands.summaries import wrote
from landscape.app.run import Run, Subject, running
from landscape.app.setting import Setting
from landscape.risk.empirical import EmpiricalRisk
from landscape.runtime.progress import Reporter, silent
from landscape.storage.checkpoints import load_checkpoint, require_same_layout, save_tensors
from landscape.storage.outputs import OutputFiles
from landscape.storage.results import Result, Sweep
from landscape.storage.store import ResultWriter, require_same_provenance
from landscape.sweeps.driver import sweep
from landscape.training.keeping import Keeping
from landscape.training.recipes import Recipe

_SIMPLEX, _MEASURED = "simplex.safetensors", "simplex.h5"


@dataclass(frozen=True, kw_only=True)
class SimplexSummary:
    """The networks inside against the vertices.

    Attributes:
        split: that losses are of.
        vertex_loss: largest loss among the vertices.
        mean_loss: mean loss of the networks inside.
        max_loss: largest loss inside.
        min_test_accuracy: smallest test accuracy inside, in [0, 1]; NaN where there is none.
        log_volume: mean logarithm of the simplices' volumes.
        files: what was written.
    """

    split: str
    vertex_loss: float
    mean_loss: float
    max_loss: float
    min_test_accuracy: float
    log_volume: float
    files: Sequence[str]

    def text(self) -> str:
        """The summary in words."""
        summary = (
            f"{self.split} loss at the vertices up to {self.vertex_loss:.4f}, inside {self.mean_loss:.4f} on average "
        )
        summary += f"and up to {self.max_loss:.4f}"
        if not np.isnan(self.min_test_accuracy):
            summary += f"; test accuracy inside at least {self.min_test_accuracy:.4f}"
        return f"{summary}\nlogarithm of the volume {self.log_volume:.2f}\n{wrote(self.files)}"


def simplex(config: SimplexConfig, report: Reporter = silent) -> SimplexSummary:
    """Train connecting points between minima, and measure networks inside the simplices that they span.

    Batch-norm statistics are recomputed from the training data at every point that is measured, unless the flags say
    otherwise.

    Args:
        config: minima, recipe and folder.
        report: progress reporter.

    Raises:
        LandscapeError: the subclass says what is wrong; all that can be checked is checked before any computing.
    """
    states = [f"simplex.{number + 1}.state.safetensors" for number in range(config.connecting)]
    place = OutputFiles.inside(config.out, _SIMPLEX, _MEASURED, *states)
    with running(config, report, place) as run:
        named_by_options = fit_recipe(config.recipe, config.problem)
        checkpoints = [load_network(config.checkpoints, file) for file in config.minima]
        require_different(*checkpoints)
        for other in checkpoints[1:]:
            require_same_layout(checkpoints[0], other)
        folder = run.outputs.at(config.out)
        policy = config.checkpoints.batch_norm or "recomputed"
        setting, networks, statistics = run.load(checkpoints, batch_norm=policy)
        recipe, _ = settled_recipe(named_by_options, setting.space.network, checkpoints, before=None)
        points = networks.points()
        require_spanning(points, config.connecting)
        subject = run.subject(setting, statistics, begun=folder / _MEASURED)
        named = {f"minimum {i + 1}": checkpoint for i, checkpoint in enumerate(checkpoints)}
        provenance = subject.provenance(named, evaluated=False, but=("samples",), recipe=recipe.stated())
        simplices = _finished(run, folder / _SIMPLEX, subject.setting, provenance)
        if simplices is None:
            keepings = [Keeping(folder / s, provenance, resume=run.resume, seconds=config.save_every) for s in states]
            simplices = _trained(run, subject, points, recipe, keepings)
            _save(folder / _SIMPLEX, simplices, subject.setting, provenance)
            for keeping in keepings:
                keeping.discard()
        facts = {"log_volume": simplices.log_volume(), "minima": simplices.minima, "connecting": config.connecting}
        begun = Result("simplex", {}, provenance=subject.provenance(named, recipe=recipe.stated()), facts=facts)
        writer = ResultWriter(folder / _MEASURED, begun, resume=run.resume)
        sweeps = _measured(config, simplices, subject.risk, writer, report)
        run.outputs.commit()
        return _summary(config, sweeps, simplices.log_volume())


def _finished(run: Run, file: FilePath, setting: Setting, provenance: dict[str, Any]) -> SimplicialComplex | None:
    """The simplices that a resume finds trained."""
    config: SimplexConfig = run.config
    if not (run.resume and file.exists()):
        return None
    saved = load_checkpoint(file)
    require_same_provenance(file, saved.metadata.get("provenance", {}), provenance)
    count = len(config.minima) + config.connecting
    vertices = [setting.space.flatten({name: tensor[i] for name, tensor in saved.state.items()}) for i in range(count)]
    return SimplicialComplex(torch.stack(vertices), len(config.minima))


def _trained(
    run: Run, subject: Subject, points: torch.Tensor, recipe: Recipe, keepings: Sequence[Keeping]
) -> SimplicialComplex:
    config: SimplexConfig = run.config
    return fit_simplex(
        subject.risk,
        points,
        config.connecting,
        recipe,
        volume_weight=config.volume_weight,
        seed=config.seed,
        keeping=keepings.__getitem__,
        report=run.report,
    )


def _save(file: FilePath, simplices: SimplicialComplex, setting: Setting, provenance: dict[str, Any]) -> None:
    """Write the vertices, for each parameter `[m + n, ...]` by name."""
    metadata = {"kind": "simplex", "minima": simplices.minima, "provenance": provenance, "problem": setting.carried()}
    save_tensors(file, setting.space.views(simplices.vertices), metadata)


def _measured(
    config: SimplexConfig,
    simplices: SimplicialComplex,
    risk: EmpiricalRisk,
    writer: ResultWriter,
    report: Reporter,
) -> dict[str, Sweep]:
    """What is measured at the vertices and inside."""
    places = {
        "vertices": torch.eye(len(simplices.vertices), dtype=torch.float64),
        "inside": simplices.sample(config.samples, config.seed),
    }
    sweeps: dict[str, Sweep] = {}
    for name, coefficients in places.items():

        def at(number: float, coefficients: torch.Tensor = coefficients) -> torch.Tensor:
            return simplices(coefficients[int(number)])

        axes = {"number": np.arange(float(len(coefficients)))}
        sweeps[name] = sweep(risk, at, axes, writer=writer, name=name, report=report)
    return sweeps


def _summary(config: SimplexConfig, sweeps: Mapping[str, Sweep], log_volume: float) -> SimplexSummary:
    out = config.out / _MEASURED
    split = sweeps["inside"].splits[0]
    losses = {name: measured["loss", split] for name, measured in sweeps.items()}
    accuracy = sweeps["inside"]["accuracy", "test"] if ("accuracy", "test") in sweeps["inside"] else np.array([np.nan])
    return SimplexSummary(
        split=split,
        vertex_loss=float(losses["vertices"].max()),
        mean_loss=float(losses["inside"].mean()),
        max_loss=float(losses["inside"].max()),
        min_test_accuracy=float(accuracy.min()),
        log_volume=log_volume,
        files=[str(config.out / _SIMPLEX), str(out), *draw_result(out)],
    )
