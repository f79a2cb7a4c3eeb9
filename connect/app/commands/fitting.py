"""Fit a path between two checkpoints, measure it and draw it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from connect.app.commands.finding import path_finder
from connect.app.commands.pictures import draw_result
from connect.app.commands.summaries import FitSummary, told
from connect.app.config import FitConfig
from connect.measures.planes import DIMENSIONS, measure_plane
from connect.measures.profiles import lengths, profile
from connect.paths.fitting import require_joinable
from connect.paths.path import MOVED_BUFFERS, Path, builder, load_path, path_of, save_path
from landscape.app.checkpoints import load_network
from landscape.app.devices import choose_device
from landscape.app.options import files_in
from landscape.app.setting import Setting, open_setting
from landscape.errors import ConfigError, Interrupted
from landscape.risk.empirical import EmpiricalRisk
from landscape.risk.ranks import Ranks, joined
from landscape.runtime.progress import Reporter, silent
from landscape.storage.checkpoints import Checkpoint, load_checkpoint, read_metadata, require_same_layout
from landscape.storage.outputs import OutputFiles, Outputs, following, writing
from landscape.storage.results import Result
from landscape.storage.store import ResultWriter, require_same_provenance
from landscape.training.keeping import Keeping

PATH, PROFILE, PLANE, STATE = "path.safetensors", "profile.h5", "plane.h5", "fit.state.safetensors"
_OUTPUTS = (PATH, PROFILE, PLANE, STATE)
_BROKEN = ("gloo", "NCCL", "Connection")  # in the words of a process whose fellow is gone


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
        joined(choose_device(config.compute.device)) as ranks,
        _broken_off(config, ranks),
        _claimed(config, ranks) as outputs,
    ):
        return _Fitting(config, ranks, outputs, report if ranks.first else silent).run()


@contextmanager
def _claimed(config: FitConfig, ranks: Ranks) -> Iterator[Outputs]:
    """The outputs, which the first process claims before the others look where they are."""
    place = OutputFiles.inside(config.out, *_OUTPUTS)
    device = choose_device(config.compute.device)
    if ranks.first:
        with writing(
            place, read=files_in(config), resume=config.output.resume, overwrite=config.output.overwrite
        ) as outputs:
            ranks.any(True, device)  # lets the others go on
            yield outputs
    else:
        ranks.any(False, device)
        yield following(place)


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
    """One run of the command."""

    def __init__(self, config: FitConfig, ranks: Ranks, outputs: Outputs, report: Reporter) -> None:
        self._config, self._ranks, self._outputs, self._report = config, ranks, outputs, report
        self._out = outputs.at(config.out)
        self._finder = path_finder(config, config.free_ends)

    def run(self) -> FitSummary:
        config = self._config
        a, b = (load_network(config.checkpoints, file) for file in (config.a, config.b))
        require_same_layout(a, b)
        setting = open_setting(config.problem, config.compute, [a, b], trust_code=config.checkpoints.trust_code)
        saved = load_checkpoint(config.start) if config.start else None
        start = path_of(saved, setting.space) if saved else None
        networks = setting.load_all([a, b])
        require_joinable(networks.thetas[0], networks.thetas[1], start)
        if config.plane_points and setting.space.dimension < DIMENSIONS:
            raise ConfigError("there is no plane in a space of one parameter; leave it out by --plane-points 0.")
        statistics = setting.policy(config.checkpoints, networks)
        risk = setting.risk(config.compute, statistics, begun=self._begun_batch_size(), ranks=self._ranks)
        measured = setting.of_network({
            "batch_norm": statistics.name,
            "statistics_batch_size": config.checkpoints.statistics_batch_size,
            **risk.evaluation(),
        })  # fmt: skip
        provenance = self._provenance(setting, a, b, saved) | (measured if self._finder.measures else {})
        provenance |= {MOVED_BUFFERS: sorted(networks.others)} if networks.others else {}
        path = self._finished(setting, risk, provenance)
        if path is None:
            begun = self._finder.method.begin(networks.thetas[0], networks.thetas[1], start)
            del networks, a, b, saved, start  # from here on the control points alone are held
            path = self._trained(setting, risk, begun, provenance)
            del begun
        if not self._ranks.first:
            raise SystemExit(0)
        moved = self._moved(setting, path) if config.free_ends else ""
        return self._measured(path, risk, provenance | measured, moved)

    def _begun_batch_size(self) -> FilePath | int | None:
        """That of the run that is gone on with: what is measured follows from it to the bit, and so does a band."""
        if not self._config.output.resume:
            return None
        for name in (STATE, PATH):
            if (self._out / name).exists():
                size = read_metadata(self._out / name).get("provenance", {}).get("eval_batch_size")
                if isinstance(size, int):
                    return size
        return self._out / PROFILE

    def _provenance(self, setting: Setting, a: Checkpoint, b: Checkpoint, start: Checkpoint | None) -> dict[str, Any]:
        config = self._config
        return setting.provenance(
            {"a": a, "b": b} | ({"start": start} if start else {}),
            **self._finder.settings,
            **({"free_ends": True} if config.free_ends else {}),
            seed=config.seed,
            trainable=config.problem.trainable,
            precision=config.compute.precision,
            processes=self._ranks.size,
        )

    def _finished(self, setting: Setting, risk: EmpiricalRisk, provenance: dict[str, Any]) -> Path | None:
        """The path that a resume finds finished."""
        file = self._out / PATH
        if not (self._config.output.resume and file.exists()):
            return None
        path = load_path(file, setting.space, builder(risk))
        require_same_provenance(file, path.provenance, provenance)
        return path

    def _trained(self, setting: Setting, risk: EmpiricalRisk, begun: Path, provenance: dict[str, Any]) -> Path:
        config, file = self._config, self._out / PATH
        keeping = Keeping(
            self._out / STATE,
            provenance,
            resume=config.output.resume,
            seconds=config.save_every,
            writes=self._ranks.first,
        )
        path = self._finder.method.train(
            risk, begun, self._finder.recipe, seed=config.seed, keeping=keeping, report=self._report
        )
        path = replace(path, provenance=provenance)
        if self._ranks.first:
            save_path(file, path, setting.space, {"problem": setting.carried()})
            keeping.discard()
        return path

    def _moved(self, setting: Setting, path: Path) -> str:
        """How far free ends went, in words: everything is measured between them, and not between the checkpoints."""
        config = self._config
        files = (config.a, config.b)
        states = [load_network(config.checkpoints, file).state for file in files]
        ways = [float((setting.space.flatten(s) - path.points[i]).norm()) for s, i in zip(states, (0, -1), strict=True)]
        return (
            f"; the free ends moved by {ways[0]:.3g} and {ways[1]:.3g}, and lie {path.distance():.3g} apart: "
            "the figures are theirs, not those of the checkpoints"
        )

    def _measured(self, path: Path, risk: EmpiricalRisk, measuring: dict[str, Any], moved: str) -> FitSummary:
        config = self._config
        settings = {**measuring, "points": config.verdict.points, "tolerance": config.verdict.tolerance}
        writer = self._writer(PROFILE, Result("profile", {}, provenance=settings, facts=lengths(path)))
        measured = profile(
            path,
            risk,
            np.linspace(0, 1, config.verdict.points),
            tolerance=config.verdict.tolerance,
            writer=writer,
            report=self._report,
        )
        results = [config.out / PROFILE]
        if config.plane_points:
            measure_plane(
                path,
                risk,
                measured,
                self._out / PLANE,
                points=config.plane_points,
                provenance=measuring,
                resume=config.output.resume,
                report=self._report,
            )
            results.append(config.out / PLANE)
        self._outputs.commit()
        pictures = [picture for file in results for picture in draw_result(file)]
        files = [str(config.out / PATH), *map(str, results), *pictures]
        said = told(measured, config.verdict)
        said["reason"] = f"{said['reason']}{moved}"
        return FitSummary(**said, files=files)  # type: ignore[arg-type]

    def _writer(self, name: str, begun: Result) -> ResultWriter:
        return ResultWriter(self._out / name, begun, resume=self._config.output.resume)
