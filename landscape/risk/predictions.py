"""What a network predicts: class scores and hidden representations, met on the way while a loss runs it.

A loss calls the network itself, so scores are taken from the network's output as it passes by, and labels from the
batch, as `landscape.problems.losses` finds them. Where outputs are not class scores for integer labels there is nothing
to tell, and losses alone are left.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landscape.errors import ProblemError
from landscape.problems.outputs import LabelledScores
from landscape.problems.splits import Batch, leaf_tensors
from landscape.runtime.hooks import hooked

Finder = Callable[[Any, Batch], LabelledScores | None]
"""Finds scores and labels in what a network returned for a batch; see `landscape.problems.losses`."""

NUMBERS = 2**24  # that the predictions of one network take at most, where examples have several positions
_BINS = 15
_SLACK = 1.25  # rows beyond those that are asked for, before a sample is thinned
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Prediction:
    """Predictions for the examples of a split; where an example has several positions, such as tokens, each is a row.

    Attributes:
        log_probabilities: of the classes `[K, C]`, float32.
        labels: the right classes `[K]`.
        features: what the last layer with weights was given, float32: `[N, D]` for the examples, or `[K, D]` for the
            rows, where it is a linear layer that runs at each position; None where none ran.
        positions: the number M ≥ K of positions with a label, of which the rows are a fixed random sample if there are
            too many to hold.
    """

    log_probabilities: Tensor
    labels: Tensor
    features: Tensor | None = None
    positions: int = 0


@dataclass
class Seen:
    """What passed by since the last `forget`."""

    outputs: Any = None
    features: Tensor | None = None
    is_linear: bool = False  # the layer that was given the features
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
            seen.features, seen.is_linear = inputs[0].detach(), isinstance(module, nn.Linear)

    layers = [module for module in network.modules() if features and isinstance(module, _LAYERS)]
    with hooked([network], after=note_output), hooked(layers, before=note_input):
        yield seen


def labelled_rows(found: LabelledScores | None) -> Tensor | None:
    """The numbers of the rows that have a label; None where nothing is classed."""
    if found is None or found.scores.shape[1] < 2:
        return None
    return (found.labels >= 0).nonzero()[:, 0]


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
        found = self._find(outputs, batch)
        rows = labelled_rows(found)
        if found is None or rows is None:
            return
        for some in rows.split(max(1, NUMBERS // found.scores.shape[1])):
            log_probabilities, labels = F.log_softmax(found.scores[some].float(), dim=1), found.labels[some]
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
    """All that the network predicts, with the features if they are seen.

    Args:
        seen: what passes by.
        find: where scores and labels are.
        numbers: that the predictions take at most, if examples have several positions; else all are kept.
    """

    def __init__(self, seen: Seen, find: Finder, numbers: int = NUMBERS) -> None:
        self._seen, self._find, self._numbers = seen, find, numbers
        self._rows: _Sample | None = None
        self._features: list[Tensor] = []

    def look(self, outputs: Any, batch: Batch) -> None:
        found = self._find(outputs, batch)
        rows = labelled_rows(found)
        if found is None or rows is None:
            raise ProblemError(
                "the network's outputs are not scores [B, C] of classes for integer labels [B] at the end of a batch, "
                "or the loss runs it more than once, so its predictions cannot be compared or averaged; where the "
                "scores lie otherwise, let the problem's key `outputs` say it."
            )
        several = len(found.labels) > len(next(leaf_tensors(batch)))
        features = self._seen.features
        if features is not None and not (several and self._seen.is_linear and _rows_of(features) == len(found.labels)):
            self._features.append(features.flatten(1).float())
            features = None
        if self._rows is None:
            row = found.scores.shape[1] + (0 if features is None else features.shape[-1])
            self._rows = _Sample(max(1, self._numbers // row) if several else None)
        chances, rows = self._rows.draw(rows)
        kept = [F.log_softmax(found.scores[rows].float(), dim=1), found.labels[rows]]
        kept += [] if features is None else [features.flatten(0, -2)[rows].float()]
        self._rows.keep(chances, kept)

    def prediction(self) -> Prediction:
        """All of them together."""
        if self._rows is None:
            raise ProblemError("there is no batch, so nothing is predicted.")
        log_probabilities, labels, *features = self._rows.kept()
        features += [torch.cat(self._features)] if self._features else []
        return Prediction(log_probabilities, labels, features[0] if features else None, self._rows.count)


def _rows_of(features: Tensor) -> int:
    return features.shape[:-1].numel()


class _Sample:
    """At most so many rows out of a stream of unknown length; None keeps all.

    Each row draws a number, and those with the smallest are kept, in their order. So all have the same chance, and
    which ones are kept follows from their places in the stream, however it is cut into batches.
    """

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._generator = np.random.default_rng(0)
        self._limit = math.inf
        self._parts: list[tuple[Tensor, list[Tensor]]] = []
        self.count = 0

    def draw(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The numbers that some of the next rows draw, and these rows: those that may be among the kept."""
        self.count += len(rows)
        chances = torch.from_numpy(self._generator.random(len(rows)))
        chosen = self._smallest(chances)
        return chances[chosen], rows[chosen.to(rows.device)]

    def keep(self, chances: Tensor, values: list[Tensor]) -> None:
        """Keep tensors `[k, ...]` of the rows that were drawn."""
        self._parts.append((chances, values))
        if self._most and sum(len(part) for part, _ in self._parts) > _SLACK * self._most:
            self._thin()

    def kept(self) -> list[Tensor]:
        """The tensors `[K, ...]` of the rows that are kept."""
        self._thin()
        return self._parts[0][1]

    def _thin(self) -> None:
        chances = torch.cat([part for part, _ in self._parts])
        chosen = self._smallest(chances)
        if self._most and len(chosen) == self._most:
            self._limit = float(chances[chosen].max())
        values = [torch.cat(column) for column in zip(*(values for _, values in self._parts), strict=True)]
        if len(chosen) < len(chances):
            values = [column[chosen.to(column.device)] for column in values]
        self._parts = [(chances[chosen], values)]

    def _smallest(self, chances: Tensor) -> Tensor:
        """The places of the smallest, in their order."""
        chosen = (chances <= self._limit).nonzero()[:, 0]
        if self._most is None or len(chosen) <= self._most:
            return chosen
        return chosen[chances[chosen].topk(self._most, largest=False).indices.sort().values]
