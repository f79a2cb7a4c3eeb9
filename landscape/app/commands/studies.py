"""Run a study from one file: train its networks, measure them, and draw them side by side.

Every step is the command of the same name with a file of its own, so a study that is stopped goes on where it was.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from landscape.app.commands.lines import line
from landscape.app.commands.pictures import compare
from landscape.app.commands.summaries import wrote
from landscape.app.commands.surfaces import surface
from landscape.app.commands.training import TrainSummary, train
from landscape.app.commands.trajectories import trajectory
from landscape.app.config import (
    CompareConfig,
    LineConfig,
    RecipeOptions,
    StudyConfig,
    SurfaceConfig,
    TrainConfig,
    TrajectoryConfig,
)
from landscape.app.options import flags, values
from landscape.app.problems import read_problem_file, require_problem
from landscape.app.recipes import named_recipe
from landscape.app.run import Run, running
from landscape.errors import ConfigError, Interrupted, LandscapeError
from landscape.problems.specification import overridden
from landscape.runtime.progress import Reporter, silent
from landscape.storage.outputs import OutputFiles
from landscape.training.recipes import TRAINING_RECIPES

_Config = TypeVar("_Config")
_PROBLEM = ("model", "model_args", "data", "data_args", "loss", "outputs", "trainable")
_NETWORK = (*_PROBLEM, "seed", "train")
_COMMANDS: Mapping[str, tuple[Callable[[Any, Reporter], Any], type, str]] = {
    "line": (line, LineConfig, "a"),
    "surface": (surface, SurfaceConfig, "checkpoint"),
    "trajectory": (trajectory, TrajectoryConfig, "snapshots"),
}
_FOLDERS = ("networks", "snapshots", *_COMMANDS)
_SECTIONS = ("networks", *_COMMANDS, "compare")
_QUICK = "quick"
_SEVERAL = ("through", "towards", "project", "snapshots")
_REFERENCES = ("a", "b", "checkpoint", *_SEVERAL)
_OWN = ("out", "resume", "overwrite", "problem", "data_root", "download")


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
            f"{name:{width}}  {row['train_loss']:10.4f}  {row['test_loss']:9.4f}  {row['test_accuracy']:13.4f}"
            for name, row in self.networks.items()
        ]
        return "\n".join([*rows, f"{self.seconds:.0f} s", wrote(self.files)])


@dataclass(frozen=True)
class Step:
    """One command with its configuration.

    Attributes:
        place: where the study asks for it, for errors.
        name: what it is about.
        command: the function.
        config: its configuration.
    """

    place: str
    name: str
    command: Callable[[Any, Reporter], Any]
    config: Any

    def take(self, report: Reporter) -> Any:
        """Run the command; an error says which step it was."""
        with _blaming(self.place):
            return self.command(self.config, report)


@dataclass(frozen=True)
class Plan:
    """Every step of a study, in the order in which they are taken."""

    trainings: Mapping[str, Step]
    measures: Sequence[Step]
    comparisons: Sequence[Step]

    @property
    def steps(self) -> list[Step]:
        """All of them in their order."""
        return [*self.trainings.values(), *self.measures, *self.comparisons]


def run_study(config: StudyConfig, report: Reporter = silent) -> StudySummary:
    """Train the networks that a file names, measure them, and draw them side by side.

    Args:
        config: the study's file and a folder.
        report: progress reporter.

    Raises:
        ConfigError: the file asks for something that is not there; all that can be known without the data and the
            networks is checked before the first step is taken.
        LandscapeError: a step fails; the subclass says how, and the message which step.
    """
    names = [step.config.out.relative_to(config.out).as_posix() for step in planned(config).steps]
    place = OutputFiles.inside(
        config.out, *names, extras=_extras(config.study.stem), label=config.study.stem, stepwise=True
    )
    with running(config, report, place, read=[config.study]) as run:
        return _run(run, config)


def _extras(name: str) -> re.Pattern[str]:
    """The names of the files that the steps write beside their own."""
    return re.compile(rf"({'|'.join(_FOLDERS)})/[^/.][^/]*(/[^/.][^/]*)?|{re.escape(name)}_(surfaces|lines)\.png")


def _run(run: Run, config: StudyConfig) -> StudySummary:
    plan = planned(replace(config, out=run.outputs.at(config.out)))
    networks: dict[str, Mapping[str, float]] = {}
    files: list[str] = []
    for name, step in plan.trainings.items():
        done: TrainSummary = step.take(run.report)
        networks[name] = {k: v for k, v in asdict(done).items() if k.startswith(("train_", "test_"))}
        files += done.files
    for step in [*plan.measures, *plan.comparisons]:
        files += step.take(run.report).files
    named = [str(run.outputs.named(Path(file))) for file in files]
    run.outputs.commit()
    return StudySummary(networks, run.seconds, named)


def planned(config: StudyConfig) -> Plan:
    """All steps of a study, checked as far as they can be before any is taken.

    Raises:
        ConfigError: the file is wrong, or two steps write one file.
    """
    content = _content(config)
    trainings = _trainings(config, content)
    measures = [step for section in _COMMANDS for step in _measures(config, content, section, trainings)]
    comparisons = _comparisons(config, content, measures)
    plan = Plan(trainings, measures, comparisons)
    places: dict[Path, str] = {}
    for step in plan.steps:
        out = step.config.out
        if out in places:
            raise ConfigError(f"{step.place}: {out} is what {places[out]} writes too; give each a 'name' of its own.")
        places[out] = step.place
    return plan


def _content(config: StudyConfig) -> dict[str, Any]:
    """What the file says, under its own values for a quick run where that is asked for.

    Raises:
        ConfigError: a key is unknown, or there is no quick run.
    """
    content = read_problem_file(config.study)
    quick = content.pop(_QUICK, None)
    known = (*_SECTIONS, *_PROBLEM, "train")
    _require_known(content, (*known, _QUICK), str(config.study))
    if not config.quick:
        return content
    if quick is None:
        raise ConfigError(f"{config.study}: there are no values for a quick run; give some under {_QUICK!r}.")
    _require_known(_mapping(quick, f"{config.study}: {_QUICK}"), known, f"{config.study}: {_QUICK}")
    merged: dict[str, Any] = _overlaid(content, quick)
    return merged


def _overlaid(content: Any, over: Any) -> Any:
    """Values under others, as RFC 7396 merges them: of mappings key by key, null removes, and all else replaces."""
    if not isinstance(over, Mapping):
        return over
    merged = dict(content) if isinstance(content, Mapping) else {}
    for key, value in over.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _overlaid(merged.get(key), value)
    return merged


def _trainings(config: StudyConfig, content: Mapping[str, Any]) -> dict[str, Step]:
    """How each network is trained, by its name."""
    networks = _mapping(content.get("networks"), f"{config.study}: networks")
    if not networks:
        raise ConfigError(f"{config.study}: there are no networks; name some, each with a model.")
    shared = {key: content[key] for key in _PROBLEM if key in content}
    steps = {}
    for name, keys in networks.items():
        place = f"{config.study}: network {str(name)!r}"
        own = _mapping(keys or {}, place)
        _require_known(own, _NETWORK, place)
        recipe = _mapping(content.get("train", {}), f"{config.study}: train") | _mapping(own.get("train", {}), place)
        _require_known(recipe, tuple(flags(RecipeOptions)), f"{place}: train")
        snapshots = {"snapshots": str(_snapshots(config, name))} if "trajectory" in content else {}
        problem = {**shared, **{key: value for key, value in own.items() if key in _PROBLEM}}
        options = {**problem, **recipe, **snapshots, "seed": own.get("seed", 0)}
        training = _built(TrainConfig, config, options, _file(config, "networks", name, ".safetensors"), place)
        with _blaming(place):
            require_problem(training.problem)
            named_recipe(TRAINING_RECIPES, training.recipe, training.problem, "train")
        steps[str(name)] = Step(place, str(name), train, training)
    return steps


def _measures(
    config: StudyConfig, content: Mapping[str, Any], section: str, trainings: Mapping[str, Step]
) -> list[Step]:
    """The steps of one section: one for each network, unless it names those it is about."""
    command, kind, subject = _COMMANDS[section]
    parts = content.get(section, [])
    steps = []
    for part in parts if isinstance(parts, list) else [parts]:
        place = f"{config.study}: {section}"
        asked = _mapping(part or {}, place)
        _require_known(asked, [*(word for word in flags(kind) if word not in _OWN), "name"], place)
        asked |= {"trainable": content["trainable"]} if "trainable" in content else {}
        if section == "trajectory":
            asked.setdefault(subject, list(trainings))
        for network in [asked[subject]] if subject in asked else list(trainings):
            resolved = {key: _resolved(config, key, value, trainings, place) for key, value in asked.items()}
            resolved[subject] = _resolved(config, subject, network, trainings, place)
            about = [*network[:1]] if isinstance(network, list) else [network]
            about += [asked[key] for key in ("a", "b") if key in asked]
            resolved = {**resolved, **_problem([trainings[str(name)] for name in about], asked, place)}
            name = str(resolved.pop("name", None) or ("all" if isinstance(network, list) else network))
            step: Any = _built(kind, config, resolved, _file(config, section, name, ".h5"), place)
            steps.append(Step(place, name, command, step))
    return steps


def _problem(trainings: Sequence[Step], asked: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The problem of the networks that a step is about, in the words of the study and not of the networks' files.

    Args:
        trainings: how they are trained.
        asked: what the section says, which comes first.
        place: the section, for errors.

    Raises:
        ConfigError: the networks have different problems, and the section does not say which one counts.
    """
    if not trainings:
        return {}
    first, *others = trainings
    problem = {key: getattr(first.config.problem, key) for key in _PROBLEM if key != "trainable"}
    for other in others:
        its = values(other.config.problem)
        differing = [key for key, value in problem.items() if its[key] != value and key not in asked]
        if differing:
            raise ConfigError(
                f"{place}: {first.name} and {other.name} differ in {differing[0]}; say which one counts, by "
                f"{differing[0]!r} in this section."
            )
    return overridden(problem, {key: asked[key] for key in problem if key in asked})


def _comparisons(config: StudyConfig, content: Mapping[str, Any], measures: Sequence[Step]) -> list[Step]:
    """One figure for all surfaces, and one for all lines, where there are several."""
    if "compare" not in content:
        return []
    place = f"{config.study}: compare"
    asked = _mapping(content["compare"] or {}, place)
    _require_known(asked, [word for word in flags(CompareConfig) if word not in (*_OWN, "results")], place)
    steps = []
    for command, name in ((surface, "surfaces"), (line, "lines")):
        compared = [step for step in measures if step.command is command]
        if len(compared) > 1:
            own = {"labels": [step.name for step in compared], **asked}
            own["results"] = [str(step.config.out) for step in compared]
            out = config.out / f"{config.study.stem}_{name}.png"
            replacing = {"overwrite": config.output.overwrite or config.output.resume}
            steps.append(
                Step(place, name, compare, _parsed(CompareConfig, {**own, **replacing, "out": str(out)}, place))
            )
    if not steps:
        raise ConfigError(f"{place}: there are no two surfaces or lines to compare.")
    return steps


def _resolved(config: StudyConfig, key: str, value: Any, trainings: Mapping[str, Step], place: str) -> Any:
    """The file, or the files, of the networks that a value names; other values as they are."""
    if key not in _REFERENCES:
        return value
    if key in _SEVERAL:
        several = value if isinstance(value, list) else [value]
        return [_resolved_one(config, key, one, trainings, place) for one in several]
    return _resolved_one(config, key, value, trainings, place)


def _resolved_one(config: StudyConfig, key: str, value: Any, trainings: Mapping[str, Step], place: str) -> str:
    if str(value) not in trainings:
        raise ConfigError(f"{place}: {key} names {value!r}, which is none of the networks {', '.join(trainings)}.")
    return str(_snapshots(config, value) if key == "snapshots" else trainings[str(value)].config.out)


def _snapshots(config: StudyConfig, network: str) -> Path:
    return _file(config, "snapshots", network, "")


def _file(config: StudyConfig, folder: str, name: Any, suffix: str) -> Path:
    return config.out / folder / (re.sub(r"[^\w.=+-]+", "-", str(name)) + suffix)


def _built(kind: type[_Config], config: StudyConfig, asked: Mapping[str, Any], out: Path, place: str) -> _Config:
    """A step's configuration: what the study was told of devices, data and old files, under its own values."""
    shared = {word: value for word, value in values(config).items() if word in flags(kind)}
    return _parsed(kind, {**shared, **asked, "out": out}, place)


def _parsed(kind: type[_Config], words: Mapping[str, Any], place: str) -> _Config:
    """A configuration from plain values, whose types it checks."""
    with _blaming(place):
        return kind(**{word: value for word, value in words.items() if value is not None})


@contextmanager
def _blaming(place: str) -> Iterator[None]:
    """Have an error say where in the study it comes from."""
    try:
        yield
    except Interrupted:
        raise
    except LandscapeError as error:
        raise type(error)(f"{place}: {error}") from error


def _mapping(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{place} is {value!r}, expected a mapping.")
    return dict(value)


def _require_known(values: Mapping[str, Any], keys: Sequence[str], place: str) -> None:
    unknown = [key for key in values if key not in keys]
    if unknown:
        raise ConfigError(f"{place}: unknown key {unknown[0]!r}; known are {', '.join(keys)}.")
