"""The loss of a network on data, as a surface over its parameters."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from landscape.errors import ConfigError
from landscape.problems.losses import scores_and_labels
from landscape.problems.registry import Problem
from landscape.problems.splits import Index, OrderedSplit, runs, shuffled
from landscape.risk.batch_size import fastest_batch_size
from landscape.risk.batchnorm import Frozen, StatisticsPolicy
from landscape.risk.evaluation import Evaluation
from landscape.risk.findings import Findings
from landscape.risk.gradients import BatchGradients
from landscape.risk.network import NetworkPoint
from landscape.risk.precision import Precision, full_precision
from landscape.risk.ranks import Ranks
from landscape.risk.selection import Selection
from landscape.space.parameters import ParameterSpace


class SelectedRisk:
    """An empirical risk, as far as a selection of the data goes; see `select`.

    Attributes:
        space: the parameter space that the risk is a function on.
        splits: that are measured; heights and derivatives are those of the first.
        all_splits: of the data, "train" first.
        ranks: the processes that share each batch of a fit.
        depends_on_batch_size: whether values depend on how many examples are run at once, as by batch norm without
            running statistics.
    """

    def __init__(self, evaluation: Evaluation, training: BatchGradients, selection: Selection) -> None:
        self._evaluation, self._training, self._selection = evaluation, training, selection
        self.space = evaluation.space
        self.dimension, self.device, self.dtype = self.space.dimension, self.space.device, self.space.dtype
        self.splits, self.all_splits = selection.splits, selection.all_splits
        self.ranks = training.ranks
        self.depends_on_batch_size = evaluation.findings.depends_on_batch

    @property
    def batch_size(self) -> int:
        """The number of examples that are evaluated at once."""
        return self._evaluation.batch_size

    def evaluation(self) -> dict[str, Any]:
        """How losses are evaluated, as far as values follow from it, for the provenance of a result."""
        depends = {"depends_on_batch_size": True} if self.depends_on_batch_size else {}
        return {"eval_batch_size": self.batch_size, **depends}

    def size(self, split: str) -> int:
        """The number of examples of a split; raises ConfigError where the data do not have it."""
        return len(self._selection.split(split))

    def select(
        self,
        *,
        splits: Sequence[str] | None = None,
        sample: int | None = None,
        part: int = 0,
        calibrated: bool | None = None,
    ) -> "SelectedRisk":
        """The same risk, measured on something else; what is not named stays as it is.

        Args:
            splits: the splits to measure; heights and derivatives are those of the first.
            sample: take the first of them alone, and so many of its examples, always the same.
            part: which of the disjoint samples.
            calibrated: measure likelihood and calibration too, where the network classifies.

        Raises:
            ConfigError: the data do not have a split, or it has too few examples.
        """
        selection = self._selection if splits is None else self._selection.on(splits)
        if sample is not None:
            selection = selection.sampled(sample, part, self.device)
        if calibrated is not None:
            selection = replace(selection, calibrated=calibrated)
        return SelectedRisk(self._evaluation, self._training, selection)

    @contextmanager
    def at(self, theta: Tensor) -> Iterator[NetworkPoint]:
        """The network at θ `[P]`, in full precision but for what is cast; see `Surface.at`."""
        with self.space.placement.at(theta) as require_open, full_precision():
            point = NetworkPoint(self._evaluation, self._selection, require_open)
            try:
                yield point
            finally:
                point.forget_products()

    @cached_property
    def examples(self) -> int:
        """How many there are to train on."""
        return len(self._selection.split("train"))

    def runs(self, batch_size: int) -> Sequence[slice]:
        return runs(self._selection.split("train"), batch_size)

    def order(self, generator: torch.Generator) -> Tensor | None:
        return shuffled(self._selection.split("train"), generator, self.device)

    def batch_gradient(
        self, theta: Tensor, indices: Sequence[Index], *, augment: str = "", accumulate: int = 1
    ) -> Generator[tuple[Tensor, Tensor], None, None]:
        return self._training.along(theta, self._selection.split("train"), indices, augment, accumulate)

    def buffers(self) -> Mapping[str, Tensor]:
        return self._training.buffers()

    def load_buffers(self, buffers: Mapping[str, Tensor]) -> None:
        self._training.load_buffers(buffers)


class EmpiricalRisk(SelectedRisk):
    """The loss of a network on data, as a function of its parameters.

    Args:
        space: the network's parameter space; its running statistics as they are now serve the default policy.
        problem: data and loss; the data are taken to the space's device.
        statistics: what running statistics hold at a θ; by default frozen at what the space holds now.
        splits: the splits to measure; heights and derivatives are those of the first. By default all, "train" first.
        batch_size: examples a batch in evaluation; None measures a few sizes and takes the fastest, or 256 where values
            depend on it or the examples are a stream.
        precision: "bf16" evaluates losses and trains under autocast; exact derivatives stay in the space's type.
        ranks: the processes that share each batch of a fit.

    Raises:
        ConfigError: a split is unknown or the batch size is not positive.
        ProblemError: the loss fails on a few examples, or the network uses parameters of the one that was copied.

    Example:
        >>> import torch
        >>> network = torch.nn.Linear(3, 2)
        >>> data = {"train": (torch.ones(8, 3), torch.zeros(8, dtype=torch.int64))}
        >>> risk = EmpiricalRisk(ParameterSpace(network), Problem.of(network, data), batch_size=8)
        >>> with risk.select(sample=4).at(torch.zeros(8)) as here:
        ...     print(round(here.measure()["train"].loss, 4), len(here.gradient()))
        0.6931 8
    """

    def __init__(
        self,
        space: ParameterSpace,
        problem: Problem,
        *,
        statistics: StatisticsPolicy | None = None,
        splits: Sequence[str] | None = None,
        batch_size: int | None = None,
        precision: Precision = "fp32",
        ranks: Ranks | None = None,
    ) -> None:
        every = Selection(problem.to(space.device).data.splits, ())
        selection = every.on(splits or every.all_splits)
        if batch_size is not None and batch_size < 1:
            raise ConfigError(f"the batch size is {batch_size}, expected at least 1.")
        statistics = statistics or Frozen(space.statistics)
        findings = Findings(space, problem.loss, selection.first)
        find = partial(scores_and_labels, problem.loss, problem.outputs)  # not the problem, which holds a network
        evaluation = Evaluation(space, problem.loss, find, findings, statistics, precision)
        super().__init__(evaluation, BatchGradients(space, problem.loss, precision, ranks or Ranks()), selection)
        if batch_size:
            evaluation.batch_size = batch_size
        elif not findings.depends_on_batch and not isinstance(selection.first, OrderedSplit):
            seconds = partial(evaluation.seconds, selection.first)
            fastest = fastest_batch_size(seconds, len(selection.first), self.device)
            evaluation.batch_size = self.ranks.agreed(fastest, self.device)

    def adopt_training(self) -> None:
        """Measure with the running statistics and other buffers that training has left from here on, not the old."""
        self.load_buffers(self.buffers())
        self._evaluation.statistics = Frozen(self.space.statistics)
        self._evaluation.findings.kept = self.space.others.noted()
