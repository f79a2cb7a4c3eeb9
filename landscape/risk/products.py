"""Products of vectors with second derivatives of a mean loss over batches: the Hessian and the Gauss-Newton matrix.

Both are exact (Pearlmutter 1994; Schraudolph 2002), reverse over reverse. What does not depend on the vector is kept
from one product to the next, for as many batches as memory allows: a product then costs little more than half.
"""

import copy
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from landscape.errors import ProblemError
from landscape.problems.losses import ClassScores, Loss, differentiable, per_example
from landscape.problems.splits import Batch
from landscape.risk.convolutions import OPERATIONS, TwiceDifferentiable
from landscape.risk.softmax import SoftmaxCurvature, owned
from landscape.runtime.hooks import hooked
from landscape.runtime.memory import available_bytes
from landscape.space.parameters import ParameterSpace

Shares = Callable[[], Iterable[tuple[Batch, float]]]
"""Gives all batches anew, each with its share of the mean."""


class BatchMap(Protocol):
    """Adds a batch's product with a vector, one tensor a chosen segment, to the space's gradient."""

    def __call__(self, vector: Sequence[Tensor], *, again: bool) -> None: ...


Linearised = tuple[BatchMap, Sequence[Tensor]]
"""A batch's map, and the tensors that it keeps beside those in its graph."""

Matrix = Literal["hessian", "gauss_newton"]

_SHARE_OF_MEMORY = 4


def hessian_products(space: ParameterSpace, loss: Loss, shares: Shares, chosen: Tensor | None = None) -> "Products":
    """Products with the Hessian of the mean loss where the space's network stands, and must stay; see `Products`.

    Raises:
        ProblemError: the loss cannot be differentiated twice; also raised by the products.
    """
    parameters = _chosen_parameters(space, chosen)

    def linearise(batch: Batch, share: float, own: set[str] | None) -> Linearised:
        mean = share * differentiable(per_example(loss, space.network, batch)[0]).mean()
        gradients = torch.autograd.grad(mean, parameters, create_graph=True, materialize_grads=True)
        if own is not None:
            own |= _require_second_derivative(gradients)

        def add(vector: Sequence[Tensor], *, again: bool) -> None:
            _backward(gradients, vector, parameters, again=again)

        return add, ()

    return Products(space, shares, linearise, chosen)


def gauss_newton_products(
    space: ParameterSpace, loss: Loss, shares: Shares, chosen: Tensor | None = None
) -> "Products":
    """Products with the generalised Gauss-Newton matrix JᵀBJ of the mean loss where the space's network stands.

    J is the Jacobian of the network's outputs and B the Hessian of the loss in them. For the cross-entropy this is the
    Fisher matrix, and it has no negative eigenvalue wherever the loss is convex in the outputs. The loss must call the
    network once, and depend on the parameters through its outputs alone. Of a loss that says which cross entropies of
    scores its mean is (`ClassScores`), the scores count as the outputs, and beside them it takes as much memory again.

    Raises:
        ProblemError: the loss is not of that kind, or cannot be differentiated twice; also raised by the products.
    """
    parameters = _chosen_parameters(space, chosen)

    def linearise(batch: Batch, share: float, own: set[str] | None) -> Linearised:
        head = _head(space.network, loss, batch, share, None if own is None else parameters)
        pulled = torch.autograd.grad(head.outputs, parameters, head.weights, create_graph=True, materialize_grads=True)
        if own is not None:
            own |= _require_second_derivative([*head.slopes, *pulled])

        def add(vector: Sequence[Tensor], *, again: bool) -> None:
            pushed = _pulled_back(pulled, vector, head.weights)
            _backward(head.outputs, head.curved(pushed, vector), parameters, again=again)

        return add, head.kept

    return Products(space, shares, linearise, chosen)


class Products:
    """A linear map from `[P]` to `[P]` that is a sum over batches.

    The batches' maps are kept from one product to the next, as far as a quarter of the free memory goes.

    Args:
        space: whose gradient buffer takes the sum.
        shares: the batches.
        chosen: the parameters that the matrix is about, boolean `[P]`, whole tensors of them; elsewhere the product is
            0, whatever the vector, and costs nothing. By default all.
        linearise: makes a batch's map from the batch and its share; for the first batch it also checks that there is
            one, and adds the names of the network's own differentiable operations to the third argument.
    """

    def __init__(
        self,
        space: ParameterSpace,
        shares: Shares,
        linearise: Callable[[Batch, float, set[str] | None], Linearised],
        chosen: Tensor | None = None,
    ) -> None:
        self._space, self._shares, self._linearise = space, shares, linearise
        self._segments = _chosen_segments(space, chosen)
        self._kept: dict[int, BatchMap] = {}
        self._checked, self._counts = False, True
        self.custom_operations: set[str] = set()
        self._room: float = available_bytes(space.device) // _SHARE_OF_MEMORY

    def __call__(self, vector: Tensor) -> Tensor:
        """The product with a vector `[P]`, a new `[P]`."""
        views = [self._space.segments[index].view(vector) for index in self._segments]
        total = self._space.gradient.zero_()
        for number, (batch, share) in enumerate(self._shares()):
            add = self._kept.get(number)
            if add is None:
                add, size = self._linearised(batch, share)
                if size <= self._room:
                    self._kept[number] = add
                    self._room -= size
            with _naming_what_does_not_differentiate_twice():
                add(views, again=number in self._kept)
        return total.clone()

    def forget(self) -> None:
        """Keep none of the batches' maps any longer."""
        self._kept.clear()

    def _linearised(self, batch: Batch, share: float) -> tuple[BatchMap, float]:
        """A batch's map, and the bytes that it keeps; infinite where they cannot be counted, under `torch.func`."""
        own = None if self._checked else self.custom_operations
        with TwiceDifferentiable(), self._only_chosen():
            if self._counts:
                try:
                    with _counting_bytes() as count:
                        add, kept = self._linearise(batch, share, own)
                    for tensor in kept:
                        count.add(tensor)
                    self._checked = True
                    return add, count.bytes
                except ProblemError as error:
                    if "saved tensor hooks" not in str(error):
                        raise
                    self._counts = False
            add, _ = self._linearise(batch, share, own)
            self._checked = True
            return add, math.inf

    @contextmanager
    def _only_chosen(self) -> Iterator[None]:
        """Let no gradient flow to the other parameters, which would cost time."""
        others = [p for i, p in enumerate(self._space.parameters) if i not in self._segments and p.requires_grad]
        try:
            for parameter in others:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter in others:
                parameter.requires_grad_()


PRODUCTS: Mapping[Matrix, Callable[..., Products]] = {
    "hessian": hessian_products,
    "gauss_newton": gauss_newton_products,
}


def _chosen_segments(space: ParameterSpace, chosen: Tensor | None) -> list[int]:
    """The numbers of the segments that take part."""
    return [i for i, segment in enumerate(space.segments) if chosen is None or bool(chosen[segment.offset])]


def _chosen_parameters(space: ParameterSpace, chosen: Tensor | None) -> list[torch.nn.Parameter]:
    return [space.parameters[index] for index in _chosen_segments(space, chosen)]


def _backward(
    functions: Sequence[Tensor], vector: Sequence[Tensor], parameters: Sequence[Tensor], *, again: bool
) -> None:
    """Add the functions' Jacobian in the parameters, transposed, times a vector to the parameters' gradients."""
    varying = [(f, v) for f, v in zip(functions, vector, strict=True) if f.requires_grad]
    if varying:
        outputs, vectors = zip(*varying, strict=True)
        torch.autograd.backward(outputs, vectors, retain_graph=again, inputs=list(parameters))


def _pulled_back(functions: Sequence[Tensor], vector: Sequence[Tensor], inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The functions' Jacobian in the inputs, transposed, times a vector."""
    varying = [(f, v) for f, v in zip(functions, vector, strict=True) if f.requires_grad]
    if not varying:
        return tuple(torch.zeros_like(tensor) for tensor in inputs)
    outputs, vectors = zip(*varying, strict=True)
    return torch.autograd.grad(outputs, inputs, vectors, retain_graph=True, materialize_grads=True)


class _Head(Protocol):
    """What follows the network's outputs in one batch.

    Attributes:
        outputs: of the network, differentiable.
        weights: zeros like them, by which the outputs' gradients are pulled back and their derivatives pushed forward.
        slopes: whose graphs lead from the outputs to the loss.
        kept: tensors beside those in the graphs.
    """

    outputs: Sequence[Tensor]
    weights: Sequence[Tensor]
    slopes: Sequence[Tensor]
    kept: Sequence[Tensor]

    def curved(self, pushed: Sequence[Tensor], vector: Sequence[Tensor]) -> Sequence[Tensor]:
        """The Hessian of the loss in the outputs times the change of them `pushed` that a vector causes."""


class _SoftmaxHead:
    """Scores of classes, whose loss needs no graph."""

    slopes: Sequence[Tensor] = ()

    def __init__(self, scores: Tensor, weights: Tensor) -> None:
        self.outputs: Sequence[Tensor] = [scores]
        self.weights: Sequence[Tensor] = [scores.new_zeros(()).expand(scores.shape).requires_grad_()]  # one number
        self.kept: Sequence[Tensor] = [scores, weights]
        self._curvature = SoftmaxCurvature(scores, weights)

    def curved(self, pushed: Sequence[Tensor], vector: Sequence[Tensor]) -> Sequence[Tensor]:
        return [self._curvature(owned(pushed[0], vector))]


class _LossHead:
    """Outputs whose loss is differentiated twice."""

    kept: Sequence[Tensor] = ()

    def __init__(self, call: "_Call", mean: Tensor) -> None:
        self.outputs: Sequence[Tensor] = call.outputs
        self._leaves = call.leaves
        self.weights: Sequence[Tensor] = [torch.zeros_like(output, requires_grad=True) for output in call.outputs]
        self.slopes: Sequence[Tensor] = torch.autograd.grad(
            mean, call.leaves, create_graph=True, materialize_grads=True
        )

    def curved(self, pushed: Sequence[Tensor], vector: Sequence[Tensor]) -> Sequence[Tensor]:
        return _pulled_back(self.slopes, pushed, self._leaves)


def _head(
    network: torch.nn.Module, loss: Loss, batch: Batch, share: float, parameters: Sequence[Tensor] | None
) -> _Head:
    """Run a loss, and check that it depends on parameters through the outputs alone, where these are given."""
    with _cut_outputs(network) as call:
        losses = differentiable(per_example(loss, network, batch)[0])
    if parameters is not None:
        _require_outputs_alone(losses, parameters)
    named: object = loss
    rows = named.scores_and_labels(call.result, batch) if isinstance(named, ClassScores) else None
    if rows is None or rows.weights is None or not rows.scores.requires_grad:
        return _LossHead(call, share * losses.mean())
    return _SoftmaxHead(rows.scores, share * rows.weights)


@dataclass
class _Call:
    """The network's one call: its result, the differentiable tensors in it, and leaves that the loss got for them."""

    result: Any = None
    outputs: list[Tensor] = field(default_factory=list)
    leaves: list[Tensor] = field(default_factory=list)


@contextmanager
def _cut_outputs(network: torch.nn.Module) -> Iterator[_Call]:
    """Have the network's one call give out leaves in the place of its differentiable outputs; gathers both."""
    call, calls = _Call(), 0

    def cut(value: Any) -> Any:
        if isinstance(value, Tensor) and value.requires_grad:
            call.outputs.append(value)
            call.leaves.append(value.detach().requires_grad_())
            return call.leaves[-1]
        if isinstance(value, MutableMapping):
            value = copy.copy(value)
            for key in value:
                value[key] = cut(value[key])
        elif isinstance(value, tuple | list):
            return type(value)(*map(cut, value)) if hasattr(value, "_fields") else type(value)(map(cut, value))
        return value

    def replace(module: Any, inputs: Any, named: Any, result: Any) -> Any:
        nonlocal calls
        calls, call.result = calls + 1, result
        return cut(result)

    with hooked([network], after=replace):
        yield call
    if calls != 1 or not call.outputs:
        reason = (
            "its outputs hold no differentiable tensor" if calls == 1 else f"the loss calls it {calls} times a batch"
        )
        raise ProblemError(
            f"the Gauss-Newton matrix needs a loss that calls the network once and uses its outputs; {reason}."
        )


def _require_outputs_alone(losses: Tensor, parameters: Sequence[Tensor]) -> None:
    """Check that the losses depend on the parameters through the outputs, or the matrix would leave something out."""
    beside = torch.autograd.grad(losses.sum(), parameters, retain_graph=True, allow_unused=True)
    if any(gradient is not None for gradient in beside):
        raise ProblemError(
            "the loss depends on the parameters beside the network's outputs, such as by a penalty on the weights; "
            "the Gauss-Newton matrix is not defined for it."
        )


def _require_second_derivative(gradients: Sequence[Tensor]) -> set[str]:
    """Check that the gradient's graph holds no operation that autograd cannot differentiate again.

    A product would leave some of them out in silence, since no path through them leads to the parameters. Returns the
    names of operations whose derivative is written in Python, our own left out.
    """
    nodes = [gradient.grad_fn for gradient in gradients if gradient.grad_fn is not None]
    seen = set(nodes)
    own = set()
    while nodes:
        node = nodes.pop()
        name = node.name().removesuffix("Backward")
        if hasattr(node, "saved_tensors") and name not in OPERATIONS:  # written in Python
            own.add(name)
        if node.name().rpartition(":")[2] in {"Error", "DelayedError"}:
            raise ProblemError(
                "the network cannot be differentiated twice: a custom operation is marked as once differentiable; "
                "replace it for curvature."
            )
        nodes += [following for following, _ in node.next_functions if following is not None and following not in seen]
        seen.update(nodes)
    return own


@contextmanager
def _naming_what_does_not_differentiate_twice() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if "not implemented" not in text:
            raise
        operation = re.search(r"aten::\w+|\w*[Bb]ackward\w*", text)
        name = operation.group() if operation else "an operation"
        raise ProblemError(
            f"the network cannot be differentiated twice: {name} is in the way; replace that operation "
            f"for curvature ({text.splitlines()[0]})."
        ) from error


class _Count:
    """How many bytes a graph keeps."""

    def __init__(self) -> None:
        self.bytes = 0
        self._seen: set[int] = set()

    def add(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return tensor.detach()  # itself it would be a cycle with the graph, which then nobody frees


@contextmanager
def _counting_bytes() -> Iterator[_Count]:
    """Count the tensors that autograd saves, each memory once."""
    count = _Count()
    with torch.autograd.graph.saved_tensors_hooks(count.add, lambda tensor: tensor):
        yield count
