"""From options and checkpoints to what the algorithms need: a problem, the space of its network, and provenance."""

import gc
import logging
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from landscape.app.checkpoints import naming_advice
from landscape.app.config import CheckpointOptions, ComputeOptions, ProblemOptions
from landscape.app.devices import choose_device
from landscape.app.problems import specify
from landscape.errors import ConfigError, LandscapeError, LayoutError
from landscape.problems.code import code_fingerprints, file_fingerprints
from landscape.problems.libraries.folders import files_read, reads_weights
from landscape.problems.names import named_code
from landscape.problems.registry import FACTORIES, REGISTRIES, Problem, build_problem, is_built_in
from landscape.problems.splits import require_examples
from landscape.risk.batchnorm import Frozen, Interpolated, Recomputed, StatisticsPolicy
from landscape.risk.empirical import EmpiricalRisk
from landscape.risk.ranks import Ranks
from landscape.risk.selection import Selection
from landscape.space.parameters import ParameterSpace
from landscape.space.stored import StoredPoint
from landscape.storage.checkpoints import Checkpoint

_log = logging.getLogger(__name__)
_FEW_NUMBERS, _FEW_TENSORS, _MANY_TIMES = 10**7, 10**4, 100  # how far a network may exceed the file that describes it


@dataclass(frozen=True)
class Setting:
    """A problem whose data are on the device and whose network is that of the space of its parameters."""

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

    def note_names(self, checkpoint: Checkpoint) -> None:
        """Say what is done with a checkpoint's names so that they are the network's; raises as `load`."""
        with self._naming(checkpoint):
            match = self.space.layout.match(checkpoint.state)
        if match.notes and not match.differences:
            _log.warning("note: %s: %s.", checkpoint.path, "; ".join(match.notes))

    @contextmanager
    def _naming(self, checkpoint: Checkpoint) -> Iterator[None]:
        """Have errors about tensors name their file."""
        try:
            yield
        except LandscapeError as error:
            raise type(error)(f"{checkpoint.path}: {error}{naming_advice(checkpoint, error)}") from error

    def load(self, checkpoint: Checkpoint) -> torch.Tensor:
        """Take everything from a checkpoint into the space, and return its θ `[P]`.

        Raises:
            LayoutError, NonFiniteError: it does not fit the network; the file is named.
        """
        with self._naming(checkpoint):
            return self.space.load(checkpoint.state)

    def load_all(self, checkpoints: Sequence[Checkpoint]) -> "Networks":
        """Take several checkpoints of one network; the space keeps everything else from the first.

        Raises:
            LayoutError: one does not fit the network; or parameters that are not trainable differ, or buffers that do
                not hold floating numbers.
            NonFiniteError: one holds NaN or infinity.
        """
        first = checkpoints[0]
        self.load(first)
        fixed = self.space.fixed(first.state)
        statistics = self.space.statistics.new_empty(len(checkpoints), len(self.space.statistics))
        for index, checkpoint in reversed(list(enumerate(checkpoints))):
            self.note_names(checkpoint)
            self.load(checkpoint)
            statistics[index] = self.space.statistics
            for name, tensor in self.space.fixed(checkpoint.state).items():
                if name in fixed and not torch.equal(tensor, fixed[name]):
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
        thetas = [StoredPoint(self.space, checkpoint.state) for checkpoint in checkpoints]
        return Networks(thetas, statistics, others)

    def traced(self, checkpoint: Checkpoint) -> tuple[Sequence[StoredPoint], torch.Tensor | None]:
        """The points of a checkpoint or of a path's k control points, without taking them into the space.

        Returns:
            The points; and the coefficients `[n, k]` of points along a path, None for a checkpoint.

        Raises:
            LayoutError, NonFiniteError: they do not fit the network; the file is named.
        """
        coefficients = checkpoint.metadata.get("coefficients") if checkpoint.metadata.get("kind") == "path" else None
        if coefficients is None:
            self.note_names(checkpoint)
        with self._naming(checkpoint):
            if coefficients is None:
                self.space.require_fit(checkpoint.state)
                return [self._stored(checkpoint.state)], None
            count = len(coefficients[0])
            if any(tensor.shape[:1] != (count,) for tensor in checkpoint.state.values()):
                raise LayoutError(f"its tensors do not hold {count} control points each, as its coefficients say.")
            states = [{name: tensor[i] for name, tensor in checkpoint.state.items()} for i in range(count)]
            return [self._stored(state) for state in states], torch.tensor(coefficients, dtype=torch.float64)

    def _stored(self, state: Mapping[str, torch.Tensor]) -> StoredPoint:
        self.space.require_trainable(state)
        return StoredPoint(self.space, state)

    def policy(self, options: CheckpointOptions, networks: "Networks") -> StatisticsPolicy:
        """The batch-norm policy that options name, or the one that suits the number of networks.

        Raises:
            ConfigError: statistics of a single network are to be interpolated.
            LayoutError: other buffers than running statistics differ, and the policy does not move them.
        """
        several = len(networks.thetas) > 1
        name = options.batch_norm or ("recomputed" if several else "frozen")
        if networks.others and name != "interpolated":
            listed = ", ".join(networks.others)
            raise LayoutError(
                f"the checkpoints differ in buffers that batch norm {name} does not move: {listed}; so each would be "
                "measured with the first one's. --batch-norm interpolated moves them, and statistics, linearly."
            )
        if name == "frozen":
            return Frozen(networks.statistics[0])
        if name == "interpolated":
            if not several:
                raise ConfigError("--batch-norm interpolated needs several checkpoints to move statistics between.")
            return Interpolated(networks.thetas, networks.statistics, networks.others)
        return Recomputed(self.problem.data.splits["train"], self.problem.loss, options.statistics_batch_size)

    def risk(
        self,
        compute: ComputeOptions,
        statistics: StatisticsPolicy | None = None,
        splits: Sequence[str] | None = None,
        batch_size: int | None = None,
        ranks: Ranks | None = None,
    ) -> EmpiricalRisk:
        """The loss as options ask for it.

        Args:
            compute: batch size and precision.
            statistics: the batch-norm policy; by default the network's own statistics.
            splits: what to measure; by default all.
            batch_size: examples a batch, where options name none; by default the fastest of a few.
            ranks: the processes that share each batch of a fit.
        """
        return EmpiricalRisk(
            self.space,
            self.problem,
            statistics=statistics,
            splits=splits,
            batch_size=batch_size if compute.eval_batch_size is None else compute.eval_batch_size,
            precision=compute.precision,
            ranks=ranks,
        )

    def splits(self, text: str) -> list[str] | None:
        """The splits that `--split` names; None for all."""
        return None if text == "all" else [name.strip() for name in text.split(",")]

    def require_curvature(self, parameters: str, samples: int | None, split: str, parts: int = 1) -> None:
        """Check that a Hessian can be taken, before the network runs.

        Args:
            parameters: of which, as `ParameterSpace.select` has it.
            samples: over so many examples; None for all.
            split: as `--split` names the splits, of which the first counts.
            parts: how many disjoint samples.

        Raises:
            ProblemError: there are no such parameters.
            ConfigError: there is no such split, or it has too few examples.
        """
        self.space.select(parameters)
        every = Selection(self.problem.data.splits, ())
        first = every.on(self.splits(split) or every.all_splits).first
        if samples is not None:
            require_examples(first, samples, parts - 1)

    def carried(self) -> dict[str, Any]:
        """The problem as a file carries it along; a wish to download data is not passed on."""
        carried = self.problem.specification.to_mapping() if self.problem.specification else {}
        carried.get("data_args", {}).pop("download", None)
        return carried

    def provenance(self, checkpoints: Mapping[str, Checkpoint], **settings: Any) -> dict[str, Any]:
        """What a result follows from: settings, fingerprints of checkpoints and data, names, versions, device."""
        named = self.carried()
        arguments = named.pop("data_args", {})
        users = [
            named[kind] for kind, known in REGISTRIES.items() if named.get(kind) and not is_built_in(named[kind], known)
        ]
        code = code_fingerprints([*users, *named_code(arguments).values()])
        if named:
            code |= file_fingerprints(files_read(named["model"], named["model_args"]))
        return {
            **settings,
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
class Networks:
    """The networks of checkpoints, as places of the space.

    Attributes:
        thetas: their n points, each read when it is asked for.
        statistics: their running statistics `[n, S]`.
        others: further buffers in which they differ, `[n, *shape]` by name.
    """

    thetas: Sequence[StoredPoint]
    statistics: torch.Tensor
    others: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def points(self) -> torch.Tensor:
        """All points `[n, P]`, in memory."""
        first = self.thetas[0][:]
        points = first.new_empty(len(self.thetas), len(first))
        points[0] = first
        del first
        for point, theta in zip(points[1:], self.thetas[1:], strict=True):
            point[:] = theta[:]
        return points


def open_setting(
    problem_options: ProblemOptions,
    compute: ComputeOptions,
    checkpoints: Sequence[Checkpoint] = (),
    seed: int = 0,
    trust_code: bool = False,
) -> Setting:
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
    named = problem_options.problem is not None or problem_options.model_args is not None
    described = not named and is_built_in(specification.model, FACTORIES)
    described = described and not reads_weights(specification.model, specification.model_args)
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
    problem = replace(problem, model=space.network)  # nobody needs the one that it is a copy of
    if space.originals():  # a cycle holds it
        gc.collect()
    setting = Setting(problem, space)
    setting.note_other_data(checkpoints)
    return setting


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
