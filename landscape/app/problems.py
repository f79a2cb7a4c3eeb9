"""The problem that options name: by flags, by its own file, or by a checkpoint that carries it along."""

import contextlib
import json
import logging
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from landscape.app.config import ProblemOptions
from landscape.app.yamlfiles import read_yaml_mapping
from landscape.errors import ConfigError
from landscape.problems.libraries.folders import FAMILY, describes_network
from landscape.problems.names import named_code, names_file
from landscape.problems.registry import REGISTRIES, is_built_in, resolve
from landscape.problems.specification import NAMES, ProblemSpecification, overridden
from landscape.storage.checkpoints import Checkpoint
from landscape.storage.store import shortened

_log = logging.getLogger(__name__)
RECIPE_SECTIONS = ("train", "fit")


def read_problem_file(path: Path) -> dict[str, Any]:
    """The content of a problem's YAML file: the problem's keys, and recipes under `train` and `fit`.

    Raises:
        ConfigError: there is no such file, or it is not a YAML mapping.
    """
    return read_yaml_mapping(path, "the problem", "keys such as model, data and loss")


def specify(
    options: ProblemOptions, checkpoints: Sequence[Checkpoint] = (), trust_code: bool = False
) -> ProblemSpecification:
    """The problem that options name: flags over the problem's file over what the first checkpoint carries.

    What a checkpoint carries may name only what is built in, unless its code is trusted: reading a file runs nothing
    that its author chose. It may say in which folder the data lie, which is then told, but not that they be downloaded.

    Raises:
        ConfigError: nothing names a model and data, a value is wrong, or a checkpoint names code.
    """
    values: dict[str, Any] = {}
    source = "the problem"
    bearers = [checkpoint for checkpoint in checkpoints if checkpoint.metadata.get("problem")]
    flags = {name: getattr(options, name) for name in (*NAMES, "model_args", "data_args")}
    if options.problem is not None:
        source = str(options.problem)
        values = {k: v for k, v in read_problem_file(options.problem).items() if k not in RECIPE_SECTIONS}
    elif bearers:
        source = str(bearers[0].path)
        values = _carried(bearers[0], flags, trust_code)
        _require_one_problem(options, bearers)
    if "model" not in values and options.model is None:
        flags["model"] = _described_by_folder(checkpoints)
    if not values and None in (flags["model"], flags["data"]):
        bearer = f"{checkpoints[0].path} carries no problem" if checkpoints else "no problem is named"
        raise ConfigError(f"{bearer}; give --problem FILE.yaml, or --model and --data (and --loss).")
    specification = ProblemSpecification.from_mapping(overridden(values, flags), source)
    if options.problem is None and flags["model"] is None and (folder := names_file(specification.model)):
        _log.warning("the model is built from %s, as %s says; --model names another.", shortened(folder), source)
    placed: dict[str, Any] = {"root": str(options.data_root)} if options.data_root else {}
    placed |= {"download": True} if options.download else {}
    if options.problem is None and options.data_args is None and "root" in specification.data_args and not placed:
        root = shortened(str(specification.data_args["root"]))
        _log.warning("the data are read from %s, as %s says; --data-root names another folder.", root, source)
    if options.problem is None and options.data is None and (file := names_file(specification.data)):
        _log.warning("the data are read from %s, as %s says; --data names others.", shortened(file), source)
    return specification.updated(data_args={**specification.data_args, **placed})


def _described_by_folder(checkpoints: Sequence[Checkpoint]) -> str | None:
    """The model that the first checkpoint describes, where it is a folder that `save_pretrained` wrote."""
    if not checkpoints or not describes_network(checkpoints[0].path):
        return None
    _log.warning("the model is the one that %s describes; --model names another.", checkpoints[0].path)
    return f"{FAMILY}{checkpoints[0].path}"


def _carried(bearer: Checkpoint, flags: Mapping[str, Any], trust_code: bool) -> dict[str, Any]:
    """The problem that a checkpoint carries, which names nothing to be run but what flags name as well.

    Raises:
        ConfigError: it does; the message gives the flags that would name it.
    """
    values = {name: value for name, value in bearer.metadata["problem"].items() if value is not None}
    arguments = values.get("data_args")
    if isinstance(arguments, dict):
        values["data_args"] = {name: value for name, value in arguments.items() if name != "download"}
    foreign = {
        name: values[name]
        for name, registry in REGISTRIES.items()
        if flags[name] is None and isinstance(values.get(name), str) and not is_built_in(values[name], registry)
    }
    remaining = overridden(values, flags).get("data_args")
    if flags["data_args"] is None and isinstance(remaining, dict) and named_code(remaining):
        foreign["data-args"] = json.dumps(remaining)
    if foreign and not trust_code:
        named = " and ".join(f"{name} = {shortened(repr(value))}" for name, value in foreign.items())
        raise ConfigError(
            f"{bearer.path} names {named}, not built in here, and nothing that a file names is run unasked;\n"
            f"give {_as_flags(foreign)}, or --problem FILE.yaml, or --trust-code if you trust its author."
        )
    return values


def _as_flags(names: Mapping[str, str]) -> str:
    """The flags that name what a file names, as a shell takes them; a file below this folder by its short name."""
    words = []
    for flag, value in names.items():
        place, colon, attribute = value.rpartition(":")
        with contextlib.suppress(ValueError):
            place = str(Path(place).relative_to(Path.cwd())) if place.endswith(".py") else place
        short = f"{place}{colon}{attribute}"
        quotable = short.isprintable() and shortened(short) == short
        words.append(f"--{flag} {shlex.quote(short)}" if quotable else f"--{flag}")
    return " ".join(words)


def _require_one_problem(options: ProblemOptions, bearers: Sequence[Checkpoint]) -> None:
    """Check that checkpoints carry one and the same problem, but for what flags name; where data lie may differ."""
    first, *others = bearers
    for other in others:
        for name in (*NAMES, "model_args", "data_args"):
            mine, its = (_placeless(bearer.metadata["problem"].get(name)) or None for bearer in (first, other))
            if mine != its and getattr(options, name) is None:
                raise ConfigError(
                    f"{first.path} carries {name} = {shortened(repr(mine))}, {other.path} carries "
                    f"{shortened(repr(its))}; say which one counts, by --problem FILE.yaml or "
                    f"--{name.replace('_', '-')}."
                )


def _placeless(value: Any) -> Any:
    """A value of a problem without the folder of its data."""
    return {n: v for n, v in value.items() if n != "root"} if isinstance(value, dict) else value


def require_problem(options: ProblemOptions) -> None:
    """Check that what options name is there, without building it.

    Raises:
        ConfigError, ProblemError: a model, data, a loss or outputs cannot be found.
    """
    specification = specify(options)
    for kind, registry in REGISTRIES.items():
        name = getattr(specification, kind)
        if name is not None:
            resolve(name, registry, kind)
