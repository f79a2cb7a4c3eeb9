"""What looks at a network's outputs while a loss is evaluated."""

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from landscape.errors import ProblemError
from landscape.problems.splits import Batch
from landscape.risk.predictions import Prediction, Seen, calibration_error, class_scores


class Observer(Protocol):
    """Sees the network's outputs for each batch that is evaluated."""

    def look(self, outputs: Any, batch: Batch) -> None:
        """Take in a batch and its outputs, which are None where the network did not run exactly once."""


class Confidence:
    """How sure of its classes the network is, and with what right.

    Args:
        dim: where the loss takes the classes to be; see `class_scores`.
    """

    def __init__(self, dim: int | None) -> None:
        self._dim = dim
        self._confidence: list[Tensor] = []
        self._right: list[Tensor] = []
        self._nll: list[Tensor] = []

    def look(self, outputs: Any, batch: Batch) -> None:
        labelled = class_scores(outputs, batch, self._dim)
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
    """All that the network predicts.

    Args:
        seen: what passes by, such as the features.
        dim: as in `Confidence`.
    """

    def __init__(self, seen: Seen, dim: int | None) -> None:
        self._seen, self._dim = seen, dim
        self._log_probabilities: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._features: list[Tensor] = []

    def look(self, outputs: Any, batch: Batch) -> None:
        labelled = class_scores(outputs, batch, self._dim)
        if labelled is None:
            raise ProblemError(
                "the network's outputs are not scores [B, C] of classes for integer labels [B] at the end of a batch, "
                "or the loss runs it more than once, so its predictions cannot be compared or averaged."
            )
        self._log_probabilities.append(F.log_softmax(labelled[0], dim=1))
        self._labels.append(labelled[1])
        if self._seen.features is not None:
            self._features.append(self._seen.features.flatten(1).float())

    def prediction(self) -> Prediction:
        """All of them together."""
        features = torch.cat(self._features) if self._features else None
        return Prediction(torch.cat(self._log_probabilities), torch.cat(self._labels), features)
