"""Where each parameter tensor of a network lies in the flat vector, and which of its rows form a filter."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from landscape.errors import ProblemError
from landscape.problems.copying import unwrapped

Role = Literal["weight", "bias", "norm"]

_NORM_LAYERS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_CHANNELS_LAST_LAYERS = (nn.Conv2d, nn.ConvTranspose2d)
_TRANSPOSED_LAYERS = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class Segment:
    """The place of one parameter tensor in the flat vector.

    Attributes:
        name: the tensor's name in the network.
        aliases: further names of the same tensor, when weights are tied.
        shape: its shape in the network.
        offset: where it begins in the flat vector.
        role: "weight" has filters; "bias" and "norm" have none.
        groups: number of groups of a transposed convolution, whose filters lie in dim 1; 0 for all others, whose
            filters lie in dim 0.
        channels_last: stored with the channels innermost.
    """

    name: str
    aliases: tuple[str, ...]
    shape: torch.Size
    offset: int
    role: Role
    groups: int
    channels_last: bool

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.shape.numel()

    def view(self, flat: Tensor) -> Tensor:
        """The tensor's own shape, as a view `[..., *shape]` into flat vectors `[..., P]` that writes to them."""
        part = flat.narrow(-1, self.offset, self.size)
        if self.channels_last:
            outputs, inputs, height, width = self.shape
            return part.view(*part.shape[:-1], outputs, height, width, inputs).movedim(-1, -3)
        return part.view((*part.shape[:-1], *self.shape))

    def flat(self, tensor: Tensor) -> Tensor:
        """The elements `[size]` of such a tensor in the order in which they lie in the flat vector."""
        return (tensor.movedim(-3, -1) if self.channels_last else tensor).reshape(-1)

    def filters(self, flat: Tensor) -> Tensor:
        """The filters as a view `[groups, filters, ...]` into a flat vector: all weights that produce one output.

        Only for segments whose role is "weight". A filter is a row of dim 0, or of dim 1 within each group of a
        transposed convolution (Li et al. 2018, section 4).
        """
        weights = self.view(flat)
        if self.groups:
            return torch.unflatten(weights, 0, (self.groups, -1)).transpose(1, 2)
        return weights.unsqueeze(0)


def distinct_parameters(model: nn.Module) -> list[tuple[tuple[str, ...], nn.Parameter]]:
    """The parameters of a network, each once, with all names that it has; those that share memory are one.

    Raises:
        ProblemError: one has no shape yet, or is complex.
    """
    groups: dict[object, tuple[list[str], nn.Parameter]] = {}
    for name, parameter in _named_parameters(model):
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise ProblemError(f"parameter {name} has no shape yet; run the network once on a batch first.")
        if parameter.is_complex():
            raise ProblemError(f"parameter {name} is complex; only real parameters form the space.")
        has_memory = parameter.numel() > 0 and parameter.device.type != "meta"
        key = (parameter.data_ptr(), parameter.shape, parameter.stride()) if has_memory else id(parameter)
        groups.setdefault(key, ([], parameter))[0].append(name)
    return [(tuple(names), parameter) for names, parameter in groups.values()]


def segments_of(model: nn.Module, tensors: Iterable[tuple[tuple[str, ...], nn.Parameter]]) -> tuple[Segment, ...]:
    """Lay some of a network's parameters out in a flat vector, one after the other; see `distinct_parameters`."""
    segments: list[Segment] = []
    offset = 0
    for (name, *aliases), parameter in tensors:
        prefix, _, local = name.rpartition(".")
        owner = model.get_submodule(prefix)
        weight = parameter.ndim > 1
        segments.append(
            Segment(
                name=name,
                aliases=tuple(aliases),
                shape=parameter.shape,
                offset=offset,
                role=_role(owner, local, parameter),
                groups=owner.groups if isinstance(owner, _TRANSPOSED_LAYERS) and weight else 0,
                channels_last=isinstance(owner, _CHANNELS_LAST_LAYERS) and parameter.ndim == 4,
            )
        )
        offset += parameter.numel()
    return tuple(segments)


def _named_parameters(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Parameter]]:
    """All parameters with every name that they have, as if there were no wrappers."""
    module = unwrapped(module)
    for name, parameter in module._parameters.items():
        if parameter is not None:
            yield prefix + name, parameter
    for name, inner in module._modules.items():
        if inner is not None:
            yield from _named_parameters(inner, f"{prefix}{name}.")


def _role(owner: nn.Module, local: str, parameter: nn.Parameter) -> Role:
    if isinstance(owner, _NORM_LAYERS):
        return "norm"
    return "bias" if parameter.ndim < 2 or local.startswith("bias") else "weight"
