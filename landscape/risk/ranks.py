"""Several processes that share each batch of a fit: data-parallel training under `torchrun`.

Every process holds the same control points and takes the same random choices; each runs its share of a batch, and
gradients are summed over all of them, so that the step is that of one process with the whole batch. Layers of batch
norm see the moments of the whole batch too, on any device.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from landscape.errors import ConfigError

_PATIENCE = timedelta(minutes=30)


@dataclass(frozen=True)
class Ranks:
    """The processes that share the work; this is number `rank` of `size`."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This process's part of `count` examples.

        Raises:
            ConfigError: there are fewer examples than processes.
        """
        if count < self.size:
            raise ConfigError(
                f"{self.size} processes cannot share {count} examples; raise --batch-size, lower --accumulate, "
                "or start fewer processes."
            )
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def sum_(self, *tensors: Tensor) -> None:
        """Sum tensors over all processes, in place."""
        if self.size > 1:
            for tensor in tensors:
                dist.all_reduce(tensor)

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether the flag is set in any process."""
        if self.size == 1:
            return flag
        flags = torch.tensor([float(flag)], device=device)
        dist.all_reduce(flags, op=dist.ReduceOp.MAX)
        return bool(flags.item())

    def agreed(self, value: int, device: torch.device) -> int:
        """The number that the first process has, in all of them."""
        agreed = torch.tensor([value], device=device)
        self.follow_(agreed)
        return int(agreed.item())

    def follow_(self, tensor: Tensor) -> None:
        """Take over a tensor from the first process, in place."""
        if self.size > 1:
            dist.broadcast(tensor, 0)

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """The processes that `torchrun` started, as long as the context lasts; a single one without it.

    NCCL joins GPUs, Gloo everything else.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "RANK" not in os.environ:
        yield Ranks()
        return
    if dist.is_initialized():
        yield Ranks(dist.get_rank(), dist.get_world_size())
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


@contextmanager
def synchronised(norms: Iterable[nn.Module], ranks: Ranks) -> Iterator[None]:
    """Have layers of batch norm take the moments of the whole batch in training, not of this process's share."""
    if ranks.size == 1:
        yield
        return
    with ExitStack() as stack:
        for norm in norms:
            norm.forward = partial(_normalised, norm)
            stack.callback(norm.__dict__.pop, "forward")
        yield


class _Summed(torch.autograd.Function):
    """The sum over all processes, whose gradient is the sum of theirs."""

    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


def _normalised(norm: Any, x: Tensor) -> Tensor:
    """What `nn.BatchNorm` does in training mode, with the moments of all processes' examples."""
    if not norm.training and norm.running_mean is not None:
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)
    with torch.autocast(x.device.type, enabled=False):
        wide = x.float() if x.dtype in {torch.bfloat16, torch.float16} else x
        others = [0, *range(2, x.ndim)]
        shape = [1, -1] + [1] * (x.ndim - 2)
        count = torch.full((1,), x.numel() / x.shape[1], dtype=wide.dtype, device=x.device)
        total: Tensor = _Summed.apply(torch.cat([wide.sum(others), count]))
        mean, number = total[:-1] / total[-1], total[-1].detach()
        centred = wide - mean.view(shape)
        variance: Tensor = _Summed.apply(centred.square().sum(others)) / number
        if norm.running_mean is not None:
            _follow(norm, mean.detach(), variance.detach() * (number / (number - 1).clamp_min(1)))
        scaled = centred * torch.rsqrt(variance + norm.eps).view(shape)
        if norm.weight is not None:
            scaled = scaled * norm.weight.view(shape)
        if norm.bias is not None:
            scaled = scaled + norm.bias.view(shape)
        return scaled.to(x.dtype)


def _follow(norm: Any, mean: Tensor, variance: Tensor) -> None:
    """Move the running statistics, as torch does."""
    norm.num_batches_tracked.add_(1)
    share = norm.momentum if norm.momentum is not None else 1 / float(norm.num_batches_tracked)
    norm.running_mean.lerp_(mean, share)
    norm.running_var.lerp_(variance, share)
