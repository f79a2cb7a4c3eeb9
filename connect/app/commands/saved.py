"""Open a path that was fitted before."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any

from connect.app.config import EnsembleConfig, ExportConfig, ProfileConfig
from connect.paths.path import MOVED_BUFFERS, Path, builder, load_path
from landscape.app.checkpoints import load_network
from landscape.app.commands.curvatures import require_found
from landscape.app.run import Run, Subject
from landscape.app.setting import Setting, open_setting
from landscape.errors import CheckpointError, ConfigError
from landscape.risk.batchnorm import Recomputed
from landscape.risk.empirical import EmpiricalRisk
from landscape.space.parameters import ParameterSpace
from landscape.storage.checkpoints import Checkpoint, load_checkpoint


@dataclass(frozen=True)
class SavedPath:
    """A path with all that its networks need.

    Attributes:
        path: the path, whose `module` gives networks.
        subject: setting and loss, with statistics recomputed everywhere.
        provenance: what anything measured of it follows from.
    """

    path: Path
    subject: Subject
    provenance: Mapping[str, Any]

    @property
    def setting(self) -> Setting:
        """Problem and space."""
        return self.subject.setting

    @property
    def risk(self) -> EmpiricalRisk:
        """The loss, with statistics recomputed everywhere."""
        return self.subject.risk


def open_path(run: Run, **resolved: Any) -> SavedPath:
    """Read a path and what its networks need.

    Args:
        run: of a command with the group `saved`.
        resolved: what options lead to, in their place, for the provenance; a `split` of None stands for all.

    Raises:
        LandscapeError: the subclass says what is wrong.
    """
    config: ProfileConfig | EnsembleConfig | ExportConfig = run.config
    options, reading = config.saved, config.checkpoints
    saved = load_checkpoint(options.path)
    base = load_network(reading, options.base) if options.base else None
    fit_provenance = saved.metadata.get("provenance") or {}
    if moved := fit_provenance.get(MOVED_BUFFERS):
        raise ConfigError(
            f"{options.path} was fitted between checkpoints that differ in {', '.join(map(str, moved))}, which a path "
            "does not hold; it can be measured by connect fit alone."
        )
    trainable = config.problem.trainable or fit_provenance.get("trainable")
    if not isinstance(trainable, str | None) or not isinstance(fit_provenance.get("checkpoints", {}), Mapping):
        raise CheckpointError(f"{options.path} holds a provenance that connect fit does not write.")
    bearers = [saved, *([base] if base else [])]
    setting = open_setting(
        replace(config.problem, trainable=trainable), config.compute, bearers, trust_code=reading.trust_code
    )
    if base:
        setting.load(base)
        _require_fitted_with(options.path, base, fit_provenance)
    path = load_path(options.path, setting.space)
    if not base:
        _require_whole(options.path, setting.space, path)
    statistics = Recomputed(setting.problem.data.splits["train"], setting.problem.loss, reading.statistics_batch_size)
    split = "all" if isinstance(config, ExportConfig) else config.split
    if isinstance(config, ProfileConfig):
        require_found(config.map, config.curvature, setting, split)
    subject = run.subject(setting, statistics, split)
    provenance = subject.provenance(
        {"path": saved} | ({"base": base} if base else {}),
        curve=fit_provenance.get("curve", path.curve.name),
        control_points=path.curve.control_points,
        fitted=dict(path.provenance),
        trainable=trainable,
        **resolved,
    )
    return SavedPath(replace(path, build=builder(subject.risk)), subject, provenance)


def _require_fitted_with(file: FilePath, base: Checkpoint, provenance: Mapping[str, Any]) -> None:
    """Check that a base is one of the checkpoints that a path was fitted between.

    Raises:
        ConfigError: it is another, whose other parameters have nothing to do with the path.
    """
    fitted = provenance.get("checkpoints", {})
    if fitted and base.fingerprint not in fitted.values():
        raise ConfigError(f"--base {base.path} is none of the checkpoints that {file} was fitted between; name one.")


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
