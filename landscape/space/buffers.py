"""What a network holds beside parameters and running statistics: scalers, masks, counters, vectors of power iterations.

A network may change them whenever it runs. A measurement must not depend on what ran before it, so what they held is
noted once and put back wherever it has changed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class NotedBuffers:
    """What buffers held at one time, in a network's order."""

    values: tuple[Tensor, ...]


class OtherBuffers:
    """The buffers of a network that are no running statistics of a normalisation layer.

    Args:
        network: the network.
        norms: the layers whose running statistics are left out.
    """

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
