"""Join two minima by a pass, and keep its path and its measurements in files that a stopped run goes on from."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import numpy as np
from torch import Tensor

from connect.app.commands.finding import Finder
from connect.app.config import GraphConfig
from connect.measures.profiles import measure_path, path_facts
from connect.measures.summaries import PathSummary, summarise_path
from connect.measures.training import Training
from connect.paths.curves import PolygonalChain
from connect.paths.finding import find_path
from connect.paths.path import Path, load_path, save_path
from landscape.app.setting import Setting
from landscape.errors import DivergedError
from landscape.risk.empirical import EmpiricalRisk
from landscape.runtime.progress import Reporter
from landscape.storage.files import remove_partials
from landscape.storage.results import Result, Sweep
from landscape.storage.store import ResultWriter, load_result, require_same_provenance, save_result
from landscape.training.keeping import Keeping

PASSES = "passes"
_STRAIGHT = "straight line"
_BRACKET, _CLOSEST = 1e-3, 0.1  # how closely a saddle is measured: in units of the loss, and of the tolerance
OWN_FILES = re.compile(r"[0-9a-f]{12}-[0-9a-f]{12}\.(h5|safetensors|state\.safetensors)")
_FIGURES = (
    "barrier", "barrier_low", "barrier_high", "excess", "excess_low", "excess_high", "saddle_loss_low",
    "saddle_loss_high", "error_barrier", "error_barrier_low", "error_barrier_high", "length_ratio", "t_max",
)  # fmt: skip


class Passes:
    """Finds ways between minima: the straight line, and a trained path where that is not enough.

    Args:
        config: tolerance, points, seed and folder.
        setting: gives names and shapes.
        risk: the loss.
        finder: trains paths.
        provenance: what all passes follow from.
        report: progress reporter.
    """

    def __init__(
        self,
        config: GraphConfig,
        setting: Setting,
        risk: EmpiricalRisk,
        finder: Finder,
        provenance: Mapping[str, Any],
        report: Reporter,
    ) -> None:
        self._config, self._setting, self._risk, self._report = config, setting, risk, report
        self._finder, self._provenance = finder, provenance
        self._buffers = risk.buffers()

    def join(self, ends: Tensor, prints: Mapping[str, str], lower: float) -> dict[str, Any]:
        """Find a way between two minima.

        Args:
            ends: the minima `[2, P]`.
            prints: their fingerprints, by "a" and "b".
            lower: the higher of their losses.

        Returns:
            The attributes of the pass. `accepted` is the tolerance under which the straight line was enough and no
            path was tried; of a path that was, `training` says how far it is trained, as in a `Verdict`.
        """
        config = self._config
        stem = config.out / PASSES / "-".join(fingerprint[:12] for fingerprint in prints.values())
        provenance = {**self._provenance, "checkpoints": dict(prints)}
        straight = Path(ends, PolygonalChain(2), {**provenance, "curve": _STRAIGHT})
        writer = self._writer(stem.with_suffix(".h5"), straight)
        line = summarise_path(self._measured(straight, "straight", writer), 1.0)
        if line.saddle_loss.value <= lower + config.tolerance:
            return self._straight(stem, straight, line, writer.result) | {"accepted": config.tolerance}
        try:
            path = self._found(stem, ends, provenance)
        except DivergedError as error:
            tried = {"training": "diverged", "note": f"the path could not be trained: {error}"}
            return self._straight(stem, straight, line, writer.result, tried)
        if path.curve == straight.curve:  # an earlier run has tried a path in vain
            return self._straight(stem, straight, line, writer.result, path.provenance["tried"])
        summary = summarise_path(self._measured(path, "path", writer), path.length() / path.distance())
        saddle, straight_saddle = summary.saddle_loss.value, line.saddle_loss.value
        if saddle <= straight_saddle or (np.isfinite(saddle) and not np.isfinite(straight_saddle)):
            measured = Result("profile", writer.result.sweeps, provenance=writer.result.provenance, facts={
                **path_facts(path), "path": summary.flat(), "straight": line.flat()
            })  # fmt: skip
            training = Training.of(path)
            ending = {"training": training.ending} if training else {}
            return self._settled(stem, path, summary, measured, config.curve.curve) | ending
        note = f"the trained path goes up to {saddle:.4g}, above the straight line ({straight_saddle:.4g})"
        return self._straight(stem, straight, line, writer.result, {"training": "above the line", "note": note})

    def clean(self) -> None:
        """Remove what a killed process left half written."""
        for file in (self._config.out / PASSES).glob("*.*"):
            remove_partials(file)

    def _writer(self, file: FilePath, straight: Path) -> ResultWriter:
        """Keeps measurements, from where a run under the same settings was stopped."""
        bracket = self._bracket
        provenance = {**straight.provenance, "curve": self._provenance["curve"], "bracket": bracket}
        if file.exists() and load_result(file).provenance != json.loads(json.dumps(provenance)):
            file.unlink()
        begun = Result("profile", {}, provenance=provenance, facts=path_facts(straight))
        return ResultWriter(file, begun, resume=True)

    @property
    def _bracket(self) -> float:
        return min(_BRACKET, _CLOSEST * self._config.tolerance)

    def _measured(self, path: Path, name: str, writer: ResultWriter) -> Sweep:
        measure_path(
            path,
            self._risk,
            np.linspace(0, 1, self._config.points),
            name=name,
            tolerance=self._bracket,
            writer=writer,
            report=self._report,
        )
        return writer.result.join_rounds(name)

    def _found(self, stem: FilePath, ends: Tensor, provenance: Mapping[str, Any]) -> Path:
        """A trained path: from its file when a stopped run had finished it; the straight line when that lay lower."""
        file, state = stem.with_suffix(".safetensors"), stem.with_suffix(".state.safetensors")
        if file.exists():
            path = load_path(file, self._setting.space)
            if path.provenance.get("curve") == _STRAIGHT and path.provenance.get("tried"):
                return path
            if path.provenance.get("curve") != _STRAIGHT:
                require_same_provenance(file, path.provenance, provenance)
                return path
        keeping = Keeping(state, provenance, resume=True, seconds=self._config.save_every)
        self._risk.load_buffers(self._buffers)  # no fit may depend on those before it
        try:
            trained = find_path(
                self._risk,
                ends[0],
                ends[1],
                self._finder.method,
                self._finder.recipe,
                seed=self._config.seed,
                keeping=keeping,
                report=self._report,
            )
        except DivergedError:
            keeping.discard()
            raise
        finally:
            self._risk.load_buffers(self._buffers)
        path = replace(trained, provenance=provenance)
        self._save(file, path)
        keeping.discard()
        return path

    def _straight(
        self,
        stem: FilePath,
        straight: Path,
        line: PathSummary,
        measured: Result,
        tried: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Settle for the straight line, which its profile then holds alone.

        What is to be said of a path that was tried is kept with it; earlier versions kept only that there was one.
        """
        kept = Result("profile", measured.rounds("straight"), provenance=measured.provenance, facts={
            **path_facts(straight), "path": line.flat(), "straight": line.flat()
        })  # fmt: skip
        path = Path(straight.points, straight.curve, {**straight.provenance, "tried": tried or False})
        return self._settled(stem, path, line, kept, _STRAIGHT) | (dict(tried) if isinstance(tried, Mapping) else {})

    def _settled(self, stem: FilePath, path: Path, summary: PathSummary, measured: Result, how: str) -> dict[str, Any]:
        """Write what was found, and say what is known of it."""
        save_result(stem.with_suffix(".h5"), measured)
        self._save(stem.with_suffix(".safetensors"), path)
        place = f"{PASSES}/{stem.name}"
        figures = summary.flat()
        return {
            "saddle": figures["saddle_loss"],
            **{name: figures[name] for name in _FIGURES},
            "length": path.length(),
            "how": how,
            "path": f"{place}.safetensors",
            "profile": f"{place}.h5",
        }

    def _save(self, file: FilePath, path: Path) -> None:
        save_path(file, path, self._setting.space, {"problem": self._setting.carried()})


def whole(folder: FilePath, attributes: Mapping[str, Any]) -> bool:
    """Whether the files of a pass are there, in the folder of passes and not where else a graph may say."""
    for name in ("path", "profile"):
        inside, _, file = str(attributes.get(name)).rpartition("/")
        if inside != PASSES or not OWN_FILES.fullmatch(file) or not (folder / PASSES / file).is_file():
            return False
    return True
