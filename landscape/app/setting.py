"""From options and checkpoints to what the algorithms need: a problem, a parameter space and provenance."""

import contextlib
import logging
import os
import platform
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from landscape.app.config import CheckpointOptions, ComputeOptions, ProblemOptions
from landscape.app.yamlfiles import read_yaml_mapping
from landscape.errors import CheckpointError, ConfigError, LandscapeError, LayoutError
from landscape.problems.code import code_fingerprints
from landscape.problems.models import MODELS
from landscape.problems.registry import DATASETS, LOSSES, Problem, build_problem, resolve
from landscape.problems.specification import NAMES, ProblemSpecification, overridden
from landscape.risk.batchnorm import Frozen, Interpolated, Recomputed, StatisticsPolicy
from landscape.risk.objective import EmpiricalRisk
from landscape.risk.ranks import Ranks
from landscape.space.parameters import ParameterSpace
from landscape.storage.checkpoints import Checkpoint, load_checkpoint
from landscape.storage.store import begun_batch_size, shortened

_log = logging.getLogger(__name__)
RECIPE_SECTIONS = ("train", "fit")
_KINDS = {"path": "path", "simplex": "simplex", "eigenvectors": "file of eigenvectors"}
_REGISTRIES: Mapping[str, Mapping[str, Any]] = {"model": MODELS, "data": DATASETS, "loss": LOSSES}
_FEW_NUMBERS, _FEW_TENSORS, _MANY_TIMES = 10**7, 10**4, 100  # how far a network may exceed the file that describes it


@dataclass(frozen=True)
class Study:
    """A problem whose data are on the device, and the space of its network's parameters."""

    problem: Problem
    space: ParameterSpace

    @cached_property
    def data_fingerprints(self) -> dict[str, str]:
        """A digest of each split's examples."""
        return self.problem.data.fingerprints()

    def note_other_data(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Say so, once, where the examples are not those that checkpoints were trained on."""
        for checkpoint in checkpoints:
            before = checkpoint.metadata.get("provenance", {}).get("data", {})
            other = [name for name, digest in before.items() if self.data_fingerprints.get(name, digest) != digest]
            if other:
                _log.warning(
                    "note: the %s examples are not those that %s was trained on; what a factory draws at random must "
                    "follow from a seed of its own.",
                    " and ".join(other),
                    checkpoint.path,
                )
                return

    def load(self, checkpoint: Checkpoint) -> torch.Tensor:
        """Take everything from a checkpoint into the space, and return its θ `[P]`.

        Raises:
            LayoutError, NonFiniteError: it does not fit the network; the file is named.
        """
        try:
            return self.space.load(checkpoint.state)
        except LandscapeError as error:
            raise type(error)(f"{checkpoint.path}: {error}{_naming_advice(checkpoint, error)}") from error

    def load_all(self, checkpoints: Sequence[Checkpoint]) -> "Points":
        """Take several checkpoints of one network; the space keeps everything else from the first.

        Raises:
            LayoutError: one does not fit the network; or parameters that are not trainable differ, or buffers that do
                not hold floating numbers.
            NonFiniteError: one holds NaN or infinity.
        """
        first = checkpoints[0]
        thetas = torch.empty(len(checkpoints), self.space.dimension, device=self.space.device, dtype=self.space.dtype)
        statistics = torch.empty(len(checkpoints), len(self.space.statistics)).to(thetas)
        self.load(first)
        fixed = self.space.fixed(first.state)
        for index, checkpoint in reversed(list(enumerate(checkpoints))):
            thetas[index] = self.load(checkpoint)
            statistics[index] = self.space.statistics
            for name, tensor in self.space.fixed(checkpoint.state).items():
                if not torch.equal(tensor, fixed[name]):
                    raise LayoutError(
                        f"{name} is not trainable, so nothing here moves it, but it differs in {first.path} and "
                        f"{checkpoint.path}."
                    )
        others = self.space.differing_buffers([checkpoint.state for checkpoint in checkpoints])
        for name, values in others.items():
            if not values.is_floating_point():
                raise LayoutError(
                    f"{name} is a buffer of whole numbers or of truth values, which nothing here moves, but it differs "
                    f"among {', '.join(str(checkpoint.path) for checkpoint in checkpoints)}."
                )
        return Points(thetas, statistics, others)

    def traced(self, checkpoint: Checkpoint) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The points `[k, P]` of a checkpoint or of a path's control points, without taking them into the space.

        Returns:
            The points; and the coefficients `[n, k]` of points along a path, None for a checkpoint.

        Raises:
            LayoutError, NonFiniteError: they do not fit the network; the file is named.
        """
        coefficients = checkpoint.metadata.get("coefficients") if checkpoint.metadata.get("kind") == "path" else None
        try:
            if coefficients is None:
                self.space.require_fit(checkpoint.state)
                return self.space.flatten(checkpoint.state)[None], None
            count = len(coefficients[0])
            if any(tensor.shape[:1] != (count,) for tensor in checkpoint.state.values()):
                raise LayoutError(f"its tensors do not hold {count} control points each, as its coefficients say.")
            states = [{name: tensor[i] for name, tensor in checkpoint.state.items()} for i in range(count)]
            points = torch.stack([self.space.flatten(state) for state in states])
            return points, torch.tensor(coefficients, dtype=torch.float64)
        except LandscapeError as error:
            raise type(error)(f"{checkpoint.path}: {error}{_naming_advice(checkpoint, error)}") from error

    def policy(self, options: CheckpointOptions, points: "Points") -> StatisticsPolicy:
        """The batch-norm policy that options name, or the one that suits the number of points.

        Raises:
            ConfigError: statistics of a single point are to be interpolated.
            LayoutError: other buffers than running statistics differ, and the policy does not move them.
        """
        several = len(points.thetas) > 1
        name = options.batch_norm or ("recomputed" if several else "frozen")
        if points.others and name != "interpolated":
            listed = ", ".join(points.others)
            raise LayoutError(
                f"the checkpoints differ in buffers that batch norm {name} does not move: {listed}; so each would be "
                "measured with the first one's. --batch-norm interpolated moves them, and statistics, linearly."
            )
        if name == "frozen":
            return Frozen(points.statistics[0])
        if name == "interpolated":
            if not several:
                raise ConfigError("--batch-norm interpolated needs several checkpoints to move statistics between.")
            return Interpolated(points.thetas, points.statistics, points.others)
        return Recomputed(self.problem.data.splits["train"], self.problem.loss, options.statistics_batch_size)

    def risk(
        self,
        compute: ComputeOptions,
        statistics: StatisticsPolicy,
        splits: Sequence[str] | None = None,
        begun: Path | int | None = None,
        ranks: Ranks | None = None,
    ) -> EmpiricalRisk:
        """The loss as options ask for it.

        Args:
            compute: batch size and precision.
            statistics: the batch-norm policy.
            splits: what to measure; by default all.
            begun: a result that is to be resumed, whose batch size is kept if it is there; or the size itself.
            ranks: the processes that share each batch of a fit.
        """
        known = begun_batch_size(begun) if isinstance(begun, Path) else begun
        return EmpiricalRisk(
            self.space,
            self.problem,
            statistics=statistics,
            splits=splits,
            batch_size=compute.eval_batch_size if compute.eval_batch_size is not None else known,
            precision=compute.precision,
            ranks=ranks,
        )

    def splits(self, text: str) -> list[str] | None:
        """The splits that `--split` names; None for all."""
        return None if text == "all" else [name.strip() for name in text.split(",")]

    def carried(self) -> dict[str, Any]:
        """The problem as a file carries it along; a wish to download data is not passed on."""
        carried = self.problem.specification.to_mapping() if self.problem.specification else {}
        carried.get("data_args", {}).pop("download", None)
        return carried

    def of_network(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Settings, with None for the batch-norm policy of a network that has no batch norm."""
        absent = {} if self.space.norms or "batch_norm" not in settings else {"batch_norm": None}
        return {**settings, **absent}

    def provenance(self, checkpoints: Mapping[str, Checkpoint], **settings: Any) -> dict[str, Any]:
        """What a result follows from: settings, fingerprints of checkpoints and data, names, versions, device."""
        named = self.carried()
        named.pop("data_args", None)
        code = code_fingerprints(str(named[key]) for key in ("model", "data", "loss") if named.get(key))
        return {
            **self.of_network(settings),
            **({"dtype": "float64"} if self.space.dtype == torch.float64 else {}),
            "problem": named,
            **({"code": code} if code else {}),
            "checkpoints": {name: c.fingerprint for name, c in checkpoints.items()},
            "data": self.data_fingerprints,
            "versions": {"mode-connectivity": version("mode-connectivity"), "torch": torch.__version__},
            "python": platform.python_version(),
            "device": self.space.device.type,
        }


@dataclass(frozen=True)
class Points:
    """Checkpoints as points of the space.

    Attributes:
        thetas: `[n, P]`.
        statistics: their running statistics `[n, S]`.
        others: further buffers in which they differ, `[n, *shape]` by name.
    """

    thetas: torch.Tensor
    statistics: torch.Tensor
    others: Mapping[str, torch.Tensor] = field(default_factory=dict)


def _naming_advice(checkpoint: Checkpoint, error: LandscapeError) -> str:
    """What to try where the names of somebody else's checkpoint do not fit; empty otherwise."""
    if not isinstance(error, LayoutError) or checkpoint.metadata:
        return ""
    return "; --strip-prefix PREFIX takes a prefix off its names, --state-key KEY takes another part of the file."


def load_as(options: CheckpointOptions, path: Path) -> Checkpoint:
    """Read a checkpoint, or a path, as options say.

    Raises:
        CheckpointError: as `load_checkpoint`.
    """
    return load_checkpoint(
        path, trust_pickle=options.trust_pickle, state_key=options.state_key, strip_prefix=options.strip_prefix
    )


def load_network(options: CheckpointOptions, path: Path) -> Checkpoint:
    """Read the checkpoint of one network as options say.

    Raises:
        CheckpointError: as `load_checkpoint`; or the file holds a path, a simplex, eigenvectors or the state of a fit.
    """
    checkpoint = load_as(options, path)
    kind = checkpoint.metadata.get("kind", "state" if "step" in checkpoint.metadata else None)
    if kind is None:
        return checkpoint
    advice = f"; take one from it by connect export {path} --t 0.5 --out FILE.safetensors" if kind == "path" else ""
    raise CheckpointError(f"{path} holds a {_KINDS.get(kind, 'state of a fit')}, expected one network{advice}.")


def read_problem_file(path: Path) -> dict[str, Any]:
    """The content of a problem's YAML file: the problem's keys, and recipes under `train` and `fit`.

    Raises:
        ConfigError: there is no such file, or it is no YAML mapping.
    """
    return read_yaml_mapping(path, "the problem", "keys such as model, data and loss")


def recipe_section(options: ProblemOptions, name: str) -> dict[str, Any]:
    """The recipe under `train` or `fit` in the problem's file; empty without one."""
    section = read_problem_file(options.problem).get(name) if options.problem else None
    if section is not None and not isinstance(section, dict):
        raise ConfigError(f"{options.problem}: {name!r} is {section!r}, expected a mapping such as {{epochs: 40}}.")
    return section or {}


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
    if not values and (options.model is None or options.data is None):
        bearer = f"{checkpoints[0].path} carries no problem" if checkpoints else "no problem is named"
        raise ConfigError(f"{bearer}; give --problem FILE.yaml, or --model and --data (and --loss).")
    specification = ProblemSpecification.from_mapping(overridden(values, flags), source)
    placed: dict[str, Any] = {"root": str(options.data_root)} if options.data_root else {}
    placed |= {"download": True} if options.download else {}
    if options.problem is None and options.data_args is None and "root" in specification.data_args and not placed:
        root = shortened(str(specification.data_args["root"]))
        _log.warning("the data are read from %s, as %s says; --data-root names another folder.", root, source)
    return specification.updated(data_args={**specification.data_args, **placed})


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
        for name, registry in _REGISTRIES.items()
        if flags[name] is None and isinstance(values.get(name), str) and values[name] not in registry
    }
    if foreign and not trust_code:
        named = " and ".join(f"{name} = {shortened(repr(value))}" for name, value in foreign.items())
        raise ConfigError(
            f"{bearer.path} names {named}, not built in here, and nothing that a file names is run unasked;\n"
            f"give {_as_flags(foreign)}, or --problem FILE.yaml, or --trust-code if you trust its author."
        )
    return values


def _as_flags(names: Mapping[str, str]) -> str:
    """The flags that name what a file names, as a shell takes them; a file below this folder by its short name."""
    told = []
    for flag, value in names.items():
        place, colon, attribute = value.rpartition(":")
        with contextlib.suppress(ValueError):
            place = str(Path(place).relative_to(Path.cwd())) if place.endswith(".py") else place
        short = f"{place}{colon}{attribute}"
        quotable = short.isprintable() and shortened(short) == short
        told.append(f"--{flag} {shlex.quote(short)}" if quotable else f"--{flag}")
    return " ".join(told)


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
        ConfigError, ProblemError: a model, data or a loss cannot be found.
    """
    specification = specify(options)
    for kind, registry in _REGISTRIES.items():
        resolve(getattr(specification, kind), registry, kind)


def choose_device(name: str) -> torch.device:
    """The device that "auto", "cpu" or "cuda" stands for; of several GPUs, under `torchrun` the one of this process.

    Raises:
        ConfigError: "cuda" is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError("--device cuda: torch finds no CUDA device here; use --device cpu or auto.")
    if not available or name == "cpu":
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ["LOCAL_RANK"])) if "LOCAL_RANK" in os.environ else torch.device("cuda")


def open_study(
    problem_options: ProblemOptions,
    compute: ComputeOptions,
    checkpoints: Sequence[Checkpoint] = (),
    seed: int = 0,
    trust_code: bool = False,
) -> Study:
    """Build the problem and its parameter space.

    Args:
        problem_options: what is studied.
        compute: where.
        checkpoints: what may carry the problem along.
        seed: of the network's initial weights.
        trust_code: run code that a checkpoint names.

    Raises:
        ConfigError, ProblemError: nothing names the problem, a name is wrong, or a checkpoint names code.
        LayoutError: a checkpoint describes a network far larger than itself.
    """
    device = choose_device(compute.device)
    specification = specify(problem_options, checkpoints, trust_code)
    described = problem_options.problem is None and problem_options.model_args is None and specification.model in MODELS
    with _no_larger_than(checkpoints) if described and checkpoints else nullcontext():
        problem = build_problem(specification, seed)
    problem = problem.to(device)
    own = _types(problem.model.state_dict())
    carried = _types(checkpoints[0].state) if checkpoints else own
    double = compute.dtype == "float64" or (compute.dtype == "auto" and {torch.float64} in (own, carried))
    dtype = torch.float64 if double else torch.float32
    if double or own == {torch.float64}:
        problem = replace(problem, data=problem.data.of_type(dtype))
    space = ParameterSpace(problem.model, trainable=problem_options.trainable, device=device, dtype=dtype)
    study = Study(problem, space)
    study.note_other_data(checkpoints)
    return study


def _types(state: Mapping[str, Any]) -> set[torch.dtype]:
    """The types of the floating-point tensors among a network's."""
    return {t.dtype for t in state.values() if isinstance(t, torch.Tensor) and t.is_floating_point()}


@contextmanager
def _no_larger_than(checkpoints: Sequence[Checkpoint]) -> Iterator[None]:
    """Stop a network that is being built when it exceeds the files whose metadata describe it many times.

    A network is looked at parameter by parameter, before memory that is asked for is touched.

    Raises:
        LayoutError: it does.
    """
    held = [tensor.numel() for checkpoint in checkpoints for tensor in checkpoint.state.values()]
    tensors, numbers = _FEW_TENSORS + _MANY_TIMES * len(held), _FEW_NUMBERS + _MANY_TIMES * sum(held)

    def count(module: nn.Module, name: str, parameter: torch.Tensor) -> None:
        nonlocal tensors, numbers
        tensors, numbers = tensors - 1, numbers - parameter.numel()
        if min(tensors, numbers) < 0:
            raise LayoutError(f"{checkpoints[0].path} describes a network many times larger than what it holds.")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()
