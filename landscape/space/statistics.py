"""The running means and variances of a network's layers of batch and instance norm, as one flat vector."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from landscape.errors import LayoutError
from landscape.storage.layouts import first_of


def keeps_statistics(module: nn.Module) -> bool:
    """Whether a layer normalises, and keeps running statistics."""
    return isinstance(module, _NormBase) and module.running_mean is not None


class RunningStatistics:
    """The running statistics of a network, which become views into one vector.

    Args:
        network: the network.
        theta: its point, whose type and device the statistics have.

    Attributes:
        norms: the layers that keep them, in the network's order.
        names: of means and variances in a state dictionary, in the vector's order.
        flat: the vector `[S]` itself.
    """

    def __init__(self, network: nn.Module, theta: Tensor) -> None:
        layers = {name: module for name, module in network.named_modules() if keeps_statistics(module)}
        self.norms: list[Any] = list(layers.values())
        self.names = [f"{name}.{kind}".lstrip(".") for name in layers for kind in ("running_mean", "running_var")]
        tensors = [t for norm in self.norms for t in (norm.running_mean, norm.running_var)]
        self._sizes = [tensor.numel() for tensor in tensors]
        self.flat = torch.cat(tensors) if tensors else theta.new_empty(0)
        for norm, mean, variance in zip(self.norms, *[iter(self._split(self.flat))] * 2, strict=True):
            norm.running_mean, norm.running_var = mean, variance

    def of(self, state: Mapping[str, Tensor]) -> Tensor:
        """The statistics `[S]` that a state dictionary holds, as a new vector.

        Raises:
            LayoutError: some are missing.
        """
        if missing := [name for name in self.names if name not in state]:
            raise LayoutError(f"running statistics are missing: {first_of(missing)}.")
        parts = [state[name].to(self.flat).reshape(-1) for name in self.names]
        return torch.cat(parts) if parts else torch.empty_like(self.flat)

    def named(self, statistics: Tensor) -> dict[str, Tensor]:
        """The tensors of statistics `[S]` by name, as views into them."""
        return dict(zip(self.names, self._split(statistics), strict=True))

    def _split(self, statistics: Tensor) -> tuple[Tensor, ...]:
        return torch.split(statistics, self._sizes) if self._sizes else ()
