"""How a network is called on a batch, and where in what it returns the scores of classes lie.

A batch is a pair `(inputs, targets)`, or a mapping such as `input_ids`, `attention_mask` and `labels`. A network
returns a tensor, or something that holds one: a dictionary, an object with `logits`, a tuple. Scores are `[B, C, ...]`,
as in torch, or `[B, ..., C]`, as in language models, and shapes do not tell the two apart.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import ProblemError
from landscape.problems.splits import Batch

_LABELS = ("labels", "label", "targets", "target")
_LAYOUT = "output_layout"  # an attribute of networks


@dataclass(frozen=True)
class Scores:
    """Scores of classes.

    Attributes:
        values: `[B, C, ...]` or `[B, ..., C]`, or `[B]` where there is a single one.
        dim: the dimension along which the classes lie.
        is_stated: whether something says so, beside what is usual for tensors.
    """

    values: Tensor
    dim: int
    is_stated: bool = False

    @property
    def places(self) -> torch.Size:
        """The shape `[B, ...]` of labels for them."""
        shape = self.values.shape
        return shape[: self.dim] + shape[self.dim + 1 :]

    @property
    def classes(self) -> int:
        """Their number C."""
        return self.values.shape[self.dim]

    def rows(self) -> Tensor:
        """The scores of each example and position `[M, C]`; a view where the classes come last."""
        return self.values.movedim(self.dim, -1).flatten(0, -2)


@dataclass(frozen=True)
class LabelledScores:
    """Scores of classes for one batch, a row for each example and position.

    Attributes:
        scores: `[M, C]`, differentiable, and a view of the network's where that has the classes last.
        labels: the right classes `[M]`; below 0 where there is none.
        weights: with which the mean loss of the batch is Σ weights · cross entropy, `[M]`, 0 where there is no label;
            None where the loss is not such a sum.
    """

    scores: Tensor
    labels: Tensor
    weights: Tensor | None = None


@dataclass(frozen=True)
class Outputs:
    """Where the scores lie in what a network returns.

    Attributes:
        classes_last: whether they are `[B, ..., C]` or else `[B, C, ...]`; None for what is usual: last in `logits`,
            and in all other kinds of result at dimension 1.
        extract: gives the scores; by default they are the result itself, its `logits`, as an attribute or an entry, its
            entry `out`, or the first of a tuple.
    """

    classes_last: bool | None = None
    extract: Callable[[Any], Any] | None = None

    def scores(self, result: Any) -> Scores:
        """The scores in what a network returned.

        Raises:
            ProblemError: there are none.
        """
        values, usually_last = self._found(result)
        last = usually_last if self.classes_last is None else self.classes_last
        is_stated = usually_last or self.classes_last is not None
        return Scores(values, values.ndim - 1 if last else min(1, values.ndim - 1), is_stated)

    def _found(self, result: Any) -> tuple[Tensor, bool]:
        """The scores, and whether the classes come last in such a result."""
        values, last = _usual(result) if self.extract is None else (self.extract(result), True)
        if isinstance(values, Tensor) and values.ndim:
            return values, last
        by = "" if self.extract is None else f", which {getattr(self.extract, '__name__', self.extract)} was given,"
        raise ProblemError(
            f"no scores are found in what the network returns: {_described(result)}{by} gives {_described(values)}, "
            "expected a tensor [B, ...]; let the problem's key `outputs` name a function from the one to the other."
        )


USUAL = Outputs()
OUTPUTS: Mapping[str, Outputs] = {"classes_first": Outputs(False), "classes_last": Outputs(True)}


def as_outputs(source: Any) -> Outputs:
    """The outputs that an `Outputs`, a name of the registry, or a function that gives scores `[B, ..., C]` stands for.

    Raises:
        ProblemError: it is none of these.
    """
    if isinstance(source, str) and source in OUTPUTS:
        return OUTPUTS[source]
    if isinstance(source, Outputs):
        return source
    if callable(source):
        return Outputs(True, source)
    raise ProblemError(f"the outputs are {source!r}, expected {', '.join(OUTPUTS)} or a function that gives scores.")


def outputs_of(network: nn.Module) -> Outputs:
    """What a network's attribute `output_layout` names, such as "classes_last"; else what is usual."""
    layout = getattr(network, _LAYOUT, None)
    return USUAL if layout is None else as_outputs(layout)


def run(network: nn.Module, batch: Batch) -> Any:
    """What a network returns for a batch, whose labels it is not given.

    It takes the first of a pair; the entries of a mapping by their names, or by position where there is only one.

    Raises:
        ProblemError: the batch is neither, or holds labels alone.
    """
    if not isinstance(batch, Mapping):
        return network(pair(batch)[0])
    inputs = {name: value for name, value in batch.items() if name not in _LABELS}
    if not inputs:
        raise ProblemError(f"a batch has the entries {', '.join(batch)}, expected inputs beside the labels.")
    return network(*inputs.values()) if len(inputs) == 1 else network(**inputs)


def pair(batch: Batch) -> tuple[Any, Any]:
    """Inputs and targets of a batch that is a pair.

    Raises:
        ProblemError: it is none.
    """
    if not isinstance(batch, Sequence) or len(batch) != 2:
        got = f"a {type(batch).__name__}" + (f" of {len(batch)}" if isinstance(batch, Sequence) else "")
        raise ProblemError(f"a batch is {got}, expected a pair (inputs, targets), or a mapping with labels.")
    return batch[0], batch[1]


def labels_in(batch: Batch) -> Any:
    """The labels of a batch: of a mapping by a usual name, else the last of several; None where there are none."""
    if isinstance(batch, Mapping):
        return next((batch[name] for name in _LABELS if name in batch), None)
    return batch[-1] if isinstance(batch, Sequence) and len(batch) > 1 else None


def targets_in(batch: Batch) -> Tensor:
    """The targets of a pair or a mapping.

    Raises:
        ProblemError: it has none.
    """
    targets = labels_in(batch) if isinstance(batch, Mapping) else pair(batch)[1]
    if isinstance(targets, Tensor):
        return targets
    if not isinstance(batch, Mapping):
        raise ProblemError(f"the targets of a batch are {_described(targets)}, expected a tensor.")
    raise ProblemError(
        f"a batch has the entries {', '.join(map(str, batch))}, expected a tensor of labels among them, as one of "
        f"{', '.join(_LABELS)}; tokens are their own labels for the loss causal_lm."
    )


def class_scores(result: Any, batch: Batch, outputs: Outputs = USUAL) -> LabelledScores | None:
    """Scores and labels of a batch, for a loss that does not say which they are.

    Args:
        result: what the network returned.
        batch: ends in the labels `[B, ...]`, or has them under a usual name.
        outputs: where the scores lie; where they do not say along which dimension the classes lie, the labels' shape
            does, if it leaves no doubt.

    Returns:
        The rows, without weights; None where there are no scores for integer labels, or where these are the tokens
        themselves, since only the loss knows which position's scores are for which.
    """
    labels = labels_in(batch)
    try:
        scores = outputs.scores(result)
    except ProblemError:
        return None
    if not isinstance(labels, Tensor) or scores.values.ndim < 2 or repeats_tokens(batch):
        return None
    whole = not labels.is_floating_point() and not labels.is_complex() and labels.dtype != torch.bool
    dims = {scores.dim} if outputs.classes_last is not None else {1, scores.values.ndim - 1}
    layouts = [replace(scores, dim=dim) for dim in sorted(dims)]
    layouts = [layout for layout in layouts if layout.places == labels.shape]
    if not whole or not layouts or (len(layouts) > 1 and not scores.is_stated):
        return None
    is_known = not labels.numel() or int(labels.max()) < layouts[-1].classes
    return LabelledScores(layouts[-1].rows(), labels.flatten()) if is_known else None


def repeats_tokens(batch: Batch) -> bool:
    """Whether the labels of a mapping are its `input_ids` wherever there is a label: then they are for next tokens."""
    if not isinstance(batch, Mapping):
        return False
    tokens, labels = batch.get("input_ids"), labels_in(batch)
    if not (isinstance(tokens, Tensor) and isinstance(labels, Tensor) and tokens.shape == labels.shape):
        return False
    labelled = labels >= 0
    return bool(labelled.any()) and torch.equal(tokens[labelled], labels[labelled].to(tokens.dtype))


def _usual(result: Any) -> tuple[Any, bool]:
    """The scores in a result of a usual kind, and whether it has the classes last."""
    if isinstance(result, Tensor):
        return result, False
    entries = result if isinstance(result, Mapping) else {}
    logits = entries["logits"] if "logits" in entries else getattr(result, "logits", None)
    if logits is not None:
        return logits, True
    if "out" in entries:
        return entries["out"], False
    return (result[0], False) if isinstance(result, tuple | list) and result else (None, False)


def _described(value: Any) -> str:
    """The kind of a value, with its shape or what it holds."""
    kind = type(value).__name__
    if isinstance(value, Tensor):
        return f"a {kind} {list(value.shape)}"
    if isinstance(value, Mapping):
        return f"a {kind} with {', '.join(map(str, value)) or 'nothing'}"
    if isinstance(value, tuple | list):
        return f"a {kind} of {', '.join(type(part).__name__ for part in value) or 'nothing'}"
    return "nothing" if value is None else f"a {kind}"
