"""Operations in the place of those whose second derivatives torch takes slowly, wrongly or not at all.

Differentiating torch's backward convolution once more gives the gradient of the weights by a convolution of transposed
batches, which is slow. The backward convolution is bilinear in its output's gradient and in what it is applied to, so
that its own derivative is one more backward convolution and two forward ones. The second derivative of torch's fused
weight normalisation is wrong; here it is put together from plain operations. Gradient checkpointing of the reentrant
kind loses the gradients of the parameters inside, and runs plainly here.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import CheckpointFunction

OPERATIONS = ("_Convolution", "_Backward")  # that autograd's graph knows by these names
_DIMENSIONS = {torch.conv1d: 1, torch.conv2d: 2, torch.conv3d: 3}


class TwiceDifferentiable(TorchFunctionMode):
    """Inside this context, operations are those of this module."""

    def __enter__(self) -> Any:
        self._checkpoint = vars(CheckpointFunction).get("apply")
        CheckpointFunction.apply = staticmethod(_run_plainly)
        return super().__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        if self._checkpoint is None:
            del CheckpointFunction.apply
        else:
            CheckpointFunction.apply = self._checkpoint

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Replace what is to be replaced; whatever is asked for in an unusual way stays torch's own."""
        kwargs = kwargs or {}
        if function is torch._weight_norm:
            return _weight_norm(*args, **kwargs)
        count = _DIMENSIONS.get(function)
        if count is None:
            return function(*args, **kwargs)
        return _replaced(function, count, *args, **kwargs)


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """Each slice along a dimension has the length that g says (Salimans and Kingma 2016, arXiv 1602.07868, eq. 2)."""
    return v * (g / torch.norm_except_dim(v, 2, dim))


def _run_plainly(run: Callable[..., Any], preserve: bool, *args: Any) -> Any:
    """What `CheckpointFunction.apply` returns, with everything kept."""
    return run(*args)


def _replaced(
    function: Callable[..., Tensor],
    count: int,
    input: Tensor,  # as torch calls it, since it may be given by name
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    if isinstance(padding, str) or input.dim() != count + 2 or is_transformed():
        return function(input, weight, bias, stride, padding, dilation, groups)
    settings = (*(_each(value, count) for value in (stride, padding, dilation)), groups)
    output: Tensor = _Convolution.apply(input, weight, bias, settings)
    return output


def is_transformed() -> bool:
    """Whether `torch.func` is at work, such as a loss that maps a derivative over the examples."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def _each(value: Any, count: int) -> list[int]:
    return [value] * count if isinstance(value, int) else list(value) * (count if len(value) == 1 else 1)


_Settings = tuple[list[int], list[int], list[int], int]


def _forward(inputs: Tensor, weight: Tensor, bias: Tensor | None, settings: _Settings) -> Tensor:
    stride, padding, dilation, groups = settings
    return torch.ops.aten.convolution(  # type: ignore[no-any-return]
        inputs, weight, bias, stride, padding, dilation, False, [0] * len(stride), groups
    )


def _backward(
    slope: Tensor, inputs: Tensor, weight: Tensor, settings: _Settings, wanted: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients in the input, the weights and the bias, as far as they are wanted."""
    stride, padding, dilation, groups = settings
    return torch.ops.aten.convolution_backward(  # type: ignore[no-any-return]
        slope, inputs, weight, [weight.shape[0]], stride, padding, dilation, False, [0] * len(stride), groups, wanted
    )


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, settings: _Settings) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.settings = settings
        return _forward(inputs, weight, bias, settings)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:
        inputs, weight = ctx.saved_tensors
        return *_Backward.apply(slope, inputs, weight, ctx.settings, list(ctx.needs_input_grad[:3])), None


class _Backward(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, slope: Tensor, inputs: Tensor, weight: Tensor, settings: _Settings, wanted: list[bool]
    ) -> Any:
        ctx.save_for_backward(slope, inputs, weight)
        ctx.settings = settings
        ctx.set_materialize_grads(False)
        return _backward(slope, inputs, weight, settings, wanted)

    @staticmethod
    def backward(ctx: Any, of_input: Tensor | None, of_weight: Tensor | None, of_bias: Tensor | None) -> Any:
        """From what changes with the three gradients to what changes with the slope, the input and the weights."""
        slope, inputs, weight = ctx.saved_tensors
        slope_wanted, input_wanted, weight_wanted = ctx.needs_input_grad[:3]
        parts = []
        if slope_wanted and of_input is not None:
            parts.append(_forward(of_input, weight, of_bias, ctx.settings))
        if slope_wanted and of_weight is not None:
            parts.append(_forward(inputs, of_weight, None if parts else of_bias, ctx.settings))
        if slope_wanted and of_bias is not None and not parts:
            parts.append(of_bias.reshape(1, -1, *[1] * (slope.dim() - 2)).expand_as(slope))
        wanted = [input_wanted and of_weight is not None, weight_wanted and of_input is not None, False]
        gradients: Any = (None, None, None)
        if any(wanted):
            gradients = _backward(
                slope,
                inputs if of_input is None else of_input,
                weight if of_weight is None else of_weight,
                ctx.settings,
                wanted,
            )
        return sum(parts) if parts else None, gradients[0], gradients[1], None, None
