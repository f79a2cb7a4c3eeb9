"""Gradients of a network's mean loss over batches, in the space's one buffer for gradients."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from landscape.problems.augmentation import augment as change_images
from landscape.problems.augmentation import named_augmentations
from landscape.problems.losses import Loss, differentiable, per_example
from landscape.problems.splits import Batch, Index, Split, chunks
from landscape.risk.precision import Precision, casting
from landscape.risk.ranks import Ranks, synchronised
from landscape.runtime.seeds import reseed
from landscape.space.buffers import NotedBuffers
from landscape.space.parameters import ParameterSpace


def add_gradient(
    space: ParameterSpace, loss: Loss, batch: Batch, share: float, precision: Precision = "fp32"
) -> Tensor:
    """Add a share of the gradient of a batch's mean loss to the space's gradient; returns that share of the loss.

    Raises:
        ProblemError: the loss has no gradient.
    """
    with casting(space.device, precision):
        losses = differentiable(per_example(loss, space.network, batch)[0])
    mean = (losses.float() if precision == "bf16" else losses).mean() * share
    mean.backward()
    return mean.detach()


@dataclass(frozen=True)
class _Part:
    """A part of a batch as one process runs it."""

    own: Tensor  # the examples that it runs
    place: slice  # where they lie in the part
    count: int  # examples of the part over all processes
    share: float  # that its own examples have in the whole batch


class BatchGradients:
    """Gradients in training mode, batch by batch, and the buffers that training changes; see `Trainable`."""

    def __init__(self, space: ParameterSpace, loss: Loss, precision: Precision, ranks: Ranks) -> None:
        self._space, self._loss, self._precision, self.ranks = space, loss, precision, ranks
        self._trained: NotedBuffers | None = None

    def along(
        self, theta: Tensor, split: Split, indices: Sequence[Index], augment: str, accumulate: int
    ) -> Generator[tuple[Tensor, Tensor], None, None]:
        space, ranks = self._space, self.ranks
        names = named_augmentations(augment)
        parts = [self._parts(index, accumulate) for index in indices]
        batches = split.batches([part.own for run in parts for part in run])
        with self._training():
            for run in parts:
                space.placement.move_to(theta)
                gradient = space.gradient.zero_()
                total = torch.zeros((), dtype=torch.float64, device=space.device)
                chances = [torch.rand(part.count, 3, device=space.device) for part in run] if names else []
                if not ranks.first:  # each process drops out other units
                    reseed(space.device, torch.initial_seed(), ranks.rank)
                for number, part in enumerate(run):
                    batch = next(batches)
                    if names:
                        batch = change_images(batch, names, chances[number][part.place])
                    total += add_gradient(space, self._loss, batch, part.share, self._precision).double()
                ranks.sum_(gradient, total)
                space.require_fixed()
                yield total, gradient

    @contextmanager
    def _training(self) -> Iterator[None]:
        """The network in training mode, with the buffers that training has left."""
        network = self._space.network
        layers = [module for module in network.modules() if isinstance(module, _BatchNorm)]
        with self._space.placement.occupancy.taken():
            if self._trained:
                self._space.others.restore(self._trained)
            network.train()
            try:
                with synchronised(layers, self.ranks):
                    yield
            finally:
                network.eval()
                self._trained = self._space.others.noted()

    def _parts(self, index: Index, accumulate: int) -> list[_Part]:
        """What this process runs of a batch: of each part that is run at once, its share."""
        device = self._space.device
        positions = index if isinstance(index, Tensor) else torch.arange(index.start, index.stop, device=device)
        parts = []
        for part in chunks(len(positions), -(-len(positions) // accumulate)):
            count = part.stop - part.start
            place = self.ranks.share(count)
            own = positions[part][place]
            parts.append(_Part(own, place, count, len(own) / len(positions)))
        return parts

    def buffers(self) -> Mapping[str, Tensor]:
        if self._trained and not self._space.network.training:
            self._space.others.restore(self._trained)
        return self._space.buffers()

    def load_buffers(self, buffers: Mapping[str, Tensor]) -> None:
        self._space.load_buffers(buffers)
        self._trained = self._space.others.noted()
