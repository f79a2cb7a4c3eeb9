"""Run a study from one file: train its networks, measure them, and draw them side by side.

Every step is the command of the same name with a file of its own, so a study that is stopped goes on where it was.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

from jsonargparse import ArgumentError, ArgumentParser

from landscape.commands.lines import line
from landscape.commands.pictures import compare
from landscape.commands.summaries import wrote
from landscape.commands.surfaces import surface
from landscape.commands.training import TrainSummary, train
from landscape.commands.trajectories import trajectory
from landscape.config import (
    CompareConfig,
    ComputeOptions,
    LineConfig,
    RecipeOptions,
    StudyConfig,
    SurfaceConfig,
    TrainConfig,
    TrajectoryConfig,
)
from landscape.errors import ConfigError
from landscape.locks import alone
from landscape.progress import Reporter, silent
from landscape.study import read_problem_file

_Config = TypeVar("_Config")
_PROBLEM = ("model", "model_args", "data", "data_args", "loss", "trainable")
_NETWORK = (*_PROBLEM, "seed", "train")
_SECTIONS = ("networks", "line", "surface", "trajectory", "compare")
_REFERENCES = ("a", "b", "checkpoint", "through", "towards", "project", "snapshots")


@dataclass(frozen=True)
class StudySummary:
    """Every network's losses and accuracies by name, what it took, and the files that were written."""

    networks: Mapping[str, Mapping[str, float]]
    seconds: float
    files: Sequence[str]

    def text(self) -> str:
        """The summary as a table."""
        width = max(map(len, self.networks))
        rows = [f"{'':{width}}  train loss  test loss  test accuracy"]
        rows += [
            f"{name:{width}}  {known['train_loss']:10.4f}  {known['test_loss']:9.4f}  {known['test_accuracy']:13.4f}"
            for name, known in self.networks.items()
        ]
        return "\n".join([*rows, f"{self.seconds:.0f} s", wrote(self.files)])


@dataclass(frozen=True)
class _Step:
    """One command with its configuration, and what it is about."""

    name: str
    command: Callable[[Any, Reporter], Any]
    config: Any


@alone
def run_study(config: StudyConfig, report: Reporter = silent) -> StudySummary:
    """Train the networks that a file names, measure them, and draw them side by side.

    Args:
        config: the study's file and a folder.
        report: told of progress.

    Raises:
        ConfigError: the file asks for something that is not there; all steps are checked before the first is taken.
        LandscapeError: a step fails; the subclass says how.
    """
    started = perf_counter()
    plan = read_problem_file(config.study)
    _require_known(plan, (*_SECTIONS, *_PROBLEM, "train"), str(config.study))
    trainings = _trainings(config, plan)
    measures = [
        step for section in ("line", "surface", "trajectory") for step in _measures(config, plan, section, trainings)
    ]
    comparisons = _comparisons(config, plan, measures)
    networks: dict[str, Mapping[str, float]] = {}
    files: list[str] = []
    for name, training in trainings.items():
        done: TrainSummary = train(training, report)
        networks[name] = {k: v for k, v in asdict(done).items() if k.startswith(("train_", "test_"))}
        files += done.files
    for step in [*measures, *comparisons]:
        files += step.command(step.config, report).files
    return StudySummary(networks, perf_counter() - started, files)


def _trainings(config: StudyConfig, plan: Mapping[str, Any]) -> dict[str, TrainConfig]:
    """How each network is trained, by its name."""
    networks = _mapping(plan.get("networks"), f"{config.study}: networks")
    if not networks:
        raise ConfigError(f"{config.study}: there are no networks; name some, each with a model.")
    given = {name: value for name, value in asdict(config).items() if name in {"data_root", "download"}}
    found = {}
    for name, values in networks.items():
        place = f"{config.study}: network {name!r}"
        own = _mapping(values or {}, place)
        _require_known(own, _NETWORK, place)
        problem = {key: plan[key] for key in _PROBLEM if key in plan} | {k: v for k, v in own.items() if k in _PROBLEM}
        recipe = _mapping(plan.get("train", {}), f"{config.study}: train") | _mapping(own.get("train", {}), place)
        _require_known(recipe, tuple(RecipeOptions.__dataclass_fields__), f"{place}: train")
        snapshots = {"snapshots": str(_snapshots(config, name))} if "trajectory" in plan else {}
        options = {**given, **problem, **recipe, **snapshots, "seed": own.get("seed", 0)}
        found[str(name)] = _built(TrainConfig, config, options, _file(config, "networks", name, ".safetensors"), place)
    return found


def _measures(
    config: StudyConfig, plan: Mapping[str, Any], section: str, trainings: Mapping[str, TrainConfig]
) -> list[_Step]:
    """The steps of one section: one for each network, unless it names those it is about."""
    commands: dict[str, tuple[Callable[[Any, Reporter], Any], type, str]] = {
        "line": (line, LineConfig, "a"),
        "surface": (surface, SurfaceConfig, "checkpoint"),
        "trajectory": (trajectory, TrajectoryConfig, "snapshots"),
    }
    command, kind, subject = commands[section]
    given = plan.get(section, [])
    steps = []
    for part in given if isinstance(given, list) else [given]:
        place = f"{config.study}: {section}"
        values = _mapping(part or {}, place)
        _require_known(values, (*(f.name for f in fields(kind)), "name"), place)
        if section == "trajectory":
            values.setdefault(subject, list(trainings))
        subjects = [values[subject]] if subject in values else list(trainings)
        for network in subjects:
            resolved = {key: _resolved(config, key, value, trainings, place) for key, value in values.items()}
            resolved[subject] = _resolved(config, subject, network, trainings, place)
            name = resolved.pop("name", None) or (network if isinstance(network, str) else "all")
            steps.append(
                _Step(name, command, _built(kind, config, resolved, _file(config, section, name, ".h5"), place))
            )
    return steps


def _comparisons(config: StudyConfig, plan: Mapping[str, Any], measures: Sequence[_Step]) -> list[_Step]:
    """One figure for all surfaces, and one for all lines, where there are several."""
    if "compare" not in plan:
        return []
    place = f"{config.study}: compare"
    values = _mapping(plan["compare"] or {}, place)
    steps = []
    for command, name in ((surface, "surfaces"), (line, "lines")):
        compared = {step.name: str(step.config.out) for step in measures if step.command is command}
        if len(compared) > 1:
            own = {"labels": list(compared), **values, "results": list(compared.values()), "overwrite": True}
            out = config.out / f"{config.study.stem}_{name}.png"
            steps.append(_Step(name, compare, _parsed(CompareConfig, {**own, "out": str(out)}, place)))
    if not steps:
        raise ConfigError(f"{place}: there are no two surfaces or lines to compare.")
    return steps


def _resolved(config: StudyConfig, key: str, value: Any, trainings: Mapping[str, TrainConfig], place: str) -> Any:
    """The file, or the files, of the networks that a value names; other values as they are."""
    if key not in _REFERENCES:
        return value
    if isinstance(value, list):
        return [_resolved(config, key, one, trainings, place) for one in value]
    if value not in trainings:
        raise ConfigError(f"{place}: {key} names {value!r}, which is none of the networks {', '.join(trainings)}.")
    return str(_snapshots(config, value) if key == "snapshots" else trainings[value].out)


def _snapshots(config: StudyConfig, network: str) -> Path:
    return _file(config, "snapshots", network, "")


def _file(config: StudyConfig, folder: str, name: Any, suffix: str) -> Path:
    return config.out / folder / (re.sub(r"[^\w.=+-]+", "-", str(name)) + suffix)


def _built(kind: type[_Config], config: StudyConfig, values: Mapping[str, Any], out: Path, place: str) -> _Config:
    """A step's configuration: its own values, and what the study was told of devices and old files."""
    told = {f.name: getattr(config, f.name) for f in fields(ComputeOptions)}
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    shared = {**told, "resume": config.resume, "overwrite": config.overwrite, "out": str(out)}
    return _parsed(kind, {**values, **{k: v for k, v in shared.items() if k in known}}, place)


def _parsed(kind: type[_Config], values: Mapping[str, Any], place: str) -> _Config:
    """A configuration from plain values, whose types are checked."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, "step")
    try:
        parsed = parser.parse_object({"step": {key: value for key, value in values.items() if value is not None}})
    except ArgumentError as error:
        raise ConfigError(f"{place}: {' '.join(str(error).split())}") from error
    made: _Config = parser.instantiate(parsed).step
    return made


def _mapping(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{place} is {value!r}, expected a mapping.")
    return dict(value)


def _require_known(values: Mapping[str, Any], known: Sequence[str], place: str) -> None:
    unknown = [key for key in values if key not in known]
    if unknown:
        raise ConfigError(f"{place}: unknown key {unknown[0]!r}; known are {', '.join(known)}.")
