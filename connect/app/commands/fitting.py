"""Fit a path between two checkpoints, measure it and draw it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import numpy as np
from torch import Tensor

from connect.app.commands.finding import fit_recipe, memory_need, path_finder, ranged, settled_recipe
from connect.app.commands.pictures import draw_result
from connect.app.commands.summaries import FitSummary, told
from connect.app.config import FitConfig
from connect.measures.planes import DIMENSIONS, measure_plane
from connect.measures.profiles import path_facts, profile
from connect.paths.fitting import require_joinable
from connect.paths.path import MOVED_BUFFERS, Path, builder, load_path, path_of, save_path
from landscape.app.checkpoints import load_network, require_different
from landscape.app.devices import choose_device
from landscape.app.run import Run, Subject, running
from landscape.app.setting import Networks
from landscape.errors import ConfigError, Interrupted
from landscape.problems.kinds import has_attention
from landscape.risk.empirical import EmpiricalRisk
from landscape.risk.ranks import Ranks, joined
from landscape.runtime.progress import Reporter, silent
from landscape.space.pieces import Offset, norm
from landscape.storage.checkpoints import load_checkpoint, read_metadata, require_same_layout
from landscape.storage.outputs import OutputFiles, following
from landscape.storage.results import Result
from landscape.storage.store import ResultWriter, require_same_provenance
from landscape.training.keeping import Keeping

PATH, PROFILE, PLANE, STATE = "path.safetensors", "profile.h5", "plane.h5", "fit.state.safetensors"
_OUTPUTS = (PATH, PROFILE, PLANE, STATE)
_OF_VERDICT = ("points", "tolerance")  # what only the profile follows from
_BROKEN = ("gloo", "NCCL", "Connection")  # in the words of a process whose fellow is gone


def fit(config: FitConfig, report: Reporter = silent) -> FitSummary:
    """Train a path between two checkpoints, measure it against the straight line, and draw both.

    Batch-norm statistics are recomputed from the training data at every point that is measured, unless the flags say
    otherwise. With `resume`, each stage goes on where it was stopped. Under `torchrun` the processes share each batch;
    when the path is found the first goes on alone, and the others end with `SystemExit`.

    Args:
        config: checkpoints, curve, recipe and folder.
        report: progress reporter.

    Raises:
        LandscapeError: the subclass says what is wrong; all that can be checked is checked before any computing.
    """
    with (
        joined(choose_device(config.compute.device)) as ranks,
        _broken_off(config, ranks),
        _claimed(config, ranks, report if ranks.first else silent) as run,
    ):
        return _Fitting(run, ranks).run()


@contextmanager
def _claimed(config: FitConfig, ranks: Ranks, report: Reporter) -> Iterator[Run]:
    """The run, whose outputs the first process claims before the others look where they are."""
    place = OutputFiles.inside(config.out, *_OUTPUTS)
    device = choose_device(config.compute.device)
    if ranks.first:
        with running(config, report, place) as run:
            ranks.any(True, device)  # lets the others go on
            yield run
    else:
        ranks.any(False, device)
        yield Run(config, following(place), config.out, report)


@contextmanager
def _broken_off(config: FitConfig, ranks: Ranks) -> Iterator[None]:
    """Have what a process meets whose fellow is gone say so."""
    try:
        yield
    except RuntimeError as error:
        if ranks.size > 1 and any(word in str(error) for word in _BROKEN):
            raise Interrupted(
                f"another process of this fit ended; what was saved is in {config.out}, go on with --resume."
            ) from error
        raise


class _Fitting:
    """One run of the command: the ends, the loss, and how the path is found."""

    def __init__(self, run: Run, ranks: Ranks) -> None:
        self._run, self._ranks = run, ranks
        self._config: FitConfig = run.config
        self._folder = run.outputs.at(run.config.out)
        self._named = fit_recipe(self._config.recipe, self._config.problem)
        self._finder = path_finder(self._config, self._named.recipe(), self._config.free_ends)

    def run(self) -> FitSummary:
        config = self._config
        a, b = (load_network(config.checkpoints, file) for file in (config.a, config.b))
        saved = load_checkpoint(config.start) if config.start else None
        require_different(a, b)
        require_same_layout(a, b)
        setting, networks, statistics = self._run.load([a, b])
        recipe, rate = settled_recipe(self._named, setting.space.network, [a, b], self._before().get("recipe"))
        self._finder = path_finder(config, recipe, config.free_ends)
        start = path_of(saved, setting.space) if saved else None
        memory_need(self._finder, config.free_ends).require(setting.space)
        ends = [theta[:] for theta in networks.thetas]
        require_joinable(ends[0], ends[1], start)
        if config.plane_points and setting.space.dimension < DIMENSIONS:
            raise ConfigError("there is no plane in a space of one parameter; leave it out by --plane-points 0.")
        subject = self._run.subject(setting, statistics, begun=self._begun(), ranks=self._ranks)
        settings = self._settings(networks)
        named = {"a": a, "b": b} | ({"start": saved} if saved else {})
        measuring = subject.provenance(named, but=_OF_VERDICT, **settings)
        provenance = subject.provenance(named, evaluated=self._finder.measures, but=_OF_VERDICT, **settings)
        path = self._finished(subject, provenance)
        if path is None:
            begun = self._finder.method.begin(ends[0], ends[1], start)
            del ends, networks, a, b, saved, named  # from here on the control points alone are held
            if rate is None:
                ends = self._ranged(subject, begun)
                del begun
                begun = self._finder.method.begin(ends[0], ends[1], start)
                del ends
                measuring, provenance = (
                    {**each, "recipe": self._finder.recipe.stated()} for each in (measuring, provenance)
                )
            del start
            path = self._trained(subject, begun, provenance)
            del begun
            setting.space.drop_gradient()
        if not self._ranks.first:
            raise SystemExit(0)
        moved = self._moved(subject, path) if config.free_ends else ""
        return self._measured(path, subject.risk, measuring, moved)

    def _settings(self, networks: Networks) -> dict[str, Any]:
        """What the path follows from, beside the options and its ends."""
        return {
            **self._finder.settings,
            **({"free_ends": True} if self._config.free_ends else {}),
            **({MOVED_BUFFERS: sorted(networks.others)} if networks.others else {}),
            "processes": self._ranks.size,
        }

    def _before(self) -> Mapping[str, Any]:
        """What the run to go on with states, if there is one."""
        files = (self._folder / name for name in (STATE, PATH))
        stated = (read_metadata(file).get("provenance", {}) for file in files if self._run.resume and file.exists())
        return next(stated, {})

    def _begun(self) -> FilePath | int:
        """The batch size of the run to go on with, or the result that holds it: what is measured follows from it."""
        size = self._before().get("eval_batch_size")
        return size if isinstance(size, int) else self._folder / PROFILE

    def _ranged(self, subject: Subject, begun: Path) -> list[Tensor]:
        """Have the finder take the rate that a range test finds, which moves the path; returns the path's ends."""
        self._finder = ranged(self._finder, subject.risk, begun, self._config.seed, self._run.report)
        return [begun.points[0].clone(), begun.points[-1].clone()]

    def _finished(self, subject: Subject, provenance: dict[str, Any]) -> Path | None:
        """The path that a resume finds finished."""
        file = self._folder / PATH
        if not (self._run.resume and file.exists()):
            return None
        path = load_path(file, subject.setting.space, builder(subject.risk))
        require_same_provenance(file, path.provenance, provenance)
        return path

    def _trained(self, subject: Subject, begun: Path, provenance: dict[str, Any]) -> Path:
        config, run = self._config, self._run
        keeping = Keeping(
            self._folder / STATE, provenance, resume=run.resume, seconds=config.save_every, writes=self._ranks.first
        )
        path = self._finder.method.train(
            subject.risk, begun, self._finder.recipe, seed=config.seed, keeping=keeping, report=run.report
        )
        path = replace(path, provenance=provenance)
        if self._ranks.first:
            setting = subject.setting
            save_path(self._folder / PATH, path, setting.space, {"problem": setting.carried()})
            keeping.discard()
        return path

    def _moved(self, subject: Subject, path: Path) -> str:
        """How far free ends went, in words: everything is measured between them, and not between the checkpoints."""
        files = (self._config.a, self._config.b)
        states = [load_network(self._config.checkpoints, file).state for file in files]
        thetas = [subject.setting.space.flatten(state) for state in states]
        lengths_moved = [float(norm(Offset(theta, path.points[i]))) for theta, i in zip(thetas, (0, -1), strict=True)]
        return (
            f"; the free ends moved by {lengths_moved[0]:.3g} and {lengths_moved[1]:.3g}, and lie "
            f"{path.distance():.3g} apart: the figures are theirs, not those of the checkpoints"
        )

    def _measured(self, path: Path, risk: EmpiricalRisk, provenance: dict[str, Any], moved: str) -> FitSummary:
        config, run, verdict = self._config, self._run, self._config.verdict
        settings = {**provenance, "points": verdict.points, "tolerance": verdict.tolerance}
        begun = Result("profile", {}, provenance=settings, facts=path_facts(path))
        measured = profile(
            path,
            risk,
            np.linspace(0, 1, verdict.points),
            tolerance=verdict.tolerance,
            writer=ResultWriter(self._folder / PROFILE, begun, resume=run.resume),
            report=run.report,
        )
        results = [config.out / PROFILE]
        if config.plane_points:
            measure_plane(
                path,
                risk,
                measured,
                self._folder / PLANE,
                points=config.plane_points,
                provenance=provenance,
                resume=run.resume,
                report=run.report,
            )
            results.append(config.out / PLANE)
        run.outputs.commit()
        pictures = [picture for file in results for picture in draw_result(file)]
        said = told(measured, verdict, attends=has_attention(risk.space.network))
        said["reason"] = f"{said['reason']}{moved}"
        return FitSummary(**said, files=[str(config.out / PATH), *map(str, results), *pictures])  # type: ignore[arg-type]
