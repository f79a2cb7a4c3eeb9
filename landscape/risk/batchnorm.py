"""What the running statistics of layers of batch and instance norm hold at a new θ.

Running statistics belong to the θ at which they were gathered. Elsewhere there are three policies: `frozen` (those of
one point), `interpolated` (moved linearly with θ) and `recomputed` (gathered anew from the training data). Counters and
masks never move, and dropout stays off while statistics are gathered.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.instancenorm import _InstanceNorm

from landscape.problems.losses import Loss, per_example
from landscape.problems.splits import Index, Split, first_few, runs, shuffled
from landscape.risk.conduct import Conduct, observed
from landscape.runtime.hooks import hooked
from landscape.space.parameters import ParameterSpace
from landscape.space.pieces import Points, stacked

_COLLINEAR = 1e-6


class StatisticsPolicy(Protocol):
    """Decides the running statistics at a point."""

    @property
    def name(self) -> str:
        """The policy's name in results: frozen, interpolated or recomputed."""

    def place(self, space: ParameterSpace, theta: Tensor) -> None:
        """Write the statistics for θ `[P]` into the space, whose network is already at θ."""


class Frozen:
    """The same statistics everywhere.

    Args:
        statistics: running means and variances `[S]` of one point.
    """

    name = "frozen"

    def __init__(self, statistics: Tensor) -> None:
        self._statistics = statistics.clone()

    def place(self, space: ParameterSpace, theta: Tensor) -> None:
        space.statistics.copy_(self._statistics)


class Interpolated:
    """Statistics moved linearly with θ between known points.

    θ is projected by least squares on the plane through the points; its coordinates weigh their statistics. Outside the
    points a variance may come out negative, and is then taken as 0.

    Args:
        points: k known points `[P]`, k ≥ 2.
        statistics: their statistics `[k, S]`.
        others: further buffers that move likewise, such as an input scaler's, `[k, *shape]` by name.

    Attributes:
        buffers: the names of the further buffers.
    """

    name = "interpolated"

    def __init__(self, points: Points, statistics: Tensor, others: Mapping[str, Tensor] | None = None) -> None:
        self._others = dict(others or {})
        self.buffers = tuple(self._others)
        self._origin = stacked(points[:1], slice(None))[0]
        self._directions = self._origin.new_empty(len(points) - 1, len(self._origin))
        for direction, point in zip(self._directions, points[1:], strict=True):
            torch.sub(point[:], self._origin, out=direction)
        self._base, self._changes = statistics[0].clone(), statistics[1:] - statistics[0]
        directions = self._directions.double()
        self._inverse = torch.linalg.pinv(directions @ directions.T, rtol=_COLLINEAR, hermitian=True)

    def place(self, space: ParameterSpace, theta: Tensor) -> None:
        coordinates = self._inverse @ (self._directions @ (theta - self._origin)).double()
        moved = self._base + coordinates.to(self._changes.dtype) @ self._changes
        space.statistics.copy_(torch.where(_variances(space), moved.clamp_min(0), moved))
        if self._others:
            space.others.write({name: _combined(values, coordinates) for name, values in self._others.items()})


def _combined(values: Tensor, coordinates: Tensor) -> Tensor:
    """The first of several tensors `[k, *shape]`, moved towards the others by coordinates `[k - 1]`."""
    changes = torch.where(values[1:] == values[0], 0, values[1:] - values[0])  # infinity less infinity is not 0
    moved: Tensor = values[0] + torch.tensordot(coordinates.to(values), changes, dims=1)
    return moved


class Recomputed:
    """Statistics gathered in one pass over the training data, in which each example weighs the same.

    The examples are taken in a fixed random order, so that data sorted by class do not make batches of one class; those
    of a stream in its own. The statistics enter derivatives as constants.

    Args:
        split: the training examples; they are taken to the space's device.
        loss: what runs the network on a batch.
        batch_size: examples a batch; within a batch, layers see inputs normalised by the batch, as in training, so the
            statistics depend on it a little.
    """

    name = "recomputed"

    def __init__(self, split: Split, loss: Loss, batch_size: int = 256) -> None:
        self._split = split
        self._loss = loss
        order = shuffled(split, torch.Generator().manual_seed(0), torch.device("cpu"))
        self._indices: list[Index] = [run if order is None else order[run] for run in runs(split, batch_size)]
        self._device = torch.device("cpu")
        self._conduct: Conduct | None = None

    def place(self, space: ParameterSpace, theta: Tensor) -> None:
        if not space.norms:
            return
        if self._device != space.device:
            self._split, self._device = self._split.to(space.device), space.device
            self._indices = [index if isinstance(index, slice) else index.to(self._device) for index in self._indices]
        conduct = self._observed(space)
        with _gathering(space.norms) as gathered, conduct.evaluating(space.device):
            for number, batch in enumerate(self._split.batches(self._indices)):
                conduct.begin_batch(number, space.device)
                per_example(self._loss, space.network, batch)
        for norm, moments in gathered.items():
            moments.write(norm)

    def _observed(self, space: ParameterSpace) -> Conduct:
        """How the loss is to be run, found out once."""
        if self._conduct is None:
            self._conduct = observed(self._loss, space.network, first_few(self._split, 2, space.device))
        return self._conduct


class _Moments:
    """Sums of a layer's inputs and their squares, pooled over batches in float64.

    A layer of instance norm keeps the mean of its instances' means and variances, so those are summed in its place. A
    layer that takes no part keeps what it had.
    """

    def __init__(self, norm: Any) -> None:
        self._before = norm.running_mean.clone(), norm.running_var.clone()
        self._is_pooled = not isinstance(norm, _InstanceNorm)
        self._count = 0
        self._total: Any = 0.0
        self._squares: Any = 0.0

    def add(self, values: Tensor, norm: Any) -> None:
        """Take in what a layer's statistics say of one batch of its inputs."""
        mean, variance = norm.running_mean.double(), norm.running_var.double()
        count = len(values)
        if self._is_pooled:
            count = values.numel() // norm.num_features
            variance = variance * ((count - 1) / count) + mean.square()
        self._count += count
        self._total = self._total + mean * count
        self._squares = self._squares + variance * count

    def write(self, norm: Any) -> None:
        """Have a layer hold the statistics of all batches."""
        mean, variance = self._before
        if self._count:
            mean, variance = self._total / self._count, self._squares / self._count
            if self._is_pooled:
                variance = (variance - mean.square()) * (self._count / max(self._count - 1, 1))
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)


@contextmanager
def _gathering(norms: list[Any]) -> Iterator[dict[Any, _Moments]]:
    """Have each layer note its inputs' moments, which torch's own kernel computes when momentum is 1."""
    moments = {norm: _Moments(norm) for norm in norms}
    saved = {norm: (norm.training, norm.momentum, norm.num_batches_tracked) for norm in norms}

    def note(norm: Any, inputs: tuple[Tensor, ...], named: Mapping[str, Tensor], _: Tensor) -> None:
        moments[norm].add(next(iter((*inputs, *named.values()))), norm)
        _reset(norm)

    try:
        for norm, (_, _, counter) in saved.items():
            _reset(norm)
            norm.train()
            norm.momentum = 1.0
            # without a counter nothing counts; a layer that insists on one counts in a copy
            norm.num_batches_tracked = counter.clone() if isinstance(norm, nn.SyncBatchNorm) else None
        with hooked(norms, after=note):
            yield moments
    finally:
        for norm, (training, momentum, counter) in saved.items():
            norm.train(training)
            norm.momentum, norm.num_batches_tracked = momentum, counter


def _reset(norm: Any) -> None:
    """Forget what was there: 0 times infinity, which momentum 1 would compute, is not 0."""
    norm.running_mean.zero_()
    norm.running_var.fill_(1)


def _variances(space: ParameterSpace) -> Tensor:
    """Which of the space's statistics `[S]` are variances, boolean."""
    sizes: list[Any] = [norm.num_features for norm in space.norms for _ in (0, 1)]
    kinds = torch.tensor([False, True]).repeat(len(space.norms))
    return kinds.repeat_interleave(torch.tensor(sizes, dtype=torch.int64)).to(space.device)
