"""How a network and its loss behave when they are run, found out on a few examples once.

Most are functions of each example alone and need no derivatives to be evaluated. Some differentiate inside their loss
(a physics-informed network), some draw random numbers (dropout at test time, a variational autoencoder), and some let
the examples of a batch depend on each other (batch norm without running statistics, a contrastive loss).
"""

import pickle
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from landscape.errors import ProblemError
from landscape.problems.losses import Loss, per_example
from landscape.problems.splits import Batch, leaf_tensors, map_tensors
from landscape.risk.convolutions import is_transformed
from landscape.runtime.seeds import mixed_seed, reseed

_DIFFERENT = 1e-3


@dataclass(frozen=True)
class Conduct:
    """How a loss is to be run.

    Attributes:
        differentiates: it takes derivatives itself, so gradients must be on.
        draws: it draws random numbers, so each batch gets a seed of its own, the same at every point.
    """

    differentiates: bool = False
    draws: bool = False

    @contextmanager
    def evaluating(self, device: torch.device) -> Iterator[None]:
        """Where a loss is evaluated: without derivatives if it can be, and with the global generators kept."""
        with torch.set_grad_enabled(self.differentiates), self.drawing(device):
            yield

    @contextmanager
    def drawing(self, device: torch.device) -> Iterator[None]:
        """Leave the global generators as they were, if the loss draws from them."""
        if not self.draws:
            yield
            return
        states = random.getstate(), np.random.get_state()
        try:
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
                yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])

    def begin_batch(self, number: int, device: torch.device) -> None:
        """Seed what a batch draws by its number; inside `drawing`."""
        if self.draws:
            reseed(device, 0, number)
            random.seed(number)
            np.random.seed(mixed_seed(0, number) % 2**32)


def observed(loss: Loss, network: nn.Module, batch: Batch) -> Conduct:
    """Run a loss on copies of a few examples, its network in evaluation mode, to see how it is to be run.

    Raises:
        ProblemError: it fails with and without derivatives.
    """
    device = next(leaf_tensors(batch)).device
    with Conduct(draws=True).drawing(device):
        before = _states(device)
        differentiates = _differentiates(loss, network, batch)
        return Conduct(differentiates, draws=before != _states(device))


def depends_on_batch(loss: Loss, network: nn.Module, batch: Batch, conduct: Conduct) -> bool:
    """Whether the losses of a few examples, two at least, change when they are run in two batches instead of one."""
    device = next(leaf_tensors(batch)).device
    count = len(next(leaf_tensors(batch)))
    with conduct.evaluating(device):
        conduct.begin_batch(0, device)
        whole = per_example(loss, network, copy_of(batch))[0].detach()
        parts = []
        for number, part in enumerate((slice(0, count // 2), slice(count // 2, count))):
            conduct.begin_batch(number, device)
            parts.append(per_example(loss, network, copy_of(batch, part))[0].detach())
    scale = whole.abs()[whole.isfinite()].max() if whole.isfinite().any() else torch.ones(())
    allowed = _DIFFERENT * max(float(scale), torch.finfo(whole.dtype).tiny)
    return not torch.allclose(torch.cat(parts), whole, rtol=0.0, atol=allowed, equal_nan=True)


def require_own(loss: Loss, network: nn.Module, batch: Batch, originals: Mapping[str, Tensor]) -> None:
    """Check that a copy of a network, in evaluation mode, runs with none of the original's parameters, by name.

    Nothing here moves those. Copies of the few examples are taken.

    Raises:
        ProblemError: it does, by a reference that a function or a global variable holds.
    """
    own = {parameter.data_ptr() for parameter in network.parameters()}
    memory = {parameter.data_ptr(): name for name, parameter in originals.items()}
    memory = {place: name for place, name in memory.items() if place and place not in own}
    if not memory:
        return
    with _Reads(memory) as reads:
        per_example(loss, network, copy_of(batch))
    if reads.foreign:
        raise ProblemError(
            f"the network or its loss uses {reads.foreign} of the network that was given by a reference of its own, "
            "such as a global variable, so that it would not move with the point; reach it through the network's "
            "attributes."
        )


class _Reads(TorchFunctionMode):
    """Sees whether an operation reads certain memory."""

    def __init__(self, memory: Mapping[int, str]) -> None:
        super().__init__()
        self._memory = memory
        self.foreign = ""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for leaf in [] if is_transformed() else tree_leaves((args, kwargs)):
            if type(leaf) in {Tensor, nn.Parameter} and leaf.layout == torch.strided:
                self.foreign = self.foreign or self._memory.get(leaf.data_ptr(), "")
        return function(*args, **(kwargs or {}))


def copy_of(batch: Batch, part: slice | None = None) -> Batch:
    """A copy of a batch, or of a part of its examples, which a network may change in place."""
    return map_tensors(lambda tensor: tensor[part or slice(None)].clone(), batch)


def _differentiates(loss: Loss, network: nn.Module, batch: Batch) -> bool:
    try:
        with torch.no_grad():
            per_example(loss, network, copy_of(batch))
    except ProblemError as error:
        try:
            with torch.enable_grad():
                per_example(loss, network, copy_of(batch))
        except ProblemError:
            raise error from error.__cause__
        return True
    return False


def _states(device: torch.device) -> list[bytes]:
    """Where the global generators stand."""
    own = [torch.get_rng_state()] + ([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])
    others = [pickle.dumps(np.random.get_state()), pickle.dumps(random.getstate())]
    return [*(state.numpy().tobytes() for state in own), *others]
