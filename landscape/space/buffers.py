"""What a network holds beside parameters: running statistics, as one flat vector, and whatever else is in its buffers.

The others are scalers, masks, counters, vectors of power iterations. A network may change them whenever it runs. A
measurement must not depend on what ran before it, so what they held is noted once and put back wherever it has changed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
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
    """The running statistics of a network, which become views into one vector of the type and on the device of its θ.

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
        """The statistics `[S]` in a state dictionary, as a new vector; raises LayoutError where some are missing."""
        if missing := [name for name in self.names if name not in state]:
            raise LayoutError(f"running statistics are missing: {first_of(missing)}.")
        parts = [state[name].to(self.flat).reshape(-1) for name in self.names]
        return torch.cat(parts) if parts else torch.empty_like(self.flat)

    def named(self, statistics: Tensor) -> dict[str, Tensor]:
        """The tensors of statistics `[S]` by name, as views into them."""
        return dict(zip(self.names, self._split(statistics), strict=True))

    def _split(self, statistics: Tensor) -> tuple[Tensor, ...]:
        return torch.split(statistics, self._sizes) if self._sizes else ()


@dataclass(frozen=True, eq=False)
class NotedBuffers:
    """What buffers held at one time, in a network's order."""

    values: tuple[Tensor, ...]


class OtherBuffers:
    """The buffers of a network that are not running statistics of its layers of normalisation."""

    def __init__(self, network: nn.Module, norms: Iterable[nn.Module]) -> None:
        layers = set(norms)
        statistics = {id(buffer) for norm in layers for buffer in (norm.running_mean, norm.running_var)}
        self._places = [
            (module, name, buffer)
            for module in network.modules()
            for name, buffer in module._buffers.items()
            if buffer is not None and id(buffer) not in statistics
        ]
        names = {id(module): name for name, module in network.named_modules()}
        self.by_name: dict[str, Tensor] = {
            f"{names[id(module)]}.{name}".removeprefix("."): buffer for module, name, buffer in self._places
        }
        self._restored: tuple[NotedBuffers, list[int]] | None = None

    def noted(self) -> NotedBuffers:
        """What they hold now; a copy."""
        self._rebind(keep=True)
        return NotedBuffers(tuple(buffer.detach().clone() for _, _, buffer in self._places))

    def restore(self, noted: NotedBuffers) -> None:
        """Put back what they held; costs next to nothing where nobody has changed them since the last time."""
        if self.holds(noted):
            return
        self._rebind(keep=False)
        with torch.no_grad():
            for (_, _, buffer), value in zip(self._places, noted.values, strict=True):
                buffer.copy_(value)
        self._restored = noted, self._versions()

    def holds(self, noted: NotedBuffers) -> bool:
        """Whether nobody has changed them since this was restored."""
        bound = all(module._buffers.get(name) is own for module, name, own in self._places)
        return bound and self._restored == (noted, self._versions())

    def write(self, values: Mapping[str, Tensor]) -> None:
        """Write to some of them, by name."""
        self._rebind(keep=True)
        with torch.no_grad():
            for name, value in values.items():
                self.by_name[name].copy_(value)

    def _versions(self) -> list[int]:
        return [buffer._version for _, _, buffer in self._places]

    def _rebind(self, *, keep: bool) -> None:
        """Put our own tensors back where a network has put others in their place, with their values if these count."""
        for module, name, own in self._places:
            buffer = module._buffers.get(name)
            if buffer is not own:
                if keep and buffer is not None:
                    with torch.no_grad():
                        own.copy_(buffer)
                module._buffers[name] = own
