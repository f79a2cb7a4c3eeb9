"""What each operation of torch says of hidden units.

One rule for each kind of operation, by the names that operations have below autograd, where every module ends, whatever
it is made of. An operation without a rule pins the units of all that it is given.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from torch import Tensor

from connect.symmetry.units import Labels, Universe, fixed, uniform

Rule = Callable[["Call"], "Labels | Sequence[Labels]"]


class Call:
    """An operation with its arguments, their labels and its results.

    Args:
        universe: of the units.
        labels_of: the labels of a tensor.
        in_groups: the labels `[g, i]` of the second axis of weights `[g o, i, …]` that act in g groups.
        args: of the operation.
        kwargs: of the operation.
        results: its tensors.
    """

    def __init__(
        self,
        universe: Universe,
        labels_of: Callable[[Tensor], Labels],
        in_groups: Callable[[Tensor, int], Labels],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        results: Sequence[Tensor],
    ) -> None:
        self.universe, self.args, self.kwargs, self.results = universe, args, kwargs, results
        self._labels_of, self.in_groups = labels_of, in_groups

    def __getitem__(self, place: int) -> Any:
        return self.args[place] if place < len(self.args) else None

    def labels(self, place: int) -> Labels:
        """Those of an argument that is a tensor."""
        return self._labels_of(self.args[place])

    def tensors(self) -> list[Tensor]:
        """All arguments that are tensors, in lists too."""
        return [each for each in _flat([*self.args, *self.kwargs.values()]) if isinstance(each, Tensor)]

    def all_labels(self) -> list[Labels]:
        """Those of all arguments that are tensors."""
        return [self._labels_of(each) for each in self.tensors()]

    def of(self, tensor: Tensor) -> Labels:
        """Those of a tensor."""
        return self._labels_of(tensor)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the first result."""
        return tuple(self.results[0].shape)

    def axis(self, place: int, default: int = 0, rank: int | None = None) -> int:
        """An argument that names an axis, from 0."""
        axis = self.args[place] if place < len(self.args) else default
        return int(axis) % (len(self.labels(0).shape) if rank is None else rank or 1)


def _flat(values: Sequence[Any]) -> list[Any]:
    flat: list[Any] = []
    for value in values:
        flat += _flat(value) if isinstance(value, (list, tuple)) else [value]
    return flat


# ------------------------------------------------------------------ each number by itself


def _elementwise(call: Call) -> Labels:
    return call.universe.combine(call.shape, *call.all_labels())


def _alike(call: Call) -> Labels:
    return uniform(call.shape)


def _counted(call: Call) -> Labels:
    return fixed(call.shape)


# ------------------------------------------------------------------ the same numbers elsewhere


def _reshape(call: Call) -> Labels:
    return call.universe.reshaped(call.labels(0), call.shape)


def _strided(call: Call) -> Labels | list[Labels]:
    """Another order in memory of the same tensor."""
    return call.labels(0) if call.shape == call.labels(0).shape else _unknown(call)


def _permute(call: Call) -> Labels:
    rank = len(call.labels(0).shape)
    return call.labels(0).permuted([axis % rank for axis in call[1]])


def _transpose(call: Call) -> Labels:
    order = list(range(len(call.labels(0).shape)))
    one, other = call.axis(1), call.axis(2)
    order[one], order[other] = order[other], order[one]
    return call.labels(0).permuted(order)


def _t(call: Call) -> Labels:
    labels = call.labels(0)
    return labels.permuted(range(len(labels.shape))[::-1])


def _expand(call: Call) -> Labels:
    return call.labels(0).broadcast(call.shape)


def _unsqueeze(call: Call) -> Labels:
    return call.labels(0).inserted(call.axis(1, rank=len(call.shape)))


def _squeeze(call: Call) -> Labels:
    return call.universe.reshaped(call.labels(0), call.shape)


def _slice(call: Call) -> Labels:
    places = slice(call[2], call[3], call[4])
    return call.universe.taken(call.labels(0), call.axis(1), places)


def _select(call: Call) -> Labels:
    return call.universe.selected(call.labels(0), call.axis(1), call.args[2])


def _unbind(call: Call) -> list[Labels]:
    labels, axis = call.labels(0), call.axis(1)
    return [call.universe.selected(labels, axis, place) for place in range(labels.shape[axis])]


def _split(call: Call) -> list[Labels]:
    labels, axis = call.labels(0), call.axis(2)
    cuts = np.cumsum([0, *(result.shape[axis] for result in call.results)])
    return [call.universe.taken(labels, axis, slice(begin, end)) for begin, end in pairwise(cuts)]


def _cat(call: Call) -> Labels:
    parts = [part for part in call.args[0] if part.shape != (0,)]
    return call.universe.concatenated([call.of(part) for part in parts], call.axis(1, rank=len(call.shape)))


def _stack(call: Call) -> Labels:
    axis = call.axis(1, rank=len(call.shape))
    return call.universe.concatenated([call.of(part).inserted(axis) for part in call.args[0]], axis)


def _roll(call: Call) -> Labels:
    labels = call.labels(0)
    for shift, axis in zip(call[1], call[2] or [], strict=True):
        places = np.roll(np.arange(labels.shape[axis]), shift)
        labels = call.universe.taken(labels, axis % len(labels.shape), places)
    return labels


def _flip(call: Call) -> Labels:
    labels = call.labels(0)
    for axis in call[1]:
        labels = call.universe.taken(labels, axis % len(labels.shape), slice(None, None, -1))
    return labels


def _index_select(call: Call) -> Labels:
    return call.universe.taken(call.labels(0), call.axis(1), call.args[2].cpu().numpy())


def _pad(call: Call) -> Labels:
    labels = call.labels(0)
    for k in range(len(call[1]) // 2):
        axis = len(labels.shape) - 1 - k
        before, after = call[1][2 * k : 2 * k + 2]
        if labels.block(axis) is None or min(before, after) < 0:
            size = labels.shape[axis] + before + after
            shape = tuple(size if a == axis else s for a, s in enumerate(labels.shape))
            call.universe.apart(labels, axis)
            labels = replace(labels, shape=shape, fixed=labels.fixed | {axis})
            continue
        ends = [uniform(tuple(n if a == axis else s for a, s in enumerate(labels.shape))) for n in (before, after)]
        parts = [ends[0], labels, ends[1]]
        labels = call.universe.concatenated([part for part in parts if part.shape[axis]], axis)
    return labels


def _index(call: Call) -> Labels | list[Labels]:
    """Rows of a table: the axes that are indexed are fixed, the others go on."""
    labels, indices = call.labels(0), call.args[1]
    indexed = [axis for axis, index in enumerate(indices) if index is not None]
    if indexed != list(range(indexed[0], indexed[0] + len(indexed))):
        return _unknown(call)
    for axis in indexed:
        call.universe.apart(labels, axis)
    labels = _only(call, labels, [axis for axis in range(len(labels.shape)) if axis not in indexed])
    new = len(call.shape) - (len(labels.shape) - len(indexed))
    first = indexed[0]
    kept = labels.dropped(indexed)
    places = {k: k if k < first else k + new for k in range(len(kept.shape))}
    moved = kept.moved(places, call.shape)
    return replace(moved, fixed=moved.fixed | set(range(first, first + new)))


def _only(call: Call, labels: Labels, axes: Sequence[int]) -> Labels:
    """The same with blocks that lie within some axes, the others being fixed."""
    return call.universe.reduced(labels, [a for a in range(len(labels.shape)) if a not in axes], keep=True)


def _embedding(call: Call) -> Labels:
    table = call.labels(0)
    call.universe.apart(table, 0)
    rows = call.universe.reduced(table, [0])
    lead = len(call.shape) - 1
    moved = rows.moved({0: lead}, call.shape)
    return replace(moved, fixed=moved.fixed | set(range(lead)))


# ------------------------------------------------------------------ sums


def _reduce(call: Call) -> Labels:
    labels = call.labels(0)
    axes = call[1]
    if axes is None or axes == []:
        axes = range(len(labels.shape))
    axes = [axes] if isinstance(axes, int) else axes
    return call.universe.reduced(labels, axes, keep=len(call.shape) == len(labels.shape))


def _reduce_twice(call: Call) -> list[Labels]:
    return [_reduce(call) for _ in call.results]


def _softmax(call: Call) -> Labels:
    return _with_statistics(call, call.labels(0), [call.axis(1)])


def _with_statistics(call: Call, labels: Labels, axes: Sequence[int], *more: Labels) -> Labels:
    """Those of a function of a tensor and of sums over some of its axes."""
    sums = call.universe.reduced(labels, axes, keep=True)
    return call.universe.combine(labels.shape, labels, sums, *more)


def _pinned_along(call: Call) -> Labels:
    return call.universe.apart(call.labels(0), call.axis(1))


def _contracted(universe: Universe, one: Labels, other: Labels) -> Labels:
    """Those of a product of matrices `[..., i, k]` and `[..., k, j]`."""
    rank = max(len(one.shape), len(other.shape))
    shape = np.broadcast_shapes(one.shape[:-2], other.shape[:-2])
    one = one.broadcast((*((1,) * (rank - len(one.shape))), *one.shape)).inserted(rank)
    other = other.broadcast((*((1,) * (rank - len(other.shape))), *other.shape)).inserted(rank - 2)
    joint = (*shape, one.shape[-3], one.shape[-2], other.shape[-1])
    return universe.reduced(universe.combine(joint, one, other), [rank - 1])


def _matrix_product(call: Call) -> Labels:
    return _contracted(call.universe, call.labels(0), call.labels(1))


def _added_product(call: Call) -> Labels:
    product = _contracted(call.universe, call.labels(1), call.labels(2))
    return call.universe.combine(call.shape, call.labels(0), product)


def _matrix_vector(call: Call) -> Labels:
    return _contracted(call.universe, call.labels(0), call.labels(1).inserted(1)).dropped([1])


def _dot(call: Call) -> Labels:
    both = call.universe.combine(call.labels(0).shape, call.labels(0), call.labels(1))
    return call.universe.reduced(both, [0])


def _attention(call: Call) -> list[Labels]:
    """Scaled products of queries and keys `[b, h, t, d]`, softmax, and their mean of the values."""
    universe, (queries, keys, values) = call.universe, (call.labels(k) for k in range(3))
    heads = queries.shape[1]
    keys, values = (_repeated(universe, each, heads) for each in (keys, values))
    scores = _contracted(universe, queries, keys.permuted([0, 1, 3, 2]))
    mask = call.kwargs.get("attn_mask")
    if mask is not None:
        scores = universe.combine(scores.shape, scores, call.of(mask))
    out = _contracted(universe, scores, values)
    return [out, *(fixed(result.shape) for result in call.results[1:])]


def _repeated(universe: Universe, labels: Labels, heads: int) -> Labels:
    """Keys or values whose heads serve several heads of queries each."""
    batch, own, length, width = labels.shape
    if own == heads:
        return labels
    spread = labels.inserted(2).broadcast((batch, own, heads // own, length, width))
    return universe.reshaped(spread, (batch, heads, length, width))


def _convolution(call: Call) -> Labels:
    """A convolution `[b, c, …]` with weights `[o, c / g, …]`, or transposed with `[c, o / g, …]`, in g groups."""
    universe = call.universe
    inputs, weight = call.labels(0), call.labels(1)
    is_transposed, groups = call.args[6], call.args[8]
    rank = len(inputs.shape)
    for labels in (inputs, weight):
        for axis in range(2, rank):
            universe.apart(labels, axis)
    channels = universe.reduced(inputs, [0, *range(2, rank)])
    if groups > 1:
        out = _grouped(call, channels, universe.reduced(weight, range(1, rank)), groups, is_transposed)
    else:
        weight = universe.reduced(weight, range(2, rank))
        weight = weight.permuted([1, 0]) if is_transposed else weight
        out = universe.reduced(universe.combine(weight.shape, weight, channels.inserted(0)), [1])
    spatial = out.moved({0: 1}, call.shape)
    result = replace(spatial, fixed=spatial.fixed | {0} | set(range(2, rank)))
    return result if call[2] is None else _with_channels(universe, result, call.labels(2))


def _grouped(call: Call, channels: Labels, first: Labels, groups: int, is_transposed: bool) -> Labels:
    """Those of the channels that a convolution in groups makes of others.

    Args:
        call: of the convolution.
        channels: those that it is given, `[c]`.
        first: of the first axis of the weights.
        groups: their number.
        is_transposed: whether that axis is of the channels given.
    """
    universe = call.universe
    channels = universe.reshaped(channels, [groups, channels.shape[0] // groups])
    first = universe.reshaped(first, [groups, first.shape[0] // groups])
    second = call.in_groups(call.args[1], groups)
    ins, outs = (first, second) if is_transposed else (second, first)
    ins = universe.combine(ins.shape, ins, channels)
    outs = universe.combine(outs.shape, outs, universe.reduced(ins, [1], keep=True))
    return universe.reshaped(outs, [outs.shape[0] * outs.shape[1]])


def _with_channels(universe: Universe, labels: Labels, *vectors: Labels) -> Labels:
    """Those of a function of a tensor `[b, c, …]` and of vectors `[c]`."""
    rank = len(labels.shape)
    spread = [v.moved({0: 1}, (1, v.shape[0], *(1,) * (rank - 2))) for v in vectors]
    return universe.combine(labels.shape, labels, *spread)


def _spatial(call: Call) -> Labels | list[Labels]:
    """Pooling and resizing, which act on each channel by itself."""
    labels = call.labels(0)
    lead = len(labels.shape) - _spatial_axes(call)
    for axis in range(lead, len(labels.shape)):
        call.universe.apart(labels, axis)
    kept = call.universe.reduced(labels, range(lead, len(labels.shape)), keep=True)
    result = replace(kept, shape=call.shape, fixed=kept.fixed | set(range(lead, len(call.shape))))
    return [result for _ in call.results]


def _spatial_axes(call: Call) -> int:
    size = call[1]
    rank = len(call.labels(0).shape)
    return min(len(size) if isinstance(size, (list, tuple)) else rank - 2, rank)


def _batch_norm(call: Call) -> list[Labels]:
    vectors = [call.of(call.args[k]) for k in range(1, 5) if isinstance(call[k], Tensor)]
    labels = _with_channels(call.universe, call.labels(0), *vectors)
    return [labels, *(uniform(result.shape) for result in call.results[1:])]


def _layer_norm(call: Call) -> list[Labels]:
    labels = call.labels(0)
    axes = range(len(labels.shape) - len(call.args[1]), len(labels.shape))
    affine = [call.of(call.args[k]) for k in (2, 3) if isinstance(call[k], Tensor)]
    result = _with_statistics(call, labels, axes, *affine)
    sums = call.universe.reduced(labels, axes, keep=True)
    return [result, *(sums for _ in call.results[1:])]


def _rms_norm(call: Call) -> list[Labels]:
    labels = call.labels(0)
    axes = range(len(labels.shape) - len(call.args[1]), len(labels.shape))
    affine = [call.of(call.args[2])] if isinstance(call[2], Tensor) else []
    sums = call.universe.reduced(labels, axes, keep=True)
    return [_with_statistics(call, labels, axes, *affine), *(sums for _ in call.results[1:])]


def _group_norm(call: Call) -> list[Labels]:
    universe, labels, groups = call.universe, call.labels(0), call.args[6]
    batch, channels, *rest = labels.shape
    grouped = universe.reshaped(labels, (batch, groups, channels // groups, *rest))
    normed = universe.reshaped(_with_statistics(call, grouped, range(2, len(grouped.shape))), labels.shape)
    vectors = [call.of(call.args[k]) for k in (1, 2) if isinstance(call[k], Tensor)]
    return [
        _with_channels(universe, normed, *vectors),
        *(fixed(result.shape) for result in call.results[1:]),
    ]


# ------------------------------------------------------------------ all else


def _unknown(call: Call) -> list[Labels]:
    for labels in call.all_labels():
        call.universe.pin_labels(labels)
    return [fixed(result.shape) for result in call.results]


def _names(text: str) -> list[str]:
    return text.split()


RULES: dict[str, Rule] = {
    **dict.fromkeys(_names("""
        abs add addcmul addcdiv bitwise_and bitwise_not bitwise_or ceil celu clamp clamp_max clamp_min clone cos deg2rad
        detach div elu eq erf exp expm1 fill floor ge gelu gt hardsigmoid hardswish hardtanh isfinite isinf isnan le
        leaky_relu lerp lift_fresh log log1p logical_and logical_not logical_or lt masked_fill maximum minimum mish mul
        ne neg nan_to_num pow reciprocal relu remainder round rsqrt rsub selu sigmoid sign silu sin softplus sqrt square
        sub tan tanh threshold where copy _to_copy alias hardshrink softshrink log_sigmoid_forward floor_divide fmod
        _conj contiguous positive sgn trunc native_dropout bernoulli logaddexp xlogy prelu _prelu_kernel
    """), _elementwise),
    **dict.fromkeys(_names("""
        empty empty_like empty_strided full full_like new_empty new_full new_ones new_zeros ones ones_like scalar_tensor
        zeros zeros_like
    """), _alike),
    **dict.fromkeys(_names("arange linspace eye rand randn randint randperm rand_like randn_like tril triu"), _counted),
    **dict.fromkeys(_names("view _unsafe_view reshape _reshape_alias squeeze"), _reshape),
    **dict.fromkeys(_names("""
        sum mean amax amin any all prod var std norm linalg_vector_norm logsumexp
    """), _reduce),
    **dict.fromkeys(_names("var_mean std_mean"), _reduce_twice),
    **dict.fromkeys(_names("_softmax _log_softmax softmax log_softmax _safe_softmax"), _softmax),
    **dict.fromkeys(_names("cumsum cumprod sort topk argmax argmin max min"), _unknown),
    **dict.fromkeys(_names("split unsafe_split split_with_sizes unsafe_split_with_sizes chunk unsafe_chunk"), _split),
    **dict.fromkeys(_names("mm bmm matmul"), _matrix_product),
    **dict.fromkeys(_names("addmm baddbmm"), _added_product),
    **dict.fromkeys(_names("""
        avg_pool1d avg_pool2d avg_pool3d max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool2d
        upsample_nearest1d upsample_nearest2d upsample_bilinear2d upsample_bicubic2d _adaptive_avg_pool2d
        _adaptive_avg_pool3d _upsample_bilinear2d_aa _upsample_bicubic2d_aa mkldnn_adaptive_avg_pool2d
        reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d upsample_linear1d
    """), _spatial),
    **dict.fromkeys(_names("""
        native_batch_norm _native_batch_norm_legit_no_training _native_batch_norm_legit cudnn_batch_norm
        _batch_norm_no_update miopen_batch_norm _batch_norm_with_update
    """), _batch_norm),
    **dict.fromkeys(_names("""
        _scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention
        _scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention
        _scaled_dot_product_attention_math _scaled_dot_product_fused_attention_overrideable
    """), _attention),
    "as_strided": _strided,
    "permute": _permute,
    "transpose": _transpose,
    "t": _t,
    "expand": _expand,
    "unsqueeze": _unsqueeze,
    "slice": _slice,
    "select": _select,
    "unbind": _unbind,
    "cat": _cat,
    "stack": _stack,
    "roll": _roll,
    "flip": _flip,
    "index_select": _index_select,
    "constant_pad_nd": _pad,
    "index": _index,
    "embedding": _embedding,
    "mv": _matrix_vector,
    "dot": _dot,
    "convolution": _convolution,
    "native_layer_norm": _layer_norm,
    "_fused_rms_norm": _rms_norm,
    "native_group_norm": _group_norm,
}  # fmt: skip


def rule_of(name: str) -> Rule:
    """The rule of an operation by its name without namespace and overload; in place it is the same."""
    is_in_place = name.endswith("_") and not name.endswith("__")
    return RULES.get(name) or (RULES.get(name[:-1]) if is_in_place else None) or _unknown


def is_known(name: str) -> bool:
    """Whether an operation has a rule."""
    return rule_of(name) is not _unknown
