"""From options and checkpoints to what the algorithms need: a problem, a parameter space and provenance."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml

from landscape.checkpoints import Checkpoint
from landscape.config import ComputeOptions, ProblemOptions
from landscape.errors import ConfigError, LandscapeError
from landscape.parameters import ParameterSpace
from landscape.problems.registry import Problem, build_problem
from landscape.problems.specification import ProblemSpecification, overridden
from landscape.yamlfiles import parse_yaml

RECIPE_SECTIONS = ("train", "fit")


@dataclass(frozen=True)
class Study:
    """A problem whose data are on the device, and the space of its network's parameters."""

    problem: Problem
    space: ParameterSpace

    def load(self, checkpoint: Checkpoint) -> torch.Tensor:
        """Take everything from a checkpoint into the space, and return its θ `[P]`.

        Raises:
            LayoutError, NonFiniteError: it does not fit the network; the file is named.
        """
        try:
            return self.space.load(checkpoint.state)
        except LandscapeError as error:
            raise type(error)(f"{checkpoint.path}: {error}") from error

    def carried(self) -> dict[str, Any]:
        """The problem as a file carries it along; a wish to download data is not passed on."""
        carried = self.problem.specification.to_mapping() if self.problem.specification else {}
        carried.get("data_args", {}).pop("download", None)
        return carried

    def provenance(self, checkpoints: Mapping[str, Checkpoint], **settings: Any) -> dict[str, Any]:
        """What a result follows from: settings, fingerprints of checkpoints and data, names, versions, device."""
        named = self.carried()
        named.pop("data_args", None)
        return {
            **settings,
            "problem": named,
            "checkpoints": {name: c.fingerprint for name, c in checkpoints.items()},
            "data": self.problem.data.fingerprints(),
            "versions": {"mode-connectivity": version("mode-connectivity"), "torch": torch.__version__},
            "python": platform.python_version(),
            "device": self.space.device.type,
        }


def read_problem_file(path: Path) -> dict[str, Any]:
    """The content of a problem's YAML file: the problem's keys, and recipes under `train` and `fit`.

    Raises:
        ConfigError: there is no such file, or it is no YAML mapping.
    """
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the problem {path}: {getattr(error, 'strerror', None) or error}.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds {type(content).__name__}, expected keys such as model, data and loss.")
    return content


def recipe_section(options: ProblemOptions, name: str) -> dict[str, Any]:
    """The recipe under `train` or `fit` in the problem's file; empty without one."""
    section = read_problem_file(options.problem).get(name) if options.problem else None
    if section is not None and not isinstance(section, dict):
        raise ConfigError(f"{options.problem}: {name!r} is {section!r}, expected a mapping such as {{epochs: 40}}.")
    return section or {}


def specify(options: ProblemOptions, checkpoints: Sequence[Checkpoint] = ()) -> ProblemSpecification:
    """The problem that options name: flags over the problem's file over what the first checkpoint carries.

    Raises:
        ConfigError: nothing names a model and data, or a value is wrong.
    """
    values: dict[str, Any] = {}
    source = "the problem"
    carried = next((c for c in checkpoints if c.metadata.get("problem")), None)
    if options.problem is not None:
        source = str(options.problem)
        values = {k: v for k, v in read_problem_file(options.problem).items() if k not in RECIPE_SECTIONS}
    elif carried is not None:
        source = str(carried.path)
        values = dict(carried.metadata["problem"])
    if not values and (options.model is None or options.data is None):
        bearer = f"{checkpoints[0].path} carries no problem" if checkpoints else "no problem is named"
        raise ConfigError(f"{bearer}; give --problem FILE.yaml, or --model and --data (and --loss).")
    names = ("model", "model_args", "data", "data_args", "loss")
    given = overridden(values, {name: getattr(options, name) for name in names})
    specification = ProblemSpecification.from_mapping(given, source)
    placed: dict[str, Any] = {"root": str(options.data_root)} if options.data_root else {}
    placed |= {"download": True} if options.download else {}
    return specification.updated(data_args={**specification.data_args, **placed})


def choose_device(name: str) -> torch.device:
    """The device that "auto", "cpu" or "cuda" stands for.

    Raises:
        ConfigError: "cuda" is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError("--device cuda: torch finds no CUDA device here; use --device cpu or auto.")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def open_study(
    problem_options: ProblemOptions,
    compute: ComputeOptions,
    checkpoints: Sequence[Checkpoint] = (),
    seed: int = 0,
) -> Study:
    """Build the problem and its parameter space.

    Args:
        problem_options: what is studied.
        compute: where.
        checkpoints: what may carry the problem along.
        seed: of the network's initial weights.
    """
    device = choose_device(compute.device)
    problem = build_problem(specify(problem_options, checkpoints), seed).to(device)
    return Study(problem, ParameterSpace(problem.model, trainable=problem_options.trainable, device=device))
