"""In evaluation, batch norm after a convolution is part of the convolution.

With running mean μ and variance v, batch norm's γ·(y - μ)/√(v + ε) + β is affine in the convolution's output y, so the
two are one convolution with scaled weights and another bias. This saves a pass over the activations for each layer. It
is exact up to rounding and differentiable, since weights, γ and β enter as they are at each call.

Which pairs belong together is found by watching one run: a batch norm whose input is the very tensor that a convolution
returned, when nothing else reads that tensor. Both must be plain layers: weights that something computes (a
parametrization, spectral norm, pruning) and calls that something changes (hooks, a forward of the user's own) are left
alone, and so is a network that looks at its activations to decide what to run next. `changes_nothing` then compares
what comes out.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from landscape.runtime.hooks import hooked

Fold = tuple[Any, Any]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_ROUNDING = 1e-3


def find_folds(network: nn.Module, run: Callable[[], object]) -> list[Fold]:
    """The pairs of convolution and batch norm that can be one; each module is in one pair at most, and ran once.

    The network is in evaluation mode, and `run` sends something through it.
    """
    outputs: dict[int, tuple[Any, Tensor]] = {}
    inputs: list[tuple[Any, Tensor]] = []
    calls: Counter[nn.Module] = Counter()

    def after_convolution(module: nn.Module, arguments: Any, named: Any, output: Tensor) -> None:
        calls[module] += 1
        outputs[id(output)] = (module, output)

    def before_norm(module: nn.Module, arguments: tuple[Tensor, ...], named: Any) -> None:
        calls[module] += 1
        if not module.training and arguments:
            inputs.append((module, arguments[0]))

    plain = list(filter(_is_plain, network.modules()))
    convolutions = [module for module in plain if type(module) in _CONVOLUTIONS]
    norms = [module for module in plain if type(module) in _NORMS and module.running_mean is not None]
    if not (convolutions and norms):  # nor is there any need to load what watching takes, for seconds
        return []
    with (
        _Readers() as readers,
        hooked(convolutions, after=after_convolution),
        hooked(norms, before=before_norm),
        hooked([network], before=readers.enter_network, after=readers.leave_network, always=True),
    ):
        run()
    if readers.has_decided:  # it might have decided otherwise by what a folded convolution gives
        return []
    # The norm must read the very tensor that the convolution made: `id` tells, since `readers` keeps all alive. Whoever
    # else reads it would see the normalised values, and a module that runs twice would be folded with one norm in both.
    return [
        (outputs[id(tensor)][0], norm)
        for norm, tensor in inputs
        if id(tensor) in outputs
        and readers.counts[id(tensor)] == 1
        and calls[norm] == calls[outputs[id(tensor)][0]] == 1
    ]


def _is_plain(module: nn.Module) -> bool:
    """Whether a layer's weights are parameters of its own and nothing changes what it does with them."""
    own = "forward" in vars(module) or "_conv_forward" in vars(module)
    has_hooks = any(getattr(module, hooks) for hooks in _HOOKS)
    return not own and not has_hooks and {"weight", "bias"} <= module._parameters.keys()


def changes_nothing(folds: Sequence[Fold], losses: Callable[[], Tensor]) -> bool:
    """Whether losses `[B]` come out as they do without the folds, up to rounding.

    The pairs' statistics and weights are moved while it is tried, since those of a network that has not been trained
    hide whatever goes wrong.
    """
    moved = [t for _, norm in folds for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias)]
    moved += [convolution.weight for convolution, _ in folds]
    with torch.no_grad():
        before = [(tensor, tensor.clone()) for tensor in moved if tensor is not None]
    try:
        with torch.no_grad():
            for tensor, _ in before:
                tensor.mul_(torch.linspace(1.1, 1.4, tensor.numel(), device=tensor.device).to(tensor).view_as(tensor))
        plain = losses()
        with folded(folds):
            combined = losses()
    finally:
        with torch.no_grad():
            for tensor, values in before:
                tensor.copy_(values)
    finite = plain[plain.isfinite()].abs()
    allowed = _ROUNDING * float(finite.max()) if finite.numel() else 0.0
    return torch.allclose(combined, plain, rtol=0.0, atol=allowed, equal_nan=True)


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
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -norm.running_mean if convolution.bias is None else convolution.bias - norm.running_mean
    bias = shift * scale if norm.bias is None else torch.addcmul(norm.bias, shift, scale)
    return convolution.weight * scale.view(-1, *[1] * (convolution.weight.ndim - 1)), bias


def _pass(x: Tensor) -> Tensor:
    return x


class _Readers(TorchDispatchMode):
    """Counts how many operations read each tensor, and sees whether the network looks at a value to decide by it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[int] = Counter()
        self.has_decided = False
        self._inside = 0
        self._alive: list[Tensor] = []

    def enter_network(self, *_: Any) -> None:
        self._inside += 1

    def leave_network(self, *_: Any) -> None:
        self._inside -= 1

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.has_decided |= self._inside > 0 and function is torch.ops.aten._local_scalar_dense.default
        read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        self.counts.update(id(tensor) for tensor in read)
        self._alive.extend(read)
        return function(*args, **(kwargs or {}))
