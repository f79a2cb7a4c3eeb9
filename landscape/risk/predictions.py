"""What a network predicts: class scores and hidden representations, met on the way while a loss runs it.

A loss calls the network itself, so scores are taken from the network's output as it passes by, and labels from the
batch, as `Problem.scores_and_labels` finds them. Where outputs are not class scores for integer labels there is nothing
to tell, and losses alone are left.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landscape.errors import ProblemError
from landscape.problems.outputs import LabelledScores
from landscape.problems.splits import Batch
from landscape.runtime.hooks import hooked

Finder = Callable[[Any, Batch], LabelledScores | None]
"""Finds scores and labels in what a network returned for a batch; see `Problem.scores_and_labels`."""

_BINS = 15
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Prediction:
    """Predictions for the examples of a split; where an example has several positions, each is a row.

    Attributes:
        log_probabilities: of the classes `[M, C]`, float32.
        labels: the right classes `[M]`.
        features: what the last layer with weights was given `[N, D]`, float32; None where none ran.
    """

    log_probabilities: Tensor
    labels: Tensor
    features: Tensor | None = None


@dataclass
class Seen:
    """What passed by since the last `forget`."""

    outputs: Any = None
    features: Tensor | None = None
    runs: int = 0

    def forget(self) -> None:
        """Before a batch."""
        self.outputs, self.features, self.runs = None, None, 0

    @property
    def only_outputs(self) -> Any:
        """The outputs of a network that ran once; None where several runs leave open which of them predict."""
        return self.outputs if self.runs == 1 else None


@contextmanager
def watching(network: nn.Module, *, features: bool = False) -> Iterator[Seen]:
    """Note a network's output, and if asked what its last layer with weights is given, whenever it runs."""
    seen = Seen()

    def note_output(module: nn.Module, inputs: Any, named: Any, output: Any) -> None:
        seen.outputs = output
        seen.runs += 1

    def note_input(module: nn.Module, inputs: Any, named: Any) -> None:
        if inputs and isinstance(inputs[0], Tensor):
            seen.features = inputs[0].detach()

    layers = [module for module in network.modules() if features and isinstance(module, _LAYERS)]
    with hooked([network], after=note_output), hooked(layers, before=note_input):
        yield seen


def labelled_rows(found: LabelledScores | None) -> tuple[Tensor, Tensor] | None:
    """Scores `[M, C]`, in single precision, and labels `[M]`, where there is a label; None where nothing is classed."""
    if found is None or found.scores.shape[1] < 2:
        return None
    labelled = found.labels >= 0
    return found.scores[labelled].float(), found.labels[labelled]


def calibration_error(confidence: Tensor, right: Tensor) -> float:
    """The expected calibration error over 15 bins of equal width (Guo et al. 2017, arXiv 1706.04599, equation 3).

    Args:
        confidence: the probability of the chosen class `[M]`.
        right: whether it is the right one `[M]`.

    Returns:
        The mean over the bins, each weighing as its examples, of |accuracy - confidence|; in [0, 1].
    """
    bins = (confidence.double() * _BINS).ceil().long().sub(1).clamp(0, _BINS - 1)
    gaps = torch.zeros(_BINS, dtype=torch.float64, device=confidence.device)
    gaps.index_add_(0, bins, right.double() - confidence.double())
    return float(gaps.abs().sum()) / max(len(confidence), 1)


def negative_log_likelihood(log_probabilities: Tensor, labels: Tensor) -> float:
    """Mean of -log of the probability `[M, C]` that the right class `[M]` was given."""
    return float(F.nll_loss(log_probabilities.double(), labels))


def linear_cka(x: Tensor, y: Tensor) -> float:
    """How alike two representations are, whatever rotates or scales them (Kornblith et al. 2019, arXiv 1905.00414).

    Args:
        x: features `[N, D]`.
        y: features of the same examples `[N, E]`.

    Returns:
        Linear centred kernel alignment in [0, 1]; NaN where one does not vary.
    """
    x, y = (features.double() - features.double().mean(dim=0) for features in (x, y))
    if min(x.shape[1], y.shape[1]) > len(x):
        grams = [features @ features.T for features in (x, y)]
        both, own, other = (grams[0] * grams[1]).sum(), grams[0].norm(), grams[1].norm()
    else:
        both, own, other = (x.T @ y).square().sum(), (x.T @ x).norm(), (y.T @ y).norm()
    return float(both / (own * other))


class Observer(Protocol):
    """Sees the network's outputs for each batch that is evaluated."""

    def look(self, outputs: Any, batch: Batch) -> None:
        """Take in a batch and its outputs, which are None where the network did not run exactly once."""


class Confidence:
    """How sure of its classes the network is, and with what right."""

    def __init__(self, find: Finder) -> None:
        self._find = find
        self._confidence: list[Tensor] = []
        self._right: list[Tensor] = []
        self._nll: list[Tensor] = []

    def look(self, outputs: Any, batch: Batch) -> None:
        labelled = labelled_rows(self._find(outputs, batch))
        if labelled is None:
            return
        scores, labels = labelled
        log_probabilities = F.log_softmax(scores, dim=1)
        confidence, chosen = log_probabilities.max(dim=1)
        self._confidence.append(confidence.exp())
        self._right.append(chosen == labels)
        self._nll.append(F.nll_loss(log_probabilities, labels, reduction="none").double())

    def summary(self) -> dict[str, float]:
        """`nll` and `calibration_error`; empty where the network does not classify."""
        if not self._nll:
            return {}
        error = calibration_error(torch.cat(self._confidence), torch.cat(self._right))
        return {"nll": float(torch.cat(self._nll).mean()), "calibration_error": error}


class Predictions:
    """All that the network predicts, with the features if they are seen."""

    def __init__(self, seen: Seen, find: Finder) -> None:
        self._seen, self._find = seen, find
        self._log_probabilities: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._features: list[Tensor] = []

    def look(self, outputs: Any, batch: Batch) -> None:
        labelled = labelled_rows(self._find(outputs, batch))
        if labelled is None:
            raise ProblemError(
                "the network's outputs are not scores [B, C] of classes for integer labels [B] at the end of a batch, "
                "or the loss runs it more than once, so its predictions cannot be compared or averaged; where the "
                "scores lie otherwise, let the problem's key `outputs` say it."
            )
        self._log_probabilities.append(F.log_softmax(labelled[0], dim=1))
        self._labels.append(labelled[1])
        if self._seen.features is not None:
            self._features.append(self._seen.features.flatten(1).float())

    def prediction(self) -> Prediction:
        """All of them together."""
        features = torch.cat(self._features) if self._features else None
        return Prediction(torch.cat(self._log_probabilities), torch.cat(self._labels), features)
