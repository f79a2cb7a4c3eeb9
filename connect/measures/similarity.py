"""How much a network on the path is still like the two ends: in what it predicts, and in what it represents."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from landscape.risk.network import NetworkSurface
from landscape.risk.predictions import Prediction, linear_cka
from landscape.runtime.interrupts import Stop
from landscape.sweeps.grid import Place


class Similarity:
    """Compares predictions with those of the two ends, over a fixed random sample of a split.

    A metric for `sweep`: it tells `disagreement_a` (share of the examples that are given another class), `kl_a` (mean
    Kullback-Leibler divergence from the end's probabilities, in nats) and `cka_a` (linear centred kernel alignment of
    what the last layer is given), and the same for the end b.

    Args:
        risk: the loss of a network that classifies.
        a: the end `[P]` at t = 0.
        b: the end `[P]` at t = 1.
        split: whose examples are looked at.
        samples: how many at most.

    Raises:
        ProblemError: the network does not classify.
    """

    def __init__(self, risk: NetworkSurface, a: Tensor, b: Tensor, split: str, samples: int = 2048) -> None:
        self._risk = risk.select(splits=[split], sample=min(samples, risk.size(split)))
        self._split = split
        self._ends = {name: self._predict(theta) for name, theta in (("a", a), ("b", b))}

    def __call__(self, place: Place, theta_at: Callable[[Place], Tensor], stop: Stop) -> Mapping[str, float]:
        here = self._predict(theta_at(place))
        similarities: dict[str, float] = {}
        for name, end in self._ends.items():
            similarities[f"disagreement_{name}"] = disagreement(here.log_probabilities, end.log_probabilities)
            similarities[f"kl_{name}"] = divergence(end.log_probabilities, here.log_probabilities)
            if here.features is not None and end.features is not None:
                similarities[f"cka_{name}"] = linear_cka(here.features, end.features)
        return similarities

    def _predict(self, theta: Tensor) -> Prediction:
        with self._risk.at(theta) as here:
            return here.predict(self._split, features=True)


def disagreement(one: Tensor, other: Tensor) -> float:
    """The share of the examples whose most probable class `[N, C]` differs."""
    return float((one.argmax(dim=1) != other.argmax(dim=1)).double().mean())


def divergence(one: Tensor, other: Tensor) -> float:
    """Mean Kullback-Leibler divergence of the second from the first log-probabilities `[N, C]`, in nats, at least 0."""
    return max(0.0, float(F.kl_div(other.double(), one.double(), log_target=True, reduction="batchmean")))


def average(log_probabilities: list[Tensor]) -> Tensor:
    """The logarithm of the mean of probabilities, `[N, C]` each."""
    return torch.logsumexp(torch.stack(log_probabilities).double(), dim=0).sub_(
        torch.log(torch.tensor(float(len(log_probabilities)), dtype=torch.float64))
    )
