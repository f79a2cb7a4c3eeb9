"""Independent copies of networks, whatever stands in the way of `copy.deepcopy`.

Wrappers of `torch.compile` and `DataParallel`, also inside a network, are taken off: what is compiled cannot be
differentiated twice, and replicas belong to one set of devices. Weights that a hook computes, as those of old weight
normalisation and of pruning, are held as plain values, and embeddings give dense gradients.
"""

import copy
from collections.abc import Iterable, Iterator
from types import CellType, FunctionType
from typing import Any

from torch import Tensor, nn

_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside wrappers of `torch.compile`, `DataParallel` and `DistributedDataParallel`."""
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return unwrapped(model.module)
    compiled: Any = getattr(model, "_orig_mod", None)
    return unwrapped(compiled) if isinstance(compiled, nn.Module) else model


def copied(network: nn.Module, shared: Iterable[nn.Parameter] = ()) -> nn.Module:
    """An independent copy of a network, without wrappers.

    It shares the memory of some parameters, which need no gradient there. The network is not changed.
    """
    network = unwrapped(network)
    memo: dict[int, Any] = {id(tensor): tensor.detach().clone() for tensor in _computed(network)}
    memo |= {id(buffer): buffer.detach().clone() for buffer in network.buffers()}
    memo |= {id(parameter): _sharing(parameter) for parameter in shared}
    for module in network.modules():
        inner = unwrapped(module)
        if inner is not module and id(module) not in memo:
            memo[id(module)] = copy.deepcopy(inner, memo)
    own = {id(part) for part in (*network.modules(), *network.parameters(), *network.buffers())}
    for function in _attached(network):
        _rebind(function, own, memo)
    made: nn.Module = copy.deepcopy(network, memo)
    for module in made.modules():
        if isinstance(module, _EMBEDDINGS):
            module.sparse = False
    return made


def is_plain(parameter: nn.Parameter) -> bool:
    """Whether a parameter is an array of numbers, and not of a kind of its own, such as a quantised one."""
    return type(parameter) is nn.Parameter and type(parameter.data) is Tensor


def _sharing(parameter: nn.Parameter) -> nn.Parameter:
    """A parameter in the same memory; one of a kind of its own, such as a quantised one, stands for itself."""
    if not is_plain(parameter) and not parameter.requires_grad:
        return parameter
    return nn.Parameter(parameter.data, requires_grad=False)


def _attached(network: nn.Module) -> Iterator[FunctionType]:
    """Functions that modules carry: a forward of the user's own, and hooks."""
    for module in network.modules():
        for value in vars(module).values():
            for entry in value.values() if isinstance(value, dict) else [value]:
                if isinstance(entry, FunctionType):
                    yield entry


def _rebind(function: FunctionType, own: set[int], memo: dict[int, Any]) -> FunctionType:
    """Have the copy's function mean the copy where the original means parts of the network, by its closure or defaults.

    Whatever else it refers to, such as a dictionary that a loss reads too, stays the same object.
    """
    if id(function) in memo:
        return memo[id(function)]  # type: ignore[no-any-return]
    cells = tuple(CellType() for _ in function.__closure__ or ())
    made = FunctionType(function.__code__, function.__globals__, function.__name__, None, cells or None)
    made.__kwdefaults__, made.__dict__ = function.__kwdefaults__, function.__dict__
    memo[id(function)] = made  # before what it refers to, which may refer to it

    def counterpart(value: Any) -> Any:
        if isinstance(value, FunctionType):
            return _rebind(value, own, memo)
        return copy.deepcopy(value, memo) if id(value) in own else value

    for cell, original in zip(cells, function.__closure__ or (), strict=True):
        try:
            cell.cell_contents = counterpart(original.cell_contents)
        except ValueError:  # not assigned yet
            continue
    made.__defaults__ = function.__defaults__ and tuple(map(counterpart, function.__defaults__))
    return made


def _computed(network: nn.Module) -> Iterator[Tensor]:
    """Tensors with a history, which modules keep as plain attributes or buffers and `copy.deepcopy` refuses."""
    for module in network.modules():
        for value in (*vars(module).values(), *module._buffers.values()):
            if isinstance(value, Tensor) and not value.is_leaf:
                yield value
