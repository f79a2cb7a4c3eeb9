"""Losses by name, and the one way in which every loss is called.

A loss is a function `loss(model, batch) -> [B]`, one number for each example. It may return a pair instead: the losses
`[B]`, and how right each example is `[B]` in [0, 1], whose mean is the accuracy.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landscape.errors import LandscapeError, ProblemError
from landscape.problems.splits import Batch, leaf_tensors

_NO_LABEL = -100

Loss = Callable[[nn.Module, Batch], Tensor | tuple[Tensor, Tensor]]


def cross_entropy(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Cross entropy of the logits `[B, C]`, or `[B, C, ...]` averaged over positions, against labels or probabilities.

    Positions with the label -100 are left out, as torch does; an example without any other counts as a loss of 0.
    """
    inputs, targets = batch
    logits = model(inputs)
    losses = F.cross_entropy(logits, targets, reduction="none")
    if targets.is_floating_point():
        return _each(losses), _each(logits.argmax(dim=1) == targets.argmax(dim=1))
    right = logits.argmax(dim=1) == targets
    if targets.ndim < 2:
        return _each(losses), _each(right)
    labelled = (targets != _NO_LABEL).flatten(1)
    count = labelled.sum(dim=1).clamp_min(1)
    return losses.flatten(1).sum(dim=1) / count, (right.flatten(1) & labelled).sum(dim=1) / count


def mse(model: nn.Module, batch: Batch) -> Tensor | tuple[Tensor, Tensor]:
    """Squared error averaged over the outputs; class labels `[B]` are taken as one-hot vectors, with an accuracy."""
    inputs, targets = batch
    outputs = model(inputs)
    if targets.is_floating_point():
        return _each((outputs - targets.view_as(outputs)).square())
    wanted = F.one_hot(targets, outputs.shape[1]).to(outputs.dtype)
    return _each((outputs - wanted).square()), _each(outputs.argmax(dim=1) == targets)


def per_example(loss: Loss, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor | None]:
    """Run a loss on a batch.

    Returns:
        The losses `[B]`, and how right each example is `[B]`, or None where the loss does not say.

    Raises:
        ProblemError: the loss fails, or returns something else.
    """
    name = getattr(loss, "__name__", type(loss).__name__)
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
            raise ProblemError(f"the loss {name} must return one number for each example, {tuple(wanted)}; got {got}.")
        if values.is_complex():
            raise ProblemError(f"the loss {name} returns complex numbers, expected real ones, such as absolute values.")
    return losses, correct


def class_dimension(loss: Loss) -> int | None:
    """The dimension of the outputs that a loss takes for classes; None where it is not one of ours."""
    return 1 if loss is cross_entropy or loss is mse else None


def differentiable(losses: Tensor) -> Tensor:
    """The losses themselves; a ProblemError if they have no gradient."""
    if not losses.requires_grad:
        raise ProblemError(
            "the loss does not depend on the parameters by differentiable operations, so it has no gradient."
        )
    return losses


def _each(values: Tensor) -> Tensor:
    values = values.float() if values.dtype == torch.bool else values
    return values.flatten(1).mean(dim=1) if values.ndim > 1 else values
