"""In evaluation, batch norm after a convolution is part of the convolution.

With running mean μ and variance v, batch norm's γ·(y - μ)/√(v + ε) + β is affine in the convolution's output y, so the
two are one convolution with scaled weights and another bias. This saves a pass over the activations for each layer. It
is exact up to rounding and differentiable, since weights, γ and β enter as they are at each call.

Which pairs belong together is found by watching one run: a batch norm whose input is the very tensor that a convolution
returned, when nothing else reads that tensor.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Fold = tuple[Any, Any]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def find_folds(network: nn.Module, run: Callable[[], object]) -> list[Fold]:
    """The pairs of convolution and batch norm that can be one.

    Args:
        network: in evaluation mode.
        run: sends something through the network.

    Returns:
        The pairs; each module is in one pair at most, and ran once.
    """
    outputs: dict[int, tuple[Any, Tensor]] = {}
    inputs: list[tuple[Any, Tensor]] = []
    calls: Counter[nn.Module] = Counter()

    def after_convolution(module: nn.Module, _: Any, output: Tensor) -> None:
        calls[module] += 1
        outputs[id(output)] = (module, output)

    def before_norm(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        calls[module] += 1
        inputs.append((module, arguments[0]))

    with ExitStack() as hooks, torch.no_grad(), _Readers() as readers:
        for module in network.modules():
            if type(module) in _CONVOLUTIONS:
                hooks.enter_context(_removing(module.register_forward_hook(after_convolution)))
            elif type(module) in _NORMS and module.running_mean is not None:
                hooks.enter_context(_removing(module.register_forward_pre_hook(before_norm)))
        run()
    return [
        (outputs[id(tensor)][0], norm)
        for norm, tensor in inputs
        if id(tensor) in outputs
        and readers.counts[id(tensor)] == 1
        and calls[norm] == calls[outputs[id(tensor)][0]] == 1
    ]


@contextmanager
def folded(folds: Sequence[Fold]) -> Iterator[None]:
    """Run each pair as one convolution; the modules are as before afterwards.

    Without gradients the common weights are computed once, so neither parameters nor statistics may change inside.
    """
    for convolution, norm in folds:
        fixed = None if torch.is_grad_enabled() else _fold(convolution, norm)
        convolution.forward = partial(_convolve, convolution, norm, fixed)
        norm.forward = _pass
    try:
        yield
    finally:
        for convolution, norm in folds:
            del convolution.forward, norm.forward


def _convolve(convolution: Any, norm: Any, fixed: tuple[Tensor, Tensor] | None, x: Tensor) -> Tensor:
    weight, bias = fixed or _fold(convolution, norm)
    return convolution._conv_forward(x, weight, bias)  # type: ignore[no-any-return]


def _fold(convolution: Any, norm: Any) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution that does what both do."""
    scale = torch.rsqrt(norm.running_var + norm.eps)
    if norm.affine:
        scale = scale * norm.weight
    shift = -norm.running_mean if convolution.bias is None else convolution.bias - norm.running_mean
    bias = torch.addcmul(norm.bias, shift, scale) if norm.affine else shift * scale
    return convolution.weight * scale.view(-1, *[1] * (convolution.weight.ndim - 1)), bias


def _pass(x: Tensor) -> Tensor:
    return x


class _Readers(TorchDispatchMode):
    """Counts how many operations read each tensor."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[int] = Counter()
        self._alive: list[Tensor] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        self.counts.update(id(tensor) for tensor in read)
        self._alive.extend(read)
        return function(*args, **(kwargs or {}))


@contextmanager
def _removing(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()
