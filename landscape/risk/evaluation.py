"""A network's loss over examples in evaluation mode, and its exact derivatives, where the network stands."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from landscape.problems.losses import Loss, per_example
from landscape.problems.splits import Batch, Split, runs
from landscape.risk.batchnorm import StatisticsPolicy
from landscape.risk.findings import Findings
from landscape.risk.gradients import add_gradient
from landscape.risk.precision import Precision, casting, full_precision
from landscape.risk.predictions import Finder, Observer, watching
from landscape.risk.products import PRODUCTS, Matrix, Products
from landscape.space.parameters import ParameterSpace


@dataclass
class Evaluation:
    """Runs a network over whole splits, `batch_size` examples at once.

    In `precision` "bf16" losses are evaluated under autocast; exact derivatives stay in the space's type.
    """

    space: ParameterSpace
    loss: Loss
    find: Finder
    findings: Findings
    statistics: StatisticsPolicy
    precision: Precision
    batch_size: int = 256

    def settle(self, precision: Precision) -> None:
        """Have the network hold the statistics that belong where it stands, as gathered in a precision."""
        key = self.statistics, precision, self.findings.kept
        with casting(self.space.device, precision):
            place = partial(self.statistics.place, self.space, self.space.theta)
            self.space.placement.settle(key, self.findings.kept, place)

    def losses(self, split: Split, observer: Observer | None = None) -> tuple[Tensor, Tensor | None]:
        """Each example's loss `[N]`, and how right it is `[N]` or None where the loss does not say, both float64."""
        indices = runs(split, self.batch_size)
        # in two tensors: small ones of each batch would keep the memory of batches on the CPU from being used again
        losses, right = (torch.empty(len(split), dtype=torch.float64, device=self.space.device) for _ in (0, 1))
        says_right = False
        with self._running(), watching(self.space.network) as seen:
            for number, (index, batch) in enumerate(zip(indices, split.batches(indices), strict=True)):
                seen.forget()
                self.findings.conduct.begin_batch(number, self.space.device)
                batch_losses, batch_right = per_example(self.loss, self.space.network, batch)
                losses[index] = batch_losses.detach()
                if batch_right is not None:
                    right[index] = batch_right.detach()
                    says_right = True
                if observer:
                    observer.look(seen.only_outputs, batch)
        return losses, right if says_right else None

    def gradient(self, split: Split) -> Tensor:
        """The gradient of the mean loss, a new `[P]`."""
        total = self.space.gradient.zero_()
        with self.findings.folding():
            for batch, share in self._shares(split):
                add_gradient(self.space, self.loss, batch, share)
        return total.clone()

    def products(self, split: Split, chosen: Tensor | None, matrix: Matrix) -> Products:
        """Products with a matrix of second derivatives of the mean loss, to be taken inside `twice_differentiable`."""
        with self.twice_differentiable():
            self.findings.require_consistent(chosen, matrix)
        return PRODUCTS[matrix](self.space, self.loss, partial(self._shares, split), chosen)

    @contextmanager
    def twice_differentiable(self) -> Iterator[None]:
        """Operations that have second derivatives: cuDNN's recurrent layers and fused attention have none."""
        flags = torch.backends.cudnn
        cudnn = flags.flags(
            not self._is_recurrent and flags.enabled,
            flags.benchmark,
            deterministic=flags.deterministic,
            allow_tf32=False,
        )
        with cudnn, self.findings.folding(), sdpa_kernel(SDPBackend.MATH):
            yield

    @cached_property
    def _is_recurrent(self) -> bool:
        return any(isinstance(module, nn.RNNBase) for module in self.space.network.modules())

    def seconds(self, split: Split, size: int) -> float:
        """Seconds for each example in one batch of so many."""
        taken = min(size, len(split))
        (batch,) = split.batches([slice(0, taken)])
        with full_precision(), self._running():
            start = perf_counter()
            losses, _ = per_example(self.loss, self.space.network, batch)
            losses.detach().sum().item()
            return (perf_counter() - start) / taken

    @contextmanager
    def _running(self) -> Iterator[None]:
        """The network as losses are evaluated."""
        folding = self.findings.folding()  # the first call runs the network, which nothing may cast
        device = self.space.device
        with self.findings.conduct.evaluating(device), casting(device, self.precision), folding:
            yield

    def _shares(self, split: Split) -> Iterator[tuple[Batch, float]]:
        """The split's batches, each with its share of the examples."""
        conduct, device = self.findings.conduct, self.space.device
        indices = runs(split, self.batch_size)
        self.space.placement.restore_others(self.findings.kept)
        with conduct.drawing(device):
            for number, (index, batch) in enumerate(zip(indices, split.batches(indices), strict=True)):
                conduct.begin_batch(number, device)
                yield batch, (index.stop - index.start) / len(split)
