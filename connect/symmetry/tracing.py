"""The units of a network, found by watching one forward pass.

The pass is watched below autograd, where every module is a sequence of some eighty operations, whatever its code
does: loops, dictionaries, and branches on values are followed as they run. Each tensor that is made is labelled by the
rule of its operation; parameters and the running statistics of norms begin with a unit of their own at each place of
each axis.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from connect.symmetry.rules import Call, is_known, rule_of
from connect.symmetry.units import Block, Labels, Universe, fixed


@dataclass(frozen=True)
class Axes:
    """The units along the axes of a tensor of a network.

    Attributes:
        name: of the parameter or buffer.
        shape: in which its places are counted; for the weights of a grouped convolution `[groups, out, in, …]`.
        blocks: of units.
    """

    name: str
    shape: tuple[int, ...]
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Trace:
    """What one forward pass tells of a network's units.

    Attributes:
        universe: the units, and which are the same.
        tensors: the axes of what moves with the units: parameters, and the running statistics of norms, as far as the
            pass uses them.
        unused: the names of the others.
        unknown: operations without a rule, and how often each was met with units that it pinned.
    """

    universe: Universe
    tensors: tuple[Axes, ...]
    unused: tuple[str, ...]
    unknown: Mapping[str, int]


def trace(network: nn.Module, run: Callable[[nn.Module], Any], moving: Mapping[str, Tensor]) -> Trace:
    """Watch a forward pass.

    Args:
        network: in evaluation mode.
        run: calls the network on example inputs.
        moving: tensors of the network that may be permuted, by name.
    """
    universe = Universe()
    watch = _Watch(universe, moving)
    with _plain(), torch.no_grad(), watch:
        result = run(network)
    for tensor in _tensors(result):
        universe.pin_labels(watch.labels_of(tensor))
    return Trace(universe, watch.axes(), tuple(name for name in moving if name not in watch.used), dict(watch.unknown))


@contextmanager
def _plain() -> Iterator[None]:
    """Fused layers put together from plain operations."""
    fast = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # setting the flags of oneDNN warns of those for another kind of device
        stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        torch.backends.mha.set_fastpath_enabled(False)
        stack.callback(torch.backends.mha.set_fastpath_enabled, fast)
        yield


class _Watch(TorchDispatchMode):
    """Labels every tensor that operations make."""

    def __init__(self, universe: Universe, moving: Mapping[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.universe = universe
        self.unknown: dict[str, int] = {}
        self._labels: MutableMapping[Tensor, Labels] = WeakTensorKeyDictionary()
        self._homes: dict[str, Axes] = {}
        self._names = {id(tensor): name for name, tensor in moving.items()}
        self.used: set[str] = set()
        for name, tensor in moving.items():
            blocks = tuple(Block((axis,), universe.fresh(size)) for axis, size in enumerate(tensor.shape) if size > 1)
            self._labels[tensor] = Labels(tuple(tensor.shape), blocks)
            self._homes[name] = Axes(name, tuple(tensor.shape), blocks)

    def labels_of(self, tensor: Tensor) -> Labels:
        """Those of a tensor; one that nothing is known of, such as an input, is fixed."""
        known = self._labels.get(tensor)
        return fixed(tensor.shape) if known is None else known

    def axes(self) -> tuple[Axes, ...]:
        """The units of what moves."""
        return tuple(axes for name, axes in self._homes.items() if name in self.used)

    def in_groups(self, weight: Tensor, groups: int) -> Labels:
        """Those of the second axis of weights `[g o, i, …]` that act in groups; each group has units of its own.

        What is not a tensor of the network, but made of some, has the same units in every group.
        """
        name = self._names.get(id(weight))
        total, inside, *kernel = weight.shape
        if name is None or inside == 1:
            second = self.universe.reduced(self.labels_of(weight), [0, *range(2, weight.ndim)])
            return second.inserted(0).broadcast((groups, inside))
        shape = (groups, total // groups, inside, *kernel)
        if self._homes[name].shape != shape:
            first, _, *rest = self._homes[name].blocks
            both = Block((0, 1), first.units.reshape(shape[:2])), Block((0, 2), self.universe.fresh(groups, inside))
            rest = [Block((block.axes[0] + 1,), block.units) for block in rest]
            self._homes[name] = Axes(name, shape, (*both, *rest))
        return Labels((groups, inside), (Block((0, 1), self._homes[name].blocks[1].units),))

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.used |= {self._names[id(each)] for each in _tensors([*args, *kwargs.values()]) if id(each) in self._names}
        results = operation(*args, **kwargs)
        tensors = _tensors(results)
        if not tensors:
            for each in _tensors([*args, *kwargs.values()]):  # a number of the tensor is read
                self.universe.pin_labels(self.labels_of(each))
            return results
        name = operation.overloadpacket.__name__
        call = Call(self.universe, self.labels_of, self.in_groups, args, kwargs, tensors)
        if not is_known(name) and any(labels.blocks for labels in call.all_labels()):
            self.unknown[name] = self.unknown.get(name, 0) + 1
        made = rule_of(name)(call)
        for tensor, labels in zip(tensors, [made] if isinstance(made, Labels) else made, strict=False):
            self._labels[tensor] = labels
        return results


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [tensor for each in value.values() for tensor in _tensors(each)]
    if isinstance(value, (list, tuple)):
        return [tensor for each in value for tensor in _tensors(each)]
    return []
