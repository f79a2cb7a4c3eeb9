"""Losses by name, and the one way in which every loss is called.

A loss is a function `loss(model, batch) -> [B]`, one number for each example. It may return a pair instead: the losses
`[B]`, and how right each example is `[B]` in [0, 1], whose mean is the accuracy. The losses here run the network as
`landscape.problems.outputs` does, and find its scores as their `outputs` say.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landscape.errors import LandscapeError, ProblemError
from landscape.problems.outputs import (
    USUAL,
    LabelledScores,
    Outputs,
    Scores,
    class_scores,
    labels_in,
    repeats_tokens,
    run,
    targets_in,
)
from landscape.problems.splits import Batch, leaf_tensors

_NO_LABEL, _HALF = -100, 0.5
_OF_A_MEAN = (
    ", as of a mean over the batch, such as the loss that a network of Hugging Face computes when it is given labels; "
    "take causal_lm or cross_entropy by name, or reduction='none' and then the mean over each example's positions"
)

Loss = Callable[[nn.Module, Batch], Tensor | tuple[Tensor, Tensor]]


@runtime_checkable
class ClassScores(Protocol):
    """A loss that knows which scores its network gives to which labels."""

    def scores_and_labels(self, result: Any, batch: Batch) -> LabelledScores | None:
        """The scores in what the network returned for a batch; None where its labels are not classes."""


@dataclass(frozen=True)
class CrossEntropy:
    """Cross entropy of scores against labels `[B]` or `[B, ...]`, or against probabilities of the scores' shape.

    Each example's loss is the mean over its positions. Positions with the label -100 are left out, as torch does; an
    example without any other counts as a loss of 0.
    """

    outputs: Outputs = USUAL
    name: ClassVar[str] = "cross_entropy"

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        targets = targets_in(batch)
        return _cross_entropy(self.outputs.scores(run(model, batch)), targets)

    def scores_and_labels(self, result: Any, batch: Batch) -> LabelledScores | None:
        """See `ClassScores`."""
        targets = targets_in(batch)
        return None if targets.is_floating_point() else _weighted(self.outputs.scores(result), targets)


@dataclass(frozen=True)
class CausalLM:
    """Cross entropy of the next token, the mean over each sequence's tokens.

    Of a mapping, the labels are the tokens `[B, T]` themselves, and the scores `[B, T, V]` at a position are for the
    token after it, as in Hugging Face's models. Labels that are missing are `input_ids`, less what `attention_mask`
    hides. Of a pair, each position has its target, and nothing is shifted. The label -100 is left out; a sequence
    without any other counts as a loss of 0.
    """

    outputs: Outputs = USUAL
    name: ClassVar[str] = "causal_lm"

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        targets = _next_tokens(batch)
        return _cross_entropy(self._scores(run(model, batch)), targets)

    def scores_and_labels(self, result: Any, batch: Batch) -> LabelledScores | None:
        """See `ClassScores`."""
        return _weighted(self._scores(result), _next_tokens(batch))

    def _scores(self, result: Any) -> Scores:
        last = True if self.outputs.classes_last is None else self.outputs.classes_last
        return replace(self.outputs, classes_last=last).scores(result)


@dataclass(frozen=True)
class SquaredError:
    """Squared error averaged over the outputs; labels are taken as one-hot vectors, with an accuracy."""

    outputs: Outputs = USUAL
    name: ClassVar[str] = "mse"

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor | tuple[Tensor, Tensor]:
        targets = targets_in(batch)
        scores = self.outputs.scores(run(model, batch))
        values = scores.values
        if targets.is_floating_point():
            _require(targets.numel() == values.numel(), scores, targets, "one target for each of them")
            return _each((values - targets.view_as(values)).square())
        labels = _labels_for(scores, targets)
        wanted = _one_hot(scores, labels).to(values.dtype)
        return _each((values - wanted).square()), _each(values.argmax(dim=scores.dim) == labels)

    def scores_and_labels(self, result: Any, batch: Batch) -> LabelledScores | None:
        """See `ClassScores`."""
        targets = targets_in(batch)
        if targets.is_floating_point():
            return None
        scores = self.outputs.scores(result)
        return LabelledScores(scores.rows(), _labels_for(scores, targets).flatten())


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """Binary cross entropy of logits, averaged over an example's labels, against targets in [0, 1] of as many numbers.

    Each logit `[B]`, `[B, 1]` or `[B, K]` is for a label of its own, which it gets right where both are on one side.
    """

    outputs: Outputs = USUAL
    name: ClassVar[str] = "bce"

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        targets = targets_in(batch)
        logits = _precise(self.outputs.scores(run(model, batch)).values)
        wanted = _shares(logits, targets)
        losses = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        return _each(losses), _each((logits > 0) == (wanted > _HALF))

    def scores_and_labels(self, result: Any, batch: Batch) -> LabelledScores | None:
        """See `ClassScores`; targets between 0 and 1 are no labels."""
        logits = self.outputs.scores(result).values
        wanted = _shares(logits, targets_in(batch)).flatten()
        labels = torch.where((wanted == 0) | (wanted == 1), wanted, _NO_LABEL).long()
        return LabelledScores(torch.stack([torch.zeros_like(logits), logits], dim=-1).flatten(0, -2), labels)


cross_entropy, causal_lm, mse, bce = CrossEntropy(), CausalLM(), SquaredError(), BinaryCrossEntropy()


def with_outputs(loss: Loss, outputs: Outputs) -> Loss:
    """A loss of ours for such outputs, unless it states its own; any other loss as it is."""
    if isinstance(loss, CrossEntropy | CausalLM | SquaredError | BinaryCrossEntropy) and loss.outputs == USUAL:
        return replace(loss, outputs=outputs)
    return loss


def scores_and_labels(loss: Loss, outputs: Outputs, result: Any, batch: Batch) -> LabelledScores | None:
    """The scores of classes in what a network returned for a batch, and the labels that they are for.

    None where there are none, or where neither the loss nor `outputs` nor shapes say where they lie.
    """
    named: object = loss
    if isinstance(named, ClassScores):
        return None if result is None else named.scores_and_labels(result, batch)
    return class_scores(result, batch, outputs)


def require_suited(loss: Loss, batch: Batch) -> None:
    """Check by a few examples that no other loss is meant; this may wait for the device.

    Raises:
        ProblemError: each position's label is its token, and the loss is not that of the next token.
    """
    if isinstance(loss, CrossEntropy) and repeats_tokens(batch):
        raise ProblemError(
            "the labels of a batch are its input_ids, which no network is asked to repeat; take causal_lm for the loss "
            "of each next token, or where they are meant so, give pairs (inputs, targets)."
        )


def per_example(loss: Loss, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor | None]:
    """Run a loss on a batch.

    Returns:
        The losses `[B]`, and how right each example is `[B]`, or None where the loss does not say.

    Raises:
        ProblemError: the loss fails, or returns something else.
    """
    name = getattr(loss, "name", getattr(loss, "__name__", type(loss).__name__))
    try:
        result = loss(model, batch)
    except (LandscapeError, torch.OutOfMemoryError):
        raise
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise ProblemError(f"the loss {name} failed on a batch: {type(error).__name__}: {error}") from error
    losses, correct = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    wanted = next(leaf_tensors(batch)).shape[:1]
    for values in (losses, losses if correct is None else correct):
        if not isinstance(values, Tensor) or values.shape != wanted:
            got = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
            advice = _OF_A_MEAN if isinstance(values, Tensor) and values.ndim == 0 else ""
            raise ProblemError(
                f"the loss {name} must return one number for each example, {tuple(wanted)}; got {got}{advice}."
            )
        if values.is_complex():
            raise ProblemError(f"the loss {name} returns complex numbers, expected real ones, such as absolute values.")
    return losses, correct


def differentiable(losses: Tensor) -> Tensor:
    """The losses themselves; a ProblemError if they have no gradient."""
    if not losses.requires_grad:
        raise ProblemError(
            "the loss does not depend on the parameters by differentiable operations, so it has no gradient."
        )
    return losses


def _cross_entropy(scores: Scores, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Each example's mean cross entropy over its positions, and how many of them it gets right."""
    best = scores.values.argmax(dim=scores.dim)
    if targets.is_floating_point():
        _require(targets.shape == scores.values.shape, scores, targets, "probabilities of the scores' shape, or labels")
        return _each(_entropies(scores, targets)), _each(best == targets.argmax(dim=scores.dim))
    labels = _labels_for(scores, targets)
    losses, right = _entropies(scores, labels), best == labels
    if labels.ndim < 2:
        return _each(losses), _each(right)
    labelled = (labels != _NO_LABEL).flatten(1)
    count = labelled.sum(dim=1).clamp_min(1)
    return losses.flatten(1).sum(dim=1) / count, (right.flatten(1) & labelled).sum(dim=1) / count


def _entropies(scores: Scores, targets: Tensor) -> Tensor:
    """The cross entropy at each place `[B, ...]`, for labels of that shape or probabilities of the scores' shape."""
    values = _precise(scores.values)
    try:
        if scores.dim == 1:
            return F.cross_entropy(values, targets, reduction="none")
        flat = targets.flatten(0, -2) if targets.ndim == values.ndim else targets.flatten()
        return F.cross_entropy(values.flatten(0, -2), flat, reduction="none").view(scores.places)
    except (IndexError, RuntimeError) as error:
        labels = targets[targets != _NO_LABEL]
        if targets.is_floating_point() or not len(labels) or (labels.min() >= 0 and labels.max() < scores.classes):
            raise
        raise ProblemError(
            f"the labels of a batch reach from {int(labels.min())} to {int(labels.max())}, expected 0 to "
            f"{scores.classes - 1} for the network's {scores.classes} scores, or {_NO_LABEL} for what is left out."
        ) from error


def _weighted(scores: Scores, targets: Tensor) -> LabelledScores:
    """The rows of scores whose weighted cross entropy is the mean of the examples' losses."""
    labels = _labels_for(scores, targets)
    labelled = (labels != _NO_LABEL).view(len(labels), -1)
    counts = labelled.sum(dim=1, keepdim=True).clamp_min(1) * len(labels)
    weights = labelled.to(torch.promote_types(scores.values.dtype, torch.float32)) / counts
    return LabelledScores(scores.rows(), labels.flatten(), weights.flatten())


def _next_tokens(batch: Batch) -> Tensor:
    """For each position of the tokens `[B, T]` the label that its scores are for; see `CausalLM`."""
    if not isinstance(batch, Mapping):
        return targets_in(batch)
    tokens = labels_in(batch)
    if tokens is None:
        tokens = batch.get("input_ids")
        mask = batch.get("attention_mask")
        if not isinstance(tokens, Tensor) or (mask is not None and mask.shape != tokens.shape):
            raise ProblemError(
                f"a batch has neither labels nor input_ids with an attention_mask of their shape; it has "
                f"{', '.join(map(str, batch))}."
            )
        tokens = tokens if mask is None else tokens.masked_fill(mask == 0, _NO_LABEL)
    return F.pad(tokens[:, 1:], (0, 1), value=_NO_LABEL)


def _labels_for(scores: Scores, targets: Tensor) -> Tensor:
    """The targets as labels of the scores."""
    whole = not (targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool)
    _require(whole and targets.shape == scores.places, scores, targets, f"whole numbers {list(scores.places)}")
    return targets.long()


def _require(fits: bool, scores: Scores, targets: Tensor, expected: str) -> None:
    """Check that targets fit the scores; `expected` says what would."""
    if not fits:
        shape = list(scores.values.shape)
        raise ProblemError(
            f"the targets are {targets.dtype} {list(targets.shape)} for scores {shape} whose classes are taken to lie "
            f"along dimension {scores.dim}, expected {expected}; where the scores and their classes lie is said by the "
            "problem's key `outputs`: classes_first, classes_last or a function."
        )


def _one_hot(scores: Scores, labels: Tensor) -> Tensor:
    """One-hot vectors of the scores' shape."""
    return F.one_hot(labels, scores.classes).movedim(-1, scores.dim)


def _shares(logits: Tensor, targets: Tensor) -> Tensor:
    """The targets of binary labels as numbers of the logits' type and shape."""
    if targets.shape.numel() != logits.shape.numel() or targets.shape[0] != logits.shape[0]:
        raise ProblemError(
            f"the targets are {list(targets.shape)} for the logits {list(logits.shape)}, expected one in [0, 1] for "
            "each; for one label out of several classes use cross_entropy."
        )
    # On other devices looking at values would wait for them, and the first examples are no cheaper there.
    if targets.device.type == "cpu" and not ((targets >= 0) & (targets <= 1)).all():
        raise ProblemError(
            f"the targets reach from {targets.min().item():g} to {targets.max().item():g}, expected 0 to 1."
        )
    return targets.to(logits.dtype).view_as(logits)


def _precise(scores: Tensor) -> Tensor:
    """Scores in single precision at least."""
    return scores.float() if scores.dtype in {torch.float16, torch.bfloat16} else scores


def _each(values: Tensor) -> Tensor:
    values = values.float() if values.dtype == torch.bool else values
    return values.flatten(1).mean(dim=1) if values.ndim > 1 else values
